// OpenTelemetry's own SDK collects the table through a Meter that the user hands over.
import {
  AggregationTemporality,
  InMemoryMetricExporter,
  MeterProvider,
  PeriodicExportingMetricReader,
} from '@opentelemetry/sdk-metrics'
import { METRICS, metrics } from 'speadcast/metrics'
import { expect, test } from 'vitest'
import { instrumentName } from '#dist/src/metrics/opentelemetry.js'
import { pair, sendHeaps } from './support.js'

test('a Meter collects what Prometheus scrapes, until it is told to stop', async () => {
  const exporter = new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE)
  const reader = new PeriodicExportingMetricReader({ exporter, exportIntervalMillis: 3_600_000 })
  const provider = new MeterProvider({ readers: [reader] })
  const { stream, receiver } = await pair()
  const registry = metrics([stream, receiver])
  const stop = registry.observe(provider.getMeter('telescope'))
  const collect = async () => {
    exporter.reset()
    await reader.forceFlush()
    return exporter.getMetrics()[0]?.scopeMetrics[0]?.metrics ?? []
  }
  await sendHeaps(stream, 4)
  const collected = await collect()
  const sent = collected.find(({ descriptor }) => descriptor.name === 'speadcast.heaps_sent')!
  expect(sent.descriptor).toMatchObject({ unit: '{heap}', description: 'Heaps all of whose packets were sent.' })
  expect(sent.dataPoints).toMatchObject([{ value: 5, attributes: { stream: '0', backend: stream.backend } }])
  const paced = collected.find(({ descriptor }) => descriptor.name === 'speadcast.paced')!
  expect(paced.descriptor.unit).toBe('s')
  const names = METRICS.map(instrumentName)
  expect(collected.map(({ descriptor }) => descriptor.name).filter((name) => !names.includes(name))).toEqual([])
  stop()
  await sendHeaps(stream, 4)
  const later = (await collect()).find(({ descriptor }) => descriptor.name === 'speadcast.heaps_sent')
  expect(later?.dataPoints ?? []).not.toMatchObject([{ value: 10 }])
  await provider.shutdown()
})

test('what is no Meter is refused', () => {
  expect(() => metrics().observe({} as never)).toThrow(/the meter is an Object; give a Meter of @opentelemetry\/api/)
})
