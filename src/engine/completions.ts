/** Tells whose rows a backend completed: they come in the order of posting, oldest send first. Allocates nothing unless something failed. */
import { type Backend, CAUSE_UNKNOWN, type ReapResult } from '../backend/backend.js'
import { COUNTER } from '../stats.js'
import type { Flight, Flights } from './flights.js'
import type { Interlude } from './interlude.js'
import type { Retries } from './retries.js'

export class Completions {
  readonly #out: ReapResult = { completed: 0, failures: 0, failedAt: new Uint32Array(1024), failedErrno: new Int32Array(1024) }
  /** Completed rows, and failures among them, that were given to their sends. */
  #base = 0
  #failure = 0

  constructor(
    readonly backend: Backend,
    readonly counters: Float64Array,
    readonly excuses: Uint8Array | undefined,
    /** Absent where nothing is posted again. */
    readonly retries: Retries | undefined,
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
    const { retries } = this
    if (retries !== undefined && (retries.engaged || out.failures > 0)) {
      retries.engage()
      this.#follow(retries)
      return true
    }
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
      this.#fail(flight, row, out.failedErrno[this.#failure]!, this.excuses)
    }
    flight.rowsCompleted = completed + n
    this.#base = next
    return n
  }

  /** Nothing more will be heard of a send's rows. */
  giveUp(flight: Flight): void {
    if (flight.rowsCompleted < flight.rowsPosted) this.lose(flight, flight.rowsCompleted, flight.rowsPosted)
  }

  /** Nothing more will be heard of rows first … end−1, which were posted. */
  lose(flight: Flight, first: number, end: number): void {
    for (let r = first; r < end; r++) this.#fail(flight, r, CAUSE_UNKNOWN, undefined)
    flight.rowsCompleted += end - first
  }

  #fail(flight: Flight, row: number, cause: number, excuses: Uint8Array | undefined): void {
    if (flight.fail(row, 1, cause, this.backend, excuses) > 0) this.#takeBack(flight, row)
  }

  /** A row that was counted when it was posted was not sent. */
  #takeBack(flight: Flight, row: number): void {
    this.counters[COUNTER.packets]! -= 1
    this.counters[COUNTER.udpBytes]! -= flight.variant!.compiled.table.udpBytes[row]!
  }

  /** Gives the rows to their sends while the order of posting is another than theirs. */
  #follow(retries: Retries): void {
    const { trail } = retries
    for (let rest = this.#out.completed; rest > 0; ) {
      const part = trail.front
      if (!part) throw neverPosted(rest)
      const { flight, first, end } = part
      const n = Math.min(rest, end - first)
      if (flight) this.#resolve(flight, part.count, first, n, retries)
      this.#base += n
      rest -= n
      trail.pass(n)
    }
    retries.settle()
  }

  #resolve(flight: Flight, count: number, first: number, rows: number, retries: Retries): void {
    const out = this.#out
    const next = this.#base + rows
    let row = first
    for (; this.#failure < out.failures && out.failedAt[this.#failure]! < next; this.#failure++) {
      const failed = first + out.failedAt[this.#failure]! - this.#base
      const cause = out.failedErrno[this.#failure]!
      retries.passed(flight, row, failed)
      flight.rowsCompleted += failed - row
      row = failed + 1
      if (retries.failedLate(flight, count, failed, cause)) {
        this.#takeBack(flight, failed)
        continue
      }
      this.#fail(flight, failed, cause, this.excuses)
      flight.rowsCompleted++
    }
    retries.passed(flight, row, first + rows)
    flight.rowsCompleted += first + rows - row
  }
}

const neverPosted = (rows: number): Error => new Error(`backend completed ${rows} rows that were never posted`)
