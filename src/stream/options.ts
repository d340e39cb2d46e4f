/** The options of openStream, and their defaults. config.ts checks them. */
import type { MemoryOptions } from '../backend/memory.js'
import type { BackendChoice } from '../backend/names.js'
import type { Split } from '../spead/index.js'
import type { IoThread, IoThreadOptions } from './io-thread.js'
import type { PathChange } from './path-change.js'
import type { RateText } from './rate.js'
import type { StreamClockOptions } from './stream-clock-options.js'

/** Defaults of `StreamOptions` and of its parts. */
export const DEFAULTS = {
  /** UDP payload that fits a 1500-byte MTU over IPv4, as spead2's default. */
  packetSizeBytes: 1472,
  /** Bytes of one full message of segmentation offload. */
  burstBytes: 65536,
  /** Catches up with a delay in twenty times its length. */
  burstRateRatio: 1.05,
  /** A main thread's garbage collection and a busy CPU's time slices are shorter; a source that pauses is longer. */
  catchUpSeconds: 0.05,
  /** Bytes of SO_SNDBUF that are asked for. */
  sendBufferBytes: 1 << 20,
  /** Milliseconds; Linux asks three times in that time. */
  neighbourTimeoutMs: 1000,
  /** An mlx5 ring of 64-byte slots for this many takes 256 KiB. */
  queueDepth: 4096,
  /** About what waking a sleeping thread costs. */
  pollMicroseconds: 50,
  /** Milliseconds in which a device that works completes something. */
  completionTimeoutMs: 5000,
  /** Milliseconds in which a receiver's queue pair is told, or a TCP connection is made. */
  connectTimeoutMs: 5000,
  /** Milliseconds: a program that is started again listens after some hundred. */
  reconnectDelayMs: 100,
  /** Milliseconds. */
  reconnectDelayMaxMs: 5000,
  /** A program is started again by then. */
  reconnectSeconds: 60,
  /** A queue that was full has room by then. */
  firstBackoffSeconds: 0.001,
  /** Four tries a second cost nothing. */
  mostBackoffSeconds: 0.25,
  /** A link is up again by then, and a host by other means is not. */
  retrySeconds: 10,
  /** The pauses between them grow to 6.4 s. */
  mostThreads: 5,
  /** More than those pauses together. */
  threadsWithinSeconds: 60,
} as const

/**
 * The fate of packets to an endpoint that the system or the device refuses, in full. `StreamOptions.onError` has the short forms.
 * @example await openStream({ to: '10.0.0.5:7148', onError: { policy: 'retry', forSeconds: 60, atEnd: 'skip' } })
 */
export interface OnErrorOptions {
  /** 'fail', 'skip' or 'retry', as `StreamOptions.onError` has them. The other options are of 'retry'. */
  policy: 'fail' | 'skip' | 'retry'
  /** The pause before a refused packet is posted again, from 0.00001 to 3600; each further one is twice as long. Default 0.001. */
  firstBackoffSeconds?: number
  /** The longest pause, from `firstBackoffSeconds` to 3600. Default 0.25. */
  mostBackoffSeconds?: number
  /**
   * How long to go on after the last packet that got through; Infinity: for ever. All heaps that wait fail then, and later packets are posted
   * once each, until one gets through. Default 10.
   */
  forSeconds?: number
  /** Post packets again of which nobody knows whether they left, so that they may arrive twice. Default false. */
  duplicates?: boolean
  /** The heaps that failed in the end fail their send, or are left out of it. Default 'fail'. */
  atEnd?: 'fail' | 'skip'
}

/** The fate of packets to an endpoint that are refused. */
export type OnError = OnErrorOptions['policy'] | OnErrorOptions

/**
 * How a stream outlives its I/O thread, in full.
 * @example await openStream({ to: '10.0.0.5:7148', onThreadDeath: { policy: 'restart', most: 20, withinSeconds: 3600 } })
 */
export interface ThreadDeathOptions {
  /** 'fail' or 'restart', as `StreamOptions.onThreadDeath` has them. The other options are of 'restart'. */
  policy: 'fail' | 'restart'
  /** How many new threads there may be within `withinSeconds`, those that cannot be started included; the next death ends the stream. Default 5. */
  most?: number
  /** Default 60. */
  withinSeconds?: number
}

/**
 * Options of backends 'ibverbs' and 'rdma-ud'.
 * @example await openStream({ to: '239.10.0.1:7148', interface: 'eth0', backend: 'ibverbs', ibverbs: { poll: 'busy' } })
 */
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
  /** How long 'adaptive' polls before it sleeps. Default 50. */
  pollMicroseconds?: number
  /** The device's interrupt for completions, by its number modulo how many there are. Default 0. */
  completionVector?: number
  /**
   * How long nothing may complete with packets under way, or longer while the port is held up or the device paces slowly. Then the queue is put
   * in error and reset: the first packet fails with ETIMEDOUT and the rest are `flushed`; all are `unknown` if the device does not even report
   * that. Default 5000.
   */
  completionTimeoutMs?: number
  /**
   * Tag of the frames, the innermost if there are several, with backend 'ibverbs' alone. Default: that of the interface if it is a VLAN,
   * priority 0.
   */
  vlan?: {
    /** VLAN id, 1 to 4094 (IEEE 802.1Q). */
    id: number
    /** Priority code point, 0 to 7. Default 0. */
    priority?: number
  }
}

/**
 * A receiver's queue pair, where no rendezvous tells it.
 * @example const peers: RdmaUdPeer[] = [{ gid: '10.0.0.5', qpn: 17 }]
 */
export interface RdmaUdPeer {
  /** GID of its port, as an IPv6 address, or the IPv4 address that it stands for (RoCE). Default: the endpoint's address. */
  gid?: string
  /** Number of its queue pair. */
  qpn: number
  /** Its key. Default 0x01234567, which speadcast's receivers take. */
  qkey?: number
  /** Local id of its port, which InfiniBand needs. Default 0. */
  lid?: number
  /** The largest message that it takes. Default: the sending port's MTU. */
  mtuBytes?: number
}

/**
 * Options of backend 'rdma-ud'.
 * @example await openStream({ to: '10.0.0.5:7148', backend: 'rdma-ud', rdmaUd: { device: 'mlx5_0:1' } })
 */
export interface RdmaUdStreamOptions {
  /** RDMA device to send from, with its port or without: 'mlx5_0:1'. Default: the one behind `interface`, or behind the route. */
  device?: string
  /** Where the receivers are, one for each endpoint. Default: they are asked, over TCP at their endpoints. */
  peers?: readonly RdmaUdPeer[]
  /** How long opening waits for their answers. Default 5000. */
  connectTimeoutMs?: number
}

/**
 * Options of backend 'tcp'.
 * @example await openStream({ to: 'tcp://10.0.0.5:7148', tcp: { reconnect: 'retry', reconnectSeconds: 600 } })
 */
export interface TcpStreamOptions {
  /** How long opening, and each attempt to connect again, waits for a receiver to accept the connection. Default 5000. */
  connectTimeoutMs?: number
  /**
   * Decides what follows the loss of a connection. Either way, all heaps to its endpoint that were sent before the stream knew of the loss, and were
   * not acknowledged, fail. 'fail' (default): all later ones fail too. 'retry': the stream connects again, and tells the new receiver the
   * descriptors first. Meanwhile sends to the only endpoint wait; with several endpoints, heaps to the one that is away fail, and the others go on.
   */
  reconnect?: 'fail' | 'retry'
  /** The pause before the first attempt to connect again; each attempt that fails doubles it. Default 100. */
  reconnectDelayMs?: number
  /** The longest such pause. Default 5000. */
  reconnectDelayMaxMs?: number
  /**
   * How long after a loss it goes on trying. Then heaps that wait fail, and all later ones, as with 'fail'. `Infinity`: as long as the stream is
   * open. Default 60.
   */
  reconnectSeconds?: number
}

/**
 * A socket of yours for a stream to send by.
 * @example await openStream({ socket: { fd: 3 }, to: '239.10.0.1:7148' })
 */
export interface StreamSocket {
  /**
   * The descriptor of a UDP socket or of a connected TCP socket. The stream uses a duplicate (dup(2)) and closes only that: close yours when you
   * like.
   */
  fd: number
}

/**
 * How descriptors travel in heaps of their own.
 * @example await openStream({ to: '239.10.0.0+15:7148', descriptors: { everySeconds: 5, stagger: true } })
 */
export interface DescriptorOptions {
  /** How often they are sent again, by a timer: also while nothing else is sent, and between the heaps of a long batch. Default: not. */
  everySeconds?: number
  /**
   * First heap cnt of a sequence of their own, below 2^53, so that the heap cnts of data do not depend on when descriptors go. Choose one that
   * data heaps do not reach, such as 2 ** 47. Default: they take the next of the stream's.
   */
  firstCnt?: number
  /** From one heap cnt of their own sequence to the next, as several senders of one stream need it. Default 1. */
  cntStep?: number
  /** Repeats go to one substream after the other, evenly over `everySeconds`, instead of to all at once. Default false. */
  stagger?: boolean
}

/**
 * Options of openStream. All but `to` have a default. `Bits` are the flavour's heap address bits.
 * @example await openStream({ to: '239.10.10.0+15:7148', interface: 'eth0', ttl: 4, rate: '25Gbps', packetSizeBytes: 8972 })
 */
export interface StreamOptions<Bits extends number = number> {
  /**
   * Endpoints, one substream each: 'HOST:PORT', '[::1]:7148', '239.10.10.0+15:7148' (sixteen), or a list of such. 'tcp://HOST:PORT' is a
   * receiver that packets go to over a TCP connection.
   */
  to: string | readonly string[]
  /** Interface to send through, by name or by one of its addresses. Default: the route decides. */
  interface?: string
  /**
   * The way of sending. Default 'auto': ibverbs where it can work, else udp on Linux, dgram elsewhere; `stream.reason` says why. Never
   * 'rdma-ud', datagrams of InfiniBand or RoCE, which only a receiver of that kind hears.
   */
  backend?: BackendChoice
  /**
   * The thread that sends: an I/O thread of those that the process's streams share ('worker', default for ibverbs, rdma-ud and udp), one of the
   * program's own, or the caller's event loop ('inline', default for the others).
   */
  thread?: 'worker' | 'inline' | IoThread
  /**
   * How many I/O threads the process's streams share at most: this stream starts another only while there are fewer. Streams with a rate
   * gather on few threads; those without have one each as far as there are threads, and share them fairly by bytes beyond. Default: the CPUs
   * that the process may use, and at least 2.
   */
  ioThreads?: number
  /** CPUs for the I/O thread, which the stream shares with streams of the same affinity and priority only. Default: any. */
  affinity?: readonly number[]
  /**
   * The I/O thread's priority, as of `new IoThread`: a nice value, or a real-time priority such as 'rr:10', which takes CAP_SYS_NICE or a limit
   * (RLIMIT_RTPRIO). A thread with one goes before all others of its CPU and never spins for work. Default: the process's.
   */
  priority?: IoThreadOptions['priority']
  /** Default SPEAD-64-48 without bug compatibility. Heaps sent with sendHeap bring their own. */
  flavour?: {
    /** Width of heap cnts, addresses and immediates: 8, 16, … 56. Default 48. */
    heapAddressBits?: Bits
    /** Sum of `BUG_COMPAT` flags. Default 0. */
    bugCompat?: number
  }
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
  /** First heap cnt of the sequence. Default 1. */
  firstCnt?: number | bigint
  /** From one heap cnt to the next, wrapping at the flavour's width. Default 1. */
  cntStep?: number | bigint
  /**
   * How descriptors travel: as heaps of their own before the first batch of an item group ('first', default) and again every so
   * often ({ everySeconds }, also the items of heaps sent by sendHeap), in the first heap of each substream of the first batch ('in-band'), or not
   * at all ('none'). Substreams whose descriptors could not be sent have them again with the next batch.
   */
  descriptors?: 'first' | 'in-band' | 'none' | DescriptorOptions
  /**
   * Bytes of headers and payload that sends may hold before they have settled. A send is taken while fewer are queued, so what is queued exceeds
   * the bound by less than one send. `stream.ready` tells when there is room, and `stream.stats().queuedBytes` how much is queued. Default: no bound.
   */
  maxQueuedBytes?: number
  /**
   * Decides about a send while `maxQueuedBytes` are queued. 'reject' (default): its promise rejects with ERR_SPEADCAST_QUEUE_FULL, and nothing is
   * queued. 'wait': it waits for its turn without memory of its own. Heaps of `sendHeap` and `sendHeaps` must keep their values until the promise
   * settles, because the values are copied only when it is their turn.
   */
  queueFull?: 'reject' | 'wait'
  /**
   * Bytes per second, or text with a unit ('40Gbps', '890 Mb/s', '5GB/s'), of what `rateBasis` counts; '50%' is a share of the speed that the
   * link tells. Default 0: as fast as possible. A text from elsewhere goes through `parseRate`. A number below 1000 is warned of (SPEADCAST_UNIT): `rate: 10` is 10 bytes a second.
   * `stream.stats()` tells how far behind it the sender is, and why.
   */
  rate?: number | RateText
  /**
   * The keeper of the rate: 'sw' this program, 'kernel' the queueing discipline fq below backend 'udp' (tc-fq(8)), 'hw' the device of backend
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
   * `rate` counts 'udp' payload (SPEAD headers and item data, as spead2 counts; default), or all that packets take on the 'wire'
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
   * How much is made up of a time in which nothing was queued, at `rate` × `burstRateRatio`. The sender cannot tell a caller that was late from
   * one that had nothing to send: up to this time it counts as late, and the rest of the time is forgotten. 0 forgets all of it, as spead2
   * does. A delay while batches are queued is made up whatever its length. Default 0.05.
   */
  catchUpSeconds?: number
  /** The observation clock: timestamps say when heaps are due, instead of a rate. Heaps then go in batches. Linux only. Default: none. */
  clock?: StreamClockOptions
  /**
   * Tells of a 'lag' event (`stream.events`) when packets go later than this after they were due, and again when they are late by at most half
   * of it. For streams whose rate this program keeps. It is looked at whenever a send settles and 10 times a second, and only while somebody
   * listens. Default: nobody is told.
   */
  lagBoundSeconds?: number
  /** TTL or hop limit. 0 is for multicast alone, and keeps packets on this host. Default: the system's, 1 for multicast. */
  ttl?: number
  /**
   * Deliver multicast packets to receivers on this host too. Default true. Backends 'ibverbs' and 'rdma-ud' refuse false where the device may do
   * so by itself (docs/ibverbs.md, "The host").
   */
  multicastLoop?: boolean
  /** Differentiated services code point (RFC 2474), 0–63. Default: the system's, 0. */
  dscp?: number
  /** UDP source port. Default 0: any. */
  sourcePort?: number
  /**
   * Share `sourcePort` with other sockets that are asked the same (SO_REUSEADDR and SO_REUSEPORT), such as another stream. An ICMP answer to a
   * packet of one of them may reach another. Default false.
   */
  reusePort?: boolean
  /** Allow endpoints that are IPv4 broadcast addresses (SO_BROADCAST). Default false. Backend 'ibverbs' sends to them in any case. */
  broadcast?: boolean
  /** Socket send buffer asked for. Default 1 MiB, with backend 'tcp' 0; 0 leaves the system's. `stream.stats()` tells what was granted. */
  sendBufferBytes?: number
  /** Let IP fragment packets beyond the MTU instead of refusing them. Default false. */
  allowFragmentation?: boolean
  /** UDP segmentation offload (udp(7), UDP_SEGMENT). Default 'auto': where the kernel takes it. */
  segmentation?: 'auto' | 'off'
  /**
   * How backend 'udp' hands packets to the kernel: copied by 'sendmmsg', or large messages in huge pages without a copy by 'io_uring'.
   * Default 'auto': io_uring where it is faster. `stream.stats().states` tells which (`udpPath`) and why (`udpPathReason`).
   */
  udpPath?: 'auto' | 'io_uring' | 'sendmmsg'
  /** How long opening waits for unicast neighbours to answer ARP or neighbour discovery. Default 1000. */
  neighbourTimeoutMs?: number
  /**
   * Called when packets take another way from now on, or can go no more: a route, an interface or an address has changed. Default: nobody is;
   * `stream.stats().states` tells the last change all the same (`lastPathChange`).
   */
  onPathChange?: (change: PathChange) => void
  /**
   * The fate of packets that the system or the device refuses, for all endpoints, or a list with an entry for each: 'fail' (default), so that the
   * send rejects with the fate of every heap; 'skip', so that it goes on without these heaps, and its result counts them; 'retry', so that
   * they wait and are posted again in their order, while those to other endpoints go on, and fail after 10 s. An object says how.
   * What fails the whole batch or the stream fails in any case. With backend 'tcp', `tcp.reconnect` is in the place of 'retry'.
   */
  onError?: OnError | readonly OnError[]
  /**
   * What becomes of the stream when the I/O thread that sends for it dies. 'fail' (default): all that was queued rejects with ERR_SPEADCAST_WORKER, and
   * the stream is dead. 'restart': what was under way rejects so, with the fate of every heap; what waits for its turn goes on in a new thread, at
   * once, and after growing pauses where that dies too. A loop that runs ends. An object says how often. docs/outcomes.md has more.
   */
  onThreadDeath?: 'fail' | 'restart' | ThreadDeathOptions
  /** For backends 'ibverbs' and 'rdma-ud'. */
  ibverbs?: IbverbsStreamOptions
  /** For backend 'rdma-ud'. */
  rdmaUd?: RdmaUdStreamOptions
  /** For backend 'tcp'. */
  tcp?: TcpStreamOptions
  /**
   * The socket to send by, instead of one that the stream makes: a UDP socket with the port and the options that it has, or a connected TCP
   * socket. `to` may be left out where the socket is connected. Linux only. Default: the stream makes its own.
   */
  socket?: StreamSocket
  /** For backend 'pcap': the file to write, nanosecond pcap with Ethernet frames. */
  pcapPath?: string
  /** For backend 'memory': faults to inject, and whether it keeps packets. */
  memory?: Omit<MemoryOptions, 'substreams' | 'family'>
  /** Detect writing to a batch in flight, by checksums; costs a pass over the data at send and at settlement. Default false. */
  debug?: boolean
}

/**
 * Options of openStream with a socket that is connected, whose peer is the endpoint.
 * @example await openStream({ socket: { fd: 3 }, packetSizeBytes: 65000 })
 */
export type ConnectedSocketOptions<Bits extends number = number> = Omit<StreamOptions<Bits>, 'to'> & {
  /** The connected socket. */
  socket: StreamSocket
}
