// Heaps by spead2's vocabulary: compiled once for each shape of list, values copied at the call; heap cnts; stream control.

import { Heap, Item, ItemGroup, type Stream } from 'speadcast'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { filledBatch, itemsOf, memoryStream, numberHeap, OUTLETS, openOutlet, parse, STREAM_CTRL, timestampsOf } from './support.js'

/** The package's own, because `#dist` has another instance of the class. */
const { Engine } = await import(new URL('../../lib/io.js', import.meta.url).href)

/** Counts what the sending side is given to compile. */
function countCompilations() {
  const spy = vi.spyOn(Engine.prototype, 'addVariant')
  onTestFinished(() => spy.mockRestore())
  return () => spy.mock.calls.length
}

const timestamps = (stream: Stream) => timestampsOf(stream.packets.map(parse))
const cnts = (stream: Stream) => stream.packets.map(parse).map(({ cnt }) => cnt)
const raw = (bytes: Uint8Array, id = 0x3000) => new Heap().addRaw({ id, bytes, allowImmediate: false })

describe('lists of heaps are compiled once', () => {
  test('whatever their values and cnts, one after the other', async () => {
    const compiled = countCompilations()
    const stream = await memoryStream()
    for (let n = 0; n < 200; n++) await stream.sendHeap(numberHeap(n), n % 2 === 0 ? {} : { cnt: 1000 + n })
    expect(compiled()).toBe(1)
    for (let n = 0; n < 50; n++)
      await stream.sendHeaps([{ heap: raw(new Uint8Array(500).fill(n)) }, { heap: numberHeap(n) }], 'serial')
    expect(compiled()).toBe(2)
    expect(timestamps(stream)).toEqual([...Array(200).keys(), ...Array(50).keys()])
  })

  test('as often as there are some under way at once, and then no more', async () => {
    const compiled = countCompilations()
    const stream = await memoryStream()
    for (let round = 0; round < 5; round++) {
      for (let n = 0; n < 20; n++) stream.sendHeap(numberHeap(20 * round + n))
      await stream.flush()
    }
    expect(compiled()).toBe(20)
    expect(timestamps(stream)).toEqual([...Array(100).keys()])
  })

  test('anew where packets, substreams, order or pace are others', async () => {
    const compiled = countCompilations()
    const stream = await memoryStream({ to: '10.0.0.1+1:7148', rate: '1GB/s' })
    const twice = async (send: () => Promise<unknown>) => {
      await send()
      await send()
      return compiled()
    }
    const list = [{ heap: raw(new Uint8Array(3000)) }, { heap: raw(new Uint8Array(3000)) }]
    expect(await twice(() => stream.sendHeaps(list, 'serial'))).toBe(1)
    expect(await twice(() => stream.sendHeaps(list, 'round-robin'))).toBe(2)
    expect(await twice(() => stream.sendHeaps([list[0]!, { ...list[1]!, substream: 1 }], 'serial'))).toBe(3)
    expect(await twice(() => stream.sendHeaps([list[0]!, { ...list[1]!, rateBytesPerSecond: 1e9 }], 'serial'))).toBe(4)
    expect(await twice(() => stream.sendHeaps(list, 'by-substream'))).toBe(5)
    expect(await twice(() => stream.sendHeap(raw(new Uint8Array(3001))))).toBe(6)
    expect(await twice(() => stream.sendHeap(raw(new Uint8Array(3001), 0x3001)))).toBe(7)
    const repeating = raw(new Uint8Array(3001))
    repeating.repeatPointers = true
    expect(await twice(() => stream.sendHeap(repeating))).toBe(8)
  })

  test('and kept while they are among the sixty-four used last', async () => {
    const compiled = countCompilations()
    const stream = await memoryStream()
    for (let bytes = 10; bytes < 110; bytes++) await stream.sendHeap(raw(new Uint8Array(bytes)))
    expect(compiled()).toBe(100)
    for (let bytes = 109; bytes > 109 - 64; bytes--) await stream.sendHeap(raw(new Uint8Array(bytes)))
    expect(compiled()).toBe(100)
    await stream.sendHeap(raw(new Uint8Array(10)))
    expect(compiled()).toBe(101)
    expect(stream.packets.map(parse).map(({ data }) => data.length)).toHaveLength(165)
  })

  test('a batch once for all its sends, and once more for each number of heaps in round-robin', async () => {
    const compiled = countCompilations()
    const stream = await memoryStream({ descriptors: 'none' })
    const serial = filledBatch(stream, 0, { heaps: 4 })
    const turns = filledBatch(stream, 0, { heaps: 4, groupMode: 'round-robin' })
    expect(compiled()).toBe(2)
    for (const heaps of [4, 3, 2, 1, 3, 4]) await stream.send(serial, { heaps })
    expect(compiled()).toBe(2)
    for (const heaps of [4, 3, 2, 1, 3, 4]) await stream.send(turns, { heaps })
    expect(compiled()).toBe(5)
  })
})

describe('values', () => {
  test('are copied when the heap is sent', async () => {
    const stream = await memoryStream()
    const samples = Int16Array.from({ length: 100 }, (_, i) => i)
    const heap = new Heap().addItem(new Item({ id: 0x3300, name: 'x', dtype: '<i2', shape: [100], value: samples }))
    const sends = []
    for (let n = 0; n < 3; n++) {
      samples.fill(n)
      sends.push(stream.sendHeap(heap))
    }
    samples.fill(99)
    await Promise.all(sends)
    const sent = stream.packets.map(parse).map(({ data }) => [...new Set(new Int16Array(data.buffer, data.byteOffset, 100))])
    expect(sent).toEqual([[0], [1], [2]])
  })

  test('of an item group go out once, and again when they have changed', async () => {
    const stream = await memoryStream()
    const items = new ItemGroup().add({ id: 0x1600, name: 'timestamp', format: [['u', 48]], value: 7 })
    await stream.sendHeap(items.getHeap())
    await stream.sendHeap(items.getHeap())
    items.get('timestamp').value = 8
    await stream.sendHeap(items.getHeap())
    const packets = stream.packets.map(parse)
    expect(packets.map(({ descriptors }) => descriptors)).toEqual([1, 0, 0])
    expect(packets.map((packet) => packet.value(0x1600))).toEqual([7, undefined, 8])
  })

  test('bring their own flavour', async () => {
    const stream = await memoryStream()
    const heap = new Heap({ heapAddressBits: 40, bugCompat: 0 }).addRaw({ id: 5000, bytes: Uint8Array.of(1), allowImmediate: true })
    await stream.sendHeap(heap, { cnt: 2 ** 40 - 1 })
    await stream.sendHeap(numberHeap(1), { cnt: 2 ** 48 - 1 })
    // SPEAD packet header: magic, version, bytes of item id and of heap address.
    expect(stream.packets.map(({ bytes }) => [...bytes.subarray(0, 4)])).toEqual([
      [0x53, 4, 3, 5],
      [0x53, 4, 2, 6],
    ])
    expect(cnts(stream)).toEqual([2 ** 40 - 1, 2 ** 48 - 1])
  })
})

describe('sendHeaps', () => {
  test.for(OUTLETS)('is one group: serial, round-robin, by substream, each to its substream: %s', async (kind, ctx) => {
    const { stream, packets } = await openOutlet(ctx, kind, { packetSizeBytes: 200, split: 'greedy' }, 2)
    // 1, 2 and 3 packets of 144 payload bytes: 200 less header, standard pointers and the item's, of which later packets have 160.
    const list = [100, 250, 420].map((bytes, i) => ({
      heap: raw(new Uint8Array(bytes).fill(i)),
      substream: i === 1 ? 1 : 0,
      cnt: 10 * i,
    }))
    expect(await stream.sendHeaps(list, 'serial')).toMatchObject({ heaps: 3, packets: 6, payloadBytes: 770 })
    expect(await stream.sendHeaps(list, 'round-robin')).toMatchObject({ heaps: 3, packets: 6, payloadBytes: 770 })
    expect(await stream.sendHeaps(list, 'by-substream')).toMatchObject({ heaps: 3, packets: 6, payloadBytes: 770 })
    const arrived = await packets(18)
    const of = (substream: number) => arrived.filter((packet) => packet.substream === substream).map(({ cnt }) => cnt)
    expect(of(0)).toEqual([0, 20, 20, 20, 0, 20, 20, 20, 0, 20, 20, 20])
    expect(of(1)).toEqual([10, 10, 10, 10, 10, 10])
    if (kind === 'memory' || kind === 'pcap')
      expect(arrived.map(({ cnt }) => cnt)).toEqual([0, 10, 10, 20, 20, 20, 0, 10, 20, 10, 20, 20, 0, 20, 20, 20, 10, 10])
  })
})

describe('heap cnts', () => {
  test('follow the sequence from the next send on, and wrap at the width', async () => {
    const stream = await memoryStream({ descriptors: 'none', flavour: { heapAddressBits: 40 } })
    const batch = stream.createBatch({ items: itemsOf(), heaps: 2 })
    const sends = [stream.send(batch)]
    stream.setCntSequence(2n ** 40n - 3n, 2)
    sends.push(stream.sendHeap(new Heap(stream.flavour).addStart()), stream.sendHeap(new Heap(stream.flavour).addStart()))
    stream.setCntSequence(7, 2n ** 40n - 1n)
    await batch.free
    sends.push(stream.send(batch))
    const results = await Promise.all(sends)
    expect(results.map(({ firstCnt }) => firstCnt)).toEqual([1, 2 ** 40 - 3, 2 ** 40 - 1, 7])
    // A step of 2^40 − 1 is one of −1.
    expect(cnts(stream)).toEqual([1, 2, 2 ** 40 - 3, 2 ** 40 - 1, 7, 6])
  })

  test('of one’s own leave the sequence alone; −1 is the sequence’s next', async () => {
    const stream = await memoryStream({ descriptors: 'none', firstCnt: 100, cntStep: 100 })
    const batch = filledBatch(stream, 0, { heaps: 4 })
    batch.cnts.set([-1, 5, -1, 2 ** 48 - 1])
    await stream.send(batch)
    await stream.sendHeap(numberHeap(1), { cnt: 0 })
    await stream.sendHeap(numberHeap(2), { cnt: -1 })
    batch.cnts.fill(-1)
    await stream.send(batch, { heaps: 2 })
    expect(cnts(stream)).toEqual([100, 5, 200, 2 ** 48 - 1, 0, 300, 400, 500])
  })

  test('are set in the order of the calls, though sends in front wait', async () => {
    const gate = { shut: true }
    const stream = await memoryStream({}, gate)
    for (let k = 0; k < 2000; k++) {
      stream.sendHeap(numberHeap(k))
      if (k % 500 === 499) stream.setCntSequence(10_000 * (k + 1), 1)
    }
    gate.shut = false
    await stream.flush()
    expect(cnts(stream)).toEqual(
      Array.from({ length: 2000 }, (_, k) => (k < 500 ? 1 + k : 10_000 * 500 * Math.floor(k / 500) + (k % 500))),
    )
  })
})

describe('stream control', () => {
  test.for(OUTLETS)('start and end are a heap of their own on every substream: %s', async (kind, ctx) => {
    const { stream, packets } = await openOutlet(ctx, kind, { descriptors: 'none' }, 3)
    expect(await stream.sendStart()).toMatchObject({ heaps: 3, packets: 3, firstCnt: 1 })
    await stream.send(filledBatch(stream, 0, { heaps: 3 }))
    expect(await stream.sendEnd()).toMatchObject({ heaps: 3, packets: 3, firstCnt: 7 })
    const arrived = await packets(9)
    for (let substream = 0; substream < 3; substream++) {
      const own = arrived.filter((packet) => packet.substream === substream)
      // SPEAD, stream control: 0 starts, 2 stops.
      expect(own.map((packet) => packet.value(STREAM_CTRL))).toEqual([0, undefined, 2])
      expect(own.map(({ cnt }) => cnt)).toEqual([1 + substream, 4 + substream, 7 + substream])
      expect(own[2]!.pointers.find(({ id }) => id === STREAM_CTRL)).toMatchObject({ immediate: true })
    }
  })
})
