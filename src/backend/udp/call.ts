/** The messages of one sendmmsg or io_uring call. One object for all calls of a backend, so that posting allocates nothing. */
import { type MessageShape, PART, PLAIN, type UdpPosting, WHOLE } from './posting.js'

export class UdpCall {
  shape: MessageShape = PLAIN
  /** Where the call begins, as a row. */
  row = 0
  /** The same, as an index into `posting.vectorOf(shape)`. */
  from = 0
  /** How many messages; for a PART how many rows, until `seal` makes them one message. */
  count = 0
  /** Rows of a PART. */
  #partRows = 0

  /**
   * Takes as much of rows row … end−1 as one call can.
   * @param merging the posting sends its messages whole
   * @param probed this row goes by itself all the same
   */
  choose(posting: UdpPosting, row: number, end: number, merging: boolean, probed: boolean): void {
    const message = posting.messageOf[row]!
    const whole = merging && !probed
    this.row = row
    if (whole && posting.firstRow[message] === row) {
      // `end` may cut a message: its part is for the next call.
      const last = end === posting.rows ? posting.firstRow.length - 1 : posting.messageOf[end]!
      if (last > message) {
        this.shape = WHOLE
        this.from = message
        this.count = last - message
        return
      }
    }
    this.from = row
    this.count = Math.min(end, merging ? posting.edge[row]! : end) - row
    this.shape = whole && this.count > 1 ? PART : PLAIN
  }

  /** Settles what goes, once it is known how many messages may: `room` at most. */
  seal(posting: UdpPosting, room: number): void {
    if (this.shape !== PART) {
      if (this.count > room) this.count = room
    } else if (this.count === 1) {
      this.shape = PLAIN
    } else {
      this.#partRows = this.count
      posting.part(this.row, this.row + this.count)
      this.from = posting.rows
      this.count = 1
    }
  }

  /** The first row behind the messages, `sent` of which were taken. */
  behind(posting: UdpPosting, sent: number): number {
    if (this.shape === WHOLE) return posting.firstRow[this.from + sent]!
    return this.row + (this.shape === PART ? this.#partRows : sent)
  }

  /** The first row behind what fails with the first message: a message fails as a whole, as far as `end` lets it go. */
  behindRefused(posting: UdpPosting, end: number): number {
    return this.shape === PLAIN ? this.row + 1 : Math.min(end, posting.edge[this.row]!)
  }
}
