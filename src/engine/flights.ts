/**
 * Submissions being posted or waiting for their completions, by the ring's count: nothing is moved or allocated as they pass through.
 *
 *   settled ≤ posted ≤ taken, counting for ever modulo 2^32
 *
 * | submission      | where                                                                        |
 * |-----------------|------------------------------------------------------------------------------|
 * | under way       | settled … posted−1: wholly posted, or with nothing to post                    |
 * | current         | posted, if posted ≠ taken: partly posted or not at all                         |
 * | waiting         | posted+1 … taken−1: taken to be posted together with the current, and was not  |
 */
import { FailureLog } from './outcome.js'
import * as R from './ring.js'
import type { Variant } from './variant.js'

const MASK = R.SLOTS - 1

/** Small whole numbers only, which V8 keeps in the object. */
export class Flight {
  /** undefined: settled by being taken, nothing to post. */
  variant: Variant | undefined = undefined
  heaps = 0
  /** To be posted; fewer than were submitted when the rest was given up. */
  rows = 0
  rowsPosted = 0
  rowsCompleted = 0
  /** The backend's when it was taken. */
  suspicion = 0
  /** Made at the first failure. */
  log: FailureLog | undefined = undefined

  logged(): FailureLog {
    this.log ??= new FailureLog(this.variant!.heaps)
    return this.log
  }
}

export class Flights {
  settled = 0
  posted = 0
  taken = 0
  readonly #all = Array.from({ length: R.SLOTS }, () => new Flight())

  /** How many are taken and not settled. */
  get length(): number {
    return (this.taken - this.settled) | 0
  }

  at(count: number): Flight {
    return this.#all[count & MASK]!
  }

  /** Takes the next, for now with nothing to post. */
  take(): Flight {
    const flight = this.at(this.taken)
    this.taken = (this.taken + 1) | 0
    flight.heaps = 0
    flight.rows = 0
    flight.rowsPosted = 0
    flight.rowsCompleted = 0
    return flight
  }

  /** The current one is posted; so are those behind it that have nothing to post. */
  pass(): void {
    this.posted = (this.posted + 1) | 0
    this.passEmpty()
  }

  passEmpty(): void {
    while (this.posted !== this.taken && this.at(this.posted).variant === undefined) this.posted = (this.posted + 1) | 0
  }

  /** First count behind those that are through. */
  through(): number {
    const { posted } = this
    let end = this.settled
    for (; end !== posted; end = (end + 1) | 0) {
      const flight = this.at(end)
      if (flight.rowsCompleted !== flight.rows) break
    }
    return end
  }

  uses(variant: Variant): boolean {
    for (let k = this.settled; k !== this.taken; k = (k + 1) | 0) if (this.at(k).variant === variant) return true
    return false
  }
}
