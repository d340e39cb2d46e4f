/** A heap has the names of its views and no other, and so do the classes that a user expects. */
import { deepEqual } from 'node:assert'
import { inspect } from 'node:util'
import { expect, test } from 'vitest'
import { attachBatch, BigEndianBigIntView, BigEndianView, createBatchRing, ItemGroup, type ViewClasses } from '#dist/src/index.js'
import { memoryStream } from './support.js'

const refused = (message: RegExp, code = 'ITEM') =>
  expect.objectContaining({ code: `ERR_SPEADCAST_${code}`, message: expect.stringMatching(message) })

const itemsOf = () =>
  new ItemGroup()
    .add({ name: 'timestamp', format: [['u', 48]] })
    .add({ name: 'adc_samples', dtype: 'i1', shape: [64] })
    .add({ name: 'swapped', dtype: '>i2', shape: [64] })
    .add({ name: 'wide', dtype: '>u8', shape: [8] })
    .add({ name: 'packed', format: [['u', 10]], shape: [64] })

async function heapsOf() {
  const stream = await memoryStream()
  const batch = stream.createBatch({ items: itemsOf(), heaps: 2 })
  return [batch.heap(1), attachBatch(batch.handle()).heap(1)] as unknown as Record<string, unknown>[]
}

test('a name without a view throws, and says which views there are, or that it is an immediate', async () => {
  for (const heap of await heapsOf()) {
    const read = (name: string) => () => heap[name]
    const write = (name: string) => () => {
      heap[name] = new Int8Array(64)
    }
    for (const access of [read, write]) {
      expect(access('adc_sample')).toThrow(
        refused(/^the batch has no addressed item 'adc_sample'; it has 'adc_samples', 'swapped', 'wide', 'packed'$/),
      )
      expect(access('timestamp')).toThrow(
        refused(/^item 'timestamp' is an immediate, which has a column instead: immediate\('timestamp'\)$/),
      )
      expect(access('0')).toThrow(refused(/no addressed item '0'/))
    }
    // A view is written into. To replace it would send nothing.
    expect(write('adc_samples')).toThrow(TypeError)
    expect(read('adc_samples')()).toBeInstanceOf(Int8Array)
    expect((heap.adc_samples as Int8Array).length).toBe(64)
  }
})

test('what language, runtime and test frameworks ask of any object has an answer', async () => {
  for (const heap of await heapsOf()) {
    expect(await heap).toBe(heap)
    expect(Object.keys(heap)).toEqual(['adc_samples', 'swapped', 'wide', 'packed'])
    expect('timestamp' in heap).toBe(false)
    expect(JSON.parse(JSON.stringify(heap)).adc_samples['63']).toBe(0)
    expect(inspect(heap, { depth: 0 })).toContain('adc_samples: [Int8Array]')
    expect(`${heap}`).toBe('[object Object]')
    expect(Object.prototype.toString.call(heap)).toBe('[object Object]')
    expect(Object.hasOwn(heap, 'packed')).toBe(true)
    const { adc_samples } = heap
    const copy: Record<string, unknown> = { ...heap }
    expect(copy.adc_samples).toBe(adc_samples)
    expect(structuredClone({ adc: heap.adc_samples, all: Object.keys(heap) }).all).toHaveLength(4)
    expect(structuredClone(heap)).toHaveProperty('packed')
    expect(heap).toEqual(heap)
    expect(heap).toStrictEqual(heap)
    expect(heap).toEqual(copy)
    expect(heap).not.toEqual({ ...copy, adc_samples: 5 })
    expect(heap).toMatchObject({ packed: new Uint8Array(80) })
    expect(heap).toHaveProperty('wide')
    deepEqual(heap, copy)
    expect(() => expect(heap).toEqual({})).toThrow(/expected .* to deeply equal/)
    expect(() => expect(heap).toMatchObject({ packed: 5 })).toThrow(/expected/)
  }
})

test('batches of equal items have heaps of one hidden class', async () => {
  const stream = await memoryStream()
  const [a, b] = [0, 1].map(() => Object.getPrototypeOf(stream.createBatch({ items: itemsOf(), heaps: 1 }).heap(0)))
  expect(a).toBe(b)
  const other = stream.createBatch({ items: new ItemGroup().add({ name: 'y', dtype: 'i1', shape: [64] }), heaps: 1 })
  expect(() => (other.heap(0) as Record<string, unknown>).x).toThrow(refused(/it has 'y'$/))
})

test('items of names that objects have', async () => {
  const stream = await memoryStream()
  const names = ['__proto__', 'constructor', 'toString', 'then', 'toJSON', '0', 'hasOwnProperty']
  const items: ItemGroup = new ItemGroup()
  for (const name of names) items.add({ name, dtype: 'u1', shape: [64] })
  const batch = stream.createBatch({ items, heaps: 1 })
  const heap = batch.heap(0)
  expect(Object.keys(heap).sort()).toEqual([...names].sort())
  for (const [i, name] of names.entries()) heap[name]!.fill(i + 1)
  expect(names.map((name) => heap[name]![63])).toEqual([1, 2, 3, 4, 5, 6, 7])
})

const RIGHT = { adc_samples: Int8Array, swapped: BigEndianView, wide: BigEndianBigIntView, packed: Uint8Array }
const WRONG: [string, unknown, RegExp, string?][] = [
  [
    'the other byte order',
    { swapped: Int16Array },
    /views has Int16Array for item 'swapped', which is of dtype '>i2' and has a BigEndianView$/,
  ],
  [
    'floats of integers',
    { adc_samples: Float32Array },
    /Float32Array for item 'adc_samples', which is of dtype '\|i1' and has an Int8Array/,
  ],
  ['numbers of bigints', { wide: BigEndianView }, /of dtype '>u8' and has a BigEndianBigIntView/],
  ['bytes of numbers', { adc_samples: Uint8Array }, /has an Int8Array/],
  ['numbers of packed fields', { packed: Uint16Array }, /is of a format and has a Uint8Array of the bytes of the wire/],
  ['an immediate', { timestamp: Uint8Array }, /'timestamp' is an immediate, which has a column instead/],
  ['a name that is none', { adc_sample: Int8Array }, /no addressed item 'adc_sample'; it has 'adc_samples'/],
  ['no class', { adc_samples: 'Int8Array' }, /views is an Object; it must be an object of classes by item name/, 'CONFIG'],
  ['no object', 5, /views is 5; it must be an object of classes/, 'CONFIG'],
]

test.for(WRONG)('views: %s', async ([, wrong, message, code]) => {
  const stream = await memoryStream()
  const items: ItemGroup = itemsOf()
  const views = wrong as ViewClasses
  expect(() => stream.createBatch({ items, heaps: 2, views })).toThrow(refused(message, code))
  expect(() => createBatchRing(stream, { items, heaps: 2, views })).toThrow(refused(message, code))
  const handle = stream.createBatch({ items, heaps: 2 }).handle()
  expect(() => attachBatch(handle, { views })).toThrow(refused(message, code))
  expect(stream.createBatch({ items, heaps: 2, views: RIGHT }).heap(1).swapped.fill(1000).get(63)).toBe(1000)
  expect(createBatchRing(stream, { items, heaps: 2, views: RIGHT })[0]!.heap(1).wide.length).toBe(8)
  expect(attachBatch(handle, { views: RIGHT }).heap(1).packed.length).toBe(80)
})
