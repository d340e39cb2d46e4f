/**
 * UDP messages through io_uring(7): sent without a copy, or with one where that is better. Whoever sends learns at once what the kernel
 * took, as from sendmmsg(2); the memory of what went without a copy is held until the kernel's notification.
 *
 * | message  | next                                                              |
 * |----------|-------------------------------------------------------------------|
 * | tried    | done with its result, if the kernel keeps nothing; else held       |
 * | held     | done with its notification                                         |
 * | done     | forgotten when all before it are done                              |
 */

import { IORING_CQE_F_MORE, IORING_CQE_F_NOTIF, IORING_NOTIF_USAGE_ZC_COPIED, MMSGHDR } from '../../../ffi/layout.js'
import { Scratch } from '../../../ffi/memory/scratch.js'
import { ERRNO, errnoName, NativeError } from '../../../ffi/native-error.js'
import { COPY, IoUring, LEND } from '../../../ffi/socket/io-uring.js'
import { MessageVector } from '../../../ffi/socket/message-vector.js'
import { UdpSocket } from '../../../ffi/socket/udp-socket.js'
import { PollSet } from '../../../ffi/wait.js'
import type { TableRegion } from '../../batch/table.js'

/** Messages of one call: of 64 KiB each, more than a socket buffer takes. */
const CHAIN = 128
/** Messages under way, a power of two. */
const SLOTS = 512
/** A message takes two completions, and one that never went may take two that nobody waits for. */
const COMPLETIONS = 4 * SLOTS

/** How long whoever lets go of a stream waits for what the kernel holds. */
const ABANDON_MS = 50

const DONE = 0
const TRIED = 1
/** Held, and the kernel took it … */
const SENT = 2
/** … or refused it. */
const REFUSED = 3

export class UdpRing {
  readonly #ring: IoUring
  readonly #socket: number
  readonly #state = new Uint8Array(SLOTS)
  readonly #numberOf = new Int32Array(SLOTS)
  /** Rows posted before the message. */
  readonly #rowsBefore = new Float64Array(SLOTS)
  /** Numbers of messages, wrapping: of the next one, and of the oldest that is not done. */
  #next = 0
  #oldest = 0
  /** Of the last call: its first message's number, results to come, and the place of the first message that failed. */
  #first = 0
  #results = 0
  #failed = 0
  #errno = 0
  /** Registered memory, by where it is, and slots that are free again. */
  readonly #buffers = new Map<string, { readonly slot: number; users: number }>()
  readonly #freeSlots: number[] = []
  #slots = 0
  #limit = SLOTS
  /** The kernel sends nothing out of registered memory (before Linux 6.15). */
  #unregistered = false
  /** Notifications of messages that the kernel took, and those among them that say it copied all the same. */
  notified = 0
  copied = 0

  static readonly COPY = COPY
  static readonly LEND = LEND

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

  /** So many messages are held at most; at first as many as there are slots. */
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
   * As MessageVector.send, for at most `room` messages, copied or lent (`buffer`, see IoUring.submit); `rowsBefore` counts the rows posted
   * before the first of them, and firstRow[i] the rows of its posting before message i.
   */
  send(vector: MessageVector, first: number, count: number, buffer: number, rowsBefore: number, firstRow?: Uint32Array): number {
    const number = this.#next
    const base = rowsBefore - (firstRow ? firstRow[first]! : first)
    for (let i = 0; i < count; i++) {
      const slot = (number + i) & (SLOTS - 1)
      this.#state[slot] = TRIED
      this.#numberOf[slot] = (number + i) | 0
      this.#rowsBefore[slot] = base + (firstRow ? firstRow[first + i]! : first + i)
    }
    this.#first = number
    this.#next = (number + count) | 0
    this.#failed = count
    this.#errno = 0
    const address = vector.headersAddress + first * MMSGHDR.size
    const r = this.#ring.submit(this.#socket, address, MMSGHDR.size, count, number, buffer)
    const tried = r < 0 ? 0 : r
    if (tried < count) {
      for (let i = tried; i < count; i++) this.#state[(number + i) & (SLOTS - 1)] = DONE
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

  /** The slot that memory is registered in, for one more user of it; LEND where it cannot be. */
  use({ address, byteLength }: TableRegion): number {
    const key = `${address} ${byteLength}`
    const known = this.#buffers.get(key)
    if (known) {
      known.users++
      return known.slot
    }
    const slot = this.#freeSlots.pop() ?? this.#slots
    if (this.#unregistered || slot >= this.#ring.buffers) return LEND
    if (slot === this.#slots) this.#slots++
    if (this.#ring.registerBuffer(slot, address, byteLength) === 0) {
      this.#buffers.set(key, { slot, users: 1 })
      return slot
    }
    this.#freeSlots.push(slot)
    return LEND
  }

  unuse({ address, byteLength }: TableRegion): void {
    const key = `${address} ${byteLength}`
    const known = this.#buffers.get(key)!
    if (--known.users > 0) return
    this.#buffers.delete(key)
    this.#ring.registerBuffer(known.slot, 0, 0)
    this.#freeSlots.push(known.slot)
  }

  /** A message out of registered memory was refused for that. */
  forgoRegistered(): void {
    this.#unregistered = true
  }

  /** Takes what the kernel reported. No system call. */
  collect(): void {
    const ring = this.#ring
    while (ring.next()) {
      const number = ring.number()
      const slot = number & (SLOTS - 1)
      // A message that never went is done with its result, and may be notified of later all the same.
      if (this.#numberOf[slot] === number) {
        if (ring.flags() & IORING_CQE_F_NOTIF) this.#notify(slot, ring.result())
        else if (this.#state[slot] === TRIED) this.#settle(slot, ring.result(), ring.flags())
      }
      ring.done()
    }
    while (this.#oldest !== this.#next && this.#state[this.#oldest & (SLOTS - 1)] === DONE) this.#oldest = (this.#oldest + 1) | 0
  }

  #settle(slot: number, result: number, flags: number): void {
    this.#results--
    const more = (flags & IORING_CQE_F_MORE) !== 0
    if (result >= 0) {
      this.#state[slot] = more ? SENT : DONE
      return
    }
    this.#state[slot] = more ? REFUSED : DONE
    const i = (this.#numberOf[slot]! - this.#first) | 0
    if (i < this.#failed) this.#failed = i
    // One that the kernel does not even begin (ENOMEM beyond RLIMIT_MEMLOCK) takes those before it along too.
    if (result !== -ERRNO.ECANCELED) this.#errno = -result
  }

  #notify(slot: number, result: number): void {
    if (this.#state[slot] === SENT) {
      this.notified++
      if (result & IORING_NOTIF_USAGE_ZC_COPIED) this.copied++
    }
    if (this.#state[slot] !== TRIED) this.#state[slot] = DONE
  }

  /** Rows, of all `posted`, before the first whose memory is held. */
  free(posted: number): number {
    return this.#oldest === this.#next ? posted : this.#rowsBefore[this.#oldest & (SLOTS - 1)]!
  }

  /**
   * Waits a little for what the kernel holds, and forgets it. Its pages stay the kernel's as long as it wants them: memory that is
   * released gets others (ffi/memory/mapping.ts).
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

const WHY: Readonly<Record<string, string>> = {
  ENOSYS: 'this kernel has none (ENOSYS)',
  EPERM: 'it is forbidden here (EPERM), by kernel.io_uring_disabled or a seccomp profile',
  EACCES: 'it is forbidden here (EACCES), by a seccomp profile or a security module',
  EINVAL: 'sending without a copy that tells whether it copied needs Linux 6.2 (EINVAL)',
  ENOMEM: 'its rings need more memory than may be locked (ENOMEM)',
}

/** A ring for a socket, or why there can be none. */
export function openUdpRing(socket: number): UdpRing | string {
  try {
    const refused = probe()
    return refused ? why(refused) : new UdpRing(socket)
  } catch (error) {
    if (!(error instanceof NativeError)) throw error
    return why(error.errno)
  }
}

function why(errno: number): string {
  const name = errnoName(errno)
  return WHY[name] ?? `io_uring_setup failed with ${name}`
}

let probed: number | undefined

/**
 * 0, or the errno with which the kernel refuses the operation or its flag: found by sending a byte from a loopback socket to itself,
 * once per process. Where loopback is down, the first message will tell.
 */
function probe(): number {
  if (probed !== undefined) return probed
  const socket = new UdpSocket(4)
  let ring: UdpRing | undefined
  try {
    ring = new UdpRing(socket.fd)
    const loopback = { family: 4, bytes: Uint8Array.of(127, 0, 0, 1) } as const
    socket.bind({ ...loopback, port: 0 })
    socket.connect({ ...loopback, port: socket.localPort() })
    const byte = new Scratch(1)
    const vector = new MessageVector(1, 1, [])
    vector.iovec(0, byte.address, 0, 1)
    vector.message(0, 0, 0, 1, 0)
    const sent = ring.send(vector, 0, 1, LEND, 0)
    ring.abandon()
    probed = sent === -ERRNO.EINVAL || sent === -ERRNO.EOPNOTSUPP ? -sent : 0
    vector.release()
    byte.region.release()
  } catch (error) {
    if (!ring || !(error instanceof NativeError)) throw error
    probed = 0
  } finally {
    ring?.close()
    socket.close()
  }
  return probed
}
