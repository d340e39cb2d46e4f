/**
 * The iovecs of a batch's packets for sendmsg(2), in a region, with one msghdr before them. They are linked once; any 1024 that follow one
 * another are sent in a call, from any byte of the first.
 *
 * | state    | legal               | leaves by    |
 * |----------|---------------------|--------------|
 * | building | segment()           | first send() |
 * | ready    | send()              | release()    |
 * | released | nothing             | never        |
 */
import { IOVEC, MSG_DONTWAIT, MSG_NOSIGNAL, MSGHDR, UIO_MAXIOV } from '../layout.js'
import { errno, libc } from '../libc.js'
import { attachRegion, Region } from '../memory/region.js'
import { writePointer } from '../memory/store-pointer.js'

const IOVECS_AT = 64

export class SegmentVector {
  readonly #region: Region
  readonly #words: Uint32Array<ArrayBuffer>
  readonly #sendmsg = libc().sendmsg

  constructor(readonly segments: number) {
    this.#region = Region.allocate(IOVECS_AT + segments * IOVEC.size, { hugePages: 'never' })
    this.#words = new Uint32Array(attachRegion(this.#region))
  }

  /** Segment i is `byteLength` bytes at `address`. */
  segment(i: number, address: number, byteLength: number): void {
    const at = IOVECS_AT + i * IOVEC.size
    writePointer(this.#words, (at + IOVEC.base) >> 2, address)
    writePointer(this.#words, (at + IOVEC.len) >> 2, byteLength)
  }

  /**
   * Sends segments first … end−1, of which the first 1024 count, without the first `skip` bytes. Returns how many bytes were taken, or −errno.
   * One system call, nothing allocated.
   */
  send(fd: number, first: number, end: number, skip: number): number {
    const words = this.#words
    const { address } = this.#region
    const at = IOVECS_AT + first * IOVEC.size
    writePointer(words, MSGHDR.iov >> 2, address + at)
    words[MSGHDR.iovlen >> 2] = end - first > UIO_MAXIOV ? UIO_MAXIOV : end - first
    if (skip > 0) this.#shift(at, skip)
    const taken = this.#sendmsg(fd, address, MSG_DONTWAIT | MSG_NOSIGNAL)
    const failed = taken < 0 ? errno() : 0
    if (skip > 0) this.#shift(at, -skip)
    return failed === 0 ? taken : -failed
  }

  /** Lets an iovec begin `bytes` later. */
  #shift(at: number, bytes: number): void {
    const words = this.#words
    const base = (at + IOVEC.base) >> 2
    writePointer(words, base, words[base]! + words[base + 1]! * 2 ** 32 + bytes)
    words[(at + IOVEC.len) >> 2]! -= bytes
  }

  release(): void {
    this.#region.release()
  }
}
