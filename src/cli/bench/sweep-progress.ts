import { showLine } from '../common/progress.js'
import { binaryBytes, bytesPerSecond, clock, count } from '../common/table.js'
import type { Tally } from '../common/tally.js'
import type { BenchFlags } from './flags.js'

/** The rate is that of the latest time of this length, or longer. */
const SPAN_MS = 1000

/** Shows on the terminal, while a sweep goes on, the size that is measured, its rate, and when all will be done. */
export class SweepProgress {
  readonly #flags: BenchFlags
  readonly #tally: Tally
  readonly #startedAt = performance.now()
  #done = 0

  constructor(flags: BenchFlags, tally: Tally) {
    this.#flags = flags
    this.#tally = tally
  }

  /** Shows one measurement. Returns a function that ends it. */
  show(round: number, heapSize: number): () => void {
    const { repeats, sizes } = this.#flags
    const rate = new RecentRate(this.#tally.payloadBytes)
    const failedBefore = this.#tally.failed
    const startedAt = performance.now()
    const place = `${(this.#done % sizes.length) + 1} of ${sizes.length}${repeats > 1 ? `, round ${round + 1} of ${repeats}` : ''}`
    const hide = showLine(() => {
      const parts = [
        `heaps of ${binaryBytes(heapSize)} (${place}): ${bytesPerSecond(rate.at(performance.now(), this.#tally.payloadBytes))}`,
        `ETA ${clock(this.#secondsLeft(startedAt))}`,
      ]
      const failed = this.#tally.failed - failedBefore
      if (failed > 0) parts.push(`${count(failed)} failed`)
      return parts.join(', ')
    })
    return () => {
      this.#done++
      hide()
    }
  }

  /** Estimates by the mean time of the measurements so far, or by the planned time before the first has ended. */
  #secondsLeft(startedAt: number): number {
    const { repeats, sizes, seconds, warmupSeconds } = this.#flags
    const each = this.#done > 0 ? (startedAt - this.#startedAt) / 1000 / this.#done : seconds + warmupSeconds
    const left = (repeats * sizes.length - this.#done) * each
    return Math.max(0, left - (performance.now() - startedAt) / 1000)
  }
}

/** Measures bytes a second over the latest span of time. Bytes sent before its construction do not count. */
class RecentRate {
  readonly #marks: { readonly at: number; readonly bytes: number }[]

  constructor(bytes: number, at = performance.now()) {
    this.#marks = [{ at, bytes }]
  }

  at(now: number, bytes: number): number {
    const marks = this.#marks
    marks.push({ at: now, bytes })
    while (marks.length > 2 && now - marks[1]!.at >= SPAN_MS) marks.shift()
    const first = marks[0]!
    return now > first.at ? ((bytes - first.bytes) / (now - first.at)) * 1000 : 0
  }
}
