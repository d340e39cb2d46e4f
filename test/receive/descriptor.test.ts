import { expect, type TestContext, test } from 'vitest'
import { openReceiver, type ReceivedDescriptor } from '#dist/src/receive/index.js'
import {
  decodeDescriptor,
  descriptorBytes,
  readDescriptor,
  readDescriptors,
  resolveShape,
  valueBytes,
} from '#dist/src/receive/received-descriptor.js'
import { need } from '../support/need.js'
import { spead2Python } from '../support/peer.js'
import {
  descriptorHeap,
  descriptorOf,
  fromHex,
  heapOf,
  NO_PEER,
  type PeerItem,
  type PeerTold,
  packetOf,
  question,
  receive,
} from './descriptor-support.js'

/** spead2 sends the items, and its receiver and ours get the same packets. @param given the flags that ours is told */
function exchange(items: PeerItem[], flavour: number, bugCompat: number, given?: number) {
  const answer = question<PeerTold>({ flavour, bugCompat, items, firstId: 0x20 })
  return (ctx: TestContext) => {
    need(ctx, spead2Python(), NO_PEER)
    const { packets, items: told } = answer()
    const [first, second] = receive(fromHex(packets), given)
    return { told, descriptors: first!.descriptors, values: second!.items }
  }
}

/** Ours has spead2's descriptors, and gives each value the shape that it has in spead2. */
function agree({ told, descriptors, values }: ReturnType<ReturnType<typeof exchange>>): void {
  expect(descriptors.map(({ description: _, ...rest }) => rest)).toEqual(comparable(told))
  for (const { id, valueShape } of told) expect(values.get(id)!.shape).toEqual(valueShape)
}

const NUMPY_OF: Readonly<Record<string, string>> = { u16: '>u2', f32: '>f4', c8: '|S1' }

function comparable(told: PeerTold['items']): Omit<ReceivedDescriptor, 'description'>[] {
  return told.map(({ id, name, shape, dtype, format, order }) => {
    const known = format.length === 1 ? NUMPY_OF[format[0]!.join('')] : undefined
    return { id, name, shape, dtype: dtype ?? known ?? null, order, format }
  })
}

const ITEMS: PeerItem[] = [
  { name: 'samples', shape: [6], dtype: "'<i4'", value: '[1, 2, 3, 4, 5, 6]' },
  { name: 'scalar', shape: [], dtype: "'<u2'", value: '7' },
  { name: 'fortran', shape: [2, 3], dtype: "'>f8'", order: 'F', value: 'np.zeros((2, 3))' },
  { name: 'struct', shape: [2], dtype: "[('x', '<i2'), ('y', [('z', '>f8', (2,)), ('w', 'U2')])]", value: 2 },
  { name: 'packed', shape: [1], dtype: "[(('a title', 'x'), 'u1'), ('y', '<i4')]", value: 1 },
  { name: 'u48', shape: [], format: [['u', 40]], value: '5' },
  { name: 'u16s', shape: [3], format: [['u', 16]], value: '[1, 2, 3]' },
  {
    name: 'mixed',
    shape: [null, 2],
    format: [
      ['u', 12],
      ['f', 32],
      ['b', 4],
    ],
    value: '[[(1, 2.0, True)] * 2] * 3',
  },
  { name: 'text', shape: [null], format: [['c', 8]], value: "'seven c'" },
]

for (const flavour of [32, 40, 48]) {
  for (let flags = 0; flags <= 7; flags++) {
    const exchanged = exchange(ITEMS, flavour, flags, flags)
    test(`spead2's descriptors of SPEAD-64-${flavour} with bugCompat ${flags}, when it is given`, (ctx) => agree(exchanged(ctx)))
  }
}

const INFERRED: [flavour: number, flags: number, items: PeerItem[]][] = [
  [48, 7, ITEMS],
  [48, 0, ITEMS],
  [48, 2, ITEMS],
  [40, 7, ITEMS],
  [40, 0, ITEMS],
  [32, 7, ITEMS],
  [56, 7, ITEMS],
  [16, 7, ITEMS.slice(5)],
]
for (const [flavour, flags, items] of INFERRED) {
  const exchanged = exchange(items, flavour, flags)
  test(`SPEAD-64-${flavour} with bugCompat ${flags} is inferred`, (ctx) => agree(exchanged(ctx)))
}

for (const n of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 16]) {
  const shape = Array.from({ length: n }, (_, i) => (i === n - 1 ? 3 : 1))
  const nested = shape.reduceRight<unknown>((value, size) => Array.from({ length: size }, () => value), 5)
  const items: PeerItem[] = [
    { name: 'format', shape, format: [['u', 24]], value: JSON.stringify(nested) },
    { name: 'numpy', shape, dtype: "'<i4'", value: 1 },
  ]
  // A scalar's descriptors are the same in both with SPEAD-64-40.
  for (const flavour of n === 0 ? [48] : [40, 48]) {
    for (const flags of [0, 7]) {
      const exchanged = exchange(items, flavour, flags)
      test(`a shape of ${n} dimensions with bugCompat ${flags} of SPEAD-64-${flavour} is inferred`, (ctx) => agree(exchanged(ctx)))
    }
  }
}

const aligned = exchange([{ name: 'x', shape: [2], dtype: "np.dtype([('x', 'u1'), ('y', '<i4')], align=True)", value: 2 }], 48, 0)
test('the padding of an aligned dtype becomes offsets, as in numpy.lib.format', (ctx) => {
  const { told, descriptors, values } = aligned(ctx)
  expect(told[0]!.itemsize).toBe(8)
  expect(descriptors[0]!.dtype).toBe("{'names': ['x', 'y'], 'formats': ['u1', '<i4'], 'offsets': [0, 4], 'itemsize': 8}")
  expect(valueBytes(descriptors[0]!)).toBe(16)
  expect(values.get(0x20)!.bytes).toHaveLength(16)
})

test('a width of 0 is refused, with what it may be', () => {
  const pyspead = descriptorOf([
    ['name', 'a'],
    ['format', Buffer.from('u\0\0\x30', 'latin1')],
  ])
  expect(readDescriptor(pyspead, 0)).toEqual({
    refused: expect.stringMatching(/field 0 of its format, "u", has 0 bits: the widths may be another implementation's.*bugCompat/),
  })
  expect(readDescriptor(pyspead)).toMatchObject({ descriptor: { format: [['u', 48]] } })
  const zero = descriptorOf([
    ['name', 'a'],
    ['format', Buffer.from('u\0\0', 'latin1')],
  ])
  expect(readDescriptor(zero)).toEqual({ refused: expect.stringContaining('try bugCompat 7') })
})

test.each([8, -1, 1.5, Number.NaN, '7'])('openReceiver refuses bugCompat %s', async (bugCompat) => {
  await expect(openReceiver({ endpoints: '127.0.0.1:0', bugCompat: bugCompat as number })).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_CONFIG',
    message: expect.stringMatching(/bugCompat is .*; it must be a whole number from 0 to 7/),
  })
})

test('bytes left over are ignored, as spead2 does', () => {
  const format = Buffer.from('u\0\x10\0', 'latin1')
  const shape = Buffer.from([0, 0, 0, 0, 0, 0, 5, 9, 9])
  const descriptor = decodeDescriptor(
    descriptorOf([
      ['shape', shape],
      ['format', format],
    ]),
  )
  expect(descriptor).toMatchObject({ format: [['u', 16]], shape: [5] })
})

const VARYING: [of: string, shape: (number | null)[], format: [string, number][], value: string, right: number[]][] = [
  ['8 of u10', [null], [['u', 10]], '[1, 2, 3, 4, 5, 6, 7, 8]', [8]],
  ['7 of u10', [null], [['u', 10]], '[1, 2, 3, 4, 5, 6, 7]', [7]],
  ['6 of u4', [null], [['u', 4]], '[1, 2, 3, 4, 5, 6]', [6]],
  ['16 of b1', [null], [['b', 1]], '[1, 0] * 8', [16]],
  [
    '4 of (u1, u3)',
    [null],
    [
      ['u', 1],
      ['u', 3],
    ],
    '[(1, 7)] * 4',
    [4],
  ],
  ['(4, 3) of i12', [null, 3], [['i', 12]], '[[1, -2, 3]] * 4', [4, 3]],
  ['(3, 5) of i12, the second varying', [3, null], [['i', 12]], '[[1] * 5] * 3', [3, 5]],
  ['(2, 3, 2) of u20', [2, null, 2], [['u', 20]], '[[[1, 2]] * 3] * 2', [2, 3, 2]],
  ['none of u10', [null], [['u', 10]], '[]', [0]],
  [
    '5 of (f64, u7, b1)',
    [null],
    [
      ['f', 64],
      ['u', 7],
      ['b', 1],
    ],
    '[(0.5, 3, True)] * 5',
    [5],
  ],
  ['9 of u16', [null], [['u', 16]], '[1] * 9', [9]],
]
for (const [of, shape, format, value, right] of VARYING) {
  const exchanged = exchange([{ name: 'x', shape, format, value }], 48, 0)
  test(`the varying dimension of ${of}`, (ctx) => {
    const { told, values } = exchanged(ctx)
    // An item of no bytes has no value in spead2's receiver.
    if (right[0] !== 0) expect(told[0]!.valueShape).toEqual(right)
    expect(values.get(0x20)!.shape).toEqual(right)
  })
}

const described = (format: [string, number][], shape: (number | null)[], dtype: string | null = null): ReceivedDescriptor => ({
  id: 0x1000,
  name: 'x',
  description: '',
  shape,
  dtype,
  order: 'C',
  format,
})

test('sizes of copies, which another thread has handed on', () => {
  expect(valueBytes(described([], [2], "[('x', '<i2'), ('y', 'U3', (2,))]"))).toBe(52)
  expect(valueBytes(described([], [2], "{'names': ['a'], 'formats': ['<i2'], 'offsets': [4], 'itemsize': 16}"))).toBe(32)
  expect(valueBytes(described([], [3], '>U3'))).toBe(36)
  expect(valueBytes(described([['u', 12]], [3]))).toBe(5)
  expect(valueBytes(described([], [3], 'nonsense'))).toBeUndefined()
  expect(valueBytes(described([], [3]))).toBeUndefined()
  expect(valueBytes(described([['u', 12]], [null]))).toBeUndefined()
  expect(valueBytes(described([['u', 8]], [0, ...new Array<number>(40).fill(2 ** 52)]))).toBe(0)
  expect(resolveShape(described([['u', 12]], [null, null]), 12)).toEqual([null, null])
  expect(resolveShape(described([['u', 12]], [null, 0]), 12)).toEqual([0, 0])
})

const u8 = Buffer.from('u\0\x08', 'latin1')
const dims = (count: number, from = 1): Buffer => Buffer.alloc(7 * count, Buffer.from([0, 0, 0, 0, 0, 0, from]))

test.each([
  [
    '65 dimensions',
    descriptorOf([
      ['shape', dims(65)],
      ['format', u8],
    ]),
    /65 dimensions; at most 64/,
  ],
  [
    '8 million dimensions',
    descriptorOf([
      ['shape', Buffer.alloc(56_000_000)],
      ['format', u8],
    ]),
    /8000000 dimensions/,
  ],
  ['1025 fields', descriptorOf([['format', Buffer.concat(new Array<Buffer>(1025).fill(u8))]]), /1025 fields; at most 1024/],
  [
    'a long name',
    descriptorOf([
      ['name', 'x'.repeat(1025)],
      ['format', u8],
    ]),
    /name has 1025 bytes; at most 1024/,
  ],
  [
    'a long description',
    descriptorOf([
      ['description', 'x'.repeat(16385)],
      ['format', u8],
    ]),
    /description has 16385 bytes/,
  ],
  ['a long header', descriptorOf([['dtype', ' '.repeat(16385)]]), /numpy header has 16385 bytes/],
  [
    'more bits than can be counted',
    descriptorOf([
      ['shape', Buffer.alloc(14, Buffer.from([0, 255, 255, 255, 255, 255, 255]))],
      ['format', u8],
    ]),
    /more than 2\^53/,
  ],
  [
    '257 pointers',
    descriptorOf([['format', u8]], { extra: new Array<[boolean, number, number]>(257).fill([true, 0, 0]) }),
    /263 item pointers; at most 256/,
  ],
  [
    'no id',
    packetOf(
      [
        [true, 1, 1],
        [false, 0x13, 0],
      ],
      u8,
    ),
    /no item id/,
  ],
  ['id 0', descriptorOf([['format', u8]], { id: 0 }), /no item id/],
  [
    'an id above the flavour',
    descriptorOf([['format', u8]], { id: 0x8000 }),
    /item id is 32768, which SPEAD-64-48 has no room for/,
  ],
  ['an id above 2^53', descriptorOf([['format', u8]], { id: (1n << 56n) - 1n, addressBytes: 7 }), /item id is/],
  [
    'an address beyond the end',
    packetOf(
      [
        [true, 1, 1],
        [true, 0x14, 9],
        [false, 0x13, 500],
      ],
      u8,
    ),
    /leads beyond its end/,
  ],
  [
    'a part of a heap',
    packetOf(
      [
        [true, 1, 1],
        [true, 2, 8],
        [true, 3, 0],
        [true, 4, 3],
        [true, 0x14, 9],
        [false, 0x13, 0],
      ],
      u8,
    ),
    /only a part of a heap/,
  ],
  ['text', Buffer.from('hello, world'), /no SPEAD packet: no SPEAD version 4 magic/],
  ['nothing', new Uint8Array(0), /no SPEAD packet: shorter than a SPEAD header/],
] as [string, Uint8Array, RegExp][])('a descriptor with %s is refused', (_, bytes, reason) => {
  expect(readDescriptor(bytes)).toEqual({ refused: expect.stringMatching(reason) })
  expect(decodeDescriptor(bytes)).toBeUndefined()
})

test('limits themselves are taken', () => {
  const shape = dims(64)
  const format = Buffer.concat(new Array<Buffer>(1024).fill(u8))
  const name = 'n'.repeat(1024)
  const descriptor = decodeDescriptor(
    descriptorOf([
      ['name', name],
      ['description', 'd'.repeat(16384)],
      ['shape', shape],
      ['format', format],
    ]),
  )!
  expect(descriptor).toMatchObject({ name, shape: new Array(64).fill(1) })
  expect(descriptor.format).toHaveLength(1024)
  expect(valueBytes(descriptor)).toBe(1024)
})

test('fields as spead2 finds them: the last of an id holds, an immediate has its text at the end, other ids bound', () => {
  const rest = [
    [true, 1, 1],
    [true, 4, 11],
    [true, 0x14, 0x1600],
    [true, 0x14, 0x1700],
  ] as const
  const payload = Buffer.from('nameDDDDu\0\x10', 'latin1')
  const read = (...pointers: [boolean, number, number][]) => decodeDescriptor(packetOf([...rest, ...pointers], payload))
  expect(read([false, 0x10, 0], [false, 0x10, 4], [false, 0x13, 8])).toMatchObject({
    id: 0x1700,
    name: 'DDDD',
    format: [['u', 16]],
  })
  expect(read([false, 0x13, 8], [false, 0x99, 2], [false, 0x10, 0])).toMatchObject({ name: 'na' })
  expect(read([true, 0x10, 0x6162], [false, 0x13, 8])).toMatchObject({ name: 'ab' })
  expect(read([false, 0x10, 0], [false, 0x11, 0], [false, 0x13, 8])).toMatchObject({ name: '', description: 'nameDDDD' })
})

test('a refused descriptor costs the data nothing: 100 heaps after one of NaN bytes', () => {
  const header = `{'descr': '<f${'9'.repeat(400)}', 'fortran_order': False, 'shape': (0,)}`
  const bad = descriptorHeap(
    1,
    descriptorOf([
      ['name', 'adc_samples'],
      ['dtype', header],
    ]),
  )
  const data = Array.from({ length: 100 }, (_, i) => heapOf(2 + i, [[true, 0x3300, i + 1]], new Uint8Array(0)))
  const heaps = receive([bad, ...data])
  expect(heaps).toHaveLength(101)
  for (const [i, heap] of heaps.slice(1).entries()) expect([...heap.items.get(0x3300)!.bytes]).toEqual([0, 0, 0, 0, 0, i + 1])
})

test('the descriptors of one heap are judged together', () => {
  const array = descriptorOf([
    ['name', 'a'],
    ['shape', Buffer.from([0, 0, 0, 0, 0, 0, 0, 4])],
    ['dtype', "{'descr': '>i4', 'fortran_order': False, 'shape': (4,)}"],
  ])
  const scalar = descriptorOf([
    ['name', 's'],
    ['dtype', "{'descr': [('x', '>i4'), ('y', '<f8')], 'fortran_order': False, 'shape': ()}"],
  ])
  const spec = descriptorOf([
    ['name', 'f'],
    ['shape', dims(1)],
    ['format', u8],
  ])
  const dtypes = (...items: Uint8Array[]) => readDescriptors(items).map((one) => ('descriptor' in one ? one.descriptor.dtype : ''))
  expect(dtypes(scalar)).toEqual(["[('x', '>i4'), ('y', '<f8')]"])
  expect(dtypes(scalar, array)).toEqual(["[('x', '<i4'), ('y', '>f8')]", '<i4'])
  expect(dtypes(scalar, array, spec)).toEqual(["[('x', '>i4'), ('y', '<f8')]", '<i4', '|u1'])
})

test('the memory of a descriptor is counted by what it keeps', () => {
  const small = descriptorBytes(described([], [], '<i2'))
  expect(small).toBeGreaterThan(100)
  expect(descriptorBytes({ ...described([], []), name: 'x'.repeat(1000) }) - small).toBeGreaterThan(900)
  expect(descriptorBytes(described(new Array(1000).fill(['u', 8]), [])) - small).toBeGreaterThan(60_000)
})
