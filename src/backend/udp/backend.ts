/**
 * UDP through sendmmsg(2) or io_uring(7), with segmentation offload. Evidence: `accepted` (the kernel took it).
 *
 * | state  | legal              | leaves by |
 * |--------|--------------------|-----------|
 * | open   | all                | close()   |
 * | closed | close (no effect)  | never     |
 *
 * Errors, each seen on a real kernel (docs/ground-rules.md, "Sockets and UDP"):
 * EAGAIN waits for writability; ENOBUFS (visible because IP_RECVERR is on) backs off and posts again, in smaller messages if it goes
 * on, and gives up on a packet after seconds; an ICMP error of an earlier
 * datagram (ECONNREFUSED …) is reported *instead of* sending, so the queue is drained and the same message posted again; a
 * segmented message that fails for a reason segmentation may have is posted packet by packet, which tells whose fault it was.
 * Both ways tell at once what the kernel took, so errors are met in one way. Messages sent without a copy (ring.ts, zero-copy.ts)
 * complete later, with the kernel's notification that it reads their memory no more, and hold up what is posted behind them.
 */
import { POLLIN, POLLOUT, UIO_MAXIOV } from '../../../ffi/layout.js'
import { ERRNO, errnoName } from '../../../ffi/native-error.js'
import type { QueuedError } from '../../../ffi/socket/udp-socket.js'
import type { PacketTable, TableRegion } from '../../batch/table.js'
import { COUNTER } from '../../stats.js'
import {
  again,
  type Backend,
  type BackendCaps,
  type BackendEnvironment,
  type CompileHints,
  POST_FATAL,
  POST_OK,
  POST_SKIP,
  type PostResult,
  type ReapResult,
} from '../backend.js'
import { openUdpPath, type UdpOptions, type UdpPath } from './open.js'
import type { KernelPace } from './pace.js'
import { MAX_MESSAGE_BYTES, UdpPosting } from './posting.js'
import { UdpRing } from './ring.js'
import { Copies } from './zero-copy.js'

const {
  EAGAIN,
  ENOBUFS,
  ENOMEM,
  EINTR,
  EINVAL,
  EMSGSIZE,
  EIO,
  ENOPROTOOPT,
  EOPNOTSUPP,
  EBADF,
  ENOTSOCK,
  EFAULT,
  EPERM,
  ECONNREFUSED,
} = ERRNO

const ENOBUFS_PAUSE_NANOSECONDS = 50_000
const NEIGHBOUR_PAUSE_NANOSECONDS = 500_000
/** A segmented message refused for want of buffers this long is posted packet by packet: a short queue may never have room for it. */
const REFUSED_MESSAGE_MS = 50
/** A packet refused this long without anything getting through is given up on: the queue lets nothing of its size pass. */
const REFUSED_PACKET_MS = 3000
/** A message that meets more pending ICMP errors than this in a row is given up on. */
const REPOSTS = 8
/** Posts in plain mode before a posting whose messages were too large tries segmentation again; doubles up to the limit. */
const PLAIN_POSTS = 64
const PLAIN_POSTS_LIMIT = 65536

export class UdpBackend implements Backend {
  readonly caps: BackendCaps
  readonly #path: UdpPath
  readonly #counters: Float64Array
  readonly #fd: number
  readonly #writable: readonly { fd: number; events: number }[]
  readonly #whenFree: readonly { fd: number; events: number }[]
  readonly #copies: Copies
  readonly #ring: UdpRing | undefined
  readonly #pace: KernelPace | undefined
  readonly #error: QueuedError = { errno: 0, origin: 0, info: 0, port: 0, address: new Uint8Array(0) }
  #segmentation: 'on' | 'off'
  /** The posting that goes packet by packet for a while. */
  #paused: UdpPosting | undefined
  #reason: string
  readonly #postings = new Set<UdpPosting>()
  #revision = 0
  /** Rows ever posted or given up, and reported by reap. */
  #posted = 0
  #reported = 0
  /** The last post found the ring full. */
  #ringFull = false
  #reposts = 0
  #plainPosts = PLAIN_POSTS
  /** End of the message being resent packet by packet to find out whether segmentation was to blame; 0 = none. */
  #probeEnd = 0
  #probeErrno = 0
  /** The last call sent less than it was given: one message was refused, and the errno of the next call says why. */
  #short = false
  /** When ENOBUFS began, nothing having been accepted since; 0 = it is not going on. */
  #refusedSince = 0

  constructor(path: UdpPath, environment: BackendEnvironment) {
    this.#path = path
    this.#counters = environment.counters
    this.#fd = this.#path.socket.fd
    this.#pace = path.pace
    this.#copies = new Copies(this.#path, this.#counters)
    this.#ring = this.#copies.ring
    this.#whenFree = this.#ring ? [{ fd: this.#ring.fd, events: POLLIN }] : []
    this.#writable = [{ fd: this.#fd, events: POLLOUT }, ...this.#whenFree]
    this.#segmentation = this.#path.maxSegments > 1 ? 'on' : 'off'
    this.#reason = this.#path.segmentationReason
    this.caps = {
      name: 'udp',
      evidence: 'accepted',
      substreams: path.substreams,
      maxPacketSizeBytes: MAX_MESSAGE_BYTES[this.#path.family],
      headroomBytes: 0,
      mergesEqualPackets: this.#path.maxSegments > 1,
      wireOverheadBytes: path.wireOverheadBytes,
      pollNanoseconds: 0,
      pacesItself: path.pace !== undefined,
    }
  }

  states(): Record<string, string | number | boolean> {
    return {
      ...this.#path.states(),
      segmentation: this.#paused ? 'paused' : this.#segmentation,
      segmentationReason: this.#reason,
      maxSegments: this.#path.maxSegments,
      ...this.#copies.states(),
    }
  }

  revision(): number {
    return this.#revision + this.#path.revision + this.#copies.revision
  }

  /** The kernel copies at send, or finds the pages by itself: nothing to register. */
  register(_region: TableRegion): void {}

  compile(table: PacketTable, hints: CompileHints): UdpPosting {
    const pace = this.#pace
    const { ends, zeroCopy } = this.#copies.cut(table, {
      maxSegments: this.#segmentation === 'on' ? this.#path.maxSegments : 1,
      maxMessageBytes: Math.min(hints.maxMessageBytes, MAX_MESSAGE_BYTES[this.#path.family], pace?.maxMessageBytes ?? 65507),
    })
    const buffer = zeroCopy ? this.#copies.use(table) : UdpRing.COPY
    const posting = new UdpPosting(table, this.#path.names, ends, zeroCopy, buffer)
    if (pace) posting.countedBefore = pace.compiled(table, ends.length)
    this.#postings.add(posting)
    return posting
  }

  release(posting: UdpPosting): void {
    if (this.#paused === posting) this.#resume()
    this.#copies.release(posting)
    this.#postings.delete(posting)
    posting.release()
  }

  /** One or a few system calls; allocates nothing unless an error is reported. */
  post(posting: UdpPosting, first: number, end: number, out: PostResult): void {
    out.kind = POST_OK
    out.accepted = 0
    out.skipped = 0
    let row = first
    let merging = this.#merging(posting)
    const { forced } = this.#copies
    const pace = this.#pace
    let mode = this.#copies.mode(posting, merging)
    this.#ringFull = false
    while (row < end) {
      const message = posting.messageOf[row]!
      let vector = posting.merged
      let from = message
      let count = 0
      const whole = merging && posting.firstRow[message] === row && row >= this.#probeEnd
      if (whole) {
        // Whole messages up to `end`, which may cut one: its part goes as a message by itself.
        const last = end === posting.rows ? posting.firstRow.length - 1 : posting.messageOf[end]!
        count = last - message
      }
      const rows = count === 0
      if (rows) {
        vector = posting.plain
        from = row
        count = Math.min(end, merging ? posting.edge[row]! : end) - row
      }
      const part = rows && merging && row >= this.#probeEnd && count > 1
      const split = rows && !part
      if (pace) {
        count = pace.room(posting.countedBefore!, rows ? undefined : posting.firstRow, from, count)
        if (count === 0) {
          this.#path.suspicion(false)
          again(out, pace.waitNanoseconds)
          return
        }
      }
      if (this.#path.gates.any)
        count = this.#path.gates.open(posting.table.substream, rows ? undefined : posting.firstRow, from, count)
      if (count === 0) {
        const errno = this.#path.gates.refusal(posting.table.substream[row]!)
        if (errno === 0) again(out, NEIGHBOUR_PAUSE_NANOSECONDS)
        else this.#skip(posting, row, split ? row + 1 : Math.min(end, posting.edge[row]!), errno, out)
        return
      }
      const lent = whole && mode !== UdpRing.COPY
      const ring = forced || lent ? this.#ring : undefined
      const most = ring ? ring.room : UIO_MAXIOV
      if (most === 0) {
        this.#counters[COUNTER.waits]! += 1
        this.#ringFull = true
        again(out, 'writable')
        return
      }
      const packets = count
      if (part && packets > 1) {
        posting.part(row, row + packets)
        from = posting.rows
        count = 1
      } else if (count > most) count = most
      const sent = ring
        ? ring.send(vector, from, count, lent ? mode : UdpRing.COPY, this.#posted, rows ? undefined : posting.firstRow)
        : vector.send(this.#fd, from, count)
      this.#counters[COUNTER.posts]! += 1
      // A full queue may have room again at the next call; a full socket buffer or an error of the message's own stays.
      if (this.#short && (sent > 0 || -sent === ENOBUFS)) this.#path.noteRefused()
      this.#short = sent > 0 && sent < count
      if (sent <= 0) {
        if (lent && this.#copies.mend(posting, mode, -sent)) {
          mode = posting.copiedFor === 0 ? UdpRing.LEND : UdpRing.COPY
          continue
        }
        if (!this.#failed(posting, row, split, end, -sent, out)) return
        continue
      }
      this.#reposts = 0
      this.#refusedSince = 0
      const next = part ? row + packets : rows ? row + sent : posting.firstRow[from + sent]!
      out.accepted += next - row
      this.#posted += next - row
      pace?.charge(posting.countedBefore![next]! - posting.countedBefore![row]!)
      if (lent) this.#counters[COUNTER.zeroCopyMessages]! += sent
      if (split) this.#counters[COUNTER.plainMessages]! += sent
      else {
        this.#counters[COUNTER.segmentedMessages]! += sent
        if (this.#paused === posting) this.#resume()
      }
      row = next
      if (this.#probeEnd !== 0 && row >= this.#probeEnd) {
        this.#blameSegmentation(posting)
        merging = false
      }
      // Trying again at once would cost what is cancelled behind the first message, and find little room.
      if (ring && this.#short && ring.errno === EAGAIN) {
        this.#counters[COUNTER.waits]! += 1
        again(out, 'writable')
        return
      }
      // What is posted so far may complete meanwhile.
      if (count >= most) return
    }
    this.#probeEnd = 0
  }

  #merging(posting: UdpPosting): boolean {
    if (this.#segmentation === 'off') return false
    if (posting.plainFor === 0) return true
    posting.plainFor--
    return posting.plainFor === 0
  }

  /** What to do about a failed call whose first message starts at `row`: true = try again at once, false = `out` says what. */
  #failed(posting: UdpPosting, row: number, split: boolean, end: number, errno: number, out: PostResult): boolean {
    switch (errno) {
      case EINTR:
        return true
      case EAGAIN:
        this.#counters[COUNTER.waits]! += 1
        again(out, 'writable')
        return false
      case ENOBUFS:
      case ENOMEM:
        return this.#refused(posting, row, split, out)
      case EBADF:
      case ENOTSOCK:
      case EFAULT:
        out.kind = POST_FATAL
        out.errno = errno
        out.substream = posting.table.substream[row]!
        return false
      case EINVAL:
      case EMSGSIZE:
      case EIO:
      case ENOPROTOOPT:
      case EOPNOTSUPP:
        if (!split && posting.edge[row]! - row > 1) {
          this.#probe(posting, row, errno)
          return true
        }
        // The packet alone fails too: segmentation was not to blame.
        this.#probeEnd = 0
    }
    // ECONNREFUSED can only be an earlier datagram's; other errnos may be this one's own, and then the queue is empty.
    if (this.#reposts < REPOSTS && (this.#drainErrors() + this.#path.socket.takeError() > 0 || errno === ECONNREFUSED)) {
      this.#reposts++
      this.#counters[COUNTER.reposts]! += 1
      return true
    }
    this.#reposts = 0
    if (errno !== EPERM && errno !== EMSGSIZE) this.#path.noteUnreachable()
    this.#skip(posting, row, split ? row + 1 : Math.min(end, posting.edge[row]!), errno, out)
    return false
  }

  /** ENOBUFS: a queue below the socket was full. Time will tell whether it is ever anything else. */
  #refused(posting: UdpPosting, row: number, split: boolean, out: PostResult): boolean {
    this.#counters[COUNTER.noBuffers]! += 1
    this.#path.noteRefused()
    const now = performance.now()
    if (this.#refusedSince === 0) this.#refusedSince = now
    // Where packets wait for their time, those of a message cut up would want more room than it.
    const one = split || posting.edge[row]! - row === 1 || this.#pace?.byKernel === true
    if (!one && now - this.#refusedSince > REFUSED_MESSAGE_MS) {
      this.#probe(posting, row, ENOBUFS)
      return true
    }
    if (one && now - this.#refusedSince > REFUSED_PACKET_MS) {
      this.#skip(posting, row, split ? row + 1 : posting.edge[row]!, ENOBUFS, out)
      return false
    }
    again(out, ENOBUFS_PAUSE_NANOSECONDS)
    return false
  }

  /** From `row` to the end of its message, packet by packet: shows whether segmentation is to blame for `errno`. */
  #probe(posting: UdpPosting, row: number, errno: number): void {
    this.#probeEnd = posting.edge[row]!
    this.#probeErrno = errno
  }

  #skip(posting: UdpPosting, row: number, end: number, errno: number, out: PostResult): void {
    out.kind = POST_SKIP
    out.errno = errno
    out.substream = posting.table.substream[row]!
    out.skipped = end - row
    this.#posted += end - row
    this.#pace?.charge(posting.countedBefore![end]! - posting.countedBefore![row]!)
  }

  /** The message failed as one and went as packets: stop merging, as far as the errno says. */
  #blameSegmentation(posting: UdpPosting): void {
    this.#probeEnd = 0
    this.#revision++
    if (this.#probeErrno === EIO || this.#probeErrno === ENOPROTOOPT || this.#probeErrno === EOPNOTSUPP) {
      this.#segmentation = 'off'
      this.#reason = `${errnoName(this.#probeErrno)}: the egress device or an IPsec policy cannot segment; sending packet by packet`
      return
    }
    // A matter of size: only this posting, and only for a while (the MTU or the route may change back).
    posting.plainFor = this.#plainPosts
    this.#plainPosts = Math.min(PLAIN_POSTS_LIMIT, this.#plainPosts * 2)
    this.#paused = posting
    this.#reason = `${errnoName(this.#probeErrno)} on a message of ${posting.edge[0]} packets; tried again after ${posting.plainFor} posts`
  }

  #resume(): void {
    this.#paused = undefined
    this.#plainPosts = PLAIN_POSTS
    this.#reason = this.#path.segmentationReason
    this.#revision++
  }

  /** Reads the error queue to its end; returns how many entries there were. */
  #drainErrors(): number {
    let n = 0
    while (n < 1000 && this.#path.socket.readError(this.#error)) {
      n++
      this.#path.noteError(this.#error)
    }
    this.#counters[COUNTER.queuedErrors]! += n
    return n
  }

  reap(out: ReapResult): void {
    const free = this.#copies.free(this.#posted)
    out.completed = free - this.#reported
    out.failures = 0
    this.#reported = free
  }

  suspicion(thorough: boolean): number {
    return this.#path.suspicion(thorough)
  }

  waitSet(wantWrite: boolean): readonly { fd: number; events: number }[] {
    // A pending error queue makes the socket ready whatever is asked for, so it is only waited on when it is needed.
    return wantWrite && !this.#ringFull ? this.#writable : this.#whenFree
  }

  descriptors(): readonly number[] {
    return this.#ring ? [...this.#path.descriptors, this.#ring.fd] : this.#path.descriptors
  }

  explain(errno: number, substream: number, udpBytes: number): string {
    return this.#path.explain(errno, substream, udpBytes)
  }

  abandon(): void {
    this.#ring?.abandon()
  }

  close(): void {
    this.#ring?.abandon()
    this.#ring?.close()
    for (const posting of this.#postings) posting.release()
    this.#path.close()
  }
}

export async function openUdp(options: UdpOptions, environment: BackendEnvironment): Promise<UdpBackend> {
  return new UdpBackend(await openUdpPath(options), environment)
}
