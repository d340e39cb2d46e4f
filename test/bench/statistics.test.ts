import { describe, expect, test } from 'vitest'
import { intervalOfMedian, median, summarise } from '../../scripts/bench/statistics.mjs'

const ranks = (n: number) => Array.from({ length: n }, (_, i) => i + 1)

describe('the interval of the median of six or more', () => {
  // Ranks of the 95 % interval of the median from printed tables of the sign test (Conover, Practical Nonparametric Statistics).
  test.each([
    [6, 1, 6],
    [8, 1, 8],
    [9, 2, 8],
    [10, 2, 9],
    [12, 3, 10],
    [15, 4, 12],
    [20, 6, 15],
    [25, 8, 18],
  ])('of %d values, its ends are those of rank %d and %d', (n, low, high) => {
    const shuffled = ranks(n).toSorted((a, b) => (a % 3) - (b % 3))
    expect(intervalOfMedian(shuffled)).toEqual({ low, high, method: 'order statistics' })
  })

  test('99 % takes eight values: 1 − 2/2⁸ = 99.2 %, 1 − 2/2⁷ = 98.4 %', () => {
    expect(intervalOfMedian(ranks(8), 0.99)).toMatchObject({ low: 1, high: 8, method: 'order statistics' })
    expect(intervalOfMedian(ranks(7), 0.99)).toMatchObject({ method: 't of logarithms' })
  })

  test('an outlier does not move it as long as it is one of few', () => {
    const values = [...ranks(8), 1e6]
    expect(intervalOfMedian(values)).toMatchObject({ low: 2, high: 8 })
  })
})

describe('the interval of two to five', () => {
  // Student's t of printed tables, two-sided 95 %: 12.706, 4.303, 3.182, 2.776 for 1 to 4 degrees of freedom.
  test.each([
    [2, 12.706],
    [3, 4.303],
    [4, 3.182],
    [5, 2.776],
  ])('of %d values is t = %f standard errors of the logarithms wide', (n, t) => {
    const logarithms = ranks(n)
    const mean = (n + 1) / 2
    // Variance of 1…n with n − 1 in the denominator: n (n + 1) / 12.
    const half = (t * Math.sqrt((n * (n + 1)) / 12)) / Math.sqrt(n)
    const interval = intervalOfMedian(logarithms.map(Math.exp))
    expect(interval?.method).toBe('t of logarithms')
    expect(Math.log(interval?.low ?? 0)).toBeCloseTo(mean - half, 2)
    expect(Math.log(interval?.high ?? 0)).toBeCloseTo(mean + half, 2)
  })

  test('a ratio and its inverse have inverse intervals', () => {
    const values = [1.9, 2.2, 2]
    const one = intervalOfMedian(values)
    const other = intervalOfMedian(values.map((value) => 1 / value))
    expect(1 / (other?.high ?? 0)).toBeCloseTo(one?.low ?? 0, 10)
    expect(1 / (other?.low ?? 0)).toBeCloseTo(one?.high ?? 0, 10)
  })
})

test('one value has no interval', () => {
  expect(intervalOfMedian([2])).toBeUndefined()
  expect(summarise([2])).toEqual({ median: 2, least: 2, most: 2, n: 1 })
})

test('nothing is summarised as nothing', () => {
  expect(summarise([])).toBeUndefined()
})

test('the median of an even number is the mean of the middle two', () => {
  expect(median([9, 1, 4, 2])).toBe(3)
  expect(median([9, 1, 4])).toBe(4)
})
