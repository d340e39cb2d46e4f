/**
 * Settles flights that are through: writes the fate of each into its slot, publishes that with one store, and tells before it what failed
 * and what changed in the backend.
 */
import { errnoName } from '../../ffi/native-error.js'
import type { Backend } from '../backend/backend.js'
import type { CompiledBatch } from '../batch/compile.js'
import { COUNTER } from '../stats.js'
import type { EngineMessage } from './contract.js'
import type { Flights } from './flights.js'
import type { Interlude } from './interlude.js'
import type { FailureLog, HeapStatus, OutcomeMessage } from './outcome.js'
import type { Ring } from './ring.js'
import type { Variant } from './variant.js'
import type { Variants } from './variants.js'

export class Settlements {
  /** The backend's when it was last asked. A flight that was claimed at another one is suspect. */
  suspicion = 0
  readonly #counters: Float64Array
  /** How often the backend's states had changed when they were last emitted. */
  #changes = -1

  constructor(
    readonly backend: Backend,
    readonly ring: Ring,
    readonly flights: Flights,
    readonly variants: Variants,
    readonly emit: (message: EngineMessage) => void,
    /** As the engine's. */
    readonly settled: () => void,
  ) {
    this.#counters = ring.counters
  }

  /** Reads the backend's suspicion afresh. */
  askBackend(thorough: boolean): void {
    this.suspicion = this.backend.suspicion(thorough)
  }

  /** Settles the oldest flights, those before count `end`, of which there are some. @param thorough as Backend.suspicion */
  settle(end: number, thorough: boolean): void {
    const { ring, flights } = this
    this.emitStates()
    let batches = 0
    let heapsSent = 0
    for (let k = flights.settled; k !== end; k = (k + 1) | 0) {
      const flight = flights.at(k)
      const { variant, log } = flight
      let suspect = false
      if (variant) {
        if (batches === 0) this.askBackend(thorough)
        batches++
        suspect = this.suspicion !== flight.suspicion
        heapsSent += log ? this.#emitOutcome(k, variant, flight.heaps, log) : flight.heaps
        flight.log = undefined
        flight.variant = undefined
        if (variant.dropped && !flights.uses(variant)) this.variants.release(variant)
      }
      ring.settle(k, log !== undefined, suspect)
    }
    this.#counters[COUNTER.batches]! += batches
    this.#counters[COUNTER.heapsSent]! += heapsSent
    this.emitStates()
    flights.settled = end
    ring.publish(end)
    this.settled()
  }

  /** An interlude has no slot: a message tells of its fate. */
  settleInterlude(interlude: Interlude): void {
    const { heaps, variant, log } = interlude.flight
    const outcome = log && this.#outcome(0, variant!, heaps, log)
    this.#counters[COUNTER.heapsSent]! += heaps - (outcome ? unsentOf(outcome) : 0)
    this.emit({ type: 'interlude', outcome })
    interlude.end()
  }

  /** None of it was tried. */
  flushInterlude(interlude: Interlude): void {
    const heaps = new Array<HeapStatus>(interlude.flight.heaps).fill('flushed')
    this.emit({
      type: 'interlude',
      outcome: { type: 'outcome', submission: 0, heaps, causes: [], packetsFailed: interlude.flight.rows },
    })
    interlude.end()
  }

  /** Emits the outcome of a submission of which something failed; returns how many heaps were sent. */
  #emitOutcome(submission: number, variant: Variant, heaps: number, log: FailureLog): number {
    const message = this.#outcome(submission, variant, heaps, log)
    this.emit(message)
    return heaps - unsentOf(message)
  }

  /** Counts what failed. */
  #outcome(submission: number, { compiled }: Variant, heaps: number, log: FailureLog): OutcomeMessage {
    const nameOf = (cause: number) => this.backend.causeName?.(cause) ?? errnoName(cause)
    const message = log.message(submission, heaps, (j) => packetsOf(compiled, j), nameOf)
    const skipped = countOf(message, 'skipped')
    this.#counters[COUNTER.heapsFailed]! += unsentOf(message) - skipped
    this.#counters[COUNTER.heapsSkipped]! += skipped
    this.#counters[COUNTER.packetsFailed]! += log.packets
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

function packetsOf(compiled: CompiledBatch, heap: number): number {
  return compiled.rowsOfHeaps[heap + 1]! - compiled.rowsOfHeaps[heap]!
}

const countOf = ({ heaps }: OutcomeMessage, wanted: HeapStatus): number => heaps.filter((status) => status === wanted).length
const unsentOf = (message: OutcomeMessage): number => message.heaps.length - countOf(message, 'sent')
