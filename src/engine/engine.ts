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
import { type Backend, CAUSE_FLUSHED, POST_AGAIN, POST_FATAL, POST_OK, POST_SKIP, type PostResult } from '../backend/backend.js'
import type { CompiledBatch } from '../batch/compile.js'
import { COUNTER } from '../stats.js'
import type { Accounts } from './accounts.js'
import { Backoff } from './backoff.js'
import { Completions } from './completions.js'
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
import { type Flight, Flights } from './flights.js'
import { Intake } from './intake.js'
import { endOfHeap, Interlude } from './interlude.js'
import { Pacer } from './pacer.js'
import { type Ring, STOP_ABORT, STOP_DRAIN } from './ring.js'
import { crossing, wholeMessages } from './rows.js'
import { Settlements } from './settlements.js'
import { patch } from './variant.js'
import { Variants } from './variants.js'

/** A 100 Gb/s NIC needs longer to send 512 packets than we need to post them. */
const ROWS_PER_REAP = 512
/** A post that an interlude may have to wait for. 64 MiB, as much as a call takes, are some ms. */
const INTERRUPTIBLE_BYTES = 4 << 20

export class Engine {
  /** With NEXT_AT_DEADLINE, when to step again (the clock of step's `now`). */
  deadline = 0
  readonly #variants: Variants
  readonly #intake: Intake
  readonly #pacer: Pacer | undefined
  readonly #post: PostResult = { kind: POST_OK, accepted: 0, skipped: 0, errno: 0, substream: 0, waitFor: 'writable' }
  readonly #completions: Completions
  readonly #flights: Flights
  readonly #interlude = new Interlude()
  readonly #settlements: Settlements
  readonly #backoff = new Backoff()
  readonly #accounts: Accounts
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
  ) {
    this.#flights = new Flights(ring.published)
    this.#accounts = ring.accounts
    this.#counters = ring.counters
    this.#completions = new Completions(backend, ring.counters)
    this.#mostBytes = options.interruptible ? INTERRUPTIBLE_BYTES : Number.POSITIVE_INFINITY
    const { evidence } = backend.caps
    this.#tellsAtPost = evidence === 'accepted' || evidence === 'written'
    if (options.rateBytesPerSecond > 0 && !backend.caps.pacesItself) this.#pacer = new Pacer(options, backend.caps, ring.counters)
    this.#variants = new Variants(backend, this.#pacer)
    this.#settlements = new Settlements(backend, ring, this.#flights, this.#variants, emit, settled)
    this.#intake = new Intake({
      backend,
      ring,
      flights: this.#flights,
      variants: this.#variants,
      settlements: this.#settlements,
      pacer: this.#pacer,
      beforeClaim,
    })
    this.#joins = backend.join !== undefined && !this.#pacer
  }

  /** With NEXT_AT_DEADLINE, a wake-up that is this late costs nothing; 0 where there is no rate to keep. */
  get slackNanoseconds(): number {
    return this.#pacer?.slackNanoseconds ?? 0
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

  /** Lets the backend look around while there is nothing to send: a descriptor of its wait set is ready. */
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
    if (!this.#postsFirst()) this.#complete(now)
    const stop = this.ring.stopGlanced
    if (stop === STOP_ABORT) return this.#abort()
    const { state } = this.#interlude
    if (state === 'posting' || (state === 'waiting' && this.#interrupts(now)))
      return this.#postSome(this.#interlude.flight, now, mostBytes)
    if (flights.posted === flights.claimed) {
      if (this.full) return NEXT_WHEN_REAPED
      if (!this.#claimSome(now)) {
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
    patch(flight.variant!, flight.heaps, explicitCnts, this.#intake.sequence)
    this.#interlude.begin(flights.posted, current)
    this.#pacer?.resume(now)
    return true
  }

  /** Asking a device costs as much as a dozen packets: short batches that wait are posted before it is asked again. */
  #postsFirst(): boolean {
    const { posted, claimed, length } = this.#flights
    const some = this.#unasked > 0 && this.#unasked < ROWS_PER_REAP
    return some && posted === claimed && length < this.options.maxInFlight && this.hasSubmissions
  }

  /** Something was submitted that no step has claimed yet. */
  get hasSubmissions(): boolean {
    return this.#intake.hasSubmissions
  }

  /** As many submissions as may be are in flight: the next is claimed when one of them completes. */
  get full(): boolean {
    return this.#flights.length >= this.options.maxInFlight
  }

  /** Claims the next submission, or as many as the backend posts in one call; false when there is none. */
  #claimSome(now: number): boolean {
    const flights = this.#flights
    const first = flights.claimed
    const limit = (flights.settled + this.options.maxInFlight) | 0
    let joinedTo = first
    let rows = 0
    while (flights.claimed !== limit && rows < ROWS_PER_REAP) {
      const flight = this.#intake.next(now)
      if (!flight || !this.#joins) break
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
    const flights = this.#flights
    let accepted = this.backend.postJoined!()
    if (accepted > 0) {
      this.#backoff.end()
      this.#accounts.posts.record(accepted)
    }
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

  /** Posts rows of the current flight. */
  #postSome(flight: Flight, now: number, mostBytes: number): number {
    const variant = flight.variant!
    if (this.#fatal !== 0) return this.#failRest(flight)
    if (now < this.#backoff.until) {
      this.deadline = this.#backoff.until
      return NEXT_AT_DEADLINE
    }
    const from = flight.rowsPosted
    let end = this.#interlude.state === 'waiting' ? endOfHeap(flight) : flight.rows
    const pacer = this.#pacer
    if (pacer) {
      end = pacer.end(variant, from, end, now)
      if (end === from) {
        this.deadline = pacer.deadline
        return NEXT_AT_DEADLINE
      }
    }
    const { posting } = variant
    const limit = variant.bytesBefore[from]! + Math.min(mostBytes, this.#mostBytes)
    if (posting && variant.bytesBefore[end]! > limit) {
      const cut = crossing(variant.bytesBefore, from, end, limit)
      const whole = wholeMessages(posting, from, cut)
      end = whole > from ? whole : cut
    }
    if (!posting) {
      pacer?.charge(variant, from, flight.rows, now, now)
      flight.refuse(variant.refused!)
      return this.#forget(flight)
    }
    const out = this.#post
    this.backend.post(posting, from, end, out)
    const to = from + out.accepted
    flight.rowsPosted = to
    const bytes = variant.bytesBefore[to]! - variant.bytesBefore[from]!
    this.#counters[COUNTER.packets]! += out.accepted
    this.#counters[COUNTER.udpBytes]! += bytes
    // Packets that cannot be sent take their time too: a rule or a dead link for half a second fails the packets of half a second.
    const over = out.kind === POST_SKIP ? to + out.skipped : to
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
        pacer?.refused(now)
        this.#settlements.emitStates()
        if (out.waitFor === 'writable') return this.#finishIfPosted(flight) ?? NEXT_WHEN_WRITABLE
        this.#backoff.begin(now, out.waitFor)
        this.deadline = this.#backoff.until
        return this.#finishIfPosted(flight) ?? NEXT_AT_DEADLINE
      case POST_SKIP:
        flight.fail(to, out.skipped, out.errno, this.backend)
        flight.rowsPosted = over
        break
      case POST_FATAL:
        this.#fatal = out.errno
        return this.#failRest(flight)
    }
    return this.#finishIfPosted(flight) ?? NEXT_STEP_NOW
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

  /** All rows of the current flight are posted, or given up. */
  #pass(flight: Flight): void {
    if (flight === this.#interlude.flight) this.#interlude.pass()
    else this.#flights.pass()
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
    if (end !== flights.settled) this.#settlements.settle(end, now, end === flights.claimed && !this.hasSubmissions)
  }

  /** The backend is broken: rows that were not posted fail with its error, and so does everything later. */
  #failRest(flight: Flight): number {
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
    const flights = this.#flights
    this.backend.abandon?.()
    const now = this.clock()
    this.#complete(now)
    const { flight } = this.#interlude
    if (this.#interlude.underWay) {
      this.#completions.giveUp(flight)
      if (flight.rowsPosted < flight.rows)
        flight.fail(flight.rowsPosted, flight.rows - flight.rowsPosted, CAUSE_FLUSHED, this.backend)
    }
    this.#settlements.forgetInterlude(this.#interlude)
    while (flights.posted !== flights.claimed) {
      const flight = flights.at(flights.posted)
      flight.fail(flight.rowsPosted, flight.rows - flight.rowsPosted, CAUSE_FLUSHED, this.backend)
      this.#forget(flight)
    }
    this.#intake.refuseAll()
    // Rows that an asynchronous backend still holds cannot be waited for.
    for (let k = flights.settled; k !== flights.claimed; k = (k + 1) | 0) this.#completions.giveUp(flights.at(k))
    this.#settleFront(now)
    return NEXT_STOPPED
  }
}
