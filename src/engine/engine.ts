/**
 * The engine: submissions in, packets out, settlements back. `step(now)` never blocks and never waits; a driver calls it and, when
 * it says there is nothing to do, sleeps as told. The same class runs in the I/O thread, on the event loop, and in tests under a
 * virtual clock.
 *
 * Order is strict: one submission is posted at a time, rows in table order, settlements in submission order.
 * Cost per batch: a scatter (scatter.ts), one post per 1024 messages, a few shared words. Nothing is allocated unless something fails.
 */
import { ERRNO, errnoName } from '../../ffi/native-error.js'
import { attachRegion } from '../../ffi/region.js'
import {
  type Backend,
  CAUSE_FLUSHED,
  CAUSE_UNKNOWN,
  POST_AGAIN,
  POST_FATAL,
  POST_OK,
  POST_SKIP,
  type Posting,
  type PostResult,
  type ReapResult,
} from '../backend/backend.js'
import type { CompiledBatch } from '../batch/compile.js'
import type { ScatterTable } from '../batch/table.js'
import type { SpeadcastError } from '../errors.js'
import { COUNTER } from '../stats.js'
import { Limiter } from './limiter.js'
import { FailureLog, type OutcomeMessage } from './outcome.js'
import * as R from './ring.js'
import { type CntSequence, HighHalf, scatterExplicit, scatterImmediate, scatterSequence } from './scatter.js'

export interface EngineOptions {
  /** UDP payload bytes per second; 0 = as fast as possible. */
  readonly rateBytesPerSecond: number
  readonly burstBytes: number
  readonly burstRateRatio: number
  /** Postings in flight (posted, not reaped) before the next is taken. */
  readonly maxInFlight: number
}

export type EngineMessage = OutcomeMessage | { readonly type: 'states'; readonly states: Record<string, string | number | boolean> }

/** What the driver should do before the next step. */
export const NEXT_STEP_NOW = 0
/** Nothing submitted: sleep until woken. */
export const NEXT_IDLE = 1
/** Sleep until `deadline` (pacing, back-off), unless woken. */
export const NEXT_AT_DEADLINE = 2
/** Sleep until the backend's wait set is ready. */
export const NEXT_WHEN_WRITABLE = 3
/** Rows are posted and not completed: sleep on the wait set (or until the backend calls wake). */
export const NEXT_WHEN_REAPED = 4
export const NEXT_STOPPED = 5

interface Variant {
  readonly compiled: CompiledBatch
  readonly posting: Posting | undefined
  /** Why there is no posting: sends of this variant fail. */
  readonly refused: { readonly errno: number; readonly message: string } | undefined
  readonly view: DataView
  readonly cntColumn: Float64Array
  readonly columns: readonly Float64Array[]
  readonly standingCnt: HighHalf
  readonly standing: readonly HighHalf[]
  /** Common to variants that share header memory: who wrote it last knows what stands there, nobody else does. */
  readonly headers: { writtenBy: number }
  /** udpBytes summed: bytes of rows 0 … r−1. */
  readonly bytesBefore: Float64Array
  /** Nanoseconds rows 0 … r−1 take at the wanted rate; undefined when unlimited. */
  readonly nanosecondsBefore: Float64Array | undefined
  dropped: boolean
}

/** A submission being posted or waiting for its completions. Pooled. */
class Flight {
  slot = 0
  variant: Variant | undefined
  heaps = 0
  rows = 0
  posted = 0
  completed = 0
  /** Rows given up at post: they come back from reap as completed without a failure of their own. */
  log: FailureLog | undefined
  suspicion = 0
}

/** Oldest first. Every one holds a slot of the ring, so there are no more than it has. */
class FlightQueue {
  readonly #flights: (Flight | undefined)[] = new Array(R.SLOTS).fill(undefined)
  #head = 0
  length = 0

  push(flight: Flight): void {
    this.#flights[(this.#head + this.length++) & (R.SLOTS - 1)] = flight
  }

  at(i: number): Flight {
    return this.#flights[(this.#head + i) & (R.SLOTS - 1)]!
  }

  shift(): Flight {
    const flight = this.at(0)
    this.#flights[this.#head] = undefined
    this.#head = (this.#head + 1) & (R.SLOTS - 1)
    this.length--
    return flight
  }

  uses(variant: Variant): boolean {
    for (let i = 0; i < this.length; i++) if (this.at(i).variant === variant) return true
    return false
  }
}

/** So many take a device that sends 100 Gb/s longer than posting them takes us. */
const ROWS_PER_REAP = 256
const BACKOFF_LIMIT_NANOSECONDS = 2_000_000
const PAUSE_NANOSECONDS = 10_000_000

export class Engine {
  /** With NEXT_AT_DEADLINE, when to step again (the clock of step's `now`). */
  deadline = 0
  readonly #variants = new Map<number, Variant>()
  readonly #sequence: CntSequence = { nextHi: 0, nextLo: 1, stepHi: 0, stepLo: 1 }
  readonly #limiter: Limiter | undefined
  readonly #post: PostResult = { kind: POST_OK, accepted: 0, skipped: 0, errno: 0, substream: 0, waitFor: 'writable' }
  readonly #reap: ReapResult = { completed: 0, failures: 0, failedAt: new Uint32Array(1024), failedErrno: new Int32Array(1024) }
  readonly #flights = new FlightQueue()
  readonly #spare: Flight[] = []
  readonly #counters: Float64Array
  readonly #tellsAtPost: boolean
  #current: Flight | undefined
  #taken = 0
  /** Submissions there were when it was last asked: what comes with one is seen with it (Atomics orders it). */
  #seen = 0
  #settled = 0
  /** Rows of flights posted since the backend was last asked what it completed, if it does not tell at post. */
  #unasked = 0
  #idle = true
  #idleSince = Number.NEGATIVE_INFINITY
  /** The backend's when it was last asked. */
  #suspicion = 0
  #backoff = 0
  /** A backend that asked for a pause is left alone until then, though submissions wake the thread meanwhile. */
  #retryAt = Number.NEGATIVE_INFINITY
  #pacedTo = 0
  #revision = -1
  /** The errno that the backend broke with; 0 = it did not. */
  #fatal = 0

  constructor(
    readonly backend: Backend,
    readonly ring: R.Ring,
    readonly options: EngineOptions,
    readonly emit: (message: EngineMessage) => void,
    /** Called once per settlement, after the shared words are written. */
    readonly settled: () => void,
    /** Called when a submission is seen and before it is taken: variants announced before it must be added now. */
    readonly beforeTake: () => void = () => {},
  ) {
    this.#counters = ring.counters
    this.#tellsAtPost = backend.caps.evidence !== 'completed'
    if (options.rateBytesPerSecond > 0 && !backend.caps.pacesItself)
      this.#limiter = new Limiter(options.burstBytes, options.burstRateRatio)
  }

  /** @param rates bytes per second per heap: −1 the stream's, 0 unlimited. */
  addVariant(id: number, compiled: CompiledBatch, rates?: Float64Array): void {
    const { table, scatter } = compiled
    let posting: Posting | undefined
    let refused: Variant['refused']
    try {
      for (const region of table.regions) this.backend.register(region)
      posting = this.backend.compile(table, { maxMessageBytes: this.#limiter ? this.options.burstBytes : 65507 })
    } catch (error) {
      // Memory that cannot be locked, for one: the stream goes on without this batch.
      const { message, cause } = error as SpeadcastError
      refused = { errno: (cause as { errno?: number } | undefined)?.errno ?? ERRNO.ENOMEM!, message }
    }
    const buffer = attachRegion(scatter.region)
    const bytesBefore = new Float64Array(table.rows + 1)
    for (let r = 0; r < table.rows; r++) bytesBefore[r + 1] = bytesBefore[r]! + table.udpBytes[r]!
    this.#variants.set(id, {
      compiled,
      posting,
      refused,
      view: new DataView(buffer),
      cntColumn: new Float64Array(buffer, scatter.cntColumnAt, table.heaps),
      columns: scatter.immediates.map((immediate) => new Float64Array(buffer, immediate.columnAt, table.heaps)),
      standingCnt: new HighHalf(scatter.cntAt, scatter.cntStart),
      standing: scatter.immediates.map(({ at, start }) => new HighHalf(at, start)),
      headers: this.#headersOf(scatter),
      bytesBefore,
      nanosecondsBefore: this.#limiter ? this.#costs(table.udpBytes, table.heap, rates) : undefined,
      dropped: false,
    })
  }

  #headersOf({ region }: ScatterTable): Variant['headers'] {
    for (const { compiled, headers } of this.#variants.values()) {
      const other = compiled.scatter.region
      if (other.id === region.id && other.address === region.address) return headers
    }
    return { writtenBy: 0 }
  }

  /** Frees a variant once nothing of it is in flight; the caller sends nothing of it any more. */
  dropVariant(id: number): void {
    const variant = this.#variants.get(id)
    if (!variant) return
    this.#variants.delete(id)
    variant.dropped = true
    if (this.#current?.variant !== variant && !this.#flights.uses(variant)) this.#release(variant)
  }

  #release({ posting }: Variant): void {
    if (posting) this.backend.release(posting)
  }

  step(now: number): number {
    if (!this.#postsFirst()) this.#complete(now)
    // A plain read costs nothing and is right until there is something to read.
    const stop = this.ring.control[R.C_STOP] === R.STOP_NO ? R.STOP_NO : Atomics.load(this.ring.control, R.C_STOP)
    if (stop === R.STOP_ABORT) return this.#abort()
    if (!this.#current) {
      if (this.#flights.length >= this.options.maxInFlight) return NEXT_WHEN_REAPED
      if (!this.#take(now)) {
        if (this.#flights.length > 0) return NEXT_WHEN_REAPED
        if (stop === R.STOP_DRAIN) return NEXT_STOPPED
        if (!this.#idle) this.#idleSince = now
        this.#idle = true
        return NEXT_IDLE
      }
    }
    return this.#current ? this.#postSome(this.#current, now) : NEXT_STEP_NOW
  }

  /** Asking a device costs as much as a dozen packets: short batches that wait are posted before it is asked again. */
  #postsFirst(): boolean {
    const { maxInFlight } = this.options
    const some = this.#unasked > 0 && this.#unasked < ROWS_PER_REAP
    return some && !this.#current && this.#flights.length < maxInFlight && this.hasSubmissions
  }

  /** Something was submitted that no step has taken yet. */
  get hasSubmissions(): boolean {
    if (this.#seen === this.#taken) this.#seen = Atomics.load(this.ring.control, R.C_SUBMITTED)
    return this.#seen !== this.#taken
  }

  #costs(udpBytes: Uint32Array, heap: Uint32Array, rates: Float64Array | undefined): Float64Array {
    const before = new Float64Array(udpBytes.length + 1)
    for (let r = 0; r < udpBytes.length; r++) {
      const own = rates ? rates[heap[r]!]! : -1
      const rate = own < 0 ? this.options.rateBytesPerSecond : own
      before[r + 1] = before[r]! + (rate > 0 ? (udpBytes[r]! * 1e9) / rate : 0)
    }
    return before
  }

  /** Takes the next submission and patches its headers; false when there is none. */
  #take(now: number): boolean {
    const { ring } = this
    if (!this.hasSubmissions) return false
    this.beforeTake()
    const slot = ring.slot(this.#taken)
    this.#taken = (this.#taken + 1) | 0
    const flight = this.#spare.pop() ?? new Flight()
    flight.slot = slot
    flight.posted = 0
    flight.completed = 0
    flight.rows = 0
    flight.log = undefined
    flight.variant = undefined
    if (Atomics.compareExchange(ring.slots, slot + R.W_STATE, R.STATE_QUEUED, R.STATE_TAKEN) !== R.STATE_QUEUED) {
      ring.slots[slot + R.W_OUTCOME] = R.OUTCOME_ABORTED
      this.#queueSettled(flight)
      return true
    }
    ring.slots[slot + R.W_OUTCOME] = R.OUTCOME_SENT
    if (ring.slots[slot + R.W_OP] === R.OP_SET_CNT) {
      this.#sequence.nextHi = ring.slots[slot + R.W_CNT_HI]! >>> 0
      this.#sequence.nextLo = ring.slots[slot + R.W_CNT_LO]! >>> 0
      this.#sequence.stepHi = ring.slots[slot + R.W_STEP_HI]! >>> 0
      this.#sequence.stepLo = ring.slots[slot + R.W_STEP_LO]! >>> 0
      this.#queueSettled(flight)
      return true
    }
    const variant = this.#variants.get(ring.slots[slot + R.W_VARIANT]!)
    if (!variant) throw new Error(`submission of unknown variant ${ring.slots[slot + R.W_VARIANT]}`)
    flight.variant = variant
    flight.heaps = ring.slots[slot + R.W_HEAPS]!
    flight.rows = ring.slots[slot + R.W_ROWS]!
    // What is noticed between two batches may have happened to the first: it counts for the second, unless there was a pause.
    if (this.#idle && now - this.#idleSince > PAUSE_NANOSECONDS) this.#suspicion = this.backend.suspicion(true)
    flight.suspicion = this.#suspicion
    ring.slots[slot + R.W_CNT_HI] = this.#sequence.nextHi & variant.compiled.scatter.maskHi
    ring.slots[slot + R.W_CNT_LO] = this.#sequence.nextLo & variant.compiled.scatter.maskLo
    this.#patch(ring.slots[slot + R.W_VARIANT]!, variant, flight.heaps, ring.slots[slot + R.W_EXPLICIT_CNTS] === 1)
    if (this.#idle) {
      this.#idle = false
      this.#limiter?.wake(now)
    }
    this.#current = flight
    return true
  }

  #patch(id: number, variant: Variant, heaps: number, explicit: boolean): void {
    const { view, compiled, columns, cntColumn, standingCnt, standing, headers } = variant
    const { scatter } = compiled
    if (headers.writtenBy !== id) {
      headers.writtenBy = id
      standingCnt.written(-1, 0)
      for (const each of standing) each.written(-1, 0)
    }
    if (explicit) scatterExplicit(view, scatter, heaps, cntColumn, this.#sequence, standingCnt)
    else scatterSequence(view, scatter, heaps, this.#sequence, standingCnt)
    for (let i = 0; i < columns.length; i++) scatterImmediate(view, scatter.immediates[i]!, heaps, columns[i]!, standing[i]!)
  }

  /** A settled submission with nothing on the wire keeps its place in the order of settlements. */
  #queueSettled(flight: Flight): void {
    this.#flights.push(flight)
    this.#settleFront()
  }

  #postSome(flight: Flight, now: number): number {
    const variant = flight.variant!
    if (this.#fatal !== 0) return this.#failRest(flight)
    const { posting } = variant
    if (!posting) return this.#failAll(flight, variant.refused!)
    if (now < this.#retryAt) {
      this.deadline = this.#retryAt
      return NEXT_AT_DEADLINE
    }
    let end = flight.rows
    const limiter = this.#limiter
    if (limiter) {
      if (now < limiter.target) {
        this.deadline = limiter.target
        // Once per target: long waits take many steps.
        if (this.#pacedTo !== limiter.target) this.#counters[COUNTER.pacedNanoseconds]! += limiter.target - now
        this.#pacedTo = limiter.target
        return NEXT_AT_DEADLINE
      }
      end = this.#burstEnd(variant, posting, flight, limiter.allowanceBytes)
    }
    const out = this.#post
    this.backend.post(posting, flight.posted, end, out)
    const from = flight.posted
    flight.posted += out.accepted
    const bytes = variant.bytesBefore[flight.posted]! - variant.bytesBefore[from]!
    this.#counters[COUNTER.packets]! += out.accepted
    this.#counters[COUNTER.udpBytes]! += bytes
    if (limiter && out.accepted > 0) {
      const cost = variant.nanosecondsBefore!
      limiter.charge(bytes, cost[flight.posted]! - cost[from]!, now)
    }
    if (out.accepted > 0) this.#backoff = 0
    switch (out.kind) {
      case POST_AGAIN:
        if (out.waitFor === 'writable') return this.#finishIfPosted(flight, now) ?? NEXT_WHEN_WRITABLE
        this.#backoff = Math.min(BACKOFF_LIMIT_NANOSECONDS, this.#backoff === 0 ? out.waitFor : this.#backoff * 2)
        this.#retryAt = now + this.#backoff
        this.deadline = this.#retryAt
        return this.#finishIfPosted(flight, now) ?? NEXT_AT_DEADLINE
      case POST_SKIP:
        this.#fail(flight, flight.posted, out.skipped, out.errno)
        flight.posted += out.skipped
        break
      case POST_FATAL:
        this.#fatal = out.errno
        return this.#failRest(flight)
    }
    return this.#finishIfPosted(flight, now) ?? NEXT_STEP_NOW
  }

  /** First row such that a whole burst is posted before it, moved up to an edge of the posting. */
  #burstEnd({ bytesBefore }: Variant, posting: Posting, flight: Flight, allowance: number): number {
    const limit = bytesBefore[flight.posted]! + allowance
    let low = flight.posted + 1
    let high = flight.rows
    while (low < high) {
      const middle = (low + high) >> 1
      if (bytesBefore[middle]! >= limit) high = middle
      else low = middle + 1
    }
    return Math.min(posting.edge[low - 1]!, flight.rows)
  }

  #finishIfPosted(flight: Flight, now: number): number | undefined {
    if (flight.posted < flight.rows) return undefined
    this.#current = undefined
    this.#flights.push(flight)
    // A device tells later: the next step asks it.
    if (this.#tellsAtPost) this.#complete(now)
    else this.#unasked += flight.rows
    return NEXT_STEP_NOW
  }

  /** Distributes what the backend completed over the flights, oldest first, and settles those that are through. */
  #complete(_now: number): void {
    const out = this.#reap
    this.#unasked = 0
    this.backend.reap(out)
    if (out.completed === 0) return
    let rest = out.completed
    let base = 0
    let failure = 0
    for (let i = 0; rest > 0; i++) {
      const flight = i < this.#flights.length ? this.#flights.at(i) : this.#current
      if (!flight) throw new Error(`backend completed ${rest} rows that were never posted`)
      const n = Math.min(rest, flight.posted - flight.completed)
      for (; failure < out.failures && out.failedAt[failure]! < base + n; failure++) {
        const row = flight.completed + out.failedAt[failure]! - base
        this.#fail(flight, row, 1, out.failedErrno[failure]!)
        this.#counters[COUNTER.packets]! -= 1
        this.#counters[COUNTER.udpBytes]! -= flight.variant!.compiled.table.udpBytes[row]!
      }
      flight.completed += n
      base += n
      rest -= n
      if (flight === this.#current) break
    }
    this.#settleFront()
  }

  #settleFront(): void {
    const flights = this.#flights
    while (flights.length > 0 && flights.at(0).completed === flights.at(0).rows) this.#settle(flights.shift())
  }

  #settle(flight: Flight): void {
    const { slots, control } = this.ring
    const { slot, variant } = flight
    if (variant) {
      this.#counters[COUNTER.batches]! += 1
      const last = !this.#current && this.#flights.length === 0 && !this.hasSubmissions
      this.#suspicion = this.backend.suspicion(last)
      slots[slot + R.W_SUSPECT] = this.#suspicion === flight.suspicion ? 0 : 1
      if (flight.log) {
        const nameOf = (cause: number) => this.backend.causeName?.(cause) ?? errnoName(cause)
        const message = flight.log.message((j) => packetsOf(variant.compiled, j), nameOf)
        // A partial send covers the first heaps only.
        this.emit({ ...message, heaps: message.heaps.slice(0, flight.heaps) })
        slots[slot + R.W_OUTCOME] = R.OUTCOME_FAILED
        const failed = message.heaps.slice(0, flight.heaps).filter((status) => status !== 'sent').length
        this.#counters[COUNTER.heapsFailed]! += failed
        this.#counters[COUNTER.heapsSent]! += flight.heaps - failed
        this.#counters[COUNTER.packetsFailed]! += flight.log.packets
      } else {
        this.#counters[COUNTER.heapsSent]! += flight.heaps
      }
      if (variant.dropped && !this.#flights.uses(variant)) this.#release(variant)
    }
    this.#publishStates()
    slots[slot + R.W_STATE] = R.STATE_SETTLED
    this.#settled = (this.#settled + 1) | 0
    Atomics.store(control, R.C_SETTLED, this.#settled)
    flight.variant = undefined
    flight.log = undefined
    this.#spare.push(flight)
    this.settled()
  }

  #publishStates(): void {
    const revision = this.backend.revision()
    if (revision === this.#revision) return
    this.#revision = revision
    this.emit({ type: 'states', states: this.backend.states() })
  }

  #fail(flight: Flight, first: number, count: number, errno: number): void {
    const { table } = flight.variant!.compiled
    flight.log ??= new FailureLog(table.heaps)
    for (let r = first; r < first + count; r++) {
      const substream = table.substream[r]!
      if (errno === CAUSE_FLUSHED) flight.log.flush(table.heap[r]!)
      else if (errno === CAUSE_UNKNOWN) flight.log.lose(table.heap[r]!)
      else flight.log.fail(table.heap[r]!, substream, errno, () => this.backend.explain(errno, substream, table.udpBytes[r]!))
    }
  }

  /** Fatal: what was not posted fails with the backend's error; everything later does too. */
  #failRest(flight: Flight): number {
    this.#fail(flight, flight.posted, flight.rows - flight.posted, this.#fatal)
    return this.#forget(flight)
  }

  #failAll(flight: Flight, { errno, message }: NonNullable<Variant['refused']>): number {
    const { table } = flight.variant!.compiled
    flight.log ??= new FailureLog(table.heaps)
    for (let r = 0; r < flight.rows; r++) flight.log.fail(table.heap[r]!, table.substream[r]!, errno, () => message)
    return this.#forget(flight)
  }

  /** Rows that never reached the backend count as completed; the flight settles when its posted ones do. */
  #forget(flight: Flight): number {
    const unposted = flight.rows - flight.posted
    flight.rows = flight.posted
    this.#current = undefined
    this.#flights.push(flight)
    this.#settleFront()
    return unposted >= 0 ? NEXT_STEP_NOW : NEXT_IDLE
  }

  #abort(): number {
    this.backend.abandon?.()
    this.#complete(0)
    const flight = this.#current
    if (flight) {
      const { table } = flight.variant!.compiled
      flight.log ??= new FailureLog(table.heaps)
      for (let r = flight.posted; r < flight.rows; r++) flight.log.flush(table.heap[r]!)
      this.#forget(flight)
    }
    while (this.hasSubmissions) {
      const slot = this.ring.slot(this.#taken)
      Atomics.compareExchange(this.ring.slots, slot + R.W_STATE, R.STATE_QUEUED, R.STATE_ABORTED)
      this.#take(0)
    }
    // Rows that an asynchronous backend still holds cannot be waited for.
    while (this.#flights.length > 0) {
      const pending = this.#flights.shift()
      if (pending.variant && pending.completed < pending.rows) {
        const { table } = pending.variant.compiled
        pending.log ??= new FailureLog(table.heaps)
        for (let r = pending.completed; r < pending.rows; r++) pending.log.lose(table.heap[r]!)
      }
      this.#settle(pending)
    }
    return NEXT_STOPPED
  }
}

function packetsOf(compiled: CompiledBatch, heap: number): number {
  return compiled.rowsOfHeaps[heap + 1]! - compiled.rowsOfHeaps[heap]!
}
