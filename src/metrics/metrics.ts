/** The metrics of streams and receivers: they are read when somebody asks, and cost nothing in between. */
/// <reference path="./prom-client-parts.d.ts" />
import Registry from 'prom-client/lib/registry.js'
import { shown } from '../checks.js'
import { INSPECT, type Inspection, inspected, SpeadcastError } from '../errors.js'
import { Family } from './family.js'
import { checkKeys, checkLabels, checkName, checkParts, checkRegistry } from './labels.js'
import { type MeterLike, observe } from './opentelemetry.js'
import { collectProcess } from './process.js'
import { type Entry, entryOf, kindOf, type Labels, PART, type Reading, read, type Source } from './source.js'
import { METRICS, type Subject } from './table.js'

/**
 * A registry of prom-client, as far as it is used here. A `Registry` of your own prom-client is one.
 * @example metrics(stream, { registry: register }) // import { register } from 'prom-client'
 */
export interface MetricsRegistry {
  /** The content type of what `metrics` gives. */
  readonly contentType: string
  /** Gives all metrics as a text. */
  metrics(): Promise<string>
  /** Adds a metric. */
  registerMetric(metric: never): void
  /** Takes a metric out. */
  removeSingleMetric(name: string): void
}

/**
 * How a source is called in its metrics.
 * @example registry.add(stream, { name: 'polarisation-h', labels: { dish: 'm007' }, substreams: true })
 */
export interface SourceOptions {
  /** The label `stream` or `receiver`, of 1 to 256 characters. Default: the number of sources that were added before. */
  name?: string
  /**
   * Further labels of all its metrics: at most 16, with texts of at most 256 characters or numbers. They should never change, because each set of
   * labels is a time series of its own. Default: none.
   */
  labels?: Readonly<Record<string, string | number>>
  /**
   * Whether each substream has metrics of its own, or how many of them have, the first ones, up to 65536; `true` is 256. Each is ten time series, and
   * one for each cause of a failure. Default false.
   */
  substreams?: boolean | number
  /** The same of the endpoints of a receiver, each of which is 13 time series. Default false. */
  endpoints?: boolean | number
}

/**
 * Options of `metrics`.
 * @example metrics([stream], { registry: register, substreams: 16 })
 */
export interface MetricsOptions {
  /** A registry of your prom-client that gets the metrics. Default: one of their own. */
  registry?: MetricsRegistry
  /** Whether processor time, memory, descriptors and the lag of the event loop of this process are among them. Default false. */
  process?: boolean
  /** Labels of all sources, as in `SourceOptions`. Default: none. */
  labels?: SourceOptions['labels']
  /** As in `SourceOptions`, of all sources. Default false. */
  substreams?: SourceOptions['substreams']
  /** As in `SourceOptions`, of all sources. Default false. */
  endpoints?: SourceOptions['endpoints']
}

/**
 * The metrics of any number of streams and receivers, as Prometheus scrapes them; made by `metrics`. docs/monitoring.md has the table.
 * A source that has closed keeps its last values until it is removed.
 * @example
 * const registry = metrics([stream, receiver])
 * console.log(await registry.metrics())
 */
export class StreamMetrics {
  /** The registry that has the metrics: yours, or one of their own. */
  readonly registry: MetricsRegistry
  readonly #labels: Labels
  /** How many substreams of a stream, and endpoints of a receiver, are told apart at most. */
  readonly #most: { readonly stream: number; readonly receiver: number }
  readonly #entries: Entry[] = []
  readonly #registered = new Set<Subject>()
  #added = 0
  #readings: readonly Reading[] | undefined

  /** @internal use metrics */
  constructor({ registry, process = false, labels, substreams, endpoints }: MetricsOptions) {
    if (registry !== undefined) checkRegistry(registry)
    const own = registry ?? new Registry()
    this.registry = own
    this.#labels = checkLabels(labels)
    this.#most = { stream: checkParts('substreams', substreams), receiver: checkParts('endpoints', endpoints) }
    if (process) {
      collectProcess(own as never)
      this.#register('process')
    }
  }

  /** The content type of the text, for the header of an answer. */
  get contentType(): string {
    return this.registry.contentType
  }

  /**
   * Gives all metrics of the registry as a text in Prometheus' format, with their values of this moment. Costs the thread about a millisecond. Rejects
   * where another metric of your registry does.
   * @example new Response(await registry.metrics(), { headers: { 'content-type': registry.contentType } })
   */
  metrics(): Promise<string> {
    return this.registry.metrics()
  }

  /**
   * Adds a stream or a receiver. Returns this, so that calls can be chained.
   * @throws ERR_SPEADCAST_CONFIG for what is no source; options that are none; a name and labels that another source has; or a metric that the
   *   registry has already
   * @example registry.add(stream, { name: 'beam-0' }).add(receiver)
   */
  add(source: Source, options: SourceOptions = {}): this {
    checkKeys('metrics: add', options, ['name', 'labels', 'substreams', 'endpoints'])
    const kind = kindOf(source)
    if (kind === undefined)
      throw new SpeadcastError(
        'ERR_SPEADCAST_CONFIG',
        `metrics: the source is ${shown(source)}; give a stream of openStream or a receiver of openReceiver`,
      )
    const name = checkName(options.name) ?? `${this.#added}`
    const labels = { ...this.#labels, ...checkLabels(options.labels) }
    const { substreams, endpoints } = options
    const most = {
      stream: substreams === undefined ? this.#most.stream : checkParts('substreams', substreams),
      receiver: endpoints === undefined ? this.#most.receiver : checkParts('endpoints', endpoints),
    }
    const entry = entryOf(source, kind, name, labels, most[kind])
    const former = this.#entries.find((other) => other.source === source)
    if (former !== undefined)
      throw new SpeadcastError(
        'ERR_SPEADCAST_CONFIG',
        `metrics: this ${kind} is there already, as '${former.name}', and sums would count it twice; remove it first to give it another name`,
      )
    const twin = this.#entries.find((other) => seriesOf(other) === seriesOf(entry))
    if (twin !== undefined)
      throw new SpeadcastError(
        'ERR_SPEADCAST_CONFIG',
        `metrics: a ${kind} with the name '${entry.name}' is there already; give another name or label, or remove the former`,
      )
    this.#register(kind)
    if (entry.partLabels.length > 0) this.#register(PART[kind])
    this.#added++
    this.#entries.push(entry)
    return this
  }

  /**
   * Takes a stream or a receiver out, with its time series. Returns whether it was there.
   * @example registry.remove(stream)
   */
  remove(source: Source): boolean {
    const i = this.#entries.findIndex((entry) => entry.source === source)
    if (i >= 0) this.#entries.splice(i, 1)
    return i >= 0
  }

  /**
   * Gives the same metrics to a Meter of OpenTelemetry, as observable instruments; speadcast imports nothing for it. Histograms are left out,
   * because OpenTelemetry has no observable instrument for them. Returns a function that ends it.
   * @throws ERR_SPEADCAST_CONFIG for what is no Meter
   * @example const stop = registry.observe(meter) // metrics.getMeter('telescope') of @opentelemetry/api
   */
  observe(meter: MeterLike): () => void {
    return observe(meter, () => this.#read())
  }

  /** @internal What all sources say now, read once for all rows of one scrape. */
  readings(): readonly Reading[] {
    return this.#read()
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('StreamMetrics', how, () => ({ sources: this.#entries.map(({ labels }) => labels) }))
  }

  #register(of: Subject): void {
    if (this.#registered.has(of)) return
    for (const metric of METRICS.filter((row) => row.of === of)) {
      try {
        this.registry.registerMetric(new Family(metric, () => this.#read()) as never)
      } catch (cause) {
        throw new SpeadcastError(
          'ERR_SPEADCAST_CONFIG',
          `metrics: the registry has a metric ${metric.name} already; add the source to the metrics that it belongs to, or take another registry`,
          { cause },
        )
      }
    }
    this.#registered.add(of)
  }

  /** A registry asks all metrics in one turn of the event loop, so that the rows of a scrape are of one moment. */
  #read(): readonly Reading[] {
    if (this.#readings === undefined) {
      this.#readings = this.#entries.map(read)
      queueMicrotask(() => {
        this.#readings = undefined
      })
    }
    return this.#readings
  }
}

const seriesOf = ({ labels }: Entry): string => JSON.stringify(Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1)))

/**
 * Makes the metrics of streams and receivers. Names of the sources are their numbers, unless they are added one by one with a name.
 * @throws ERR_SPEADCAST_CONFIG as `StreamMetrics.add` does, and for a registry that is none
 * @example
 * const registry = metrics([stream, receiver])
 * const server = await serveMetrics(registry, { host: '127.0.0.1', port: 9400 })
 */
export function metrics(sources: Source | readonly Source[] = [], options: MetricsOptions = {}): StreamMetrics {
  checkKeys('metrics', options, ['registry', 'process', 'labels', 'substreams', 'endpoints'])
  const made = new StreamMetrics(options)
  for (const source of Array.isArray(sources) ? sources : [sources]) made.add(source)
  return made
}
