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

const { ENOBUFS } = ERRNO

export class Refusals {
  state: 'flowing' | 'short' | 'refused' = 'flowing'
  /** The path counts drops below the socket, and the kernel told us of these: they are no reason for suspicion. */
  readonly #path: UdpPath
  #since = 0

  constructor(path: UdpPath) {
    this.#path = path
  }

  /** Notes every call: it took `sent` of `count` messages, or −`sent` is its errno. */
  note(sent: number, count: number): void {
    // A full queue may have room again at the next call; a full socket buffer, and an error of the message's own, stay.
    if (this.state === 'short' && (sent > 0 || -sent === ENOBUFS)) this.#path.noteRefused()
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
}
