/**
 * UDP messages through io_uring(7): sent without a copy, or with one where that is better. `send` tells at once what the kernel took, as
 * sendmmsg(2) does. The memory of messages without a copy is held until the kernel's notification.
 *
 * | message  | next                                                              |
 * |----------|-------------------------------------------------------------------|
 * | TRIED    | DONE with its result if the kernel keeps nothing; else SENT or REFUSED |
 * | SENT     | DONE with its notification: the kernel has let go of the memory      |
 * | REFUSED  | DONE with its notification                                         |
 * | DONE     | forgotten when all before it are DONE                              |
 */
import { IORING_CQE_F_MORE, IORING_CQE_F_NOTIF, IORING_NOTIF_USAGE_ZC_COPIED, MMSGHDR } from '../../../ffi/layout.js'
import { ERRNO } from '../../../ffi/native-error.js'
import { IoUring, NO_SLOT, type SendMode } from '../../../ffi/socket/io-uring.js'
import type { MessageVector } from '../../../ffi/socket/message-vector.js'
import { PollSet } from '../../../ffi/wait.js'
import type { TableRegion } from '../../batch/table.js'

/** Messages of one call: of 64 KiB each, more than a socket buffer takes. */
const CHAIN = 128
/** Messages under way, a power of two. */
const UNDER_WAY = 512
/** A message takes two completions, and one that never went may take two that nobody waits for. */
const COMPLETIONS = 4 * UNDER_WAY

/** How long `abandon` waits for memory that the kernel holds. */
const ABANDON_MS = 50

const DONE = 0
const TRIED = 1
/** The kernel took it, and holds its memory. */
const SENT = 2
/** The kernel refused it, and will still notify of it. */
const REFUSED = 3

export class UdpRing {
  readonly #ring: IoUring
  readonly #socket: number
  readonly #state = new Uint8Array(UNDER_WAY)
  readonly #numberOf = new Int32Array(UNDER_WAY)
  /** Rows posted before the message. */
  readonly #rowsBefore = new Float64Array(UNDER_WAY)
  /** Numbers of messages, which wrap: the next one's, and that of the oldest that is not done. */
  #next = 0
  #oldest = 0
  /** The last call: its first message's number, its results to come, and the place of its first message that failed. */
  #first = 0
  #results = 0
  #failed = 0
  #errno = 0
  /** Registered memory, by address and length, slots that are free again, and how many slots were ever used. */
  readonly #buffers = new Map<string, { readonly slot: number; users: number }>()
  readonly #freeSlots: number[] = []
  #slots = 0
  /** The most messages that may be held. */
  #limit = UNDER_WAY
  /** The kernel sends nothing out of registered memory (before Linux 6.15). */
  #unregistered = false
  /** Notifications of messages that the kernel took, and those among them that say it copied all the same. */
  notified = 0
  copied = 0

  /** @throws NativeError */
  constructor(socket: number) {
    this.#socket = socket
    this.#ring = new IoUring(CHAIN, COMPLETIONS)
  }

  get fd(): number {
    return this.#ring.fd
  }

  /** How many messages the next call may have. */
  get room(): number {
    const free = this.#limit - this.held
    return free > CHAIN ? CHAIN : free < 0 ? 0 : free
  }

  /** Sets how many messages may be held. */
  limit(messages: number): void {
    this.#limit = messages
  }

  /** Messages from the oldest on whose memory the kernel holds. */
  get held(): number {
    return (this.#next - this.#oldest) | 0
  }

  /** Why the last call ended before all of its messages were taken. */
  get errno(): number {
    return this.#errno
  }

  /** Rises with every message let go. */
  get progress(): number {
    return this.#oldest
  }

  /**
   * Sends as MessageVector.send does, at most `room` messages. `rowsBefore` counts the rows posted before the first of them, and
   * firstRow[i] the rows of its posting before message i.
   * @param slot where `use` registered the memory of REGISTERED messages
   */
  send(
    vector: MessageVector,
    first: number,
    count: number,
    mode: SendMode,
    slot: number,
    rowsBefore: number,
    firstRow?: Uint32Array,
  ): number {
    const number = this.#next
    const base = rowsBefore - (firstRow ? firstRow[first]! : first)
    for (let i = 0; i < count; i++) {
      const place = (number + i) & (UNDER_WAY - 1)
      this.#state[place] = TRIED
      this.#numberOf[place] = (number + i) | 0
      this.#rowsBefore[place] = base + (firstRow ? firstRow[first + i]! : first + i)
    }
    this.#first = number
    this.#next = (number + count) | 0
    this.#failed = count
    this.#errno = 0
    const address = vector.headersAddress + first * MMSGHDR.size
    const r = this.#ring.submit(this.#socket, address, MMSGHDR.size, count, number, mode, slot)
    const tried = r < 0 ? 0 : r
    if (tried < count) {
      for (let i = tried; i < count; i++) this.#state[(number + i) & (UNDER_WAY - 1)] = DONE
      this.#failed = tried
      this.#errno = r < 0 ? -r : ERRNO.ENOMEM
    }
    this.#results = tried
    this.collect()
    while (this.#results > 0) {
      this.#ring.wait()
      this.collect()
    }
    return this.#failed > 0 ? this.#failed : -this.#errno
  }

  /** The slot that memory is registered in, for one more user of it; NO_SLOT where it cannot be. */
  use({ address, byteLength }: TableRegion): number {
    const key = `${address} ${byteLength}`
    const known = this.#buffers.get(key)
    if (known) {
      known.users++
      return known.slot
    }
    const slot = this.#freeSlots.pop() ?? this.#slots
    if (this.#unregistered || slot >= this.#ring.buffers) return NO_SLOT
    if (slot === this.#slots) this.#slots++
    if (this.#ring.registerBuffer(slot, address, byteLength) === 0) {
      this.#buffers.set(key, { slot, users: 1 })
      return slot
    }
    this.#freeSlots.push(slot)
    return NO_SLOT
  }

  unuse({ address, byteLength }: TableRegion): void {
    const key = `${address} ${byteLength}`
    const known = this.#buffers.get(key)!
    if (--known.users > 0) return
    this.#buffers.delete(key)
    this.#ring.registerBuffer(known.slot, 0, 0)
    this.#freeSlots.push(known.slot)
  }

  /** A message was refused because it came out of registered memory: registers no more. */
  forgoRegistered(): void {
    this.#unregistered = true
  }

  /** Takes what the kernel reported. No system call. */
  collect(): void {
    const ring = this.#ring
    while (ring.next()) {
      const number = ring.number()
      const place = number & (UNDER_WAY - 1)
      // A message that never went is done with its result, and a notification of it may come later all the same.
      if (this.#numberOf[place] === number) {
        if (ring.flags() & IORING_CQE_F_NOTIF) this.#notify(place, ring.result())
        else if (this.#state[place] === TRIED) this.#settle(place, ring.result(), ring.flags())
      }
      ring.done()
    }
    while (this.#oldest !== this.#next && this.#state[this.#oldest & (UNDER_WAY - 1)] === DONE)
      this.#oldest = (this.#oldest + 1) | 0
  }

  #settle(place: number, result: number, flags: number): void {
    this.#results--
    const more = (flags & IORING_CQE_F_MORE) !== 0
    if (result >= 0) {
      this.#state[place] = more ? SENT : DONE
      return
    }
    this.#state[place] = more ? REFUSED : DONE
    const i = (this.#numberOf[place]! - this.#first) | 0
    if (i < this.#failed) this.#failed = i
    // A message that the kernel does not even begin (ENOMEM beyond RLIMIT_MEMLOCK) cancels those before it too.
    if (result !== -ERRNO.ECANCELED) this.#errno = -result
  }

  #notify(place: number, result: number): void {
    if (this.#state[place] === SENT) {
      this.notified++
      if (result & IORING_NOTIF_USAGE_ZC_COPIED) this.copied++
    }
    if (this.#state[place] !== TRIED) this.#state[place] = DONE
  }

  /** How many of all `posted` rows come before the first whose memory is held. */
  free(posted: number): number {
    return this.#oldest === this.#next ? posted : this.#rowsBefore[this.#oldest & (UNDER_WAY - 1)]!
  }

  /**
   * Waits a little for the memory that the kernel holds, and forgets it. The kernel keeps those pages as long as it wants them: an address
   * range that is released gets others (ffi/memory/mapping.ts).
   */
  abandon(): void {
    if (this.held === 0) return
    const poll = new PollSet(1)
    for (let left = ABANDON_MS; left > 0 && this.held > 0; left -= 5) {
      poll.reset()
      poll.add(this.fd)
      poll.wait(5e6)
      this.collect()
    }
    this.#oldest = this.#next
  }

  close(): void {
    this.#ring.close()
  }
}
