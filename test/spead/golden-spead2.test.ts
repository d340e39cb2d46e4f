import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ErrorCode, SpeadcastError } from '#dist/src/errors.js'
import {
  Descriptor,
  type DtypeText,
  type FormatField,
  Heap,
  Item,
  ItemGroup,
  makeFlavour,
  packetsOf,
  type Split,
} from '#dist/src/spead/index.js'
import { need } from '../support/need.js'
import { PythonPeer, type SequenceCase, type SequenceStep } from '../support/python-peer.js'
import {
  base64,
  dtypeCase,
  dump,
  type Format,
  formatCase,
  fromBase64,
  type HeapCase,
  type ItemCase,
  type Leaf,
  ourHeap,
  type PartCase,
  peerCase,
  peerItem,
} from '../support/spead-cases.js'

let peer: PythonPeer | undefined
let version = ''
let compared = 0

beforeAll(async () => {
  peer = PythonPeer.start()
  version = (await peer?.versions())?.spead2 ?? ''
})
afterAll(async () => {
  if (peer) console.log(`peer spead2 ${version}: ${compared} heaps compared`)
  await peer?.close()
})

const CNT = 0x123456n
const ascending = (n: number, step = 1) => Uint8Array.from({ length: n }, (_, i) => i * step + 1)
const bytes16 = (...v: number[]) => new Uint8Array(Uint16Array.from(v).buffer)
const heapCase = (parts: PartCase[], more: Partial<HeapCase> & { bits?: number; bugCompat?: number } = {}): HeapCase => ({
  flavour: { heapAddressBits: more.bits ?? 48, bugCompat: more.bugCompat ?? 0 },
  repeatPointers: more.repeatPointers ?? false,
  cnt: more.cnt ?? (more.bits !== undefined && more.bits < 24 ? 0x12n : CNT),
  parts,
})
const described = (...items: ItemCase[]): PartCase[] => items.flatMap((c) => [{ descriptor: c }, { item: c }])
const bare = (...items: ItemCase[]): PartCase[] => items.map((item) => ({ item }))
const immediate = (id: number, bits: number, value: Leaf) =>
  formatCase({ id, name: `imm${id}`, shape: [] }, [['u', bits]], [], [[value]])
const variable = (id: number, n: number) =>
  formatCase(
    { id, name: `var${id}`, description: 'any length', shape: [null] },
    [['u', 8]],
    [n],
    Array.from(ascending(n), (v) => [BigInt(v)]),
  )
const block = (id: number, n: number) =>
  dtypeCase({ id, name: `block${id}`, description: 'samples', shape: [n] }, 'u1', ascending(n, 7))

const greedy = (c: HeapCase, maxPacketSizeBytes: number) => packetsOf(ourHeap(c), c.cnt, { maxPacketSizeBytes, split: 'greedy' })

/** Our greedy packets of the heap are spead2's, byte for byte, at every packet size; a size one refuses the other refuses. */
async function same(ctx: { skip(note?: string): never }, c: HeapCase, packetSizes: number[] = [1472]): Promise<Uint8Array[][]> {
  need(ctx, peer, 'the spead2 venv is missing (npm test makes it)')
  const answer = (await peer.encode([peerCase(c, packetSizes)]))[0]!
  if ('error' in answer) throw new Error(`spead2 refused the heap: ${answer.error}`)
  return packetSizes.map((size, i) => {
    const theirs = answer.packets[i]!
    if (!Array.isArray(theirs)) {
      expect(() => greedy(c, size), `spead2 refuses ${size}: ${theirs.error}`).toThrow(SpeadcastError)
      return []
    }
    const ours = greedy(c, size)
    expect(dump(ours)).toBe(dump(theirs.map(fromBase64)))
    compared++
    return ours
  })
}

/** As `same` at one size: the first packet of that size. */
async function firstPacket(...args: Parameters<typeof same>): Promise<Uint8Array> {
  return (await same(...args))[0]![0]!
}

async function decode(c: HeapCase, packets: Uint8Array[]) {
  const items = c.parts.flatMap((p) => ('item' in p ? [peerItem(p.item)] : []))
  const [heap] = await peer!.decode([{ packets: packets.map(base64), bugCompat: c.flavour.bugCompat, items }])
  return heap
}

function refuses(code: ErrorCode, message: RegExp, f: () => unknown): void {
  let thrown: unknown
  try {
    f()
  } catch (e) {
    thrown = e
  }
  expect(thrown).toBeInstanceOf(SpeadcastError)
  expect((thrown as SpeadcastError).code).toBe(code)
  expect((thrown as SpeadcastError).message).toMatch(message)
}

const hex = (text: string) => Buffer.from(text.replace(/[^0-9a-f]/g, ''), 'hex')

describe("spead2's own encoding tests, SPEAD-64-48", () => {
  test('an empty heap is one byte of padding: 49 bytes, written out', async (ctx) => {
    const packet = await firstPacket(ctx, heapCase([]), [1500])
    expect(dump([packet])).toBe(
      dump([
        hex(`53040206 00000005 8001000000123456 8002000000000001
             8003000000000000 8004000000000001 0000000000000000 00`),
      ]),
    )
  })

  test('start and end of stream are immediate item 6: 57 bytes, written out', async (ctx) => {
    const control = (value: string) =>
      hex(`53040206 00000006 8001000000123456 8002000000000001 8003000000000000
           8004000000000001 80060000000000${value} 0000000000000000 00`)
    expect(dump((await same(ctx, heapCase([{ start: true }]), [1500]))[0]!)).toBe(dump([control('00')]))
    expect(dump((await same(ctx, heapCase([{ end: true }]), [1500]))[0]!)).toBe(dump([control('02')]))
    await same(ctx, heapCase([{ start: true }, ...described(block(0x2345, 9)), { end: true }]), [1500, 56])
  })

  test('a small fixed item is an immediate, a small variable one is not', async (ctx) => {
    const small = await firstPacket(ctx, heapCase(bare(immediate(0x2345, 16, 0x7654n))), [1500])
    expect(Buffer.from(small.subarray(40, 48)).toString('hex')).toBe('a345000000007654')
    const item = formatCase({ id: 0x2345, name: 'name', shape: [1, null] }, [['u', 8]], [1, 2], [[4n], [5n]])
    const loose = await firstPacket(ctx, heapCase(bare(item)), [1500])
    expect(Buffer.from(loose.subarray(40)).toString('hex')).toBe('23450000000000000405')
  })

  test('numpy: descriptor and data, from nested arrays, a typed array and a strided-looking view', async (ctx) => {
    const init = { id: 0x2345, name: 'name', description: 'description', shape: [2, 3] }
    const data = bytes16(6, 7, 8, 10, 11, 12000)
    for (const held of [
      [
        [6, 7, 8],
        [10, 11, 12000],
      ],
      Uint16Array.of(6, 7, 8, 10, 11, 12000),
      Uint16Array.of(0, 0, 6, 7, 8, 10, 11, 12000, 0).subarray(2, 8),
    ])
      await same(ctx, heapCase(described(dtypeCase(init, '<u2', data, held))), [1500, 64])
  })

  test('Fortran order: nested arrays are logical, typed arrays are as in memory', async (ctx) => {
    const init = { id: 0x2345, name: 'name', description: 'description', shape: [2, 3], order: 'F' as const }
    const data = bytes16(6, 7, 8, 10, 11, 12000)
    const rows = [
      [6, 7, 8],
      [10, 11, 12000],
    ]
    for (const held of [rows, Uint16Array.of(6, 10, 7, 11, 8, 12000)]) {
      const packet = await firstPacket(ctx, heapCase(described(dtypeCase(init, '<u2', data, held))), [1500])
      expect([...packet.subarray(-12)]).toEqual([...bytes16(6, 10, 7, 11, 8, 12000)])
    }
  })

  test('mixed fields of broken bytes: 91 79 3f800000, 69 6e bf800000', async (ctx) => {
    const item = formatCase(
      { id: 0x2345, name: 'name', description: 'description', shape: [2] },
      [
        ['b', 1],
        ['i', 7],
        ['c', 8],
        ['f', 32],
      ],
      [2],
      [
        [true, 17n, 'y', 1],
        [false, -23n, 'n', -1],
      ],
    )
    const packet = await firstPacket(ctx, heapCase(described(item)), [1500])
    expect(Buffer.from(packet.subarray(-12)).toString('hex')).toBe('91793f800000696ebf800000')
  })

  test('types of no length are refused, as spead2 refuses them', async (ctx) => {
    need(ctx, peer, 'the spead2 venv is missing')
    const none: ItemCase[] = [
      { init: { id: 0x2345, name: 'name', shape: [], dtype: 'U0' }, ours: null, theirs: null },
      { init: { id: 0x2345, name: 'name', shape: [], dtype: 'S' as never }, ours: null, theirs: null },
      { init: { id: 0x2345, name: 'name', shape: [], format: [['u', 0]] }, ours: null, theirs: null },
      { init: { id: 0x2345, name: 'name', shape: [], format: [] }, ours: null, theirs: null },
      { init: { id: 0x2345, name: 'name', shape: [null, null], format: [['u', 8]] }, ours: null, theirs: null },
      { init: { id: 0x2345, name: 'name', shape: [null], dtype: '<u2' }, ours: null, theirs: null },
      { init: { id: 0x2345, name: 'name', shape: [2], format: [['u', 8]], order: 'F' }, ours: null, theirs: null },
      { init: { id: 0x2345, name: 'name', shape: [], format: [['f', 16 as never]] }, ours: null, theirs: null },
      { init: { id: 0x2345, name: 'name', shape: [], dtype: 'O' as never }, ours: null, theirs: null },
    ]
    const answers = await peer.encode(none.map((c) => peerCase(heapCase([{ descriptor: c }]), [1472])))
    for (const [i, c] of none.entries()) {
      expect(answers[i], JSON.stringify(c.init)).toHaveProperty('error')
      refuses('ERR_SPEADCAST_ITEM', /'name'|dtype '/, () => new Descriptor(c.init))
    }
  })

  test('repeated pointers: packets of 72 bytes, both with all six pointers, written out', async (ctx) => {
    const item1 = dtypeCase(
      { id: 0x2345, name: 'item1', shape: [32] },
      'u1',
      Uint8Array.from({ length: 32 }, (_, i) => i),
    )
    const c = heapCase(bare(item1, immediate(0x2346, 48, 0xdeadbeefn)), { repeatPointers: true })
    const packets = (await same(ctx, c, [72]))[0]!
    const header = (offset: string) => `53040206 00000006 8001000000123456 8002000000000020 80030000000000${offset}
      8004000000000010 2345000000000000 a3460000deadbeef`
    expect(dump(packets)).toBe(
      dump([hex(`${header('00')} 000102030405060708090a0b0c0d0e0f`), hex(`${header('10')} 101112131415161718191a1b1c1d1e1f`)]),
    )
    await same(ctx, c, [60, 63, 64, 71, 73, 79, 80, 104, 1472])
  })

  test('values by reference: changed after they were added, the packets change', async (ctx) => {
    need(ctx, peer, 'the spead2 venv is missing')
    const data = ascending(8)
    const imm = new Uint8Array(6)
    let number = 7
    const heap = new Heap(makeFlavour({ heapAddressBits: 48 }))
    heap.addItem(new Item({ id: 0x2345, name: 'item1', shape: [8], dtype: 'u1', value: data }))
    heap.addItem(new Item({ id: 0x2346, name: 'item2', shape: [6], dtype: 'u1', value: imm }))
    heap.addItem(new Item({ id: 0x2347, name: 'item3', shape: [], format: [['u', 48]], value: () => number }))
    const before = packetsOf(heap, CNT, { maxPacketSizeBytes: 1500, split: 'greedy' })
    data.forEach((v, i) => {
      data[i] = 2 * v
    })
    imm.set([1, 2, 3, 0xde, 0xad, 0xbe])
    number = 0xbeef
    const after = packetsOf(heap, CNT, { maxPacketSizeBytes: 1500, split: 'greedy' })
    expect(dump(after)).not.toBe(dump(before))
    const now = heapCase(
      bare(
        dtypeCase({ id: 0x2345, name: 'item1', shape: [8] }, 'u1', data),
        dtypeCase({ id: 0x2346, name: 'item2', shape: [6] }, 'u1', imm),
        immediate(0x2347, 48, 0xbeefn),
      ),
    )
    expect(dump(after)).toBe(dump((await same(ctx, now, [1500]))[0]!))
  })

  test('the tutorial heap: the first packet of the reference, written out', async (ctx) => {
    const samples = dtypeCase(
      { id: 0x3300, name: 'adc_samples', description: 'ADC converter output', shape: [1048576] },
      'i1',
      new Uint8Array(1048576),
    )
    const timestamp = formatCase(
      { id: 0x1600, name: 'timestamp', description: 'Index of the first sample', shape: [] },
      [['u', 48]],
      [],
      [[0n]],
    )
    const c = heapCase(described(timestamp, samples), { cnt: 1n })
    const [packets] = await same(ctx, c, [1472])
    expect(packets).toHaveLength(733)
    expect(packets![732]).toHaveLength(728)
    const first = hex(`53040206 00000008 8001000000000001 8002000000100130 8003000000000000 8004000000000578
      0005000000000000 9600000000000000 0005000000000075 3300000000000130
      53040206 00000009 8001000000000001 8002000000000025 8003000000000000 8004000000000025
      8014000000001600 0010000000000000 0011000000000009 0013000000000022 0012000000000025
      ${Buffer.from('timestampIndex of the first sample').toString('hex')} 750030
      53040206 0000000a 8001000000000001 8002000000000063 8003000000000000 8004000000000063
      8014000000003300 0010000000000000 001100000000000b 001300000000001f 001200000000001f 0015000000000026
      ${Buffer.from('adc_samplesADC converter output').toString('hex')} 00 000000100000
      ${Buffer.from("{'descr': '|i1', 'fortran_order': False, 'shape': (1048576,)}").toString('hex')}`)
    expect(dump([packets![0]!.subarray(0, first.length)])).toBe(dump([first]))
    expect(packets![0]).toHaveLength(1472)
  })
})

describe('pointers and packets', () => {
  test.for([1, 2, 5, 176, 177, 178, 179, 180, 355, 356, 357, 600])(
    '%i immediates at 1472 bytes (178 pointers fill a packet)',
    async (n, ctx) => {
      const items = Array.from({ length: n }, (_, i) => immediate(0x400 + i, 48, BigInt(i) * 0x1234567n))
      await same(ctx, heapCase(bare(...items)), [1472, 1471, 1465, 1464, 104, 9000])
      await same(ctx, heapCase(bare(...items, block(0x300, 3000))), [1472, 1471, 1465, 1464, 104, 9000])
      await same(ctx, heapCase(bare(block(0x300, 1500), ...items, variable(0x301, 1500))), [1472, 1464, 56])
    },
  )

  test('every packet size from 48 to 130, and those around 1472: multiples of 8 count, below 56 is an error', async (ctx) => {
    const c = heapCase([...described(block(0x1800, 61)), ...bare(immediate(0x1600, 48, 5n), variable(0x1601, 5))])
    const sizes = [
      0,
      1,
      7,
      8,
      40,
      ...Array.from({ length: 83 }, (_, i) => 48 + i),
      1464,
      1470,
      1471,
      1472,
      1473,
      1479,
      1480,
      9000,
      65507,
    ]
    const made = await same(ctx, c, sizes)
    expect(made.filter((p) => p.length === 0)).toHaveLength(5 + 8)
    for (const size of [0, 7, 47, 48, 55]) refuses('ERR_SPEADCAST_PACKET_SIZE', new RegExp(`\\b${size}\\b`), () => greedy(c, size))
  })

  // 8 bytes and more: shorter ones in packets of one pointer are where spead2 pads before the data, see below.
  test.for([8, 9, 1415, 1416, 1417, 1423, 1424, 1425, 2848, 2856, 2857, 16384, 63512])('a payload of %i bytes', async (n, ctx) => {
    await same(ctx, heapCase(bare(variable(0x1800, n))), [1472, 1456, 9000, 8240, 64])
    await same(ctx, heapCase(bare(immediate(0x1600, 48, 1n), block(0x1800, n))), [1472, 1456, 9000, 8240, 64])
    await same(ctx, heapCase(bare(immediate(0x1600, 48, 1n), block(0x1800, n)), { repeatPointers: true }), [1472, 9000, 72])
  })

  test('16384 bytes in packets of at most 9000: even makes two of 8240, greedy 9000 and 7480', async (ctx) => {
    const c = heapCase(bare(immediate(0x1600, 48, 1n), block(0x3300, 16384)))
    const [large, fitted] = await same(ctx, c, [9000, 8240])
    expect(large!.map((p) => p.length)).toEqual([9000, 7480])
    expect(fitted!.map((p) => p.length)).toEqual([8240, 8240])
    const even = packetsOf(ourHeap(c), CNT, { maxPacketSizeBytes: 9000, split: 'even' })
    expect(dump(even)).toBe(dump(fitted!))
    expect(dump(packetsOf(ourHeap(c), CNT, { maxPacketSizeBytes: 9000 }))).toBe(dump(even))
  })

  test('repeated pointers that leave no room for the NULL pointer and a byte are refused', async (ctx) => {
    for (const n of [1, 3, 10]) {
      const items = Array.from({ length: n }, (_, i) => immediate(0x400 + i, 48, BigInt(i)))
      const sizes = [-1, 0, 1, 2, 3, 4].map((over) => 48 + 8 * (n + over))
      await same(ctx, heapCase(bare(...items), { repeatPointers: true }), sizes)
      await same(
        ctx,
        heapCase(bare(...items, block(0x300, 100)), { repeatPointers: true }),
        sizes.map((s) => s + 8),
      )
    }
  })

  test('padding stands after the data where spead2 puts it before (reference 3c): spead2 decodes ours right, its own wrong', async (ctx) => {
    need(ctx, peer, 'the spead2 venv is missing')
    for (const [immediates, data] of [
      [177, 3],
      [178, 1],
      [200, 7],
      [400, 9],
    ] as const) {
      const items = Array.from({ length: immediates }, (_, i) => immediate(0x400 + i, 48, BigInt(i)))
      const c = heapCase(bare(variable(0x1800, data), ...items))
      const [answer] = await peer.encode([peerCase(c, [1472])])
      if ('error' in answer! || !Array.isArray(answer!.packets[0])) throw new Error(JSON.stringify(answer))
      const theirs = await decode(c, answer!.packets[0].map(fromBase64))
      const ours = greedy(c, 1472)
      const mine = await decode(c, ours)
      const wanted = { bytes: base64(ascending(data)), dtype: '|u1', shape: [data] }
      expect(mine!.complete).toBe(true)
      expect(mine!.values?.var6144).toEqual(wanted)
      expect(theirs!.values?.var6144, 'spead2 was mended: drop the exception').not.toEqual(wanted)
      expect(ours.map((p) => p.length)).toEqual(answer!.packets[0].map((p) => fromBase64(p).length))
      expect(Object.keys(mine!.values ?? {})).toHaveLength(immediates + 1)
      compared++
    }
  })

  test('heap cnts: 0, the largest of each width, one more is refused with the limit', async (ctx) => {
    for (let bits = 8; bits <= 56; bits += 8) {
      const top = (1n << BigInt(bits)) - 1n
      for (const cnt of [0n, 1n, top]) await same(ctx, heapCase(bare(variable(0x41, 3)), { bits, cnt }))
      const c = heapCase(bare(variable(0x41, 3)), { bits, cnt: top + 1n })
      refuses('ERR_SPEADCAST_HEAP_CNT', new RegExp(`2\\^${bits}`), () => greedy(c, 1472))
      refuses('ERR_SPEADCAST_HEAP_CNT', /-1/, () => greedy({ ...c, cnt: -1n }, 1472))
    }
    refuses('ERR_SPEADCAST_HEAP_CNT', /1\.5/, () => packetsOf(new Heap(), 1.5, { maxPacketSizeBytes: 1472 }))
  })
})

const WIDTHS = [8, 16, 24, 32, 40, 48, 56]

describe.each(WIDTHS)('SPEAD-64-%i', (bits) => {
  test.for([0, 1, 2, 3, 4, 5, 6, 7])('descriptors of both forms with bug compatibility %i', async (bugCompat, ctx) => {
    const items: ItemCase[] = [
      dtypeCase({ id: 0x40, name: 'n', description: 'numpy', shape: [3, 2] }, '<i2', ascending(12)),
      dtypeCase({ id: 0x41, name: 'f', description: 'order', shape: [3, 2], order: 'F' }, '>i2', ascending(12)),
      dtypeCase({ id: 0x42, name: 'b', description: 'no byte order', shape: [5] }, '|i1', ascending(5)),
      formatCase({ id: 0x43, name: 'v', description: 'variable', shape: [null, 2] }, [['u', 8]], [2, 2], [[1n], [2n], [3n], [4n]]),
      formatCase(
        { id: 0x44, name: 'w', description: 'packed', shape: [2, null] },
        [
          ['u', 3],
          ['i', 12],
        ] as Format,
        [2, 1],
        [
          [7n, -1n],
          [0n, -2048n],
        ],
      ),
      formatCase({ id: 0x45, name: 's', description: 'scalar', shape: [] }, [['u', 8]], [], [[200n]]),
    ]
    for (const item of items) await same(ctx, heapCase(described(item), { bits, bugCompat }), [1472, 64])
    if (bits > 8) await same(ctx, heapCase(described(...items), { bits, bugCompat }), [1472, 128])
  })

  test('immediates of every width from one byte to the flavour, right-aligned; one byte more is addressed', async (ctx) => {
    for (let width = 8; width <= bits + 8; width += 8) {
      const top = (1n << BigInt(width)) - 1n
      for (const v of [0n, 1n, top]) await same(ctx, heapCase(bare(immediate(0x40, width, v)), { bits }))
      for (const v of [-1n, -(top + 1n) / 2n, top / 2n])
        await same(ctx, heapCase(bare(formatCase({ id: 0x40, name: 'i', shape: [] }, [['i', width]], [], [[v]])), { bits }))
      await same(ctx, heapCase(bare(dtypeCase({ id: 0x40, name: 'a', shape: [width / 8] }, 'u1', ascending(width / 8))), { bits }))
    }
    const packet = await firstPacket(
      ctx,
      heapCase(bare(dtypeCase({ id: 0x40, name: 'le', shape: [] }, bits > 8 ? '<u2' : 'u1', ascending(bits > 8 ? 2 : 1))), {
        bits,
      }),
    )
    expect(packet[40]! & 0x80, 'the top bit says immediate').toBe(0x80)
    expect([...packet.subarray(46, 48)].slice(bits > 8 ? 0 : 1), 'little-endian bytes stay as they are').toEqual(
      bits > 8 ? [1, 2] : [1],
    )
  })

  test('item ids up to the largest; one more, and SPEAD’s own, are refused', async (ctx) => {
    const largest = Math.min(2 ** (63 - bits), 2 ** 53) - 1
    // A descriptor has the id of its item as an immediate, so for it the narrower of the two fields counts.
    const describable = Math.min(largest, 2 ** bits - 1)
    const item = (id: number) => dtypeCase({ id, name: 'n', shape: [9] }, 'u1', ascending(9))
    for (const id of [7, 0x40, largest]) await same(ctx, heapCase(bare(item(id)), { bits }))
    for (const id of [7, 0x40, describable]) await same(ctx, heapCase(described(item(id)), { bits }))
    const beyond = (n: number) => new RegExp(`0x${n.toString(16)}|\\b${n}\\b`)
    if (largest < Number.MAX_SAFE_INTEGER)
      refuses('ERR_SPEADCAST_ITEM', beyond(largest + 1), () => greedy(heapCase(bare(item(largest + 1)), { bits }), 1472))
    refuses('ERR_SPEADCAST_ITEM', beyond(describable + 1), () =>
      greedy(heapCase([{ descriptor: item(describable + 1) }], { bits }), 1472),
    )
    for (const id of [0, 1, 5, 6, -1, 1.5, 2 ** 53])
      refuses('ERR_SPEADCAST_ITEM', new RegExp(`${id <= 0 ? id : ''}`), () => new Item({ id, name: 'n', dtype: 'u1' }))
  })

  test('a heap longer than its addresses reach is refused with the limit, not sent corrupt as spead2 sends it', async (ctx) => {
    if (bits <= 16) {
      const most = 2 ** bits - 1
      await same(ctx, heapCase(bare(variable(0x40, most)), { bits }))
      refuses('ERR_SPEADCAST_SPLIT', new RegExp(`\\b${most}\\b|2\\^${bits}`), () =>
        greedy(heapCase(bare(variable(0x40, most + 1)), { bits }), 1472),
      )
    } else await same(ctx, heapCase(bare(variable(0x40, 70_000)), { bits }), [9000])
  })
})

const DTYPES = [
  '|b1',
  '|i1',
  '|u1',
  ...['i2', 'u2', 'f2', 'i4', 'u4', 'f4', 'i8', 'u8', 'f8', 'c8', 'c16'].flatMap((t) => [`<${t}`, `>${t}`]),
  '<f16',
  '<c32',
]

describe('every type', () => {
  test.for([...DTYPES, '|S1', '|S7', '<U3', '>U3', '|V5'])('dtype %s', async (dtype, ctx) => {
    const size = Number(dtype.match(/\d+/)![0]) * (dtype[1] === 'U' ? 4 : 1)
    const fill = (n: number) => {
      const data = ascending(n * size, 37)
      if (dtype === '|b1') return data.map((v) => v & 1)
      return dtype[1] === 'U' ? data.map((v, i) => (i % 4 === (dtype[0] === '<' ? 0 : 3) ? v & 127 : 0)) : data
    }
    for (const shape of [[], [5], [2, 3], [2, 1, 3], [0], [2, 0]])
      for (const order of ['C', 'F'] as const) {
        const n = shape.reduce((a, b) => a * b, 1)
        const init = { id: 0x1800, name: 'n', description: 'd', shape, order }
        const data = fill(n)
        await same(ctx, heapCase(described(dtypeCase(init, dtype, data))), [1472, 64])
        await same(ctx, heapCase(described(dtypeCase(init, dtype, data)), { bugCompat: 4 }))
      }
  })

  test.for([
    'bool',
    'int16',
    'uint64',
    'float32',
    'float64',
    'complex64',
    'complex128',
    'i4',
    'u1',
    '=i8',
    'f',
    'd',
    'h',
    'B',
    'S3',
    'M8[ms]',
  ])('numpy’s other spelling %s', async (dtype, ctx) => {
    const item: ItemCase = { init: { id: 0x1800, name: 'n', shape: [2], dtype: dtype as DtypeText }, ours: null, theirs: null }
    await same(ctx, heapCase([{ descriptor: item }]))
  })

  // numpy has no buffer interface for them, so spead2 cannot send them; its receiver reads ours.
  test.for(['<M8[ns]', '>M8[D]', '<M8', '<m8[25us]', '>m8[s]', '>f16', '>c32'])(
    'dtype %s, which only spead2’s receiver knows',
    async (dtype, ctx) => {
      need(ctx, peer, 'the spead2 venv is missing (npm test makes it)')
      const size = dtype === '>c32' ? 32 : dtype === '>f16' ? 16 : 8
      for (const order of ['C', 'F'] as const) {
        const data = ascending(6 * size, 37)
        const c = heapCase(described(dtypeCase({ id: 0x1800, name: 'n', shape: [2, 3], order }, dtype, data)))
        const got = await decode(c, greedy(c, 64))
        expect(got!.values).toEqual({ n: { shape: [2, 3], dtype, bytes: base64(data) } })
        expect(got!.complete).toBe(true)
        compared++
      }
    },
  )

  const numbers: [string, Leaf[]][] = [
    ['<i1', [-128, 127, 0]],
    ['>i2', [-32768, 32767, -2]],
    ['<u4', [0, 4294967295, 1]],
    ['>i8', [-(2n ** 63n), 2n ** 63n - 1n, -1n]],
    ['<u8', [2n ** 64n - 1n, 0n, 2n ** 53n + 1n]],
    ['<f4', [1.5, -0.1, 3e38]],
    ['>f8', [Math.PI, -1e-300, -0]],
    ['|b1', [true, false, true]],
  ]
  test.for(numbers)('numbers given as JS numbers for dtype %s', async ([dtype, values], ctx) => {
    const big = dtype[0] === '>'
    const size = Number(dtype.slice(2))
    const view = new DataView(new ArrayBuffer(3 * size))
    values.forEach((v, i) => {
      if (dtype[1] === 'f') (size === 4 ? view.setFloat32 : view.setFloat64).call(view, i * size, v as number, !big)
      else {
        const bits = BigInt.asUintN(8 * size, BigInt(v))
        for (let b = 0; b < size; b++) view.setUint8(i * size + (big ? size - 1 - b : b), Number((bits >> BigInt(8 * b)) & 255n))
      }
    })
    const data = new Uint8Array(view.buffer)
    await same(ctx, heapCase(described(dtypeCase({ id: 0x1800, name: 'n', shape: [3] }, dtype, data, values as never))))
    await same(
      ctx,
      heapCase(described(dtypeCase({ id: 0x1800, name: 'n', shape: [] }, dtype, data.subarray(0, size), values[0] as never))),
    )
  })

  test('native typed arrays for big-endian wire types are swapped, raw bytes are not', async (ctx) => {
    const be = Uint8Array.of(0x12, 0x34, 0xff, 0xfe, 0x00, 0x01)
    const native = Int16Array.of(0x1234, -2, 1)
    for (const held of [native, be, new DataView(be.buffer), be.buffer, Buffer.from(be), [0x1234, -2, 1]]) {
      await same(ctx, heapCase(described(dtypeCase({ id: 0x1800, name: 'n', shape: [3] }, '>i2', be, held))))
      for (const dim of [3, null]) {
        const item = formatCase({ id: 0x1800, name: 'n', shape: [dim] }, [['i', 16]], [3], [[0x1234n], [-2n], [1n]])
        await same(ctx, heapCase(described({ ...item, ours: held })))
      }
    }
    const le = new Uint8Array(native.buffer)
    for (const held of [native, le, Int32Array.from(native), Float64Array.from(native), BigInt64Array.from(native, BigInt)])
      await same(ctx, heapCase(described(dtypeCase({ id: 0x1800, name: 'n', shape: [3] }, '<i2', le, held))))
  })

  test('format: every width of u and i from 1 to 72 bits, scalars and arrays, extremes', async (ctx) => {
    for (let bits = 1; bits <= 72; bits++)
      for (const code of ['u', 'i']) {
        const top = 1n << BigInt(bits)
        const values = code === 'u' ? [0n, top - 1n, top >> 1n] : [-(top >> 1n), (top >> 1n) - 1n, -1n]
        await same(
          ctx,
          heapCase(
            described(
              formatCase(
                { id: 0x1800, name: 'n', shape: [3] },
                [[code, bits]],
                [3],
                values.map((v) => [v]),
              ),
            ),
          ),
        )
        // A signed scalar of 64 bits or more takes numpy's path or the packed one: both must agree with ours.
        await same(ctx, heapCase(described(formatCase({ id: 0x1800, name: 'n', shape: [] }, [[code, bits]], [], [[values[1]!]]))))
      }
  })

  test('format: booleans of any width, characters, floats, several fields', async (ctx) => {
    const shapes: [Format, Leaf[][]][] = [
      [[['b', 1]], [[true], [false], [true]]],
      [[['b', 8]], [[true], [false], [true]]],
      [[['b', 13]], [[true], [false], [true]]],
      [[['c', 8]], [['a'], ['\0'], ['\x7f']]],
      [[['f', 32]], [[1.5], [-0], [Infinity]]],
      [[['f', 64]], [[Math.PI], [-Infinity], [5e-324]]],
      [
        [
          ['u', 8],
          ['f', 32],
          ['c', 8],
          ['i', 16],
        ],
        [
          [255n, 0.5, 'x', -2n],
          [0n, -0.5, 'y', 3n],
          [1n, 0, 'z', 0n],
        ],
      ],
      [
        [
          ['u', 4],
          ['u', 4],
        ],
        [
          [1n, 2n],
          [3n, 4n],
          [15n, 0n],
        ],
      ],
      [
        [
          ['u', 1],
          ['f', 64],
          ['b', 3],
          ['i', 100],
        ],
        [
          [1n, Math.E, true, -(2n ** 99n)],
          [0n, -0, false, 2n ** 99n - 1n],
          [1n, 0, true, 0n],
        ],
      ],
    ]
    for (const [format, rows] of shapes) {
      await same(ctx, heapCase(described(formatCase({ id: 0x1800, name: 'n', shape: [3] }, format, [3], rows))))
      await same(ctx, heapCase(described(formatCase({ id: 0x1800, name: 'n', shape: [1, null, 3] }, format, [1, 1, 3], rows))))
      await same(ctx, heapCase(described(formatCase({ id: 0x1800, name: 'n', shape: [] }, format, [], [rows[0]!]))))
    }
  })

  test('strings: text and bytes, fixed and variable, empty; not ASCII is refused', async (ctx) => {
    const text = 'hello, SPEAD'
    const data = Uint8Array.from(Buffer.from(text))
    for (const shape of [[null], [text.length]]) {
      const init = { id: 0x1800, name: 'n', shape, format: [['c', 8]] as FormatField[] }
      await same(ctx, heapCase(described({ init, ours: text, theirs: { text } })), [1472, 64])
      await same(ctx, heapCase(described({ init, ours: data, theirs: { bytes: base64(data) } })))
    }
    const init = { id: 0x1800, name: 'n', shape: [null], format: [['c', 8]] as FormatField[] }
    await same(ctx, heapCase(described({ init, ours: '', theirs: { text: '' } })))
    await same(ctx, heapCase(described({ init: { ...init, shape: [0] }, ours: '', theirs: { text: '' } })))
    refuses('ERR_SPEADCAST_VALUE', /ö/, () => greedy(heapCase(bare({ init, ours: 'Köln', theirs: null })), 1472))
    refuses('ERR_SPEADCAST_ITEM', /ö/, () => new Item({ ...init, name: 'Köln' }))
    refuses('ERR_SPEADCAST_ITEM', /ö/, () => new Item({ ...init, description: 'Köln' }))
  })

  test('zero elements: fixed is an immediate 0, variable is addressed', async (ctx) => {
    const fixed = formatCase({ id: 0x1800, name: 'n', shape: [0] }, [['u', 8]], [0], [])
    const loose = formatCase({ id: 0x1801, name: 'm', shape: [null] }, [['u', 8]], [0], [])
    const packet = await firstPacket(ctx, heapCase(bare(fixed, loose)))
    expect(Buffer.from(packet.subarray(40, 56)).toString('hex')).toBe('98000000000000001801000000000000')
    await same(
      ctx,
      heapCase(bare(loose, block(0x1802, 40), fixed, { ...loose, init: { ...loose.init, id: 0x1803, name: 'o' } })),
      [1472, 56],
    )
  })
})

describe('values that spead2 truncates or corrupts are refused', () => {
  const scalar = (format: FormatField, value: unknown) => () =>
    greedy(
      heapCase(bare({ init: { id: 0x1800, name: 'gain', shape: [], format: [format] }, ours: value as never, theirs: null })),
      1472,
    )
  test.each<[FormatField, unknown, RegExp]>([
    [['u', 24], 2 ** 24, /16777216/],
    [['u', 48], 2 ** 48, /281474976710656/],
    [['u', 48], -1, /-1/],
    [['i', 24], 2 ** 23, /8388608/],
    [['i', 24], -(2 ** 23) - 1, /-8388609/],
    [['u', 3], 8, /8/],
    [['u', 16], 65536, /65536/],
    [['u', 16], 1.5, /1\.5/],
    [['u', 64], 2n ** 64n, /18446744073709551616/],
    [['u', 48], Number.NaN, /NaN/],
  ])('%s of %s', (format, value, message) => {
    refuses('ERR_SPEADCAST_VALUE', message, scalar(format, value))
  })

  test.each<[string, (number | null)[], string, unknown]>([
    ['one element too few', [3], '<u2', [1, 2]],
    ['one element too many', [3], '<u2', [1, 2, 3, 4]],
    ['one dimension too few', [1, 3], '<u2', [1, 2, 3]],
    ['ragged rows', [2, 2], '<u2', [[1, 2], [3]]],
    ['a scalar for an array', [1], '<u2', 5],
    ['an array for a scalar', [], '<u2', [5]],
    ['a typed array of the wrong length', [3], '<u2', new Uint16Array(4)],
    ['too few bytes', [3], '<u2', new Uint8Array(5)],
    ['out of range', [1], '<u2', [65536]],
    ['a string', [1], '<u2', 'x'],
  ])('dtype value with %s', (_, shape, dtype, value) => {
    refuses('ERR_SPEADCAST_VALUE', /gain/, () =>
      greedy(
        heapCase(
          bare({ init: { id: 0x1800, name: 'gain', shape, dtype: dtype as DtypeText }, ours: value as never, theirs: null }),
        ),
        1472,
      ),
    )
  })

  test('a detached buffer', () => {
    const data = new Uint8Array(8)
    const heap = new Heap().addItem(new Item({ id: 0x1800, name: 'gain', shape: [8], dtype: 'u1', value: data }))
    structuredClone(data, { transfer: [data.buffer] })
    refuses('ERR_SPEADCAST_VALUE', /gain/, () => packetsOf(heap, 1, { maxPacketSizeBytes: 1472 }))
  })

  test('no value at all', () => {
    refuses('ERR_SPEADCAST_VALUE', /gain/, () => new Heap().addItem(new Item({ id: 0x1800, name: 'gain', shape: [], dtype: 'u1' })))
  })
})

describe('item groups: what is stale', () => {
  const a = (value: bigint) => immediate(0x1600, 48, value)
  const b = block(0x3300, 10)
  type Act = SequenceStep & { mine?: (g: ItemGroup) => void }
  let cnt = 0
  const add = (c: ItemCase): Act => ({
    add: peerItem(c),
    mine: (g) => {
      g.add(c.ours === null ? c.init : { ...c.init, value: c.ours })
    },
  })
  const set = (c: ItemCase): Act => ({
    set: c.init.name,
    item: peerItem(c),
    mine: (g) => {
      g.get(c.init.name).value = c.ours
    },
  })
  const touch = (c: ItemCase): Act => ({
    touch: c.init.name,
    mine: (g) => {
      g.get(c.init.name).version++
    },
  })
  const take = (descriptors = 'stale', data = 'stale'): Act => ({ heap: { descriptors, data }, cnt: ++cnt, packetSize: 1472 })
  const valueless: ItemCase = { ...b, ours: null, theirs: null }

  async function lives(ctx: { skip(note?: string): never }, steps: Act[], more: Partial<SequenceCase> = {}): Promise<number[]> {
    need(ctx, peer, 'the spead2 venv is missing (npm test makes it)')
    const flavour = more.flavour ?? { heapAddressBits: 48, bugCompat: 0 }
    const [theirs] = await peer.sequence([{ flavour, ...more, steps: steps.map(({ mine: _, ...s }) => s) }])
    if ('error' in theirs!) throw new Error(theirs.error)
    const group = new ItemGroup({
      flavour: makeFlavour(flavour),
      ...(more.descriptorFrequency === undefined ? {} : { descriptorFrequency: more.descriptorFrequency }),
    })
    const ours: Uint8Array[][] = []
    for (const s of steps) {
      s.mine?.(group)
      if ('heap' in s)
        ours.push(packetsOf(group.getHeap(s.heap as never), Number(s.cnt), { maxPacketSizeBytes: s.packetSize, split: 'greedy' }))
    }
    expect(ours.map((h) => dump(h))).toEqual(theirs!.heaps.map((h) => dump(h.map(fromBase64))))
    compared += ours.length
    return ours.map((h) => h.reduce((n, p) => n + p.length, 0))
  }

  test('descriptors once, data when assigned or touched', async (ctx) => {
    const sizes = await lives(ctx, [
      add(a(1n)),
      add(b),
      take(),
      take(),
      set(a(1n)),
      take(),
      touch(b),
      take(),
      touch(a(1n)),
      set(b),
      take(),
      take(),
    ])
    expect(sizes[0]).toBeGreaterThan(sizes[2]!)
    expect(sizes[1], 'nothing stale: the empty heap').toBe(49)
    expect(sizes[5]).toBe(49)
  })

  test('all and none, in every combination', async (ctx) => {
    const steps = [add(a(3n)), add(b)]
    for (const descriptors of ['none', 'stale', 'all'])
      for (const data of ['none', 'stale', 'all']) steps.push(take(descriptors, data), set(b))
    await lives(ctx, steps)
    await lives(ctx, [...steps].slice(0, 2).concat(steps.slice(2).reverse()))
  })

  test('an item without a value sends its descriptor only', async (ctx) => {
    await lives(ctx, [add(valueless), take(), take('all', 'all'), set(b), take(), take()])
  })

  test.for([1, 2, 3])('descriptors again every %i heaps', async (descriptorFrequency, ctx) => {
    const steps = [add(a(1n)), take(), add(b), take(), take('none'), take(), take('all'), take(), take(), take(), take()]
    await lives(ctx, steps, { descriptorFrequency })
  })

  test('replacing: same name, same id, both; an identical item only brings its value', async (ctx) => {
    const renamed: ItemCase = { ...b, init: { ...b.init, name: 'other' } }
    const moved: ItemCase = { ...b, init: { ...b.init, id: 0x3301 } }
    const thief: ItemCase = { ...a(9n), init: { ...a(9n).init, name: b.init.name } }
    for (const next of [b, valueless, renamed, moved, thief])
      await lives(ctx, [add(a(1n)), add(b), take(), add(next), take(), take(), take('none', 'all'), add(b), take()])
  })

  test('ids are found from 0x1000 up', async (ctx) => {
    const auto = (name: string): Act => ({
      add: { ...peerItem(b), name, autoId: true },
      mine: (g) => {
        const { id: _, ...init } = b.init
        g.add({ ...init, name, value: b.ours! })
      },
    })
    const taken = dtypeCase({ id: 0x1001, name: 'taken', shape: [7] }, 'u1', ascending(7))
    await lives(ctx, [add(taken), auto('one'), auto('two'), auto('three'), take()])
  })

  test.for(WIDTHS.filter((w) => w > 8))('SPEAD-64-%i', async (heapAddressBits, ctx) => {
    const small = immediate(0x16, 16, 1n)
    const flavour = { heapAddressBits, bugCompat: 0 }
    const c = dtypeCase({ id: 0x33, name: 'block', shape: [10] }, 'u1', ascending(10))
    await lives(ctx, [add(small), add(c), take(), take(), set(c), take()], { flavour })
  })
})

test('splits other than greedy carry the same heap: spead2 decodes them alike', async (ctx) => {
  need(ctx, peer, 'the spead2 venv is missing')
  const c = heapCase([...described(block(0x3300, 5000), variable(0x3301, 333)), ...bare(immediate(0x1600, 48, 77n))])
  const reference = await decode(c, greedy(c, 9000))
  const pointers = [
    'heap-cnt',
    'heap-length',
    'payload-offset',
    'payload-length',
    ...ourHeap(c).entries.map((e) => ({ item: e.id })),
  ] as const
  const splits: Split[] = ['even', { payloadBytes: 700, pointers, repeat: true }, { payloadBytes: 701, pointers, repeat: false }]
  for (const split of splits) {
    const packets = packetsOf(ourHeap(c), CNT, { maxPacketSizeBytes: 1472, split })
    const got = await decode(c, packets)
    expect({ ...got, packets: 0 }).toEqual({ ...reference, packets: 0 })
    expect(got!.packets).toBe(packets.length)
    expect(got!.complete).toBe(true)
    compared++
  }
})

test('the comparisons above took place', (ctx) => {
  need(ctx, peer, 'the spead2 venv is missing (npm test makes it)')
  expect(compared).toBeGreaterThan(3000)
})
