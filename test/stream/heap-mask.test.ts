// stream.send with a mask: the heaps that it names, with the cnts, immediates, rates, descriptors and fates of those heaps.

import { ItemGroup, SendError } from 'speadcast'
import { expect, test } from 'vitest'
import { fill, filledBatch, itemsOf, memoryStream, OUTLETS, openOutlet, parse, TIMESTAMP, wholeHeaps } from './support.js'

const QUIET = { descriptors: 'none' } as const
const maskOf = (...bits: number[]): Uint8Array => Uint8Array.from(bits)

test.for(OUTLETS)('%s: some heaps, all, none, others, the same again', async (kind, ctx) => {
  const { stream, packets } = await openOutlet(ctx, kind, QUIET, 2)
  const batch = filledBatch(stream, 10, { heaps: 6 })
  const some = maskOf(1, 0, 255, 1, 0, 1)
  expect(await stream.send(batch, { mask: some })).toMatchObject({ heaps: 4, firstCnt: 1, payloadBytes: 400 })
  expect(await stream.send(batch, { mask: new Uint8Array(6).fill(1) })).toMatchObject({ heaps: 6, firstCnt: 5 })
  expect(await stream.send(batch, { mask: new Uint8Array(6) })).toMatchObject({ heaps: 0, packets: 0, payloadBytes: 0 })
  expect(batch.state).toBe('free')
  expect(await stream.send(batch, { mask: maskOf(0, 1, 0, 0, 0, 0) })).toMatchObject({ heaps: 1, firstCnt: 11 })
  fill(batch, 20)
  expect(await stream.send(batch, { mask: some, firstHeap: 1, heaps: 3 })).toMatchObject({ heaps: 2, firstCnt: 12 })
  const seen = (await packets(13)).sort((a, b) => a.cnt - b.cnt)
  expect(seen.map((packet) => [packet.cnt, packet.value(TIMESTAMP), packet.data[0], packet.substream])).toEqual(
    [0, 2, 3, 5, 0, 1, 2, 3, 4, 5, 1, 2, 3].map((j, i) => [i + 1, (i < 11 ? 10 : 20) + j, (i < 11 ? 10 : 20) + j, j % 2]),
  )
  expect(wholeHeaps(seen, 1)).toHaveLength(13)
})

test.for(['serial', 'round-robin', 'by-substream'] as const)(
  '%s: order within the choice, of one packet a heap or several',
  async (groupMode) => {
    for (const packetSizeBytes of [1472, 100]) {
      const stream = await memoryStream({ ...QUIET, to: '10.0.0.1+2:7148', packetSizeBytes })
      const batch = filledBatch(stream, 0, { heaps: 7, groupMode })
      await stream.send(batch, { mask: maskOf(0, 1, 1, 0, 1, 1, 0) })
      const { packetsPerHeap } = batch
      expect(packetsPerHeap > 1).toBe(packetSizeBytes === 100)
      const order = { serial: [1, 2, 4, 5], 'round-robin': [1, 2, 4, 5], 'by-substream': [1, 4, 2, 5] }[groupMode]
      const rows =
        groupMode === 'round-robin'
          ? Array.from({ length: packetsPerHeap }, () => order).flat()
          : order.flatMap((j) => Array(packetsPerHeap).fill(j) as number[])
      const seen = stream.packets.map(parse)
      expect(seen.map(({ data }) => data[0])).toEqual(rows)
      expect(seen.map(({ substream }) => substream)).toEqual(rows.map((j) => j % 3))
      const cntOf = new Map([1, 2, 4, 5].map((j, i) => [j, 1 + i]))
      expect(seen.map(({ cnt }) => cnt)).toEqual(rows.map((j) => cntOf.get(j)))
    }
  },
)

test('explicit cnts, and values that are no ramp, are those of the heaps; only theirs are looked at', async () => {
  const stream = await memoryStream(QUIET)
  const batch = filledBatch(stream, 0, { heaps: 5 })
  const column = batch.immediate('timestamp')
  column.set([-9, 2 ** 40 + 7, -8, 700, 5])
  const mask = maskOf(0, 1, 0, 1, 1)
  await stream.send(batch, { mask })
  column[3] = 2 ** 41
  batch.cnts.set([-7, -1, -7, 500, -1])
  await stream.send(batch, { mask })
  expect(stream.packets.map(parse).map((packet) => [packet.cnt, packet.value(TIMESTAMP)])).toEqual([
    [1, 2 ** 40 + 7],
    [2, 700],
    [3, 5],
    [4, 2 ** 40 + 7],
    [500, 2 ** 41],
    [5, 5],
  ])
  expect(() => stream.send(batch, { mask: maskOf(0, 1, 1, 0, 0) })).toThrow(/heap cnt of heap 2 is -7/)
  batch.cnts[2] = -1
  expect(() => stream.send(batch, { mask: maskOf(0, 1, 1, 0, 0) })).toThrow(/immediate 'timestamp' of heap 2 is -8/)
})

test('signed, float and repeated immediates', async () => {
  const items = new ItemGroup()
    .add({ id: 0x2000, name: 'i', dtype: '<i2' })
    .add({ id: 0x2001, name: 'f', dtype: '<f4' })
    .add({ id: 0x3300, name: 'x', dtype: 'u1', shape: [300] })
  const stream = await memoryStream({ ...QUIET, packetSizeBytes: 200, repeatPointers: true })
  const batch = stream.createBatch({ items, heaps: 4 })
  batch.immediate('i').set([-1, -2, -3, -4])
  batch.immediate('f').set([0.5, 1.5, 2.5, 3.5])
  await stream.send(batch, { mask: maskOf(0, 1, 0, 1) })
  const swapped = (value: number) => Buffer.from(Int16Array.of(value).buffer).readUInt16BE()
  const float = (value: number) => Buffer.from(Float32Array.of(value).buffer).readUInt32BE()
  const seen = stream.packets.map(parse)
  expect(seen.length).toBe(2 * batch.packetsPerHeap)
  for (const [i, packet] of seen.entries()) {
    const j = i < batch.packetsPerHeap ? 1 : 3
    expect([packet.value(0x2000), packet.value(0x2001)]).toEqual([swapped(-1 - j), float(0.5 + j)])
  }
})

test('rates are those of the heaps', async () => {
  const paced = async (mask: Uint8Array) => {
    const stream = await memoryStream({ ...QUIET, rate: 1e9, burstBytes: 1 })
    const batch = filledBatch(stream, 0, { heaps: 4, rates: [20_000, 0, 20_000, 0] })
    for (let i = 0; i < 2; i++) await stream.send(batch, { mask })
    return stream.stats().pacedNanoseconds
  }
  expect(await paced(maskOf(0, 1, 0, 1))).toBe(0)
  expect(await paced(maskOf(1, 0, 1, 0))).toBeGreaterThan(10e6)
})

test('fates and failed heaps are by the index in the batch', async () => {
  const stream = await memoryStream(QUIET, { shut: false, refuse: (row) => row === 1 })
  const batch = filledBatch(stream, 0, { heaps: 6 })
  const error = await stream.send(batch, { mask: maskOf(1, 0, 0, 1, 1, 0) }).catch((error) => error)
  expect(error).toBeInstanceOf(SendError)
  expect(error.message).toMatch(/^1 of 3 heaps was not sent whole/)
  expect(error.outcome).toMatchObject({ heaps: ['sent', 'skipped', 'skipped', 'failed', 'sent', 'skipped'], failedHeaps: [3] })
})

test('in band, the first heap of each substream that goes carries the descriptors, and lost ones go again', async () => {
  let refused = 0
  const gate = { shut: false, refuse: (_row: number, substream: number) => substream === 1 && refused++ === 0 }
  const stream = await memoryStream({ descriptors: 'in-band', to: '10.0.0.1+1:7148' }, gate)
  const batch = filledBatch(stream, 0, { heaps: 6 })
  const mask = maskOf(0, 1, 1, 1, 1, 0)
  const error = await stream.send(batch, { mask }).catch((error) => error)
  expect(error.outcome.failedHeaps).toEqual([1])
  for (let i = 0; i < 2; i++) await stream.send(batch, { mask })
  expect(stream.packets.map(parse).map((packet) => [packet.value(TIMESTAMP), packet.descriptors > 0])).toEqual([
    ...[
      [2, true],
      [3, false],
      [4, false],
    ],
    ...[
      [1, true],
      [2, false],
      [3, false],
      [4, false],
    ],
    ...[
      [1, false],
      [2, false],
      [3, false],
      [4, false],
    ],
  ])
})

test('twenty masks in turn, more than stay compiled', async () => {
  const stream = await memoryStream(QUIET)
  const batch = filledBatch(stream, 0, { heaps: 5 })
  const expected: number[] = []
  for (let round = 0; round < 2; round++)
    for (let bits = 1; bits < 21; bits++) {
      const mask = Uint8Array.from({ length: 5 }, (_, j) => (bits >> j) & 1)
      await stream.send(batch, { mask })
      for (let j = 0; j < 5; j++) if (mask[j]) expected.push(j)
    }
  expect(stream.packets.map(parse).map(({ data }) => data[0])).toEqual(expected)
})

test('a mask that is written after send does not matter', async () => {
  const stream = await memoryStream(QUIET)
  const batch = stream.createBatch({ items: itemsOf(), heaps: 3 })
  const mask = maskOf(1, 0, 1)
  const sent = stream.send(batch, { mask })
  mask.fill(0)
  expect(await sent).toMatchObject({ heaps: 2 })
})

test.for([
  [new Uint8Array(1), /mask is a Uint8Array of 1 byte; it must be a Uint8Array with a byte for each of the batch's 2 heaps/],
  [[true, false], /mask is an array of 2/],
  ['10', /mask is '10'/],
  [null, /mask is null/],
  [new Uint16Array(2), /mask is a Uint16Array/],
] as const)('%j is refused', async ([mask, message]) => {
  const stream = await memoryStream(QUIET)
  const batch = filledBatch(stream, 0)
  expect(() => stream.send(batch, { mask: mask as Uint8Array })).toThrow(
    expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE', message: expect.stringMatching(message) }),
  )
})
