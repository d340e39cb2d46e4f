import { check, libc } from './libc.js'
import { Scratch } from './scratch.js'

/** Pins the calling thread to `cpus` (sched_setaffinity(2), pid 0 = this thread); threads started later inherit it (idioms.md 17). */
export function setAffinity(cpus: readonly number[]): void {
  const scratch = new Scratch(128)
  for (const cpu of cpus) scratch.u8[cpu >> 3]! |= 1 << (cpu & 7)
  check('sched_setaffinity', libc().sched_setaffinity(0, 128, scratch.address), `CPUs ${cpus.join(',')}`)
  scratch.region.release()
}
