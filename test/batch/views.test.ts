/** Users write into views per heap and item, in the dtype's own order, the same in every thread and on the wire. */
import { expect, test } from 'vitest'
import { attachBatch, type DtypeText, ItemGroup, type ItemInit } from '#dist/src/index.js'
import { filled, groupOf, memoryStream, rawBytes, samples, taken, timestamp } from './support.js'

/** numpy scalar types with the typed array that has their memory, and values whose bytes are known from IEEE 754 and two's complement. */
const VIEWS: [dtype: DtypeText, view: string, values: (number | bigint)[], wire: string][] = [
  ['|i1', 'Int8Array', [-1, 2, 3, 4, 5, 6, 127], 'ff02030405067f'],
  ['|u1', 'Uint8Array', [255, 2, 3, 4, 5, 6, 7], 'ff020304050607'],
  ['|b1', 'Uint8Array', [1, 0, 1, 1, 0, 0, 1], '01000101000001'],
  ['<i2', 'Int16Array', [-2, 256, 3, 4], 'feff000103000400'],
  ['<u2', 'Uint16Array', [0xfffe, 256, 3, 4], 'feff000103000400'],
  ['<f2', 'Uint16Array', [0x3e00, 1, 2, 3], '003e010002000300'],
  ['<i4', 'Int32Array', [-2, 65536], 'feffffff00000100'],
  ['<u4', 'Uint32Array', [0xfffffffe, 65536], 'feffffff00000100'],
  ['<f4', 'Float32Array', [1.5, -2], '0000c03f000000c0'],
  ['<i8', 'BigInt64Array', [-2n], 'feffffffffffffff'],
  ['<u8', 'BigUint64Array', [2n ** 64n - 2n], 'feffffffffffffff'],
  ['<M8[ns]', 'BigInt64Array', [-2n], 'feffffffffffffff'],
  ['<f8', 'Float64Array', [-2], '00000000000000c0'],
  ['<c8', 'Float32Array', [1.5, -2], '0000c03f000000c0'],
  ['<c16', 'Float64Array', [-2, 0], '00000000000000c00000000000000000'],
  // No typed array has these: their bytes.
  ['|S8', 'Uint8Array', [65, 66, 0, 0, 0, 0, 0, 0], '4142000000000000'],
  ['<U2', 'Uint8Array', [65, 0, 0, 0, 66, 0, 0, 0], '4100000042000000'],
  ['|V7', 'Uint8Array', [1, 2, 3, 4, 5, 6, 7], '01020304050607'],
]

test.for(VIEWS)('%s: %s', async ([dtype, name, values, wire]) => {
  const bytes = Buffer.from(wire, 'hex')
  const size = Number(/\d+/.exec(dtype)![0]) * (/U/.test(dtype) ? 4 : 1)
  const stream = await memoryStream()
  const items = new ItemGroup().add({ id: 0x400, name: 'x', dtype, shape: [bytes.length / size] })
  const batch = stream.createBatch({ items, heaps: 3 })
  const view = batch.heap(1).x
  expect(view.constructor.name).toBe(name)
  expect(view.length).toBe(values.length)
  for (const [i, value] of values.entries()) view[i] = value as number
  await stream.send(batch)
  // SPEAD-64-48: header, five pointers, payload.
  expect(taken(stream).map((packet) => Buffer.from(packet.subarray(48)).toString('hex'))).toEqual([
    '00'.repeat(bytes.length),
    wire,
    '00'.repeat(bytes.length),
  ])
})

test.for([
  ['fields of any width', { format: [['u', 10]], shape: [13] }, 17],
  ['fields of whole bytes, which are big-endian', { format: [['u', 16]], shape: [5] }, 10],
  [
    'a record',
    {
      format: [
        ['u', 24],
        ['f', 32],
      ],
      shape: [2],
    },
    14,
  ],
  ['characters', { format: [['c', 8]], shape: [9] }, 9],
] as [string, Partial<ItemInit>, number][])('%s: the wire bytes', async ([, init, bytes]) => {
  const stream = await memoryStream()
  const items = new ItemGroup().add({ id: 0x400, name: 'x', ...init })
  const batch = stream.createBatch({ items, heaps: 2 })
  const view = batch.heap(1).x!
  expect(view).toBeInstanceOf(Uint8Array)
  expect(view.length).toBe(bytes)
  view.forEach((_, i) => {
    view[i] = 200 + i
  })
  await stream.send(batch)
  expect([...taken(stream)[1]!.subarray(48)]).toEqual(Array.from({ length: bytes }, (_, i) => 200 + i))
})

test('views are made once, by heap and by item, and hold to their own heap', async () => {
  const stream = await memoryStream()
  const items = [timestamp(), samples('a', '<i2', [7]), samples('b', '<f4', [9])]
  const batch = stream.createBatch({ items: groupOf(items), heaps: 4, views: { a: Int16Array, b: Float32Array } })
  expect(batch.heap(2)).toBe(batch.heap(2))
  const views = [...batch.item('a')]
  expect(views).toHaveLength(4)
  for (const [j, view] of views.entries()) {
    expect(view).toBe(batch.heap(j).a)
    view.fill(j + 1)
    batch.heap(j).b.fill(-j - 1)
  }
  for (let j = 0; j < 4; j++) {
    expect([...new Set(batch.heap(j).a)]).toEqual([j + 1])
    expect([...new Set(batch.heap(j).b)]).toEqual([-j - 1])
  }
  // An immediate has a column instead.
  expect(Object.keys(batch.heap(0))).toEqual(['a', 'b'])
})

test('a heap that the batch does not have', async () => {
  const stream = await memoryStream()
  const batch = stream.createBatch({ items: groupOf([samples('a', '|u1', [100])]), heaps: 4 })
  for (const j of [-1, 4, 0.5, Number.NaN, Number.POSITIVE_INFINITY])
    expect(() => batch.heap(j)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE' }))
})

test('a shape of several dimensions is one flat view, in the order of the item', async () => {
  const stream = await memoryStream()
  const items = new ItemGroup().add({ id: 0x400, name: 'f', dtype: '<u2', shape: [2, 3, 4], order: 'F' })
  const batch = stream.createBatch({ items, heaps: 1 })
  expect(batch.heap(0).f.length).toBe(24)
})

test('values that the items have when the batch is made are in every heap, functions called once', async () => {
  const stream = await memoryStream()
  let calls = 0
  const value = () => {
    calls++
    return [1, -2, 3, -4]
  }
  const items = new ItemGroup()
    .add({ id: 0x400, name: 'a', dtype: '<i4', shape: [4], value })
    .add({ id: 0x401, name: 'b', dtype: '>i4', shape: [2], value: [1, -2] })
    .add({ id: 0x402, name: 't', format: [['u', 48]], value: 7 })
  const batch = stream.createBatch({ items, heaps: 3 })
  expect(calls).toBe(1)
  for (let j = 0; j < 3; j++) {
    expect([...batch.heap(j).a]).toEqual([1, -2, 3, -4])
    expect([...batch.heap(j).b]).toEqual([1, -2])
    expect([...batch.heap(j).b.bytes]).toEqual([0, 0, 0, 1, 255, 255, 255, 254])
  }
  expect([...batch.immediate('t')]).toEqual([7, 7, 7])
  // The items are a template: what they are given later is not the batch's. `t` is the seventh pointer.
  items.get('t').value = 8
  await stream.send(batch)
  expect(taken(stream).map((packet) => packet[63])).toEqual([7, 7, 7])
})

test('a handle is plain data, and its views are the batch', async () => {
  const stream = await memoryStream()
  const items = [timestamp(), samples('a', '<i2', [70]), samples('b', '<f4', [9]), samples('none', '|u1', [0])]
  const batch = filled(stream, items, 3)
  const handle = batch.handle()
  expect(structuredClone(handle)).toEqual(handle)
  const attached = attachBatch(structuredClone(handle), { views: { a: Int16Array } })
  expect(attached.heaps).toBe(3)
  for (let j = 0; j < 3; j++) expect(rawBytes(attached.heap(j).a)).toEqual(rawBytes(batch.heap(j).a!))
  attached.heap(1).a.fill(-5)
  attached.immediate('timestamp')[2] = 99
  expect([...new Set(batch.heap(1).a)]).toEqual([-5])
  expect(batch.immediate('timestamp')[2]).toBe(99)
  expect(() => attached.heap(3)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE' }))
})
