import { describe, expect, it } from 'vitest'
import { DEFAULT_FLAVOUR, makeFlavour } from '#dist/src/spead/flavour.js'
import { type ExactSplit, type PacketPlan, type PlanItem, planPackets, type Split } from '#dist/src/spead/plan.js'
import { bytes } from './hex.js'

const immediates = (count: number): PlanItem[] =>
  Array.from({ length: count }, (_, i) => ({ id: 0x1000 + i, immediate: true, lengthBytes: 6 }))
const samples = (lengthBytes: number): PlanItem => ({ id: 0x3300, immediate: false, lengthBytes })
const plan = (items: PlanItem[], maxPacketSizeBytes: number, split?: Split, repeatPointers = false): PacketPlan =>
  planPackets({ flavour: DEFAULT_FLAVOUR, items, maxPacketSizeBytes, repeatPointers, ...(split && { split }) })
const merged = (items: PlanItem[], maxPacketSizeBytes: number): PacketPlan =>
  planPackets({ flavour: DEFAULT_FLAVOUR, items, maxPacketSizeBytes, mergesEqualPackets: true })
const headerBytes = (made: PacketPlan, p: number): number => made.headerStart[p + 1]! - made.headerStart[p]!
const sizes = (made: PacketPlan): number[] =>
  Array.from({ length: made.packets }, (_, p) => headerBytes(made, p) + made.payloadStart[p + 1]! - made.payloadStart[p]!)

describe('greedy split', () => {
  // Sizes observed on spead2 4.5.1's PacketGenerator.
  it.each([
    [8192, 9000, 1, [8248]],
    [16384, 9000, 1, [9000, 7480]],
    [16384, 8240, 1, [8240, 8240]],
    [16384, 8247, 1, [8240, 8240]],
    [0, 1472, 177, [1465]],
    [0, 1472, 178, [1472, 49]],
    [0, 1472, 179, [1472, 57]],
    [8, 1472, 176, [1464]],
    [8, 1472, 177, [1472, 49]],
    [9, 1472, 177, [1472, 41]],
    [16, 1472, 355, [1472, 1472, 49]],
    [17, 1472, 355, [1472, 1472, 41]],
    [20, 56, 0, [56, 52]],
    [20, 56, 2, [56, 56, 56, 49]],
    [20, 63, 2, [56, 56, 56, 49]],
    [0, 56, 0, [49]],
  ])('of %i bytes in packets of %i beside %i immediates', (payload, max, count, expected) => {
    expect(sizes(plan([...immediates(count), ...(payload > 0 ? [samples(payload)] : [])], max, 'greedy'))).toEqual(expected)
  })

  it.each([
    [0, 1, [49]],
    [0, 40, [72, 64]],
    [1, 0, [57]],
    [1, 8, [64]],
    [1, 40, [72, 72, 64]],
    [2, 0, [65]],
  ])('repeats %i immediates beside %i bytes in packets of 72', (count, payload, expected) => {
    expect(sizes(plan([...immediates(count), ...(payload > 0 ? [samples(payload)] : [])], 72, 'greedy', true))).toEqual(expected)
  })

  it('tells where heap cnt and immediates go', () => {
    const made = plan([immediates(1)[0]!, samples(20), immediates(2)[1]!], 80, 'greedy', true)
    expect(sizes(made)).toEqual([80, 68])
    expect([...made.headerStart]).toEqual([0, 64, 128])
    expect([...made.payloadStart]).toEqual([0, 16, 20])
    expect([...made.cntAt]).toEqual([8, 8])
    expect([...made.immediateItem]).toEqual([0, 2, 0, 2])
    expect([...made.immediatePacket]).toEqual([0, 0, 1, 1])
    expect([...made.immediateAt]).toEqual([40, 56, 40, 56])
    expect([made.heapLengthBytes, made.paddingBytes]).toEqual([20, 0])
    expect(made.headers.subarray(64)).toEqual(
      bytes(
        '53 04 02 06 00 00 00 07 8001 000000000000 8002 000000000014 8003 000000000010 8004 000000000004',
        '9000 000000000000 3300 000000000000 9001 000000000000',
      ),
    )
  })

  it('addresses beyond 4 GiB, in any flavour that has them', () => {
    const items = [samples(2 ** 32 + 5), { ...samples(1), id: 0x3301 }]
    const made = planPackets({ flavour: makeFlavour({ heapAddressBits: 40 }), items, maxPacketSizeBytes: 65000, split: 'greedy' })
    expect(made.headers.subarray(16, 56)).toEqual(
      bytes(
        '800002 0100000006 800003 0000000000 800004',
        (65000 - 56).toString(16).padStart(10, '0'),
        '003300 0000000000 003301 0100000005',
      ),
    )
    expect(made.payloadStart[made.packets]).toBe(2 ** 32 + 6)
  })
})

// A heap of one immediate is its payload and 16 bytes of item pointers, shared by its packets, which have 40 bytes each besides.
describe('even split', () => {
  it.each([
    ['one packet', 8192, 9000, [8248]],
    ['two equal ones', 16384, 9000, [8240, 8240]],
    ['equal ones of any size: 65552 = 8 · 8194', 65536, 9000, Array(8).fill(8234)],
    ['equal ones: 8208 = 6 · 1368', 8192, 1472, Array(6).fill(1408)],
  ])('%s', (_, payload, max, expected) => {
    const items = [...immediates(1), samples(payload)]
    expect(sizes(plan(items, max))).toEqual(expected)
    expect(sizes(merged(items, max))).toEqual(expected)
  })

  // 16392 = 2 · 8196 = 3 · 5464: three packets of 5504 bytes, a multiple of 8, or two of 8236, which is none.
  it('takes fewer packets rather than a multiple of 8', () => {
    for (const cut of [plan, merged]) expect(sizes(cut([samples(16384)], 8972))).toEqual([8236, 8236])
  })

  it.each([
    // 2001 = 3 · 667 is odd; half of it and 40 is 1040.5, the next multiple of 8 1048.
    ['three for two', 1985, 1050, Array(3).fill(707), [1048, 1033]],
    // 4112 = 4 · 1028 is no multiple of 3; a third of it and 40 is 1410.7, the next multiple of 8 1416.
    ['four for three', 4096, 1472, Array(4).fill(1068), [1416, 1416, 1400]],
  ])('takes one packet more to be equal only where that saves messages: %s', (_, payload, max, equal, fewest) => {
    const items = [...immediates(1), samples(payload)]
    expect(sizes(merged(items, max))).toEqual(equal)
    expect(sizes(plan(items, max))).toEqual(fewest)
  })

  it.each([
    // 28622 = 22 · 1301 is a multiple neither of 20 nor of 21; a twentieth of it and 40 is 1471.1.
    [28606, 20, 1472, 1454],
    // 1048592 = 16 · 65537 (prime).
    [1048576, 733, 1472, 408],
  ])('has a shorter last packet where equal ones would be two more: %i bytes', (payload, packets, size, last) => {
    for (const cut of [plan, merged])
      expect(sizes(cut([...immediates(1), samples(payload)], 1472))).toEqual([...Array(packets - 1).fill(size), last])
  })

  it('takes packets of any maximum, not only multiples of 8', () => {
    expect(sizes(plan([samples(3002)], 1545))).toEqual([1545, 1545])
  })

  it('is equal with repeated pointers too', () => {
    expect(sizes(plan([...immediates(3), samples(65536)], 9000, 'even', true))).toEqual(Array(8).fill(8264))
  })

  it('spreads more pointers than one packet holds', () => {
    const made = plan([...immediates(400), samples(10000)], 1472)
    expect(Math.max(...sizes(made))).toBeLessThanOrEqual(1472)
    expect([...made.immediateItem]).toEqual(Array.from({ length: 400 }, (_, i) => i))
    for (let p = 0; p < made.packets; p++) expect(made.payloadStart[p + 1]).toBeGreaterThan(made.payloadStart[p]!)
    expect(made.payloadStart[made.packets]).toBe(10000)
    expect((made.headers.length - 40 * made.packets) / 8).toBe(401)
  })

  // The promise of the split, by trying the counts it may choose from.
  it.each([
    [plan, 0],
    [merged, 1],
  ])('keeps its promise for every payload from 1 to 3000 bytes (%#)', (cut, extra) => {
    const missed: string[] = []
    for (let payload = 1; payload <= 3000; payload++) {
      const max = 200 + (payload % 13)
      const made = sizes(cut([...immediates(1), samples(payload)], max))
      const once = payload + 16
      const fewest = Math.ceil(once / (max - 40))
      const count = [fewest, fewest + extra].find((packets) => once % packets === 0)
      const equal = made.every((size) => size === made[0])
      const good =
        count === undefined
          ? made.length === fewest && made.slice(0, -1).every((size) => size === made[0]) && made[made.length - 1]! < made[0]!
          : equal && made.length === count
      if (!good || Math.max(...made) > max) missed.push(`${payload} in ${max}: ${made}`)
    }
    expect(missed).toEqual([])
  })
})

describe('exact split', () => {
  const items = [...immediates(1), samples(100)]
  const split: ExactSplit = { payloadBytes: 100, pointers: ['heap-cnt', 'payload-length', { item: 0x1000 }, { item: 0x3300 }] }

  it('is the list and nothing else, the heap cnt wherever it stands', () => {
    const made = plan(items, 1472, {
      payloadBytes: 100,
      pointers: [{ item: 0x3300 }, 'padding', 'payload-length', { item: 0x1000 }, 'heap-cnt'],
    })
    expect([made.packets, made.cntAt[0], made.immediateAt[0], made.heapLengthBytes]).toEqual([1, 40, 32, 100])
    expect(made.headers).toEqual(
      bytes('53 04 02 06 00 00 00 05', '3300 000000000000 8000 000000000000 8004 000000000064 9000 000000000000 8001 000000000000'),
    )
  })

  it('may lack a heap cnt in a heap of one packet', () => {
    expect([...plan(items, 1472, { ...split, pointers: split.pointers.slice(1) }).cntAt]).toEqual([-1])
  })

  it('has the n-th item of an id at its n-th mention', () => {
    const two = [
      { id: 5, immediate: false, lengthBytes: 7 },
      { id: 5, immediate: false, lengthBytes: 9 },
    ]
    const made = plan(two, 1472, { payloadBytes: 16, pointers: [{ item: 5 }, { item: 5 }] })
    expect(made.headers).toEqual(bytes('53 04 02 06 00 00 00 02', '0005 000000000000 0005 000000000007'))
  })

  it('may be a heap of immediates alone', () => {
    const made = plan(immediates(1), 1472, { payloadBytes: 0, pointers: ['heap-cnt', { item: 0x1000 }] })
    expect([made.packets, made.heapLengthBytes, sizes(made)]).toEqual([1, 0, [24]])
  })

  it.each<[string, Partial<ExactSplit>, RegExp, number?, boolean?]>([
    ['too large a packet', {}, /packets of 140 bytes, more than the maximum of 139/, 139],
    ['several packets without an offset', { payloadBytes: 50 }, /2 packets cannot be put together without 'payload-offset'/],
    [
      'several packets without a cnt',
      { payloadBytes: 50, pointers: ['payload-offset', ...split.pointers.slice(1)] },
      /without 'heap-cnt'/,
    ],
    ['an item the heap lacks', { pointers: [...split.pointers, { item: 0x99 }] }, /0x99 is not in the heap/],
    ['an item twice', { pointers: [...split.pointers, { item: 0x3300 }] }, /0x3300 is named more often/],
    ['an item left out', { pointers: split.pointers.slice(0, 3) }, /0x3300 of the heap has no pointer/],
    ['a standard pointer twice', { pointers: [...split.pointers, 'heap-cnt'] }, /'heap-cnt' stands twice/],
    ['an unknown pointer', { pointers: [...split.pointers, 'heap' as never] }, /unknown pointer "heap"/],
    [
      'an immediate as an address',
      { pointers: ['heap-cnt', { item: 0x1000, addressAsImmediate: true }, { item: 0x3300 }] },
      /immediate already/,
    ],
    ['no payload', { payloadBytes: 0 }, /payloadBytes is 0 but the items have 100 bytes/],
    ['a broken payload', { payloadBytes: 0.5 }, /whole number/],
    ['a list that is none', { pointers: 'heap-cnt' as never }, /must be an array/],
    ['repeated pointers that are not', { repeat: false }, /repeat is false but the heap repeats/, 1472, true],
  ])('refuses %s', (_, change, message, max = 1472, repeat = false) => {
    expect(() => plan(items, max, { ...split, ...change }, repeat)).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_SPLIT', message: expect.stringMatching(message) }),
    )
  })
})

describe('planPackets', () => {
  it.each([0, 7, 47, 48, 55])('refuses packets of %i bytes', (max) => {
    for (const split of ['even', 'greedy'] as const)
      expect(() => plan([], max, split)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_PACKET_SIZE' }))
  })

  it.each([-1, 1472.5, Number.NaN, 1_000_000])('refuses packets of %d bytes', (max) => {
    expect(() => plan([], max)).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_PACKET_SIZE' }))
  })

  it('refuses to repeat more pointers than a packet holds, and says what would do', () => {
    expect(() => plan(immediates(3), 72, 'even', true)).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_PACKET_SIZE', message: expect.stringMatching(/use packets of 80 bytes/) }),
    )
    expect(sizes(plan(immediates(3), 80, 'even', true))).toEqual([73])
  })

  it('refuses heaps beyond the addresses of the flavour', () => {
    const flavour = makeFlavour({ heapAddressBits: 16 })
    const refused = expect.objectContaining({
      code: 'ERR_SPEADCAST_SPLIT',
      message: expect.stringMatching(/65536 bytes.*SPEAD-64-16.*65535/),
    })
    expect(planPackets({ flavour, items: [samples(65535)], maxPacketSizeBytes: 1472 }).heapLengthBytes).toBe(65535)
    expect(() => planPackets({ flavour, items: [samples(65536)], maxPacketSizeBytes: 1472 })).toThrow(refused)
    expect(() => planPackets({ flavour, items: [samples(65535), samples(1)], maxPacketSizeBytes: 1472 })).toThrow(refused)
    // 8-bit addresses: padding for the pointers alone would need more.
    expect(() =>
      planPackets({
        flavour: makeFlavour({ heapAddressBits: 8 }),
        items: immediates(40).map((x) => ({ ...x, lengthBytes: 1 })),
        maxPacketSizeBytes: 56,
      }),
    ).toThrow(/with padding/)
  })

  it('refuses plans too large to make, at once', () => {
    for (const split of [
      'even',
      'greedy',
      { payloadBytes: 1000, pointers: ['heap-cnt', 'payload-offset', { item: 0x3300 }] },
    ] as const)
      expect(() => plan([samples(2 ** 47)], 1472, split)).toThrow(
        expect.objectContaining({ code: 'ERR_SPEADCAST_SPLIT', message: expect.stringMatching(/smaller heaps or larger packets/) }),
      )
  })

  it('refuses items that cannot be', () => {
    expect(() => plan([{ id: 0x1000, immediate: true, lengthBytes: 7 }], 1472)).toThrow(/immediate and 7 bytes long.*holds 6/)
    expect(() => plan([{ id: 0x8000, immediate: true, lengthBytes: 1 }], 1472)).toThrow(/0x8000/)
    expect(() => plan([samples(-1)], 1472)).toThrow(/length of -1/)
    expect(() => plan([samples(0.5)], 1472)).toThrow(/length of 0.5/)
    expect(() => plan([], 1472, 'odd' as never)).toThrow(/split is .odd./)
  })

  it('has flat arrays of a size that large heaps can afford', () => {
    const made = plan([...immediates(1), samples(2 ** 26)], 1472)
    expect(made.packets).toBe(46864)
    expect(made.headers.length).toBe(46864 * 40 + 16)
    expect(made.payloadStart[46864]).toBe(2 ** 26)
  })
})
