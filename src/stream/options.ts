/** The options of openStream, checked once at the edge: unknown keys, wrong types and contradictions never get past here. */
import * as v from 'valibot'
import { SpeadcastError } from '../errors.js'
import type { Split } from '../spead/index.js'
import { IoThread } from './io-thread.js'

export const DEFAULTS = {
  /** UDP payload that fits a 1500-byte MTU over IPv4, as spead2's default. */
  packetSizeBytes: 1472,
  burstBytes: 65536,
  burstRateRatio: 1.05,
  /** A main thread's garbage collection and a busy CPU's time slices are shorter; a source that pauses is longer. */
  catchUpSeconds: 0.05,
  sendBufferBytes: 1 << 20,
  neighbourTimeoutMs: 1000,
  /** An mlx5 ring of 64-byte slots for this many takes 256 KiB. */
  queueDepth: 4096,
  /** About what waking a sleeping thread costs. */
  pollMicroseconds: 50,
  completionTimeoutMs: 5000,
  connectTimeoutMs: 5000,
} as const

const whole = (low: number, high: number, unit: string) => {
  const message = `must be a whole number from ${low} to ${high} (${unit})`
  return v.pipe(
    v.number(message),
    v.check((n) => Number.isInteger(n) && n >= low && n <= high, message),
  )
}

const yesOrNo = v.boolean('must be true or false')

const memoryOptions = v.strictObject(
  {
    keepPackets: v.exactOptional(yesOrNo),
    acceptPerPost: v.exactOptional(whole(1, 2 ** 31, 'packets')),
    pauseNanoseconds: v.exactOptional(whole(0, 1e12, 'nanoseconds')),
    completeAfterReaps: v.exactOptional(whole(1, 2 ** 31, 'reaps')),
    failAt: v.exactOptional(v.function('must be a function of row and substream')),
  },
  'must be an object, see MemoryOptions',
)

const ibverbsOptions = v.strictObject(
  {
    library: v.exactOptional(v.string('must be the name or path of libibverbs')),
    queueDepth: v.optional(whole(16, 65536, 'work requests'), DEFAULTS.queueDepth),
    poll: v.optional(v.picklist(['busy', 'adaptive', 'event'], "must be 'busy', 'adaptive' or 'event'"), 'adaptive'),
    pollMicroseconds: v.optional(whole(0, 1e6, 'microseconds'), DEFAULTS.pollMicroseconds),
    completionVector: v.optional(whole(0, 1023, 'completion vector'), 0),
    completionTimeoutMs: v.optional(whole(10, 600_000, 'milliseconds'), DEFAULTS.completionTimeoutMs),
    vlan: v.exactOptional(
      v.strictObject({ id: whole(1, 4094, 'VLAN id'), priority: v.exactOptional(whole(0, 7, 'priority code point')) }),
    ),
  },
  'must be an object, see IbverbsStreamOptions',
)

/** The options of backends 'ibverbs' and 'rdma-ud' where none are given. */
export const IBVERBS_DEFAULTS = v.parse(ibverbsOptions, {})

const peer = v.strictObject(
  {
    gid: v.exactOptional(v.string('must be a GID, written as an IPv6 or IPv4 address')),
    qpn: whole(2, 2 ** 24 - 1, 'queue pair number'),
    qkey: v.exactOptional(whole(0, 2 ** 32 - 1, 'queue key')),
    lid: v.exactOptional(whole(0, 0xffff, 'local id')),
    mtuBytes: v.exactOptional(whole(256, 65536, 'bytes')),
  },
  'must be { gid, qpn, qkey, lid }',
)

const rdmaUdOptions = v.strictObject(
  {
    device: v.exactOptional(v.string("must be an RDMA device's name, with its port or without: 'mlx5_0:1'")),
    peers: v.exactOptional(v.array(peer, 'must be a list of { gid, qpn, qkey, lid }, one for each endpoint')),
    connectTimeoutMs: v.optional(whole(1, 600_000, 'milliseconds'), DEFAULTS.connectTimeoutMs),
  },
  'must be an object, see RdmaUdStreamOptions',
)

/** The options of backend 'rdma-ud' where none are given. */
export const RDMA_UD_DEFAULTS = v.parse(rdmaUdOptions, {})

const exactSplit = v.strictObject({
  payloadBytes: whole(0, 65507, 'bytes'),
  pointers: v.array(
    v.union(
      [
        v.picklist(['heap-cnt', 'heap-length', 'payload-offset', 'payload-length', 'padding']),
        v.strictObject({ item: whole(0, 2 ** 53 - 1, 'item id'), addressAsImmediate: v.exactOptional(yesOrNo) }),
      ],
      "must be 'heap-cnt', 'heap-length', 'payload-offset', 'payload-length', 'padding' or { item }",
    ),
    'must be a list of pointers',
  ),
  repeat: v.exactOptional(yesOrNo),
})

const countable = v.union([v.number(), v.bigint()], 'must be a whole number, as a bigint beyond 2^53')

const schema = v.strictObject({
  to: v.pipe(
    v.union(
      [v.string(), v.array(v.string("must be an endpoint 'HOST:PORT'"))],
      "must be an endpoint 'HOST:PORT' or a list of them",
    ),
    v.transform((to) => (typeof to === 'string' ? [to] : to)),
  ),
  interface: v.optional(v.string('must be an interface name or address')),
  backend: v.optional(
    v.picklist(
      ['auto', 'ibverbs', 'rdma-ud', 'udp', 'dgram', 'memory', 'pcap'],
      "must be 'auto', 'ibverbs', 'rdma-ud', 'udp', 'dgram', 'memory' or 'pcap'",
    ),
    'auto',
  ),
  thread: v.optional(
    v.union([v.picklist(['worker', 'inline']), v.instance(IoThread)], "must be 'worker', 'inline' or an IoThread"),
  ),
  ioThreads: v.optional(whole(1, 1024, 'I/O threads')),
  affinity: v.optional(v.array(whole(0, 1023, 'CPU number'), 'must be a list of CPU numbers'), []),
  flavour: v.optional(
    v.strictObject(
      {
        heapAddressBits: v.optional(v.number('must be one of 8, 16, 24, 32, 40, 48, 56'), 48),
        bugCompat: v.optional(v.number('must be a sum of BUG_COMPAT flags'), 0),
      },
      'must be an object { heapAddressBits, bugCompat }',
    ),
    { heapAddressBits: 48, bugCompat: 0 },
  ),
  // Its range is checked by openStream, for it has a code of its own.
  packetSizeBytes: v.optional(
    v.pipe(v.number('must be a number of bytes'), v.integer('must be a whole number of bytes')),
    DEFAULTS.packetSizeBytes,
  ),
  split: v.optional(
    v.union([v.picklist(['even', 'greedy']), exactSplit], "must be 'even', 'greedy' or { payloadBytes, pointers, repeat }"),
    'even',
  ),
  repeatPointers: v.optional(yesOrNo, false),
  firstCnt: v.optional(countable, 1),
  cntStep: v.optional(countable, 1),
  descriptors: v.optional(
    v.union(
      [
        v.picklist(['first', 'in-band', 'none']),
        v.strictObject({
          everySeconds: v.pipe(v.number('must be a number of seconds'), v.minValue(0.001, 'must be at least 0.001 (seconds)')),
        }),
      ],
      "must be 'first', 'in-band', 'none' or { everySeconds }",
    ),
    'first',
  ),
  rate: v.optional(
    v.union([v.number(), v.string()], "must be bytes per second, or a string with a unit such as '40Gbps' or '5GB/s'"),
    0,
  ),
  rateMethod: v.optional(v.picklist(['auto', 'sw', 'kernel', 'hw'], "must be 'auto', 'sw', 'kernel' or 'hw'"), 'auto'),
  rateBasis: v.optional(v.picklist(['udp', 'wire'], "must be 'udp' or 'wire'"), 'udp'),
  burstBytes: v.optional(whole(1, 2 ** 31, 'bytes'), DEFAULTS.burstBytes),
  burstRateRatio: v.optional(
    v.pipe(
      v.number('must be a number from 1 up'),
      v.check((ratio) => ratio >= 1 && Number.isFinite(ratio), 'must be at least 1'),
    ),
    DEFAULTS.burstRateRatio,
  ),
  catchUpSeconds: v.optional(
    v.pipe(
      v.number('must be a number of seconds'),
      v.check((seconds) => seconds >= 0 && seconds <= 3600, 'must be from 0 to 3600 (seconds)'),
    ),
    DEFAULTS.catchUpSeconds,
  ),
  ttl: v.optional(whole(0, 255, 'hops')),
  multicastLoop: v.optional(yesOrNo, true),
  dscp: v.optional(whole(0, 63, 'DSCP value')),
  sourcePort: v.optional(whole(0, 65535, 'port'), 0),
  sendBufferBytes: v.optional(whole(0, 2 ** 30, 'bytes'), DEFAULTS.sendBufferBytes),
  allowFragmentation: v.optional(yesOrNo, false),
  segmentation: v.optional(v.picklist(['auto', 'off'], "must be 'auto' or 'off'"), 'auto'),
  udpPath: v.optional(v.picklist(['auto', 'io_uring', 'sendmmsg'], "must be 'auto', 'io_uring' or 'sendmmsg'"), 'auto'),
  neighbourTimeoutMs: v.optional(whole(0, 60_000, 'milliseconds'), DEFAULTS.neighbourTimeoutMs),
  ibverbs: v.optional(ibverbsOptions),
  rdmaUd: v.optional(rdmaUdOptions),
  pcapPath: v.optional(v.string('must be a file path')),
  memory: v.optional(memoryOptions),
  debug: v.optional(yesOrNo, false),
})

/** Of backends 'ibverbs' and 'rdma-ud'. */
export interface IbverbsStreamOptions {
  /** Name or path of libibverbs. Default: the environment's SPEADCAST_VERBS_LIBRARY, then libibverbs.so.1. */
  library?: string
  /** Packets that may be under way at the device. Default 4096, or the device's limit. */
  queueDepth?: number
  /**
   * How completions are noticed: 'adaptive' (default) polls for `pollMicroseconds`, then sleeps until the device calls; 'event' sleeps at
   * once; 'busy' never sleeps while packets are under way and takes a CPU for it.
   */
  poll?: 'busy' | 'adaptive' | 'event'
  /** Default 50. */
  pollMicroseconds?: number
  /** Which of the device's interrupts completions use, modulo their number. Default 0. */
  completionVector?: number
  /** Nothing completed for so long, with packets under way: the queue is reset and their heaps are `unknown`. Default 5000. */
  completionTimeoutMs?: number
  /** 802.1Q tag of the frames, of backend 'ibverbs' alone. Default: that of the interface if it is a VLAN, priority 0. */
  vlan?: { id: number; priority?: number }
}

/** A receiver's queue pair, where no rendezvous tells it. */
export interface RdmaUdPeer {
  /** GID of its port, as an IPv6 address, or the IPv4 address that it stands for (RoCE). Default: the endpoint's address. */
  gid?: string
  qpn: number
  /** Default 0x01234567, which speadcast's receivers take. */
  qkey?: number
  /** Local id of its port, which InfiniBand needs. Default 0. */
  lid?: number
  /** The largest message that it takes. Default: the sending port's MTU. */
  mtuBytes?: number
}

/** Of backend 'rdma-ud'. */
export interface RdmaUdStreamOptions {
  /** RDMA device to send from, with its port or without: 'mlx5_0:1'. Default: the one behind `interface`, or behind the route. */
  device?: string
  /** Where the receivers are, one for each endpoint. Default: they are asked, over TCP at their endpoints. */
  peers?: readonly RdmaUdPeer[]
  /** How long opening waits for their answers. Default 5000. */
  connectTimeoutMs?: number
}

/** What openStream takes. Everything but `to` has a default. */
export interface StreamOptions {
  /** Endpoints, one substream each: 'HOST:PORT', '[::1]:7148', '239.10.10.0+15:7148' (sixteen), or a list of such. */
  to: string | readonly string[]
  /** Interface to send through, by name or by one of its addresses. Default: the route decides. */
  interface?: string
  /**
   * Default 'auto': ibverbs where it can work, else udp on Linux, dgram elsewhere; `stream.reason` says why. Never 'rdma-ud', datagrams of
   * InfiniBand or RoCE, which only a receiver of that kind hears.
   */
  backend?: 'auto' | 'ibverbs' | 'rdma-ud' | 'udp' | 'dgram' | 'memory' | 'pcap'
  /**
   * Who sends: an I/O thread of those that the process's streams share ('worker', default for ibverbs, rdma-ud and udp), one of the
   * program's own, or the caller's event loop ('inline', default for the others).
   */
  thread?: 'worker' | 'inline' | IoThread
  /**
   * How many I/O threads the process's streams share at most: this stream starts another only while there are fewer. Streams with a rate
   * gather on few threads; those without have one each as far as there are threads, and share them fairly by bytes beyond. Default: the CPUs
   * that the process may use, and at least 2.
   */
  ioThreads?: number
  /** CPUs for the I/O thread, which the stream shares with streams of the same affinity only. Default: any. */
  affinity?: readonly number[]
  /** Default SPEAD-64-48 without bug compatibility. Heaps sent with sendHeap bring their own. */
  flavour?: { heapAddressBits?: number; bugCompat?: number }
  /** Largest UDP payload of a packet, SPEAD header and item pointers included. Default 1472, which fits a 1500-byte MTU over IPv4. */
  packetSizeBytes?: number
  /**
   * How heaps are cut into packets. 'even' (default): the fewest packets, all of one size where that is possible, else with a shorter last
   * one; with backend 'udp' and segmentation offload one packet more if that makes all of them equal. 'greedy' cuts as spead2 does. Or an
   * exact layout.
   */
  split?: Split
  /** Every packet carries all item pointers of its heap, whichever way it is sent. Default false: only of a Heap that asks for it. */
  repeatPointers?: boolean
  /** The heap cnt sequence: first value (default 1) and step (default 1), wrapping at the flavour's width. */
  firstCnt?: number | bigint
  cntStep?: number | bigint
  /**
   * How descriptors travel: as heaps of their own before the first batch of an item group ('first', default) and again every so
   * often ({ everySeconds }), in the first heap of each substream of the first batch ('in-band'), or not at all ('none'). Substreams
   * whose descriptors could not be sent have them again with the next batch.
   */
  descriptors?: 'first' | 'in-band' | 'none' | { everySeconds: number }
  /**
   * Bytes per second, or text with a unit ('40Gbps', '5GB/s'), of what `rateBasis` counts. Default 0: as fast as possible.
   * `stream.stats()` tells how far behind it the sender is, and why.
   */
  rate?: number | string
  /**
   * Who keeps the rate: 'sw' this program, 'kernel' the queueing discipline fq below backend 'udp' (tc-fq(8)), 'hw' the device of backend
   * 'ibverbs'. Default 'auto': 'kernel' where packets wait in fq, or mq over fq, and `udpPath` is not 'io_uring', else 'sw'.
   * `stream.stats().states` tells which (`rateMethod`) and why (`rateMethodReason`). Asked for by name, 'kernel' is refused where it cannot be.
   *
   * The kernel sends a segmented message whole: bursts are one message, of `burstBytes` at most and half a second of the rate. It keeps
   * no rate per heap; up to 0.1 s of the rate waits in the socket, whatever `sendBufferBytes` says, and a batch settles before it leaves;
   * a gap is not made up. All endpoints leave by one interface. The rate is that of the largest packets: batches of smaller ones keep
   * less, by what more headers take. When fq goes away while the stream runs, this program paces.
   */
  rateMethod?: 'auto' | 'sw' | 'kernel' | 'hw'
  /**
   * What `rate` counts: 'udp' payload (SPEAD headers and item data, as spead2 counts; default), or all that packets take on the 'wire'
   * (also UDP, IP and Ethernet headers, VLAN tags, frame check sequence, preamble and gap), as a link's capacity is given.
   */
  rateBasis?: 'udp' | 'wire'
  /**
   * UDP payload sent back to back. In any span of time at most this goes out, a packet more, and what `rate` × `burstRateRatio` allows in
   * that span. A smaller one takes more CPU, because the sender wakes up for every burst. Default 65536.
   */
  burstBytes?: number
  /** How much faster than `rate` the sender may go to make up for a delay. Default 1.05. */
  burstRateRatio?: number
  /**
   * How much of the time is made up in which nothing was queued, at `rate` × `burstRateRatio`. Whether the caller was late or had nothing
   * to send cannot be told apart: up to this the caller counts as late, and what lies beyond is forgotten. 0 forgets all of it, as spead2
   * does. A delay while batches are queued is made up whatever its length. Default 0.05.
   */
  catchUpSeconds?: number
  /** TTL or hop limit; 0, for multicast alone, leaves this host's receivers. Default: the system's, 1 for multicast. */
  ttl?: number
  /** Deliver multicast packets to receivers on this host too. Default true. */
  multicastLoop?: boolean
  /** Differentiated services code point (RFC 2474), 0–63. */
  dscp?: number
  /** UDP source port. Default 0: any. */
  sourcePort?: number
  /** Socket send buffer asked for. Default 1 MiB; 0 leaves the system's. `stream.stats()` tells what was granted. */
  sendBufferBytes?: number
  /** Let IP fragment packets beyond the MTU instead of refusing them. Default false. */
  allowFragmentation?: boolean
  /** UDP segmentation offload. Default 'auto'. */
  segmentation?: 'auto' | 'off'
  /**
   * How backend 'udp' hands packets to the kernel: copied by 'sendmmsg', or large messages in huge pages without a copy by 'io_uring'.
   * Default 'auto': io_uring where it is faster. `stream.stats().states` tells which (`udpPath`) and why (`udpPathReason`).
   */
  udpPath?: 'auto' | 'io_uring' | 'sendmmsg'
  /** How long opening waits for unicast neighbours to answer ARP or neighbour discovery. Default 1000. */
  neighbourTimeoutMs?: number
  /** Of backends 'ibverbs' and 'rdma-ud'. */
  ibverbs?: IbverbsStreamOptions
  /** Of backend 'rdma-ud'. */
  rdmaUd?: RdmaUdStreamOptions
  /** Of backend 'pcap': the file to write, nanosecond pcap with Ethernet frames. */
  pcapPath?: string
  /** Of backend 'memory': see MemoryOptions. */
  memory?: object
  /** Detect writing to a batch in flight, by checksums; costs a pass over the data at send and at settlement. Default false. */
  debug?: boolean
}

export type StreamConfig = v.InferOutput<typeof schema> & { readonly rateBytesPerSecond: number }

/** @throws ERR_SPEADCAST_CONFIG naming every offending option, its value and what is allowed. */
export function parseStreamConfig(input: unknown): StreamConfig {
  const result = v.safeParse(schema, input)
  if (!result.success) throw new SpeadcastError('ERR_SPEADCAST_CONFIG', describeIssues(result.issues))
  const config = result.output
  const contradict = (message: string): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message)
  }
  if (config.backend === 'pcap' && config.pcapPath === undefined) contradict("backend 'pcap' needs pcapPath, the file to write")
  if (config.pcapPath !== undefined && config.backend !== 'pcap')
    contradict(`pcapPath is only for backend 'pcap', not '${config.backend}'`)
  if (config.memory !== undefined && config.backend !== 'memory')
    contradict(`memory is only for backend 'memory', not '${config.backend}'`)
  if (config.ibverbs !== undefined && !['ibverbs', 'rdma-ud', 'auto'].includes(config.backend))
    contradict(`ibverbs is only for backends 'ibverbs' and 'rdma-ud', not '${config.backend}'`)
  if (config.rdmaUd !== undefined && config.backend !== 'rdma-ud')
    contradict(`rdmaUd is only for backend 'rdma-ud', not '${config.backend}'`)
  if (config.ibverbs?.vlan && config.backend === 'rdma-ud')
    contradict("ibverbs.vlan tags frames; backend 'rdma-ud' makes none, its VLAN is that of its GID: give the VLAN's interface")
  if (config.sourcePort > 0 && config.backend === 'rdma-ud')
    contradict("sourcePort is of UDP; backend 'rdma-ud' sends from a queue pair, leave it out")
  if (config.udpPath !== 'auto' && config.backend !== 'udp' && config.backend !== 'auto')
    contradict(`udpPath is only for backend 'udp', not '${config.backend}'`)
  if (config.rateMethod === 'hw' && config.backend !== 'ibverbs')
    contradict("rateMethod 'hw' is pacing by the device: it needs backend 'ibverbs'")
  const rateBytesPerSecond = parseRate(config.rate)
  if (config.rateMethod === 'kernel') {
    if (config.backend !== 'udp') contradict("rateMethod 'kernel' is pacing by the queue below a socket: it needs backend 'udp'")
    if (rateBytesPerSecond === 0) contradict("rateMethod 'kernel' needs a rate; give openStream one")
    if (config.udpPath === 'io_uring')
      contradict(
        "rateMethod 'kernel' lets packets wait, and udpPath 'io_uring' lends their memory meanwhile; leave one of the two out",
      )
  }
  if (config.allowFragmentation && (config.backend === 'ibverbs' || config.backend === 'rdma-ud'))
    contradict(`backend '${config.backend}' passes by the kernel and never fragments; leave allowFragmentation out`)
  if (config.ttl === 0 && (config.backend === 'ibverbs' || config.backend === 'rdma-ud'))
    contradict(`ttl is 0, which keeps packets on this host; backend '${config.backend}' passes by its kernel and needs at least 1`)
  if (config.backend === 'dgram' && config.thread !== undefined && config.thread !== 'inline')
    contradict("backend 'dgram' runs on the event loop; leave thread out or use 'inline'")
  if (config.affinity.length > 0 && config.thread instanceof IoThread)
    contradict('affinity is for a shared I/O thread, and thread is one of your own; give it to new IoThread instead')
  if (config.ioThreads !== undefined && (config.thread instanceof IoThread || config.thread === 'inline'))
    contradict('ioThreads is for shared I/O threads; leave it out, or leave thread out')
  return { ...config, rateBytesPerSecond }
}

function describeIssues(issues: readonly v.BaseIssue<unknown>[]): string {
  return issues
    .flatMap((issue) => precise(issue))
    .map(({ path, issue }) => {
      const name = path.join('.')
      if (path.length === 0)
        return `openStream: the options are ${issue.received}; give an object such as { to: '239.10.0.1:7148' }`
      if (issue.type === 'strict_object' && issue.expected === 'never')
        return `unknown option '${name}'; known ones: ${optionNames(...path.slice(0, -1)).join(', ')}`
      if (issue.received === 'undefined')
        return `option '${name}' is missing${name === 'to' ? "; give it the endpoints, 'HOST:PORT'" : ''}`
      return `option '${name}' is ${issue.received}; ${issue.message}`
    })
    .join('; ')
}

type Place = { readonly path: readonly string[]; readonly issue: v.BaseIssue<unknown> }

/** Where one of several forms fits but for something inside it, what is wrong there: `split.payloadBytes` rather than `split`. */
function precise(issue: v.BaseIssue<unknown>, outer: readonly string[] = []): Place[] {
  const path = [...outer, ...(issue.path ?? []).map(({ key }) => String(key))]
  const inside = issue.type === 'union' ? (issue.issues ?? []).filter((inner) => inner.path) : []
  return inside.length > 0 ? inside.flatMap((inner) => precise(inner, path)) : [{ path, issue }]
}

/** What valibot's schemas of objects, optional, alternative and listed things have in common; a picklist's options are strings. */
interface SchemaNode {
  readonly entries?: Readonly<Record<string, SchemaNode>>
  readonly wrapped?: SchemaNode
  readonly options?: readonly (SchemaNode | string)[]
  readonly item?: SchemaNode
}

function entriesOf(node: SchemaNode | string | undefined): SchemaNode['entries'] {
  if (typeof node !== 'object') return undefined
  return node.entries ?? entriesOf(node.wrapped) ?? entriesOf(node.item) ?? node.options?.map(entriesOf).find(Boolean)
}

/** Names of the stream's options; of those inside one of them: optionNames('flavour'). Empty where there are none. */
export function optionNames(...within: readonly string[]): string[] {
  let entries = entriesOf(schema as unknown as SchemaNode)
  for (const name of within) if (!/^\d+$/.test(name)) entries = entriesOf(entries?.[name])
  return Object.keys(entries ?? {})
}

const UNITS: Readonly<Record<string, number>> = {
  bps: 1 / 8, kbps: 1e3 / 8, Mbps: 1e6 / 8, Gbps: 1e9 / 8, Tbps: 1e12 / 8,
  'B/s': 1, 'kB/s': 1e3, 'MB/s': 1e6, 'GB/s': 1e9, 'KiB/s': 1024, 'MiB/s': 2 ** 20, 'GiB/s': 2 ** 30,
} // biome-ignore format: a table

/**
 * A rate in bytes per second of UDP payload: a number, or text with a unit ('40Gbps', '5GB/s', '100 MiB/s'). 0 = as fast as possible.
 * @throws ERR_SPEADCAST_CONFIG
 */
export function parseRate(rate: number | string): number {
  if (typeof rate === 'number') {
    if (rate >= 0 && Number.isFinite(rate)) return rate
    throw new SpeadcastError(
      'ERR_SPEADCAST_CONFIG',
      `rate is ${rate}; it must be a number of bytes per second, 0 for as fast as possible`,
    )
  }
  const match = /^\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([A-Za-z/]*)\s*$/.exec(rate)
  if (match && Number(match[1]) === 0) return 0
  const unit = match && UNITS[match[2]!]
  if (unit && Number.isFinite(Number(match[1]) * unit)) return Number(match[1]) * unit
  throw new SpeadcastError(
    'ERR_SPEADCAST_CONFIG',
    `rate '${rate}' ${unit ? 'is too large' : 'has no known unit'}; write it as 10Gbps or 1.25GB/s (units: ${Object.keys(UNITS).join(', ')})`,
  )
}
