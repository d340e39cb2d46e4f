/**
 * A prelinked mmsghdr array for sendmmsg(2): headers, iovecs, destination addresses and UDP_SEGMENT control messages, in one region.
 * It is built once. Sending any consecutive part of it is one system call, and only the kernel writes to it then (msg_len).
 *
 * | state    | legal                                             | leaves by  |
 * |----------|---------------------------------------------------|------------|
 * | building | message(), iovec()                                | first send |
 * | ready    | send(), rename(), message() of a message that is not under way | release()  |
 * | released | nothing: the range is recycled                    | never      |
 */
import { CMSGHDR, IOVEC, MMSGHDR, MSG_DONTWAIT, MSGHDR, OPT, UIO_MAXIOV } from '../layout.js'
import { errno, libc } from '../libc.js'
import { attachRegion, Region } from '../memory/region.js'
import { writePointer } from '../memory/store-pointer.js'

const CONTROL_SPACE = 24 // CMSG_SPACE(sizeof(uint16_t))
const NAME_SPACE = 32

export class MessageVector {
  readonly #region: Region
  readonly #words: Uint32Array<ArrayBuffer>
  /** Address of the first mmsghdr. Each is MMSGHDR.size bytes long and begins with its msghdr. */
  readonly headersAddress: number
  readonly #iovAt: number
  readonly #controlAt: number
  readonly #nameAt: number
  readonly #nameLength: number
  readonly #sendmmsg = libc().sendmmsg

  /** @param names sockaddr bytes of the destinations, all of one family; empty for a connected socket. */
  constructor(
    readonly messages: number,
    iovecs: number,
    names: readonly Uint8Array[],
  ) {
    this.#iovAt = messages * MMSGHDR.size
    this.#controlAt = this.#iovAt + iovecs * IOVEC.size
    this.#nameAt = this.#controlAt + messages * CONTROL_SPACE
    this.#nameLength = names[0]?.length ?? 0
    this.#region = Region.allocate(Math.max(8, this.#nameAt + names.length * NAME_SPACE), { hugePages: 'never' })
    this.headersAddress = this.#region.address
    const buffer = attachRegion(this.#region)
    this.#words = new Uint32Array(buffer)
    this.rename(names)
  }

  /** Gives the destinations other addresses, as many as before. The kernel copies a message's address when it takes the message. */
  rename(names: readonly Uint8Array[]): void {
    const { buffer } = this.#words
    for (const [i, name] of names.entries()) new Uint8Array(buffer, this.#nameAt + i * NAME_SPACE, name.length).set(name)
  }

  /**
   * Message i takes iovecs first … first+count−1 (≤ 1024), goes to destination `name` (ignored when there are none) and, if
   * segmentBytes > 0, is cut by the kernel or the NIC into datagrams of that size (udp(7), UDP_SEGMENT).
   */
  message(i: number, name: number, first: number, count: number, segmentBytes: number): void {
    const words = this.#words
    const at = i * MMSGHDR.size
    const base = this.headersAddress
    if (this.#nameLength > 0) {
      writePointer(words, (at + MSGHDR.name) >> 2, base + this.#nameAt + name * NAME_SPACE)
      words[(at + MSGHDR.namelen) >> 2] = this.#nameLength
    }
    writePointer(words, (at + MSGHDR.iov) >> 2, base + this.#iovAt + first * IOVEC.size)
    writePointer(words, (at + MSGHDR.iovlen) >> 2, count)
    if (segmentBytes > 0) {
      const control = this.#controlAt + i * CONTROL_SPACE
      writePointer(words, (control + CMSGHDR.len) >> 2, CMSGHDR.data + 2)
      words[(control + CMSGHDR.level) >> 2] = OPT.UDP_SEGMENT[0]
      words[(control + CMSGHDR.type) >> 2] = OPT.UDP_SEGMENT[1]
      // A u16, and padding behind it.
      words[(control + CMSGHDR.data) >> 2] = segmentBytes
      writePointer(words, (at + MSGHDR.control) >> 2, base + control)
      writePointer(words, (at + MSGHDR.controllen) >> 2, CONTROL_SPACE)
    }
  }

  /** Iovec i covers `byteLength` bytes from `offset` of the region at `address`. */
  iovec(i: number, address: number, offset: number, byteLength: number): void {
    const at = this.#iovAt + i * IOVEC.size
    writePointer(this.#words, (at + IOVEC.base) >> 2, address + offset)
    writePointer(this.#words, (at + IOVEC.len) >> 2, byteLength)
  }

  /**
   * Sends messages first … first+count−1, at most 1024 of them; returns how many were taken or −errno. One system call, nothing
   * allocated. sendmmsg(2) reports an error only for the first message: behind a short count, call again to learn why.
   */
  send(fd: number, first: number, count: number): number {
    const r = this.#sendmmsg(fd, this.headersAddress + first * MMSGHDR.size, count > UIO_MAXIOV ? UIO_MAXIOV : count, MSG_DONTWAIT)
    return r < 0 ? -errno() : r
  }

  release(): void {
    this.#region.release()
  }
}
