/** What a receiver says of immediates as numbers is what their sender has put into the columns of its batch. */

import { ItemGroup, type ItemInit, makeFlavour, openStream, type Stream, type StreamOptions } from 'speadcast'
import { openReceiver, type ReceivedHeap } from 'speadcast/receive'
import { expect, test } from 'vitest'
import { freePort } from './support.js'

type Kind = Partial<ItemInit>
/** The kinds of numbers of up to 6 bytes, with values of which each has other bytes. */
const KINDS: readonly (readonly [Kind, readonly number[]])[] = [
  [{ format: [['u', 48]] }, [0, 0x0102_0304_0506, 2 ** 48 - 1]],
  [{ format: [['i', 48]] }, [-1, -(2 ** 47), 0x0102_0304_0506]],
  [{ format: [['i', 24]] }, [-2, 0x01_0203, -(2 ** 23)]],
  [{ format: [['u', 8]] }, [0, 200, 255]],
  [{ dtype: 'i1' }, [-128, 127, -1]],
  [{ dtype: 'u1' }, [128, 127, 255]],
  [{ dtype: '<i2' }, [-300, 0x0102, -1]],
  [{ dtype: '>i2' }, [-300, 0x0102, -1]],
  [{ dtype: '<u4' }, [1, 0xfffe_fdfc, 0x0102_0304]],
  [{ dtype: '>i4' }, [-1, 0x0102_0304, -(2 ** 31)]],
  [{ dtype: '<f4' }, [0.5, -1e10, Math.fround(0.1)]],
  [{ dtype: '>f4' }, [0.5, -1e10, Math.fround(0.1)]],
  [{ format: [['f', 32]] }, [0.5, Number.NEGATIVE_INFINITY, Math.fround(0.1)]],
  [{ dtype: '<i2', shape: [1] }, [-300, 0x0102, -1]],
  // Not one number: the bytes as a whole number, big-endian.
  [{ dtype: '<u2', shape: [2] }, [0x0102_0304, 1, 0xffff_ffff]],
]

/** The heaps with data that came of what `send` sends. */
async function received(options: Partial<StreamOptions>, send: (stream: Stream) => void): Promise<ReceivedHeap[]> {
  const to = `127.0.0.1:${await freePort()}`
  await using receiver = await openReceiver({ endpoints: to, timeoutSeconds: 10 })
  await using stream = await openStream({ to, ...options })
  send(stream)
  await stream.sendEnd()
  const heaps: ReceivedHeap[] = []
  for await (const heap of receiver) if (heap.items.size > 0) heaps.push(heap)
  return heaps
}

const valuesOf = (heap: ReceivedHeap | undefined) => [...heap!.items.values()].map(({ value }) => value)

test('numbers of all kinds, by their descriptors', async () => {
  const items = new ItemGroup()
  for (const [i, [kind]] of KINDS.entries()) items.add({ name: `item ${i}`, ...kind })
  const heaps = await received({}, (stream) => {
    const batch = stream.createBatch({ items, heaps: 3 })
    for (const [i, [, values]] of KINDS.entries()) batch.immediate(`item ${i}`).set(values)
    stream.send(batch)
  })
  expect(heaps.map(valuesOf)).toEqual([0, 1, 2].map((j) => KINDS.map(([, values]) => values[j])))
})

test('without a descriptor, the whole number that stands in the item pointer', async () => {
  const items = new ItemGroup().add({ name: 'a', format: [['u', 48]] }).add({ name: 'b', dtype: '<i2' })
  const [heap] = await received({ descriptors: 'none' }, (stream) => {
    const batch = stream.createBatch({ items, heaps: 1 })
    batch.immediate('a')[0] = 2 ** 48 - 1
    batch.immediate('b')[0] = 0x0102
    stream.send(batch)
  })
  expect(valuesOf(heap)).toEqual([2 ** 48 - 1, 0x0201])
})

test('beyond 2^53 a bigint, and none of an addressed item', async () => {
  const flavour = { heapAddressBits: 56 }
  const items = new ItemGroup({ flavour: makeFlavour(flavour) })
    .add({ id: 16, name: 'most', format: [['u', 56]], value: 2n ** 56n - 1n })
    .add({ id: 17, name: 'least', format: [['i', 56]], value: -(2n ** 55n) })
    .add({ id: 18, name: 'exact', format: [['u', 56]], value: 2 ** 53 - 1 })
    .add({ id: 19, name: 'samples', dtype: 'u1', shape: [100], value: new Uint8Array(100) })
  const [heap] = await received({ flavour }, (stream) => stream.sendHeap(items.getHeap()))
  expect(valuesOf(heap)).toEqual([2n ** 56n - 1n, -(2n ** 55n), 2 ** 53 - 1, undefined])
})
