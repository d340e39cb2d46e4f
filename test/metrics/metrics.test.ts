// Metrics of real streams and receivers: what a scrape says is what stats() says.

import { inspect } from 'node:util'
import { type OpenMetricsContentType, Registry } from 'prom-client'
import { openStream } from 'speadcast'
import { type MetricsRegistry, metrics } from 'speadcast/metrics'
import { describe, expect, test } from 'vitest'
import { pair, parse, sampleOf, sendHeaps, until } from './support.js'

const ROWS: readonly (readonly [name: string, field: string, divisor?: number])[] = [
  ['speadcast_heaps_sent_total', 'heapsSent'],
  ['speadcast_packets_sent_total', 'packets'],
  ['speadcast_udp_bytes_total', 'udpBytes'],
  ['speadcast_wire_bytes_total', 'wireBytes'],
  ['speadcast_posts_total', 'posts'],
  ['speadcast_paced_seconds_total', 'pacedNanoseconds', 1e9],
  ['speadcast_greatest_lag_seconds', 'greatestLagNanoseconds', 1e9],
]

test('a scrape says what stats() says of a stream and a receiver, in base units', async () => {
  const { stream, receiver } = await pair({ rate: '200Mbps' })
  const registry = metrics([stream, receiver])
  await sendHeaps(stream, 50)
  await until(() => receiver.stats().heaps === 50)
  const text = await registry.metrics()
  const sent = stream.stats() as unknown as Record<string, number>
  for (const [name, field, divisor = 1] of ROWS) expect([name, sampleOf(text, name)]).toEqual([name, sent[field]! / divisor])
  // A heap of descriptors goes before the data.
  expect(sampleOf(text, 'speadcast_heaps_sent_total', { stream: '0', backend: stream.backend })).toBe(51)
  expect(sampleOf(text, 'speadcast_rate_limit_bytes_per_second')).toBe(25_000_000)
  expect(sampleOf(text, 'speadcast_stream_open')).toBe(1)
  expect(sampleOf(text, 'speadcast_receiver_heaps_total', { receiver: '1' })).toBe(50)
  expect(sampleOf(text, 'speadcast_receiver_payload_bytes_total')).toBe(50 * 4096)
  expect(parse(text).find(({ name }) => name === 'speadcast_stream_info')?.labels).toMatchObject({
    evidence: 'accepted',
    stream: '0',
  })
})

test('a stream that has closed keeps its last values until it is removed', async () => {
  const { stream } = await pair()
  const registry = metrics(stream)
  await sendHeaps(stream, 5)
  await stream.close()
  const text = await registry.metrics()
  expect(sampleOf(text, 'speadcast_heaps_sent_total')).toBe(6)
  expect(sampleOf(text, 'speadcast_stream_open')).toBe(0)
  expect([registry.remove(stream), registry.remove(stream)]).toEqual([true, false])
  expect(parse(await registry.metrics())).toEqual([])
})

test('all rows of a scrape are of one moment, and each scrape is new', async () => {
  const stream = await openStream({ to: '10.0.0.5:7148', backend: 'memory' })
  let asked = 0
  const watched = new Proxy(stream, {
    get: (target, key) => {
      if (key === 'stats') asked++
      const value = Reflect.get(target, key, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const registry = metrics([watched])
  asked = 0
  await registry.metrics()
  expect(asked).toBe(1)
  await sendHeaps(stream, 3)
  expect(sampleOf(await registry.metrics(), 'speadcast_heaps_sent_total')).toBe(4)
  await stream.close()
})

test('counters of many streams stay apart, and no counter falls', async () => {
  const streams = await Promise.all([1, 2, 3].map(() => openStream({ to: '10.0.0.5:7148', backend: 'memory' })))
  const registry = metrics(streams, { labels: { site: 'karoo' } })
  let before: ReturnType<typeof parse> = []
  for (let round = 0; round < 3; round++) {
    for (const [i, stream] of streams.entries()) await sendHeaps(stream, i + 1)
    const now = parse(await registry.metrics())
    for (const { name, labels, value } of before.filter((series) => series.name.endsWith('_total'))) {
      const later = now.find((series) => series.name === name && series.labels.stream === labels.stream)
      expect(later!.value).toBeGreaterThanOrEqual(value)
    }
    before = now
  }
  const sent = before.filter(({ name }) => name === 'speadcast_heaps_sent_total')
  expect(sent.map(({ labels, value }) => [labels.stream, labels.site, value])).toEqual([
    ['0', 'karoo', 4],
    ['1', 'karoo', 7],
    ['2', 'karoo', 10],
  ])
  for (const stream of streams) await stream.close()
})

describe('a registry of the user’s own prom-client', () => {
  test('gets the metrics beside its own, and its types fit', async () => {
    const { stream } = await pair()
    const registry: MetricsRegistry = new Registry()
    const made = metrics([stream], { registry })
    expect(made.registry).toBe(registry)
    await sendHeaps(stream, 2)
    expect(sampleOf(await (registry as Registry).metrics(), 'speadcast_heaps_sent_total')).toBe(3)
    const [json] = (await (registry as Registry).getMetricsAsJSON()).filter(({ name }) => name === 'speadcast_heaps_sent_total')
    expect(json).toMatchObject({ type: 'counter', aggregator: 'sum', values: [{ value: 3, labels: { stream: '0' } }] })
    ;(registry as Registry).resetMetrics()
    expect(sampleOf(await made.metrics(), 'speadcast_heaps_sent_total')).toBe(3)
  })

  test('may be of OpenMetrics', async () => {
    const { stream } = await pair()
    const registry = new Registry<OpenMetricsContentType>()
    registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
    const made = metrics([stream], { registry })
    for (let scrape = 0; scrape < 2; scrape++) {
      const text = await made.metrics()
      expect(text).toContain('# TYPE speadcast_heaps_sent counter\nspeadcast_heaps_sent_total{stream="0"')
      expect(text.endsWith('# EOF\n')).toBe(true)
    }
    expect(made.contentType).toContain('application/openmetrics-text')
  })

  test('refuses the same metrics twice with what helps', async () => {
    const { stream } = await pair()
    const registry = new Registry()
    metrics([stream], { registry })
    expect(() => metrics([stream], { registry })).toThrow(/has a metric speadcast_stream_info already; add the source/)
  })
})

describe('what makes no sense is refused', () => {
  const refused: readonly (readonly [what: string, wrong: () => unknown, message: RegExp])[] = [
    ['a source that is none', () => metrics([{} as never]), /the source is an Object; give a stream of openStream/],
    ['null', () => metrics(null as never), /the source is null/],
    ['an unknown option', () => metrics([], { prefix: 'x' } as never), /unknown option 'prefix'; known ones: registry, process/],
    ['a registry that is none', () => metrics([], { registry: {} as never }), /registry is an Object; give a Registry/],
    ['labels that are no object', () => metrics([], { labels: 'site' as never }), /labels is 'site'; give an object/],
    ['a label of another’s name', () => metrics([], { labels: { stream: 'x' } }), /the label 'stream' is set by speadcast/],
    ['a label that Prometheus refuses', () => metrics([], { labels: { 'a-b': 'x' } }), /'a-b' is no name of a label/],
    ['a label of Prometheus’ own', () => metrics([], { labels: { __name__: 'x' } }), /'__name__' is no name of a label/],
    ['a value that is an object', () => metrics([], { labels: { site: {} as never } }), /label 'site' is an Object/],
    ['NaN as a label', () => metrics([], { labels: { site: Number.NaN } }), /label 'site' is NaN/],
    ['half a substream', () => metrics([], { substreams: 0.5 }), /substreams is 0.5; give true, false/],
  ]
  test.for(refused)('%s', ([, wrong, message]) => {
    expect(wrong).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(message) }))
  })

  test('a stream that is there, whose heaps sums would count twice', async () => {
    const { stream } = await pair()
    const registry = metrics(stream)
    expect(() => registry.add(stream, { name: 'beam' })).toThrow(/this stream is there already, as '0'.*remove it first/)
    registry.remove(stream)
    registry.add(stream, { name: 'beam' })
  })

  test('two streams of one name, unless a label tells them apart', async () => {
    const { stream, receiver } = await pair()
    const { stream: other } = await pair()
    const registry = metrics().add(stream, { name: 'a' })
    expect(() => registry.add(other, { name: 'a' })).toThrow(/a stream with the name 'a' is there already; give another name/)
    expect(() => registry.add(other, { name: '' })).toThrow(/name is ''; give a text/)
    registry.add(receiver, { name: 'a' }).add(other, { name: 'a', labels: { dish: 1 } })
    expect(inspect(registry)).toContain("stream: 'a'")
  })
})
