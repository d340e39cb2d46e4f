/**
 * One connection to a receiver. Packets follow one another in it without anything between them, so a packet that was begun is finished before
 * any other: what the socket had no room for is the connection's `rest`.
 *
 * | state | send       | rest                     | leaves by                                       |
 * |-------|------------|--------------------------|-------------------------------------------------|
 * | open  | takes      | may be                   | a call fails → lost; close() → closed           |
 * | lost  | refuses    | none                     | close() → closed                                |
 * | closed | refuses   | none                     | never                                           |
 */
import { POLLOUT, POLLRDHUP } from '../../../ffi/layout.js'
import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import type { SegmentVector } from '../../../ffi/socket/segment-vector.js'
import { HAS_CLOSED, type TcpSocket } from '../../../ffi/socket/tcp-socket.js'
import type { TcpPosting } from './posting.js'

const { EAGAIN, EINTR, ENOBUFS, ENOMEM, EPIPE } = ERRNO

/** The losses of all connections of a stream. */
export interface Losses {
  /** How many there ever were. */
  count: number
  /**
   * A receiver that closes its side is a loss. Where there is nobody to connect to instead it is none yet: it may go on reading, and if it does not,
   * the next packet is answered by a reset.
   */
  readonly byClosing: boolean
}

export class Connection {
  state: 'open' | 'lost' | 'closed' = 'open'
  /** With which it was lost. */
  errno = 0
  /** Bytes of all packets that were begun, as far as the receiver's kernel has acknowledged them, and in all. */
  acknowledged = 0
  begun = 0
  receiverHasClosed = false
  /** The kernel had no memory at the last call. The socket is writable all the same, so only time helps. */
  lacksMemory = false
  lossNoted = false
  /** The events of the socket to wait for; a lost connection is not waited for. */
  readonly interest: { readonly fd: number; events: number }
  readonly #socket: TcpSocket
  #taken = 0
  #vector: SegmentVector | undefined
  #segment = 0
  #end = 0
  #skip = 0
  #lengths: Uint32Array = new Uint32Array(0)

  readonly #losses: Losses

  constructor(socket: TcpSocket, losses: Losses) {
    this.#socket = socket
    this.#losses = losses
    this.interest = { fd: socket.fd, events: this.#closing }
  }

  get fd(): number {
    return this.#socket.fd
  }

  /** A packet has been begun and not finished. */
  get hasRest(): boolean {
    return this.#vector !== undefined
  }

  /** Sends what it can of the rest. False while some is left, or the connection is lost. */
  finish(): boolean {
    while (this.#vector) {
      const taken = this.#vector.send(this.fd, this.#segment, this.#end, this.#skip)
      if (taken < 0) {
        if (-taken === EINTR) continue
        this.#refuse(-taken)
        return false
      }
      this.lacksMemory = false
      this.#taken += taken
      this.#skip += taken
      this.#forward()
    }
    return this.state === 'open'
  }

  /**
   * Sends packets `first` … end−1 as far as there is room, in one call. Returns how many were begun; 0 when there is no room, or the connection
   * is lost. Only where finish() is true.
   */
  send(posting: TcpPosting, first: number, end: number): number {
    const { table, vector, bytesBefore } = posting
    const { segmentStart } = table
    const start = segmentStart[first]!
    let taken = vector.send(this.fd, start, segmentStart[end]!, 0)
    while (taken === -EINTR!) taken = vector.send(this.fd, start, segmentStart[end]!, 0)
    if (taken <= 0) {
      this.#refuse(-taken)
      return 0
    }
    this.lacksMemory = false
    this.#taken += taken
    const to = bytesBefore[first]! + taken
    let row = rowsBefore(bytesBefore, first, end, to)
    if (bytesBefore[row]! < to) {
      this.#vector = vector
      this.#segment = segmentStart[row]!
      this.#end = segmentStart[row + 1]!
      this.#skip = to - bytesBefore[row]!
      this.#lengths = table.segmentLength
      this.#forward()
      row++
    }
    this.begun += bytesBefore[row]! - bytesBefore[first]!
    return row - first
  }

  /** Lets the rest begin behind segments that were taken whole. */
  #forward(): void {
    while (this.#segment < this.#end && this.#skip >= this.#lengths[this.#segment]!) this.#skip -= this.#lengths[this.#segment++]!
    if (this.#segment === this.#end) this.#vector = undefined
  }

  /** Sets what to wait for: acknowledgements and losses anyway, room for a packet if there is none, or for the rest of one. */
  await(room: boolean): void {
    const wants = (room || this.#vector !== undefined) && !this.lacksMemory
    this.interest.events = (wants ? POLLOUT : 0) | this.#closing
  }

  /** The event for a receiver that closes its side. It is asked for until it came, because poll(2) would report it for ever. */
  get #closing(): number {
    return this.receiverHasClosed || this.#socket.given ? 0 : POLLRDHUP
  }

  #refuse(errno: number): void {
    this.lacksMemory = errno === ENOBUFS || errno === ENOMEM
    if (errno !== EAGAIN && !this.lacksMemory) this.lose(errno)
  }

  /** Learns how much is acknowledged. */
  look(): void {
    if (this.state !== 'open') return
    const errno = this.#ask()
    if (errno !== 0) this.lose(errno)
  }

  #ask(): number {
    try {
      this.acknowledged = this.#taken - this.#socket.unacknowledged()
      return 0
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      return error.errno
    }
  }

  /** Learns what else there is to learn: a reset, a side that was closed. Afterwards nothing makes the descriptor ready that is known already. */
  lookAround(): void {
    if (this.state !== 'open') return
    this.#socket.drainNotices()
    // The user reads what arrives at a socket of theirs.
    const read = this.receiverHasClosed || this.#socket.given ? 0 : this.#socket.readAway()
    if (read === HAS_CLOSED) this.receiverHasClosed = true
    const errno = read > 0 ? read : this.#socket.takeError()
    if (errno !== 0) this.lose(errno)
    else if (this.receiverHasClosed && this.#losses.byClosing) this.lose(EPIPE)
  }

  lose(errno: number): void {
    if (this.state !== 'open') return
    this.#ask()
    this.#losses.count++
    this.state = 'lost'
    this.errno = errno
    this.#vector = undefined
  }

  close(): void {
    this.state = 'closed'
    this.#vector = undefined
    this.#socket.close()
  }
}

/** The last row from `first` to `end` before which there are no more than `bytes`. */
function rowsBefore(bytesBefore: Float64Array, first: number, end: number, bytes: number): number {
  let low = first
  let high = end
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (bytesBefore[middle]! <= bytes) low = middle
    else high = middle - 1
  }
  return low
}
