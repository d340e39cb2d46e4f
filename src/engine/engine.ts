/**
 * The engine: submissions in, packets out, settlements back. `step(now)` never blocks and never waits. A driver calls it and, when
 * it says there is nothing to do, sleeps as told. The same class runs in the I/O thread, on the event loop, and in tests under a
 * virtual clock.
 *
 * Order is strict: submissions are posted in turn, short ones together where the backend can, rows in table order; settlements follow.
 * flights.ts keeps what was claimed and is not settled, settlements.ts settles it. Only an interlude (interlude.ts) goes between the heaps of
 * another send.
 * A batch costs a scatter (scatter.ts), one post per 1024 messages, and a few shared words. Nothing is allocated unless something fails.
 */
import { performance } from 'node:perf_hooks'
import { TaiClock } from '../../ffi/clock.js'
import { type Backend, POST_AGAIN, POST_FATAL, POST_OK, POST_SKIP, type PostResult } from '../backend/backend.js'
import type { CompiledBatch } from '../batch/compile.js'
import { COUNTER } from '../stats.js'
import { giveUpAll } from './abort.js'
import type { Accounts } from './accounts.js'
import { Backoff } from './backoff.js'
import type { Completions } from './completions.js'
import {
  type EngineMessage,
  type EngineOptions,
  NEXT_AT_DEADLINE,
  NEXT_IDLE,
  NEXT_STEP_NOW,
  NEXT_STOPPED,
  NEXT_WHEN_REAPED,
  NEXT_WHEN_WRITABLE,
} from './contract.js'
import type { Flight, Flights } from './flights.js'
import type { Intake } from './intake.js'
import { endOfHeap, type Interlude } from './interlude.js'
import type { Loops } from './loops.js'
import type { Pacer } from './pacer.js'
import { type EngineParts, partsOf } from './parts.js'
import type { Retries } from './retries.js'
import { type Ring, SLOTS, STOP_ABORT, STOP_DRAIN } from './ring.js'
import { crossing, wholeMessages } from './rows.js'
import type { TaiReading } from './schedule.js'
import type { Settlements } from './settlements.js'
import { patch } from './variant.js'
import type { Variants } from './variants.js'

/** A 100 Gb/s NIC needs longer to send 512 packets than we need to post them. */
const ROWS_PER_REAP = 512
/** A post that an interlude may have to wait for. 64 MiB, as much as a call takes, are some ms. */
const INTERRUPTIBLE_BYTES = 4 << 20

const LATE = "the heap was late by the observation clock and left out, as clock.late 'skip' asks; clock.late 'slip' sends it late"

export class Engine {
  /** With NEXT_AT_DEADLINE, when to step again (the clock of step's `now`). */
  deadline = 0
  readonly loops: Loops
  readonly #parts: EngineParts
  readonly #variants: Variants
  readonly #intake: Intake
  readonly #pacer: Pacer | undefined
  readonly #post: PostResult = { kind: POST_OK, accepted: 0, skipped: 0, errno: 0, substream: 0, waitFor: 'writable' }
  readonly #completions: Completions
  readonly #flights: Flights
  readonly #interlude: Interlude
  readonly #settlements: Settlements
  readonly #backoff = new Backoff()
  readonly #accounts: Accounts
  readonly #retries: Retries | undefined
  readonly #counters: Float64Array
  /** A post takes no more than this. */
  readonly #mostBytes: number
  readonly #tellsAtPost: boolean
  readonly #joins: boolean
  /** Rows of flights posted since the backend was last asked for completions, if it does not tell at post. */
  #unasked = 0
  /** The errno that the backend broke with; 0 = it did not. */
  #fatal = 0

  constructor(
    readonly backend: Backend,
    readonly ring: Ring,
    readonly options: EngineOptions,
    emit: (message: EngineMessage) => void,
    /** Called after the shared words of settlements are written: once for all that settle together. */
    settled: () => void,
    /** Called when a submission is seen and before it is claimed: variants announced before it must be added now. */
    beforeClaim: () => void = () => {},
    /** The clock of step's `now`: tells when a burst was posted. */
    readonly clock: () => number = () => performance.now() * 1e6,
    /** TAI, for a schedule. */
    tai: TaiReading = new TaiClock(),
  ) {
    this.#accounts = ring.accounts
    this.#counters = ring.counters
    this.#parts = partsOf({ backend, ring, options, emit, settled, beforeClaim, clock, tai })
    this.#flights = this.#parts.flights
    this.#interlude = this.#parts.interlude
    this.#variants = this.#parts.variants
    this.loops = this.#parts.loops
    this.#intake = this.#parts.intake
    this.#completions = this.#parts.completions
    this.#settlements = this.#parts.settlements
    this.#retries = this.#parts.retries
    this.#pacer = this.#parts.pacer
    this.#mostBytes = options.interruptible ? INTERRUPTIBLE_BYTES : Number.POSITIVE_INFINITY
    const { evidence } = backend.caps
    this.#tellsAtPost = evidence === 'accepted' || evidence === 'written'
    this.#joins = backend.join !== undefined && !this.#pacer
  }

  /** With NEXT_AT_DEADLINE, a wake-up that is this late costs nothing; 0 where there is no rate to keep. */
  get slackNanoseconds(): number {
    return this.#pacer?.slackNanoseconds ?? 0
  }

  /** With NEXT_WHEN_REAPED and NEXT_WHEN_WRITABLE, when to step again at the latest (the clock of step's `now`). */
  get retryAt(): number {
    return this.#retries === undefined ? Number.POSITIVE_INFINITY : this.#retries.at
  }

  /** @param rates bytes per second per heap: −1 the stream's, 0 unlimited. */
  addVariant(id: number, compiled: CompiledBatch, rates?: Float64Array): void {
    this.#variants.add(id, compiled, rates)
  }

  /** Frees a variant once nothing of it is in flight; the caller sends nothing of it any more. */
  dropVariant(id: number): void {
    const variant = this.#variants.drop(id)
    if (variant && !this.#flights.uses(variant)) this.#variants.release(variant)
  }

  /** Nothing completes later, so a descriptor of the wait set that is ready tells of something else, and is ready until look() has read it. */
  get awaitsNews(): boolean {
    return this.#tellsAtPost && this.#retries?.holds === true
  }

  /** Lets the backend look around while there is nothing to post: a descriptor of its wait set is ready. */
  look(): void {
    this.backend.suspicion(true)
    this.#settlements.emitStates()
  }

  /** Sends the first heaps of a variant between the heaps of the sends under way. One such list at a time; a message tells of its fate. */
  interlude(id: number, heaps: number, rows: number, explicitCnts: boolean): void {
    this.#interlude.ask(this.#variants.get(id), heaps, rows, explicitCnts)
  }

  recallInterlude(): void {
    if (this.#interlude.state === 'waiting') this.#settlements.flushInterlude(this.#interlude)
  }

  /** @param mostBytes to be posted in this step, to a packet and, where messages are short, to a message; others wait for their turn */
  step(now: number, mostBytes = Number.POSITIVE_INFINITY): number {
    const flights = this.#flights
    const retries = this.#retries
    if (retries !== undefined) retries.now = now
    if (!this.#postsFirst()) this.#complete(now)
    const stop = this.ring.stopGlanced
    if (stop === STOP_ABORT) return this.#abort()
    const { state } = this.#interlude
    if (state === 'posting' || (state === 'waiting' && this.#interrupts(now)))
      return this.#postSome(this.#interlude.flight, now, mostBytes)
    if (retries !== undefined && now >= retries.at) return this.#postSome(retries.load(), now, mostBytes)
    if (flights.posted === flights.claimed) {
      if (this.full) return NEXT_WHEN_REAPED
      if (!this.#claimSome(now)) {
        if (this.#intake.isEarly) {
          if (this.#unasked > 0) this.#complete(now)
          this.deadline = this.#pacer!.deadline
          return NEXT_AT_DEADLINE
        }
        this.#pacer?.dry(now)
        if (flights.length > 0 || state === 'posted') return NEXT_WHEN_REAPED
        if (stop === STOP_DRAIN) return NEXT_STOPPED
        this.#intake.idle(now)
        return NEXT_IDLE
      }
    }
    return flights.posted === flights.claimed ? NEXT_STEP_NOW : this.#postSome(flights.at(flights.posted), now, mostBytes)
  }

  /** Begins the interlude where it may. */
  #interrupts(now: number): boolean {
    const flights = this.#flights
    const current = flights.posted === flights.claimed ? undefined : flights.at(flights.posted)
    if (!this.#interlude.mayBegin(flights.posted, current)) return false
    const { flight, explicitCnts } = this.#interlude
    const { ledger } = this.ring
    ledger.launchInterlude(flight.variant!.id, flight.heaps)
    patch(flight.variant!, flight.heaps, explicitCnts, this.#intake.sequence)
    ledger.noteSequence(this.#intake.sequence)
    this.#interlude.begin(flights.posted, current)
    this.#pacer?.resume(now)
    return true
  }

  /** Asking a device costs as much as a dozen packets: short batches that wait are posted before it is asked again. */
  #postsFirst(): boolean {
    const { posted, claimed, length } = this.#flights
    const some = this.#unasked > 0 && this.#unasked < ROWS_PER_REAP
    return some && posted === claimed && length < this.#mostInFlight && this.hasSubmissions
  }

  /** Something was submitted that no step has claimed yet. */
  get hasSubmissions(): boolean {
    return this.#intake.hasSubmissions
  }

  /** As many submissions as may be are in flight: the next is claimed when one of them completes. */
  get full(): boolean {
    return this.#flights.length >= this.#mostInFlight
  }

  /** Those whose rows wait to be posted again are not under way, and hold up the settlements of others only. */
  get #mostInFlight(): number {
    return this.#retries?.holds ? SLOTS : this.options.maxInFlight
  }

  /** Claims the next submission, or as many as the backend posts in one call; false when there is none. */
  #claimSome(now: number): boolean {
    const flights = this.#flights
    const first = flights.claimed
    const limit = (flights.settled + this.#mostInFlight) | 0
    const joins = this.#joins && !this.#retries?.engaged
    let joinedTo = first
    let rows = 0
    while (flights.claimed !== limit && rows < ROWS_PER_REAP) {
      const flight = this.#intake.next(now)
      if (!flight || !joins) break
      if (!flight.variant) continue
      const { posting } = flight.variant
      if (!posting || this.#fatal !== 0 || now < this.#backoff.until || !this.backend.join!(posting, flight.rows)) break
      rows += flight.rows
      joinedTo = flights.claimed
    }
    if (flights.claimed === first) return false
    if (joinedTo !== first) this.#postJoined(joinedTo)
    flights.passEmpty()
    // A settled submission with nothing on the wire keeps its place in the order of settlements.
    this.#settleFront(now)
    return true
  }

  /** Posts the joined flights, which are those before count `end`. post() then posts the rows that the backend did not take, in turn. */
  #postJoined(end: number): void {
    this.ring.ledger.post((end - 1) | 0)
    const accepted = this.backend.postJoined!()
    if (accepted > 0) {
      this.#backoff.end()
      this.#accounts.posts.record(accepted)
    }
    this.#unasked += accepted
    this.#counters[COUNTER.packets]! += accepted
    this.#counters[COUNTER.udpBytes]! += this.#flights.take(end, accepted)
  }

  /** Posts rows of the current flight. */
  #postSome(flight: Flight, now: number, mostBytes: number): number {
    const variant = flight.variant!
    if (this.#fatal !== 0) return this.#failRest(flight)
    if (now < this.#backoff.until) {
      this.deadline = this.#backoff.until
      return NEXT_AT_DEADLINE
    }
    const { posting } = variant
    const flights = this.#flights
    const retries = this.#retries
    if (retries?.holds && posting) {
      // Held rows go behind those of later flights.
      this.ring.ledger.post(flights.posted)
      retries.skipHeld(flight, flights.posted)
      if (flight.rowsPosted === flight.rows) return this.#finishIfPosted(flight)!
    }
    const from = flight.rowsPosted
    let end = this.#interlude.state === 'waiting' ? endOfHeap(flight) : flight.rows
    if (retries?.holds) end = retries.nextHeld(flight, end)
    const pacer = this.#pacer
    if (pacer) {
      if (flight !== retries?.flight && pacer.isTooLate(variant, from, flight.rows, now)) return this.#leaveOut(flight, pacer, now)
      end = pacer.end(variant, from, end, now)
      if (end === from) {
        this.deadline = pacer.deadline
        return NEXT_AT_DEADLINE
      }
    }
    const limit = variant.bytesBefore[from]! + Math.min(mostBytes, this.#mostBytes)
    if (posting && variant.bytesBefore[end]! > limit) {
      const cut = crossing(variant.bytesBefore, from, end, limit)
      const whole = wholeMessages(posting, from, cut)
      end = whole > from ? whole : cut
    }
    if (!posting) {
      pacer?.charge(variant, from, flight.rows, now, now)
      flight.refuse(variant.refused!)
      flight.loop?.fail()
      return this.#forget(flight)
    }
    const out = this.#post
    if (flight === this.#interlude.flight) this.ring.ledger.postInterlude(end)
    else if (flight !== retries?.flight) this.ring.ledger.post(flights.posted, end)
    this.backend.post(posting, from, end, out)
    const to = from + out.accepted
    flight.rowsPosted = to
    if (retries !== undefined) retries.posted(flight, flights.posted, from, to)
    const bytes = variant.bytesBefore[to]! - variant.bytesBefore[from]!
    this.#counters[COUNTER.packets]! += out.accepted
    this.#counters[COUNTER.udpBytes]! += bytes
    // Packets that cannot be sent take their time too: a rule or a dead link for half a second fails the packets of half a second.
    // Those that are put aside take theirs when they are posted.
    const over = out.kind === POST_SKIP && !this.#putsAside(flight, to) ? to + out.skipped : to
    if (pacer && over > from) {
      pacer.charge(variant, from, over, now, this.clock())
      this.#accounts.lag.record(this.#counters[COUNTER.lagNanoseconds]!)
    }
    if (out.accepted > 0) {
      this.#backoff.end()
      this.#accounts.posts.record(out.accepted)
    }
    switch (out.kind) {
      case POST_AGAIN:
        pacer?.refused(variant, now)
        this.#settlements.emitStates()
        if (retries?.waits(flight, flights.posted, to, out)) {
          this.#finishIfPosted(flight)
          this.#settleFront(now)
          return NEXT_STEP_NOW
        }
        if (out.waitFor === 'writable') return this.#finishIfPosted(flight) ?? NEXT_WHEN_WRITABLE
        this.#backoff.begin(now, out.waitFor)
        this.deadline = this.#backoff.until
        return this.#finishIfPosted(flight) ?? NEXT_AT_DEADLINE
      case POST_SKIP:
        flight.rowsPosted = to + out.skipped
        break
      case POST_FATAL:
        this.#fatal = out.errno
        return this.#failRest(flight)
    }
    return this.#finishIfPosted(flight) ?? NEXT_STEP_NOW
  }

  /** Rows of the current flight from `first` on are refused. False: they have failed. */
  #putsAside(flight: Flight, first: number): boolean {
    const out = this.#post
    if (this.#retries) return this.#retries.refused(flight, this.#flights.posted, first, out)
    flight.fail(first, out.skipped, out.errno, this.backend, this.#parts.excuses)
    return false
  }

  #finishIfPosted(flight: Flight): number | undefined {
    const { rows, rowsPosted } = flight
    if (rowsPosted < rows) return undefined
    this.#pass(flight)
    // A device tells later: the next step asks it.
    if (this.#tellsAtPost) this.#complete(this.clock())
    else this.#unasked += rows
    return NEXT_STEP_NOW
  }

  /** Leaves out heaps of the current flight that are too late, once all rows before them have completed. */
  #leaveOut(flight: Flight, pacer: Pacer, now: number): number {
    const completed = flight.rowsCompleted === flight.rowsPosted && !this.#interlude.underWay
    if (!completed && !this.#retries?.engaged) return NEXT_WHEN_REAPED
    flight.skip(pacer.passLate(flight.variant!, flight.rowsPosted, flight.rows, now), LATE)
    if (flight.rowsPosted < flight.rows) return NEXT_STEP_NOW
    return this.#forget(flight)
  }

  /** All rows of the current flight are posted, or given up. */
  #pass(flight: Flight): void {
    if (flight === this.#interlude.flight) this.#interlude.pass()
    else if (flight !== this.#retries?.flight) this.#flights.pass()
  }

  /** Gives what the backend completed to its flights, and settles those that are through. */
  #complete(now: number): void {
    this.#unasked = 0
    if (this.#completions.distribute(this.#flights, this.#interlude)) this.#settleFront(now)
  }

  #settleFront(now: number): void {
    if (this.#interlude.through) this.#settlements.settleInterlude(this.#interlude)
    const flights = this.#flights
    const end = flights.through()
    if (end !== flights.settled) this.#settlements.settle(end, now, end === flights.claimed && !this.#intake.goesOn)
  }

  /** The backend is broken: rows that were not posted fail with its error, and so does everything later. */
  #failRest(flight: Flight): number {
    flight.loop?.fail()
    if (flight === this.#retries?.flight) {
      this.#retries.failAll(this.#fatal)
      this.#settleFront(this.clock())
      return NEXT_STEP_NOW
    }
    flight.fail(flight.rowsPosted, flight.rows - flight.rowsPosted, this.#fatal, this.backend)
    return this.#forget(flight)
  }

  /** Rows of the current flight that never reached the backend count as completed; it settles when its posted ones do. */
  #forget(flight: Flight): number {
    flight.rows = flight.rowsPosted
    this.#pass(flight)
    this.#settleFront(this.clock())
    return NEXT_STEP_NOW
  }

  #abort(): number {
    this.backend.abandon?.()
    const now = this.clock()
    this.#complete(now)
    giveUpAll(this.#parts)
    this.#settleFront(now)
    // Not before: there are as many slots for flights as in the ring, and batches of a loop took some.
    this.#intake.refuseAll()
    this.#settleFront(now)
    return NEXT_STOPPED
  }
}
