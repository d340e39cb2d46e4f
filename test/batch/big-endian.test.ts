/** Views of big-endian items: values in, the wire's order in memory. Expected bytes are from IEEE 754 and two's complement. */
import { inspect } from 'node:util'
import { describe, expect, test } from 'vitest'
import { attachBatch, type BigEndianBigIntView, BigEndianView, type DtypeText, ItemGroup, sampleWriter } from '#dist/src/index.js'
import { memoryStream, taken } from './support.js'

type View = BigEndianView | BigEndianBigIntView

async function viewOf(dtype: DtypeText, elements: number, before = 0) {
  const stream = await memoryStream({ packetSizeBytes: 8972 })
  const items: ItemGroup = new ItemGroup()
  if (before > 0) items.add({ name: 'before', dtype: 'u1', shape: [before] })
  items.add({ name: 'x', dtype, shape: [elements] })
  const batch = stream.createBatch({ items, heaps: 3 })
  const view = batch.heap(1).x as unknown as View
  const wire = async (): Promise<string> => {
    await stream.send(batch)
    const packets = taken(stream)
    expect(packets).toHaveLength(3)
    const bytes = (packet: Uint8Array): string => Buffer.from(packet.subarray(packet.length - view.byteLength)).toString('hex')
    expect([bytes(packets[0]!), bytes(packets[2]!)]).toEqual(['00'.repeat(view.byteLength), '00'.repeat(view.byteLength)])
    return bytes(packets[1]!)
  }
  return { batch, view, wire }
}

/** dtype, class, values, their wire, and a typed array of them. */
const CASES: [DtypeText, string, (number | bigint)[], string, ArrayLike<number> | ArrayLike<bigint>][] = [
  ['>i2', 'BigEndianView', [1000, -2, 32767, -32768], '03e8fffe7fff8000', Int16Array.of(1000, -2, 32767, -32768)],
  ['>u2', 'BigEndianView', [1000, 65535, 0, 256], '03e8ffff00000100', Uint16Array.of(1000, 65535, 0, 256)],
  ['>i4', 'BigEndianView', [-2, 16909060], 'fffffffe01020304', Int32Array.of(-2, 16909060)],
  ['>u4', 'BigEndianView', [4294967294, 1], 'fffffffe00000001', Uint32Array.of(4294967294, 1)],
  ['>f4', 'BigEndianView', [1.5, -2], '3fc00000c0000000', Float32Array.of(1.5, -2)],
  ['>f8', 'BigEndianView', [1000, -0.5], '408f400000000000bfe0000000000000', Float64Array.of(1000, -0.5)],
  ['>f2', 'BigEndianView', [1000, -2, 2 ** -14, 0], '63d0c00004000000', Float32Array.of(1000, -2, 2 ** -14, 0)],
  ['>c8', 'BigEndianView', [1.5, -2], '3fc00000c0000000', Float32Array.of(1.5, -2)],
  ['>c16', 'BigEndianView', [-2, 0], 'c0000000000000000000000000000000', Float64Array.of(-2, 0)],
  ['>i8', 'BigEndianBigIntView', [-2n, 1000n], 'fffffffffffffffe00000000000003e8', BigInt64Array.of(-2n, 1000n)],
  ['>u8', 'BigEndianBigIntView', [2n ** 64n - 2n, 1n], 'fffffffffffffffe0000000000000001', BigUint64Array.of(2n ** 64n - 2n, 1n)],
  ['>M8[ns]', 'BigEndianBigIntView', [-2n, 7n], 'fffffffffffffffe0000000000000007', BigInt64Array.of(-2n, 7n)],
]

test.for(CASES)('%s: %s', async ([dtype, kind, values, hex, native]) => {
  const elements = dtype.startsWith('>c') ? values.length / 2 : values.length
  // At any byte: an item of odd length stands before it.
  for (const before of [0, 9]) {
    const { view: made, wire } = await viewOf(dtype, elements, before)
    // Its numbers are bigints where the case's are.
    const view = made as BigEndianView
    expect(view.constructor.name).toBe(kind)
    expect([view.length, view.byteLength]).toEqual([values.length, hex.length / 2])
    for (const [i, value] of values.entries()) view.set(i, value as never)
    expect(await wire()).toBe(hex)
    view.bytes.fill(0)
    view.set(values as never)
    expect(await wire()).toBe(hex)
    view.bytes.fill(0)
    view.set(native as never)
    expect(await wire()).toBe(hex)
    const close = values.map((value) => (typeof value === 'bigint' ? value : expect.closeTo(value, 6)))
    expect(values.map((_, i) => view.get(i))).toEqual(close)
    expect([...view]).toEqual(close)
    expect(Buffer.from(view.bytes).toString('hex')).toBe(hex)
    // A part is a view of the same memory.
    view.subarray(1).set(view.subarray(0, -1) as never)
    expect(view.get(1)).toEqual(close[0])
    view.fill(values[1] as never)
    expect([...new Set([...view].map(String))]).toHaveLength(1)
    expect(await wire()).toBe(hex.slice(hex.length / values.length, (2 * hex.length) / values.length).repeat(values.length))
  }
})

describe('fill', () => {
  test('of any length and part writes that number and no other', async () => {
    for (const length of [1, 2, 3, 7, 64, 1000]) {
      const { view, wire } = await viewOf('>i2', length + 8)
      ;(view as BigEndianView).fill(1000, 4, -4)
      expect(await wire()).toBe(`${'0000'.repeat(4)}${'03e8'.repeat(length)}${'0000'.repeat(4)}`)
      ;(view as BigEndianView).fill(5, 3, 3)
      expect(await wire()).toBe(`${'0000'.repeat(4)}${'03e8'.repeat(length)}${'0000'.repeat(4)}`)
    }
  })
})

test('a long array is swapped as its numbers one by one are', async () => {
  for (const [dtype, array] of [
    ['>i2', Int16Array.from({ length: 3000 }, (_, i) => i * 40503)],
    ['>u4', Uint32Array.from({ length: 1500 }, (_, i) => i * 2654435761)],
    ['>f8', Float64Array.from({ length: 700 }, (_, i) => Math.sqrt(i))],
  ] as const) {
    const { view } = await viewOf(dtype, array.length + 5, 3)
    ;(view as BigEndianView).set(array, 5)
    const once = Buffer.from(view.bytes).toString('hex')
    view.bytes.fill(0)
    array.forEach((value, i) => {
      ;(view as BigEndianView).set(5 + i, value)
    })
    expect(Buffer.from(view.bytes).toString('hex')).toBe(once)
    expect((view as BigEndianView).get(5 + 77)).toBe(array[77])
  }
})

test('a store by index, and a number that does not fit, throw what to call and what fits', async () => {
  const { view: numbers } = await viewOf('>i2', 8)
  const view = numbers as BigEndianView & { [index: number]: number }
  const refusal = (message: RegExp, code = 'ERR_SPEADCAST_VALUE') =>
    expect.objectContaining({ code, message: expect.stringMatching(message) })
  expect(() => {
    view[3] = 1
  }).toThrow(refusal(/a BigEndianView has no \[3\].*call set\(3, value\)/))
  expect(() => view[0]).toThrow(refusal(/call get\(0\)/))
  expect(() => {
    view[-1] = 1
  }).toThrow(refusal(/set\(-1, value\)/))
  expect(() => view.set(0, 40000)).toThrow(refusal(/^item 'x'\[0\]: 40000 is out of range for i16 \(-32768 to 32767\)/))
  expect(() => view.set(0, 1.5)).toThrow(refusal(/1.5 is not a whole number/))
  expect(() => view.fill(Number.NaN)).toThrow(refusal(/NaN is not a whole number/))
  expect(() => view.set(8, 1)).toThrow(refusal(/has 8 numbers, 0 to 7, and none at 8/))
  expect(() => view.get(-1)).toThrow(refusal(/none at -1/))
  expect(() => view.set([1, 2, 3], 6)).toThrow(refusal(/3 numbers from 6 on do not fit item 'x', whose view has 8/))
  expect(() => view.set([1, 2, 'x'] as never)).toThrow(refusal(/item 'x'\[2\]: 'x' is not a number/))
  expect([...view].slice(3)).toEqual([0, 0, 0, 0, 0])
  const { view: half } = await viewOf('>f2', 8)
  expect(() => (half as BigEndianView).set(0, 1e6)).toThrow(refusal(/out of range for f16/))
  const { view: wide } = await viewOf('>i8', 2)
  expect(() => (wide as BigEndianBigIntView).set(0, 2n ** 63n)).toThrow(refusal(/out of range for i64/))
  // As items take them.
  ;(wide as BigEndianBigIntView).set(0, 5 as never)
  expect((wide as BigEndianBigIntView).get(0)).toBe(5n)
})

test('it is looked at as other objects are', async () => {
  const { view } = await viewOf('>i2', 4)
  ;(view as BigEndianView).set([1, 2, 3, -4])
  expect(inspect(view)).toBe('BigEndianView i2 [ 1, 2, 3, -4 ]')
  expect(inspect({ view }, { depth: 0 })).toBe('{ view: [BigEndianView i2] }')
  expect(inspect(Object.create(BigEndianView.prototype))).toBe('[BigEndianView]')
  const { view: long } = await viewOf('>u4', 100)
  expect(inspect(long, { breakLength: Infinity, compact: true })).toBe(
    'BigEndianView u4 [ 0, 0, 0, 0, 0, 0, 0, 0, ... 92 more items ]',
  )
  expect(await view).toBe(view)
  expect(view).toEqual(view)
  expect(() => JSON.stringify(view)).not.toThrow()
  expect(0 in view).toBe(false)
})

test('values of items, a writer of raw samples and another thread’s views have the wire’s order too', async () => {
  const stream = await memoryStream({ packetSizeBytes: 8972 })
  const items = new ItemGroup().add({ name: 'x', dtype: '>i2', shape: [4], value: [1000, -2, 3, 4] })
  const batch = stream.createBatch({ items, heaps: 1 })
  expect([...batch.heap(0).x]).toEqual([1000, -2, 3, 4])
  using attached = attachBatch(structuredClone(batch.handle()))
  attached.heap(0).x.set(3, 1000)
  await stream.send(batch)
  const writer = sampleWriter(stream, { items, item: 'x', heapsPerBatch: 1 })
  await writer.write(Uint8Array.of(3, 0xe8, 0xff, 0xfe, 0, 3, 0, 4))
  await writer.end()
  const sent = taken(stream).map((packet) => Buffer.from(packet.subarray(packet.length - 8)).toString('hex'))
  expect(sent).toEqual(['03e8fffe000303e8', '03e8fffe00030004'])
})

test('bytes alone have a Uint8Array: strings, long doubles, packed fields', async () => {
  const stream = await memoryStream()
  const items = new ItemGroup()
    .add({ name: 'u', dtype: '>U4' })
    .add({ name: 'g', dtype: '>f16', shape: [2] })
    .add({ name: 's', dtype: '>S16' })
    .add({ name: 'p', format: [['u', 10]], shape: [8] })
    .add({ name: 'b', dtype: '>i1', shape: [16] })
  const heap = stream.createBatch({ items, heaps: 1 }).heap(0)
  expect([heap.u, heap.g, heap.s, heap.p, heap.b].map((view) => view.constructor.name)).toEqual([
    ...['Uint8Array', 'Uint8Array', 'Uint8Array', 'Uint8Array', 'Int8Array'],
  ])
})
