/**
 * A histogram of whole numbers in the layout of HdrHistogram with two significant digits: 128 buckets for each doubling, so a value is known to
 * 1/128 of itself. It lies in shared memory as doubles, with one writer and any number of readers, as the counters do (stats.ts).
 *
 * Recording costs one logarithm by `Math.clz32` and three additions. Each doubling has a count of its own, so that reading looks at some hundred numbers
 * instead of thousands. A reader may see a value counted there and not yet in its bucket.
 */

const HALF_BITS = 7
/** Buckets for a doubling; the values below twice that have one each. */
const HALF = 1 << HALF_BITS
/** Values from 2^43 on, which is 2.4 hours in nanoseconds, count as the last bucket. `max` has them exactly. */
const MOST_BITS = 43

const BEYOND = 2 ** MOST_BITS
/** 2^−i: raising to a power takes as long as reading the clock. */
const SHARE_OF = Float64Array.from({ length: MOST_BITS }, (_, i) => 2 ** -i)
const DOUBLINGS = MOST_BITS - HALF_BITS + 1

const SUM = 0
const MAX = 1
/** How many values are in each 128 buckets: below 128, below 256, and those of each doubling from there on. */
const COUNTS = 2
const BUCKETS = COUNTS + DOUBLINGS

const SHARES = [0.5, 0.99, 0.999]

/** How values were distributed. Percentiles are the upper end of the bucket that they fall into: at most 1/128 above the exact value. */
export interface Distribution {
  /** How many values there are. */
  readonly count: number
  /** The mean of the values themselves; 0 where there are none. */
  readonly mean: number
  /** Half of the values are no greater; 0 where there are none. */
  readonly p50: number
  /** 99 of 100 values are no greater. */
  readonly p99: number
  /** 999 of 1000 values are no greater. */
  readonly p999: number
  /** The greatest value, exactly. */
  readonly max: number
}

/** How many values are no greater than each of some bounds. */
export interface Cumulated {
  /** In the order of the bounds. */
  readonly counts: readonly number[]
  /** How many values there are. */
  readonly count: number
  /** Their sum. */
  readonly sum: number
}

export class Histogram {
  static readonly DOUBLES = BUCKETS + DOUBLINGS * HALF
  readonly #words: Float64Array

  constructor(words: Float64Array) {
    this.#words = words
  }

  /** Counts a value, rounded down. A negative one, as of two clocks that differ a little, counts as 0; NaN and ∞ do not count. */
  record(value: number): void {
    if (!(value < Number.POSITIVE_INFINITY)) return
    const words = this.#words
    const bucket = bucketOf(value)
    words[BUCKETS + bucket]! += 1
    words[COUNTS + (bucket >> HALF_BITS)]! += 1
    if (value > 0) words[SUM]! += value
    if (value > words[MAX]!) words[MAX] = value
  }

  read(): Distribution {
    const words = this.#words
    const max = words[MAX]!
    let count = 0
    for (let i = 0; i < DOUBLINGS; i++) count += words[COUNTS + i]!
    const [p50, p99, p999] = SHARES.map((share) => Math.min(max, this.#valueAt(Math.max(1, Math.ceil(share * count)))))
    return { count, mean: count === 0 ? 0 : words[SUM]! / count, p50: p50!, p99: p99!, p999: p999!, max }
  }

  /**
   * Tells how many values are no greater than each bound, and how many there are. Bounds rise. A bound within a bucket counts as the end of that bucket;
   * one below a power of two is such an end.
   */
  cumulative(bounds: readonly number[]): Cumulated {
    const words = this.#words
    const counts: number[] = []
    let seen = 0
    let next = 0
    for (const bound of bounds) {
      const end = bucketOf(bound) + 1
      while (next < end)
        // A doubling as a whole where it is: 36 numbers are read in place of 4700.
        if (next % HALF === 0 && next + HALF <= end) {
          seen += words[COUNTS + next / HALF]!
          next += HALF
        } else seen += words[BUCKETS + next++]!
      counts.push(seen)
    }
    let count = seen
    while (next < DOUBLINGS * HALF && next % HALF !== 0) count += words[BUCKETS + next++]!
    for (let doubling = next / HALF; doubling < DOUBLINGS; doubling++) count += words[COUNTS + doubling]!
    return { counts, count, sum: words[SUM]! }
  }

  /** The greatest value of the bucket that has the value of this rank. */
  #valueAt(rank: number): number {
    const words = this.#words
    let doubling = 0
    let seen = 0
    while (doubling < DOUBLINGS - 1 && seen + words[COUNTS + doubling]! < rank) seen += words[COUNTS + doubling++]!
    let bucket = doubling * HALF
    for (; bucket < doubling * HALF + HALF - 1; bucket++) {
      seen += words[BUCKETS + bucket]!
      if (seen >= rank) break
    }
    return greatestOf(bucket)
  }
}

/** The bucket of a value: itself below 256, then one of 128 for each doubling. */
function bucketOf(value: number): number {
  if (value < 2 * HALF) return value > 0 ? value | 0 : 0
  if (value >= BEYOND) return DOUBLINGS * HALF - 1
  const high = (value / 2 ** 31) | 0
  const bits = high > 0 ? 63 - Math.clz32(high) : 32 - Math.clz32(value | 0)
  // bits: how many the value has; the leading eight tell the bucket.
  const shift = bits - HALF_BITS - 1
  return (shift << HALF_BITS) + ((value * SHARE_OF[shift]!) | 0)
}

/** The greatest whole number in a bucket. */
function greatestOf(bucket: number): number {
  if (bucket < 2 * HALF) return bucket
  const shift = (bucket >> HALF_BITS) - 1
  return (bucket - (shift << HALF_BITS) + 1) * 2 ** shift - 1
}
