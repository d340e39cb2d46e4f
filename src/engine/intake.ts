/**
 * Takes submissions out of the ring, in order: each becomes a flight whose headers are patched, or is over with by being claimed. Nothing is
 * allocated.
 */
import type { Backend } from '../backend/backend.js'
import type { Flight, Flights } from './flights.js'
import type { Pacer } from './pacer.js'
import { Claim, type Ring } from './ring.js'
import type { CntSequence } from './scatter.js'
import type { Settlements } from './settlements.js'
import { patch } from './variant.js'
import type { Variants } from './variants.js'

const PAUSE_NANOSECONDS = 10_000_000

export interface IntakeParts {
  readonly backend: Backend
  readonly ring: Ring
  readonly flights: Flights
  readonly variants: Variants
  readonly settlements: Settlements
  readonly pacer: Pacer | undefined
  /** Called when a submission is seen and before it is claimed: variants announced before it must be added now. */
  readonly beforeClaim: () => void
}

export class Intake {
  readonly sequence: CntSequence = { nextHi: 0, nextLo: 1, stepHi: 0, stepLo: 1 }
  readonly #claim = new Claim()
  readonly #backend: Backend
  readonly #ring: Ring
  readonly #flights: Flights
  readonly #variants: Variants
  readonly #settlements: Settlements
  readonly #pacer: Pacer | undefined
  readonly #beforeClaim: () => void
  /** The ring's submissions as they were last looked at: whatever was written before one of them is visible with it. */
  #seen: number
  #idle = true
  #idleSince = Number.NEGATIVE_INFINITY

  constructor({ backend, ring, flights, variants, settlements, pacer, beforeClaim }: IntakeParts) {
    this.#backend = backend
    this.#ring = ring
    this.#flights = flights
    this.#seen = flights.claimed
    this.#variants = variants
    this.#settlements = settlements
    this.#pacer = pacer
    this.#beforeClaim = beforeClaim
  }

  /** Something was submitted that has not been claimed. */
  get hasSubmissions(): boolean {
    const { claimed } = this.#flights
    if (this.#seen === claimed) this.#seen = this.#ring.submitted
    return this.#seen !== claimed
  }

  /** Nothing is submitted, and all that was has settled. */
  idle(now: number): void {
    if (!this.#idle) this.#idleSince = now
    this.#idle = true
  }

  /** Claims the next submission and patches its headers; undefined when there is none. */
  next(now: number): Flight | undefined {
    if (!this.hasSubmissions) return undefined
    this.#beforeClaim()
    const flights = this.#flights
    const ring = this.#ring
    const claim = this.#claim
    const count = flights.claimed
    const flight = flights.claim()
    if (!ring.claim(count, claim)) return flight
    const { sequence } = this
    if (claim.setsSequence) {
      claim.writeTo(sequence)
      return flight
    }
    if (claim.resumes >= 0) {
      this.#backend.resume?.(claim.resumes)
      return flight
    }
    const variant = this.#variants.get(claim.variant)
    const { heaps } = claim
    // The loops that patch rely on it.
    if (heaps > variant.heaps) throw new Error(`${heaps} heaps of a batch of ${variant.heaps}`)
    flight.variant = variant
    flight.heaps = heaps
    flight.rows = claim.rows
    // Trouble noticed after a batch settled makes the next one suspect. After a pause the state is read afresh, so it does not.
    if (this.#idle && now - this.#idleSince > PAUSE_NANOSECONDS) this.#settlements.askBackend(true)
    flight.suspicion = this.#settlements.suspicion
    ring.noteFirstCnt(count, sequence.nextHi & variant.cnt.maskHi, sequence.nextLo & variant.cnt.maskLo)
    patch(variant, heaps, claim.explicitCnts, sequence)
    this.#idle = false
    this.#pacer?.resume(now)
    return flight
  }

  /** Claims all that is submitted in order not to send it. */
  refuseAll(): void {
    const flights = this.#flights
    while (this.hasSubmissions) {
      this.#beforeClaim()
      this.#ring.refuse(flights.claimed)
      flights.claim()
      flights.passEmpty()
    }
  }
}
