/**
 * Keeps an engine's rate: which rows may be posted now, when the next may, how long a row takes, and the obstacles that kept it below the rate
 * (src/stats.ts). limiter.ts has the arithmetic. A burst costs one deadline, some additions, and a binary search over its rows.
 */
import type { BackendCaps } from '../backend/backend.js'
import type { PacketTable } from '../batch/table.js'
import { COUNTER } from '../stats.js'
import { Limiter } from './limiter.js'
import { crossing, wholeMessages } from './rows.js'
import type { Variant } from './variant.js'

export interface PacingOptions {
  /** Bytes per second, of the kind that `rateBasis` says; 0 = as fast as possible. */
  readonly rateBytesPerSecond: number
  /** The rate counts UDP payload, or all that a packet takes on the wire. */
  readonly rateBasis: 'udp' | 'wire'
  /** UDP payload that may leave back to back, and a packet more. */
  readonly burstBytes: number
  readonly burstRateRatio: number
  /** How much of a time with nothing to send is made up. */
  readonly catchUpSeconds: number
}

export class Pacer {
  /** Timers may be this late. */
  readonly slackNanoseconds: number
  /** Where nothing may be posted now: when to ask again. */
  deadline = Number.NEGATIVE_INFINITY
  readonly #limiter: Limiter
  readonly #rate: number
  readonly #overheadBytes: number
  readonly #counters: Float64Array
  /** Bytes of the burst under way that may still go. The bucket's room when it began bounds them, so that a slow post does not lengthen it. */
  #burstLeft = 0
  /** Somebody was told of `deadline` and has not been back since. */
  #waiting = false
  /** How long after it they were, until rows are charged. */
  #lateNanoseconds = 0
  /** Since when nothing has been submitted; −1 = something is. Before the first work of all there is no gap. */
  #drySince = Number.POSITIVE_INFINITY
  /** Since when the backend has been refusing; −1 = it is not. */
  #refusedSince = -1

  constructor(options: PacingOptions, caps: BackendCaps, counters: Float64Array) {
    const { rateBytesPerSecond: rate, rateBasis, burstBytes, burstRateRatio, catchUpSeconds } = options
    this.#limiter = new Limiter({
      burstBytes,
      burstNanoseconds: (burstBytes * 1e9) / rate,
      burstRateRatio,
      catchUpNanoseconds: catchUpSeconds * 1e9,
    })
    this.#rate = rate
    this.#overheadBytes = rateBasis === 'wire' ? caps.wireOverheadBytes : 0
    this.#counters = counters
    this.slackNanoseconds = this.#limiter.slackNanoseconds / 2
  }

  /**
   * Nanoseconds that rows 0 … r−1 take, for every r.
   * @param rates bytes per second per heap: −1 the stream's, 0 unlimited
   */
  costs({ udpBytes, heap }: PacketTable, rates: Float64Array | undefined): Float64Array {
    const before = new Float64Array(udpBytes.length + 1)
    for (let r = 0; r < udpBytes.length; r++) {
      const own = rates ? rates[heap[r]!]! : -1
      const rate = own < 0 ? this.#rate : own
      before[r + 1] = before[r]! + (rate > 0 ? ((udpBytes[r]! + this.#overheadBytes) * 1e9) / rate : 0)
    }
    return before
  }

  /** No message may be longer: a burst ends with the packet that fills it. */
  maxMessageBytes({ udpBytes }: PacketTable): number {
    return this.#limiter.burstBytes + udpBytes.reduce((most, bytes) => Math.max(most, bytes), 1) - 1
  }

  /** The queue ran empty: all that was submitted is posted. */
  dry(now: number): void {
    if (this.#drySince < 0) this.#drySince = now
  }

  /** Work arrived again, and its first rows are posted next. */
  resume(now: number): void {
    if (this.#drySince < 0) return
    const limiter = this.#limiter
    const counters = this.#counters
    const gap = Math.min(now - this.#drySince, limiter.lag(now))
    this.#drySince = -1
    const givenUp = limiter.resume(now)
    if (gap > 0) counters[COUNTER.starvedNanoseconds]! += gap
    if (givenUp > 0) {
      counters[COUNTER.gapsGivenUp]! += 1
      counters[COUNTER.givenUpNanoseconds]! += givenUp
    }
    if (gap > givenUp) {
      counters[COUNTER.gapsMadeUp]! += 1
      counters[COUNTER.madeUpNanoseconds]! += gap - givenUp
    }
  }

  /** The row up to which `from` and those behind it may be posted now: `from` itself if none may before `deadline`. */
  end({ bytesBefore, posting }: Variant, from: number, rows: number, now: number): number {
    if (now < this.deadline) return from
    const limiter = this.#limiter
    if (this.#waiting) {
      this.#waiting = false
      this.#counters[COUNTER.lateNanoseconds]! += now - this.deadline
      this.#lateNanoseconds = now - this.deadline
    }
    const { worthBytes } = limiter
    const base = bytesBefore[from]!
    for (;;) {
      if (this.#burstLeft <= 0) {
        const allowance = limiter.allowance(now)
        if (allowance < worthBytes) {
          this.#waitUntil(limiter.next(worthBytes), now)
          return from
        }
        this.#burstLeft = allowance
      }
      const fitting = crossing(bytesBefore, from, rows, base + this.#burstLeft)
      if (fitting === rows) return rows
      const fresh = this.#burstLeft >= worthBytes
      const whole = posting ? wholeMessages(posting, from, fitting) : fitting
      if (whole > from && (!fresh || bytesBefore[whole]! - base >= worthBytes)) return whole
      if (fresh) return fitting
      // The rest of the burst is not worth a part of a message.
      this.#burstLeft = 0
    }
  }

  #waitUntil(deadline: number, now: number): void {
    this.deadline = deadline
    this.#waiting = true
    if (deadline > now) this.#counters[COUNTER.pacedNanoseconds]! += deadline - now
  }

  /** Rows from … to−1 are over with, posted or given up between `now` and `after`: either way they take their time. */
  charge({ bytesBefore, nanosecondsBefore }: Variant, from: number, to: number, now: number, after: number): void {
    const limiter = this.#limiter
    const counters = this.#counters
    const lag = Math.max(0, limiter.lag(now))
    counters[COUNTER.lagNanoseconds] = lag
    counters[COUNTER.bytesBehind] = Math.round((lag * this.#rate) / 1e9)
    if (lag > counters[COUNTER.greatestLagNanoseconds]!) counters[COUNTER.greatestLagNanoseconds] = lag
    const bytes = bytesBefore[to]! - bytesBefore[from]!
    this.#burstLeft -= bytes
    limiter.charge(bytes, nanosecondsBefore![to]! - nanosecondsBefore![from]!, now, after, this.#lateNanoseconds)
    this.#lateNanoseconds = 0
    if (this.#refusedSince < 0) return
    counters[COUNTER.refusedNanoseconds]! += now - this.#refusedSince
    this.#refusedSince = -1
  }

  /** The backend took no more for now. */
  refused(now: number): void {
    if (this.#refusedSince < 0) this.#refusedSince = now
  }
}
