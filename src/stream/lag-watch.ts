/** Tells when a stream falls behind its rate by more than a bound, and when it has caught up. */
import { COUNTER } from '../stats.js'

/** How often the lag is looked at while nothing settles. */
const EVERY_MS = 100
/** It has caught up at this part of the bound, so that a lag about the bound is not told again and again. */
const CAUGHT_UP = 0.5

export interface LagWatchParts {
  readonly boundSeconds: number
  readonly counters: Float64Array
  /** Whether anybody listens. */
  readonly wanted: () => boolean
  readonly tell: (message: string, beforeSeconds: number, afterSeconds: number) => void
}

export class LagWatch {
  state: 'in time' | 'behind' = 'in time'
  #before = 0
  readonly #timer: NodeJS.Timeout

  constructor(readonly parts: LagWatchParts) {
    this.#timer = setInterval(() => this.look(), EVERY_MS).unref()
  }

  look(): void {
    const { boundSeconds, counters, wanted, tell } = this.parts
    if (!wanted()) return
    const lag = counters[COUNTER.lagNanoseconds]! / 1e9
    const before = this.#before
    this.#before = lag
    if (this.state === 'in time' && lag > boundSeconds) {
      this.state = 'behind'
      tell(`the last packets went ${text(lag)} late, which is more than ${text(boundSeconds)}`, before, lag)
    } else if (this.state === 'behind' && lag <= boundSeconds * CAUGHT_UP) {
      this.state = 'in time'
      tell(`the last packets went ${text(lag)} late, after more than ${text(boundSeconds)}`, before, lag)
    }
  }

  close(): void {
    clearInterval(this.#timer)
  }
}

const text = (seconds: number): string => `${Number((seconds * 1000).toPrecision(3))} ms`
