// Substreams, endpoints, causes and distributions: what costs time series, only where it was asked for.

import { openStream, type Stream } from 'speadcast'
import { metrics } from 'speadcast/metrics'
import { openReceiver, type Receiver } from 'speadcast/receive'
import { describe, expect, onTestFinished, test } from 'vitest'
import { ERRNO } from '#dist/ffi/native-error.js'
import { freePort } from '../support/cli.js'
import { ITEMS, parse, sampleOf, sendHeaps, until } from './support.js'

const SUBSTREAMS = 4
const open = (): Promise<Stream> =>
  openStream({
    to: Array.from({ length: SUBSTREAMS }, (_, i) => `10.0.0.${i + 1}:7148`),
    backend: 'memory',
    packetSizeBytes: 1472,
    descriptors: 'none',
    // The first packet to the second endpoint fails.
    memory: { failAt: (row) => (row === 3 ? ERRNO.ENETUNREACH : undefined) },
  })

/** A heap of three packets to each endpoint; one of the second's fails. */
async function sendToEach(stream: Stream): Promise<void> {
  const batch = stream.createBatch({ items: ITEMS, heaps: SUBSTREAMS, substreams: Array.from({ length: SUBSTREAMS }, (_, i) => i) })
  await stream.send(batch).catch(() => undefined)
}

describe('with substreams', () => {
  test('each endpoint has counters of its own, and failures their cause', async () => {
    const stream = await open()
    const registry = metrics(stream, { substreams: true })
    await sendToEach(stream)
    const text = await registry.metrics()
    const sent = parse(text).filter(({ name }) => name === 'speadcast_substream_heaps_sent_total')
    expect(sent.map(({ labels, value }) => [labels.substream, labels.endpoint, value])).toEqual([
      ['0', '10.0.0.1:7148', 1],
      ['1', '10.0.0.2:7148', 0],
      ['2', '10.0.0.3:7148', 1],
      ['3', '10.0.0.4:7148', 1],
    ])
    const causes = parse(text).filter(({ name }) => name === 'speadcast_substream_packets_failed_by_cause_total')
    expect(causes.map(({ labels, value }) => [labels.endpoint, labels.cause, value])).toEqual([['10.0.0.2:7148', 'ENETUNREACH', 1]])
    expect(sampleOf(text, 'speadcast_heaps_failed_total')).toBe(1)
    expect(sampleOf(text, 'speadcast_substream_heaps_failed_total', { substream: '1' })).toBe(1)
    await stream.destroy()
  })

  test('their number is bounded, and without them there are none', async () => {
    const stream = await open()
    const endpoints = async (substreams: number | boolean) => {
      const series = parse(await metrics(stream, { substreams }).metrics())
      return new Set(series.map(({ labels }) => labels.endpoint).filter((endpoint) => endpoint !== undefined)).size
    }
    expect([await endpoints(false), await endpoints(3), await endpoints(true)]).toEqual([0, 3, SUBSTREAMS])
    await stream.destroy()
  })

  test('a stream has fewer than 150 time series', async () => {
    const stream = await open()
    expect(parse(await metrics(stream).metrics()).length).toBeLessThan(150)
    await stream.destroy()
  })
})

describe('with endpoints', () => {
  const ENDPOINTS = 3
  async function receiving(): Promise<{ receiver: Receiver; stream: Stream }> {
    const endpoints = await Promise.all(Array.from({ length: ENDPOINTS }, async () => `127.0.0.1:${await freePort()}`))
    const receiver = await openReceiver({ endpoints, deliver: false })
    const stream = await openStream({ to: endpoints, packetSizeBytes: 1472, descriptors: 'none' })
    onTestFinished(async () => {
      await stream.destroy()
      await receiver.close()
    })
    return { receiver, stream }
  }

  test('each endpoint of a receiver has counters of its own, which come to those of the receiver', async () => {
    const { receiver, stream } = await receiving()
    await stream.send(stream.createBatch({ items: ITEMS, heaps: 6, substreams: [0, 1, 1, 2, 2, 2] }))
    await until(() => receiver.stats().heaps === 6)
    const text = await metrics([receiver, stream], { endpoints: true }).metrics()
    const heaps = parse(text).filter(({ name }) => name === 'speadcast_receiver_endpoint_heaps_total')
    expect(heaps.map(({ labels, value }) => [labels.receiver, labels.endpoint, value])).toEqual(
      receiver.endpoints.map((endpoint, i) => ['0', endpoint, i + 1]),
    )
    expect(sampleOf(text, 'speadcast_receiver_heaps_total')).toBe(6)
    for (const [endpoint, bytes] of receiver.endpoints.map((text, i) => [text, 4096 * (i + 1)] as const))
      expect(sampleOf(text, 'speadcast_receiver_endpoint_payload_bytes_total', { endpoint })).toBe(bytes)
    // Those of the stream were not asked for.
    expect(text).not.toContain('speadcast_substream_')
  })

  test('their number is bounded, for each source or all, and without them there are none', async () => {
    const { receiver } = await receiving()
    const told = async (all: number | boolean, own?: number | boolean) => {
      const registry = metrics([], { endpoints: all }).add(receiver, own === undefined ? {} : { endpoints: own })
      return new Set(parse(await registry.metrics()).flatMap(({ labels }) => labels.endpoint ?? [])).size
    }
    expect([await told(false), await told(2), await told(true), await told(true, 1), await told(false, true)]).toEqual([
      0, 2, 3, 1, 3,
    ])
    for (const wrong of [0, 65537, 1.5, 'all'])
      expect(() => metrics(receiver, { endpoints: wrong as never })).toThrow(
        /^metrics: endpoints is .*; give true, false, or how many/,
      )
  })

  test('each is the 13 time series that the documents say', async () => {
    const { receiver } = await receiving()
    const without = parse(await metrics(receiver).metrics()).length
    const series = parse(await metrics(receiver, { endpoints: true }).metrics()).length
    expect([without, series - without]).toEqual([28, 13 * ENDPOINTS])
  })
})

test('distributions are histograms whose buckets rise to the count', async () => {
  const stream = await openStream({ to: '10.0.0.5:7148', backend: 'memory', descriptors: 'none' })
  for (let i = 0; i < 20; i++) await sendHeaps(stream, 5)
  const text = await metrics(stream).metrics()
  const { batchLatencyNanoseconds: latency, postPackets } = stream.stats().histograms
  expect(latency.count).toBe(20)
  for (const [name, { count, mean, max }, divisor] of [
    ['speadcast_batch_latency_seconds', latency, 1e9],
    ['speadcast_post_packets', postPackets, 1],
  ] as const) {
    const buckets = parse(text).filter((series) => series.name === `${name}_bucket`)
    const values = buckets.map(({ value }) => value)
    expect(values).toEqual(values.toSorted((a, b) => a - b))
    expect(buckets.at(-1)).toMatchObject({ labels: { le: '+Inf' }, value: count })
    expect(sampleOf(text, `${name}_count`)).toBe(count)
    expect(sampleOf(text, `${name}_sum`)).toBeCloseTo((count * mean) / divisor, 9)
    // All are no greater than the first bound at or above the greatest.
    const above = buckets.find(({ labels }) => Number(labels.le!.replace('+Inf', 'Infinity')) >= max / divisor)
    expect(above!.value).toBe(count)
    expect(text).toContain(`# TYPE ${name} histogram\n`)
  }
  await stream.close()
})
