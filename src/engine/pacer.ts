/**
 * Keeps an engine's rate: which rows may be posted now, when the next may, how long a row takes, and the obstacles that kept it below the rate
 * (src/stats.ts). limiter.ts has the arithmetic. A burst costs one deadline, some additions, and a binary search over its rows.
 *
 * With an observation clock the timestamps of a flight say when it is due (schedule.ts), and its packets are spread over that time by their bytes.
 * A flight is in stretches: one ends where the next heap is more than samplesPerHeap later, as behind a heap that a mask leaves out, or is
 * earlier. What is due is set anew with every stretch, so no error adds up and no delay is forgotten. A variant without timestamps, such as one
 * of descriptors, goes at once.
 */
import type { BackendCaps } from '../backend/backend.js'
import type { PacketTable } from '../batch/table.js'
import { Histogram } from '../histogram.js'
import { COUNTER } from '../stats.js'
import { Limiter } from './limiter.js'
import { crossing, wholeMessages } from './rows.js'
import { type ClockMessage, Schedule } from './schedule.js'
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

/** With an observation clock, a packet that goes together with others leaves no earlier than this before its time. */
const EARLY_NANOSECONDS = 500_000
/** With an observation clock, so much of what is late may go together: a thread that wakes up late by a time slice keeps up. */
const LATE_NANOSECONDS = 6e6
/** A flight that begins later than this behind the end of the one before ends the burst. */
const GAP_NANOSECONDS = 1000
/** A send that may be withdrawn is claimed so long before it is due, and its headers are written then. */
const CLAIM_NANOSECONDS = 2e6
/** How soon a send behind one that was withdrawn has its turn. */
const TURN_NANOSECONDS = 10e6

export class Pacer {
  /** Timers may be this late. */
  readonly slackNanoseconds: number
  /** Where nothing may be posted now: when to ask again. */
  deadline = Number.NEGATIVE_INFINITY
  readonly #limiter: Limiter
  /** Bytes per second; with an observation clock, of the flight under way. */
  #rate: number
  readonly #burstBytes: number
  /** With an observation clock, the bytes of a burst that goes on time. */
  #timelyBytes = Number.POSITIVE_INFINITY
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
  readonly #schedule: Schedule | undefined
  readonly #tell: (message: ClockMessage) => void
  readonly #errors: Histogram | undefined
  /** How late a heap must be to be left out; Infinity: none is. */
  readonly #tolerance: number
  /** Heaps have been left out, and none has been in time since. */
  #skipping = false
  /** The stretch under way: whose, and the row and the heap behind it; how many heaps the flight has. */
  #variant: Variant | undefined
  #stretchEnd = 0
  #nextHeap = 0
  #heaps = 0

  constructor(
    options: PacingOptions,
    caps: BackendCaps,
    counters: Float64Array,
    schedule?: Schedule,
    tell: (message: ClockMessage) => void = () => {},
  ) {
    const { rateBytesPerSecond: rate, rateBasis, burstBytes, burstRateRatio, catchUpSeconds } = options
    this.#limiter = new Limiter({
      burstBytes,
      burstNanoseconds: schedule ? EARLY_NANOSECONDS : (burstBytes * 1e9) / rate,
      burstRateRatio,
      catchUpNanoseconds: catchUpSeconds * 1e9,
    })
    this.#rate = rate
    this.#burstBytes = burstBytes
    this.#schedule = schedule
    this.#tell = tell
    this.#tolerance = schedule?.options.late === 'skip' ? schedule.options.toleranceNanoseconds : Number.POSITIVE_INFINITY
    this.#errors = schedule && new Histogram(schedule.options.errors)
    this.#overheadBytes = rateBasis === 'wire' ? caps.wireOverheadBytes : 0
    this.#counters = counters
    this.slackNanoseconds = this.#limiter.slackNanoseconds / 2
  }

  /**
   * Nanoseconds that rows 0 … r−1 take, for every r; undefined where their timestamps say so.
   * @param rates bytes per second per heap: −1 the stream's, 0 unlimited
   */
  costs({ udpBytes, heap }: PacketTable, rates: Float64Array | undefined): Float64Array | undefined {
    if (this.#schedule) return undefined
    const before = new Float64Array(udpBytes.length + 1)
    for (let r = 0; r < udpBytes.length; r++) {
      const own = rates ? rates[heap[r]!]! : -1
      const rate = own < 0 ? this.#rate : own
      before[r + 1] = before[r]! + (rate > 0 ? ((udpBytes[r]! + this.#overheadBytes) * 1e9) / rate : 0)
    }
    return before
  }

  /** No message may be longer: a burst ends with the packet that fills it. */
  maxMessageBytes({ udpBytes, heaps, substream }: PacketTable): number {
    const packet = udpBytes.reduce((most, bytes) => Math.max(most, bytes), 1)
    const schedule = this.#schedule
    if (!schedule) return this.#limiter.burstBytes + packet - 1
    // At most one heap of each substream has the same timestamp.
    const heapBytes = udpBytes.reduce((sum, bytes) => sum + bytes, 0) / heaps
    const heapNanoseconds = schedule.options.samplesPerHeap * schedule.nanosecondsPerSample
    return this.#burstOf((heapBytes * new Set(substream).size * 1e9) / heapNanoseconds, EARLY_NANOSECONDS) + packet - 1
  }

  /** The bytes of a burst with an observation clock. */
  #burstOf(rate: number, nanoseconds: number): number {
    return Math.min(this.#burstBytes, Math.max(1, Math.floor((rate * nanoseconds) / 1e9)))
  }

  /** The queue ran empty: all that was submitted is posted. */
  dry(now: number): void {
    if (this.#drySince < 0) this.#drySince = now
  }

  /** A flight was claimed, and its first rows are posted next. */
  begin(variant: Variant, heaps: number, rows: number, now: number): void {
    const schedule = this.#schedule
    if (!schedule) {
      this.resume(now)
      return
    }
    if (!variant.timestamps) return
    if (now >= schedule.lookAt) this.#look(schedule, now)
    this.#variant = variant
    this.#stretchEnd = 0
    this.#nextHeap = 0
    this.#heaps = heaps
    const due = this.#stretch(schedule, rows, now)
    if (this.#drySince < 0) return
    const gap = now - Math.max(this.#drySince, due)
    this.#drySince = -1
    if (gap > 0) this.#counters[COUNTER.starvedNanoseconds]! += gap
  }

  /** Begins the next stretch of the flight under way. Returns when it is due. One subtraction a heap. */
  #stretch(schedule: Schedule, rows: number, now: number): number {
    const variant = this.#variant!
    const { bytesBefore, timestamps } = variant
    const { column, table } = timestamps!
    const heaps = this.#heaps
    const from = this.#stretchEnd
    const first = this.#nextHeap
    const due = schedule.dueOf(column[first]!, 8 * table.bytes, now)
    let next = first + 1
    let end = rows
    for (; next < heaps; next++) {
      if (schedule.follows(column[next]!, column[next - 1]!)) continue
      end = variant.firstRow(next)
      if (variant.endOfWholes(end) > end) break
      end = rows
    }
    this.#nextHeap = next
    this.#stretchEnd = end
    this.#fit(((bytesBefore[end]! - bytesBefore[from]!) * 1e9) / schedule.spanTo(column[next - 1]!))
    if (!(due - this.#limiter.due <= GAP_NANOSECONDS)) this.#burstLeft = 0
    this.#limiter.due = due
    this.deadline = Number.NEGATIVE_INFINITY
    this.#waiting = false
    return due
  }

  /** Goes on to the stretch of row `from` of `rows`, if that is of the flight under way. Rows that are posted again lie before it. */
  #reach(variant: Variant, from: number, rows: number, now: number): void {
    while (variant === this.#variant && from >= this.#stretchEnd && this.#stretchEnd < rows)
      this.#stretch(this.#schedule!, rows, now)
  }

  /** Whether a variant that is sent next begins so late that it need not be claimed before `deadline`. */
  isAhead({ timestamps, gather }: Variant, now: number): boolean {
    const schedule = this.#schedule
    if (!schedule || !timestamps) return false
    if (gather) gather()
    if (now >= schedule.lookAt) this.#look(schedule, now)
    const { column, table } = timestamps
    const claimAt = schedule.dueOf(column[0]!, 8 * table.bytes, now) - CLAIM_NANOSECONDS
    if (now >= claimAt) return false
    const deadline = Math.min(claimAt, now + TURN_NANOSECONDS)
    this.#counters[COUNTER.pacedNanoseconds]! += deadline - Math.max(now, Math.min(this.deadline, deadline))
    this.deadline = deadline
    return true
  }

  #fit(rate: number): void {
    if (rate === this.#rate) return
    this.#rate = rate
    this.#timelyBytes = this.#burstOf(rate, EARLY_NANOSECONDS)
    const burst = this.#burstOf(rate, LATE_NANOSECONDS)
    this.#limiter.retime(burst, (burst * 1e9) / rate, (this.#timelyBytes * 1e9) / rate)
  }

  /** Compares the clocks, and moves what is due if the wall clock was set. */
  #look(schedule: Schedule, now: number): void {
    const moved = schedule.look(now)
    if (moved === 0) return
    this.#limiter.due += moved
    this.deadline = Number.NEGATIVE_INFINITY
    this.#waiting = false
    if (moved > GAP_NANOSECONDS) this.#burstLeft = 0
    if (!Schedule.isStep(moved)) return
    this.#counters[COUNTER.clockSteps]! += 1
    this.#tell({ type: 'clock', what: 'step', heaps: 0, seconds: -moved / 1e9 })
  }

  /** Whether row `from` begins a heap that is too late. @param rows of its flight */
  isTooLate(variant: Variant, from: number, rows: number, now: number): boolean {
    this.#reach(variant, from, rows, now)
    const lag = this.#limiter.lag(now)
    if (lag <= 0) this.#skipping = false
    return lag > (this.#skipping ? 0 : this.#tolerance) && variant.timestamps !== undefined && variant.endOfWholes(from) > from
  }

  /** Takes the time of the heaps from row `from` on, which isTooLate, until one is in time. Returns the row behind them. */
  passLate(variant: Variant, from: number, rows: number, now: number): number {
    const limiter = this.#limiter
    const { bytesBefore } = variant
    const late = limiter.lag(now)
    let to = from
    while (to < rows && limiter.lag(now) > 0) {
      const end = variant.endOfWholes(to)
      limiter.due += ((bytesBefore[end]! - bytesBefore[to]!) * 1e9) / this.#rate
      to = end
      this.#reach(variant, to, rows, now)
    }
    this.#skipping = true
    const heaps = new Set(variant.compiled.table.heap.subarray(from, to)).size
    this.#tell({ type: 'clock', what: 'late', heaps, seconds: late / 1e9 })
    return to
  }

  /** Work that is in no order arrived, or any without an observation clock, and its first rows are posted next. */
  resume(now: number): void {
    if (this.#drySince < 0 || this.#schedule) return
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
  end(variant: Variant, from: number, wanted: number, now: number): number {
    const { bytesBefore, posting, timestamps } = variant
    const schedule = this.#schedule
    let rows = wanted
    if (schedule) {
      if (!timestamps) return rows
      if (now >= schedule.lookAt) this.#look(schedule, now)
      if (variant === this.#variant && from < this.#stretchEnd) rows = Math.min(rows, this.#stretchEnd)
    }
    if (now < this.deadline) return from
    const limiter = this.#limiter
    if (this.#waiting) {
      this.#waiting = false
      this.#counters[COUNTER.lateNanoseconds]! += now - this.deadline
      this.#lateNanoseconds = now - this.deadline
    }
    const worthBytes = Math.min(limiter.worthBytes, this.#timelyBytes)
    const base = bytesBefore[from]!
    for (;;) {
      if (this.#burstLeft <= 0) {
        const lag = limiter.lag(now)
        let allowance = limiter.allowance(now)
        if (schedule) allowance = Math.min(allowance, this.#timelyBytes + Math.floor((lag * this.#rate) / 1e9))
        // What is due by a schedule may be far ahead though all that went is paid for.
        if (allowance < worthBytes || (schedule && lag < 0)) {
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
    const lookAt = this.#schedule?.lookAt ?? Number.POSITIVE_INFINITY
    this.deadline = Math.min(deadline, lookAt)
    // Nothing is late where the clocks are compared late.
    this.#waiting = deadline <= lookAt
    if (this.deadline > now) this.#counters[COUNTER.pacedNanoseconds]! += this.deadline - now
  }

  /** Rows from … to−1 are over with, posted or given up between `now` and `after`: either way they take their time. */
  charge(variant: Variant, from: number, to: number, now: number, after: number): void {
    if (!this.#schedule || variant.timestamps) this.#take(variant, from, to, now, after)
    if (this.#refusedSince < 0) return
    this.#counters[COUNTER.refusedNanoseconds]! += now - this.#refusedSince
    this.#refusedSince = -1
  }

  #take({ bytesBefore, nanosecondsBefore }: Variant, from: number, to: number, now: number, after: number): void {
    const limiter = this.#limiter
    const { due } = limiter
    this.#noteLag(Math.max(0, limiter.lag(now)))
    const bytes = bytesBefore[to]! - bytesBefore[from]!
    this.#burstLeft -= bytes
    const nanoseconds = nanosecondsBefore ? nanosecondsBefore[to]! - nanosecondsBefore[from]! : (bytes * 1e9) / this.#rate
    const left = limiter.charge(bytes, nanoseconds, now, after, this.#lateNanoseconds)
    this.#lateNanoseconds = 0
    if (this.#schedule) this.#noteError(left - due)
  }

  #noteLag(lag: number): void {
    const counters = this.#counters
    counters[COUNTER.lagNanoseconds] = lag
    counters[COUNTER.bytesBehind] = Math.round((lag * this.#rate) / 1e9)
    if (lag > counters[COUNTER.greatestLagNanoseconds]!) counters[COUNTER.greatestLagNanoseconds] = lag
  }

  #noteError(error: number): void {
    const counters = this.#counters
    const size = Math.abs(error)
    counters[COUNTER.timeErrorNanoseconds] = error
    if (size > counters[COUNTER.greatestTimeErrorNanoseconds]!) counters[COUNTER.greatestTimeErrorNanoseconds] = size
    this.#errors!.record(size)
  }

  /** The backend took no more for now. What waits grows late meanwhile, if it has a time of its own. */
  refused({ timestamps }: Variant, now: number): void {
    if (this.#refusedSince < 0) this.#refusedSince = now
    if (this.#schedule && !timestamps) return
    const lag = this.#limiter.lag(now)
    if (lag > 0) this.#noteLag(lag)
  }
}
