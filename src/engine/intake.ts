/**
 * Takes submissions out of the ring, in order: each becomes a flight whose headers are patched, or is over with by being claimed. While a loop
 * runs, its batches become flights instead. Nothing is allocated.
 */
import type { Backend } from '../backend/backend.js'
import type { Flight, Flights } from './flights.js'
import { LOOP_ENDS, LOOP_WAITS, type Loop } from './loop.js'
import type { Loops } from './loops.js'
import type { Pacer } from './pacer.js'
import { Claim, type Ring } from './ring.js'
import type { CntSequence } from './scatter.js'
import type { Settlements } from './settlements.js'
import { patch, type Variant } from './variant.js'
import type { Variants } from './variants.js'

const PAUSE_NANOSECONDS = 10_000_000

export interface IntakeParts {
  readonly backend: Backend
  readonly ring: Ring
  readonly flights: Flights
  readonly variants: Variants
  readonly loops: Loops
  readonly settlements: Settlements
  readonly pacer: Pacer | undefined
  /** Called when a submission is seen and before it is claimed: variants announced before it must be added now. */
  readonly beforeClaim: () => void
}

export class Intake {
  /** The next submission was not claimed, because it is due later and may be withdrawn until then: the pacer's deadline says when to ask again. */
  isEarly = false
  readonly sequence: CntSequence
  readonly #claim = new Claim()
  readonly #backend: Backend
  readonly #ring: Ring
  readonly #flights: Flights
  readonly #variants: Variants
  readonly #loops: Loops
  readonly #settlements: Settlements
  readonly #pacer: Pacer | undefined
  readonly #beforeClaim: () => void
  /** The ring's submissions as they were last looked at: whatever was written before one of them is visible with it. */
  #seen: number
  /** Submissions that were claimed, by the ring's count. */
  #claimed: number
  #idle = true
  #idleSince = Number.NEGATIVE_INFINITY

  constructor({ backend, ring, flights, variants, loops, settlements, pacer, beforeClaim }: IntakeParts) {
    this.#backend = backend
    this.#ring = ring
    this.sequence = ring.ledger.sequence
    this.#flights = flights
    this.#seen = ring.published
    this.#claimed = ring.published
    this.#variants = variants
    this.#loops = loops
    this.#settlements = settlements
    this.#pacer = pacer
    this.#beforeClaim = beforeClaim
  }

  /** There is a flight to be made. */
  get hasSubmissions(): boolean {
    const { running } = this.#loops
    return running === undefined ? this.#isSubmitted : running.ready
  }

  /** There will be more to send behind all that is claimed. */
  get goesOn(): boolean {
    return this.#loops.running !== undefined || this.#isSubmitted
  }

  /** Something was submitted that has not been claimed. */
  get #isSubmitted(): boolean {
    if (this.#seen === this.#claimed) this.#seen = this.#ring.submitted
    return this.#seen !== this.#claimed
  }

  /** Nothing is submitted, and all that was has settled. */
  idle(now: number): void {
    if (!this.#idle) this.#idleSince = now
    this.#idle = true
  }

  /** Claims the next submission, or the next batch of the loop that runs, and patches its headers; undefined when there is none. */
  next(now: number): Flight | undefined {
    const { running } = this.#loops
    this.isEarly = false
    if (running !== undefined) return this.#nextOf(running, now)
    if (!this.#isSubmitted) return undefined
    this.#beforeClaim()
    const withdrawable = this.#ring.withdrawable(this.#claimed)
    if (withdrawable >= 0 && this.#waitsFor(this.#variants.get(withdrawable), now)) return undefined
    const ring = this.#ring
    const claim = this.#claim
    const count = this.#claimed
    this.#claimed = (count + 1) | 0
    const isOurs = ring.claim(count, claim)
    if (isOurs && claim.loop >= 0) return this.#nextOf(this.#begin(claim.loop, count), now)
    const flight = this.#flights.claim()
    if (!isOurs) return flight
    const { sequence } = this
    if (claim.setsSequence) {
      claim.writeTo(sequence)
      ring.ledger.setSequence(sequence, count)
      return flight
    }
    if (claim.resumes >= 0) {
      this.#backend.resume?.(claim.resumes)
      return flight
    }
    const variant = this.#variants.get(claim.variant)
    this.#noteFirstCnt(count, variant)
    ring.ledger.launch(this.#launched, variant.id, claim.heaps, count)
    return this.#launch(flight, variant, claim.heaps, claim.rows, claim.explicitCnts, now)
  }

  #waitsFor(variant: Variant, now: number): boolean {
    this.isEarly = this.#pacer?.isAhead(variant, now) ?? false
    return this.isEarly
  }

  /** The count of the flight that was claimed last. */
  get #launched(): number {
    return (this.#flights.claimed - 1) | 0
  }

  #noteFirstCnt(count: number, { cnt }: Variant): void {
    const { nextHi, nextLo } = this.sequence
    this.#ring.noteFirstCnt(count, nextHi & cnt.maskHi, nextLo & cnt.maskLo)
  }

  #begin(id: number, count: number): Loop {
    const loop = this.#loops.begin(id)
    this.#noteFirstCnt(count, loop.first)
    return loop
  }

  /** Behind its last batch, the loop's submission becomes a flight. */
  #nextOf(loop: Loop, now: number): Flight | undefined {
    this.#beforeClaim()
    if (loop.isUnbegun && this.#waitsFor(loop.first, now)) return undefined
    const aim = loop.aim()
    if (aim === LOOP_WAITS) return undefined
    const flight = this.#flights.claim()
    flight.loop = loop
    if (aim !== LOOP_ENDS) {
      this.#ring.ledger.launch(this.#launched, loop.variant.id, loop.heaps, undefined)
      return this.#launch(flight, loop.variant, loop.heaps, loop.rows, false, now)
    }
    this.#loops.end()
    return flight
  }

  /** The flight has something to post. */
  #launch(flight: Flight, variant: Variant, heaps: number, rows: number, explicitCnts: boolean, now: number): Flight {
    // The loops that patch rely on it.
    if (heaps > variant.heaps) throw new Error(`${heaps} heaps of a batch of ${variant.heaps}`)
    flight.variant = variant
    flight.heaps = heaps
    flight.rows = rows
    // Trouble noticed after a batch settled makes the next one suspect. After a pause the state is read afresh, so it does not.
    if (this.#idle && now - this.#idleSince > PAUSE_NANOSECONDS) this.#settlements.askBackend(true)
    flight.suspicion = this.#settlements.suspicion
    patch(variant, heaps, explicitCnts, this.sequence)
    this.#ring.ledger.noteSequence(this.sequence)
    this.#idle = false
    this.#pacer?.begin(variant, heaps, flight.rows, now)
    return flight
  }

  /** Claims all that is submitted in order not to send it. */
  refuseAll(): void {
    const flights = this.#flights
    const { running } = this.#loops
    if (running) {
      // Its submission is claimed already.
      this.#ring.refuse((this.#claimed - 1) | 0)
      running.abort()
      flights.claim().loop = running
      this.#loops.end()
    }
    while (this.#isSubmitted) {
      this.#beforeClaim()
      this.#ring.refuse(this.#claimed)
      this.#claimed = (this.#claimed + 1) | 0
      flights.claim()
    }
    flights.passEmpty()
  }
}
