// maxQueuedBytes: what sends hold, how one beyond the bound is refused or waits, and when there is room again.

import {
  createBatchRing,
  Heap,
  Item,
  ItemGroup,
  openStream,
  type Stream,
  type StreamOptions,
  sampleWriter,
  sendAll,
} from 'speadcast'
import { expect, test } from 'vitest'
import { filledBatch, type Gate, memoryStream, openOutlet, parse, SAMPLES, TIMESTAMP, turn } from './support.js'

/** A heap of 1000 bytes whose first is `value`. */
function heapOf(value: number, samples = new Uint8Array(1000)): Heap {
  samples[0] = value
  const item = new Item({ id: SAMPLES, name: 'samples', dtype: 'u1', shape: [samples.length], value: samples })
  return new Heap().addItem(item)
}

const QUIET = { descriptors: 'none' } as const
const FULL = expect.objectContaining({ code: 'ERR_SPEADCAST_QUEUE_FULL' })

/** A stream that sends nothing while its gate is shut. */
async function gated(options: Partial<StreamOptions>): Promise<{ stream: Stream; gate: Gate }> {
  const gate: Gate = { shut: true }
  return { stream: await memoryStream({ ...QUIET, ...options }, gate), gate }
}

const firstBytes = (stream: Stream): number[] => stream.packets.map(({ bytes }) => bytes.at(-1000)!)

test('a send beyond the bound rejects with the figures and the remedy, and queues nothing', async () => {
  const { stream, gate } = await gated({ maxQueuedBytes: 2000 })
  const taken = [stream.sendHeap(heapOf(1)), stream.sendHeap(heapOf(2))]
  const { queuedBytes } = stream.stats()
  expect(queuedBytes).toBeGreaterThanOrEqual(2000)
  expect(queuedBytes).toBeLessThan(2400)
  await expect(stream.sendHeap(heapOf(3))).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_QUEUE_FULL',
    message: expect.stringMatching(
      new RegExp(`sendHeaps: ${queuedBytes} bytes are queued, and maxQueuedBytes is 2000; await stream.ready .*queueFull: 'wait'`),
    ),
  })
  const batch = filledBatch(stream, 0)
  await expect(stream.send(batch)).rejects.toEqual(FULL)
  expect(batch.state).toBe('free')
  expect(stream.stats()).toMatchObject({ inFlight: 2, queuedBytes })
  gate.shut = false
  await Promise.all(taken)
  expect(stream.stats().queuedBytes).toBe(0)
  await stream.send(batch)
  expect(firstBytes(stream).slice(0, 2)).toEqual([1, 2])
  expect(stream.packets).toHaveLength(4)
})

test('a refusal that nobody looks at surfaces at the next call', async () => {
  const { stream } = await gated({ maxQueuedBytes: 1 })
  stream.sendHeap(heapOf(1))
  stream.sendHeap(heapOf(2))
  expect(() => stream.sendHeap(heapOf(3))).toThrow(FULL)
})

test('one send larger than the bound goes', async () => {
  const { stream, gate } = await gated({ maxQueuedBytes: 10 })
  gate.shut = false
  expect(await stream.sendHeap(heapOf(1))).toMatchObject({ heaps: 1 })
  expect(await stream.send(filledBatch(stream, 0))).toMatchObject({ heaps: 2 })
})

test('ready is pending at the bound, one promise for all, and fulfils when there is room', async () => {
  const { stream, gate } = await gated({ maxQueuedBytes: 2000 })
  await stream.ready
  stream.sendHeap(heapOf(1))
  await stream.ready
  stream.sendHeap(heapOf(2))
  const { ready } = stream
  expect(stream.ready).toBe(ready)
  expect(await Promise.race([ready, turn()])).toBe('pending')
  gate.shut = false
  await ready
  await stream.sendHeap(heapOf(3))
  expect(firstBytes(stream)).toEqual([1, 2, 3])
})

test.for(['close', 'destroy'] as const)('%s settles ready and what waits', async (how) => {
  const { stream, gate } = await gated({ maxQueuedBytes: 1, queueFull: 'wait' })
  const sends = [1, 2, 3].map((value) => stream.sendHeap(heapOf(value)))
  const { ready } = stream
  expect(await Promise.race([ready, turn()])).toBe('pending')
  if (how === 'close') gate.shut = false
  const fates = Promise.allSettled(sends)
  await stream[how]()
  await ready
  await stream.ready
  const [, ...others] = await fates
  expect(others.map(({ status }) => status)).toEqual(how === 'close' ? ['fulfilled', 'fulfilled'] : ['rejected', 'rejected'])
  if (how === 'destroy') for (const fate of others) expect(fate).toMatchObject({ reason: { code: 'ERR_SPEADCAST_ABORTED' } })
  else expect(firstBytes(stream)).toEqual([1, 2, 3])
})

test('a deadline counts the heaps that waited', async () => {
  const { stream } = await gated({ maxQueuedBytes: 1, queueFull: 'wait' })
  for (const value of [1, 2, 3]) stream.sendHeap(heapOf(value))
  expect(await stream.close({ deadlineSeconds: 0.01 })).toEqual({ droppedHeaps: 3 })
})

test('what waits is copied when there is room, and everything goes in order', async () => {
  const { stream, gate } = await gated({ maxQueuedBytes: 1, queueFull: 'wait' })
  const samples = new Uint8Array(1000)
  const batch = filledBatch(stream, 50)
  const sends = [stream.sendHeap(heapOf(1)), stream.sendHeap(heapOf(2, samples)), stream.send(batch)]
  expect(batch.state).toBe('in-flight')
  stream.setCntSequence(100, 10)
  sends.push(stream.sendHeaps([{ heap: heapOf(3) }, { heap: heapOf(4) }], 'serial'), stream.sendEnd())
  expect(stream.stats().queuedBytes).toBeLessThan(1100)
  samples[0] = 22
  const flushed = stream.flush()
  gate.shut = false
  await flushed
  const results = await Promise.all(sends)
  expect(results.map(({ firstCnt }) => firstCnt)).toEqual([1, 2, 3, 100, 120])
  expect(stream.packets.map(({ bytes }) => bytes.at(-1000)!).slice(0, 2)).toEqual([1, 22])
  expect(stream.packets).toHaveLength(7)
  expect(stream.stats().queuedBytes).toBe(0)
})

test('a waiting send is withdrawn by its signal, without a heap cnt', async () => {
  const { stream, gate } = await gated({ maxQueuedBytes: 1, queueFull: 'wait' })
  const controller = new AbortController()
  stream.sendHeap(heapOf(1))
  const withdrawn = stream.sendHeap(heapOf(2), { signal: controller.signal })
  const last = stream.sendHeap(heapOf(3))
  controller.abort(new Error('not needed'))
  await expect(withdrawn).rejects.toThrow('not needed')
  gate.shut = false
  expect(await last).toMatchObject({ firstCnt: 2 })
  expect(firstBytes(stream)).toEqual([1, 3])
})

test('values that cannot be sent reject when their turn comes, and those behind them go', async () => {
  const { stream, gate } = await gated({ maxQueuedBytes: 1, queueFull: 'wait' })
  stream.sendHeap(heapOf(1))
  const item = new Item({ id: TIMESTAMP, name: 'x', dtype: 'u1', value: () => wrong })
  let wrong = 1
  const bad = stream.sendHeap(new Heap().addItem(item))
  const good = stream.sendHeap(heapOf(3))
  wrong = 256
  gate.shut = false
  await expect(bad).rejects.toMatchObject({ code: 'ERR_SPEADCAST_VALUE' })
  expect(await good).toMatchObject({ firstCnt: 2 })
})

test('descriptors in a heap whose values cannot be sent have told nothing', async () => {
  const { stream, gate } = await gated({ descriptors: { everySeconds: 60 }, maxQueuedBytes: 1, queueFull: 'wait' })
  stream.sendHeap(heapOf(1))
  let wrong = 1
  const item = new Item({ id: TIMESTAMP, name: 'x', dtype: 'u1', value: () => wrong })
  const bad = stream.sendHeap(new Heap().addDescriptor(item).addItem(item))
  wrong = 256
  gate.shut = false
  await expect(bad).rejects.toMatchObject({ code: 'ERR_SPEADCAST_VALUE' })
  wrong = 2
  await stream.sendHeap(new Heap().addItem(item))
  // The descriptor of each item goes ahead of the item's heap.
  expect(stream.packets.map(parse).map(({ descriptors }) => descriptors)).toEqual([1, 0, 1, 0])
})

test.for(['udp', 'udp inline', 'dgram', 'pcap'] as const)(
  '%s: 400 sends that nobody awaits wait for room, and all go in order',
  async (kind, ctx) => {
    const { stream, packets } = await openOutlet(ctx, kind, { ...QUIET, maxQueuedBytes: 8000, queueFull: 'wait' })
    const heaps = Array.from({ length: 400 }, (_, i) => heapOf(i & 0xff))
    for (const heap of heaps) {
      stream.sendHeap(heap)
      expect(stream.stats().queuedBytes).toBeLessThan(9100)
    }
    await stream.flush()
    const seen = await packets(400)
    expect(seen.map(({ cnt, data }) => [cnt, data[0]])).toEqual(heaps.map((_, i) => [i + 1, i & 0xff]))
  },
)

test.for(['udp', 'udp inline'] as const)('%s: awaiting ready, no send is refused', async (kind, ctx) => {
  const { stream, packets } = await openOutlet(ctx, kind, { ...QUIET, maxQueuedBytes: 4000 })
  const sends: Promise<unknown>[] = []
  for (let i = 0; i < 200; i++) {
    await stream.ready
    sends.push(stream.sendHeap(heapOf(i & 0xff)))
  }
  await Promise.all(sends)
  expect(await packets(200)).toHaveLength(200)
})

test.for(['reject', 'wait'] as const)('%s: adapters wait for room', async (queueFull, ctx) => {
  const { stream, packets } = await openOutlet(ctx, 'udp', { ...QUIET, maxQueuedBytes: 500, queueFull })
  const samples = new Uint8Array(1000)
  function* heaps() {
    for (let i = 0; i < 50; i++) yield heapOf(i, samples)
  }
  expect(await sendAll(stream, heaps(), { inFlight: 64 })).toMatchObject({ heaps: 50 })
  const items = new ItemGroup().add({ name: 'samples', dtype: 'u1', shape: [1000] })
  const writer = sampleWriter(stream, { items, item: 'samples', heapsPerBatch: 2 })
  await writer.write(Uint8Array.from({ length: 20_500 }, (_, i) => 50 + Math.floor(i / 1000)))
  expect(await writer.end()).toMatchObject({ heaps: 21, failedHeaps: 0 })
  const ring = createBatchRing(stream, { items, heaps: 1, batches: 4, views: { samples: Uint8Array } })
  for (let i = 0; i < 29; i++) {
    const batch = ring[i % ring.length]!
    await batch.free
    batch.heap(0).samples.fill(71 + i)
    if (queueFull === 'reject') await stream.ready
    stream.send(batch)
  }
  await stream.flush()
  expect((await packets(100)).map(({ data }) => data[0])).toEqual(Array.from({ length: 100 }, (_, i) => i))
})

test.for([
  [{ maxQueuedBytes: 0 }, /maxQueuedBytes.*from 1 up/],
  [{ maxQueuedBytes: 1.5 }, /maxQueuedBytes.*whole number/],
  [{ maxQueuedBytes: '1' }, /maxQueuedBytes.*number of bytes/],
  [{ maxQueuedBytes: 1, queueFull: 'drop' }, /queueFull.*'reject' or 'wait'/],
  [{ queueFull: 'wait' }, /maxQueuedBytes, which is not given/],
] as const)('%j is refused', async ([options, message]) => {
  const opening = openStream({ to: '10.0.0.1:7148', backend: 'memory', ...(options as object) })
  await expect(opening).rejects.toMatchObject({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(message) })
})

test('20,000 sends of 8 KiB that nobody awaits stay within the bound', { timeout: 60_000 }, async (ctx) => {
  const { stream } = await openOutlet(ctx, 'udp', { ...QUIET, rate: 400e6, maxQueuedBytes: 2 ** 20, queueFull: 'wait' })
  const heap = new Heap().addItem(
    new Item({ id: SAMPLES, name: 'samples', dtype: 'u1', shape: [8192], value: new Uint8Array(8192) }),
  )
  const before = process.memoryUsage.rss()
  for (let i = 0; i < 20_000; i++) stream.sendHeap(heap)
  const grown = process.memoryUsage.rss() - before
  expect(grown).toBeLessThan(100 * 2 ** 20)
  await stream.flush()
  expect(stream.stats()).toMatchObject({ heapsSent: 20_000, queuedBytes: 0 })
})
