/**
 * Submissions being posted or waiting for their completions, as columns indexed by the ring's count: nothing is moved, pooled or
 * allocated as they pass through.
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

/** count & MASK is the index of its columns. */
export const MASK = R.SLOTS - 1

export class Flights {
  settled = 0
  posted = 0
  taken = 0
  /** undefined: settled by being taken, nothing to post. */
  readonly variants: (Variant | undefined)[] = new Array(R.SLOTS).fill(undefined)
  readonly heaps = new Int32Array(R.SLOTS)
  /** To be posted; fewer than were submitted when the rest was given up. */
  readonly rows = new Int32Array(R.SLOTS)
  readonly rowsPosted = new Int32Array(R.SLOTS)
  readonly rowsCompleted = new Int32Array(R.SLOTS)
  /** The backend's when it was taken. */
  readonly suspicion = new Float64Array(R.SLOTS)
  /** Of those of which something failed. */
  readonly #logs = new Map<number, FailureLog>()

  /** How many are taken and not settled. */
  get length(): number {
    return (this.taken - this.settled) | 0
  }

  /** Takes the next, for now with nothing to post; returns its index. */
  take(): number {
    const i = this.taken & MASK
    this.taken = (this.taken + 1) | 0
    this.heaps[i] = 0
    this.rows[i] = 0
    this.rowsPosted[i] = 0
    this.rowsCompleted[i] = 0
    return i
  }

  /** The current one is posted; so are those behind it that have nothing to post. */
  pass(): void {
    this.posted = (this.posted + 1) | 0
    this.passEmpty()
  }

  passEmpty(): void {
    while (this.posted !== this.taken && this.variants[this.posted & MASK] === undefined) this.posted = (this.posted + 1) | 0
  }

  /** First count behind those that are through. */
  through(): number {
    const { rows, rowsCompleted, posted } = this
    let end = this.settled
    while (end !== posted && rowsCompleted[end & MASK] === rows[end & MASK]) end = (end + 1) | 0
    return end
  }

  uses(variant: Variant): boolean {
    for (let k = this.settled; k !== this.taken; k = (k + 1) | 0) if (this.variants[k & MASK] === variant) return true
    return false
  }

  /** Made at the first failure. */
  log(i: number): FailureLog {
    let log = this.#logs.get(i)
    if (!log) {
      log = new FailureLog(this.variants[i]!.compiled.table.heaps)
      this.#logs.set(i, log)
    }
    return log
  }

  takeLog(i: number): FailureLog | undefined {
    if (this.#logs.size === 0) return undefined
    const log = this.#logs.get(i)
    this.#logs.delete(i)
    return log
  }
}
