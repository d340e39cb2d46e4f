/** Tells whose rows a backend completed: they come in the order of posting, oldest send first. Allocates nothing unless something failed. */
import { type Backend, CAUSE_UNKNOWN, type ReapResult } from '../backend/backend.js'
import { COUNTER } from '../stats.js'
import type { Flight, Flights } from './flights.js'
import type { Interlude } from './interlude.js'

export class Completions {
  readonly #out: ReapResult = { completed: 0, failures: 0, failedAt: new Uint32Array(1024), failedErrno: new Int32Array(1024) }
  /** Completed rows, and failures among them, that were given to their sends. */
  #base = 0
  #failure = 0

  constructor(
    readonly backend: Backend,
    readonly counters: Float64Array,
  ) {}

  /** Asks the backend, and gives the rows to their sends; false if none completed. */
  distribute(flights: Flights, interlude: Interlude): boolean {
    const out = this.#out
    this.counters[COUNTER.polls]! += 1
    this.backend.reap(out)
    if (out.completed === 0) return false
    let rest = out.completed
    this.#base = 0
    this.#failure = 0
    const oldest = flights.at(flights.settled)
    // The usual case, at the cost of few instructions: all of it is one send's.
    if (!interlude.underWay && out.failures === 0 && rest <= oldest.rowsPosted - oldest.rowsCompleted) {
      if (flights.settled === flights.claimed) throw neverPosted(rest)
      oldest.rowsCompleted += rest
      return true
    }
    for (let k = flights.settled; rest > 0; k = (k + 1) | 0) {
      if (interlude.comesBefore(k)) {
        const before = interlude.rowsBefore(k)
        if (before > 0) rest -= this.#give(flights.at(k), before, rest)
        rest -= this.#give(interlude.flight, interlude.flight.rowsPosted, rest)
        if (rest === 0) break
      }
      if (k === flights.claimed) throw neverPosted(rest)
      const flight = flights.at(k)
      rest -= this.#give(flight, flight.rowsPosted, rest)
    }
    return true
  }

  /** Gives a send its share of `rest` completed rows: those before row `end`. Returns how many. */
  #give(flight: Flight, end: number, rest: number): number {
    const out = this.#out
    const completed = flight.rowsCompleted
    const n = Math.min(rest, end - completed)
    const next = this.#base + n
    for (; this.#failure < out.failures && out.failedAt[this.#failure]! < next; this.#failure++) {
      const row = completed + out.failedAt[this.#failure]! - this.#base
      this.#fail(flight, row, out.failedErrno[this.#failure]!)
    }
    flight.rowsCompleted = completed + n
    this.#base = next
    return n
  }

  /** Nothing more will be heard of a send's rows. */
  giveUp(flight: Flight): void {
    for (let r = flight.rowsCompleted; r < flight.rowsPosted; r++) this.#fail(flight, r, CAUSE_UNKNOWN)
    flight.rowsCompleted = flight.rowsPosted
  }

  /** A row that was counted when it was posted was not sent. */
  #fail(flight: Flight, row: number, cause: number): void {
    if (flight.fail(row, 1, cause, this.backend) === 0) return
    this.counters[COUNTER.packets]! -= 1
    this.counters[COUNTER.udpBytes]! -= flight.variant!.compiled.table.udpBytes[row]!
  }
}

const neverPosted = (rows: number): Error => new Error(`backend completed ${rows} rows that were never posted`)
