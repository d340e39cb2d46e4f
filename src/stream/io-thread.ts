import { CPUS_RULE, cpusOf, PRIORITY_RULE, priorityOf } from '../../ffi/placement.js'
import { checkOptions, listOf, shown } from '../checks.js'
import { IoThreadHandle } from '../engine/thread.js'
import { ensure, INSPECT, type Inspection, inspected } from '../errors.js'

/** A real-time priority (sched(7)), with which a thread goes before all that have none. */
export interface RealTime {
  /** 'rr' shares the CPU with threads of the same level, 'fifo' keeps it. */
  readonly policy: 'rr' | 'fifo'
  /** 1 to 99; the higher goes first. */
  readonly level: number
}

/** A nice value, −20 (first) to 19 (last), or a real-time priority. */
export type ThreadPriority = number | RealTime

/**
 * Options of `new IoThread`.
 * @example new IoThread({ affinity: [3], name: 'beamformer', priority: -10 })
 */
export interface IoThreadOptions {
  /** CPUs the thread may run on, by number. Default: any that the process may. */
  affinity?: readonly number[]
  /** Its name in top(1) and debuggers, of which Linux shows 15 bytes. Default 'speadcast I/O'. */
  name?: string
  /**
   * Its nice value, −20 (first) to 19 (last), or a real-time priority, with which it goes before all threads that have none: 'rr:10', 'fifo:10', or
   * `{ policy: 'rr', level: 10 }`, levels 1 to 99 (sched(7)). A nice value below the process's own and a real-time priority take CAP_SYS_NICE.
   * Default: the process's.
   */
  priority?: ThreadPriority | `rr:${number}` | `fifo:${number}`
}

const OPTIONS = ['affinity', 'name', 'priority']
const handles = new WeakMap<IoThread, IoThreadHandle>()

/**
 * An I/O thread of the program's own, for `openStream({ thread })`. The streams that are given it share it, and no others do. Without
 * one, streams share the threads of a pool (option `ioThreads`). It does not keep the process alive. Where the thread dies, the next stream that is
 * opened with it starts another, as a stream does that outlives it (option `onThreadDeath`).
 *
 * Affinity and priority are set when the first stream opens, which fails with ERR_SPEADCAST_CONFIG where they may not be had.
 * @example
 * await using thread = new IoThread({ affinity: [3] })
 * const streams = await Promise.all(beams.map((to) => openStream({ to, thread })))
 */
export class IoThread implements AsyncDisposable {
  /** @throws ERR_SPEADCAST_CONFIG */
  constructor(options: IoThreadOptions = {}) {
    checkOptions('new IoThread', options, OPTIONS)
    const { affinity = [], name = 'speadcast I/O', priority } = options
    const cpus = cpusOf(listOf(affinity))
    ensure(cpus, 'ERR_SPEADCAST_CONFIG', () => `new IoThread: affinity is ${shown(affinity)}; ${CPUS_RULE}`)
    const rank = priority === undefined ? undefined : priorityOf(priority)
    ensure(
      typeof name === 'string' && name !== '' && !name.includes('\0'),
      'ERR_SPEADCAST_CONFIG',
      () => `new IoThread: name is ${shown(name)}; it must be a text`,
    )
    ensure(
      priority === undefined || rank !== undefined,
      'ERR_SPEADCAST_CONFIG',
      () => `new IoThread: priority is ${shown(priority)}; ${PRIORITY_RULE}`,
    )
    handles.set(this, new IoThreadHandle({ name, affinity: cpus, priority: rank }))
  }

  /** How many streams are open in it, or being opened. */
  get streams(): number {
    return handleOf(this).streams
  }

  /**
   * Takes no more streams; resolves when those it has are closed and the thread has ended. Idempotent.
   * @example await thread.close() // after its streams are closed
   */
  async close(): Promise<void> {
    const handle = handleOf(this)
    handle.end()
    handle.retain()
    await handle.exited
    handle.release()
  }

  /** Closes it, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('IoThread', how, () => {
      const { setup, state, streams } = handleOf(this)
      const { name, affinity, priority } = setup
      return { name, state, streams, ...(affinity.length > 0 && { affinity }), ...(priority !== undefined && { priority }) }
    })
  }
}

/** The thread behind it, for openStream: another where that died. @throws ThreadRefused */
export function livingHandleOf(thread: IoThread): IoThreadHandle {
  const handle = handleOf(thread)
  if (handle.state !== 'died') return handle
  const next = new IoThreadHandle(handle.setup)
  handles.set(thread, next)
  return next
}

/** The thread behind it. */
function handleOf(thread: IoThread): IoThreadHandle {
  return handles.get(thread)!
}
