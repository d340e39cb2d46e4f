/// <reference types="node" preserve="true" />
/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The SPEAD receiver, the package's entry `speadcast/receive`. It has promises of its own:
 *
 * - It takes every flavour from SPEAD-64-8 to 64-56, packets in any order, twice or missing, and gives heaps as they finish.
 * - It never throws because of a packet. A packet that is no SPEAD, or that contradicts its heap, is counted and left.
 * - Its memory is bounded, whoever sends: by `maxHeaps` and `heapMemoryBytes`, and by 256 heaps or 128 MiB that wait for the
 *   consumer. Refusals are counted, and told in the summary (docs/receiving.md).
 * - A heap with a lost packet is given up in the end, and comes with `complete: false`.
 * - `stats()` and the summary that `done` resolves with count everything received, refused and, as far as the system tells, lost.
 *
 * It knows nothing of sending, and sending knows nothing of it.
 *
 *     await using receiver = await openReceiver({ endpoints: '239.10.0.1:7148', interface: 'eth0' })
 *     for await (const heap of receiver) console.log(heap.cnt, heap.items.get(0x3300)?.bytes)
 *
 * @module speadcast/receive
 */
import { closeSync, fstatSync, ftruncateSync } from 'node:fs'
import { openPlainFile } from '../../ffi/plain-file.js'
import { messageOf } from '../checks.js'
import { ensure, SpeadcastError, ThreadRefused, withCode } from '../errors.js'
import { needsScope } from '../net/address.js'
import { type EndpointSpec, needsInterface, parseEndpoints, resolveEndpoints } from '../net/endpoint.js'
import { addressesSettle, equal, interfaceName, type ResolvedInterface } from '../net/interface.js'
import { askedInterface } from '../net/sender-interface.js'
import { tcpEndpoint } from '../net/transport.js'
import { openDgram } from './dgram-receiver.js'
import { ReceiverNews } from './news.js'
import {
  backendOf,
  checkReceiverOptions,
  DEFAULT_DATAGRAM_BUFFER_BYTES,
  DEFAULT_RECEIVE_BUFFER_BYTES,
  type ReceiverBackend,
  type ReceiverOptions,
} from './options.js'
import { HeapQueue } from './queue.js'
import type { DriverEvents, DriverOptions, ReceiveDriver, ReceiveEndpoint } from './receive-driver.js'
import { Received } from './received.js'
import { Receiver } from './receiver.js'
import { SESSION_BYTES, type SessionSummary } from './session.js'

export type { RealTime, ThreadPriority } from '../../ffi/placement.js'
export type { ReceiverMessages } from './channels.js'
export type { ReceiverEvent, ReceiverEventFacts, ReceiverEventKind, ReceiverEventOptions } from './events.js'
export {
  DEFAULT_DATAGRAM_BUFFER_BYTES,
  DEFAULT_HEAP_MEMORY_BYTES,
  DEFAULT_MAX_HEAPS,
  DEFAULT_RECEIVE_BUFFER_BYTES,
  type ReceiverBackend,
  type ReceiverOptions,
} from './options.js'
export type { OutputFileSummary, OutputOrder } from './output.js'
export type { ReceivedDescriptor } from './received-descriptor.js'
export type { ReceivedHeap, ReceivedItem } from './received-heap.js'
export {
  Receiver,
  type ReceiverPeer,
  type ReceiverStats,
  type ReceiverStatsOptions,
  type ReceiveSummary,
  type WithEndpoints,
} from './receiver.js'
export type { EndReason, SeenItem, SessionSummary } from './session.js'
export type { ReceiverCounters, ReceiverEndpointCounters } from './stats.js'
export { valueText } from './value-text.js'

const QUEUE_HEAPS = 256
/** Goes behind the message that endpoints mix families. */
const ONE_FAMILY = 'all endpoints of a receiver are of one family, so open a receiver for each family'
const QUEUE_BYTES = 128 << 20

/**
 * Opens a receiver. When the promise resolves, the sockets are bound, groups are joined and the loop runs: packets sent from now on are
 * received. With `pcapPath` the file is open and its endpoints are known. An open receiver keeps the process alive, and never delays process.exit.
 * @throws (rejects) ERR_SPEADCAST_CONFIG, _ENDPOINT, _RESOLVE, _INTERFACE, _BACKEND, _BUNDLED, _WORKER, _MEMORY, _INPUT (output file, capture),
 *   _NATIVE
 * @example await using receiver = await openReceiver({ endpoints: '239.10.0.1:7148', interface: 'eth0' })
 */
export async function openReceiver(given: ReceiverOptions): Promise<Receiver> {
  checkReceiverOptions(given)
  const from = { ...given, backend: backendOf(given) }
  const { endpoints: wanted = [] } = from
  // A capture tells itself where its packets were sent to.
  const specs = from.backend === 'pcap' && wanted.length === 0 ? [] : parseEndpoints(typeof wanted === 'string' ? [wanted] : wanted)
  const options = withTransport(from, specs)
  const { maxHeaps, heapMemoryBytes, deliver, order, affinity, priority } = checkReceiverOptions(options)
  const wantsOutput = options.output !== undefined
  const { endpoints, chosen } = await prepare(options, specs)
  const outputFd =
    options.output === undefined ? undefined : openOutput(order === 'sender' ? `${options.output}.0` : options.output)
  const queue = new HeapQueue((heap) => driver?.taken(heap))
  const news = new ReceiverNews(queue, options.onChange)
  let driver: ReceiveDriver | undefined
  let settle: { resolve: (summary: SessionSummary) => void; reject: (error: unknown) => void }
  const ended = new Promise<SessionSummary>((resolve, reject) => {
    settle = { resolve, reject }
  }).then(
    (summary) => (outputFd === undefined ? summary : closed(summary, outputFd, options.output)),
    (error) => {
      if (outputFd !== undefined) closeSync(outputFd)
      throw error
    },
  )
  ended.catch(() => undefined)
  const events: DriverEvents = {
    // Truncated only now, because a port that is taken must not cost the last recording.
    onBound: () => {
      if (outputFd !== undefined && fstatSync(outputFd).isFile()) ftruncateSync(outputFd)
    },
    onHeap: (heap) => queue.push(new Received(heap)),
    onEnd: (summary) => settle.resolve(summary),
    onError: (error) => settle.reject(error),
  }
  const driverOptions: DriverOptions = {
    endpoints,
    session: {
      endpoints: endpoints.length,
      maxHeaps,
      memoryBytes: heapMemoryBytes,
      timeoutMs: (options.timeoutSeconds ?? Number.POSITIVE_INFINITY) * 1000,
      heaps: options.heaps ?? Number.POSITIVE_INFINITY,
      stops: (options.stops ?? (options.backend === 'pcap' ? 0 : endpoints.length)) || Number.POSITIVE_INFINITY,
      verify: options.verify ?? false,
      hash: options.hash ?? wantsOutput,
      outputFd,
      outputPath: options.output,
      order,
      item: options.item ?? 'adc_samples',
      deliver,
      bugCompat: options.bugCompat,
      anySource: options.anySource ?? false,
      cntStep: options.cntStep ?? 0,
    },
    receiveBufferBytes:
      options.receiveBufferBytes ?? (options.backend === 'rdma-ud' ? DEFAULT_DATAGRAM_BUFFER_BYTES : DEFAULT_RECEIVE_BUFFER_BYTES),
    memoryBytes: heapMemoryBytes + SESSION_BYTES,
    gro: options.gro ?? true,
    credits: options.credits ?? false,
    tell: (item) => news.tell(item),
    interface: chosen,
    device: options.device,
    verbsLibrary: options.verbsLibrary,
    affinity,
    priority,
    queueHeaps: QUEUE_HEAPS,
    queueBytes: QUEUE_BYTES,
  }
  try {
    const opened = await openBackend(options, driverOptions, events)
    driver = opened.driver
    const receiver = new Receiver(
      driver,
      opened.reason,
      driver.endpoints ?? endpoints.map(({ text }) => text),
      queue,
      ended,
      news.events,
      options.signal,
    )
    news.opened(receiver)
    return receiver
  } catch (cause) {
    const error = withCode('openReceiver', cause)
    news.say(() => `cannot be opened: ${messageOf(error)}`)
    // The driver's end settles it where there is one: until then the driver may write into the output.
    if (driver) driver.stop()
    else settle!.reject(error)
    throw error
  }
}

/** The options with the backend that the endpoints ask for. @throws ERR_SPEADCAST_CONFIG, ERR_SPEADCAST_ENDPOINT */
function withTransport(options: ReceiverOptions, specs: readonly EndpointSpec[]): ReceiverOptions {
  const { backend = 'auto' } = options
  const tcp = tcpEndpoint(specs, 'open a receiver for each')
  if (!tcp) return options
  const wrong = () => `${tcp.text} is for backend 'tcp', not '${backend}'; leave backend out`
  ensure(backend === 'auto' || backend === 'tcp', 'ERR_SPEADCAST_CONFIG', wrong)
  return { ...options, backend: 'tcp' }
}

async function prepare(
  options: ReceiverOptions,
  specs: readonly EndpointSpec[],
): Promise<{ endpoints: ReceiveEndpoint[]; chosen: ResolvedInterface | undefined }> {
  const resolved = specs.length > 0 ? await resolveEndpoints(specs, { each: ONE_FAMILY }) : []
  const seen = new Set<string>()
  for (const { text } of resolved) {
    ensure(!seen.has(text), 'ERR_SPEADCAST_ENDPOINT', () => `endpoint ${text} is given twice`)
    seen.add(text)
  }
  // One socket each: the limit is the thread's poll and the usual 1024 descriptors of a process.
  ensure(resolved.length <= 512, 'ERR_SPEADCAST_ENDPOINT', () => `${resolved.length} endpoints to receive on; at most 512`)
  const [first] = resolved
  const chosen = options.interface === undefined || !first ? undefined : await askedInterface(options.interface, first)
  const local = chosen ? undefined : resolved.find(({ bytes, scopeId, multicast }) => needsScope(bytes) && !scopeId && !multicast)
  if (local && options.backend !== 'pcap') throw needsInterface(local)
  const held =
    options.backend !== 'pcap' &&
    first?.family === 6 &&
    (await addressesSettle((own) => resolved.some(({ bytes }) => equal(bytes, own.bytes))))
  if (held) throw new SpeadcastError('ERR_SPEADCAST_INTERFACE', held)
  const endpoints = resolved.map((endpoint) => ({
    ...endpoint,
    interfaceIndex: chosen?.index ?? endpoint.scopeId,
    joinedOn: chosen?.name ?? interfaceName(endpoint.scopeId),
    interfaceName: chosen && (endpoint.family === 6 ? `::%${chosen.name}` : chosen.address),
  }))
  return { endpoints, chosen }
}

function openOutput(path: string): number {
  try {
    return openPlainFile(path, 'keep')
  } catch (cause) {
    throw new SpeadcastError('ERR_SPEADCAST_INPUT', `cannot write ${path}: ${(cause as Error).message}`, { cause })
  }
}

/** Closes the output. Some file systems say only now that a write failed (close(2)). */
function closed(summary: SessionSummary, fd: number, path = ''): SessionSummary {
  try {
    closeSync(fd)
    return summary
  } catch (error) {
    const outputError = `cannot close ${path}, which may be incomplete: ${(error as Error).message}`
    return { ...summary, outputError: summary.outputError ?? outputError, sha256: null }
  }
}

/** Opens the backend; instead of a thread that cannot be started, 'auto' takes the event loop. */
async function openBackend(
  { backend: wanted = 'auto', pcapPath = '' }: ReceiverOptions,
  options: DriverOptions,
  events: DriverEvents,
): Promise<{ driver: ReceiveDriver; reason: string }> {
  if (wanted === 'pcap')
    return { driver: await (await import('./pcap-receiver.js')).openPcap(pcapPath, options, events), reason: 'asked for' }
  const { open, reason } = await chooseBackend(wanted)
  try {
    return { driver: await open(options, events), reason }
  } catch (error) {
    const needsThread = options.affinity.length > 0 || options.priority !== undefined
    if (!(error instanceof ThreadRefused && wanted === 'auto') || needsThread) throw error
    return { driver: await openDgram(options, events), reason: error.why }
  }
}

type Open = (options: DriverOptions, events: DriverEvents) => Promise<ReceiveDriver>

async function chooseBackend(wanted: ReceiverBackend): Promise<{ open: Open; reason: string }> {
  if (wanted === 'dgram') return { open: openDgram, reason: 'asked for' }
  let why = `recvmmsg with GRO is for Linux, this is ${process.platform}`
  let cause: unknown
  if (process.platform === 'linux') {
    try {
      const { openNative, probeNative } = await import('./native-receiver.js')
      probeNative()
      if (wanted === 'tcp') return { open: (await import('./tcp-receiver.js')).openTcp, reason: '' }
      if (wanted === 'rdma-ud') return { open: (await import('./rdma-receiver.js')).openRdma, reason: '' }
      return { open: openNative, reason: '' }
    } catch (error) {
      if (error instanceof SpeadcastError && error.code === 'ERR_SPEADCAST_BUNDLED') throw error
      cause = error
      why = `the C library cannot be called: ${(error as Error).message.split('\n')[0]}`
    }
  }
  if (wanted === 'rdma-ud' || wanted === 'tcp')
    throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `${why}; backend '${wanted}' works on Linux alone`, { cause })
  if (wanted === 'native') throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `${why}; use backend 'dgram'`, { cause })
  return { open: openDgram, reason: why }
}
