/** The packets of batches are those that spead2 itself writes for the same heaps, byte for byte and in its order. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { StreamOptions } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { PythonPeer } from '../support/python-peer.js'
import { dump } from '../support/spead-cases.js'
import {
  type BatchItem,
  bySpead2,
  filled,
  memoryStream,
  peerGroups,
  peerPackets,
  samples,
  staged,
  taken,
  timestamp,
} from './support.js'

let peer: PythonPeer | undefined
beforeAll(() => {
  peer = PythonPeer.start()
})
afterAll(() => peer?.close())

const GREEDY = { split: 'greedy' } as const
const THEIR_MODES = ['serial', 'round-robin'] as const
const MODES = [...THEIR_MODES, 'by-substream'] as const
const TWO = '10.0.0.1+1:7148'
/** Heap j to endpoint j mod 2. */
const substreams = [0, 1, 0, 1, 0]

interface Case {
  readonly what: string
  readonly items: readonly BatchItem[]
  readonly options?: Partial<StreamOptions>
  readonly packetsPerHeap: number
}

const CASES: Case[] = [
  { what: 'one packet a heap', items: [timestamp(), samples('adc', '|i1', [1024])], packetsPerHeap: 1 },
  { what: 'several packets a heap', items: [timestamp(), samples('adc', '<i2', [4096])], packetsPerHeap: 6 },
  {
    what: 'items that no one address aligns',
    items: [samples('a', '|u1', [3]), samples('b', '<f8', [100]), samples('c', '<i2', [7]), samples('d', '>u4', [500])],
    packetsPerHeap: 2,
  },
  { what: 'immediates only, padded by a byte', items: [timestamp(), staged('x', '<u2', (j) => j)], packetsPerHeap: 1 },
  {
    what: 'pointers that fill two packets, padded',
    items: Array.from({ length: 30 }, (_, i) => staged(`imm${i}`, ['u', 8], (j) => (i + j) % 256)),
    options: { packetSizeBytes: 200 },
    packetsPerHeap: 2,
  },
  {
    what: 'repeated pointers',
    items: [timestamp(), samples('adc', '|u1', [900]), staged('fine', '<i4', (j) => -j)],
    options: { packetSizeBytes: 256, repeatPointers: true },
    packetsPerHeap: 5,
  },
  {
    what: 'zero-length items among others',
    items: [samples('none', '<u2', [0]), samples('adc', '|u1', [10]), samples('nothing', '<f4', [3, 0])],
    packetsPerHeap: 1,
  },
  ...[24, 32, 40, 56].map(
    (heapAddressBits): Case => ({
      what: `SPEAD-64-${heapAddressBits}`,
      items: [staged('t', ['u', 24], (j) => 70_000 * j), samples('adc', '<u2', [1500]), staged('u', ['i', 16], (j) => -j)],
      options: { flavour: { heapAddressBits } },
      packetsPerHeap: 3,
    }),
  ),
  {
    what: 'SPEAD-64-8',
    items: [staged('t', ['u', 8], (j) => 250 + j), samples('adc', '|u1', [200])],
    options: { flavour: { heapAddressBits: 8 }, packetSizeBytes: 128 },
    packetsPerHeap: 3,
  },
]

for (const { what, items, options, packetsPerHeap } of CASES)
  test(`${what}: the first n of five heaps, for every n, in every order`, async (ctx) => {
    need(ctx, peer, 'the spead2 venv is missing (npm test makes it)')
    for (const mode of MODES) {
      const stream = await memoryStream({ ...GREEDY, ...options, to: TWO })
      const batch = filled(stream, items, 5, mode)
      expect(batch.packetsPerHeap).toBe(packetsPerHeap)
      let first = 1
      for (const heaps of [5, 1, 4, 2, 3, 5]) {
        const from = first
        const result = await stream.send(batch, { heaps })
        expect(result).toMatchObject({ heaps, packets: heaps * packetsPerHeap, firstCnt: from })
        const theirs = await bySpead2(peer, { items, heaps, mode, substreams, options: { ...options }, cnt: (j) => from + j })
        expect(dump(taken(stream)), `${mode}, ${heaps} heaps`).toBe(dump(theirs))
        first += heaps
      }
    }
  })

for (const { what, items, options } of CASES.filter(({ what }) => what !== 'SPEAD-64-8'))
  test(`${what}: descriptors in the first heap of each substream, then none`, async (ctx) => {
    need(ctx, peer, 'the spead2 venv is missing (npm test makes it)')
    for (const mode of MODES)
      for (const heaps of [3, 1, 2]) {
        const stream = await memoryStream({ ...GREEDY, ...options, to: TWO, descriptors: 'in-band' })
        const batch = filled(stream, items, 3, mode)
        const sending = { items, mode, substreams, options: { ...options } }
        const first = await stream.send(batch, { heaps })
        const theirs = await bySpead2(peer, { ...sending, heaps, cnt: (j) => 1 + j, described: [0, 1].slice(0, heaps) })
        expect(dump(taken(stream)), `${mode}, ${heaps} heaps`).toBe(dump(theirs))
        expect(first.packets).toBe(theirs.length)
        await stream.send(batch)
        // The second substream has had no heap yet where one was sent.
        const late = heaps === 1 ? [1] : []
        const plain = await bySpead2(peer, { ...sending, heaps: 3, cnt: (j) => 1 + heaps + j, described: late })
        expect(dump(taken(stream)), `${mode}, the second send`).toBe(dump(plain))
      }
  })

test('SPEAD-64-8 addresses fewer bytes than a descriptor has: in-band is refused when the batch is made', async () => {
  const { items, options } = CASES.find(({ what }) => what === 'SPEAD-64-8')!
  const stream = await memoryStream({ ...GREEDY, ...options, descriptors: 'in-band' })
  expect(() => filled(stream, items, 3)).toThrow(
    expect.objectContaining({ code: 'ERR_SPEADCAST_SPLIT', message: expect.stringMatching(/SPEAD-64-8 addresses up to 255/) }),
  )
})

describe('heap cnts', () => {
  const items = [timestamp(), samples('adc', '|u1', [3000])]
  const top = 2 ** 48 - 1

  test.for(THEIR_MODES)('explicit ones are sent as they are and leave the sequence alone (%s)', async (mode, ctx) => {
    need(ctx, peer, 'the spead2 venv is missing (npm test makes it)')
    const stream = await memoryStream(GREEDY)
    const batch = filled(stream, items, 6, mode)
    // spead2 takes −1 for the sequence's next, as the column does.
    const cnts = [-1, top, 0, -1, 2 ** 32, -1]
    batch.cnts.set(cnts)
    const groups = [6, 3, 6].map((heaps) => ({ heaps, cnts: cnts.slice(0, heaps) }))
    for (const { heaps } of groups) await stream.send(batch, { heaps })
    const [answer] = await peer.groups([
      peerGroups(
        items,
        mode,
        groups.map(({ cnts: group }) => group),
      ),
    ])
    expect(dump(taken(stream))).toBe(dump(peerPackets(answer!)))
  })

  test.for([
    ['wraps at the width', top - 2, 1],
    ['wraps in steps', top - 2, 3],
    ['carries over 32 bits', 2 ** 32 - 2, 1],
    ['has a step of more than 32 bits', 5, 2 ** 40 + 7],
    ['may go down: a step of 2^48 − 1', 2, top],
  ] as const)('the sequence %s', async ([, first, step], ctx) => {
    need(ctx, peer, 'the spead2 venv is missing (npm test makes it)')
    for (const mode of THEIR_MODES)
      for (const item of [items[1]!, samples('small', '|u1', [64])]) {
        const stream = await memoryStream({ ...GREEDY, firstCnt: first, cntStep: step })
        const batch = filled(stream, [item], 3, mode)
        const groups = [3, 1, 3, 2].map((heaps) => Array(heaps).fill(-1))
        for (const { length } of groups) await stream.send(batch, { heaps: length })
        const [answer] = await peer.groups([{ ...peerGroups([item], mode, groups), sequence: [String(first), String(step)] }])
        expect(dump(taken(stream))).toBe(dump(peerPackets(answer!)))
      }
  })
})
