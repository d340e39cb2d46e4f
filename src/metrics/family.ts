/** A row of the table as prom-client's registries take metrics: with a name, a type, and `get`, which they ask at each scrape. */
import { type Sample, samplesOf } from './samples.js'
import type { Labels, Reading } from './source.js'
import type { Metric } from './table.js'

interface Value {
  readonly labels: Labels
  readonly value: number
  readonly metricName?: string
}

export class Family {
  /** A registry of OpenMetrics writes counters without `_total`, and changes the name here. */
  name: string
  readonly help: string
  readonly type: Metric['kind']
  /** How prom-client's AggregatorRegistry joins the values of several processes: only what adds up is added. */
  readonly aggregator: 'sum' | 'max' | 'first'
  readonly #metric: Metric
  readonly #read: () => readonly Reading[]

  constructor(metric: Metric, readings: () => readonly Reading[]) {
    this.name = metric.name
    this.help = metric.help
    this.type = metric.kind
    this.aggregator = metric.name.endsWith('_info') ? 'first' : metric.kind === 'gauge' ? 'max' : 'sum'
    this.#metric = metric
    this.#read = readings
  }

  async get(): Promise<{ name: string; help: string; type: string; aggregator: string; values: readonly Value[] }> {
    const { name, help, type, aggregator } = this
    const values = samplesOf(this.#metric, this.#read()).map((sample) => this.#valueOf(sample))
    return { name, help, type, aggregator, values }
  }

  /** Counters are the stream's own, so a registry cannot set them back. */
  reset(): void {}

  #valueOf({ labels, value, suffix }: Sample): Value {
    return { labels, value, ...(suffix !== '' && { metricName: `${this.name}${suffix}` }) }
  }
}
