/**
 * Two clocks keep a rate, as in spead2's limiter. The average clock says when the next byte is due. The burst clock says when what went
 * lately is paid for at the burst rate (rate × burstRateRatio), which bounds how fast a delay is made up.
 *
 * | the average clock is | bytes that may go now                                        |
 * |----------------------|--------------------------------------------------------------|
 * | ahead of now         | what the burst that began has left; then none until it is due |
 * | at or behind now     | burstBytes, less what is not yet paid for at the burst rate    |
 *
 * So in every span of time at most burstBytes, a packet, and what the burst rate allows in that span may go, and on average no more than the
 * rate.
 * Times are nanoseconds as doubles: 65536 bytes at 40 Gb/s cost 13107.2 ns and nothing is lost to rounding. The clock is the caller's. The
 * caller posts as many packets as fit, and ends with the packet that crosses the line. Nothing is allocated.
 */
export interface LimiterOptions {
  /** Bytes that may leave back to back. */
  readonly burstBytes: number
  /** How long they take at the rate. */
  readonly burstNanoseconds: number
  /** ≥ 1 */
  readonly burstRateRatio: number
  /** How much of the time without work is made up. */
  readonly catchUpNanoseconds: number
}

/** A stream that is behind sends as soon as this share of a burst may go. */
const WORTH = 5 / 8
/** The same where the thread usually wakes so late that a whole burst might go by then. */
const WORTH_WHEN_LATE = 1 / 4
/** A post that takes this share of a burst's time more than usual was held up. */
const UNUSUAL = 1 / 8

export class Limiter {
  burstBytes: number
  /** A wake-up may be this late, each time, and the burst rate still makes up for it. */
  readonly slackNanoseconds: number
  readonly #ratio: number
  #burstNanoseconds: number
  /** How long a burst takes that goes on time. */
  #usualNanoseconds: number
  readonly #catchUpNanoseconds: number
  /** When the next byte is due: the average clock. A schedule sets it. */
  due = Number.NEGATIVE_INFINITY
  /** The burst clock: bytes not yet paid for at `levelAt`, and when all will be, so that a whole burst may go. They drain evenly in between. */
  #level = 0
  #levelAt = 0
  #emptyAt = 0
  /** How late bursts go and by how much that varies, and how long a post takes: moving averages. */
  #lateness = 0
  #deviation = 0
  #postNanoseconds = 0

  constructor({ burstBytes, burstNanoseconds, burstRateRatio, catchUpNanoseconds }: LimiterOptions) {
    this.burstBytes = burstBytes
    this.slackNanoseconds = burstNanoseconds * (1 - 1 / burstRateRatio)
    this.#ratio = burstRateRatio
    this.#burstNanoseconds = burstNanoseconds
    this.#usualNanoseconds = burstNanoseconds
    this.#catchUpNanoseconds = catchUpNanoseconds
  }

  /** From now on a burst has so many bytes, which take so long, and one on time takes no longer than `usualNanoseconds`. */
  retime(burstBytes: number, burstNanoseconds: number, usualNanoseconds: number): void {
    this.burstBytes = burstBytes
    this.#burstNanoseconds = burstNanoseconds
    this.#usualNanoseconds = usualNanoseconds
  }

  /** How long ago the next byte was due; negative while it is not. */
  lag(now: number): number {
    return now - this.due
  }

  /** Work arrived after there was none. Returns the nanoseconds that will not be made up. */
  resume(now: number): number {
    const earliest = now - this.#catchUpNanoseconds
    // The first ever: nothing was owed before it.
    if (this.due === Number.NEGATIVE_INFINITY) this.due = now
    if (this.due >= earliest) return 0
    const forgotten = earliest - this.due
    this.due = earliest
    return forgotten
  }

  /** Bytes that may go now, and what the last packet has beyond them. */
  allowance(now: number): number {
    this.#drain(now)
    return Math.round(this.burstBytes - this.#level)
  }

  /** Bytes that are worth a wake-up and a message while the stream is behind. */
  get worthBytes(): number {
    return Math.ceil(this.burstBytes * (this.#usualLateness > this.#burstNanoseconds * (1 - WORTH) ? WORTH_WHEN_LATE : WORTH))
  }

  /** Most wake-ups are no later than this (as TCP computes its timeout, RFC 6298). */
  get #usualLateness(): number {
    return this.#lateness + 2 * this.#deviation
  }

  /**
   * When the next burst is to go, of which the first `bytes` do not fit now. On time, that is when it is due. Behind, a thread
   * that usually wakes late is asked for earlier by that lateness, because once a whole burst may go, waiting longer gains no
   * bytes.
   */
  next(bytes: number): number {
    const room = this.burstBytes - Math.min(bytes, this.burstBytes)
    const fits = this.#emptyAt - (room >= this.#level ? 1 : room / this.#level) * (this.#emptyAt - this.#levelAt)
    return Math.max(this.due, fits, this.#emptyAt - this.#usualLateness)
  }

  /**
   * `bytes` were posted, or given up on, that take `nanoseconds` at the wanted rate: between `now` and `after`, and `late` nanoseconds after
   * next(). If that took far longer than usual, the thread lost its CPU meanwhile and the packets may have left just now. Returns when they left,
   * as far as that can be told.
   */
  charge(bytes: number, nanoseconds: number, now: number, after: number, late: number): number {
    const delay = after - now - this.#postNanoseconds
    const unusual = this.#usualNanoseconds * UNUSUAL
    this.#postNanoseconds += Math.min(delay, unusual) / 16
    const left = delay < unusual ? now : now + delay
    this.#level += bytes
    this.#levelAt = left
    this.due += nanoseconds
    this.#emptyAt = Math.max(this.#emptyAt, left) + nanoseconds / this.#ratio
    const more = Math.min(late + left - now, this.#burstNanoseconds) - this.#lateness
    this.#lateness += more / 8
    this.#deviation += (Math.abs(more) - this.#deviation) / 4
    return left
  }

  #drain(now: number): void {
    if (now < this.due) return
    if (now >= this.#emptyAt) this.#level = 0
    else if (now > this.#levelAt) {
      this.#level *= (this.#emptyAt - now) / (this.#emptyAt - this.#levelAt)
      this.#levelAt = now
    }
  }
}
