/** The options of openReceiver: types, defaults, and their check at the edge. */
import { CPUS_RULE, cpusOf, PRIORITY_RULE, priorityOf, type ThreadPriority } from '../../ffi/placement.js'
import { checkBoolean, checkOptions, checkSignal, listOf, oneOf, shown } from '../checks.js'
import { SpeadcastError } from '../errors.js'
import { BUG_COMPAT } from '../spead/flavour.js'
import type { OutputOrder } from './output.js'

/** `maxHeaps` of `ReceiverOptions` where it is not given. */
export const DEFAULT_MAX_HEAPS = 1024
/** `heapMemoryBytes` of `ReceiverOptions` where it is not given: 256 MiB, or a quarter of what the cgroup may have if that is less. */
export const DEFAULT_HEAP_MEMORY_BYTES = 256 << 20
const LEAST_HEAP_MEMORY_BYTES = 1 << 20
/**
 * `receiveBufferBytes` of `ReceiverOptions`, 64 MiB. Asked of the kernel with SO_RCVBUFFORCE, and without CAP_NET_ADMIN clipped to
 * net.core.rmem_max.
 */
export const DEFAULT_RECEIVE_BUFFER_BYTES = 64 << 20
/** The same with backend 'rdma-ud', 16 MiB. Pinned, unlike a socket's, and so counted against RLIMIT_MEMLOCK. */
export const DEFAULT_DATAGRAM_BUFFER_BYTES = 16 << 20

const ORDERS = ['arrival', 'cnt', 'sender'] as const satisfies readonly OutputOrder[]
/** Ways of receiving. */
export type ReceiverBackend = 'auto' | 'native' | 'tcp' | 'dgram' | 'rdma-ud' | 'pcap'
const BACKENDS = ['auto', 'native', 'tcp', 'dgram', 'rdma-ud', 'pcap'] as const satisfies readonly ReceiverBackend[]

/**
 * Options of openReceiver. All but `endpoints` have a default, and with `pcapPath` that has one too.
 * @example await openReceiver({ endpoints: '239.10.10.0+15:7148', interface: 'eth0', output: 'samples.raw', timeoutSeconds: 60 })
 */
export interface ReceiverOptions {
  /**
   * `HOST:PORT`, ranges as `239.10.10.0+15:7148`; HOST is an address of this machine or a multicast group, which is joined. Default: with
   * `pcapPath` every endpoint of the file; without it there is none.
   */
  readonly endpoints?: string | readonly string[]
  /**
   * Reads this pcap file instead of sockets: the datagrams to `endpoints`, by default all to which SPEAD was sent (in the first 256 MiB).
   * Its time stamps stand for the clock. Default: none.
   */
  readonly pcapPath?: string
  /**
   * Name or address of the interface to join groups on, whose packets alone are taken then. Default, and with 0.0.0.0 or
   * '::': the kernel's choice by route. IPv6 groups take Linux 5.7 or CAP_NET_RAW, with 'dgram' Linux. With 'tcp': the one by which
   * alone connections come.
   */
  readonly interface?: string
  /**
   * Socket buffer per endpoint; default 64 MiB, clipped to net.core.rmem_max without CAP_NET_ADMIN. `stats()` tells the size that was
   * granted. With 'rdma-ud': memory for receives per endpoint, 4160 bytes each, pinned; default 16 MiB.
   */
  readonly receiveBufferBytes?: number
  /** The most heaps in the making; the oldest is given up for the next. Default 1024, which a round-robin batch of small heaps needs. */
  readonly maxHeaps?: number
  /**
   * Bounds the memory of heaps in the making or waiting to be written in order; a larger heap is refused. Default 256 MiB,
   * or a quarter of what the process's cgroup may have.
   */
  readonly heapMemoryBytes?: number
  /** Ends with reason 'timeout' where the expected end has not come in that time from the opening. Default: never. */
  readonly timeoutSeconds?: number
  /** Ends with reason 'heaps' after this number of complete heaps with data. Default: never. */
  readonly heaps?: number
  /** Ends with reason 'stop' after this number of stop heaps; default one per endpoint, with `pcapPath` 0: they end nothing. */
  readonly stops?: number
  /** Aborting ends with reason 'aborted'; the iteration then throws `signal.reason`. */
  readonly signal?: AbortSignal
  /** Checks in the receiving thread that samples are the pattern of `speadcast send` without input. Default false. */
  readonly verify?: boolean
  /** Computes SHA-256 over an item's payload, in the order of `order`. Default: with `output`. */
  readonly hash?: boolean
  /**
   * File for an item's payload, in the order of `order`; created or truncated, and written at least every second. A regular file or
   * a device. Default: none.
   */
  readonly output?: string
  /**
   * The order of `hash` and `output`. 'cnt': each sender's heaps in the order of their cnts, and heaps of several senders in the
   * order in which their turns come. 'arrival': as heaps complete. 'sender': as 'cnt', with a file for each sender, `output` with
   * `.0`, `.1` and so on behind it. Default 'cnt'.
   */
  readonly order?: OutputOrder
  /** The item for `hash` and `output`: its name, which a descriptor must tell, or its id. Default 'adc_samples' (0x3300 without one). */
  readonly item?: string | number
  /**
   * How descriptors differ from the specification: a sum of the flags that `BUG_COMPAT` names for senders (1 widths, 2 tag of a
   * variable dimension, 4 byte order in numpy headers); 7 is PySPEAD 0.5.2. Default: inferred from each heap's descriptors, which
   * only the byte order may escape.
   */
  readonly bugCompat?: number
  /**
   * Whether heaps come out of the iterator. Default: unless `verify`, `hash` or `output` consumes them. For a consumer that is slower than
   * the stream, up to 256 heaps or 128 MiB wait; beyond that packets stay in the socket, and then the kernel drops and counts them.
   */
  readonly deliver?: boolean
  /**
   * Joins packets of one heap that come from several sockets, as spead2 does. Default false: heaps of two sockets with the same
   * heap cnt are two heaps.
   */
  readonly anySource?: boolean
  /** By how much the heap cnts of a sender rise from heap to heap. Default: found out, where they are a sequence. */
  readonly cntStep?: number
  /** Answers senders that ask for credits, as `speadcast demo` does. Default false. */
  readonly credits?: boolean
  /**
   * The way of receiving: 'native' (recvmmsg in a thread; Linux), 'dgram' (node:dgram), or 'auto' (default): native where it works.
   * 'rdma-ud': datagrams of InfiniBand or RoCE instead of UDP, from a stream of backend 'rdma-ud'. 'tcp': connections that
   * senders make, as endpoints 'tcp://HOST:PORT' say too. 'pcap': the file `pcapPath`, which says so itself.
   */
  readonly backend?: ReceiverBackend
  /** For 'rdma-ud': RDMA device to receive on, with its port or without: 'mlx5_0:1'. Default: that of the address, or of `interface`. */
  readonly device?: string
  /** For 'rdma-ud': name or path of libibverbs. Default: the environment's SPEADCAST_VERBS_LIBRARY, then libibverbs.so.1. */
  readonly verbsLibrary?: string
  /**
   * Is given a line for a person when a group was lost with its interface, and when it was joined again, which `stats()`
   * counts as `groupsRejoined`; looked for twice a second. With 'tcp' also when the first connection was turned away
   * (`connectionsRefused`), or could not be accepted (`acceptsFailed`). `receiver.events()` tells the same and more. Default: nobody is told.
   */
  readonly onChange?: (message: string) => void
  /** Lets the kernel coalesce datagrams (UDP_GRO). Default true. */
  readonly gro?: boolean
  /** CPUs for the receiving thread, which 'dgram' and 'pcap' have none of. Default: any. */
  readonly affinity?: readonly number[]
  /**
   * The receiving thread's priority: a nice value from −20 to 19, or a real-time priority, with which it goes before all threads that have none: 'rr:10',
   * 'fifo:10' or `{ policy: 'rr', level: 10 }`, levels 1 to 99. That takes CAP_SYS_NICE or a limit (RLIMIT_RTPRIO). Default: −10 where the
   * process may have it, else the process's.
   */
  readonly priority?: ThreadPriority | `rr:${number}` | `fifo:${number}`
}

const KEYS: readonly string[] = [
  'endpoints',
  'pcapPath',
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
  'order',
  'item',
  'deliver',
  'bugCompat',
  'anySource',
  'cntStep',
  'credits',
  'backend',
  'gro',
  'device',
  'verbsLibrary',
  'onChange',
  'affinity',
  'priority',
] satisfies (keyof ReceiverOptions)[]

const BOOLEANS = ['verify', 'hash', 'deliver', 'credits', 'gro', 'anySource'] as const

/** Options that checkReceiverOptions has rounded, or for which it has put a default in place. */
export interface CheckedOptions {
  readonly maxHeaps: number
  readonly heapMemoryBytes: number
  readonly deliver: boolean
  readonly order: OutputOrder
  readonly affinity: readonly number[]
  readonly priority: ThreadPriority | undefined
}

const isPath = (value: unknown): boolean => typeof value === 'string' && !value.includes('\0')

function defaultHeapMemory(): number {
  const most = process.constrainedMemory?.() || Number.POSITIVE_INFINITY
  return Math.max(LEAST_HEAP_MEMORY_BYTES, Math.min(DEFAULT_HEAP_MEMORY_BYTES, most / 4))
}

/** The backend that is asked for, as a capture's path says too. */
export function backendOf({ backend = 'auto', pcapPath }: ReceiverOptions): ReceiverBackend {
  return backend === 'auto' && pcapPath !== undefined ? 'pcap' : backend
}

/** Options of sockets, which a capture has none of. */
const OF_SOCKETS = ['interface', 'receiveBufferBytes', 'credits', 'gro'] as const

function checkCapture(options: ReceiverOptions, fail: (message: string) => never): void {
  if (options.pcapPath === undefined) fail("backend 'pcap' needs pcapPath, the file to read")
  for (const name of OF_SOCKETS)
    if (options[name] !== undefined && options[name] !== false)
      fail(`${name} is of sockets, and backend 'pcap' reads a file; leave it out`)
}

/** @throws ERR_SPEADCAST_CONFIG; the signal's reason if it has aborted */
export function checkReceiverOptions(options: ReceiverOptions): CheckedOptions {
  checkOptions('openReceiver', options, KEYS, 'there are')
  const fail = (message: string): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message)
  }
  const whole = (name: keyof ReceiverOptions, least: number, most: number) => {
    const value = options[name]
    if (value !== undefined && !(typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most))
      fail(`${name} is ${shown(value)}; it must be a whole number from ${least} to ${most}`)
  }
  whole('receiveBufferBytes', 4096, 2 ** 30)
  whole('maxHeaps', 1, 65536)
  whole('heapMemoryBytes', LEAST_HEAP_MEMORY_BYTES, 2 ** 32 - 2 ** 24)
  whole('heaps', 1, Number.MAX_SAFE_INTEGER)
  whole('stops', 0, Number.MAX_SAFE_INTEGER)
  whole('bugCompat', 0, BUG_COMPAT.PYSPEAD_0_5_2)
  whole('cntStep', 1, 2 ** 48)
  const { timeoutSeconds, item } = options
  const backend = backendOf(options)
  for (const name of BOOLEANS) checkBoolean('openReceiver', name, options[name])
  if (timeoutSeconds !== undefined && !(typeof timeoutSeconds === 'number' && timeoutSeconds > 0))
    fail(`timeoutSeconds is ${shown(timeoutSeconds)}; it must be a number above 0`)
  if (!BACKENDS.includes(backend)) fail(`backend is ${shown(backend)}; it must be ${oneOf(BACKENDS)}`)
  const { order = 'cnt' } = options
  if (!ORDERS.includes(order)) fail(`order is ${shown(order)}; it must be ${oneOf(ORDERS)}`)
  for (const name of ['interface', 'output', 'pcapPath'] as const)
    if (options[name] !== undefined && !isPath(options[name]))
      fail(`${name} is ${shown(options[name])}; it must be a text without a NUL`)
  for (const name of ['device', 'verbsLibrary'] as const) {
    if (options[name] !== undefined && typeof options[name] !== 'string')
      fail(`${name} is ${shown(options[name])}; it must be a string`)
    if (options[name] !== undefined && backend !== 'rdma-ud') fail(`${name} is for backend 'rdma-ud', not '${backend}'`)
  }
  if (backend === 'pcap') checkCapture(options, fail)
  else if (options.pcapPath !== undefined) fail(`pcapPath is for backend 'pcap', not '${backend}'; leave one of the two out`)
  if (options.credits && backend === 'tcp') fail('credits are of UDP; TCP holds a sender back by itself, leave them out')
  if (options.credits && backend === 'rdma-ud') fail("credits are of UDP; backend 'rdma-ud' gives none, leave them out")
  if (item !== undefined && !(typeof item === 'string' ? item !== '' : Number.isSafeInteger(item) && item > 6))
    fail(`item is ${shown(item)}; it must be an item's name, or its id above 6`)
  if (options.onChange !== undefined && typeof options.onChange !== 'function')
    fail(`onChange is ${shown(options.onChange)}; it must be a function`)
  const { endpoints = backend === 'pcap' ? [] : undefined } = options
  const specs = typeof endpoints === 'string' ? [endpoints] : listOf(endpoints)
  if (!specs?.every((each) => typeof each === 'string'))
    fail(`endpoints is ${specs ? 'a list of other things' : typeof endpoints}; it must be a string or an array of strings`)
  checkSignal('openReceiver', options.signal)
  const { affinity, priority } = options
  const place = affinity !== undefined ? 'affinity' : priority !== undefined ? 'priority' : undefined
  if (place && (backend === 'dgram' || backend === 'pcap'))
    fail(`${place} is for the receiving thread, and backend '${backend}' receives in this one; leave it out`)
  const cpus = affinity === undefined ? [] : cpusOf(listOf(affinity))
  if (cpus === undefined) return fail(`affinity is ${shown(affinity)}; ${CPUS_RULE}`)
  const rank = priority === undefined ? undefined : priorityOf(priority)
  if (priority !== undefined && rank === undefined) fail(`priority is ${shown(priority)}; ${PRIORITY_RULE}`)
  return {
    affinity: cpus,
    priority: rank,
    maxHeaps: options.maxHeaps ?? DEFAULT_MAX_HEAPS,
    heapMemoryBytes: Math.ceil((options.heapMemoryBytes ?? defaultHeapMemory()) / 4096) * 4096,
    order,
    deliver: options.deliver ?? !(options.verify || options.hash || options.output !== undefined),
  }
}
