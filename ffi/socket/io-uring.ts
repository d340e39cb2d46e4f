/**
 * An io_uring(7) for sending: its rings mapped, entries written and completions read through typed arrays, one io_uring_enter(2) for a
 * chain of messages. Linux 6.2 (SENDMSG_ZC that reports whether it copied).
 *
 * | state  | legal        | leaves by                                                       |
 * |--------|--------------|-----------------------------------------------------------------|
 * | open   | all          | close()                                                         |
 * | closed | close()      | never; the rings' address ranges stay reserved (ffi/memory/mapping.ts)  |
 *
 * A message completes with its result and, when sent without a copy, once more with a notification: from then on the kernel reads its
 * memory no more. Results are there when `submit` returns: MSG_DONTWAIT keeps the kernel from finishing a message later by itself.
 * Linked, a message that fails takes those behind it with it (ECANCELED), so that none overtakes it.
 */
import * as L from '../layout.js'
import {
  URING_CQ_OFF,
  URING_CQE,
  URING_PARAMS,
  URING_RSRC_REGISTER,
  URING_RSRC_UPDATE2,
  URING_SQ_OFF,
  URING_SQE,
} from '../layout.js'
import { checkCall, errno, libc } from '../libc.js'
import { dropMapping, mapFile, PAGE_BYTES, roundUp } from '../memory/mapping.js'
import { attachRegion, orRelease } from '../memory/region.js'
import { Scratch } from '../memory/scratch.js'
import { ERRNO, NativeError } from '../native-error.js'

const SQE_WORDS = URING_SQE.size / 4
const CQE_WORDS = URING_CQE.size / 4
/** Slots for registered memory. */
const BUFFERS = 1024
const FLAGS = L.IORING_SETUP_CQSIZE | L.IORING_SETUP_SUBMIT_ALL | L.IORING_SETUP_COOP_TASKRUN | L.IORING_SETUP_SINGLE_ISSUER

/** The kernel copies messages as they are sent. */
export const COPY = 0
/** The kernel sends out of the messages' own memory, whose pages it has to find. */
export const LEND = 1
/** The kernel sends out of memory that is registered in a slot (Linux 6.15). */
export const REGISTERED = 2
/** How the kernel comes by the bytes of messages. */
export type SendMode = typeof COPY | typeof LEND | typeof REGISTERED
/** Stands for the slot of memory that is not registered. */
export const NO_SLOT = -1

const LENT = L.IORING_OP_SENDMSG_ZC | (L.IORING_SEND_ZC_REPORT_USAGE << 16)
const LENT_REGISTERED = LENT | (L.IORING_RECVSEND_FIXED_BUF << 16)

interface Mapped {
  readonly address: number
  readonly byteLength: number
}

function map(fd: number, offset: number, bytes: number): Mapped & { readonly buffer: ArrayBuffer } {
  const byteLength = roundUp(bytes, PAGE_BYTES)
  const address = mapFile(fd, offset, byteLength)
  return { address, byteLength, buffer: attachRegion({ id: 0, address, byteLength }) }
}

export class IoUring {
  /** For poll(2): readable while there are completions. */
  readonly fd: number
  /** Messages of one submit. */
  readonly entries: number
  readonly #syscall = libc().syscall
  readonly #maps: Mapped[] = []
  readonly #ring: Int32Array
  readonly #sqes: Int32Array
  readonly #sqHead: number
  readonly #sqTail: number
  readonly #sqMask: number
  readonly #cqHead: number
  readonly #cqTail: number
  readonly #cqMask: number
  readonly #cqes: number
  readonly #scratch = new Scratch(256)
  /** Memory is registered in slots 0 … buffers−1; 0 where there can be none. */
  readonly buffers: number
  #tail = 0
  #head = 0
  #at = 0
  #open = true

  /**
   * Used by the thread that makes it and by no other. `entries` and `completions` are powers of two.
   * @throws NativeError ENOSYS, EPERM and EACCES where io_uring is not to be had, EINVAL before Linux 6.0
   */
  constructor(entries: number, completions: number) {
    const params = new Scratch(URING_PARAMS.size)
    params.view.setUint32(URING_PARAMS.flags, FLAGS, true)
    params.view.setUint32(URING_PARAMS.cqEntries, completions, true)
    try {
      const setup = () => checkCall('io_uring_setup', this.#syscall(L.SYS_io_uring_setup, entries, params.address, 0, 0, 0, 0))
      this.fd = orRelease(this.#scratch.region, setup)
      const param = (at: number): number => params.view.getUint32(at, true)
      this.entries = param(URING_PARAMS.sqEntries)
      const sq = (field: keyof typeof URING_SQ_OFF): number => param(URING_PARAMS.sqOff + URING_SQ_OFF[field])
      const cq = (field: keyof typeof URING_CQ_OFF): number => param(URING_PARAMS.cqOff + URING_CQ_OFF[field])
      try {
        if (!(param(URING_PARAMS.features) & L.IORING_FEAT_SINGLE_MMAP)) throw new NativeError('io_uring_setup', ERRNO.EOPNOTSUPP)
        const end = Math.max(sq('array') + this.entries * 4, cq('cqes') + param(URING_PARAMS.cqEntries) * URING_CQE.size)
        const ring = this.#map(L.IORING_OFF_SQ_RING, end)
        this.#ring = new Int32Array(ring)
        this.#sqes = new Int32Array(this.#map(L.IORING_OFF_SQES, this.entries * URING_SQE.size))
        // Entry i always stands in place i.
        for (let i = 0; i < this.entries; i++) this.#ring[sq('array') / 4 + i] = i
      } catch (error) {
        this.close()
        throw error
      }
      this.#sqHead = sq('head') / 4
      this.#sqTail = sq('tail') / 4
      this.#sqMask = this.#ring[sq('ringMask') / 4]!
      this.#cqHead = cq('head') / 4
      this.#cqTail = cq('tail') / 4
      this.#cqMask = this.#ring[cq('ringMask') / 4]!
      this.#cqes = cq('cqes') / 4
      this.buffers = this.#makeSlots() ? BUFFERS : 0
    } finally {
      params.region.release()
    }
  }

  #map(offset: number, bytes: number): ArrayBuffer {
    const { buffer, ...mapped } = map(this.fd, offset, bytes)
    this.#maps.push(mapped)
    return buffer
  }

  #register(operation: number, count: number): number {
    const r = this.#syscall(L.SYS_io_uring_register, this.fd, operation, this.#scratch.address, count, 0, 0)
    return r < 0 ? errno() : 0
  }

  #makeSlots(): boolean {
    const { view, u8 } = this.#scratch
    u8.fill(0)
    view.setUint32(URING_RSRC_REGISTER.nr, BUFFERS, true)
    view.setUint32(URING_RSRC_REGISTER.flags, L.IORING_RSRC_REGISTER_SPARSE, true)
    return this.#register(L.IORING_REGISTER_BUFFERS2, URING_RSRC_REGISTER.size) === 0
  }

  /**
   * Pins memory, so that messages out of it cost no search for its pages. With length 0, unpins the memory that is in the slot. Returns 0
   * or an errno: ENOMEM beyond RLIMIT_MEMLOCK, EFAULT for memory without pages or more than 1 GiB.
   */
  registerBuffer(slot: number, address: number, byteLength: number): number {
    const scratch = this.#scratch
    scratch.u8.fill(0)
    const iovec = URING_RSRC_UPDATE2.size
    scratch.view.setUint32(URING_RSRC_UPDATE2.offset, slot, true)
    scratch.view.setUint32(URING_RSRC_UPDATE2.nr, 1, true)
    scratch.putPointer(URING_RSRC_UPDATE2.data, scratch.address + iovec)
    scratch.putPointer(iovec + L.IOVEC.base, byteLength === 0 ? 0 : address)
    scratch.putPointer(iovec + L.IOVEC.len, byteLength)
    return this.#register(L.IORING_REGISTER_BUFFERS_UPDATE, URING_RSRC_UPDATE2.size)
  }

  /**
   * Sends messages whose headers stand at `address` and every `stride` bytes behind it, in a chain; message i completes with number
   * `number + i`. Returns how many were tried, fewer than `count` if the kernel lacks memory, or −errno. One system call.
   * @param slot with REGISTERED, where all of their memory is registered
   */
  submit(socket: number, address: number, stride: number, count: number, number: number, mode: SendMode, slot = NO_SLOT): number {
    const sqes = this.#sqes
    const opcode = mode === COPY ? L.IORING_OP_SENDMSG : mode === LEND ? LENT : LENT_REGISTERED
    const bufferIndex = mode === REGISTERED ? slot : 0
    for (let i = 0; i < count; i++) {
      const at = ((this.#tail + i) & this.#sqMask) * SQE_WORDS
      const header = address + i * stride
      sqes[at] = i < count - 1 ? opcode | (L.IOSQE_IO_LINK << 8) : opcode
      sqes[at + URING_SQE.fd / 4] = socket
      sqes[at + URING_SQE.addr / 4] = header | 0
      sqes[at + URING_SQE.addr / 4 + 1] = Math.floor(header / 2 ** 32)
      sqes[at + URING_SQE.len / 4] = 1
      sqes[at + URING_SQE.msgFlags / 4] = L.MSG_DONTWAIT
      sqes[at + URING_SQE.userData / 4] = (number + i) | 0
      sqes[at + URING_SQE.bufIndex / 4] = bufferIndex
    }
    this.#tail = (this.#tail + count) | 0
    Atomics.store(this.#ring, this.#sqTail, this.#tail)
    const r = this.#syscall(L.SYS_io_uring_enter, this.fd, count, 0, 0, 0, 0)
    if (r === count) return r
    const failed = r < 0 ? errno() : 0
    // Take back the entries that the kernel did not take, or they would go with the next messages.
    this.#tail = Atomics.load(this.#ring, this.#sqHead)
    Atomics.store(this.#ring, this.#sqTail, this.#tail)
    return failed === 0 ? r : -failed
  }

  /** Makes the kernel write the completions that it holds back, and waits for one if there is none. */
  wait(): void {
    const r = this.#syscall(L.SYS_io_uring_enter, this.fd, 0, 1, L.IORING_ENTER_GETEVENTS, 0, 0)
    if (r < 0 && errno() !== ERRNO.EINTR) throw new NativeError('io_uring_enter', errno())
  }

  /** Goes to the next completion, whose fields the methods below read; false when there is none. */
  next(): boolean {
    if (this.#head === Atomics.load(this.#ring, this.#cqTail)) return false
    this.#at = this.#cqes + (this.#head & this.#cqMask) * CQE_WORDS
    return true
  }
  number(): number {
    return this.#ring[this.#at + URING_CQE.userData / 4]!
  }
  result(): number {
    return this.#ring[this.#at + URING_CQE.res / 4]!
  }
  flags(): number {
    return this.#ring[this.#at + URING_CQE.flags / 4]!
  }
  /** Gives the completion's place back to the kernel. */
  done(): void {
    this.#head = (this.#head + 1) | 0
    Atomics.store(this.#ring, this.#cqHead, this.#head)
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    libc().close(this.fd)
    this.#scratch.region.release()
    for (const { address, byteLength } of this.#maps) dropMapping(address, byteLength)
  }
}
