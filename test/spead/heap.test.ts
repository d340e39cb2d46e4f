import { describe, expect, it } from 'vitest'
import { makeFlavour } from '#dist/src/spead/flavour.js'
import { Heap, packetsOf, planOf } from '#dist/src/spead/heap.js'
import { Item, type ItemInit } from '#dist/src/spead/item.js'
import { ItemGroup } from '#dist/src/spead/item-group.js'
import { bytes } from './hex.js'

const SMALL = { maxPacketSizeBytes: 1472, split: 'greedy' } as const
const item = (init: Partial<ItemInit>): Item => new Item({ id: 0x1234, name: 'x', ...init })
const tutorial = (): ItemGroup =>
  new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]], value: 0 })
    .add({
      id: 0x3300,
      name: 'adc_samples',
      description: 'ADC converter output',
      dtype: 'i1',
      shape: [1048576],
      value: new Int8Array(1048576),
    })

const sizes = (packets: Uint8Array[]): number[] => packets.map((packet) => packet.length)

describe('packets of spead2, written by hand', () => {
  it('the worked example: 733 packets, the first with both descriptors', () => {
    const packets = packetsOf(tutorial().getHeap(), 1, SMALL)
    expect(packets.length).toBe(733)
    expect(packets[0]!.length).toBe(1472)
    expect(packets[0]!.subarray(0, 72)).toEqual(
      bytes(
        '53 04 02 06 00 00 00 08',
        '80 01 00 00 00 00 00 01 | 80 02 00 00 00 10 01 30',
        '80 03 00 00 00 00 00 00 | 80 04 00 00 00 00 05 78',
        '00 05 00 00 00 00 00 00 | 96 00 00 00 00 00 00 00',
        '00 05 00 00 00 00 00 75 | 33 00 00 00 00 00 01 30',
      ),
    )
    expect(packets[0]!.subarray(72, 80)).toEqual(bytes('53 04 02 06 00 00 00 09'))
    expect(packets[0]!.subarray(72 + 117, 72 + 125)).toEqual(bytes('53 04 02 06 00 00 00 0a'))
    expect(packets[0]!.subarray(0x178)).toEqual(bytes('00(1096)'))
    expect(packets[1]!.subarray(0, 40)).toEqual(
      bytes('53 04 02 06 00 00 00 04', '8001 000000000001 8002 000000100130 8003 000000000578 8004 000000000598'),
    )
    expect(packets[732]!.subarray(0, 40)).toEqual(
      bytes('53 04 02 06 00 00 00 04', '8001 000000000001 8002 000000100130 8003 0000000ffe80 8004 0000000002b0'),
    )
    expect(packets[732]!.length).toBe(728)
  })

  it('the worked example without descriptors', () => {
    const packets = packetsOf(tutorial().getHeap({ descriptors: 'none' }), 1, SMALL)
    expect(packets[0]!.subarray(0, 8)).toEqual(bytes('53 04 02 06 00 00 00 06'))
    expect(packets[0]!.length - 56).toBe(1416)
    expect([packets.length, packets[732]!.length]).toEqual([733, 408])
  })

  it('an empty heap: 49 bytes', () => {
    expect(packetsOf(new Heap(), 0x123456, SMALL)).toEqual([
      bytes(
        '53 04 02 06 00 00 00 05',
        '80 01 00 00 00 12 34 56 | 80 02 00 00 00 00 00 01 | 80 03 00 00 00 00 00 00 | 80 04 00 00 00 00 00 01',
        '00 00 00 00 00 00 00 00 | 00',
      ),
    ])
  })

  it.each([
    ['a stop heap', (heap: Heap) => heap.addEnd(), '02'],
    ['a start heap', (heap: Heap) => heap.addStart(), '00'],
  ])('%s: 57 bytes', (_, add, value) => {
    for (const split of ['greedy', 'even'] as const)
      expect(packetsOf(add(new Heap()), 7, { maxPacketSizeBytes: 1472, split })).toEqual([
        bytes(
          '53 04 02 06 00 00 00 06',
          '80 01 00 00 00 00 00 07 | 80 02 00 00 00 00 00 01 | 80 03 00 00 00 00 00 00 | 80 04 00 00 00 00 00 01',
          `80 06 00 00 00 00 00 ${value} | 00 00 00 00 00 00 00 00 | 00`,
        ),
      ])
  })

  it('a stop heap of SPEAD-64-40', () => {
    expect(packetsOf(new Heap(makeFlavour({ heapAddressBits: 40 })).addEnd(), 7, SMALL)).toEqual([
      bytes(
        '53 04 03 05 00 00 00 06',
        '80 00 01 00 00 00 00 07 | 80 00 02 00 00 00 00 01 | 80 00 03 00 00 00 00 00 | 80 00 04 00 00 00 00 01',
        '80 00 06 00 00 00 00 02 | 00 00 00 00 00 00 00 00 | 00',
      ),
    ])
  })

  it('repeated pointers: all of them in every packet', () => {
    const heap = new Heap().addItem(item({ id: 0x1600, dtype: '>u2', value: 0xabcd }))
    heap.addItem(item({ id: 0x3300, dtype: 'u1', shape: [20], value: Uint8Array.from({ length: 20 }, (_, i) => i) }))
    heap.repeatPointers = true
    const prefix = '53 04 02 06 00 00 00 06 8001 000000000009 8002 000000000014'
    const items = '96 00 00 00 00 00 ab cd | 33 00 00 00 00 00 00 00'
    expect(packetsOf(heap, 9, { maxPacketSizeBytes: 72, split: 'greedy' })).toEqual([
      bytes(prefix, '8003 000000000000 8004 000000000010', items, '00 01 02 03 04 05 06 07 08 09 0a 0b 0c 0d 0e 0f'),
      bytes(prefix, '8003 000000000010 8004 000000000004', items, '10 11 12 13'),
    ])
  })

  it('pointers that spill over into a second packet', () => {
    // Packets of 56 bytes hold one item pointer and 8 bytes of payload each; two items ask for 8·2 + 1 bytes of it, one more than there are.
    const heap = new Heap().addItem(item({ id: 0x1600, dtype: 'u1', value: 5 }))
    heap.addItem(item({ id: 0x3300, dtype: 'u1', shape: [16], value: new Uint8Array(16).fill(0xee) }))
    const prefix = '8001 000000000001 8002 000000000011'
    expect(packetsOf(heap, 1, { maxPacketSizeBytes: 56, split: 'greedy' })).toEqual([
      bytes('53 04 02 06 00 00 00 05', prefix, '8003 000000000000 8004 000000000008', '96 00 00 00 00 00 00 05', 'ee(8)'),
      bytes('53 04 02 06 00 00 00 05', prefix, '8003 000000000008 8004 000000000008', '33 00 00 00 00 00 00 00', 'ee(8)'),
      bytes('53 04 02 06 00 00 00 05', prefix, '8003 000000000010 8004 000000000001', '00 00 00 00 00 00 00 10', '00'),
    ])
  })

  it('padding after the data, where spead2 puts it before', () => {
    const heap = new Heap()
    for (let i = 0; i < 177; i++) heap.addItem(item({ id: 0x1000 + i, format: [['u', 48]], value: i }))
    heap.addItem(item({ id: 0x3000, format: [['u', 8]], shape: [null], value: [0xa, 0xb, 0xc] }))
    const packets = packetsOf(heap, 1, SMALL)
    expect(sizes(packets)).toEqual([1472, 49])
    expect(packets[0]!.subarray(-16)).toEqual(bytes('30 00 00 00 00 00 00 00 | 0a 0b 0c 00 00 00 00 00'))
    expect(packets[1]!.subarray(-9)).toEqual(bytes('00 00 00 00 00 00 00 03 | 00'))
  })
})

describe('Heap', () => {
  it('puts into the pointer what is short enough and allowed', () => {
    const heap = new Heap()
      .addItem(item({ format: [['u', 48]], value: 1 }))
      .addItem(item({ dtype: 'u1', shape: [7], value: new Uint8Array(7) }))
      .addItem(item({ dtype: 'u1', shape: [0], value: [] }))
      .addItem(item({ format: [['u', 8]], shape: [null], value: [] }))
      .addItem(item({ format: [['u', 12]], value: 1 }))
      .addRaw({ id: 0x4000, bytes: Uint8Array.of(1, 2), allowImmediate: true })
      .addRaw({ id: 0x4001, bytes: Uint8Array.of(1, 2), allowImmediate: false })
      .addRaw({ id: 0, bytes: new Uint8Array(0), allowImmediate: true })
    expect(heap.entries.map(({ immediate, lengthBytes }) => [immediate, lengthBytes])).toEqual([
      [true, 6],
      [false, 7],
      [true, 0],
      [false, 0],
      [false, 2],
      [true, 2],
      [false, 2],
      [true, 0],
    ])
    expect(packetsOf(heap, 1, SMALL)[0]!.subarray(40, 104)).toEqual(
      bytes(
        '92 34 00 00 00 00 00 01 | 12 34 00 00 00 00 00 00 | 92 34 00 00 00 00 00 00 | 12 34 00 00 00 00 00 07',
        '12 34 00 00 00 00 00 07 | c0 00 00 00 00 00 01 02 | 40 01 00 00 00 00 00 09 | 80 00 00 00 00 00 00 00',
      ),
    )
  })

  it('keeps a short item in the payload if told, and its descriptor is the same', () => {
    const packet = (allowImmediate: boolean) => {
      const value = item({ dtype: '>u2', allowImmediate, value: 0x0102 })
      return Buffer.from(packetsOf(new Heap().addItem(value), 1, SMALL)[0]!).toString('hex')
    }
    // Item pointers: the immediate bit, the id, and the value or the address.
    expect(packet(true).slice(80, 96)).toBe('9234000000000102')
    expect(packet(false).slice(80)).toBe('12340000000000000102')
    const flavour = makeFlavour({})
    expect(item({ dtype: 'u2', allowImmediate: false }).encode(flavour)).toEqual(item({ dtype: 'u2' }).encode(flavour))
  })

  it('reads references again at every send', () => {
    const samples = new Int16Array(2)
    let count = 1
    const heap = new Heap()
      .addItem(item({ id: 0x1600, format: [['u', 48]], value: () => count++ }))
      .addItem(item({ id: 0x3300, dtype: '>i2', shape: [2], value: samples }))
      .addRaw({ id: 0x3301, bytes: () => Uint8Array.of(count), allowImmediate: false })
    expect(count).toBe(1)
    const last = (): Uint8Array => packetsOf(heap, 1, SMALL)[0]!.subarray(40)
    expect(last()).toEqual(bytes('96 00 00 00 00 00 00 01 | b3 00 00 00 00 00 00 00 | 33 01 00 00 00 00 00 00 | 02'))
    samples.set([1, -2])
    expect(last()).toEqual(bytes('96 00 00 00 00 00 00 02 | b3 00 00 00 00 01 ff fe | 33 01 00 00 00 00 00 00 | 03'))
  })

  it('keeps the value an item had when it was added', () => {
    const one = item({ dtype: 'u1', value: 1 })
    const heap = new Heap().addItem(one)
    one.value = 2
    expect(heap.entries[0]!.bytes()).toEqual(bytes('01'))
    expect(new Heap().addItem(one).entries[0]!.bytes()).toEqual(bytes('02'))
  })

  it('refuses a reference that changes its length', () => {
    const value = [1, 2]
    const heap = new Heap().addItem(item({ format: [['u', 8]], shape: [null], value }))
    value.push(3)
    expect(() => packetsOf(heap, 1, SMALL)).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_VALUE', message: expect.stringMatching(/added with 2 bytes and now has 3/) }),
    )
  })

  it('refuses what it cannot send when it is added', () => {
    expect(() => new Heap().addItem(item({ dtype: 'u1' }))).toThrow(/'x' has no value/)
    expect(() => new Heap().addItem(item({ dtype: 'u1', value: 256 }))).toThrow(/256 is out of range/)
    expect(() => new Heap().addItem(item({ id: 0x8000, dtype: 'u1', value: 1 }))).toThrow(/0x8000.*0x7fff/)
    expect(() => new Heap().addRaw({ id: 3, bytes: new Uint8Array(1), allowImmediate: false })).toThrow(
      /0x3 stands in every packet/,
    )
    expect(() => new Heap().addRaw({ id: 0x1000, bytes: 'abc' as never, allowImmediate: false })).toThrow(/must give a Uint8Array/)
    expect(() => new Heap({ heapAddressBits: 12, bugCompat: 0 })).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG' }))
  })

  it('refuses a heap cnt beyond the width, and takes the last within', () => {
    const heap = new Heap().addEnd()
    for (const cnt of [-1, 2 ** 48, 0.5, 2n ** 48n])
      expect(() => packetsOf(heap, cnt, SMALL)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_HEAP_CNT' }))
    for (const cnt of [2 ** 48 - 1, 2n ** 48n - 1n])
      expect(packetsOf(heap, cnt, SMALL)[0]!.subarray(8, 16)).toEqual(bytes('80 01 ff ff ff ff ff ff'))
    const wide = new Heap(makeFlavour({ heapAddressBits: 56 })).addEnd()
    expect(packetsOf(wide, 2n ** 56n - 1n, SMALL)[0]!.subarray(8, 16)).toEqual(bytes('81 ff(7)'))
  })

  it('has one shape key for all heaps with the same packets, and others for others', () => {
    const heap = (length: number, value = 0, repeat = false): Heap => {
      const made = new Heap().addItem(item({ id: 0x1600, format: [['u', 48]], value }))
      made.addItem(item({ id: 0x3300, dtype: 'u1', shape: [length], value: new Uint8Array(length) }))
      made.repeatPointers = repeat
      return made
    }
    const plan = (made: Heap): unknown => planOf(made, SMALL)
    expect(heap(100, 5).shapeKey()).toBe(heap(100, 6).shapeKey())
    expect(plan(heap(100, 5))).toEqual(plan(heap(100, 6)))
    const others = [
      heap(101),
      heap(100, 5, true),
      new Heap(makeFlavour({ heapAddressBits: 40 })),
      new Heap(),
      heap(100).addEnd(),
      heap(6),
    ]
    expect(new Set([heap(100), ...others].map((made) => made.shapeKey())).size).toBe(7)
  })
})
