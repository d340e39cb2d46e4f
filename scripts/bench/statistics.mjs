// The median of a handful of runs, and how sure it is. The distributions are jstat's.
import jstat from 'jstat'

const { jStat } = jstat
export const CONFIDENCE = 0.95

export const median = (values) => jStat.median(values)
export const geometricMean = (values) => jStat.geomean(values)

/**
 * Ends of the two-sided confidence interval of the median of a population of positive ratios. From six values on, order statistics:
 * [x(k), x(n+1−k)] covers the median with probability 1 − 2 P(B(n, ½) < k) whatever the distribution; the largest k that reaches
 * the confidence. Fewer values cannot reach 95 % that way: then Student's t on the logarithms, which takes them for log-normal. One
 * value says nothing of its spread: undefined.
 */
export function intervalOfMedian(values, confidence = CONFIDENCE) {
  const n = values.length
  if (n < 2) return undefined
  const sorted = values.toSorted((a, b) => a - b)
  const coverage = (k) => 1 - 2 * jStat.binomial.cdf(k - 1, n, 0.5)
  if (coverage(1) >= confidence) {
    let k = 1
    while (2 * (k + 1) <= n && coverage(k + 1) >= confidence) k++
    return { low: sorted[k - 1], high: sorted[n - k], method: 'order statistics' }
  }
  const logarithms = values.map(Math.log)
  const half = (jStat.studentt.inv((1 + confidence) / 2, n - 1) * jStat.stdev(logarithms, true)) / Math.sqrt(n)
  const mean = jStat.mean(logarithms)
  return { low: Math.exp(mean - half), high: Math.exp(mean + half), method: 't of logarithms' }
}

/** Median, least, most and interval of positive numbers; undefined if there are none. */
export function summarise(values) {
  if (values.length === 0) return undefined
  const interval = intervalOfMedian(values)
  return { median: median(values), least: Math.min(...values), most: Math.max(...values), n: values.length, ...interval }
}
