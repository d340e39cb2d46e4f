/**
 * The rate of a UDP stream, kept by the kernel: SO_MAX_PACING_RATE (socket(7)) where packets wait in fq (tc-fq(8)). Without fq the
 * kernel ignores that option in silence. So opening a stream looks for fq first, and the stream looks again while it runs.
 *
 * | state  | paced by                                     | next                                             |
 * |--------|----------------------------------------------|--------------------------------------------------|
 * | kernel | fq; `room` only bounds how much it is given   | sw when fq is there no more                       |
 * | sw     | `room`, a burst at a time                     | kernel when fq is back                            |
 *
 * Facts of net/sched/sch_fq.c that this relies on:
 * - A socket that is not connected is one flow for each destination, and every flow may have the socket's rate. So the socket is
 *   connected to its first destination, even if it sends to others, and all packets leave by one interface. Another socket hears
 *   of the others (sockets.ts).
 * - fq lets a message take a second at most, however long it should take: messages are kept shorter than that.
 * - A segmented message leaves whole, and waits as one packet of the flow's limit.
 * - Bytes are those of the frames, with every segment's headers, without preamble, FCS and gap (qdisc_pkt_len_init).
 * - fq does not make up for a gap, but for half the time of a message.
 * - A socket's rate can be lowered and not raised (sk_setsockopt).
 */
import { performance } from 'node:perf_hooks'
import { OPT } from '../../../ffi/layout.js'
import type { UdpSocket } from '../../../ffi/socket/udp-socket.js'
import type { PacketTable } from '../../batch/table.js'
import { type FairQueue, fairQueueOf, fairQueueRemedy } from '../../net/fair-queue.js'
import { largestPacketSizeBytes, type Path } from '../../net/route.js'
import { LeakyBucket } from '../leaky-bucket.js'
import type { States, StateWords } from '../states.js'

export interface PaceOptions {
  /** How many bytes of each packet the rate counts beside its UDP payload. */
  readonly countedHeaderBytes: number
  readonly rateBytesPerSecond: number
  /** The longest message, unless a single packet is longer. */
  readonly burstBytes: number
  /** Opening fails where the kernel cannot keep the rate; otherwise the engine paces. */
  readonly required: boolean
}

/** How much of the rate waits in the kernel, if fq's limit lets it: the thread that fills it up may be late by half of that. */
const QUEUE_SECONDS = 0.1
/** The share of fq's limit that messages take; the rest is for messages that are shorter than most. */
const LIMIT_SHARE = 0.75
const LEAST_MESSAGES = 2
/** fq lets a message take one second; messages are planned to take this share of it. */
const MESSAGE_SECONDS = 0.5
/** Bytes that a message is charged to its socket beside its own: struct sk_buff, skb_shared_info and headers, in slabs. */
const OVERHEAD_BYTES = 768
/** How much more than the socket's buffer the bucket holds, because OVERHEAD_BYTES is a guess. */
const BUCKET_RATIO = 1.5
/** UDP header, and IPv4 (RFC 791) or IPv6 (RFC 8200) without options. */
const HEADER_BYTES = { 4: 28, 6: 48 } as const

export interface Departure {
  readonly paths: readonly Path[]
  readonly packetSizeBytes: number
  /** The socket's own address is given, and not a matter of the route. */
  readonly bound: boolean
}

/** The one fq by which the kernel can keep the rate of such packets; or why there is none, and the remedy. */
export function findFairQueue({ paths, packetSizeBytes, bound }: Departure, options: PaceOptions): FairQueue | string {
  const [first, ...others] = paths as [Path, ...Path[]]
  const elsewhere = others.find(({ ifindex }) => ifindex !== first.ifindex)
  if (elsewhere)
    return `packets to ${first.to} leave by ${first.interfaceName} and those to ${elsewhere.to} by ${elsewhere.interfaceName}, and each would pace by itself`
  const another = bound ? undefined : others.find(({ sourceAddress }) => sourceAddress !== first.sourceAddress)
  if (another)
    return `packets to ${first.to} are from ${first.sourceAddress} and those to ${another.to} from ${another.sourceAddress}, and a socket that is paced has one address; give the interface`
  const { mtu, family } = first
  if (packetSizeBytes > largestPacketSizeBytes(mtu, family)) return `packets of ${packetSizeBytes} bytes are sent in fragments`
  const queue = fairQueueOf(first.ifindex)
  if (typeof queue === 'string') return queue
  const { rateBytesPerSecond } = options
  if (rateBytesPerSecond * MESSAGE_SECONDS < packetSizeBytes)
    return `a packet of ${packetSizeBytes} bytes takes ${packetSizeBytes / rateBytesPerSecond} s, and fq lets none take more than 1`
  const wanted = frameRate(options, packetSizeBytes + options.countedHeaderBytes, 1, frameHeaderBytes(family, queue))
  if (queue.maxRateBytesPerSecond < wanted)
    return `fq of ${queue.interfaceName} lets a socket have ${queue.maxRateBytesPerSecond} bytes/s (maxrate); ${fairQueueRemedy(queue.interfaceName, ` maxrate ${8 * wanted}bit`)}`
  return queue
}

const frameHeaderBytes = (family: 4 | 6, { linkHeaderBytes }: FairQueue): number => linkHeaderBytes + HEADER_BYTES[family]

/** Bytes of frames a second, as fq counts them, at which `packets` packets keep a rate that counts `countedBytes` of them together. */
export function frameRate(
  { rateBytesPerSecond, countedHeaderBytes }: Pick<PaceOptions, 'rateBytesPerSecond' | 'countedHeaderBytes'>,
  countedBytes: number,
  packets: number,
  headerBytes: number,
): number {
  return Math.floor((rateBytesPerSecond * (countedBytes + packets * (headerBytes - countedHeaderBytes))) / countedBytes)
}

const rowOf = (message: number, firstRow: Uint32Array | undefined): number => (firstRow ? firstRow[message]! : message)

export class KernelPace {
  /** No message may have more UDP payload. */
  readonly maxMessageBytes: number
  readonly #states: States
  readonly #socket: UdpSocket
  readonly #options: PaceOptions
  readonly #find: () => FairQueue | string
  /** In milliseconds. */
  readonly #clock: () => number
  readonly #bucket: LeakyBucket
  #queue: FairQueue
  /** Why fq does not pace; empty = it does. */
  #trouble = ''
  /** As SO_MAX_PACING_RATE is set. */
  #frameRate = Number.POSITIVE_INFINITY
  /** The posting with the most bytes: how many, and how many a message of it has. */
  #postingBytes = 0
  #messageBytes = 0
  /** Nothing goes until the bucket is half empty. */
  #full = false
  #waitMs = 0

  /** @param find looks for fq again */
  constructor(
    socket: UdpSocket,
    options: PaceOptions,
    queue: FairQueue,
    find: () => FairQueue | string,
    states: States,
    clock: () => number = () => performance.now(),
  ) {
    this.#clock = clock
    const { rateBytesPerSecond, burstBytes } = options
    this.#socket = socket
    this.#options = options
    this.#queue = queue
    this.#find = find
    this.#bucket = new LeakyBucket(rateBytesPerSecond, burstBytes)
    this.maxMessageBytes = Math.max(1, Math.min(burstBytes, Math.floor(rateBytesPerSecond * MESSAGE_SECONDS)))
    this.#states = states
    states.add(() => this.#words())
  }

  get byKernel(): boolean {
    return this.#trouble === ''
  }

  /** The interface where packets wait. */
  get ifindex(): number {
    return this.#queue.ifindex
  }

  #words(): StateWords {
    const { interfaceName, flowLimit } = this.#queue
    return {
      // The kernel reports twice what was asked for (socket(7), SO_SNDBUF).
      sendBufferBytes: this.#socket.getOption(OPT.SO_SNDBUF) / 2,
      rateMethod: this.byKernel ? 'kernel' : 'sw',
      rateMethodReason: this.#trouble || `fq of ${interfaceName}, which holds up to ${flowLimit} messages`,
      ...(this.#frameRate < Number.POSITIVE_INFINITY && { frameBytesPerSecond: this.#frameRate }),
    }
  }

  /** Looks again for fq. */
  judge(): void {
    const found = this.#find()
    this.#states.change()
    this.#trouble = typeof found === 'string' ? found : ''
    if (typeof found !== 'string') this.#queue = found
    this.#tune()
  }

  /**
   * Takes note of a table that is to be posted as `messages` messages; returns `countedBefore`, for `room`. The rate of frames follows from
   * the sizes of packets. It becomes that of the table with the largest, because it cannot be raised again: the rate asked for comes out
   * there, and less where headers are a larger share.
   */
  compiled({ udpBytes, rows }: PacketTable, messages: number): Float64Array {
    const { countedHeaderBytes } = this.#options
    const before = new Float64Array(rows + 1)
    for (let r = 0; r < rows; r++) before[r + 1] = before[r]! + udpBytes[r]! + countedHeaderBytes
    const bytes = before[rows]!
    const rate = frameRate(this.#options, bytes, rows, frameHeaderBytes(this.#socket.family, this.#queue))
    if (rate < this.#frameRate) {
      this.#frameRate = rate
      this.#socket.setOption(OPT.SO_MAX_PACING_RATE, new Uint8Array(BigUint64Array.of(BigInt(rate)).buffer))
      this.#states.change()
    }
    if (bytes > this.#postingBytes) {
      this.#postingBytes = bytes
      this.#messageBytes = bytes / messages
      this.#tune()
      this.#states.change()
    }
    return before
  }

  /**
   * Sizes the socket's buffer, of which the kernel is told half, for QUEUE_SECONDS of the rate and no more messages than fq takes, and the
   * bucket for all that the buffer holds.
   */
  #tune(): void {
    if (this.#messageBytes === 0) return
    const { rateBytesPerSecond, burstBytes } = this.#options
    const wanted = (rateBytesPerSecond * QUEUE_SECONDS) / this.#messageBytes
    const messages = Math.max(LEAST_MESSAGES, Math.min(wanted, this.#queue.flowLimit * LIMIT_SHARE))
    const bytes = Math.ceil((messages * (this.#messageBytes + OVERHEAD_BYTES)) / 2)
    if (this.#socket.tryOption(OPT.SO_SNDBUFFORCE, bytes) !== 0) this.#socket.setOption(OPT.SO_SNDBUF, bytes)
    const payload = (this.#socket.getOption(OPT.SO_SNDBUF) * this.#messageBytes) / (this.#messageBytes + OVERHEAD_BYTES)
    this.#bucket.capacityBytes = this.byKernel ? BUCKET_RATIO * payload + this.maxMessageBytes : burstBytes
  }

  /** After `room` returned 0: how long no message may go. */
  get waitNanoseconds(): number {
    return Math.ceil(this.#waitMs * 1e6)
  }

  /**
   * How many of `count` messages from `from` on may go now; message m begins at row firstRow[m], or is row m, and countedBefore[r] bytes
   * come before row r. While fq paces, this holds back only messages for which fq has no room yet if the rate is kept. So packets that fail
   * take their time too, and an fq that is gone, which nobody has noticed yet, lets no more through than it held.
   */
  room(countedBefore: Float64Array, firstRow: Uint32Array | undefined, from: number, count: number): number {
    const bucket = this.#bucket
    const level = bucket.level(this.#clock())
    const { capacityBytes } = bucket
    if (this.#full && level > capacityBytes / 2) {
      this.#waitMs = bucket.msUntil(capacityBytes / 2)
      return 0
    }
    this.#full = false
    const limit = countedBefore[rowOf(from, firstRow)]! + capacityBytes - level
    let fit = 0
    for (let high = count; fit < high; ) {
      const middle = fit === 0 && high === count ? count : (fit + high + 1) >> 1
      if (countedBefore[rowOf(from + middle, firstRow)]! <= limit) fit = middle
      else high = middle - 1
    }
    if (fit > 0) return fit
    if (level === 0) return 1
    this.#full = this.byKernel
    const next = countedBefore[rowOf(from + 1, firstRow)]! - countedBefore[rowOf(from, firstRow)]!
    this.#waitMs = bucket.msUntil(this.#full ? capacityBytes / 2 : Math.max(0, capacityBytes - next))
    return 0
  }

  /** Notes packets that went or were given up. */
  charge(countedBytes: number): void {
    this.#bucket.pour(countedBytes)
  }
}
