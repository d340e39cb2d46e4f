/**
 * Whether the udp backend's messages are copied or lent to the kernel: which way a stream sends (option udpPath), and when it copies for
 * a while.
 *
 * | state     | messages worth it go                             | leaves by                                                              |
 * |-----------|--------------------------------------------------|------------------------------------------------------------------------|
 * | none      | by sendmmsg: there is no ring                    | never                                                                  |
 * | idle      | nowhere: no posting has had any                  | a posting that has some is compiled → trying                           |
 * | trying    | by io_uring, without a copy                      | copied none → lending; copied some, or held memory long → copying      |
 * | lending   | the same, out of registered memory if they can   | the kernel copied or held memory long → copying                        |
 * | copying   | by sendmmsg                                      | some posts, twice as many every time → trying                          |
 *
 * `trying` comes first because of sockets of this host that a message out of registered memory reaches all the same (multicast looped
 * back, a bridge): such a socket is charged with whole huge pages for the message, and drops it for that.
 *
 * A posting whose message is refused without a copy copies for a while by itself (`copiedPostsLeft`). Asked for by name, io_uring sends
 * everything: copied messages too.
 */

import { ERRNO, errnoName } from '../../../ffi/native-error.js'
import { COPY, LEND, NO_SLOT, REGISTERED, type SendMode } from '../../../ffi/socket/io-uring.js'
import type { PacketTable } from '../../batch/table.js'
import { counted } from '../../errors.js'
import { COUNTER } from '../../stats.js'
import type { States } from '../states.js'
import type { UdpPath } from './path.js'
import { MAX_FRAGMENTS, type MessageLimits, messageEnds, type UdpPosting } from './posting.js'
import type { UdpRing } from './ring.js'
import { openUdpRing } from './ring-open.js'
import { SendBuffer } from './send-buffer.js'

/** Messages shorter than this cost as much to hold as to copy. */
const WORTH_BYTES = 32 << 10
/** Asked for by name, io_uring lends messages from this length on. */
const LEAST_BYTES = 4 << 10
/** Messages cut to fit the fragments that one may have are lent while there are at most this many times as many of them. */
const MORE_MESSAGES = 1.25
/** When a queue below the socket holds packets for longer, the stream copies: it can go on meanwhile. */
const HELD_MS = 100
/** Posts that copy before zero copy is tried again. Doubles with every failure, up to the limit. */
const COPYING_POSTS = 256
const COPYING_POSTS_LIMIT = 65536

const MOST_HELD = 60
const LEAST_HELD = 2

const SMALL = `messages of less than ${WORTH_BYTES} bytes, or not in huge pages, are sent faster with a copy`
const LARGE = 'large messages in huge pages, sent without a copy'

/** A ring to send by, or why there is none. */
function ringFor({ socket, options, gates, pace }: UdpPath): UdpRing | string {
  if (options.udpPath === 'sendmmsg') return 'asked for'
  if (pace) return 'io_uring: packets that wait for their time would hold memory that is lent'
  const copying = gates.paths.find((path) => path.copiedBy)
  if (options.udpPath === 'auto' && copying) return `io_uring: ${copying.copiedBy} copies all the same`
  const ring = openUdpRing(socket.fd)
  return typeof ring === 'string' ? `io_uring: ${ring}` : ring
}

export class ZeroCopy {
  state: 'none' | 'idle' | 'trying' | 'lending' | 'copying' = 'none'
  readonly ring: UdpRing | undefined
  /** Everything goes through the ring. */
  readonly forced: boolean
  readonly #states: States
  readonly #counters: Float64Array
  readonly #sendBuffer: SendBuffer
  #reason: string
  /** The reason while nothing is wrong. */
  #usualReason: string
  /** Posts to go in state copying. */
  #copyingPostsLeft = 0
  /** Posts that the next pause lasts, of the stream or of a posting. */
  #pausePosts = COPYING_POSTS
  /** The last posting that copies because a message of it was refused. */
  #refused: UdpPosting | undefined
  /** Since when the kernel has held memory without letting go of any; 0 = it holds none. */
  #heldSince = 0
  /** The ring's progress at that time. */
  #progress = 0

  constructor(path: UdpPath, counters: Float64Array) {
    const { socket, options, states } = path
    this.#states = states
    this.#counters = counters
    this.#sendBuffer = new SendBuffer(socket)
    const ring = ringFor(path)
    if (typeof ring === 'string') this.#reason = ring
    else {
      this.ring = ring
      this.state = 'idle'
      ring.limit(Math.min(MOST_HELD, Math.max(LEAST_HELD, Math.floor((2 * this.#sendBuffer.bytes) / 65536))))
      this.#reason = options.udpPath === 'io_uring' ? 'asked for' : SMALL
    }
    this.#usualReason = this.#reason
    this.forced = this.ring !== undefined && options.udpPath === 'io_uring'
    states.add(() => {
      const zeroCopy = (this.state === 'trying' || this.state === 'lending') && !this.#refused?.copiedPostsLeft
      return { udpPath: this.forced || zeroCopy ? 'io_uring' : 'sendmmsg', udpPathReason: this.#reason, zeroCopy }
    })
  }

  /** Where messages end, and whether they may go without a copy. */
  cut(table: PacketTable, limits: MessageLimits): { readonly ends: readonly number[]; readonly lends: boolean } {
    const ends = messageEnds(table, limits)
    if (!this.ring) return { ends, lends: false }
    const fitting = messageEnds(table, { ...limits, maxFragments: MAX_FRAGMENTS })
    const bytes = table.udpBytes.reduce((sum, n) => sum + n, 0)
    const worth = bytes / fitting.length >= (this.forced ? LEAST_BYTES : WORTH_BYTES)
    if (!worth || fitting.length > ends.length * MORE_MESSAGES) return { ends, lends: false }
    if (this.state === 'idle') {
      this.state = 'trying'
      if (!this.forced) this.#usualReason = LARGE
      this.#reason = this.#usualReason
      this.#states.change()
    }
    return { ends: fitting, lends: true }
  }

  /** Registers the memory of a posting that lends, if it is one region, and returns its slot; else NO_SLOT. */
  use({ regions }: PacketTable): number {
    if (regions.length > 1 || !this.#sendBuffer.widen(true)) return NO_SLOT
    return this.ring!.use(regions[0]!)
  }

  release(posting: UdpPosting): void {
    if (this.#refused === posting) this.#refused = undefined
    if (posting.slot !== NO_SLOT) this.ring!.unuse(posting.table.regions[0]!)
  }

  /** How this post sends the posting's whole messages. Counts down the posts of a pause. */
  mode(posting: UdpPosting, merging: boolean): SendMode {
    const lends = merging && posting.lending !== COPY && this.#lends(posting)
    const mode = lends ? (this.state === 'lending' ? posting.lending : LEND) : COPY
    this.#sendBuffer.widen(mode === REGISTERED)
    return mode
  }

  #lends(posting: UdpPosting): boolean {
    if (this.state === 'copying') {
      this.#copyingPostsLeft--
      if (this.#copyingPostsLeft === 0) {
        this.state = 'trying'
        this.#states.change()
      }
      return false
    }
    if (posting.copiedPostsLeft === 0) return true
    posting.copiedPostsLeft--
    if (posting.copiedPostsLeft === 0) this.#states.change()
    return false
  }

  /** How many of all `posted` rows come before the first whose memory is held. */
  free(posted: number): number {
    const { ring } = this
    if (!ring) return posted
    ring.collect()
    if (ring.notified > 0) this.#judge(ring)
    if (ring.held === 0) this.#heldSince = 0
    else this.#watch(ring)
    return ring.free(posted)
  }

  /** The kernel let go of messages. */
  #judge(ring: UdpRing): void {
    this.#counters[COUNTER.copiedMessages]! += ring.copied
    if (this.state !== 'copying') {
      if (ring.copied > 0)
        this.#copyFor('the kernel copied what was sent without a copy, as for loopback, veth and interfaces that are captured from')
      else this.#trust()
    }
    ring.notified = 0
    ring.copied = 0
  }

  #trust(): void {
    this.state = 'lending'
    if (this.#pausePosts === COPYING_POSTS) return
    this.#pausePosts = COPYING_POSTS
    this.#reason = this.#usualReason
    this.#states.change()
  }

  #watch(ring: UdpRing): void {
    const now = performance.now()
    if (this.#heldSince === 0 || ring.progress !== this.#progress) {
      this.#heldSince = now
      this.#progress = ring.progress
    } else if (this.state !== 'copying' && now - this.#heldSince > HELD_MS) {
      this.#copyFor(`a queue below the socket held packets for more than ${HELD_MS} ms`)
    }
  }

  #copyFor(why: string): void {
    this.state = 'copying'
    this.#copyingPostsLeft = this.#pausePosts
    this.#reason = `${why}; tried again after ${counted(this.#pausePosts, 'post')}`
    this.#pausePosts = Math.min(COPYING_POSTS_LIMIT, this.#pausePosts * 2)
    this.#states.change()
  }

  /** A message without a copy was refused. True if one with a copy, or out of memory that is not registered, may be taken: try it so. */
  mend(posting: UdpPosting, mode: SendMode, errno: number): boolean {
    if (mode === REGISTERED && (errno === ERRNO.EINVAL || errno === ERRNO.EOPNOTSUPP)) {
      posting.lending = LEND
      this.ring!.forgoRegistered()
      return true
    }
    switch (errno) {
      case ERRNO.EMSGSIZE: // more fragments than a message may have, its pages being smaller than it seemed
      case ERRNO.EFAULT: // memory without pages, as a device's
      case ERRNO.ENOMEM: // more memory than may be locked
      case ERRNO.EINVAL:
      case ERRNO.EOPNOTSUPP:
        posting.copiedPostsLeft = this.#pausePosts
        this.#refused = posting
        this.#pausePosts = Math.min(COPYING_POSTS_LIMIT, this.#pausePosts * 2)
        this.#reason = `${errnoName(errno)} on a message without a copy; tried again after ${counted(posting.copiedPostsLeft, 'post')}`
        this.#states.change()
        return true
    }
    return false
  }
}
