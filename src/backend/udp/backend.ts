/**
 * UDP through sendmmsg(2) or io_uring(7), with segmentation offload. Evidence: `accepted` (the kernel took it).
 *
 * | state     | the wait set for room          | legal             | leaves by                                                |
 * |-----------|--------------------------------|-------------------|----------------------------------------------------------|
 * | open      | the socket and the ring        | all               | a post finds the ring full → ring-full; close() → closed |
 * | ring-full | the ring                       | all               | the next post → open; close() → closed                   |
 * | closed    |                                | close (no effect) | never                                                    |
 *
 * Both ways tell at once what the kernel took, so errors are met in one way, each of them seen on a real kernel
 * (docs/ground-rules.md, "Sockets and UDP"):
 * - EAGAIN waits for writability.
 * - ENOBUFS backs off and posts again (refusals.ts). If it goes on, messages are posted packet by packet, and after seconds the packet is
 *   given up.
 * - An ICMP error of an earlier datagram (ECONNREFUSED …) is reported *instead of* sending. So the error queue is drained
 *   (returned-errors.ts) and the same message posted again.
 * - A segmented message that fails for a reason that segmentation or one of its packets may have is posted packet by packet, to
 *   find out (segmentation.ts).
 *
 * Messages sent without a copy (ring.ts, zero-copy.ts) complete later, with the kernel's notification that it reads their memory no more,
 * and hold up what is posted behind them.
 */
import { POLLIN, POLLOUT, UIO_MAXIOV } from '../../../ffi/layout.js'
import { onNode } from '../../../ffi/memory/numa.js'
import { ERRNO } from '../../../ffi/native-error.js'
import { COPY, LEND, NO_SLOT, type SendMode } from '../../../ffi/socket/io-uring.js'
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
import type { Gates } from '../gates.js'
import type { States } from '../states.js'
import { UdpCall } from './call.js'
import { openUdpPath, type UdpOptions } from './open.js'
import type { KernelPace } from './pace.js'
import type { UdpPath } from './path.js'
import { MAX_MESSAGE_BYTES, PLAIN, UdpPosting, WHOLE } from './posting.js'
import { Refusals } from './refusals.js'
import type { UdpRing } from './ring.js'
import { Segmentation } from './segmentation.js'
import { ZeroCopy } from './zero-copy.js'

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
  EHOSTUNREACH,
  EPERM,
  ECONNREFUSED,
} = ERRNO

const ENOBUFS_PAUSE_NANOSECONDS = 50_000
const NEIGHBOUR_PAUSE_NANOSECONDS = 500_000
/** A segmented message refused for want of buffers this long is posted packet by packet: a short queue may never have room for it. */
const REFUSED_MESSAGE_MS = 50
/**
 * A message that meets more pending ICMP errors than this in a row is given up on. Answers to the packets before it come in one by one while
 * it is posted again, and where the answering host is slow they are many.
 */
const REPOSTS = 64
/** In a long batch, changes below are looked for this often. */
const ROWS_PER_GLANCE = 1024

export class UdpBackend implements Backend {
  readonly caps: BackendCaps
  readonly states: States
  readonly #path: UdpPath
  readonly #gates: Gates
  readonly #counters: Float64Array
  readonly #numaNode: number | undefined
  readonly #fd: number
  readonly #writable: readonly { fd: number; events: number }[]
  readonly #whenFree: readonly { fd: number; events: number }[]
  readonly #segmentation: Segmentation
  readonly #refusals: Refusals
  readonly #zeroCopy: ZeroCopy
  readonly #ring: UdpRing | undefined
  readonly #pace: KernelPace | undefined
  readonly #call = new UdpCall()
  /** Rows ever posted or given up, and those among them that reap has reported. */
  #posted = 0
  #reported = 0
  /** The rows posted when changes below were last looked for. */
  #glancedAt = 0
  #state: 'open' | 'ring-full' | 'closed' = 'open'
  /** How often the message at hand was posted again because of an earlier datagram's error. */
  #reposts = 0

  constructor(path: UdpPath, environment: BackendEnvironment) {
    this.#path = path
    this.states = path.states
    this.#gates = path.gates
    this.#counters = environment.counters
    this.#numaNode = environment.numaNode
    this.#fd = this.#path.socket.fd
    this.#pace = path.pace
    this.#segmentation = new Segmentation(path.maxSegments, path.segmentationReason, path.states)
    this.#refusals = new Refusals(path)
    this.#zeroCopy = new ZeroCopy(path, this.#counters)
    this.#ring = this.#zeroCopy.ring
    this.#whenFree = [path.watchFd, ...(this.#ring ? [this.#ring.fd] : [])].map((fd) => ({ fd, events: POLLIN }))
    this.#writable = [{ fd: this.#fd, events: POLLOUT }, ...this.#whenFree]
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

  /** The kernel copies at send, or finds the pages by itself: nothing to register. */
  register(_region: TableRegion): void {}

  compile(table: PacketTable, hints: CompileHints): UdpPosting {
    const pace = this.#pace
    const { ends, lends } = this.#zeroCopy.cut(table, {
      maxSegments: this.#segmentation.state === 'off' ? 1 : this.#path.maxSegments,
      maxMessageBytes: Math.min(hints.maxMessageBytes, MAX_MESSAGE_BYTES[this.#path.family], pace?.maxMessageBytes ?? 65507),
    })
    const slot = lends ? this.#zeroCopy.use(table) : NO_SLOT
    const posting = onNode(this.#numaNode, () => new UdpPosting(table, this.#path.names, ends, lends, slot))
    if (pace) posting.countedBefore = pace.compiled(table, ends.length)
    this.#path.postings.add(posting)
    return posting
  }

  release(posting: UdpPosting): void {
    this.#segmentation.resume(posting)
    this.#zeroCopy.release(posting)
    this.#path.postings.delete(posting)
    posting.release()
  }

  /** One or a few system calls; allocates nothing unless an error is reported. */
  post(posting: UdpPosting, first: number, end: number, out: PostResult): void {
    out.kind = POST_OK
    out.accepted = 0
    out.skipped = 0
    this.#state = 'open'
    if (this.#posted - this.#glancedAt >= ROWS_PER_GLANCE || this.#gates.any) this.#glance()
    const call = this.#call
    const segmentation = this.#segmentation
    let merging = segmentation.merges(posting)
    let lending: SendMode = this.#ring ? this.#zeroCopy.mode(posting, merging) : COPY
    for (let row = first; row < end; ) {
      // 1. Choose the messages: whole ones, else a part of one, else packets one by one.
      call.choose(posting, row, end, merging, segmentation.isProbed(row))
      // 2. Leave out those that the pace or a neighbour holds back.
      if ((this.#pace || this.#gates.any) && !this.#admit(posting, end, out)) return
      // 3. Choose the way: the ring for whole messages that are lent, and for all where io_uring was asked for; else the socket.
      const mode = call.shape === WHOLE ? lending : COPY
      const ring = mode !== COPY || this.#zeroCopy.forced ? this.#ring : undefined
      const room = ring ? ring.room : UIO_MAXIOV
      if (room === 0) {
        this.#state = 'ring-full'
        this.#awaitRoom(out)
        return
      }
      call.seal(posting, room)
      // 4. Send.
      const sent = ring ? this.#sendByRing(posting, ring, mode) : posting.vectorOf(call.shape).send(this.#fd, call.from, call.count)
      this.#counters[COUNTER.posts]! += 1
      if (sent !== call.count || this.#refusals.state !== 'flowing') this.#refusals.note(sent, call.count)
      // 5. Nothing was taken: try again with a copy, or as the errno says, or leave it to `out`.
      if (sent <= 0) {
        if (mode !== COPY && this.#zeroCopy.mend(posting, mode, -sent)) lending = posting.copiedPostsLeft === 0 ? LEND : COPY
        else if (!this.#retries(posting, end, -sent, out)) return
        continue
      }
      // 6. Account for the messages that were taken.
      row = call.behind(posting, sent)
      this.#account(posting, row, sent, mode, out)
      // 7. Merge no more where a probe has just shown that segmentation was to blame.
      if (segmentation.state === 'probing' && segmentation.convicts(posting, row)) merging = false
      // 8. Wait for room: trying again at once would cost what is cancelled behind the first message, and find little.
      if (ring && this.#refusals.state === 'short' && ring.errno === EAGAIN) {
        this.#awaitRoom(out)
        return
      }
      // 9. Return from a full call, because messages that are under way may complete meanwhile.
      if (call.count >= room) return
    }
    if (segmentation.state === 'probing') segmentation.acquit()
  }

  /** Cuts the call down to messages that may go now. False if there are none; `out` says why. */
  #admit(posting: UdpPosting, end: number, out: PostResult): boolean {
    const call = this.#call
    const firstRow = posting.firstRowOf(call.shape)
    if (this.#pace) {
      call.count = this.#pace.room(posting.countedBefore!, firstRow, call.from, call.count)
      if (call.count === 0) {
        this.#path.suspicion(false)
        again(out, this.#pace.waitNanoseconds)
        return false
      }
    }
    if (!this.#gates.any) return true
    const { substream } = posting.table
    call.count = this.#gates.open(substream, firstRow, call.from, call.count)
    if (call.count > 0) return true
    const errno = this.#gates.refusal(substream[call.row]!)
    if (errno === 0) again(out, NEIGHBOUR_PAUSE_NANOSECONDS, EHOSTUNREACH, substream[call.row]!)
    else this.#skip(posting, call.behindRefused(posting, end), errno, out)
    return false
  }

  #glance(): void {
    this.#glancedAt = this.#posted
    this.#path.glance()
  }

  /** One system call. Returns how many messages were taken, or −errno. */
  #sendByRing(posting: UdpPosting, ring: UdpRing, mode: SendMode): number {
    const { shape, from, count } = this.#call
    return ring.send(posting.vectorOf(shape), from, count, mode, posting.slot, this.#posted, posting.firstRowOf(shape))
  }

  /** Counts messages that were taken; `next` is the first row behind them. */
  #account(posting: UdpPosting, next: number, sent: number, mode: SendMode, out: PostResult): void {
    const { shape, row } = this.#call
    const counters = this.#counters
    this.#reposts = 0
    this.#refusals.noteTaken(posting, row, next)
    out.accepted += next - row
    this.#posted += next - row
    if (this.#pace) this.#pace.charge(posting.countedBefore![next]! - posting.countedBefore![row]!)
    if (mode !== COPY) counters[COUNTER.zeroCopyMessages]! += sent
    if (shape === PLAIN) {
      counters[COUNTER.plainMessages]! += sent
    } else {
      counters[COUNTER.segmentedMessages]! += sent
      if (this.#segmentation.state === 'paused') this.#segmentation.resume(posting)
    }
  }

  /** The socket's buffer or the ring is full. */
  #awaitRoom(out: PostResult): void {
    // A wait set with something to tell would make every wait end at once.
    this.#glance()
    this.#counters[COUNTER.waits]! += 1
    again(out, 'writable', EAGAIN)
  }

  /** Whether to try again at once after a call that took nothing; else `out` says what to do. */
  #retries(posting: UdpPosting, end: number, errno: number, out: PostResult): boolean {
    const { row, shape } = this.#call
    switch (errno) {
      case EINTR:
        return true
      case EAGAIN:
        // An error in the queue would make poll(2) return at once.
        this.#path.returned.drain()
        this.#awaitRoom(out)
        return false
      case ENOBUFS:
      case ENOMEM:
        return this.#retriesRefused(posting, end, out)
      case EBADF:
      case ENOTSOCK:
        out.kind = POST_FATAL
        out.errno = errno
        out.substream = posting.table.substream[row]!
        return false
      case EFAULT: // memory of one of its packets is gone
      case EINVAL:
      case EMSGSIZE:
      case EIO:
      case ENOPROTOOPT:
      case EOPNOTSUPP:
        if (shape === PLAIN || posting.edge[row]! - row === 1) break
        if (!this.#isEarlier(errno)) this.#segmentation.probe(posting, row, errno)
        return true
    }
    if (this.#isEarlier(errno)) return true
    this.#reposts = 0
    if (errno !== EPERM && errno !== EMSGSIZE && errno !== EFAULT && this.#path.noteUnreachable()) return true
    this.#skip(posting, this.#call.behindRefused(posting, end), errno, out)
    return false
  }

  /** Whether the errno is that of an earlier datagram: only ECONNREFUSED always is. With any other of these the queue has an entry. */
  #isEarlier(errno: number): boolean {
    if (this.#reposts >= REPOSTS) return false
    if (this.#path.returned.drain() + this.#path.socket.takeError() === 0 && errno !== ECONNREFUSED) return false
    this.#reposts++
    this.#counters[COUNTER.reposts]! += 1
    return true
  }

  /** ENOBUFS: a queue below the socket was full. Only time tells whether it will ever have room. */
  #retriesRefused(posting: UdpPosting, end: number, out: PostResult): boolean {
    const { row, shape } = this.#call
    this.#counters[COUNTER.noBuffers]! += 1
    const substream = posting.table.substream[row]!
    const refusedMs = this.#refusals.refuse()
    // Where packets wait for their time, those of a message cut up would want more room than it.
    const one = shape === PLAIN || posting.edge[row]! - row === 1 || this.#pace?.byKernel === true
    if (!one && refusedMs > REFUSED_MESSAGE_MS) {
      this.#segmentation.probe(posting, row, ENOBUFS!)
      return true
    }
    if (one && this.#refusals.givesUp(substream, refusedMs)) {
      this.#gates.noteRefused(substream)
      this.#skip(posting, this.#call.behindRefused(posting, end), ENOBUFS!, out)
      return false
    }
    again(out, ENOBUFS_PAUSE_NANOSECONDS, ENOBUFS)
    return false
  }

  /** Gives up the rows from the call's first to `end`. */
  #skip(posting: UdpPosting, end: number, errno: number, out: PostResult): void {
    const { row } = this.#call
    this.#segmentation.acquit()
    out.kind = POST_SKIP
    out.errno = errno
    out.substream = posting.table.substream[row]!
    out.skipped = end - row
    this.#posted += end - row
    this.#pace?.charge(posting.countedBefore![end]! - posting.countedBefore![row]!)
  }

  reap(out: ReapResult): void {
    if (this.#ring) this.#glance()
    const free = this.#zeroCopy.free(this.#posted)
    out.completed = free - this.#reported
    out.failures = 0
    this.#reported = free
  }

  suspicion(thorough: boolean): number {
    return this.#path.suspicion(thorough)
  }

  waitSet(wantWrite: boolean): readonly { fd: number; events: number }[] {
    // A pending error queue makes the socket ready for everything, so the socket is only waited on when it is needed.
    return wantWrite && this.#state !== 'ring-full' ? this.#writable : this.#whenFree
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
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#ring?.abandon()
    this.#ring?.close()
    for (const posting of this.#path.postings) posting.release()
    this.#path.close()
  }
}

export async function openUdp(options: UdpOptions, environment: BackendEnvironment): Promise<UdpBackend> {
  const path = await openUdpPath(options, environment.counters)
  try {
    return onNode(environment.numaNode, () => new UdpBackend(path, environment))
  } catch (error) {
    path.close()
    throw error
  }
}
