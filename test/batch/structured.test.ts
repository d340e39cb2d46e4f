/** Views of structured items, against numpy's reading of the same bytes; values of heaps by name, against numpy's writing. */
import { execFileSync } from 'node:child_process'
import { inspect } from 'node:util'
import { attachBatch, FieldView, Heap, Item, ItemGroup, openStream, StructView, sampleWriter } from 'speadcast'
import { expect, onTestFinished, test } from 'vitest'
import { need } from '../support/need.js'
import { spead2Python } from '../support/peer.js'

const DTYPE =
  '[("re", "<i2"), ("im", ">i2"), ("", "|V1"), ("x", "<f4", (3,)), ("n", [("a", "u1"), ("b", ">u4", (2, 2))], (2,)), ("c", ">c8"), ("s", "S3"), ("t", "<i8"), ("h", "<f2"), ("f", "?")]'

/** Returns the fields of all elements that numpy reads from the bytes. */
function numpyReads(dtype: string, bytes: Uint8Array): unknown {
  const program = `
import ast, json, sys
import numpy as np
from numpy.lib.format import descr_to_dtype
asked = json.load(sys.stdin)
array = np.frombuffer(bytes.fromhex(asked['bytes']), dtype=descr_to_dtype(ast.literal_eval(asked['dtype'])))
def plain(value):
    if isinstance(value, bytes): return value.decode()
    if isinstance(value, complex): return [value.real, value.imag]
    if isinstance(value, (tuple, list)): return [plain(each) for each in value]
    if isinstance(value, np.ndarray): return plain(value.tolist())
    return value
json.dump([plain(each) for each in array.tolist()], sys.stdout)`
  return JSON.parse(
    execFileSync(spead2Python()!, ['-c', program], {
      input: JSON.stringify({ dtype, bytes: Buffer.from(bytes).toString('hex') }),
      encoding: 'utf8',
    }),
  )
}

async function streamOf() {
  const stream = await openStream({ to: '10.0.0.1:7148', backend: 'memory', descriptors: 'none', packetSizeBytes: 8000 })
  onTestFinished(() => stream.destroy())
  return stream
}

const element = (e: number) => [
  10 - e,
  100 + e,
  [e, e + 0.5, e + 0.25],
  [
    [
      e,
      [
        [1, 2],
        [3, 2 ** 32 - 1 - e],
      ],
    ],
    [
      e + 1,
      [
        [5, 6],
        [7, 8 + e],
      ],
    ],
  ],
  [e, 10 - e],
  'ab',
  e * 1000,
  0.5,
  e % 2 === 1,
]

test('stores through the views are what numpy reads', async (ctx) => {
  need(ctx, spead2Python(), 'needs the venv with numpy')
  const stream = await streamOf()
  const items = new ItemGroup().add({ id: 0x3300, name: 'pulses', dtype: DTYPE, shape: [2, 3] })
  const batch = stream.createBatch({ items, heaps: 2, views: { pulses: StructView } })
  for (let j = 0; j < 2; j++) {
    const { pulses } = batch.heap(j)
    expect([pulses.length, pulses.fields]).toEqual([6, ['re', 'im', 'x', 'n', 'c', 's', 't', 'h', 'f']])
    const n = pulses.struct('n')
    expect([n.length, n.fields]).toEqual([12, ['a', 'b']])
    for (let e = 0; e < 6; e++) {
      pulses.field('re').set(e, 10 - e)
      n.field('a').set(2 * e, e)
      n.field('a').set(2 * e + 1, e + 1)
      n.field('b').set([1, 2, 3, 2 ** 32 - 1 - e, 5, 6, 7, 8 + e], 8 * e)
      pulses.field('x').set([e, e + 0.5, e + 0.25], 3 * e)
      pulses.field('t').set(e, BigInt(e * 1000))
    }
    pulses.field('im').set(Int16Array.of(100, 101, 102, 103, 104, 105))
    pulses.field('c').set(Float32Array.from({ length: 12 }, (_, k) => (k % 2 ? 10 - (k >> 1) : k >> 1)))
    pulses.field('s').fill(Buffer.from('ab'))
    pulses.field('h').fill(0.5)
    pulses.field('f').set([0, 1, 0, 1, 0, 1])
    expect([...pulses.field('x')].slice(3, 6)).toEqual([1, 1.5, 1.25])
    expect([...n.field('b')].slice(4, 12)).toEqual([5, 6, 7, 8, 1, 2, 3, 2 ** 32 - 2])
    expect(pulses.field('re').get(5)).toBe(5)
    expect(pulses.field('im').get(5)).toBe(105)
    expect(pulses.field('c').get(11)).toBe(5)
  }
  await stream.send(batch)
  for (const { bytes } of stream.packets) {
    const payload = bytes.subarray(bytes.length - batch.heap(0).pulses.byteLength)
    expect(numpyReads(DTYPE, payload)).toEqual(Array.from({ length: 6 }, (_, e) => element(e)))
  }
  // A thread gets the same views.
  using attached = attachBatch(structuredClone(batch.handle()), { views: { pulses: StructView } })
  expect([...attached.heap(1).pulses.field('im')]).toEqual([100, 101, 102, 103, 104, 105])
})

test('nested arrays are encoded as numpy has them', async (ctx) => {
  need(ctx, spead2Python(), 'needs the venv with numpy')
  const stream = await streamOf()
  const value = [0, 1, 2].map(element) as never
  const pulses = new Item({ id: 0x3300, name: 'pulses', dtype: DTYPE, shape: [3], value })
  await stream.sendHeap(new Heap().addItem(pulses))
  const one = new Item({ id: 0x3300, name: 'v', dtype: "[('re', '<i4'), ('im', '<i4')]", value: [-7, 8] })
  await stream.sendHeap(new Heap().addItem(one))
  const [many, single] = stream.packets.map(({ bytes }) => bytes) as [Uint8Array, Uint8Array]
  expect(numpyReads(DTYPE, many.subarray(-pulses.byteLength!))).toEqual([element(0), element(1), element(2)])
  expect(numpyReads("[('re', '<i4'), ('im', '<i4')]", single.subarray(-8))).toEqual([[-7, 8]])
})

test('spead2 reads descriptors and values', async (ctx) => {
  need(ctx, spead2Python(), 'needs the venv with spead2')
  const stream = await openStream({ to: '10.0.0.1:7148', backend: 'memory' })
  onTestFinished(() => stream.destroy())
  const items = new ItemGroup().add({ id: 0x3300, name: 'v', dtype: '[("re","<i2"),("im",">i2"),("x","<f4",(2,))]', shape: [3] })
  const batch = stream.createBatch({ items, heaps: 1 })
  batch.heap(0).v.field('re').set([1, -2, 3])
  batch.heap(0).v.field('im').fill(-7)
  batch.heap(0).v.field('x').set([0.5, 1.5, 2.5, 3.5, 4.5, 5.5])
  await stream.send(batch)
  const program = `
import json, sys
import spead2, spead2.recv
stream = spead2.recv.Stream(spead2.ThreadPool())
stream.add_buffer_reader(bytes.fromhex(sys.stdin.read()))
group = spead2.ItemGroup()
for heap in stream:
    group.update(heap)
item = group['v']
json.dump([str(item.dtype), item.value.tolist()], sys.stdout, default=lambda array: array.tolist())`
  const input = Buffer.concat(stream.packets.map(({ bytes }) => bytes)).toString('hex')
  const [dtype, value] = JSON.parse(execFileSync(spead2Python()!, ['-c', program], { input, encoding: 'utf8' }))
  expect(dtype).toBe("[('re', '<i2'), ('im', '>i2'), ('x', '<f4', (2,))]")
  expect(value).toEqual([
    [1, -7, [0.5, 1.5]],
    [-2, -7, [2.5, 3.5]],
    [3, -7, [4.5, 5.5]],
  ])
})

test('a short one is an immediate, staged as its bytes read as one big-endian integer', async () => {
  const stream = await streamOf()
  const items = new ItemGroup().add({ id: 0x1800, name: 'gain', dtype: '[("re","<i2"),("im","<i2")]' })
  const batch = stream.createBatch({ items, heaps: 1 })
  batch.immediate('gain')[0] = Buffer.from(Int16Array.of(-2, 3).buffer).readUInt32BE()
  await stream.send(batch)
  const bytes = Buffer.from(stream.packets[0]!.bytes)
  expect(bytes.includes(Buffer.from(Int16Array.of(-2, 3).buffer))).toBe(true)
})

test('a writer takes bytes', async () => {
  const stream = await streamOf()
  const items = new ItemGroup().add({ id: 0x3300, name: 'v', dtype: '[("re","<i2"),("im","<i2")]', shape: [4] })
  const writer = sampleWriter(stream, { items, item: 'v', heapsPerBatch: 1 })
  await writer.write(Uint8Array.from({ length: 40 }, (_, i) => i))
  expect(await writer.end()).toMatchObject({ heaps: 3, sampleBytes: 40 })
  expect(stream.packets.map(({ bytes }) => bytes.at(-1))).toEqual([15, 31, 39])
})

test('mistakes are refused with a remedy', async () => {
  const stream = await streamOf()
  const items = new ItemGroup().add({ name: 'p', dtype: DTYPE, shape: [2] })
  const { p } = stream.createBatch({ items, heaps: 1 }).heap(0)
  const refused = (code: string, message: RegExp) =>
    expect.objectContaining({ code: `ERR_SPEADCAST_${code}`, message: expect.stringMatching(message) })
  expect(() => p.field('ra')).toThrow(refused('ITEM', /no field 'ra'; it has 're', 'im'/))
  expect(() => p.field('n')).toThrow(refused('ITEM', /has fields itself; call struct\('n'\)/))
  expect(() => p.struct('re')).toThrow(refused('ITEM', /has no fields; call field\('re'\)/))
  expect(() => p.field('re').set(0, 40_000)).toThrow(refused('VALUE', /item 'p\.re'\[0\]: 40000 is out of range for i16/))
  expect(() => p.field('re').set(2, 1)).toThrow(refused('VALUE', /2 values, 0 to 1, and none at 2/))
  expect(() => p.field('re').set([1, 2, 3])).toThrow(refused('VALUE', /3 values from 0 on do not fit/))
  expect(() => p.field('s').fill(Buffer.from('abcd'))).toThrow(refused('VALUE', /Uint8Array of up to 3 bytes/))
  expect(() => p.field('f').set(0, 2)).toThrow(refused('VALUE', /not a boolean/))
  expect(() => {
    ;(p as unknown as number[])[0] = 1
  }).toThrow(refused('VALUE', /a StructView has no \[0\].*field\(name\)/))
  expect(() => {
    ;(p.field('re') as unknown as number[])[0] = 1
  }).toThrow(refused('VALUE', /a FieldView has no \[0\].*set\(0, value\)/))
  expect(() => Reflect.construct(StructView, [])).toThrow(refused('CONFIG', /a batch makes these views/))
  expect(() => Reflect.construct(FieldView, [])).toThrow(refused('CONFIG', /StructView.field makes these views/))
  expect(() => stream.createBatch({ items, heaps: 1, views: { p: Uint8Array as never } })).toThrow(refused('ITEM', /a StructView/))
  for (const [value, message] of [
    [[[1, 2]], /shape \(2\) needs 2 values/],
    [[1, 2], /1 is not an array of 9 values/],
    [[element(0), element(1).with(2, [1, 2])], /\[1\]\.x: an array of 2 is not an array of 3 values/],
    [[element(0), element(1).with(0, 'x')], /\[1\]\.re: 'x' is not a number/],
  ] as const) {
    const item = new Item({ id: 0x3300, name: 'p', dtype: DTYPE, shape: [2], value: value as never })
    expect(() => stream.sendHeap(new Heap().addItem(item))).toThrow(refused('VALUE', message))
  }
  p.field('re').set([1, 2])
  expect(inspect(p)).toMatch(/^StructView \{.*length: 2/s)
  expect(inspect(p.field('re'))).toBe('FieldView i2 [ 1, 2 ]')
})
