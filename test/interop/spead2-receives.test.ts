/** The real spead2 receives what we send, over real sockets, and finds every element of every heap what it should be. */
import { expect, test } from 'vitest'
import type { GroupMode } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { spead2Python } from '../support/peer.js'
import { exchange, type InteropItem, type Scenario, transfer } from '../support/spead2-receiver.js'

const GROUPS = Array.from({ length: 16 }, (_, k): [string, number, string] => [`239.77.1.${k}`, 7148, 'v1'])
const V4 = '10.77.0.2'
const V6 = 'fd77::2'
const ADC: InteropItem = { name: 'adc', dtype: '|i1', shape: [10_000] }

const both = (...types: string[]) => types.flatMap((type) => [`<${type}`, `>${type}`])
const NUMERIC = ['|b1', '|i1', '|u1', ...both('i2', 'u2', 'i4', 'u4', 'i8', 'u8', 'f2', 'f4', 'f8', 'c8', 'c16')]
const OTHER = ['|S5', ...both('U3', 'M8[ns]', 'm8[s]')]
const named = (dtype: string, shape: number[], order?: 'C' | 'F'): InteropItem => ({
  name: `${dtype.replace(/\W/g, '_')}_${dtype[0] === '>' ? 'be' : 'le'}_${shape.join('x')}${order ?? ''}`,
  dtype,
  shape,
  ...(order && { order }),
})

/** Each type as an array, as a scalar (an immediate where it is short enough), and in Fortran order. */
const ALL_DTYPES: InteropItem[] = [...NUMERIC, ...OTHER].flatMap((dtype) => [
  named(dtype, [7, 5]),
  named(dtype, []),
  named(dtype, [3, 4], 'F'),
])
/** Formats that are no numpy types, which SPEAD packs bit by bit. None of zero length: spead2's receiver loses those of its own sender too. */
const FORMATS: InteropItem[] = [
  { name: 'u12', format: [['u', 12]], shape: [10] },
  { name: 'u12_scalar', format: [['u', 12]], shape: [] },
  { name: 'u48', format: [['u', 48]], shape: [] },
  { name: 'u48s', format: [['u', 48]], shape: [3] },
  { name: 'i24', format: [['i', 24]], shape: [2, 5] },
  { name: 'i8', format: [['i', 8]], shape: [4] },
  { name: 'bits', format: [['b', 1]], shape: [19] },
  { name: 'f32', format: [['f', 32]], shape: [6] },
  { name: 'f64', format: [['f', 64]], shape: [] },
  { name: 'text', format: [['c', 8]], shape: [11] },
  {
    name: 'fields',
    format: [
      ['u', 5],
      ['i', 11],
      ['b', 1],
      ['f', 32],
    ],
    shape: [3],
  },
]

const SCENARIOS: Record<string, Scenario> = {
  'IPv4 batches, even split': { options: {}, endpoints: [[V4, 7148]], how: 'batch', heaps: 60, items: [ADC], batchHeaps: 8 },
  'IPv4 batches, greedy split, partial': {
    options: { split: 'greedy' },
    endpoints: [[V4, 7148]],
    how: 'batch',
    heaps: 61,
    items: [ADC],
    batchHeaps: 9,
    partial: 4,
  },
  'IPv6 batches': {
    options: { packetSizeBytes: 1452 },
    endpoints: [[V6, 7148]],
    how: 'batch',
    heaps: 40,
    items: [ADC],
    batchHeaps: 8,
  },
  'jumbo packets, 40 address bits': {
    options: { packetSizeBytes: 8952, flavour: { heapAddressBits: 40 } },
    endpoints: [[V6, 7148]],
    how: 'batch',
    heaps: 20,
    items: [{ ...ADC, shape: [100_000] }],
    batchHeaps: 5,
  },
  'IPv4 multicast': {
    options: { interface: 'v0', ttl: 3 },
    endpoints: [['239.77.0.1', 7148, 'v1']],
    how: 'batch',
    heaps: 30,
    items: [ADC],
    batchHeaps: 8,
  },
  'IPv6 multicast, two groups': {
    options: { interface: 'v0', packetSizeBytes: 1452 },
    endpoints: [
      ['ff15::77', 7148, 'v1'],
      ['ff15::78', 7148, 'v1'],
    ],
    how: 'batch',
    heaps: 30,
    items: [ADC],
    batchHeaps: 8,
  },
  'eight substreams on ports and addresses, round-robin': {
    options: { interface: 'v0' },
    endpoints: [
      [V4, 7148],
      [V4, 7149],
      ['10.77.0.3', 7148],
      ['10.77.0.3', 7149],
      ['239.77.0.2', 7150, 'v1'],
      ['239.77.0.3', 7150, 'v1'],
      [V4, 7152],
      [V4, 7153],
    ],
    how: 'batch',
    heaps: 64,
    items: [ADC],
    batchHeaps: 16,
    groupMode: 'round-robin',
  },
  'one substream, round-robin over 12 heaps, partial, 40 bits': {
    options: { flavour: { heapAddressBits: 40 }, split: 'greedy' },
    endpoints: [[V4, 7148]],
    how: 'batch',
    heaps: 50,
    items: [ADC, { name: 'flags', dtype: '|u1', shape: [13] }],
    batchHeaps: 12,
    groupMode: 'round-robin',
    partial: 7,
    // A receiver keeps spead2's four heaps unless told: heaps that take turns need as many.
    maxHeaps: 16,
  },
  'by substream, sixteen multicast groups, heaps of a packet, one heap open': {
    options: { interface: 'v0' },
    endpoints: GROUPS,
    how: 'batch',
    heaps: 400,
    items: [{ name: 'adc', dtype: '|i1', shape: [500] }],
    batchHeaps: 96,
    partial: 48,
    groupMode: 'by-substream',
    maxHeaps: 1,
  },
  'by substream, sixteen multicast groups, heaps of several packets and in-band descriptors, one heap open': {
    options: { interface: 'v0', descriptors: 'in-band' },
    endpoints: GROUPS,
    how: 'batch',
    heaps: 200,
    items: [ADC],
    batchHeaps: 64,
    // Some groups have few heaps, one has most.
    substreams: [...GROUPS.keys(), ...GROUPS.keys(), ...Array(32).fill(7)].reverse(),
    groupMode: 'by-substream',
    maxHeaps: 1,
  },
  'sendHeaps, by substream, sixteen multicast groups, one heap open': {
    options: { interface: 'v0' },
    endpoints: GROUPS,
    how: 'sendHeaps',
    heaps: 128,
    items: [ADC],
    batchHeaps: 64,
    groupMode: 'by-substream',
    maxHeaps: 1,
  },
  'in-band descriptors, substreams reversed': {
    options: { descriptors: 'in-band' },
    endpoints: [
      [V4, 7148],
      [V4, 7149],
      [V4, 7150],
    ],
    how: 'batch',
    heaps: 30,
    items: [ADC, { name: 'power', dtype: '<f8', shape: [33] }],
    batchHeaps: 6,
    substreams: [2, 1, 0],
  },
  'descriptors every 20 ms': {
    options: { descriptors: { everySeconds: 0.02 }, rate: '40Mbps' },
    endpoints: [[V4, 7148]],
    how: 'batch',
    heaps: 60,
    items: [ADC],
    batchHeaps: 4,
  },
  'exact split, repeated pointers': {
    options: {
      packetSizeBytes: 1100,
      split: {
        payloadBytes: 1000,
        pointers: ['heap-cnt', 'heap-length', 'payload-offset', 'payload-length', { item: 0x1000 }, { item: 0x2000 }],
        repeat: true,
      },
    },
    endpoints: [[V4, 7148]],
    how: 'batch',
    heaps: 30,
    items: [ADC],
    batchHeaps: 8,
  },
  'every numeric dtype in batches': {
    options: {},
    endpoints: [[V4, 7148]],
    how: 'batch',
    heaps: 12,
    items: NUMERIC.filter((dtype) => !/f2|>c/.test(dtype)).map((dtype) => named(dtype, [9, 4])),
    batchHeaps: 4,
  },
  'sendHeap: every dtype, shape and order, 48 bits': {
    options: {},
    endpoints: [[V4, 7148]],
    how: 'sendHeap',
    heaps: 8,
    items: ALL_DTYPES,
  },
  'sendHeap: every dtype, shape and order, 40 bits, IPv6': {
    options: { flavour: { heapAddressBits: 40 }, packetSizeBytes: 1452 },
    endpoints: [[V6, 7148]],
    how: 'sendHeap',
    heaps: 8,
    items: ALL_DTYPES,
  },
  'sendHeap: formats': { options: {}, endpoints: [[V4, 7148]], how: 'sendHeap', heaps: 8, items: FORMATS },
  'sendHeaps, serial, three substreams': {
    options: {},
    endpoints: [
      [V4, 7148],
      ['10.77.0.3', 7148],
      [V4, 7149],
    ],
    how: 'sendHeaps',
    heaps: 30,
    items: [ADC, { name: 'text', format: [['c', 8]], shape: [11] }],
    batchHeaps: 7,
  },
  'sendHeaps, round-robin': {
    options: { split: 'greedy' },
    endpoints: [[V4, 7148]],
    how: 'sendHeaps',
    heaps: 24,
    items: [ADC],
    batchHeaps: 6,
    groupMode: 'round-robin',
    maxHeaps: 8,
  },
  'inline on the event loop, segmentation off': {
    options: { thread: 'inline', segmentation: 'off' },
    endpoints: [[V4, 7148]],
    how: 'batch',
    heaps: 30,
    items: [ADC],
    batchHeaps: 8,
  },
  'dgram backend': { options: { backend: 'dgram' }, endpoints: [[V4, 7148]], how: 'batch', heaps: 30, items: [ADC], batchHeaps: 8 },
}

test('heaps that a receiver must hold open: one in serial order and by substream, in turns all of the batch', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spead2Python(), 'needs spead2 4.5.1, from the venv that npm test makes')
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  const arrived = async (groupMode: GroupMode, maxHeaps: number) => {
    const batch = { options: {}, endpoints: [[V4, 7148]] as Scenario['endpoints'], how: 'batch', heaps: 64, items: [ADC] } as const
    const { sent, received } = await transfer(ns, { ...batch, items: [ADC], groupMode, maxHeaps })
    expect(sent.heaps).toBe(64)
    return received.heaps.length
  }
  expect(await arrived('serial', 1)).toBe(64)
  expect(await arrived('by-substream', 1)).toBe(64)
  expect(await arrived('round-robin', 64)).toBe(64)
  expect(await arrived('round-robin', 8)).toBeLessThan(64)
})

test('every scenario arrives at spead2, heap by heap', { timeout: 90_000 }, async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spead2Python(), 'needs spead2 4.5.1, from the venv that npm test makes')
  await using ns = await makeNetns({
    veth: { mtu: 9000, b: ['10.77.0.2/24', '10.77.0.3/24', 'fd77::2/64'] },
  })
  let compared = 0
  for (const [what, scenario] of Object.entries(SCENARIOS)) compared += await exchange(ns, what, scenario)
  console.log(`peer spead2: ${compared} heaps compared in ${Object.keys(SCENARIOS).length} scenarios`)
  expect(compared).toBeGreaterThan(500)
})
