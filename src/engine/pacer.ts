/**
 * Keeps an engine's rate: which rows may be posted now, when the next may, what a row costs, and what came in the way of the rate
 * (src/stats.ts). limiter.ts has the arithmetic. A burst costs one deadline, some additions, and a binary search over its rows.
 */
import type { BackendCaps, Posting } from '../backend/backend.js'
import type { PacketTable } from '../batch/table.js'
import { COUNTER } from '../stats.js'
import { Limiter } from './limiter.js'
import type { Variant } from './variant.js'

export interface PacingOptions {
  /** Bytes per second, of the kind that `rateBasis` says; 0 = as fast as possible. */
  readonly rateBytesPerSecond: number
  /** What the rate counts: UDP payload, or all that a packet takes on the wire. */
  readonly rateBasis: 'udp' | 'wire'
  /** UDP payload that may leave back to back, and a packet more. */
  readonly burstBytes: number
  readonly burstRateRatio: number
  /** So much of a time with nothing to send is made up. */
  readonly catchUpSeconds: number
}

/** Where a message does not fit any more, packets of it go if they are this share of a burst; else it waits. */
const WORTH_CUTTING = 1 / 4
/**
 * A message of several packets is at most this share of a burst. A stream that is behind sends what fits of a burst, and a message that does
 * not fit would go packet by packet, at several times the CPU, which puts a busy host behind for good. Four messages a burst go in one call.
 */
const MESSAGE_SHARE = 1 / 4

export class Pacer {
  /** No message may exceed this. */
  readonly maxMessageBytes: number
  /** Timers may be this late. */
  readonly slackNanoseconds: number
  /** Where nothing may be posted now: when to ask again. */
  deadline = Number.NEGATIVE_INFINITY
  readonly #limiter: Limiter
  readonly #rate: number
  readonly #overheadBytes: number
  readonly #counters: Float64Array
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
    this.maxMessageBytes = Math.max(1, Math.floor(MESSAGE_SHARE * burstBytes))
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

  /** Nothing is submitted that is not posted. */
  dry(now: number): void {
    if (this.#drySince < 0) this.#drySince = now
  }

  /** Something is, and its first rows come next. */
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
    const allowance = limiter.allowance(now)
    const limit = bytesBefore[from]! + allowance
    if (bytesBefore[rows]! <= limit) return rows
    const fitting = lastWithin(bytesBefore, from, rows, limit)
    const whole = posting ? wholeMessages(posting, from, fitting) : fitting
    if (whole > from) return whole
    if (limiter.empty) return Math.max(fitting, from + 1)
    const packet = bytesBefore[from + 1]! - bytesBefore[from]!
    const worth = Math.max(packet, Math.floor(WORTH_CUTTING * limiter.burstBytes))
    // On time, a message waits until it fits: cut, it takes several times the CPU.
    if (limiter.lag(now) >= 0 && allowance >= worth && fitting > from) return fitting
    this.#waitUntil(limiter.next(worth), now)
    return from
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

/** The greatest row up to which `limit` is not exceeded; rows 0 … from−1 do not exceed it, and rows 0 … rows−1 do. */
function lastWithin(bytesBefore: Float64Array, from: number, rows: number, limit: number): number {
  let low = from
  let high = rows - 1
  while (low < high) {
    const middle = (low + high + 1) >> 1
    if (bytesBefore[middle]! <= limit) low = middle
    else high = middle - 1
  }
  return low
}

/** `end`, moved down to where a message ends; `from` if that is within the first. */
function wholeMessages({ edge }: Posting, from: number, end: number): number {
  if (end === from || edge[end - 1] === end) return end
  // Rows of one message have one edge, and edges only rise.
  const cut = edge[end - 1]!
  let low = from
  let high = end - 1
  while (low < high) {
    const middle = (low + high) >> 1
    if (edge[middle] === cut) high = middle
    else low = middle + 1
  }
  return low
}
