import { errno, libc } from './libc.js'
import { Scratch } from './memory/scratch.js'
import { NativeError } from './native-error.js'

/** A mask for 1024 CPUs, as glibc's cpu_set_t. */
const MASK_BYTES = 128
export const MOST_CPUS = 8 * MASK_BYTES

/** Allows the calling thread these CPUs, each below 1024. Returns 0 or an errno. */
function setMask(cpus: readonly number[]): number {
  const scratch = new Scratch(MASK_BYTES)
  for (const cpu of cpus) scratch.u8[cpu >> 3]! |= 1 << (cpu & 7)
  const result = libc().sched_setaffinity(0, MASK_BYTES, scratch.address)
  const failure = result < 0 ? errno() : 0
  scratch.region.release()
  return failure
}

/**
 * Pins the calling thread to `cpus` (sched_setaffinity(2), where pid 0 is this thread). Threads started later inherit it
 * (docs/ground-rules.md, "Threads and workers"). The kernel leaves out the CPUs that are offline or outside of the cgroup's cpuset, and fails where
 * none is left.
 */
export function setAffinity(cpus: readonly number[]): void {
  const failure = setMask(cpus)
  if (failure !== 0) throw new NativeError('sched_setaffinity', failure, `CPUs ${cpus.join(',')}`)
}

/** Returns the CPUs that the calling thread may run on (sched_getaffinity(2)); none where the kernel has more than 1024. */
export function getAffinity(): number[] {
  const scratch = new Scratch(MASK_BYTES)
  const known = libc().sched_getaffinity(0, MASK_BYTES, scratch.address) >= 0
  const cpus: number[] = []
  for (const [i, byte] of scratch.u8.subarray(0, MASK_BYTES).entries())
    for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) cpus.push(8 * i + bit)
  scratch.region.release()
  return known ? cpus : []
}

/** Returns the CPUs that a thread of this process may be given: those online in its cpuset (cpuset(7)). */
export function usableCpus(): number[] {
  const before = getAffinity()
  if (before.length === 0 || setMask(Array.from({ length: MOST_CPUS }, (_, cpu) => cpu)) !== 0) return before
  const usable = getAffinity()
  setMask(before)
  return usable
}

/** Returns the CPU that the calling thread runs on; negative where the system does not say (sched_getcpu(3)). 60 ns. */
export function currentCpu(): number {
  return libc().sched_getcpu()
}

/** Moves the calling thread off `cpu` if it may use another one. Afterwards it may use the same CPUs as before. Some 30 µs. */
export function leaveCpu(cpu: number): void {
  const allowed = getAffinity()
  if (setMask(allowed.filter((other) => other !== cpu)) === 0) setMask(allowed)
}

/** Offers this CPU to other threads that want it (sched_yield(2)); returns at once where there are none. 0.3 µs. */
export function yieldCpu(): void {
  libc().sched_yield()
}
