/**
 * A histogram of whole numbers in the layout of HdrHistogram with two significant digits: 128 buckets for each doubling, so a value is known to
 * 1/128 of itself. It lies in shared memory as doubles, with one writer and any number of readers, as the counters do (stats.ts).
 *
 * Recording costs one logarithm by `Math.clz32` and two stores. A reader may see a value counted in its bucket and not yet in the count.
 */

const HALF_BITS = 7
/** Buckets for a doubling; the values below twice that have one each. */
const HALF = 1 << HALF_BITS
/** Values from 2^43 on, which is 2.4 hours in nanoseconds, count as the last bucket. `max` has them exactly. */
const MOST_BITS = 43

const COUNT = 0
const SUM = 1
const MAX = 2
const BUCKETS = 3

/** How values were distributed. Percentiles are the upper end of the bucket that they fall into: at most 1/128 above the exact value. */
export interface Distribution {
  /** How many values there are. */
  readonly count: number
  /** The exact mean; 0 where there are none. */
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

export class Histogram {
  static readonly DOUBLES = BUCKETS + (MOST_BITS - HALF_BITS + 1) * HALF
  readonly #words: Float64Array

  constructor(words: Float64Array) {
    this.#words = words
  }

  /** Counts `value`, a number ≥ 0, rounded down. */
  record(value: number): void {
    const words = this.#words
    words[BUCKETS + bucketOf(value)]! += 1
    words[SUM]! += value
    if (value > words[MAX]!) words[MAX] = value
    words[COUNT]! += 1
  }

  read(): Distribution {
    const words = this.#words
    const buckets = words.subarray(BUCKETS, Histogram.DOUBLES)
    const max = words[MAX]!
    let count = 0
    for (const n of buckets) count += n
    const above = [0.5, 0.99, 0.999].map((share) => Math.max(1, Math.ceil(share * count)))
    const found = [0, 0, 0]
    let seen = 0
    for (let i = 0, p = 0; i < buckets.length && p < above.length && count > 0; i++) {
      seen += buckets[i]!
      while (p < above.length && seen >= above[p]!) found[p++] = Math.min(max, greatestOf(i))
    }
    return { count, mean: count === 0 ? 0 : words[SUM]! / count, p50: found[0]!, p99: found[1]!, p999: found[2]!, max }
  }
}

/** The bucket of a value: itself below 256, then one of 128 for each doubling. */
function bucketOf(value: number): number {
  if (value < 2 * HALF) return value > 0 ? value | 0 : 0
  if (value >= 2 ** MOST_BITS) return (MOST_BITS - HALF_BITS + 1) * HALF - 1
  const high = (value / 2 ** 31) | 0
  const bits = high > 0 ? 63 - Math.clz32(high) : 32 - Math.clz32(value | 0)
  // bits: how many the value has; the leading eight tell the bucket.
  const shift = bits - HALF_BITS - 1
  return (shift << HALF_BITS) + Math.floor(value / 2 ** shift)
}

/** The greatest whole number in a bucket. */
function greatestOf(bucket: number): number {
  if (bucket < 2 * HALF) return bucket
  const shift = (bucket >> HALF_BITS) - 1
  return (bucket - (shift << HALF_BITS) + 1) * 2 ** shift - 1
}
