// Samples that come slowly: partly filled batches go after a delay or by flush, and the heaps keep their substreams, cnts and timestamps.

import { ItemGroup, type ItemInit, type SampleWriterOptions, SendError, type Stream, sampleWriter } from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { need } from '../support/need.js'
import { PythonPeer } from '../support/python-peer.js'
import { itemsOf, memoryStream, OUTLETS, openOutlet, type Packet, parse, SAMPLES, TIMESTAMP, turn } from './support.js'

const HEAP = 100
const BASE = { item: 'adc_samples', timestamp: 'timestamp', heapsPerBatch: 64, batches: 2 } as const
const writerOn = (stream: Stream, options: Partial<SampleWriterOptions> = {}) =>
  sampleWriter(stream, { items: itemsOf(HEAP), ...BASE, ...options })
const bytesUpTo = (length: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (Math.imul(i + 1, 2654435761) >>> 11) & 0xff)
const dataOf = (packets: readonly Packet[]) => packets.filter((packet) => packet.value(TIMESTAMP) !== undefined)
const dataOn = (stream: Stream) => dataOf(stream.packets.map(parse))

/** The packets when so many have come; those that have after five seconds. */
async function came(packets: (count: number) => Promise<Packet[]>, count: number): Promise<Packet[]> {
  for (let waited = 0; waited < 5000 && (await packets(count)).length < count; waited += 10) await turn(10)
  return packets(count)
}

describe.for([...OUTLETS, 'udp io_uring'] as const)('%s', (kind) => {
  const open = (ctx: Parameters<typeof openOutlet>[0], substreams = 1) =>
    kind === 'udp io_uring' ? openOutlet(ctx, 'udp', { udpPath: 'io_uring' }, substreams) : openOutlet(ctx, kind, {}, substreams)

  test('a whole heap goes after maxDelayMs though its batch has room for 63 more; one that is not whole stays', async (ctx) => {
    const { stream, packets } = await open(ctx)
    const writer = writerOn(stream, { maxDelayMs: 5 })
    const input = bytesUpTo(3 * HEAP)
    await writer.write(input.subarray(0, 150))
    // Descriptors and the first heap.
    expect(dataOf(await came(packets, 2)).map(({ data }) => data.equals(input.subarray(0, HEAP)))).toEqual([true])
    await writer.write(input.subarray(150))
    const heaps = dataOf(await came(packets, 4))
    expect(heaps.map((packet) => packet.value(TIMESTAMP))).toEqual([0, 100, 200])
    expect(Buffer.concat(heaps.map(({ data }) => data)).equals(input)).toBe(true)
    expect(await writer.end()).toEqual({ heaps: 3, failedHeaps: 0, sampleBytes: 300, droppedBytes: 0 })
  })

  test('heaps of short batches go round the substreams', async (ctx) => {
    const { stream, packets } = await open(ctx, 3)
    const writer = writerOn(stream, { maxDelayMs: 0, heapsPerBatch: 8 })
    const input = bytesUpTo(40 * HEAP)
    for (let at = 0, n = 1; at < input.length; at += n, n = 1 + ((n * 211) % 457)) await writer.write(input.subarray(at, at + n))
    expect(await writer.end()).toMatchObject({ heaps: 40 })
    const heaps = dataOf(await packets(43)).sort((a, b) => a.value(TIMESTAMP)! - b.value(TIMESTAMP)!)
    expect(heaps.map((packet) => packet.value(TIMESTAMP))).toEqual(Array.from({ length: 40 }, (_, i) => i * HEAP))
    expect(heaps.map(({ substream }) => substream)).toEqual(Array.from({ length: 40 }, (_, i) => i % 3))
    expect(Buffer.concat(heaps.map(({ data }) => data)).equals(input)).toBe(true)
  })
})

describe('maxDelayMs', () => {
  test('without it, and while it has not passed, a batch waits to be full', async () => {
    for (const maxDelayMs of [undefined, Number.POSITIVE_INFINITY, 3_600_000, 2 ** 40]) {
      const stream = await memoryStream()
      const writer = writerOn(stream, maxDelayMs === undefined ? {} : { maxDelayMs })
      await writer.write(bytesUpTo(2 * HEAP))
      await turn(40)
      expect(stream.packets).toHaveLength(0)
      await writer.end()
      expect(dataOn(stream)).toHaveLength(2)
    }
  })

  test.for([
    ['serial', 'first', 1],
    ['serial', 'in-band', 5],
    ['round-robin', 'first', 5],
    ['round-robin', 'in-band', 3],
    ['by-substream', 'none', 5],
    ['by-substream', 'in-band', 4],
  ] as const)(
    'groupMode %s, descriptors %s, %i endpoints: every byte, and the descriptors for each',
    async ([groupMode, descriptors, endpoints]) => {
      for (const [heapsPerBatch, bytes] of [
        [7, 100],
        [2, 100],
        [3, 4000],
      ] as const) {
        const stream = await memoryStream({ to: `10.0.0.1+${endpoints - 1}:7148`, descriptors, debug: true })
        const warned: unknown[] = []
        const onWarning = (warning: unknown) => warned.push(warning)
        process.on('warning', onWarning)
        onTestFinished(() => void process.off('warning', onWarning))
        const writer = sampleWriter(stream, { ...BASE, items: itemsOf(bytes), heapsPerBatch, groupMode, maxDelayMs: 0 })
        const input = bytesUpTo(41 * bytes + 7)
        for (let at = 0, n = 1; at < input.length; at += n, n = 1 + ((n * 211) % (5 * bytes)))
          await writer.write(input.subarray(at, at + n))
        await writer.end()
        await turn(0)
        expect(warned).toEqual([])
        const packets = stream.packets.map(parse)
        const heaps = new Map<number, { substream: number; timestamp: number | undefined; data: Buffer[] }>()
        for (const packet of packets) {
          const heap = heaps.get(packet.cnt) ?? { substream: packet.substream, timestamp: packet.value(TIMESTAMP), data: [] }
          heap.data.push(packet.data)
          heaps.set(packet.cnt, heap)
        }
        const data = [...heaps.values()]
          .filter(({ timestamp }) => timestamp !== undefined)
          .sort((a, b) => a.timestamp! - b.timestamp!)
        expect(data.map(({ timestamp, substream }) => [timestamp! / bytes, substream])).toEqual(
          Array.from({ length: 42 }, (_, i) => [i, i % endpoints]),
        )
        // In-band descriptors stand in front of the samples of the heap that carries them.
        const samples = data.map(({ data }, i) => Buffer.concat(data).subarray(-(i === 41 ? 7 : bytes)))
        expect(Buffer.concat(samples).equals(input)).toBe(true)
        const described = new Set(packets.filter((packet) => packet.descriptors > 0).map(({ substream }) => substream))
        expect(described.size).toBe(descriptors === 'none' ? 0 : endpoints)
      }
    },
  )

  test('a failure of a send by the timer rejects the next write', async () => {
    const stream = await memoryStream({ descriptors: 'none' }, { shut: false, refuse: () => true })
    const writer = writerOn(stream, { maxDelayMs: 1 })
    await writer.write(bytesUpTo(HEAP))
    while (stream.stats().heapsFailed === 0) await turn(1)
    await turn(1)
    await expect(writer.write(bytesUpTo(1))).rejects.toBeInstanceOf(SendError)
    await expect(writer.end()).rejects.toBeInstanceOf(SendError)
  })

  test('a stream closed under it rejects the next write', async () => {
    const stream = await memoryStream()
    const writer = writerOn(stream, { maxDelayMs: 5 })
    await writer.write(bytesUpTo(HEAP))
    await stream.close()
    // A timer that was started later comes later.
    await turn(30)
    await expect(writer.write(bytesUpTo(1))).rejects.toMatchObject({ code: 'ERR_SPEADCAST_CLOSED' })
  })

  test.for([-1, Number.NaN, '5', null])('refuses %s', async (maxDelayMs) => {
    const stream = await memoryStream()
    expect(() => writerOn(stream, { maxDelayMs: maxDelayMs as number })).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(/maxDelayMs is .*milliseconds/) }),
    )
  })
})

describe('flush', () => {
  test('sends the whole heaps, resolves when they have settled, and leaves the rest', async () => {
    const gate = { shut: true }
    const stream = await memoryStream({ descriptors: 'none' }, gate)
    const writer = writerOn(stream)
    await writer.write(bytesUpTo(250))
    const flushed = writer.flush()
    expect(await Promise.race([flushed, turn()])).toBe('pending')
    gate.shut = false
    await flushed
    expect(dataOn(stream).map(({ data }) => data.length)).toEqual([100, 100])
    await writer.flush()
    expect(dataOn(stream)).toHaveLength(2)
    expect(await writer.end()).toMatchObject({ heaps: 3, sampleBytes: 250 })
    expect(Buffer.concat(dataOn(stream).map(({ data }) => data)).equals(bytesUpTo(250))).toBe(true)
    await expect(writer.flush()).rejects.toMatchObject({ code: 'ERR_SPEADCAST_CLOSED' })
  })

  test('rejects with the failure of what it sent', async () => {
    const stream = await memoryStream({ descriptors: 'none' }, { shut: false, refuse: () => true })
    const writer = writerOn(stream)
    await writer.write(bytesUpTo(HEAP))
    await expect(writer.flush()).rejects.toBeInstanceOf(SendError)
  })
})

describe('samples in a heap', () => {
  test.for([
    [{ shape: [1024, 4], format: [['i', 10]] }, {}, 4096],
    [{ shape: [1024, 4], format: [['u', 12]] }, {}, 4096],
    [{ shape: [64, 8], format: [['u', 1]] }, {}, 512],
    // Two rows of whole bytes: a sample is a row of two channels.
    [{ shape: [1024, 2], dtype: '<i2' }, {}, 1024],
    [{ shape: [2, 1024], dtype: '<i2', order: 'F' }, {}, 1024],
    // Packed by the user, who says what is inside.
    [{ shape: [5120], dtype: 'u1' }, { samplesPerHeap: 4096 }, 4096],
    [{ shape: [1024, 4], format: [['i', 10]] }, { samplesPerHeap: 1024 }, 1024],
  ] as const)('%j %j: timestamps step by %i', async ([shape, options, step]) => {
    const stream = await memoryStream({ descriptors: 'none', packetSizeBytes: 8972 })
    const items = new ItemGroup()
      .add({ id: TIMESTAMP, name: 'timestamp', format: [['u', 48]] })
      .add({ id: SAMPLES, name: 'adc_samples', ...(shape as Omit<ItemInit, 'name'>) })
    const writer = sampleWriter(stream, { ...BASE, items, ...options })
    expect(writer.samplesPerHeap).toBe(step)
    await writer.write(new Uint8Array(2 * writer.heapBytes + writer.sampleBytes))
    await writer.end()
    expect(dataOn(stream).map((packet) => packet.value(TIMESTAMP))).toEqual([0, step, 2 * step])
  })

  test.for([0, 1.5, '7'])('samplesPerHeap refuses %s', async (samplesPerHeap) => {
    const stream = await memoryStream()
    expect(() => writerOn(stream, { samplesPerHeap: samplesPerHeap as number })).toThrow(/samplesPerHeap is .*whole number/)
  })
})

describe('a last heap of few bytes', () => {
  test.for([
    ['none', 'even'],
    ['none', 'greedy'],
    ['none', { payloadBytes: 49, pointers: ['heap-cnt', 'payload-offset', { item: TIMESTAMP }, { item: SAMPLES }] }],
    ['first', { payloadBytes: 49, pointers: ['heap-cnt', 'payload-offset', { item: TIMESTAMP }, { item: SAMPLES }] }],
    ['first', 'even'],
  ] as const)('descriptors %s, split %j: stands in the payload, which tells its length', async ([descriptors, split]) => {
    for (const tail of [1, 2, 5, 6, 7]) {
      const stream = await memoryStream({ descriptors, split })
      const writer = writerOn(stream, { items: itemsOf(49) })
      const input = bytesUpTo(98 + tail)
      await writer.write(input)
      expect(await writer.end()).toMatchObject({ heaps: 3, sampleBytes: 98 + tail })
      const heaps = dataOn(stream)
      expect(heaps.map(({ data }) => data.length)).toEqual([49, 49, tail])
      expect(heaps.at(-1)!.pointers.find(({ id }) => id === SAMPLES)).toMatchObject({ immediate: false })
      expect(Buffer.concat(heaps.map(({ data }) => data)).equals(input)).toBe(true)
    }
  })

  test('spead2 reads it with and without its descriptor', async (ctx) => {
    const peer = PythonPeer.start()
    need(ctx, peer, 'no Python with spead2 (npm test sets it up)')
    onTestFinished(() => peer.close())
    for (const descriptors of ['none', 'first'] as const) {
      const stream = await memoryStream({ descriptors })
      const writer = writerOn(stream, { items: itemsOf(49) })
      await writer.write(bytesUpTo(51))
      await writer.end()
      const packets = stream.packets.map(({ bytes }) => Buffer.from(bytes).toString('base64'))
      const heaps = await peer.decode(packets.map((packet) => ({ packets: [packet] })))
      const item = heaps.at(-1)!.items.find(({ id }) => id === `${SAMPLES}`)!
      expect(Buffer.from(item.bytes, 'base64').equals(bytesUpTo(51).subarray(49))).toBe(true)
    }
  })
})
