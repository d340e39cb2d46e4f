/**
 * The socket's send buffer, which is as large as can be while messages go out of registered memory. The kernel charges such a message
 * with all its pages: up to 17 times 2 MiB, of the 2 GiB that a buffer can have. The ring counts messages instead (UdpRing.limit).
 *
 * | state  | size                  | leaves by                                      |
 * |--------|-----------------------|------------------------------------------------|
 * | usual  | as the stream set it  | widen(true), which needs CAP_NET_ADMIN         |
 * | wide   | 2 GiB                 | widen(false)                                   |
 */
import { OPT } from '../../../ffi/layout.js'
import type { UdpSocket } from '../../../ffi/socket/udp-socket.js'

const WIDE_BYTES = 2 ** 30 - 1

export class SendBuffer {
  state: 'usual' | 'wide' = 'usual'
  /** The usual size. The kernel reports twice what was asked for (socket(7), SO_SNDBUF). */
  readonly bytes: number
  readonly #socket: UdpSocket

  constructor(socket: UdpSocket) {
    this.#socket = socket
    this.bytes = socket.getOption(OPT.SO_SNDBUF) / 2
  }

  /** Returns whether the buffer is as asked for now. A system call, if it was not before. */
  widen(wide: boolean): boolean {
    if ((this.state === 'wide') === wide) return true
    if (this.#socket.tryOption(OPT.SO_SNDBUFFORCE, wide ? WIDE_BYTES : this.bytes) !== 0) return false
    this.state = wide ? 'wide' : 'usual'
    return true
  }
}
