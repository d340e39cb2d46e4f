/**
 * Sends datagrams to a unix(7) socket, which Node cannot. Linux only.
 *
 * | state  | legal       | leaves by |
 * |--------|-------------|-----------|
 * | open   | send, close | close()   |
 * | closed | close       | never     |
 */
import { AF_UNIX, MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_CLOEXEC, SOCK_DGRAM } from '../layout.js'
import { checkCall, libc } from '../libc.js'
import { orRelease } from '../memory/region.js'
import { Scratch } from '../memory/scratch.js'

/** struct sockaddr_un: sa_family_t, then the path. */
const SUN_PATH = 2
/** With the zero at its end; the name of an abstract socket begins with a zero and has none at its end. */
const SUN_PATH_BYTES = 108
const MESSAGE = 128
/** The longest message, in bytes. */
export const MOST_BYTES = 4096 - MESSAGE

/** Whether the name of a socket fits into an address. */
export const fitsUnixAddress = (name: string): boolean => Buffer.byteLength(name) < SUN_PATH_BYTES

export class UnixDatagrams {
  readonly #fd: number
  readonly #scratch = new Scratch(4096)
  readonly #addressBytes: number
  state: 'open' | 'closed' = 'open'

  /** @param name a path, or '@' and the name of an abstract socket @throws NativeError */
  constructor(readonly name: string) {
    const path = Buffer.from(name)
    const abstract = name.startsWith('@')
    if (abstract) path[0] = 0
    const { view, u8 } = this.#scratch
    view.setUint16(0, AF_UNIX, true)
    u8.set(path, SUN_PATH)
    this.#addressBytes = SUN_PATH + path.length + (abstract ? 0 : 1)
    const open = () => checkCall('socket', libc().socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), 'AF_UNIX')
    this.#fd = orRelease(this.#scratch.region, open)
  }

  /** Never waits. @throws NativeError: EAGAIN when the receiver's queue is full, ECONNREFUSED or ENOENT when there is none */
  send(message: Uint8Array): void {
    const { address, u8 } = this.#scratch
    u8.set(message, MESSAGE)
    const flags = MSG_NOSIGNAL | MSG_DONTWAIT
    const result = libc().sendto(this.#fd, address + MESSAGE, message.length, flags, address, this.#addressBytes)
    checkCall('sendto', result, this.name)
  }

  close(): void {
    if (this.state === 'closed') return
    this.state = 'closed'
    libc().close(this.#fd)
    this.#scratch.region.release()
  }
}
