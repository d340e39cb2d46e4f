/** Cuts a run into intervals, whose counts sum to the run's own. */
import { callAt } from './timer.js'

/** The counters of a run so far: whole numbers that only rise. NaN stands for a counter that nobody counts. */
export type Totals = Readonly<Record<string, number>>

export interface Interval {
  /** Since the run began. */
  readonly startSeconds: number
  readonly endSeconds: number
  /** By how much each counter rose. */
  readonly rose: Totals
  /** The counters at its end. */
  readonly totals: Totals
}

/**
 * Calls `onInterval` each `everySeconds`. Each interval begins where the last one ended, at the time when its counters were read. A timer
 * that comes late makes a longer interval, and the next one ends on the grid again.
 */
export class Intervals {
  readonly #startedAt = performance.now()
  readonly #everyMs: number
  #before: Totals
  #beforeAt = this.#startedAt
  #count = 0
  /** The line of the grid at which the present interval ends. */
  #line = 0
  #undo: () => void = () => undefined

  constructor(
    everySeconds: number,
    readonly totals: () => Totals,
    readonly onInterval: (interval: Interval) => void,
  ) {
    this.#everyMs = everySeconds * 1000
    this.#before = totals()
    this.#arm()
  }

  /** Gives the last interval, unless nothing has happened in it, and ends. `totals` are the run's own at its end. */
  end(totals: Totals): void {
    this.#undo()
    const happened = Object.keys(totals).some((name) => totals[name]! > this.#before[name]!)
    if (happened || this.#count === 0) this.#give(totals)
  }

  /** Ends without a last interval. */
  stop(): void {
    this.#undo()
  }

  #arm(): void {
    const passed = Math.floor((performance.now() - this.#startedAt) / this.#everyMs)
    // Rounded, the time of a line of the grid may be one just before it.
    this.#line = Math.max(this.#line, passed) + 1
    this.#undo = callAt(this.#startedAt + this.#line * this.#everyMs, () => {
      this.#give(this.totals())
      this.#arm()
    })
  }

  #give(totals: Totals): void {
    const now = performance.now()
    const interval = intervalOf(this.#before, totals, this.#beforeAt - this.#startedAt, now - this.#startedAt)
    this.#before = totals
    this.#beforeAt = now
    this.#count++
    this.onInterval(interval)
  }
}

export function intervalOf(before: Totals, after: Totals, startMs: number, endMs: number): Interval {
  const rose = Object.fromEntries(Object.keys(after).map((name) => [name, after[name]! - before[name]!]))
  return { startSeconds: inMicroseconds(startMs), endSeconds: inMicroseconds(endMs), rose, totals: after }
}

const inMicroseconds = (ms: number): number => Math.round(ms * 1000) / 1e6

/** A rise in an interval as a rate; 0 in an interval without length. */
export const perSecond = (value: number, { startSeconds, endSeconds }: Interval): number =>
  endSeconds > startSeconds ? value / (endSeconds - startSeconds) : 0
