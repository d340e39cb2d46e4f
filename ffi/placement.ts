/** Where a thread runs and when its turn comes: CPUs and priorities as users give them, and the errors that say what is not to be had. */
import { setPriority } from 'node:os'
import { getAffinity, MOST_CPUS, setAffinity, usableCpus } from './affinity.js'
import { CAP_SYS_NICE, hasCapability } from './capabilities.js'
import { SpeadcastError } from './errors.js'
import { nativeCallsWork } from './libc.js'
import { NativeError } from './native-error.js'
import { type RealTime, setRealTime } from './scheduling.js'

export { MOST_CPUS, type RealTime }

/** A nice value, or a real-time priority. */
export type ThreadPriority = number | RealTime

const MOST_LEVEL = 99

/** The rule for priorities, as errors say it. */
export const PRIORITY_RULE =
  'it must be a nice value (a whole number from −20 to 19) or a real-time priority ' +
  `('rr:10' or 'fifo:10', or { policy: 'rr', level: 10 }; levels from 1 to ${MOST_LEVEL})`

export const CPUS_RULE = `it must be a list of CPU numbers from 0 to ${MOST_CPUS - 1}`

/** undefined where it is no priority. */
export function priorityOf(value: unknown): ThreadPriority | undefined {
  if (typeof value === 'number') return Number.isInteger(value) && value >= -20 && value <= 19 ? value : undefined
  if (typeof value === 'string') {
    const [, policy, level] = /^(rr|fifo):(\d{1,2})$/.exec(value) ?? []
    return policy === undefined ? undefined : realTimeOf(policy, Number(level))
  }
  if (typeof value !== 'object' || value === null) return undefined
  try {
    const { policy, level, ...others } = value as Record<string, unknown>
    return Object.keys(others).length === 0 ? realTimeOf(policy, level) : undefined
  } catch {
    return undefined
  }
}

function realTimeOf(policy: unknown, level: unknown): RealTime | undefined {
  if (policy !== 'rr' && policy !== 'fifo') return undefined
  return Number.isInteger(level) && (level as number) >= 1 && (level as number) <= MOST_LEVEL
    ? { policy, level: level as number }
    : undefined
}

/** The list in order and without repetitions; undefined where it is none. */
export function cpusOf(list: readonly unknown[] | undefined): number[] | undefined {
  const good = (cpu: unknown): cpu is number => Number.isInteger(cpu) && (cpu as number) >= 0 && (cpu as number) < MOST_CPUS
  return list?.every(good) ? [...new Set(list)].sort((a, b) => a - b) : undefined
}

/** As the kernel and taskset(1) write them: 0-3,8. */
export function cpuRanges(cpus: readonly number[]): string {
  const parts: string[] = []
  for (let i = 0; i < cpus.length; ) {
    let last = i
    while (cpus[last + 1] === cpus[last]! + 1) last++
    parts.push(last === i ? `${cpus[i]}` : `${cpus[i]}-${cpus[last]}`)
    i = last + 1
  }
  return parts.join(',')
}

/**
 * Pins the calling thread. Nothing has changed where it cannot have all of them.
 * @param option the name of the option that they were given by
 * @throws ERR_SPEADCAST_CONFIG
 */
function pin(option: string, cpus: readonly number[]): void {
  const before = getAffinity()
  try {
    setAffinity(cpus)
  } catch (cause) {
    throw refusedCpus(option, `none of CPUs ${cpuRanges(cpus)} may be used here`, (cause as Error).message, cause)
  }
  const had = new Set(getAffinity())
  const missing = cpus.filter((cpu) => !had.has(cpu))
  // Nothing is known of a host with more CPUs than a mask here has.
  if (had.size === 0 || missing.length === 0) return
  if (before.length > 0) setAffinity(before)
  const which = missing.length === 1 ? 'CPU' : 'CPUs'
  throw refusedCpus(
    option,
    `${which} ${cpuRanges(missing)} of ${cpuRanges(cpus)} may not be used here`,
    'offline, or not in the cpuset',
  )
}

function refusedCpus(option: string, what: string, why: string, cause?: unknown): SpeadcastError {
  const message = `${option}: ${what} (${why}); this process may use CPUs ${cpuRanges(usableCpus())}, as the cpuset of its cgroup says`
  return new SpeadcastError('ERR_SPEADCAST_CONFIG', message, { cause })
}

/** Gives the calling thread a priority. @throws ERR_SPEADCAST_CONFIG that names the right and what gives it */
function prioritise(priority: ThreadPriority): void {
  try {
    // Linux keeps nice values per thread: 0 is the calling one (setpriority(2), "C library/kernel differences").
    if (typeof priority === 'number') setPriority(0, priority)
    else setRealTime(priority)
  } catch (cause) {
    const why = (cause as Error).message
    const message =
      typeof priority === 'number'
        ? `priority: this process may not have nice value ${priority} (${why}); it takes CAP_SYS_NICE or a limit (ulimit -e) of ${20 - priority}`
        : `priority: this process may not have '${priority.policy}:${priority.level}' (${why}); ${realTimeRemedy(priority.level, cause)}`
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message, { cause })
  }
}

function realTimeRemedy(level: number, cause: unknown): string {
  if (cause instanceof NativeError && cause.errnoName === 'EPERM' && hasCapability(CAP_SYS_NICE))
    return (
      'this process has CAP_SYS_NICE, so its cgroup has no real-time time (cgroup v1: cpu.rt_runtime_us is 0) or a seccomp filter forbids it; ' +
      'write a time there, or start it outside of that cgroup'
    )
  return (
    `it takes CAP_SYS_NICE (setcap cap_sys_nice+ep on the node binary; AmbientCapabilities=CAP_SYS_NICE of a systemd unit; docker run --cap-add SYS_NICE) ` +
    `or a limit of ${level} (ulimit -r ${level}; LimitRTPRIO=${level} of a systemd unit; docker run --ulimit rtprio=${level})`
  )
}

/** The CPUs for threads that a pinned thread starts; empty where it was not pinned by `pinThread`. */
let others: readonly number[] = []

/**
 * Pins the calling thread, and keeps the CPUs it gives up for the threads that it starts from now on: all that it had but `cpus`, or all
 * where no others are left.
 * @throws ERR_SPEADCAST_CONFIG
 */
export function pinStarter(option: string, cpus: readonly number[]): void {
  if (!nativeCallsWork())
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `${option}: it takes native calls (Linux with koffi); leave it out here`)
  const had = others.length > 0 ? [...new Set([...others, ...getAffinity()])].sort((a, b) => a - b) : getAffinity()
  pin(option, cpus)
  const left = had.filter((cpu) => !cpus.includes(cpu))
  others = left.length > 0 ? left : had
}

/** For the threads that this one starts: the CPUs they may use, which they would inherit less of; empty = as inherited. */
export function cpusForThreads(): readonly number[] {
  return others
}

/** How a thread is to run. */
export interface Placing {
  /** CPUs that the user has chosen; empty: none. */
  readonly affinity: readonly number[]
  /** See cpusForThreads. */
  readonly inherited: readonly number[]
  readonly priority: ThreadPriority | undefined
}

/** Places the calling thread. @throws ERR_SPEADCAST_CONFIG */
export function placeThread({ affinity, inherited, priority }: Placing): void {
  if (affinity.length > 0) pin('affinity', affinity)
  else if (inherited.length > 0)
    try {
      setAffinity(inherited)
    } catch {
      // The cpuset has become smaller since. What the thread has inherited is as good.
    }
  if (priority !== undefined) prioritise(priority)
}
