/**
 * Whether packets of one size leave as one message, which the kernel or the NIC cuts up again (udp(7), UDP_SEGMENT).
 *
 * | state   | messages go                                                        | leaves by                                               |
 * |---------|--------------------------------------------------------------------|---------------------------------------------------------|
 * | on      | whole                                                              | a refused message → probing                             |
 * | probing | whole, but for the refused one, which goes packet by packet        | all its packets are taken → paused, or off if the errno says that the device cannot segment; one of them is given up → back to on or paused |
 * | paused  | whole, but for the postings at fault, which go packet by packet    | a message of the posting paused last is taken → on; a refused message → probing |
 * | off     | packet by packet                                                   | never                                                   |
 *
 * The kernel's errno alone does not tell whether segmentation is to blame: EINVAL and EMSGSIZE have other reasons too. The packets of the
 * refused message tell, because they are taken one by one only if it was.
 */

import { ERRNO, errnoName } from '../../../ffi/native-error.js'
import { counted } from '../../errors.js'
import type { States } from '../states.js'
import type { UdpPosting } from './posting.js'

const { EIO, ENOPROTOOPT, EOPNOTSUPP } = ERRNO

/** Posts that a posting goes packet by packet before its messages are tried again. Doubles with every failure, up to the limit. */
const PAUSE_POSTS = 64
const PAUSE_POSTS_LIMIT = 65536

export class Segmentation {
  state: 'on' | 'probing' | 'paused' | 'off'
  #reason: string
  /** The reason while nothing is wrong. */
  readonly #usualReason: string
  readonly #states: States
  /** The row behind the message that is being probed; 0 in every other state. */
  #probeEnd = 0
  #probeErrno = 0
  /** The posting that was paused last, until a message of it is taken. */
  #paused: UdpPosting | undefined
  #pausePosts = PAUSE_POSTS

  /** @param maxSegments packets of one message at most; 1 switches segmentation off */
  constructor(maxSegments: number, reason: string, states: States) {
    this.state = maxSegments > 1 ? 'on' : 'off'
    this.#reason = reason
    this.#usualReason = reason
    this.#states = states
    states.add(() => ({
      // A probe is not told of, because it ends within a post or two.
      segmentation: this.state === 'probing' ? this.#stateWithoutProbe : this.state,
      segmentationReason: this.#reason,
      maxSegments,
    }))
  }

  get #stateWithoutProbe(): 'on' | 'paused' {
    return this.#paused ? 'paused' : 'on'
  }

  /** Whether this post of the posting sends its messages whole. Counts down the posts of a pause. */
  merges(posting: UdpPosting): boolean {
    if (this.state === 'off') return false
    if (posting.plainPostsLeft === 0) return true
    posting.plainPostsLeft--
    return posting.plainPostsLeft === 0
  }

  /** Whether the packet goes by itself because its message is being probed. */
  isProbed(row: number): boolean {
    return row < this.#probeEnd
  }

  /** A message was refused with `errno`: its packets from `row` on go one by one. */
  probe(posting: UdpPosting, row: number, errno: number): void {
    this.state = 'probing'
    this.#probeEnd = posting.edge[row]!
    this.#probeErrno = errno
  }

  /** The probe says nothing against segmentation: a packet alone was given up too, or the post ended before the message did. */
  acquit(): void {
    if (this.state !== 'probing') return
    this.#probeEnd = 0
    this.state = this.#stateWithoutProbe
  }

  /** Every row before `row` was taken. True when that ends a probe: segmentation was to blame, and the posting merges no more. */
  convicts(posting: UdpPosting, row: number): boolean {
    if (this.#probeEnd === 0 || row < this.#probeEnd) return false
    this.#probeEnd = 0
    this.#states.change()
    const errno = this.#probeErrno
    if (errno === EIO || errno === ENOPROTOOPT || errno === EOPNOTSUPP) {
      this.state = 'off'
      this.#paused = undefined
      this.#reason = `${errnoName(errno)}: the egress device or an IPsec policy cannot segment; sending packet by packet`
      return true
    }
    // The size was to blame: pause this posting alone, and only for a while, because the MTU or the route may change back.
    this.state = 'paused'
    this.#paused = posting
    posting.plainPostsLeft = this.#pausePosts
    this.#pausePosts = Math.min(PAUSE_POSTS_LIMIT, this.#pausePosts * 2)
    this.#reason = `${errnoName(errno)} on a message of ${counted(posting.edge[0]!, 'packet')}; tried again after ${counted(posting.plainPostsLeft, 'post')}`
    return true
  }

  /** A segmented message of the posting was taken, or the posting is gone: its pause is over. */
  resume(posting: UdpPosting): void {
    if (this.#paused !== posting) return
    this.#paused = undefined
    if (this.state === 'paused') this.state = 'on'
    this.#pausePosts = PAUSE_POSTS
    this.#reason = this.#usualReason
    this.#states.change()
  }
}
