/**
 * Packets that a full queue below the socket refuses: ENOBUFS, visible because IP_RECVERR is on (ip(7)).
 *
 * | state   | the last call                                          | leaves by                                                        |
 * |---------|--------------------------------------------------------|------------------------------------------------------------------|
 * | flowing | took every message, or failed for another reason       | a call that takes some messages → short; ENOBUFS → refused       |
 * | short   | took some messages, and refused the next without errno | any call: its result says why the message was refused            |
 * | refused | took nothing because of ENOBUFS, or nothing since      | a call that takes messages → flowing or short                    |
 */
import { ERRNO } from '../../../ffi/native-error.js'
import type { UdpPath } from './path.js'
import type { UdpPosting } from './posting.js'

const { ENOBUFS } = ERRNO

const FULL_QUEUE_MS = 3000
const EMPTY_QUEUE_MS = 100
const ASK_MS = 1

export class Refusals {
  state: 'flowing' | 'short' | 'refused' = 'flowing'
  /** The path counts drops below the socket, and the kernel told us of these: they are no reason for suspicion. */
  readonly #path: UdpPath
  #since = 0
  /** Substreams given up on while others passed, of which no packet was taken since; and how many there are. */
  readonly #givenUp: Uint8Array
  #givenUpCount = 0
  /** The last answer about a queue. */
  #askedAt = 0
  #askedFor = -1
  #empty = false

  constructor(path: UdpPath) {
    this.#path = path
    this.#givenUp = new Uint8Array(path.substreams)
  }

  /** Notes every call: it took `sent` of `count` messages, or −`sent` is its errno. */
  note(sent: number, count: number): void {
    // A full queue may have room again at the next call, as the kernel may have told of an earlier packet's ICMP error. A full socket
    // buffer, and an error of the message's own, stay.
    if (this.state === 'short' && (sent > 0 || -sent === ENOBUFS) && this.#path.returned.drain() === 0) this.#path.noteRefused()
    if (sent > 0) this.state = sent < count ? 'short' : 'flowing'
    else if (this.state === 'short') this.state = 'flowing'
  }

  /** The call failed with ENOBUFS. Returns for how many milliseconds the queue has let nothing pass. */
  refuse(): number {
    this.#path.noteRefused()
    const now = performance.now()
    if (this.state !== 'refused') {
      this.state = 'refused'
      this.#since = now
    }
    return now - this.#since
  }

  /**
   * Whether to give up on a packet of a substream that was refused for so long. A queue that holds packets drains in time; one that is
   * empty and refuses all the same does so because of a filter, or because the packet will never fit. Then the next packets of the
   * substream are given up on at once, until one is taken, so that others are not held up.
   */
  givesUp(substream: number, refusedMs: number): boolean {
    const known = this.#givenUp[substream] !== 0
    if (!known && refusedMs < EMPTY_QUEUE_MS) return false
    if (refusedMs < (known ? EMPTY_QUEUE_MS : FULL_QUEUE_MS) && !this.#queueIsEmpty(substream)) return false
    if (!known) this.#givenUpCount++
    this.#givenUp[substream] = 1
    return true
  }

  /** Asking costs 10 µs. */
  #queueIsEmpty(substream: number): boolean {
    const now = performance.now()
    if (now - this.#askedAt > ASK_MS || this.#askedFor !== substream) {
      this.#empty = this.#path.queueIsEmpty(substream)
      this.#askedAt = now
      this.#askedFor = substream
    }
    return this.#empty
  }

  /** Rows from … end−1 of a posting were taken. */
  noteTaken({ table, edge }: UdpPosting, from: number, end: number): void {
    if (this.#givenUpCount === 0) return
    for (let row = from; row < end; row = edge[row]!) {
      const substream = table.substream[row]!
      this.#givenUpCount -= this.#givenUp[substream]!
      this.#givenUp[substream] = 0
    }
  }
}
