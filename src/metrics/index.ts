/// <reference types="node" preserve="true" />
/// <reference lib="esnext.disposable" preserve="true" />
/**
 * Metrics of streams and receivers for Prometheus and OpenTelemetry, the package's entry `speadcast/metrics`.
 *
 *     const registry = metrics([stream, receiver])
 *     await using server = await serveMetrics(registry, { host: '127.0.0.1', port: 9400 })
 *
 * Values are read when somebody asks for them, so nothing is paid in between. docs/monitoring.md has the table of all metrics.
 *
 * @module speadcast/metrics
 */
export { type MetricsOptions, type MetricsRegistry, metrics, type SourceOptions, type StreamMetrics } from './metrics.js'
export type { InstrumentOptions, MeterLike, ObserverLike } from './opentelemetry.js'
export { type MetricsServer, type ServeOptions, serveMetrics } from './serve.js'
export type { Labels, Source } from './source.js'
export { METRICS, type Metric, type Subject, type Unit } from './table.js'
