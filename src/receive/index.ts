/**
 * The SPEAD receiver, the package's entry `speadcast/receive`. It has promises of its own:
 *
 * - It takes every flavour from SPEAD-64-8 to 64-56, packets in any order, twice or missing, and gives heaps as they finish.
 * - It never throws because of a packet. A packet that is no SPEAD, or that contradicts its heap, is counted and left.
 * - Its memory is bounded, whoever sends: by `maxHeaps` and `heapMemoryBytes`, and by 256 heaps or 128 MiB that wait for the consumer.
 * - A heap with a lost packet is given up in the end, and comes with `complete: false`.
 * - `stats()` and the summary that `done` resolves with count everything received, refused and, as far as the system tells, lost.
 *
 * It knows nothing of sending, and sending knows nothing of it.
 *
 *     await using receiver = await openReceiver({ endpoints: '239.10.0.1:7148', interface: 'eth0' })
 *     for await (const heap of receiver) console.log(heap.cnt, heap.items.get(0x3300)?.bytes)
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync } from 'node:fs'
import { ensure, SpeadcastError } from '../errors.js'
import { formatGid } from '../net/address.js'
import { parseEndpoints, resolveEndpoints } from '../net/endpoint.js'
import { addressesSettle, equal, type ResolvedInterface, settledInterface } from '../net/interface.js'
import type { DatagramPeer } from '../rdma/rendezvous.js'
import { openDgram } from './dgram-receiver.js'
import { HeapQueue } from './queue.js'
import type { DriverEvents, DriverOptions, ReceiveDriver, ReceiveEndpoint } from './receive-driver.js'
import type { ReceivedHeap } from './received-heap.js'
import { type EndReason, type SeenItem, type SessionSummary, STAT, STAT_NAMES, type StatName } from './session.js'

export type { ReceivedDescriptor } from './received-descriptor.js'
export type { ReceivedHeap, ReceivedItem } from './received-heap.js'
export type { EndReason, SeenItem } from './session.js'

export const DEFAULT_MAX_HEAPS = 1024
export const DEFAULT_HEAP_MEMORY_BYTES = 256 << 20
/** Asked of the kernel with SO_RCVBUFFORCE, and without CAP_NET_ADMIN clipped to net.core.rmem_max. */
export const DEFAULT_RECEIVE_BUFFER_BYTES = 64 << 20
/** Pinned, unlike a socket's, and so counted against RLIMIT_MEMLOCK. */
export const DEFAULT_DATAGRAM_BUFFER_BYTES = 16 << 20

export interface ReceiverOptions {
  /** `HOST:PORT`, ranges as `239.10.10.0+15:7148`; HOST is an address of this machine or a multicast group, which is joined. */
  readonly endpoints: string | readonly string[]
  /** Name or address of the interface to join groups on; default: the kernel's choice by route. */
  readonly interface?: string
  /**
   * Socket buffer per endpoint; default 64 MiB, clipped to net.core.rmem_max without CAP_NET_ADMIN. `stats()` tells the size that was
   * granted. With 'rdma-ud': memory for receives per endpoint, 4160 bytes each, pinned; default 16 MiB.
   */
  readonly receiveBufferBytes?: number
  /** The most heaps in the making; the oldest is given up for the next. Default 1024, which a round-robin batch of small heaps needs. */
  readonly maxHeaps?: number
  /** Bounds the memory of heaps in the making or waiting to be written in order; a larger heap is refused. Default 256 MiB. */
  readonly heapMemoryBytes?: number
  /** Ends with reason 'timeout' where the expected end has not come in that time from the opening. Default: never. */
  readonly timeoutSeconds?: number
  /** Ends with reason 'heaps' after this number of complete heaps with data. Default: never. */
  readonly heaps?: number
  /** Ends with reason 'stop' after this number of stop heaps; default one per endpoint; 0: they end nothing. */
  readonly stops?: number
  /** Aborting ends with reason 'aborted'; the iteration then throws `signal.reason`. */
  readonly signal?: AbortSignal
  /** Checks the tutorial's pattern in the receiving thread (see verify.ts). */
  readonly verify?: boolean
  /** SHA-256 over an item's payload in heap-cnt order. */
  readonly hash?: boolean
  /** File for an item's payload in heap-cnt order; created or truncated. A regular file or a device. */
  readonly output?: string
  /** The item for `hash` and `output`: its name, which a descriptor must tell, or its id. Default 'adc_samples' (0x3300 without one). */
  readonly item?: string | number
  /**
   * Whether heaps come out of the iterator. Default: unless `verify`, `hash` or `output` consumes them. For a consumer that is slower than
   * the stream, up to 256 heaps or 128 MiB wait; beyond that packets stay in the socket, and then the kernel drops and counts them.
   */
  readonly deliver?: boolean
  /** Answers senders that ask for credits, as `speadcast demo` does (credits.ts). Default false. */
  readonly credits?: boolean
  /**
   * 'native' (recvmmsg in a thread; Linux), 'dgram' (node:dgram), or 'auto': native where it works. 'rdma-ud': datagrams of InfiniBand or
   * RoCE instead of UDP, from a stream of backend 'rdma-ud'.
   */
  readonly backend?: 'auto' | 'native' | 'dgram' | 'rdma-ud'
  /** For 'rdma-ud': RDMA device to receive on, with its port or without: 'mlx5_0:1'. Default: that of the address, or of `interface`. */
  readonly device?: string
  /** For 'rdma-ud': name or path of libibverbs. Default: the environment's SPEADCAST_VERBS_LIBRARY, then libibverbs.so.1. */
  readonly verbsLibrary?: string
  /** Lets the kernel coalesce datagrams (UDP_GRO). Default true. */
  readonly gro?: boolean
}

/** The queue pair that takes an endpoint's datagrams. */
export interface ReceiverPeer extends Omit<DatagramPeer, 'gid' | 'mtuBytes'> {
  /** Its port's GID as an IPv6 address, or the IPv4 address that it stands for. */
  readonly gid: string
  readonly mtuBytes: number
}

export type ReceiverStats = Readonly<Record<StatName, number>> & {
  readonly backend: 'recvmmsg' | 'dgram' | 'rdma-ud'
  /** Why it is not recvmmsg; empty if it is. */
  readonly backendReason: string
  readonly gro: boolean
  /** Granted by the kernel, in the units of the request; the smallest of the sockets'. */
  readonly receiveBufferBytes: number
}

export interface ReceiveSummary extends ReceiverStats {
  readonly reason: EndReason
  /** From the first packet to the last. */
  readonly seconds: number
  readonly items: readonly SeenItem[]
  /** Estimate: heap cnts that never came between the lowest and the highest seen, if the others' spacing is regular. */
  readonly heapsMissing: number
  /** With `verify`: heaps missing by their timestamps, on the same assumption. */
  readonly verifyMissing: number
  /** With `verify`: the first few corrupt heaps, each with what is wrong. */
  readonly corruptExamples: readonly string[]
  /** Lower-case hexadecimal, null without `hash` or `output`. */
  readonly sha256: string | null
  readonly outputBytes: number
  /** Complete data heaps that are not in the output: too late, or without the item. */
  readonly outputLeftOut: number
}

const QUEUE_HEAPS = 256
const QUEUE_BYTES = 128 << 20

/**
 * Opens a receiver. When the promise resolves, the sockets are bound, groups are joined and the loop runs: packets sent from now on are
 * received. An open receiver keeps the process alive, and never delays process.exit.
 * @throws SpeadcastError ERR_SPEADCAST_CONFIG, _ENDPOINT, _RESOLVE, _INTERFACE, _BACKEND, _INPUT (output file), _NATIVE.
 */
export async function openReceiver(options: ReceiverOptions): Promise<Receiver> {
  const wantsOutput = options.output !== undefined
  const session = validate(options)
  options.signal?.throwIfAborted()
  const { endpoints, chosen } = await prepare(options)
  const outputFd = options.output === undefined ? undefined : openOutput(options.output)
  const queue = new HeapQueue((heap) => driver?.taken(heap))
  let driver: ReceiveDriver | undefined
  let settle: { resolve: (summary: SessionSummary) => void; reject: (error: unknown) => void }
  const ended = new Promise<SessionSummary>((resolve, reject) => {
    settle = { resolve, reject }
  }).finally(() => {
    if (outputFd !== undefined) closeSync(outputFd)
  })
  ended.catch(() => undefined)
  const events: DriverEvents = {
    // Truncated only now, because a port that is taken must not cost the last recording.
    onBound: () => {
      if (outputFd !== undefined && fstatSync(outputFd).isFile()) ftruncateSync(outputFd)
    },
    onHeap: (heap) => queue.push(heap),
    onEnd: (summary) => settle.resolve(summary),
    onError: (error) => settle.reject(error),
  }
  const driverOptions: DriverOptions = {
    endpoints,
    session: {
      endpoints: endpoints.length,
      maxHeaps: session.maxHeaps,
      timeoutMs: (options.timeoutSeconds ?? Number.POSITIVE_INFINITY) * 1000,
      heaps: options.heaps ?? Number.POSITIVE_INFINITY,
      stops: (options.stops ?? endpoints.length) || Number.POSITIVE_INFINITY,
      verify: options.verify ?? false,
      hash: options.hash ?? wantsOutput,
      outputFd,
      item: options.item ?? 'adc_samples',
      deliver: session.deliver,
    },
    receiveBufferBytes:
      options.receiveBufferBytes ?? (options.backend === 'rdma-ud' ? DEFAULT_DATAGRAM_BUFFER_BYTES : DEFAULT_RECEIVE_BUFFER_BYTES),
    heapMemoryBytes: session.heapMemoryBytes,
    gro: options.gro ?? true,
    credits: options.credits ?? false,
    interface: chosen,
    device: options.device,
    verbsLibrary: options.verbsLibrary,
    queueHeaps: QUEUE_HEAPS,
    queueBytes: QUEUE_BYTES,
  }
  try {
    const { open, reason } = await chooseBackend(options.backend ?? 'auto')
    driver = await open(driverOptions, events)
    return new Receiver(
      driver,
      reason,
      endpoints.map(({ text }) => text),
      queue,
      ended,
      options.signal,
    )
  } catch (error) {
    settle!.reject(error)
    throw error
  }
}

/** Made by openReceiver. Iterating takes heaps from one queue: two iterations share them. */
export class Receiver implements AsyncIterable<ReceivedHeap>, AsyncDisposable {
  /** Resolves at the end of reception, whatever the reason; rejects only if receiving itself failed. */
  readonly done: Promise<ReceiveSummary>
  /** The canonical texts of the endpoints that it listens on. */
  readonly endpoints: readonly string[]
  /** With backend 'rdma-ud' the endpoints' queue pairs, as a sender's `rdmaUd.peers` takes them; else empty. */
  readonly peers: readonly ReceiverPeer[]
  readonly #driver: ReceiveDriver
  readonly #backendReason: string
  readonly #queue: HeapQueue
  #aborted = false

  /** @internal */
  constructor(
    driver: ReceiveDriver,
    backendReason: string,
    endpoints: readonly string[],
    queue: HeapQueue,
    ended: Promise<SessionSummary>,
    signal: AbortSignal | undefined,
  ) {
    this.#driver = driver
    this.#backendReason = backendReason
    this.endpoints = endpoints
    this.peers = (driver.peers ?? []).map((peer) => ({
      ...peer,
      gid: formatGid({ bytes: peer.gid }),
      mtuBytes: peer.mtuBytes ?? 0,
    }))
    this.#queue = queue
    const onAbort = () => {
      this.#aborted = true
      queue.clear()
      queue.end({ value: signal?.reason })
      driver.stop()
    }
    if (signal?.aborted) onAbort()
    else signal?.addEventListener('abort', onAbort, { once: true })
    this.done = ended
      .then(
        (summary) => {
          queue.end()
          return { ...this.stats(), ...summary, reason: this.#aborted ? ('aborted' as const) : summary.reason }
        },
        (error) => {
          queue.end({ value: error })
          throw error
        },
      )
      .finally(() => signal?.removeEventListener('abort', onAbort))
    // A caller that only iterates learns of a failure there.
    this.done.catch(() => undefined)
  }

  /** Returns the counters so far. Cheap, at any time; droppedByKernel lags by up to 50 ms. */
  stats(): ReceiverStats {
    const { backend, gro, receiveBufferBytes, stats } = this.#driver
    const counters = Object.fromEntries(STAT_NAMES.map((name) => [name, stats[STAT[name]]])) as Record<StatName, number>
    return { ...counters, backend, backendReason: this.#backendReason, gro, receiveBufferBytes }
  }

  /** Ends reception with reason 'closed', unless it has ended already, and drops the heaps that nobody took. Idempotent. */
  close(): Promise<ReceiveSummary> {
    this.#driver.stop()
    this.#queue.clear()
    this.#queue.end()
    return this.done
  }

  [Symbol.asyncIterator](): AsyncIterator<ReceivedHeap, undefined> {
    return {
      next: () => this.#queue.next(),
      return: async () => {
        await this.close()
        return { done: true, value: undefined }
      },
    }
  }

  /** Closes; silent if it is closed or failed already. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close().catch(() => undefined)
  }
}

const KEYS: readonly string[] = [
  'endpoints',
  'interface',
  'receiveBufferBytes',
  'maxHeaps',
  'heapMemoryBytes',
  'timeoutSeconds',
  'heaps',
  'stops',
  'signal',
  'verify',
  'hash',
  'output',
  'item',
  'deliver',
  'credits',
  'backend',
  'gro',
  'device',
  'verbsLibrary',
] satisfies (keyof ReceiverOptions)[]

function validate(options: ReceiverOptions): { maxHeaps: number; heapMemoryBytes: number; deliver: boolean } {
  const fail = (message: string): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message)
  }
  for (const key of Object.keys(options)) if (!KEYS.includes(key)) fail(`unknown option '${key}'; there are: ${KEYS.join(', ')}`)
  const whole = (name: keyof ReceiverOptions, least: number, most: number) => {
    const value = options[name]
    if (value !== undefined && !(typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most))
      fail(`${name} is ${String(value)}; it must be a whole number from ${least} to ${most}`)
  }
  whole('receiveBufferBytes', 4096, 2 ** 30)
  whole('maxHeaps', 1, 65536)
  whole('heapMemoryBytes', 1 << 20, 2 ** 32 - 2 ** 24)
  whole('heaps', 1, Number.MAX_SAFE_INTEGER)
  whole('stops', 0, Number.MAX_SAFE_INTEGER)
  const { timeoutSeconds, backend = 'auto', item } = options
  if (timeoutSeconds !== undefined && !(typeof timeoutSeconds === 'number' && timeoutSeconds > 0))
    fail(`timeoutSeconds is ${timeoutSeconds}; it must be a number above 0`)
  if (!['auto', 'native', 'dgram', 'rdma-ud'].includes(backend))
    fail(`backend is '${backend}'; it must be 'auto', 'native', 'dgram' or 'rdma-ud'`)
  for (const name of ['device', 'verbsLibrary'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'string') fail(`${name} is ${options[name]}; it must be a string`)
    if (options[name] !== undefined && backend !== 'rdma-ud') fail(`${name} is for backend 'rdma-ud', not '${backend}'`)
  }
  if (options.credits && backend === 'rdma-ud') fail("credits are of UDP; backend 'rdma-ud' gives none, leave them out")
  if (item !== undefined && !(typeof item === 'string' ? item !== '' : Number.isSafeInteger(item) && item > 6))
    fail(`item is ${item}; it must be an item's name, or its id above 6`)
  return {
    maxHeaps: options.maxHeaps ?? DEFAULT_MAX_HEAPS,
    heapMemoryBytes: Math.ceil((options.heapMemoryBytes ?? DEFAULT_HEAP_MEMORY_BYTES) / 4096) * 4096,
    deliver: options.deliver ?? !(options.verify || options.hash || options.output !== undefined),
  }
}

async function prepare(options: ReceiverOptions): Promise<{ endpoints: ReceiveEndpoint[]; chosen: ResolvedInterface | undefined }> {
  const specs = typeof options.endpoints === 'string' ? [options.endpoints] : options.endpoints
  ensure(
    Array.isArray(specs),
    'ERR_SPEADCAST_CONFIG',
    () => `endpoints is ${typeof specs}; it must be a string or an array of strings`,
  )
  const resolved = await resolveEndpoints(parseEndpoints(specs))
  const seen = new Set<string>()
  for (const { text } of resolved) {
    ensure(!seen.has(text), 'ERR_SPEADCAST_ENDPOINT', () => `endpoint ${text} is given twice`)
    seen.add(text)
  }
  // One socket each: the limit is the thread's poll and the usual 1024 descriptors of a process.
  ensure(resolved.length <= 512, 'ERR_SPEADCAST_ENDPOINT', () => `${resolved.length} endpoints to receive on; at most 512`)
  const [first] = resolved
  const chosen = options.interface === undefined || !first ? undefined : await settledInterface(options.interface, first.family)
  const held = first?.family === 6 && (await addressesSettle((own) => resolved.some(({ bytes }) => equal(bytes, own.bytes))))
  if (held) throw new SpeadcastError('ERR_SPEADCAST_INTERFACE', held)
  const endpoints = resolved.map((endpoint) => ({
    ...endpoint,
    interfaceIndex: chosen?.index ?? endpoint.scopeId,
    interfaceName: chosen && (endpoint.family === 6 ? `::%${chosen.name}` : chosen.address),
  }))
  return { endpoints, chosen }
}

/** Opens a file on which a write cannot block for ever: a FIFO without a reader would hold the receiving thread. */
function openOutput(path: string): number {
  let fd: number
  try {
    fd = openSync(path, constants.O_WRONLY | constants.O_CREAT | (constants.O_NONBLOCK ?? 0), 0o644)
  } catch (cause) {
    const message = `cannot write ${path}: ${(cause as Error).message}`
    throw new SpeadcastError('ERR_SPEADCAST_INPUT', message, { cause })
  }
  const stat = fstatSync(fd)
  if (stat.isFile() || stat.isCharacterDevice()) return fd
  closeSync(fd)
  throw new SpeadcastError('ERR_SPEADCAST_INPUT', `cannot write ${path}: the output must be a file, not a pipe or socket`)
}

type Open = (options: DriverOptions, events: DriverEvents) => Promise<ReceiveDriver>

async function chooseBackend(wanted: NonNullable<ReceiverOptions['backend']>): Promise<{ open: Open; reason: string }> {
  if (wanted === 'dgram') return { open: openDgram, reason: 'asked for' }
  let why = `recvmmsg with GRO is for Linux, this is ${process.platform}`
  let cause: unknown
  if (process.platform === 'linux') {
    try {
      const { openNative, probeNative } = await import('./native-receiver.js')
      probeNative()
      if (wanted === 'rdma-ud') return { open: (await import('./rdma-receiver.js')).openRdma, reason: '' }
      return { open: openNative, reason: '' }
    } catch (error) {
      cause = error
      why = `the C library cannot be called: ${(error as Error).message.split('\n')[0]}`
    }
  }
  if (wanted === 'rdma-ud')
    throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `${why}; backend 'rdma-ud' works on Linux alone`, { cause })
  if (wanted === 'native') throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `${why}; use backend 'dgram'`, { cause })
  return { open: openDgram, reason: why }
}
