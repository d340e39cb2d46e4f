/** The Linux receiver: sockets and memory of this thread, recvmmsg in a worker. Imports koffi: load it dynamically. */
import { Worker } from 'node:worker_threads'
import { libc } from '../../ffi/libc.js'
import { NativeError } from '../../ffi/native-error.js'
import { mapReceiveMemory, ReceiveSocket, recycleReceiveMemory } from '../../ffi/recvmmsg.js'
import { EventFd } from '../../ffi/wait.js'
import { type ErrorCode, SpeadcastError } from '../errors.js'
import type { DriverEvents, DriverOptions, ReceiveDriver } from './driver.js'
import { type SessionSummary, STAT_NAMES } from './session.js'
import { CONTROL, kibibytesOf, type WorkerInput, type WorkerOutput } from './worker-protocol.js'

/** Stop flags to raise when the process ends: it would otherwise wait for the worker's poll to time out (idioms.md 11). */
const stopAtExit = new Set<() => void>()
let hooked = false

/** Whether koffi and the C library are there; throws if not. */
export function probeNative(): void {
  libc()
}

export async function openNative(options: DriverOptions, events: DriverEvents): Promise<ReceiveDriver> {
  const sockets: ReceiveSocket[] = []
  const control = new Int32Array(new SharedArrayBuffer(4 * CONTROL.WORDS))
  const stats = new Float64Array(new SharedArrayBuffer(8 * STAT_NAMES.length))
  let wake: EventFd | undefined
  let memory: ReturnType<typeof mapReceiveMemory>
  try {
    for (const endpoint of options.endpoints) {
      sockets.push(
        wrap(endpoint.text, () => {
          const { family, bytes, port, scopeId, multicast, interfaceIndex } = endpoint
          return new ReceiveSocket({
            address: { family, bytes, port, scopeId },
            multicast,
            interfaceIndex,
            receiveBufferBytes: options.receiveBufferBytes,
            gro: options.gro,
          })
        }),
      )
    }
    wake = new EventFd()
    events.onBound()
    memory = mapReceiveMemory(options.heapMemoryBytes)
  } catch (error) {
    for (const socket of sockets) socket.close()
    wake?.close()
    throw error
  }
  const eventFd = wake
  const receiveBufferBytes = Math.min(...sockets.map((socket) => socket.receiveBufferBytes))
  const input: WorkerInput = {
    memory,
    fds: sockets.map(({ fd }) => fd),
    wakeFd: eventFd.fd,
    control: control.buffer,
    stats: stats.buffer,
    options: options.session,
    creditBufferBytes: options.credits ? receiveBufferBytes : 0,
    queueHeaps: options.queueHeaps,
    queueKibibytes: options.queueBytes >>> 10,
  }
  const worker = new Worker(new URL('./worker.js', import.meta.url), {
    workerData: input,
    name: 'speadcast receive',
    // The process's own would be inherited, and `node --input-type=module -e …` makes a worker with a file fail.
    execArgv: [],
  })
  const signal = () => {
    if (Atomics.exchange(control, CONTROL.ASLEEP, 0) !== 0) eventFd.signal()
  }
  const stop = () => {
    Atomics.store(control, CONTROL.STOP, 1)
    eventFd.signal()
  }
  if (!hooked) {
    hooked = true
    process.on('exit', () => {
      for (const stopOne of stopAtExit) stopOne()
    })
  }
  stopAtExit.add(stop)

  const ready = new Promise<void>((resolve, reject) => {
    let failure: unknown
    let summary: SessionSummary | undefined
    worker.on('message', (message: WorkerOutput) => {
      if (message.type === 'ready') resolve()
      else if (message.type === 'heaps') for (const heap of message.heaps) events.onHeap(heap)
      else if (message.type === 'end') summary = message.summary
      else failure = new SpeadcastError(message.code as ErrorCode, message.message, { cause: message.detail })
    })
    worker.on('error', (cause) => {
      failure ??= new SpeadcastError('ERR_SPEADCAST_WORKER', `the receiving thread failed: ${cause.message}`, { cause })
    })
    // 'exit' comes behind all messages; only now is nobody left who uses the descriptors and the memory.
    worker.on('exit', (code) => {
      stopAtExit.delete(stop)
      for (const socket of sockets) socket.close()
      eventFd.close()
      recycleReceiveMemory(memory)
      if (summary && failure === undefined) return events.onEnd(summary)
      failure ??= new SpeadcastError('ERR_SPEADCAST_WORKER', `the receiving thread ended unexpectedly (exit ${code})`)
      reject(failure)
      events.onError(failure)
    })
  })
  await ready
  return {
    backend: 'recvmmsg',
    gro: sockets.every((socket) => socket.gro),
    receiveBufferBytes,
    stats,
    stop,
    taken(heap) {
      Atomics.add(control, CONTROL.TAKEN_HEAPS, 1)
      Atomics.add(control, CONTROL.TAKEN_KIBIBYTES, kibibytesOf(heap))
      signal()
    },
  }
}

/** Turns a failed call into what to do about it. */
function wrap<T>(endpoint: string, open: () => T): T {
  try {
    return open()
  } catch (cause) {
    if (!(cause instanceof NativeError)) throw cause
    const [code, remedy] = explain(cause)
    throw new SpeadcastError(code, `cannot receive on ${endpoint}: ${cause.message}${remedy}`, { cause })
  }
}

function explain({ errnoName }: NativeError): [ErrorCode, string] {
  switch (errnoName) {
    case 'EADDRINUSE':
      return [
        'ERR_SPEADCAST_ENDPOINT',
        '; another socket has this port: end that program (ss -ulpn shows it) or choose another port',
      ]
    case 'EADDRNOTAVAIL':
      return [
        'ERR_SPEADCAST_ENDPOINT',
        '; no interface here has this address: receive on one of this machine, on a multicast group, or on 0.0.0.0',
      ]
    case 'EACCES':
      return ['ERR_SPEADCAST_ENDPOINT', '; ports below 1024 need CAP_NET_BIND_SERVICE']
    case 'ENODEV':
    case 'EINVAL':
      return ['ERR_SPEADCAST_INTERFACE', '; the kernel knows no interface for this group: name one (interface option, --interface)']
    default:
      return ['ERR_SPEADCAST_NATIVE', '']
  }
}
