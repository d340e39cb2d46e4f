/** A row of the table as prom-client's registries take metrics: with a name, a type, and `get`, which they ask at each scrape. */
import { type Sample, samplesOf } from './samples.js'
import type { Labels, Reading } from './source.js'
import type { Metric } from './table.js'

interface Value {
  readonly labels: Labels
  readonly sharedLabels?: Labels
  readonly value: number
  readonly metricName?: string
}

interface Told {
  readonly name: string
  readonly help: string
  readonly type: string
  readonly aggregator: string
  readonly values: readonly Value[]
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

  get(): Promise<Told> {
    return this.#told(({ shared, labels }) => ({ labels: { ...shared, ...labels } }))
  }

  /** The same for a text, which keeps the labels that many series share. */
  getForPromString(): Promise<Told> {
    return this.#told(({ shared, labels }) => ({ labels, sharedLabels: shared }))
  }

  /** Counters are the stream's own, so a registry cannot set them back. */
  reset(): void {}

  async #told(labelsOf: (sample: Sample) => Pick<Value, 'labels' | 'sharedLabels'>): Promise<Told> {
    const { name, help, type, aggregator } = this
    const values = samplesOf(this.#metric, this.#read()).map((sample) => {
      const { value, suffix } = sample
      return { ...labelsOf(sample), value, ...(suffix !== '' && { metricName: `${name}${suffix}` }) }
    })
    return { name, help, type, aggregator, values }
  }
}
