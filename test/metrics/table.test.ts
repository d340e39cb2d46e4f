// The table of metrics against the counters that there are, Prometheus' conventions, and OpenTelemetry's.

import { METRICS, metrics } from 'speadcast/metrics'
import { expect, test } from 'vitest'
import { instrumentName } from '#dist/src/metrics/opentelemetry.js'
import { LEFT_OUT } from '#dist/src/metrics/table.js'
import { STAT_NAMES } from '#dist/src/receive/stats.js'
import { COUNTER_NAMES } from '#dist/src/stats.js'
import { pair, promtool, sendHeaps } from './support.js'

const rows = (of: string) => METRICS.filter((metric) => metric.of === of)
const fields = (of: string) => rows(of).map(({ from }) => from)

test('every counter of a stream and of a receiver, and all else of stats(), is a row or is left out with a reason', async () => {
  const { stream, receiver } = await pair()
  const missing = (of: 'stream' | 'receiver', names: readonly string[]) =>
    names.filter((name) => !fields(of).includes(name) && !(name in LEFT_OUT[of]))
  expect(missing('stream', [...COUNTER_NAMES, ...Object.keys(stream.stats())])).toEqual([])
  expect(missing('receiver', [...STAT_NAMES, ...Object.keys(receiver.stats())])).toEqual([])
  const [endpoint] = receiver.stats({ endpoints: true }).endpoints
  expect(fields('endpoint').toSorted()).toEqual(
    Object.keys(endpoint!)
      .filter((name) => name !== 'endpoint')
      .toSorted(),
  )
  for (const reason of Object.values({ ...LEFT_OUT.stream, ...LEFT_OUT.receiver })) expect(reason.length).toBeGreaterThan(10)
})

test('every row is read from something that there is', async () => {
  const { stream, receiver } = await pair()
  const stats = stream.stats({ substreams: true })
  const known = {
    stream: [...COUNTER_NAMES, ...Object.keys(stats), 'state', 'endpoints', 'rateBytesPerSecond'],
    substream: Object.keys(stats.substreams[0]!),
    receiver: [...STAT_NAMES, ...Object.keys(receiver.stats()), 'state'],
    endpoint: Object.keys(receiver.stats({ endpoints: true }).endpoints[0]!),
  }
  for (const [of, names] of Object.entries(known)) {
    const unknown = fields(of).filter((from) => !from.includes('.') && !names.includes(from))
    expect([of, unknown]).toEqual([of, []])
  }
  const distributions = fields('stream').filter((from) => from.startsWith('histograms.'))
  expect(distributions.toSorted()).toEqual(
    Object.keys(stats.histograms)
      .map((name) => `histograms.${name}`)
      .toSorted(),
  )
})

test('names are unique, here and in OpenTelemetry', () => {
  for (const names of [METRICS.map(({ name }) => name), METRICS.map(instrumentName)])
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([])
})

test('names, units and help keep Prometheus’ conventions', () => {
  for (const { name, kind, unit, help, divisor, of } of METRICS) {
    expect(name).toMatch(of === 'process' ? /^(process|nodejs)(_[a-z0-9]+)+$/ : /^speadcast(_[a-z0-9]+)+$/)
    expect([name, name.endsWith('_total')]).toEqual([name, kind === 'counter'])
    const bare = name.replace(/_total$/, '')
    if (unit === 'none') expect(bare).not.toMatch(/second|bytes/)
    else expect(bare.endsWith(`_${unit.replaceAll(' ', '_')}`), name).toBe(true)
    expect(help).toMatch(/^[A-Z].*\.$/)
    expect(divisor).toBeGreaterThan(0)
  }
})

test('promtool finds nothing wrong with the text of all kinds of sources', async (ctx) => {
  const { stream, receiver } = await pair({ rate: '1Gbps' })
  const registry = metrics([], { process: true, substreams: true, endpoints: true })
  registry.add(stream, { name: 'a "quoted"\nname \\ with all', labels: { site: 'Ka\\roo "A"' } }).add(receiver)
  await sendHeaps(stream, 10)
  const checked = promtool(ctx, ['check', 'metrics'], await registry.metrics())
  expect(checked).toEqual({ status: 0, said: '' })
})
