/** A batch has more per heap than samples: cnt, substream, rate. */
import { describe, expect, test } from 'vitest'
import type { Stream } from '#dist/src/index.js'
import { COUNTER } from '#dist/src/stats.js'
import { rig } from '../support/engine-rig.js'
import { fill, filled, groupOf, inOrder, type Mode, memoryStream, samples, taken } from './support.js'

const MODES = ['serial', 'round-robin', 'by-substream'] as const
const ITEMS = [samples('adc', '|u1', [2992])]
/** SPEAD-64-N: the cnt is the low N bits of the first pointer. */
const cntOf = (packet: Uint8Array, bits = 48): bigint => Buffer.from(packet).readBigUInt64BE(8) & ((1n << BigInt(bits)) - 1n)
const cntsOn = (stream: Stream, bits = 48): number[] => taken(stream).map((packet) => Number(cntOf(packet, bits)))

describe('cnts', () => {
  test('−1 until written, then what they say; the sequence counts only the heaps that take from it', async () => {
    const stream = await memoryStream({ packetSizeBytes: 8972 })
    const batch = filled(stream, ITEMS, 4)
    expect(await stream.send(batch)).toMatchObject({ firstCnt: 1 })
    expect([...batch.cnts]).toEqual([-1, -1, -1, -1])
    batch.cnts[1] = 1000
    expect(await stream.send(batch)).toMatchObject({ firstCnt: 5 })
    batch.cnts.fill(0)
    expect(await stream.send(batch, { heaps: 2 })).toMatchObject({ firstCnt: 8 })
    batch.cnts.fill(-1)
    await stream.send(batch, { heaps: 2 })
    expect(cntsOn(stream)).toEqual([1, 2, 3, 4, 5, 1000, 6, 7, 0, 0, 8, 9])
  })

  test.for([
    [48, 2 ** 48 - 1],
    [40, 2 ** 40 - 1],
    [16, 65535],
    [56, 2 ** 53 - 1],
  ] as const)('SPEAD-64-%i: from 0 to %i', async ([heapAddressBits, most]) => {
    const stream = await memoryStream({ flavour: { heapAddressBits }, packetSizeBytes: 8972 })
    const batch = filled(stream, [samples('x', '|u1', [20])], 3)
    batch.cnts.set([most, 0, most - 1])
    await stream.send(batch)
    expect(cntsOn(stream, heapAddressBits)).toEqual([most, 0, most - 1])
    for (const wrong of [most + 1, -2, -1.5, 0.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      batch.cnts[1] = wrong
      expect(() => stream.send(batch), String(wrong)).toThrow(
        expect.objectContaining({ code: 'ERR_SPEADCAST_HEAP_CNT', message: expect.stringContaining(`heap 1 is ${wrong}`) }),
      )
    }
    expect(batch.state).toBe('free')
    // Not among these.
    expect(await stream.send(batch, { heaps: 1 })).toMatchObject({ heaps: 1, firstCnt: 1 })
  })

  test('a new sequence counts from the next send on', async () => {
    const stream = await memoryStream({ packetSizeBytes: 8972 })
    const batches = [1, 2, 3].map(() => filled(stream, ITEMS, 2))
    void stream.send(batches[0]!)
    stream.setCntSequence(100, 10)
    void stream.send(batches[1]!)
    stream.setCntSequence(2n ** 48n - 1n, 1)
    void stream.send(batches[2]!)
    await stream.flush()
    expect(cntsOn(stream)).toEqual([1, 2, 100, 110, 2 ** 48 - 1, 0])
  })
})

describe('cnts of one batch, sent again and again', () => {
  const HEAPS = 5
  /** [first, step], then how many heaps of the batch each send takes. */
  const runs: [[bigint, bigint], number[]][] = [
    [
      [1n, 1n],
      [5, 5, 2, 5],
    ],
    [
      [2n ** 32n - 12n, 1n],
      [5, 5, 5, 5],
    ],
    [
      [2n ** 33n - 20n, 4n],
      [5, 5, 1, 5],
    ],
    [
      [7n, 2n ** 31n + 3n],
      [5, 5],
    ],
    [
      [9n, 2n ** 33n + 1n],
      [5, 5],
    ],
    [
      [2n ** 48n - 8n, 1n],
      [5, 5, 5],
    ],
    [
      [65530n, 1n],
      [3, 5, 5],
    ],
  ]
  for (const bits of [16, 24, 32, 40, 48])
    for (const [packetSizeBytes, packets] of [
      [8972, 1],
      [1072, 3],
    ] as const)
      test(`SPEAD-64-${bits}, heaps of ${packets} packets: every header has its own, modulo the width`, async () => {
        const stream = await memoryStream({ flavour: { heapAddressBits: bits }, packetSizeBytes })
        const batch = filled(stream, ITEMS, HEAPS)
        expect(batch.packetsPerHeap).toBe(packets)
        for (const [pair, sends] of runs) {
          const [first, step] = pair.map((value) => BigInt.asUintN(bits, value)) as [bigint, bigint]
          stream.setCntSequence(first, step)
          let next = first
          for (const heaps of sends) {
            await stream.send(batch, { heaps })
            const expected = Array.from({ length: heaps }, (_, j) => BigInt.asUintN(bits, next + BigInt(j) * step))
            expect(taken(stream).map((packet) => cntOf(packet, bits))).toEqual(
              expected.flatMap((cnt) => new Array(packets).fill(cnt)),
            )
            next += BigInt(heaps) * step
          }
        }
      })
})

describe('substreams', () => {
  const to = ['10.0.0.1:7148', '10.0.0.1:7149', '10.0.0.1:7150']

  test.for([
    ['heap j to j mod endpoints', undefined, [0, 1, 2, 0, 1]],
    ['one for all', 2, [2, 2, 2, 2, 2]],
    ['a list', [2, 2, 0, 1, 0], [2, 2, 0, 1, 0]],
    ['a function of the heap', (j: number) => 2 - (j % 3), [2, 1, 0, 2, 1]],
  ] as const)('%s', async ([, substreams, expected]) => {
    for (const groupMode of MODES) {
      const stream = await memoryStream({ to, packetSizeBytes: 1100 })
      const batch = stream.createBatch({
        items: groupOf(ITEMS),
        heaps: 5,
        groupMode,
        ...(substreams !== undefined && { substreams }),
      })
      fill(batch, ITEMS)
      expect(batch.packetsPerHeap).toBe(3)
      for (const heaps of [5, 3]) {
        await stream.send(batch, { heaps })
        const wanted = inOrder(
          expected.slice(0, heaps).map((substream, j) => [1, 2, 3].map(() => ({ substream, heap: j }))),
          groupMode,
          expected.slice(0, heaps),
        )
        const first = heaps === 5 ? 1 : 6
        expect(stream.packets.splice(0).map(({ substream, bytes }) => ({ substream, heap: Number(cntOf(bytes)) - first }))).toEqual(
          wanted,
        )
      }
    }
  })
})

describe('rates, under a clock of the test', () => {
  const RATE = 1e8
  const STREAM_RATE = 1e9
  const TURNS = [0, 1, 0, 1]

  /** Sends the batch once; nanoseconds from the first packet until each packet was posted. */
  function times(stream: Stream, mode: Mode, rates: readonly number[], heaps = rates.length): number[] {
    const at: number[] = []
    const r = rig({ failAt: () => void at.push(r.clock) }, { rateBytesPerSecond: STREAM_RATE, burstBytes: 1 })
    const substreams = TURNS.slice(0, rates.length)
    const batch = stream.createBatch({ items: groupOf(ITEMS), heaps: rates.length, groupMode: mode, substreams, rates })
    const { rows, compile } = batch.template.compilation(heaps)
    r.engine.addVariant(1, compile(), batch.template.rates)
    r.submit(1, { heaps, compilation: () => ({ rows }), explicitCnts: false } as never)
    r.run()
    expect(r.ring.counters[COUNTER.heapsSent]).toBe(heaps)
    expect(at).toHaveLength(rows)
    return at.map((time) => time - at[0]!)
  }

  test('each heap takes its own time, in any order, in part or whole', async () => {
    const stream = await memoryStream({ to: '10.0.0.1+1:7148', packetSizeBytes: 1100, rate: STREAM_RATE })
    const sample = filled(stream, ITEMS, 1)
    await stream.send(sample)
    const bytes = taken(stream).map(({ length }) => length)
    expect(bytes).toHaveLength(3)
    const rates = [-1, RATE, 0, 2 * RATE]
    for (const mode of MODES)
      for (const heaps of [4, 2, 3]) {
        const cost = rates
          .slice(0, heaps)
          .map((rate) => bytes.map((n) => (rate === 0 ? 0 : (n * 1e9) / (rate < 0 ? STREAM_RATE : rate))))
        const costs = inOrder(cost, mode, TURNS.slice(0, heaps))
        const got = times(stream, mode, rates, heaps)
        // Packet r + 1 goes when all before it are paid for; the first is free to go at once, with its successor (engine/limiter.test.ts).
        for (let r = 2; r < got.length; r++)
          expect(got[r]! - got[1]!, `${mode}, ${heaps} heaps, packet ${r}`).toBeCloseTo(
            costs.slice(1, r).reduce((sum, n) => sum + n, 0),
            3,
          )
      }
  })
})
