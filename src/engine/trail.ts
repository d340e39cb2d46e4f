/**
 * The rows that the backend holds, in the order of posting, while that is not the order of their sends: from the first failure that a policy
 * meets until all trouble is over (retries.ts). Completions are given to their sends by it meanwhile. A part is used again when it is through.
 */
import type { Flight, Flights } from './flights.js'
import type { Interlude } from './interlude.js'

/** Rows first … end−1 of a flight. Without a flight: rows that the backend refused and will complete, and of which nobody is to be told. */
export class Part {
  flight: Flight | undefined = undefined
  /** The flight's count. Means nothing for an interlude. */
  count = 0
  first = 0
  end = 0
}

export class Trail {
  engaged = false
  #parts: Part[] = []
  #head = 0
  #length = 0

  get empty(): boolean {
    return this.#length === 0
  }

  /** The oldest part; undefined when there is none. */
  get front(): Part | undefined {
    return this.#length === 0 ? undefined : this.#parts[this.#head]
  }

  /** From now on the order is noted; so far it was the usual one. */
  engage(flights: Flights, interlude: Interlude): void {
    if (this.engaged) return
    this.engaged = true
    const between = interlude.flight
    let before = !interlude.underWay
    for (let k = flights.settled; k !== flights.claimed; k = (k + 1) | 0) {
      const flight = flights.at(k)
      let first = flight.rowsCompleted
      if (!before && interlude.comesBefore(k)) {
        before = true
        const end = Math.max(first, interlude.rowsBefore(k))
        this.posted(flight, k, first, end)
        this.posted(between, k, between.rowsCompleted, between.rowsPosted)
        first = end
      }
      this.posted(flight, k, first, flight.rowsPosted)
    }
    if (!before) this.posted(between, flights.claimed, between.rowsCompleted, between.rowsPosted)
  }

  /** The backend took rows first … end−1. */
  posted(flight: Flight | undefined, count: number, first: number, end: number): void {
    if (first === end) return
    const last = this.#length > 0 ? this.#parts[(this.#head + this.#length - 1) % this.#parts.length]! : undefined
    if (last && last.flight === flight && last.end === first) {
      last.end = end
      return
    }
    if (this.#length === this.#parts.length) this.#grow()
    const part = this.#parts[(this.#head + this.#length++) % this.#parts.length]!
    part.flight = flight
    part.count = count
    part.first = first
    part.end = end
  }

  /** The backend refused this many rows, and completes them in their turn. */
  refused(rows: number): void {
    this.posted(undefined, 0, 0, rows)
  }

  #grow(): void {
    const parts = [...this.#parts.slice(this.#head), ...this.#parts.slice(0, this.#head)]
    this.#head = 0
    this.#parts = [...parts, ...Array.from({ length: Math.max(16, parts.length) }, () => new Part())]
  }

  /** The first rows of the oldest part are accounted for. */
  pass(rows: number): void {
    const part = this.#parts[this.#head]!
    part.first += rows
    if (part.first < part.end) return
    part.flight = undefined
    this.#head = (this.#head + 1) % this.#parts.length
    this.#length--
  }
}
