/** Starts the receiving thread and reports its end. Imports koffi: load it dynamically. */
import { Worker } from 'node:worker_threads'
import { refuseCopy } from '../../ffi/copied.js'
import { expectLoad, forgetLoad } from '../../ffi/load-at-exit.js'
import { ensureRoomForThread } from '../../ffi/memory/budget.js'
import { bindShared } from '../../ffi/memory/numa.js'
import { cpusForThreads } from '../../ffi/placement.js'
import { type ReceiveMemory, recycleReceiveMemory } from '../../ffi/socket/recvmmsg.js'
import { EventFd } from '../../ffi/wait.js'
import { debug } from '../debug.js'
import { type ErrorCode, SpeadcastError, ThreadRefused } from '../errors.js'
import type { DatagramPeer } from '../rdma/rendezvous.js'
import type { DriverEvents, DriverOptions, ReceiveDriver } from './receive-driver.js'
import type { SessionSummary } from './session.js'
import { statWords } from './stats.js'
import { CONTROL, kibibytesOf, type WorkerInput, type WorkerOutput } from './worker-protocol.js'

/**
 * Stops the receivers when the process ends, which would otherwise wait for the worker's poll to time out
 * (docs/ground-rules.md, "Threads and workers").
 */
const stopAtExit = new Set<() => void>()
let hooked = false

/** Shared by the main thread and the receiving thread. */
export interface ThreadShared {
  readonly control: Int32Array<SharedArrayBuffer>
  readonly stats: Float64Array<SharedArrayBuffer>
  readonly wake: EventFd
  readonly memory: ReceiveMemory
}

export function threadShared(memory: ReceiveMemory, endpoints: number): ThreadShared {
  try {
    const stats = new Float64Array(new SharedArrayBuffer(8 * statWords(endpoints)))
    bindShared(stats, memory.node)
    return {
      control: new Int32Array(new SharedArrayBuffer(4 * CONTROL.WORDS)),
      stats,
      wake: new EventFd(),
      memory,
    }
  } catch (error) {
    recycleReceiveMemory(memory)
    throw error
  }
}

export interface ThreadStart {
  readonly shared: ThreadShared
  readonly source: WorkerInput['source']
  readonly options: DriverOptions
  readonly events: DriverEvents
  readonly driver: Pick<ReceiveDriver, 'backend' | 'gro' | 'receiveBufferBytes' | 'memberships' | 'numa'>
  /** Called when the thread has ended, so that what it used may be closed. */
  readonly onGone: () => void
}

/** @throws (rejects) ThreadRefused where there can be no thread, ERR_SPEADCAST_BUNDLED; `onGone` has been called then */
export async function startThread({ shared, source, options, events, driver, onGone }: ThreadStart): Promise<ReceiveDriver> {
  const { control, stats, wake, memory } = shared
  const load = expectLoad()
  const input: WorkerInput = {
    memory,
    source,
    wakeFd: wake.fd,
    control: control.buffer,
    stats: stats.buffer,
    load,
    options: options.session,
    texts: options.endpoints.map(({ text }) => text),
    placing: { affinity: options.affinity, priority: options.priority, inherited: cpusForThreads() },
    queueHeaps: options.queueHeaps,
    queueKibibytes: options.queueBytes >>> 10,
  }
  const gone = () => {
    forgetLoad(load)
    onGone()
    wake.close()
    recycleReceiveMemory(memory)
  }
  let worker: Worker
  try {
    ensureRoomForThread()
    refuseCopy(import.meta.url, 'the file that the receiving thread starts from')
    worker = new Worker(new URL('./receiver-worker.js', import.meta.url), {
      workerData: input,
      name: 'speadcast receive',
      // The process's own would be inherited, and with those of `node --input-type=module -e …` a worker from a file fails.
      execArgv: [],
    })
  } catch (cause) {
    gone()
    if (cause instanceof SpeadcastError) throw cause
    throw new ThreadRefused('the receiving thread', cause, "receive in this one (backend 'dgram', --backend dgram)")
  }
  const { threadId } = worker
  debug(() => `receiving thread ${threadId} starts`)
  const signal = () => {
    if (Atomics.exchange(control, CONTROL.ASLEEP, 0) !== 0) wake.signal()
  }
  const stop = () => {
    Atomics.store(control, CONTROL.STOP, 1)
    wake.signal()
  }
  if (!hooked) {
    hooked = true
    process.on('exit', () => {
      for (const stopOne of stopAtExit) stopOne()
    })
  }
  stopAtExit.add(stop)

  const ready = new Promise<readonly DatagramPeer[]>((resolve, reject) => {
    let failure: unknown
    let summary: SessionSummary | undefined
    worker.on('message', (message: WorkerOutput) => {
      if (message.type === 'ready') resolve(message.peers)
      else if (message.type === 'heaps') for (const heap of message.heaps) events.onHeap(heap)
      else if (message.type === 'told') options.tell(message.item)
      else if (message.type === 'end') summary = message.summary
      else failure = new SpeadcastError(message.code as ErrorCode, message.message, { cause: message.detail })
    })
    worker.on('error', (cause) => {
      failure ??= new SpeadcastError('ERR_SPEADCAST_WORKER', `the receiving thread failed: ${cause.message}`, { cause })
    })
    // 'exit' comes after all messages. Only now nobody uses the descriptors and the memory any more.
    worker.on('exit', (code) => {
      debug(() => `receiving thread ${threadId} ended with code ${code}`)
      stopAtExit.delete(stop)
      gone()
      if (summary && failure === undefined) return events.onEnd(summary)
      failure ??= new SpeadcastError('ERR_SPEADCAST_WORKER', `the receiving thread ended unexpectedly (exit ${code})`)
      reject(failure)
      events.onError(failure)
    })
  })
  const peers = await ready
  return {
    ...driver,
    peers,
    stats,
    stop,
    taken(heap) {
      Atomics.add(control, CONTROL.TAKEN_HEAPS, 1)
      Atomics.add(control, CONTROL.TAKEN_KIBIBYTES, kibibytesOf(heap))
      signal()
    },
  }
}
