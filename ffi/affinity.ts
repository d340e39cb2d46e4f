import { errno, libc } from './libc.js'
import { Scratch } from './memory/scratch.js'
import { NativeError } from './native-error.js'

/** Of 1024 CPUs, as glibc's cpu_set_t. */
const MASK_BYTES = 128

function setMask(cpus: readonly number[]): number {
  const scratch = new Scratch(MASK_BYTES)
  for (const cpu of cpus) scratch.u8[cpu >> 3]! |= 1 << (cpu & 7)
  const result = libc().sched_setaffinity(0, MASK_BYTES, scratch.address)
  const failure = result < 0 ? errno() : 0
  scratch.region.release()
  return failure
}

/**
 * Pins the calling thread to `cpus` (sched_setaffinity(2), pid 0 = this thread); threads started later inherit it
 * (docs/ground-rules.md, "Threads and workers").
 */
export function setAffinity(cpus: readonly number[]): void {
  const failure = setMask(cpus)
  if (failure !== 0) throw new NativeError('sched_setaffinity', failure, `CPUs ${cpus.join(',')}`)
}

/** The CPUs that the calling thread may run on (sched_getaffinity(2)); none where the kernel has more than 1024. */
export function getAffinity(): number[] {
  const scratch = new Scratch(MASK_BYTES)
  const known = libc().sched_getaffinity(0, MASK_BYTES, scratch.address) >= 0
  const cpus = Array.from({ length: MASK_BYTES * 8 }, (_, cpu) => cpu).filter((cpu) => scratch.u8[cpu >> 3]! & (1 << (cpu & 7)))
  scratch.region.release()
  return known ? cpus : []
}

/** The CPU that the calling thread runs on; negative where the system does not say (sched_getcpu(3)). 60 ns. */
export function currentCpu(): number {
  return libc().sched_getcpu()
}

/** Moves the calling thread to another CPU of those it may use, all of which it may use again afterwards; or does nothing. Some 30 µs. */
export function leaveCpu(cpu: number): void {
  const allowed = getAffinity()
  if (setMask(allowed.filter((other) => other !== cpu)) === 0) setMask(allowed)
}

/** Lets whoever else wants this CPU have it (sched_yield(2)); returns at once when nobody does. 0.3 µs. */
export function yieldCpu(): void {
  libc().sched_yield()
}
