/**
 * A prelinked mmsghdr array for sendmmsg(2): headers, iovecs, destination addresses and UDP_SEGMENT control messages, in one region.
 * Built once; sending any consecutive part of it is one system call and touches nothing here but what the kernel writes (msg_len).
 *
 * | state    | legal                 | leaves by |
 * |----------|-----------------------|-----------|
 * | building | message(), iovec()    | first send |
 * | ready    | send(), patch         | release() |
 * | released | nothing: the range is recycled | — |
 */
import { CMSGHDR, IOVEC, MMSGHDR, MSG_DONTWAIT, MSGHDR, OPT, UIO_MAXIOV } from '../layout.js'
import { errno, libc } from '../libc.js'
import { attachRegion, Region } from '../memory/region.js'

const CONTROL_SPACE = 24 // CMSG_SPACE(sizeof(uint16_t))
const NAME_SPACE = 32

export class MessageVector {
  readonly #region: Region
  readonly #view: DataView<ArrayBuffer>
  /** Of the first mmsghdr; each is MMSGHDR.size bytes and begins with its msghdr. */
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
    this.#view = new DataView(buffer)
    for (const [i, name] of names.entries()) new Uint8Array(buffer, this.#nameAt + i * NAME_SPACE, name.length).set(name)
  }

  #pointer(at: number, address: number): void {
    this.#view.setUint32(at, address >>> 0, true)
    this.#view.setUint32(at + 4, Math.floor(address / 2 ** 32), true)
  }

  /**
   * Message i takes iovecs first … first+count−1 (≤ 1024), goes to destination `name` (ignored when there are none) and, if
   * segmentBytes > 0, is cut by the kernel or the NIC into datagrams of that size (udp(7), UDP_SEGMENT).
   */
  message(i: number, name: number, first: number, count: number, segmentBytes: number): void {
    const at = i * MMSGHDR.size
    const base = this.headersAddress
    if (this.#nameLength > 0) {
      this.#pointer(at + MSGHDR.name, base + this.#nameAt + name * NAME_SPACE)
      this.#view.setUint32(at + MSGHDR.namelen, this.#nameLength, true)
    }
    this.#pointer(at + MSGHDR.iov, base + this.#iovAt + first * IOVEC.size)
    this.#pointer(at + MSGHDR.iovlen, count)
    if (segmentBytes > 0) {
      const control = this.#controlAt + i * CONTROL_SPACE
      this.#pointer(control + CMSGHDR.len, CMSGHDR.data + 2)
      this.#view.setInt32(control + CMSGHDR.level, OPT.UDP_SEGMENT[0], true)
      this.#view.setInt32(control + CMSGHDR.type, OPT.UDP_SEGMENT[1], true)
      this.#view.setUint16(control + CMSGHDR.data, segmentBytes, true)
      this.#pointer(at + MSGHDR.control, base + control)
      this.#pointer(at + MSGHDR.controllen, CONTROL_SPACE)
    }
  }

  /** Iovec i covers `byteLength` bytes from `offset` of the region at `address`. */
  iovec(i: number, address: number, offset: number, byteLength: number): void {
    const at = this.#iovAt + i * IOVEC.size
    this.#pointer(at + IOVEC.base, address + offset)
    this.#pointer(at + IOVEC.len, byteLength)
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
