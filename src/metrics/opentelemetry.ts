/** The table as instruments of OpenTelemetry's metrics API. The caller's Meter makes them, so nothing is imported. */
import { shown } from '../checks.js'
import { ensure } from '../errors.js'
import { samplesOf } from './samples.js'
import type { Labels, Reading } from './source.js'
import { METRICS, type Metric } from './table.js'

/**
 * Options of an instrument, as OpenTelemetry has them.
 * @example const gauge = meter.createObservableGauge('x', { unit: 's' })
 */
export interface InstrumentOptions {
  /** One sentence about it. Default: none. */
  readonly description?: string
  /** A unit of UCUM. Default: none. */
  readonly unit?: string
}

/**
 * The one to whom a callback tells values.
 * @example const observer: ObserverLike = { observe: (_instrument, value) => console.log(value) }
 */
export interface ObserverLike {
  /**
   * Tells a value of an instrument.
   * @example const tell = (observer: ObserverLike) => observer.observe({} as never, 1)
   */
  observe(instrument: never, value: number, attributes?: Labels): void
}

/**
 * A Meter of `@opentelemetry/api`, as far as it is used here.
 * @example const stop = registry.observe(meter)
 */
export interface MeterLike {
  /** Makes an instrument for what only rises. */
  createObservableCounter(name: string, options?: InstrumentOptions): object
  /** Makes an instrument for what rises and falls. */
  createObservableGauge(name: string, options?: InstrumentOptions): object
  /** Has a callback called at every collection. */
  addBatchObservableCallback(callback: (observer: ObserverLike) => void, instruments: never[]): void
  /** Ends that. */
  removeBatchObservableCallback(callback: (observer: ObserverLike) => void, instruments: never[]): void
}

/** UCUM, as OpenTelemetry's conventions want it; what is counted stands in braces. */
function unitOf({ unit, noun }: Metric): string {
  if (unit === 'seconds') return 's'
  if (unit === 'bytes') return 'By'
  if (unit === 'bytes per second') return 'By/s'
  return noun === '' ? '1' : `{${noun}}`
}

/** The name without what OpenTelemetry's exporter to Prometheus adds again: `_total` and the unit. */
export function instrumentName({ name, unit }: Metric): string {
  const bare = name.replace(/_total$/, '')
  return (unit === 'none' ? bare : bare.replace(new RegExp(`_${unit.replaceAll(' ', '_')}$`), '')).replace('_', '.')
}

/** @returns a function that ends it */
export function observe(meter: MeterLike, readings: () => readonly Reading[]): () => void {
  const fits =
    typeof meter?.createObservableCounter === 'function' &&
    typeof meter.createObservableGauge === 'function' &&
    typeof meter.addBatchObservableCallback === 'function'
  ensure(fits, 'ERR_SPEADCAST_CONFIG', () => `observe: the meter is ${shown(meter)}; give a Meter of @opentelemetry/api`)
  const instruments = METRICS.filter(({ kind, of }) => kind !== 'histogram' && of !== 'process').map((metric) => {
    const options = { description: metric.help, unit: unitOf(metric) }
    const name = instrumentName(metric)
    const instrument =
      metric.kind === 'counter' ? meter.createObservableCounter(name, options) : meter.createObservableGauge(name, options)
    return { metric, instrument }
  })
  const callback = (observer: ObserverLike): void => {
    const now = readings()
    for (const { metric, instrument } of instruments)
      for (const { shared, labels, value } of samplesOf(metric, now))
        observer.observe(instrument as never, value, { ...shared, ...labels })
  }
  const all = instruments.map(({ instrument }) => instrument as never)
  meter.addBatchObservableCallback(callback, all)
  return () => meter.removeBatchObservableCallback(callback, all)
}
