/**
 * The engine: submissions in, packets out, settlements back. `step(now)` never blocks and never waits; a driver calls it and, when
 * it says there is nothing to do, sleeps as told. The same class runs in the I/O thread, on the event loop, and in tests under a
 * virtual clock.
 *
 * Order is strict: submissions are posted in turn, short ones together where the backend can, rows in table order; settlements follow.
 * Of what it took and did not settle, flights.ts.
 * Cost per batch: a scatter (scatter.ts), one post per 1024 messages, a few shared words. Nothing is allocated unless something fails.
 */
import { performance } from 'node:perf_hooks'
import { ERRNO, errnoName } from '../../ffi/native-error.js'
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
import type { SpeadcastError } from '../errors.js'
import { COUNTER } from '../stats.js'
import { type Flight, Flights } from './flights.js'
import type { FailureLog, OutcomeMessage } from './outcome.js'
import { Pacer, type PacingOptions } from './pacer.js'
import * as R from './ring.js'
import { crossing, wholeMessages } from './rows.js'
import type { CntSequence } from './scatter.js'
import { patch, type Refusal, Variant } from './variant.js'

export interface EngineOptions extends PacingOptions {
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

/** So many take a device that sends 100 Gb/s longer than posting them takes us. */
const ROWS_PER_REAP = 512
/** Variants found without a look-up, by the low bits of their ids. */
const RECENT = 16
const BACKOFF_LIMIT_NANOSECONDS = 2_000_000
const PAUSE_NANOSECONDS = 10_000_000

export class Engine {
  /** With NEXT_AT_DEADLINE, when to step again (the clock of step's `now`). */
  deadline = 0
  readonly #variants = new Map<number, Variant>()
  readonly #recent: (Variant | undefined)[] = new Array(RECENT).fill(undefined)
  readonly #sequence: CntSequence = { nextHi: 0, nextLo: 1, stepHi: 0, stepLo: 1 }
  readonly #pacer: Pacer | undefined
  readonly #post: PostResult = { kind: POST_OK, accepted: 0, skipped: 0, errno: 0, substream: 0, waitFor: 'writable' }
  readonly #reap: ReapResult = { completed: 0, failures: 0, failedAt: new Uint32Array(1024), failedErrno: new Int32Array(1024) }
  readonly #flights = new Flights()
  readonly #counters: Float64Array
  readonly #tellsAtPost: boolean
  readonly #joins: boolean
  /** Submissions there were when it was last asked: what comes with one is seen with it (Atomics orders it). */
  #seen = 0
  /** Rows of flights posted since the backend was last asked what it completed, if it does not tell at post. */
  #unasked = 0
  #idle = true
  #idleSince = Number.NEGATIVE_INFINITY
  /** The backend's when it was last asked. */
  #suspicion = 0
  #backoff = 0
  /** A backend that asked for a pause is left alone until then, though submissions wake the thread meanwhile. */
  #retryAt = Number.NEGATIVE_INFINITY
  #revision = -1
  /** The errno that the backend broke with; 0 = it did not. */
  #fatal = 0

  constructor(
    readonly backend: Backend,
    readonly ring: R.Ring,
    readonly options: EngineOptions,
    readonly emit: (message: EngineMessage) => void,
    /** Called after the shared words of settlements are written: once for all that settle together. */
    readonly settled: () => void,
    /** Called when a submission is seen and before it is taken: variants announced before it must be added now. */
    readonly beforeTake: () => void = () => {},
    /** That of step's `now`: tells when a burst was posted. */
    readonly clock: () => number = () => performance.now() * 1e6,
  ) {
    this.#counters = ring.counters
    this.#tellsAtPost = backend.caps.evidence !== 'completed'
    if (options.rateBytesPerSecond > 0 && !backend.caps.pacesItself) this.#pacer = new Pacer(options, backend.caps, ring.counters)
    this.#joins = backend.join !== undefined && !this.#pacer
  }

  /** With NEXT_AT_DEADLINE, a wake-up that is this late costs nothing; 0 where there is no rate to keep. */
  get slackNanoseconds(): number {
    return this.#pacer?.slackNanoseconds ?? 0
  }

  /** @param rates bytes per second per heap: −1 the stream's, 0 unlimited. */
  addVariant(id: number, compiled: CompiledBatch, rates?: Float64Array): void {
    const { table } = compiled
    let posting: Posting | undefined
    let refused: Refusal | undefined
    try {
      for (const region of table.regions) this.backend.register(region)
      posting = this.backend.compile(table, { maxMessageBytes: this.#pacer?.maxMessageBytes(table) ?? 65507 })
    } catch (error) {
      // Memory that cannot be locked, for one: the stream goes on without this batch.
      const { message, cause } = error as SpeadcastError
      refused = { errno: (cause as { errno?: number } | undefined)?.errno ?? ERRNO.ENOMEM, message }
    }
    const nanosecondsBefore = this.#pacer?.costs(table, rates)
    const variant = new Variant({ id, compiled, posting, refused, nanosecondsBefore }, this.#variants.values())
    this.#variants.set(id, variant)
    this.#recent[id & (RECENT - 1)] = variant
  }

  /** Frees a variant once nothing of it is in flight; the caller sends nothing of it any more. */
  dropVariant(id: number): void {
    const variant = this.#variants.get(id)
    if (!variant) return
    this.#variants.delete(id)
    if (this.#recent[id & (RECENT - 1)] === variant) this.#recent[id & (RECENT - 1)] = undefined
    variant.dropped = true
    if (!this.#flights.uses(variant)) this.#release(variant)
  }

  #release({ posting }: Variant): void {
    if (posting) this.backend.release(posting)
  }

  /** @param mostBytes to be posted in this step, to a packet and, where messages are short, to a message; others wait for their turn */
  step(now: number, mostBytes = Number.POSITIVE_INFINITY): number {
    const flights = this.#flights
    if (!this.#postsFirst()) this.#complete()
    // A plain read costs nothing and is right until there is something to read.
    const stop = this.ring.control[R.C_STOP] === R.STOP_NO ? R.STOP_NO : Atomics.load(this.ring.control, R.C_STOP)
    if (stop === R.STOP_ABORT) return this.#abort()
    if (flights.posted === flights.taken) {
      if (this.full) return NEXT_WHEN_REAPED
      if (!this.#takeSome(now)) {
        this.#pacer?.dry(now)
        if (flights.length > 0) return NEXT_WHEN_REAPED
        if (stop === R.STOP_DRAIN) return NEXT_STOPPED
        if (!this.#idle) this.#idleSince = now
        this.#idle = true
        return NEXT_IDLE
      }
    }
    return flights.posted === flights.taken ? NEXT_STEP_NOW : this.#postSome(flights.at(flights.posted), now, mostBytes)
  }

  /** Asking a device costs as much as a dozen packets: short batches that wait are posted before it is asked again. */
  #postsFirst(): boolean {
    const { posted, taken, length } = this.#flights
    const some = this.#unasked > 0 && this.#unasked < ROWS_PER_REAP
    return some && posted === taken && length < this.options.maxInFlight && this.hasSubmissions
  }

  /** Something was submitted that no step has taken yet. */
  get hasSubmissions(): boolean {
    if (this.#seen === this.#flights.taken) this.#seen = Atomics.load(this.ring.control, R.C_SUBMITTED)
    return this.#seen !== this.#flights.taken
  }

  /** As many submissions as may be are in flight: the next is taken when one of them completes. */
  get full(): boolean {
    return this.#flights.length >= this.options.maxInFlight
  }

  /** Takes the next submission, or as many as the backend posts in one call; false when there is none. */
  #takeSome(now: number): boolean {
    const flights = this.#flights
    const first = flights.taken
    const limit = (flights.settled + this.options.maxInFlight) | 0
    let joinedTo = first
    let rows = 0
    while (flights.taken !== limit && rows < ROWS_PER_REAP) {
      const flight = this.#take(now)
      if (!flight || !this.#joins) break
      if (!flight.variant) continue
      const { posting } = flight.variant
      if (!posting || this.#fatal !== 0 || now < this.#retryAt || !this.backend.join!(posting, flight.rows)) break
      rows += flight.rows
      joinedTo = flights.taken
    }
    if (flights.taken === first) return false
    if (joinedTo !== first) this.#postJoined(joinedTo)
    flights.passEmpty()
    // A settled submission with nothing on the wire keeps its place in the order of settlements.
    this.#settleFront()
    return true
  }

  /** Posts what was joined, all of it before count `end`. What the backend does not take is posted by itself, in turn. */
  #postJoined(end: number): void {
    const flights = this.#flights
    let accepted = this.backend.postJoined!()
    if (accepted > 0) this.#backoff = 0
    this.#unasked += accepted
    this.#counters[COUNTER.packets]! += accepted
    let bytes = 0
    while (flights.posted !== end) {
      const flight = flights.at(flights.posted)
      const { variant, rows } = flight
      if (variant) {
        const n = Math.min(rows, accepted)
        flight.rowsPosted = n
        accepted -= n
        bytes += n === variant.rows ? variant.bytes : variant.bytesBefore[n]!
        if (n < rows) break
      }
      flights.posted = (flights.posted + 1) | 0
    }
    this.#counters[COUNTER.udpBytes]! += bytes
  }

  /** Takes the next submission and patches its headers; undefined when there is none. */
  #take(now: number): Flight | undefined {
    const flights = this.#flights
    if (!this.hasSubmissions) return undefined
    this.beforeTake()
    const { slots } = this.ring
    const slot = this.ring.slot(flights.taken)
    const flight = flights.take()
    if (!this.#claim(slot + R.W_STATE)) {
      slots[slot + R.W_OUTCOME] = R.OUTCOME_ABORTED
      return flight
    }
    const sequence = this.#sequence
    slots[slot + R.W_OUTCOME] = R.OUTCOME_SENT
    if (slots[slot + R.W_OP] === R.OP_SET_CNT) {
      sequence.nextHi = slots[slot + R.W_CNT_HI]! >>> 0
      sequence.nextLo = slots[slot + R.W_CNT_LO]! >>> 0
      sequence.stepHi = slots[slot + R.W_STEP_HI]! >>> 0
      sequence.stepLo = slots[slot + R.W_STEP_LO]! >>> 0
      return flight
    }
    const variant = this.#variant(slots[slot + R.W_VARIANT]!)
    const heaps = slots[slot + R.W_HEAPS]!
    // The loops that patch rely on it.
    if (heaps > variant.heaps) throw new Error(`${heaps} heaps of a batch of ${variant.heaps}`)
    flight.variant = variant
    flight.heaps = heaps
    flight.rows = slots[slot + R.W_ROWS]!
    // What is noticed between two batches may have happened to the first: it counts for the second, unless there was a pause.
    if (this.#idle && now - this.#idleSince > PAUSE_NANOSECONDS) this.#suspicion = this.backend.suspicion(true)
    flight.suspicion = this.#suspicion
    slots[slot + R.W_CNT_HI] = sequence.nextHi & variant.cnt.maskHi
    slots[slot + R.W_CNT_LO] = sequence.nextLo & variant.cnt.maskLo
    patch(variant, heaps, slots[slot + R.W_EXPLICIT_CNTS] === 1, sequence)
    this.#idle = false
    this.#pacer?.resume(now)
    return flight
  }

  /** False if it was withdrawn. */
  #claim(state: number): boolean {
    const { slots } = this.ring
    if (slots[state] !== R.STATE_FINAL)
      return Atomics.compareExchange(slots, state, R.STATE_QUEUED, R.STATE_TAKEN) === R.STATE_QUEUED
    slots[state] = R.STATE_TAKEN
    return true
  }

  #variant(id: number): Variant {
    const recent = this.#recent[id & (RECENT - 1)]
    if (recent !== undefined && recent.id === id) return recent
    const variant = this.#variants.get(id)
    if (!variant) throw new Error(`submission of unknown variant ${id}`)
    this.#recent[id & (RECENT - 1)] = variant
    return variant
  }

  /** Of the current flight. */
  #postSome(flight: Flight, now: number, mostBytes: number): number {
    const variant = flight.variant!
    if (this.#fatal !== 0) return this.#failRest(flight)
    if (now < this.#retryAt) {
      this.deadline = this.#retryAt
      return NEXT_AT_DEADLINE
    }
    const from = flight.rowsPosted
    let end = flight.rows
    const pacer = this.#pacer
    if (pacer) {
      end = pacer.end(variant, from, end, now)
      if (end === from) {
        this.deadline = pacer.deadline
        return NEXT_AT_DEADLINE
      }
    }
    const { posting } = variant
    const limit = variant.bytesBefore[from]! + mostBytes
    if (posting && variant.bytesBefore[end]! > limit) {
      const cut = crossing(variant.bytesBefore, from, end, limit)
      const whole = wholeMessages(posting, from, cut)
      end = whole > from ? whole : cut
    }
    if (!posting) {
      pacer?.charge(variant, from, flight.rows, now, now)
      return this.#failAll(flight, variant.refused!)
    }
    const out = this.#post
    this.backend.post(posting, from, end, out)
    const to = from + out.accepted
    flight.rowsPosted = to
    const bytes = variant.bytesBefore[to]! - variant.bytesBefore[from]!
    this.#counters[COUNTER.packets]! += out.accepted
    this.#counters[COUNTER.udpBytes]! += bytes
    // What cannot be sent takes its time too: a rule or a dead link for half a second fails the packets of half a second.
    const over = out.kind === POST_SKIP ? to + out.skipped : to
    if (over > from) pacer?.charge(variant, from, over, now, this.clock())
    if (out.accepted > 0) this.#backoff = 0
    switch (out.kind) {
      case POST_AGAIN:
        pacer?.refused(now)
        if (out.waitFor === 'writable') return this.#finishIfPosted(flight) ?? NEXT_WHEN_WRITABLE
        this.#backoff = Math.min(BACKOFF_LIMIT_NANOSECONDS, this.#backoff === 0 ? out.waitFor : this.#backoff * 2)
        this.#retryAt = now + this.#backoff
        this.deadline = this.#retryAt
        return this.#finishIfPosted(flight) ?? NEXT_AT_DEADLINE
      case POST_SKIP:
        this.#fail(flight, to, out.skipped, out.errno)
        flight.rowsPosted = over
        break
      case POST_FATAL:
        this.#fatal = out.errno
        return this.#failRest(flight)
    }
    return this.#finishIfPosted(flight) ?? NEXT_STEP_NOW
  }

  #finishIfPosted({ rows, rowsPosted }: Flight): number | undefined {
    if (rowsPosted < rows) return undefined
    this.#flights.pass()
    // A device tells later: the next step asks it.
    if (this.#tellsAtPost) this.#complete()
    else this.#unasked += rows
    return NEXT_STEP_NOW
  }

  /** Distributes what the backend completed over the flights, oldest first, and settles those that are through. */
  #complete(): void {
    const out = this.#reap
    this.#unasked = 0
    this.backend.reap(out)
    if (out.completed === 0) return
    const flights = this.#flights
    let rest = out.completed
    let base = 0
    let failure = 0
    for (let k = flights.settled; rest > 0; k = (k + 1) | 0) {
      if (k === flights.taken) throw new Error(`backend completed ${rest} rows that were never posted`)
      const flight = flights.at(k)
      const completed = flight.rowsCompleted
      const n = Math.min(rest, flight.rowsPosted - completed)
      for (; failure < out.failures && out.failedAt[failure]! < base + n; failure++) {
        const row = completed + out.failedAt[failure]! - base
        this.#fail(flight, row, 1, out.failedErrno[failure]!)
        this.#counters[COUNTER.packets]! -= 1
        this.#counters[COUNTER.udpBytes]! -= flight.variant!.compiled.table.udpBytes[row]!
      }
      flight.rowsCompleted = completed + n
      base += n
      rest -= n
    }
    this.#settleFront()
  }

  /** Settles the oldest flights that are through. Everything they say is written before the one store that publishes it. */
  #settleFront(): void {
    const flights = this.#flights
    const end = flights.through()
    if (end === flights.settled) return
    const { slots, control } = this.ring
    let asked = false
    let batches = 0
    let heapsSent = 0
    for (let k = flights.settled; k !== end; k = (k + 1) | 0) {
      const flight = flights.at(k)
      const slot = this.ring.slot(k)
      const { variant } = flight
      if (variant) {
        if (!asked) this.#suspicion = this.backend.suspicion(end === flights.taken && !this.hasSubmissions)
        asked = true
        batches++
        slots[slot + R.W_SUSPECT] = this.#suspicion === flight.suspicion ? 0 : 1
        heapsSent += flight.log ? this.#tell(slot, variant, flight.heaps, flight.log) : flight.heaps
        flight.log = undefined
        flight.variant = undefined
        if (variant.dropped && !flights.uses(variant)) this.#release(variant)
      }
      slots[slot + R.W_STATE] = R.STATE_SETTLED
    }
    this.#counters[COUNTER.batches]! += batches
    this.#counters[COUNTER.heapsSent]! += heapsSent
    this.#publishStates()
    flights.settled = end
    Atomics.store(control, R.C_SETTLED, end)
    this.settled()
  }

  /** Says what failed of a submission; returns how many heaps were sent. */
  #tell(slot: number, { compiled }: Variant, heaps: number, log: FailureLog): number {
    const nameOf = (cause: number) => this.backend.causeName?.(cause) ?? errnoName(cause)
    const message = log.message((j) => packetsOf(compiled, j), nameOf)
    // A partial send covers the first heaps only.
    const statuses = message.heaps.slice(0, heaps)
    this.emit({ ...message, heaps: statuses })
    this.ring.slots[slot + R.W_OUTCOME] = R.OUTCOME_FAILED
    const failed = statuses.filter((status) => status !== 'sent').length
    this.#counters[COUNTER.heapsFailed]! += failed
    this.#counters[COUNTER.packetsFailed]! += log.packets
    return heaps - failed
  }

  #publishStates(): void {
    const revision = this.backend.revision()
    if (revision === this.#revision) return
    this.#revision = revision
    this.emit({ type: 'states', states: this.backend.states() })
  }

  #fail(flight: Flight, first: number, count: number, errno: number): void {
    const { table } = flight.variant!.compiled
    const log = flight.logged()
    for (let r = first; r < first + count; r++) {
      const substream = table.substream[r]!
      if (errno === CAUSE_FLUSHED) log.flush(table.heap[r]!)
      else if (errno === CAUSE_UNKNOWN) log.lose(table.heap[r]!)
      else log.fail(table.heap[r]!, substream, errno, () => this.backend.explain(errno, substream, table.udpBytes[r]!))
    }
  }

  /** Fatal: what was not posted fails with the backend's error; everything later does too. */
  #failRest(flight: Flight): number {
    this.#fail(flight, flight.rowsPosted, flight.rows - flight.rowsPosted, this.#fatal)
    return this.#forget(flight)
  }

  #failAll(flight: Flight, { errno, message }: Refusal): number {
    const { table } = flight.variant!.compiled
    const log = flight.logged()
    for (let r = 0; r < flight.rows; r++) log.fail(table.heap[r]!, table.substream[r]!, errno, () => message)
    return this.#forget(flight)
  }

  /** Rows of the current flight that never reached the backend count as completed; it settles when its posted ones do. */
  #forget(flight: Flight): number {
    flight.rows = flight.rowsPosted
    this.#flights.pass()
    this.#settleFront()
    return NEXT_STEP_NOW
  }

  #abort(): number {
    const flights = this.#flights
    this.backend.abandon?.()
    this.#complete()
    while (flights.posted !== flights.taken) {
      const flight = flights.at(flights.posted)
      const { table } = flight.variant!.compiled
      const log = flight.logged()
      for (let r = flight.rowsPosted; r < flight.rows; r++) log.flush(table.heap[r]!)
      this.#forget(flight)
    }
    while (this.hasSubmissions) {
      const slot = this.ring.slot(flights.taken)
      if (this.#claim(slot + R.W_STATE)) this.ring.slots[slot + R.W_STATE] = R.STATE_ABORTED
      this.#take(0)
      flights.passEmpty()
    }
    // Rows that an asynchronous backend still holds cannot be waited for.
    for (let k = flights.settled; k !== flights.taken; k = (k + 1) | 0) {
      const flight = flights.at(k)
      if (flight.rowsCompleted === flight.rows) continue
      const { table } = flight.variant!.compiled
      const log = flight.logged()
      for (let r = flight.rowsCompleted; r < flight.rows; r++) log.lose(table.heap[r]!)
      flight.rowsCompleted = flight.rows
    }
    this.#settleFront()
    return NEXT_STOPPED
  }
}

function packetsOf(compiled: CompiledBatch, heap: number): number {
  return compiled.rowsOfHeaps[heap + 1]! - compiled.rowsOfHeaps[heap]!
}
