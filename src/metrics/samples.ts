/** The samples of a row of the table, from what the sources said. */
import { type Labels, PART, type Reading } from './source.js'
import type { Metric } from './table.js'

export interface Sample {
  /** Labels that other series have too: the same object at every scrape. */
  readonly shared: Labels
  readonly labels: Labels
  readonly value: number
  /** Of a histogram; else empty. */
  readonly suffix: '' | '_bucket' | '_sum' | '_count'
}

/** A number, 1 and 0 for true and false; undefined for what is none, NaN included: a sample that nobody knows is left out. */
function numberOf(value: unknown): number | undefined {
  if (typeof value === 'boolean') return value ? 1 : 0
  return typeof value === 'number' && !Number.isNaN(value) ? value : undefined
}

const NONE: Labels = {}

/** All samples of the row. */
export function samplesOf(metric: Metric, readings: readonly Reading[]): Sample[] {
  const { of, name } = metric
  if (of === 'process') return processSamples(metric)
  const samples: Sample[] = []
  for (const reading of readings) {
    if (of === PART[reading.kind]) addParts(samples, metric, reading)
    else if (of !== reading.kind) continue
    else if (name.endsWith('_info')) samples.push({ shared: reading.labels, labels: reading.info, value: 1, suffix: '' })
    else if (metric.kind === 'histogram') addHistogram(samples, metric, reading)
    else add(samples, metric, reading.labels, reading.numbers[metric.from])
  }
  return samples
}

function add(samples: Sample[], { divisor }: Metric, shared: Labels, value: unknown, labels = NONE): void {
  const number = numberOf(value)
  if (number !== undefined) samples.push({ shared, labels, value: number / divisor, suffix: '' })
}

function addHistogram(samples: Sample[], { from, bounds, divisor }: Metric, { labels: shared, cumulated }: Reading): void {
  const found = cumulated(from, bounds)
  if (found === undefined) return
  for (const [i, bound] of bounds.entries())
    samples.push({ shared, labels: { le: bound / divisor }, value: found.counts[i]!, suffix: '_bucket' })
  samples.push({ shared, labels: { le: '+Inf' }, value: found.count, suffix: '_bucket' })
  samples.push({ shared, labels: NONE, value: found.sum / divisor, suffix: '_sum' })
  samples.push({ shared, labels: NONE, value: found.count, suffix: '_count' })
}

function addParts(samples: Sample[], metric: Metric, { parts, partLabels }: Reading): void {
  for (const [i, account] of parts.entries()) {
    const shared = partLabels[i]!
    if (!(metric.from === 'failedByCause' && 'failedByCause' in account))
      add(samples, metric, shared, account[metric.from as keyof typeof account])
    else for (const [cause, packets] of Object.entries(account.failedByCause)) add(samples, metric, shared, packets, { cause })
  }
}

function processSamples({ from, divisor }: Metric): Sample[] {
  return [{ shared: NONE, labels: NONE, value: (PROCESS[from]?.() ?? 0) / divisor, suffix: '' }]
}

/** By the words of the column `from`. */
const PROCESS: Readonly<Record<string, () => number>> = {
  'process.cpuUsage().user': () => process.cpuUsage().user,
  'process.cpuUsage().system': () => process.cpuUsage().system,
  'process.cpuUsage()': () => {
    const { user, system } = process.cpuUsage()
    return user + system
  },
  'performance.eventLoopUtilization().active': () => performance.eventLoopUtilization().active,
}
