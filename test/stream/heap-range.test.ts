// stream.send with firstHeap: any run of a batch's heaps, with the cnts, immediates, rates and fates of those heaps.

import { SendError } from 'speadcast'
import { expect, test } from 'vitest'
import { filledBatch, memoryStream, OUTLETS, openOutlet, parse, TIMESTAMP, turn, wholeHeaps } from './support.js'

test.for(OUTLETS)('%s: a run of heaps, then all, then another', async (kind, ctx) => {
  const { stream, packets } = await openOutlet(ctx, kind, { descriptors: 'none' }, 2)
  const batch = filledBatch(stream, 10, { heaps: 6 })
  expect(await stream.send(batch, { firstHeap: 1, heaps: 3 })).toMatchObject({ heaps: 3, firstCnt: 1, payloadBytes: 300 })
  expect(await stream.send(batch)).toMatchObject({ heaps: 6, firstCnt: 4 })
  expect(await stream.send(batch, { firstHeap: 5 })).toMatchObject({ heaps: 1, firstCnt: 10 })
  const seen = (await packets(10)).sort((a, b) => a.cnt - b.cnt)
  expect(seen.map((packet) => [packet.cnt, packet.value(TIMESTAMP), packet.substream])).toEqual(
    [1, 2, 3, 0, 1, 2, 3, 4, 5, 5].map((j, i) => [i + 1, 10 + j, j % 2]),
  )
  expect(wholeHeaps(seen, 1)).toHaveLength(10)
})

test.for(['serial', 'round-robin', 'by-substream'] as const)('%s: order within the run', async (groupMode) => {
  const stream = await memoryStream({ descriptors: 'none', to: '10.0.0.1+1:7148' })
  const batch = filledBatch(stream, 0, { heaps: 6, groupMode })
  await stream.send(batch, { firstHeap: 2 })
  const order = { serial: [2, 3, 4, 5], 'round-robin': [2, 3, 4, 5], 'by-substream': [2, 4, 3, 5] }[groupMode]
  expect(stream.packets.map(parse).map((packet) => packet.value(TIMESTAMP))).toEqual(order)
})

test('explicit cnts, and values that are no ramp, are those of the heaps', async () => {
  const stream = await memoryStream({ descriptors: 'none' })
  const batch = filledBatch(stream, 0, { heaps: 5 })
  batch.immediate('timestamp').set([9, 7, 70, 700, 5])
  await stream.send(batch, { firstHeap: 1, heaps: 3 })
  batch.cnts.set([-1, -1, 500, -1, -1])
  await stream.send(batch, { firstHeap: 2, heaps: 2 })
  expect(stream.packets.map(parse).map((packet) => [packet.cnt, packet.value(TIMESTAMP)])).toEqual([
    [1, 7],
    [2, 70],
    [3, 700],
    [500, 70],
    [4, 700],
  ])
})

test('rates are those of the heaps', async () => {
  const paced = async (firstHeap: number) => {
    const stream = await memoryStream({ descriptors: 'none', rate: 1e9, burstBytes: 1 })
    // A heap has 164 bytes with its header.
    const batch = filledBatch(stream, 0, { heaps: 4, rates: [20_000, 20_000, 0, 0] })
    for (let i = 0; i < 2; i++) await stream.send(batch, { firstHeap, heaps: 2 })
    return stream.stats().pacedNanoseconds
  }
  expect(await paced(2)).toBe(0)
  expect(await paced(0)).toBeGreaterThan(10e6)
})

test('fates count from the first heap that is sent; values outside of the run are not looked at', async () => {
  const stream = await memoryStream({ descriptors: 'none' }, { shut: false, refuse: (row) => row === 2 })
  const batch = filledBatch(stream, 0, { heaps: 6 })
  batch.immediate('timestamp')[0] = -1
  const error = await stream.send(batch, { firstHeap: 1 }).catch((error) => error)
  expect(error).toBeInstanceOf(SendError)
  expect(error.outcome).toMatchObject({ heaps: ['sent', 'sent', 'failed', 'sent', 'sent'], failedHeaps: [2] })
  expect(() => stream.send(batch)).toThrow(/immediate 'timestamp' of heap 0 is -1/)
  await turn(0)
})

test.for([
  [{ firstHeap: -1 }, /firstHeap is -1; the batch has 0 to 1/],
  [{ firstHeap: 2 }, /firstHeap is 2; the batch has 0 to 1/],
  [{ firstHeap: 0.5 }, /firstHeap is 0.5/],
  [{ firstHeap: 1, heaps: 2 }, /heaps is 2; the batch has 1 to 1 from heap 1 on/],
] as const)('%j is refused', async ([options, message]) => {
  const stream = await memoryStream({ descriptors: 'none' })
  const batch = filledBatch(stream, 0)
  expect(() => stream.send(batch, options)).toThrow(
    expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE', message: expect.stringMatching(message) }),
  )
})

test('bigints are refused as what they are, also where the number of heaps is to follow from one', async () => {
  const stream = await memoryStream({ descriptors: 'none' })
  const batch = filledBatch(stream, 0)
  const sent = (options: object) => () => stream.send(batch, options)
  const refused = (message: RegExp) =>
    expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE', message: expect.stringMatching(message) })
  expect(sent({ firstHeap: 1n })).toThrow(refused(/firstHeap is 1n; the batch has 0 to 1/))
  expect(sent({ heaps: 1n })).toThrow(refused(/heaps is 1n; the batch has 1 to 2/))
})
