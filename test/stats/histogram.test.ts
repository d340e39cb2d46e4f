// A histogram against the exact percentiles of the sorted values, and against HdrHistogram's own bucket boundaries.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Histogram } from '#dist/src/histogram.js'

const make = () => new Histogram(new Float64Array(Histogram.DOUBLES))
const filled = (values: readonly number[]) => {
  const histogram = make()
  for (const value of values) histogram.record(value)
  return histogram.read()
}

test('nothing recorded reads as zeros', () => {
  expect(make().read()).toEqual({ count: 0, mean: 0, p50: 0, p99: 0, p999: 0, max: 0 })
})

// HdrHistogram's documentation: with two significant digits, values are resolved by 1 to 255, by 2 to 511, by 4 to 1023, and so on.
test.for([
  [0, 0],
  [1, 1],
  [255, 255],
  [256, 257],
  [257, 257],
  [258, 259],
  [511, 511],
  [512, 515],
  [1023, 1023],
  [1024, 1031],
  [65_535, 65_535],
  [65_536, 66_047],
  [2 ** 31 - 1, 2 ** 31 - 1],
  [2 ** 31, 2 ** 31 + 2 ** 24 - 1],
  [2 ** 32, 2 ** 32 + 2 ** 25 - 1],
  [2 ** 42, 2 ** 42 + 2 ** 35 - 1],
])('a bucket of %i ends at %i', ([value, greatest]) => {
  const histogram = make()
  // A greater value beside it, because percentiles are bounded by the greatest.
  for (const each of [value!, value!, 2 ** 43 - 1]) histogram.record(each)
  expect(histogram.read().p50).toBe(greatest)
})

test('values beyond the range keep their maximum', () => {
  expect(filled([2 ** 50, 2 ** 50])).toMatchObject({ count: 2, mean: 2 ** 50, p50: 2 ** 43 - 1, max: 2 ** 50 })
})

test('a negative value counts as 0, and what is no number does not count', () => {
  expect(filled([-1, -(2 ** 60), Number.NEGATIVE_INFINITY])).toEqual({ count: 3, mean: 0, p50: 0, p99: 0, p999: 0, max: 0 })
  expect(filled([Number.NaN, Number.POSITIVE_INFINITY, 7])).toEqual({ count: 1, mean: 7, p50: 7, p99: 7, p999: 7, max: 7 })
})

test('counts stay right up to 2^53, and stop there', () => {
  // As if months had passed: every double that is not 0 counts values, in their sum or in a bucket.
  const words = new Float64Array(Histogram.DOUBLES)
  const histogram = new Histogram(words)
  histogram.record(1)
  for (const [i, word] of words.entries()) if (word > 0) words[i] = 2 ** 53 - 2
  words[words.indexOf(2 ** 53 - 2, 1)] = 1
  expect(histogram.read()).toMatchObject({ count: 2 ** 53 - 2, mean: 1, p50: 1, p999: 1, max: 1 })
  for (let i = 0; i < 4; i++) histogram.record(1)
  expect(histogram.read()).toMatchObject({ count: 2 ** 53, mean: 1, p50: 1, p999: 1, max: 1 })
})

test('percentiles are those of the sorted values, to 1/128 above', () => {
  const any = fc.oneof(fc.nat(300), fc.nat(2 ** 31 - 1), fc.double({ min: 0, max: 2 ** 43 - 1, noNaN: true }).map(Math.floor))
  fc.assert(
    fc.property(fc.array(any, { minLength: 1, maxLength: 3000 }), (values) => {
      const sorted = values.toSorted((a, b) => a - b)
      const exact = (share: number) => sorted[Math.max(1, Math.ceil(share * sorted.length)) - 1]!
      const read = filled(values)
      expect(read).toMatchObject({ count: values.length, max: sorted.at(-1) })
      for (const [found, wanted] of [
        [read.p50, exact(0.5)],
        [read.p99, exact(0.99)],
        [read.p999, exact(0.999)],
      ] as const) {
        expect(found).toBeGreaterThanOrEqual(wanted)
        expect(found).toBeLessThanOrEqual(wanted + wanted / 128)
      }
    }),
    { seed: 20261130, numRuns: 200 },
  )
})

test('values up to a bound are counted exactly where the bound is the end of a bucket', () => {
  const any = fc.oneof(fc.nat(300), fc.nat(2 ** 31 - 1), fc.double({ min: 0, max: 2 ** 44, noNaN: true }).map(Math.floor))
  const ends = [0, 1, 7, 100, 127, 128, 200, 255, 2 ** 9 - 1, 2 ** 14 - 1, 2 ** 15 - 1, 2 ** 30 - 1, 2 ** 34 - 1, 2 ** 42 - 1]
  fc.assert(
    fc.property(fc.array(any, { maxLength: 500 }), fc.subarray(ends), (values, bounds) => {
      const histogram = new Histogram(new Float64Array(Histogram.DOUBLES))
      for (const value of values) histogram.record(value)
      expect(histogram.cumulative(bounds)).toEqual({
        counts: bounds.map((bound) => values.filter((value) => value <= bound).length),
        count: values.length,
        sum: values.reduce((sum, value) => sum + value, 0),
      })
    }),
    { seed: 20261130, numRuns: 200 },
  )
})
