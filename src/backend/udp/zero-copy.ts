/**
 * Whether the UDP backend's messages are copied: which way a stream sends (option udpPath), and when it goes the other way for a while.
 *
 * | state     | messages worth it go                             | leaves by                                                            |
 * |-----------|--------------------------------------------------|----------------------------------------------------------------------|
 * | no ring   | by sendmmsg                                      | never                                                                |
 * | trying    | by io_uring, without a copy                      | the kernel let go of some → zero copy; else as zero copy             |
 * | zero copy | the same, out of registered memory if they can   | the kernel copied, held memory long or refused a message → copying   |
 * | copying   | by sendmmsg                                      | some posts, twice as many every time → trying                        |
 *
 * Tried first, because a socket of this host that a message out of registered memory reaches all the same (multicast looped back, a
 * bridge) is charged with whole huge pages for it, and drops it for that.
 *
 * Asked for by name, io_uring sends everything: what is copied too.
 */
import { OPT } from '../../../ffi/layout.js'
import { ERRNO, errnoName } from '../../../ffi/native-error.js'
import type { UdpSocket } from '../../../ffi/socket/udp-socket.js'
import type { PacketTable } from '../../batch/table.js'
import { COUNTER } from '../../stats.js'
import type { UdpPath } from './open.js'
import { MAX_FRAGMENTS, type MessageLimits, messageEnds, type UdpPosting } from './posting.js'
import { openUdpRing, UdpRing } from './ring.js'

/** Messages shorter than this cost as much to hold as to copy. */
const WORTH_BYTES = 32 << 10
/** Asked for by name, io_uring lends messages from this length on. */
const LEAST_BYTES = 4 << 10
/** Cut to fit the fragments of a message there may be so many times more of them. */
const MORE_MESSAGES = 1.25
/** Copying meanwhile, a stream goes on when a queue below the socket holds its packets for longer. */
const HELD_MS = 100
/** Posts that copy before zero copy is tried again; doubles up to the limit. */
const COPYING_POSTS = 256
const COPYING_POSTS_LIMIT = 65536

/**
 * A message out of registered memory is charged to the socket with as much as its pages are long: up to 17 times 2 MiB, of the 2 GiB that
 * there may be. So the socket's buffer is made as large as that meanwhile, and messages are counted instead.
 */
const WIDE_BYTES = 2 ** 30 - 1
const MOST_HELD = 60
const LEAST_HELD = 2

const SMALL = `messages of less than ${WORTH_BYTES} bytes, or not in huge pages, are sent faster with a copy`

/** A ring to send by, or why there is none. */
function ringFor({ socket, options, gates, pace }: UdpPath): UdpRing | string {
  if (options.udpPath === 'sendmmsg') return 'asked for'
  if (pace) return 'io_uring: packets that wait for their time would hold memory that is lent'
  const copying = gates.paths.find((path) => path.copiedBy)
  if (options.udpPath === 'auto' && copying) return `io_uring: ${copying.copiedBy} copies all the same`
  const ring = openUdpRing(socket.fd)
  return typeof ring === 'string' ? `io_uring: ${ring}` : ring
}

export class Copies {
  readonly ring: UdpRing | undefined
  /** Everything goes through the ring. */
  readonly forced: boolean
  revision = 0
  readonly #counters: Float64Array
  #reason: string
  /** The reason while nothing is wrong. */
  #usual: string
  /** Posts to go before zero copy is tried again; 0 = it is in use. */
  #copying = 0
  #pause = COPYING_POSTS
  #heldSince = 0
  #progress = 0
  #worth = false
  /** The kernel has let go of messages that it did not copy, and has copied none since. */
  #trusted = false
  /** Of the postings that copy because a message of theirs was refused, the last. */
  #refused: UdpPosting | undefined

  readonly #socket: UdpSocket
  readonly #sendBufferBytes: number
  /** The socket's buffer is as large as can be. */
  #wide = false

  constructor(path: UdpPath, counters: Float64Array) {
    const { socket, options } = path
    this.#counters = counters
    this.#socket = socket
    // The kernel reports twice what was asked for (socket(7), SO_SNDBUF).
    this.#sendBufferBytes = socket.getOption(OPT.SO_SNDBUF) / 2
    const ring = ringFor(path)
    if (typeof ring === 'string') this.#reason = ring
    else {
      this.ring = ring
      ring.limit(Math.min(MOST_HELD, Math.max(LEAST_HELD, Math.floor((2 * this.#sendBufferBytes) / 65536))))
      this.#reason = options.udpPath === 'io_uring' ? 'asked for' : SMALL
    }
    this.#usual = this.#reason
    this.forced = this.ring !== undefined && options.udpPath === 'io_uring'
  }

  states(): Record<string, string | number | boolean> {
    const zeroCopy = this.#worth && this.#copying === 0 && !this.#refused?.copiedFor
    return { udpPath: this.forced || zeroCopy ? 'io_uring' : 'sendmmsg', udpPathReason: this.#reason, zeroCopy }
  }

  /** Where messages end, and whether they may go without a copy. */
  cut(table: PacketTable, limits: MessageLimits): { readonly ends: readonly number[]; readonly zeroCopy: boolean } {
    const ends = messageEnds(table, limits)
    if (!this.ring) return { ends, zeroCopy: false }
    const fitting = messageEnds(table, { ...limits, maxFragments: MAX_FRAGMENTS })
    const bytes = table.udpBytes.reduce((sum, n) => sum + n, 0)
    const worth = bytes / fitting.length >= (this.forced ? LEAST_BYTES : WORTH_BYTES)
    if (!worth || fitting.length > ends.length * MORE_MESSAGES) return { ends, zeroCopy: false }
    if (!this.#worth) {
      this.#worth = true
      if (!this.forced) this.#usual = 'large messages in huge pages, sent without a copy'
      this.#reason = this.#usual
      this.revision++
    }
    return { ends: fitting, zeroCopy: true }
  }

  /** Registers the memory that a posting lends, where that is one region and may be done; returns how to send it (IoUring.submit). */
  use({ regions }: PacketTable): number {
    if (regions.length > 1 || !this.#widen(true)) return UdpRing.LEND
    return this.ring!.use(regions[0]!)
  }

  /** Needs CAP_NET_ADMIN. */
  #widen(wide: boolean): boolean {
    if (this.#wide === wide) return true
    if (this.#socket.tryOption(OPT.SO_SNDBUFFORCE, wide ? WIDE_BYTES : this.#sendBufferBytes) !== 0) return false
    this.#wide = wide
    return true
  }

  release(posting: UdpPosting): void {
    if (this.#refused === posting) this.#refused = undefined
    if (posting.registered) this.ring!.unuse(posting.table.regions[0]!)
  }

  /** How this post sends the posting's whole messages (IoUring.submit). */
  mode(posting: UdpPosting, merging: boolean): number {
    const mode =
      !merging || !posting.zeroCopy || !this.#lends(posting) ? UdpRing.COPY : this.#trusted ? posting.buffer : UdpRing.LEND
    const wide = mode >= 0
    if (wide !== this.#wide) this.#widen(wide)
    return mode
  }

  #lends(posting: UdpPosting): boolean {
    if (this.#copying > 0) {
      this.#copying--
      if (this.#copying === 0) this.revision++
      return false
    }
    if (posting.copiedFor === 0) return true
    posting.copiedFor--
    if (posting.copiedFor === 0) this.revision++
    return false
  }

  /** Rows, of all `posted`, before the first whose memory is held. */
  free(posted: number): number {
    const { ring } = this
    if (!ring) return posted
    ring.collect()
    if (ring.notified > 0) this.#judge(ring)
    if (ring.held === 0) this.#heldSince = 0
    else this.#watch(ring)
    return ring.free(posted)
  }

  #judge(ring: UdpRing): void {
    this.#counters[COUNTER.copiedMessages]! += ring.copied
    this.#trusted = ring.copied === 0
    if (ring.copied > 0)
      this.#copyFor('the kernel copied what was sent without a copy, as for loopback, veth and interfaces that are captured from')
    else if (this.#pause > COPYING_POSTS && this.#copying === 0) {
      this.#pause = COPYING_POSTS
      this.#reason = this.#usual
      this.revision++
    }
    ring.notified = 0
    ring.copied = 0
  }

  #watch(ring: UdpRing): void {
    const now = performance.now()
    if (this.#heldSince === 0 || ring.progress !== this.#progress) {
      this.#heldSince = now
      this.#progress = ring.progress
    } else if (now - this.#heldSince > HELD_MS) this.#copyFor(`a queue below the socket held packets for more than ${HELD_MS} ms`)
  }

  #copyFor(why: string): void {
    if (this.#copying > 0) return
    this.#trusted = false
    this.#copying = this.#pause
    this.#reason = `${why}; tried again after ${this.#pause} posts`
    this.#pause = Math.min(COPYING_POSTS_LIMIT, this.#pause * 2)
    this.revision++
  }

  /** A message without a copy failed in a way that one with a copy may not: true = try it so. */
  mend(posting: UdpPosting, mode: number, errno: number): boolean {
    if (mode !== UdpRing.LEND && (errno === ERRNO.EINVAL || errno === ERRNO.EOPNOTSUPP)) {
      posting.buffer = UdpRing.LEND
      this.ring!.forgoRegistered()
      return true
    }
    switch (errno) {
      case ERRNO.EMSGSIZE: // more fragments than a message may have, its pages being smaller than it seemed
      case ERRNO.EFAULT: // memory without pages, as a device's
      case ERRNO.ENOMEM: // more memory than may be locked
      case ERRNO.EINVAL:
      case ERRNO.EOPNOTSUPP:
        posting.copiedFor = this.#pause
        this.#refused = posting
        this.#pause = Math.min(COPYING_POSTS_LIMIT, this.#pause * 2)
        this.#reason = `${errnoName(errno)} on a message without a copy; tried again after ${posting.copiedFor} posts`
        this.revision++
        return true
    }
    return false
  }
}
