/**
 * Settles flights that are through: writes the fate of each into its slot, publishes that with one store, and tells before it what failed
 * and what changed in the backend.
 */
import { errnoName } from '../../ffi/native-error.js'
import { type Backend, CAUSE_LATE } from '../backend/backend.js'
import type { CompiledBatch } from '../batch/compile.js'
import { COUNTER } from '../stats.js'
import type { Accounts } from './accounts.js'
import type { EngineMessage } from './contract.js'
import type { Flights } from './flights.js'
import type { Interlude } from './interlude.js'
import type { Loop } from './loop.js'
import { ORIGIN_NANOSECONDS } from './origin.js'
import type { FailureLog, HeapStatus, OutcomeMessage } from './outcome.js'
import type { Ring } from './ring.js'
import type { Variant } from './variant.js'
import type { Variants } from './variants.js'

export class Settlements {
  /** The backend's when it was last asked. A flight that was claimed at another one is suspect. */
  suspicion = 0
  readonly #accounts: Accounts
  readonly #counters: Float64Array
  /** How often the backend's states had changed when they were last emitted. */
  #changes = -1
  /** Submissions that have settled, by the ring's count. */
  #slots: number

  constructor(
    readonly backend: Backend,
    readonly ring: Ring,
    readonly flights: Flights,
    readonly variants: Variants,
    readonly emit: (message: EngineMessage) => void,
    /** As the engine's. */
    readonly settled: () => void,
  ) {
    this.#slots = ring.published
    this.#accounts = ring.accounts
    this.#counters = ring.counters
  }

  /** Reads the backend's suspicion afresh. */
  askBackend(thorough: boolean): void {
    this.suspicion = this.backend.suspicion(thorough)
  }

  /** Settles the oldest flights, those before count `end`, of which there are some. @param thorough as Backend.suspicion */
  settle(end: number, now: number, thorough: boolean): void {
    const { ring, flights } = this
    const accounts = this.#accounts
    this.emitStates()
    let batches = 0
    const absolute = now + ORIGIN_NANOSECONDS
    const slots = this.#slots
    for (let k = flights.settled; k !== end; k = (k + 1) | 0) {
      const flight = flights.at(k)
      const { variant, log, loop } = flight
      let suspect = false
      if (variant) {
        if (batches === 0) this.askBackend(thorough)
        batches++
        suspect = this.suspicion !== flight.suspicion
        if (loop === undefined) accounts.latency.record(absolute - ring.submittedAt(this.#slots))
        if (log) this.#emitOutcome(variant, flight.heaps, log, suspect, loop, k)
        else accounts.sent(variant, flight.heaps, suspect, k)
        flight.log = undefined
        flight.variant = undefined
        if (variant.dropped && !flights.uses(variant)) this.variants.release(variant)
      }
      if (loop !== undefined) {
        if (variant) {
          loop.settled(flight.heaps, suspect)
          continue
        }
        loop.tellEnd()
      }
      ring.settle(this.#slots, log !== undefined, suspect)
      this.#slots = (this.#slots + 1) | 0
    }
    this.#counters[COUNTER.batches]! += batches
    this.emitStates()
    flights.settled = end
    ring.ledger.settle(end)
    // The stream's thread sleeps on while a loop goes round.
    if (this.#slots === slots) return
    ring.publish(this.#slots)
    this.settled()
  }

  /** An interlude has no slot: a message tells of its fate. */
  settleInterlude(interlude: Interlude): void {
    this.emit({ type: 'interlude', outcome: this.#interludeOutcome(interlude) })
    this.#endInterlude(interlude)
  }

  /** Nobody asks for its fate any more. */
  forgetInterlude(interlude: Interlude): void {
    if (interlude.underWay) this.#interludeOutcome(interlude)
    this.#endInterlude(interlude)
  }

  #endInterlude(interlude: Interlude): void {
    interlude.end()
    this.ring.ledger.endInterlude()
  }

  #interludeOutcome({ flight: { heaps, variant, log } }: Interlude): OutcomeMessage | undefined {
    this.#counters[COUNTER.batches]! += 1
    if (log) return this.#outcome(0, variant!, heaps, log, false, undefined)
    this.#accounts.sent(variant!, heaps, false, undefined)
    return undefined
  }

  /** None of it was tried. */
  flushInterlude(interlude: Interlude): void {
    const heaps = new Array<HeapStatus>(interlude.flight.heaps).fill('flushed')
    this.emit({
      type: 'interlude',
      outcome: { type: 'outcome', submission: 0, heaps, causes: [], packetsUnsent: interlude.flight.rows },
    })
    interlude.end()
  }

  /** Emits the outcome of a submission of which something failed, or gives it to the loop. */
  #emitOutcome(variant: Variant, heaps: number, log: FailureLog, suspect: boolean, loop: Loop | undefined, flight: number): void {
    const message = this.#outcome(this.#slots, variant, heaps, log, suspect, flight)
    if (loop) loop.failedSome(message)
    else this.emit(message)
  }

  /** Counts heaps of which something failed. @param flight as Accounts.failed */
  #outcome(
    submission: number,
    variant: Variant,
    heaps: number,
    log: FailureLog,
    suspect: boolean,
    flight: number | undefined,
  ): OutcomeMessage {
    const nameOf = (cause: number) => (cause === CAUSE_LATE ? 'LATE' : (this.backend.causeName?.(cause) ?? errnoName(cause)))
    const message = log.message(submission, heaps, (j) => packetsOf(variant.compiled, j), nameOf)
    this.#accounts.failed(variant, message, log, suspect, flight)
    return message
  }

  /** Tells what the backend says of itself, if it has changed. */
  emitStates(): void {
    const { states } = this.backend
    if (states.changes === this.#changes) return
    this.#changes = states.changes
    const lost = this.backend.takeLost?.()
    this.emit({ type: 'states', states: states.read(), ...(lost?.length && { lost }) })
  }
}

export function packetsOf(compiled: CompiledBatch, heap: number): number {
  return compiled.rowsOfHeaps[heap + 1]! - compiled.rowsOfHeaps[heap]!
}
