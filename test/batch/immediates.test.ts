/** Staged immediates: numbers in a column become the pointer bytes that spead2 gives the same numbers. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ItemGroup, type ItemInit } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { PythonPeer } from '../support/python-peer.js'
import { dump } from '../support/spead-cases.js'
import { bySpead2, filled, groupOf, memoryStream, samples, staged, taken } from './support.js'

let peer: PythonPeer | undefined
beforeAll(() => {
  peer = PythonPeer.start()
})
afterAll(() => peer?.close())

type Type = string | [string, number]
const typeName = (type: Type): string => (typeof type === 'string' ? type : type.join(''))

const unsigned = (bits: number): number[] => [0, 1, 2 ** (bits - 1), 2 ** bits - 2, 2 ** bits - 1]
const signed = (bits: number): number[] => [0, 1, -1, -2, 2 ** (bits - 1) - 1, -(2 ** (bits - 1)), 1 - 2 ** (bits - 1)]
const FLOATS = [0, -0, 1, -1.5, 1e-45, 3.4028234663852886e38, Number.NEGATIVE_INFINITY, 0.1]

const TYPES: { type: Type; values: number[]; bits?: number }[] = [
  ...[8, 16, 24, 32, 40, 48].flatMap((n) => [
    { type: ['u', n] as Type, values: unsigned(n) },
    { type: ['i', n] as Type, values: signed(n) },
  ]),
  ...[1, 2, 4].flatMap((n) =>
    (n === 1 ? ['|'] : ['<', '>']).flatMap((order) => [
      { type: `${order}u${n}`, values: unsigned(8 * n) },
      { type: `${order}i${n}`, values: signed(8 * n) },
    ]),
  ),
  { type: '|b1', values: [0, 1] },
  { type: ['b', 8], values: [0, 1] },
  { type: '<f4', values: FLOATS },
  { type: '>f4', values: FLOATS },
  { type: ['f', 32], values: FLOATS },
  // A staged number is a double.
  { type: ['u', 56], values: [0, 2 ** 32, 2 ** 53 - 1], bits: 56 },
  { type: ['i', 56], values: [0, -1, -(2 ** 32), 2 ** 53 - 1, 1 - 2 ** 53], bits: 56 },
  { type: ['i', 8], values: signed(8), bits: 8 },
  { type: ['i', 24], values: signed(24), bits: 24 },
  { type: ['u', 32], values: unsigned(32), bits: 32 },
]

const flavourOf = (bits: number | undefined) => ({ flavour: { heapAddressBits: bits ?? 48 } })

for (const { type, values, bits } of TYPES) {
  const what = `${typeName(type)}${bits ? ` in SPEAD-64-${bits}` : ''}`
  test(`${what}: staged numbers and values from the start are spead2's bytes`, async (ctx) => {
    need(ctx, peer, 'the spead2 venv is missing (npm test makes it)')
    const items = [staged('value', type, (j) => values[j]!), samples('adc', '|u1', [30])]
    const options = { ...flavourOf(bits), packetSizeBytes: 80, repeatPointers: true }
    const stream = await memoryStream({ ...options, split: 'greedy' })
    const batch = filled(stream, items, values.length)
    expect(batch.packetsPerHeap).toBe(2)
    const theirs = await bySpead2(peer, { items, heaps: values.length, options })
    await stream.send(batch)
    expect(dump(taken(stream))).toBe(dump(theirs))
    for (const [j, value] of values.entries()) {
      const group = groupOf(items)
      group.get('value').value = type === '|b1' || typeName(type) === 'b8' ? value !== 0 : value
      const prefilled = stream.createBatch({ items: group, heaps: 1 })
      expect(prefilled.immediate('value')[0], `value ${value} at creation`).toBe(
        typeName(type).endsWith('f4') || typeName(type) === 'f32' ? Math.fround(value) : value,
      )
      prefilled.cnts[0] = j + 1
      prefilled.heap(0).adc!.set(items[1]!.value(j) as Uint8Array)
      await stream.send(prefilled)
      expect(dump(taken(stream)), `value ${value} at creation`).toBe(dump(theirs.slice(2 * j, 2 * j + 2)))
    }
  })

  const integer = typeName(type).match(/^[<>|]?([ui])/)?.[1]
  if (!integer) continue
  test(`${what}: what does not fit is refused, naming heap, value and range; nothing is sent`, async () => {
    const items = [staged('value', type, () => 0), samples('adc', '|u1', [30])]
    const stream = await memoryStream(flavourOf(bits))
    const batch = filled(stream, items, 3)
    const low = Math.min(...values)
    const high = Math.max(...values)
    const column = batch.immediate('value')
    for (const wrong of [high + 1, low - 1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      column[2] = wrong
      expect(() => stream.send(batch), String(wrong)).toThrow(
        expect.objectContaining({
          code: 'ERR_SPEADCAST_VALUE',
          message: expect.stringMatching(new RegExp(`immediate 'value' of heap 2 is ${wrong}`.replace('+', '\\+'))),
        }),
      )
      expect(batch.state).toBe('free')
    }
    expect(stream.packets).toEqual([])
    // Heap 2 is not part of this send, and none of the refused ones used up a cnt.
    expect(await stream.send(batch, { heaps: 2 })).toMatchObject({ heaps: 2, firstCnt: 1 })
    column[2] = high
    expect(await stream.send(batch)).toMatchObject({ heaps: 3, firstCnt: 3 })
  })
}

for (const [type, values] of [
  ['u', [2n ** 53n, 2n ** 53n + 1n, 2n ** 56n - 1n]],
  ['i', [2n ** 53n, -(2n ** 53n), -(2n ** 53n) - 1n, 2n ** 55n - 1n, -(2n ** 55n) + 1n]],
] as const)
  test(`${type}56: a value from the start that no staged double holds is refused, not rounded`, async () => {
    const stream = await memoryStream(flavourOf(56))
    for (const value of values) {
      const items = new ItemGroup().add({ id: 0x20, name: 'value', format: [[type, 56]], value })
      const batch = stream.createBatch({ items, heaps: 1 })
      expect(() => stream.send(batch), String(value)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE' }))
    }
    expect(stream.packets).toEqual([])
  })

describe('one batch, sent again and again: its headers have what is staged now', () => {
  const LIMIT = 2 ** 48
  const HEAPS = 7
  const ramp = (first: number, step: number): number[] => Array.from({ length: HEAPS }, (_, j) => first + j * step)
  /** [what, values, heaps of the send] */
  const sends: [string, number[], number?][] = [
    ['a ramp', ramp(4096, 8192)],
    ['the next', ramp(4096 + HEAPS * 8192, 8192)],
    ['across the half', ramp(2 ** 32 - 3 * 8192, 8192)],
    ['with another upper half', ramp(5 * 2 ** 32, 1)],
    ['up to its end', ramp(6 * 2 ** 32 - HEAPS, 1)],
    ['falling', ramp(5 * 2 ** 32 + 700, -100)],
    ['falling across the half', ramp(5 * 2 ** 32 + 1, -1)],
    ['all the same', ramp(5 * 2 ** 32 + 5, 0)],
    ['the last of a ramp is off', [...ramp(0, 3).slice(0, -1), 99]],
    ['the first two only, which are even', [8, 16, 3, 2 ** 40, 0, 1, 2], 2],
    ['the first one only', ramp(77, 9), 1],
    ['all of them again', [8, 16, 3, 2 ** 40, 0, 1, 2]],
    ['steps beyond 2^32', ramp(1, 2 ** 33)],
    ['to the very last', ramp(LIMIT - HEAPS, 1)],
    ['from one end to the other', [0, LIMIT - 1, 0, LIMIT - 1, 0, LIMIT - 1, 0]],
  ]
  /** The low 48 bits of every pointer of an item, an immediate (SPEAD section 8.1: mode 1, id, value). */
  const valuesIn = (packet: Uint8Array, id: number): number[] => {
    const bytes = Buffer.from(packet)
    const pointers = Array.from({ length: bytes.readUInt16BE(6) }, (_, i) => bytes.readBigUInt64BE(8 + 8 * i))
    return pointers.filter((pointer) => pointer >> 48n === BigInt(0x8000 | id)).map((pointer) => Number(pointer & 0xffffffffffffn))
  }

  test.for([
    ['heaps of one packet', 9000, 1],
    ['heaps of two, pointers in both', 600, 2],
  ] as const)('%s', async ([, packetSizeBytes, packets]) => {
    const items = [staged('value', ['u', 48], () => 0), samples('adc', '|u1', [1000])]
    const { id } = items[0]!.init
    const stream = await memoryStream({ packetSizeBytes, repeatPointers: true })
    const batch = filled(stream, items, HEAPS)
    expect(batch.packetsPerHeap).toBe(packets)
    // The first hundred or so of a thread are written whole.
    for (const [what, values, heaps = HEAPS] of Array.from({ length: 10 }, () => sends).flat()) {
      batch.immediate('value').set(values)
      await stream.send(batch, { heaps })
      const expected = values.slice(0, heaps).flatMap((value) => new Array(packets).fill(value))
      expect(
        taken(stream).flatMap((packet) => valuesIn(packet, id)),
        what,
      ).toEqual(expected)
    }
  })

  test('evenly spaced is not whole', async () => {
    const stream = await memoryStream()
    const batch = filled(stream, [staged('value', ['u', 48], () => 0), samples('adc', '|u1', [100])], 3)
    batch.immediate('value').setRamp(1, 0.5)
    expect(() => stream.send(batch)).toThrow(
      expect.objectContaining({
        code: 'ERR_SPEADCAST_VALUE',
        message: expect.stringContaining("immediate 'value' of heap 1 is 1.5"),
      }),
    )
  })
})

describe('what is not one number', () => {
  const init = { id: 0x20, name: 'value' }
  const cases: { what: string; item: ItemInit; staged: number; bytes: number[] }[] = [
    { what: 'bytes', item: { ...init, dtype: '|u1', shape: [3], value: [1, 2, 3] }, staged: 0x010203, bytes: [1, 2, 3] },
    { what: 'a string', item: { ...init, dtype: '|S4', value: 'AB' }, staged: 0x41420000, bytes: [0x41, 0x42, 0, 0] },
    { what: 'characters', item: { ...init, format: [['c', 8]], shape: [2], value: 'Az' }, staged: 0x417a, bytes: [0x41, 0x7a] },
    {
      what: 'two little-endian numbers',
      item: { ...init, dtype: '<u2', shape: [2], value: [1, 0x0203] },
      staged: 0x01000302,
      bytes: [1, 0, 3, 2],
    },
    {
      what: 'a record',
      item: {
        ...init,
        format: [
          ['u', 8],
          ['i', 16],
        ],
        value: [7, -2],
      },
      staged: 0x07fffe,
      bytes: [7, 0xff, 0xfe],
    },
    { what: 'nothing', item: { ...init, dtype: '<u4', shape: [0], value: [] }, staged: 0, bytes: [] },
    // IEEE 754 half precision: 1.5 is 0x3e00.
    { what: 'a little-endian float16', item: { ...init, dtype: '<f2', value: 1.5 }, staged: 0x3e00, bytes: [0, 0x3e] },
    { what: 'a big-endian float16', item: { ...init, dtype: '>f2', value: 1.5 }, staged: 0x3e00, bytes: [0x3e, 0] },
  ]
  test.for(cases)('$what: staged as one number of its bytes, and sent as they are', async ({ item, staged: number, bytes }) => {
    const stream = await memoryStream()
    const batch = stream.createBatch({ items: new ItemGroup().add(item), heaps: 2 })
    const column = batch.immediate('value')
    expect([...column]).toEqual([number, number])
    column[1] = 0
    await stream.send(batch)
    // SPEAD-64-48: the item's pointer is the fifth, its value right-aligned in six bytes (SPEAD section 8.1).
    const values = taken(stream).map((packet) => [...packet.subarray(42, 48)])
    const zeros = Array(6 - bytes.length).fill(0)
    expect(values).toEqual([[...zeros, ...bytes], Array(6).fill(0)])
    expect(batch.heap(0)).toEqual({})
    column[1] = 256 ** bytes.length
    expect(() => stream.send(batch)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE' }))
  })
})

test('setRamp counts from any number, by any step, and stops at the width', async () => {
  const stream = await memoryStream()
  const batch = stream.createBatch({ items: groupOf([staged('t', ['u', 48], () => 0)]), heaps: 3 })
  const t = batch.immediate('t')
  t.setRamp(2 ** 48 - 3, 1)
  expect([...t]).toEqual([2 ** 48 - 3, 2 ** 48 - 2, 2 ** 48 - 1])
  await stream.send(batch)
  t.setRamp(10, -5)
  await stream.send(batch)
  expect(taken(stream).map((packet) => Buffer.from(packet.subarray(42, 48)).readUIntBE(0, 6))).toEqual([
    2 ** 48 - 3,
    2 ** 48 - 2,
    2 ** 48 - 1,
    10,
    5,
    0,
  ])
  // No wrapping around behind the sender's back: the caller knows what comes after the last sample number, we do not.
  for (const [first, step, heap] of [
    [2 ** 48 - 2, 1, 2],
    [4, -5, 1],
    [0, 0.5, 1],
  ] as const) {
    t.setRamp(first, step)
    expect(() => stream.send(batch)).toThrow(
      expect.objectContaining({
        code: 'ERR_SPEADCAST_VALUE',
        message: `immediate 't' of heap ${heap} is ${first + heap * step}; it must be a whole number from 0 to 281474976710655`,
      }),
    )
  }
  expect(taken(stream)).toEqual([])
})

test('a column that the batch does not have is named with those it has', async () => {
  const stream = await memoryStream()
  const items = [staged('t', ['u', 48], () => 0), staged('u', '<u2', () => 0), samples('adc', '|u1', [100])]
  const batch = stream.createBatch({ items: groupOf(items), heaps: 1 })
  for (const name of ['adc', 'T', 'constructor'])
    expect(() => batch.immediate(name)).toThrow(
      expect.objectContaining({
        code: 'ERR_SPEADCAST_ITEM',
        message: `the batch has no immediate item '${name}'; it has 't', 'u'`,
      }),
    )
  const none = stream.createBatch({ items: groupOf([samples('adc', '|u1', [100])]), heaps: 1 })
  expect(() => none.immediate('t')).toThrow(/it has none$/)
})
