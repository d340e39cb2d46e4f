/** The scheduling of the calling thread (sched(7)): real-time policies, by system calls, because musl's functions always fail. */
import * as L from './layout.js'
import { errno, libc } from './libc.js'
import { Scratch } from './memory/scratch.js'
import { NativeError } from './native-error.js'

/** A real-time priority: before every thread without one, and before those of lower levels. */
export interface RealTime {
  /** 'rr' takes turns with its equals; 'fifo' runs until it waits. */
  readonly policy: 'fifo' | 'rr'
  /** 1 to 99. */
  readonly level: number
}

export interface Scheduling {
  readonly policy: 'other' | 'fifo' | 'rr' | 'batch' | 'idle' | 'deadline'
  /** 0 without a real-time policy. */
  readonly level: number
  /** Threads that it starts do not inherit it. */
  readonly resetOnFork: boolean
}

const POLICIES: Readonly<Record<number, Scheduling['policy']>> = {
  [L.SCHED_OTHER]: 'other',
  [L.SCHED_FIFO]: 'fifo',
  [L.SCHED_RR]: 'rr',
  [L.SCHED_BATCH]: 'batch',
  [L.SCHED_IDLE]: 'idle',
  [L.SCHED_DEADLINE]: 'deadline',
}

/**
 * Gives the calling thread a real-time priority. Threads that it starts have none (SCHED_RESET_ON_FORK): those of libuv's pool may be among
 * them, and they belong to the whole process.
 * @throws NativeError
 */
export function setRealTime({ policy, level }: RealTime): void {
  const scratch = new Scratch(L.SCHED_PARAM.size)
  scratch.i32[0] = level
  const number = (policy === 'rr' ? L.SCHED_RR : L.SCHED_FIFO) | L.SCHED_RESET_ON_FORK
  const failure = libc().syscall(L.SYS_sched_setscheduler, 0, number, scratch.address, 0, 0, 0) < 0 ? errno() : 0
  scratch.region.release()
  if (failure !== 0) throw new NativeError('sched_setscheduler', failure, `${policy} ${level}`)
}

/** The calling thread's. @throws NativeError */
export function scheduling(): Scheduling {
  const { syscall } = libc()
  const number = syscall(L.SYS_sched_getscheduler, 0, 0, 0, 0, 0, 0)
  if (number < 0) throw new NativeError('sched_getscheduler', errno())
  const scratch = new Scratch(L.SCHED_PARAM.size)
  const failure = syscall(L.SYS_sched_getparam, 0, scratch.address, 0, 0, 0, 0) < 0 ? errno() : 0
  const level = scratch.i32[0]!
  scratch.region.release()
  if (failure !== 0) throw new NativeError('sched_getparam', failure)
  const policy = POLICIES[number & ~L.SCHED_RESET_ON_FORK] ?? 'other'
  return { policy, level, resetOnFork: (number & L.SCHED_RESET_ON_FORK) !== 0 }
}
