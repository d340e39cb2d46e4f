/**
 * Sent by substream, each substream's packets are those that serial sends it, byte for byte and in its order, and no other substream's
 * come between them: for any assignment of heaps to substreams, number of heaps, cnts and packets a heap; of batches and of lists of heaps.
 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { BatchViews } from '#dist/src/batch/views.js'
import { type Batch, Heap, type Stream } from '#dist/src/index.js'
import { dump } from '../support/spead-cases.js'
import {
  type BatchItem,
  compiledOf,
  fill,
  groupOf,
  type Mode,
  memoryStream,
  rawBytes,
  samples,
  segmentsOf,
  timestamp,
} from './support.js'

const SEED = Number(process.env.SPEADCAST_TEST_SEED ?? Date.now() % 2 ** 31)
const MOST = 12
const ENDPOINTS = 5
const TO = `10.0.0.1+${ENDPOINTS - 1}:7148`

interface Sent {
  readonly substream: number
  readonly bytes: Uint8Array
}

/** The same packets, one substream after the other, in the order of their first ones. */
function grouped(packets: readonly Sent[]): Sent[] {
  const substreams = new Set(packets.map(({ substream }) => substream))
  return [...substreams].flatMap((wanted) => packets.filter(({ substream }) => substream === wanted))
}

const shown = (packets: readonly Sent[]) => dump(packets.map(({ substream, bytes }) => Uint8Array.of(substream, ...bytes)))

const drawnArb = fc.record({
  substreams: fc.array(fc.nat(ENDPOINTS - 1), { minLength: 1, maxLength: MOST }),
  bytes: fc.constantFrom(8, 100, 700, 3000),
  packetSizeBytes: fc.constantFrom(200, 1472),
  descriptors: fc.constantFrom('none', 'in-band'),
  sends: fc.array(fc.nat(MOST), { minLength: 1, maxLength: 5 }),
  /** Cnts of one's own, of these heaps. */
  explicit: fc.array(fc.nat(MOST - 1), { maxLength: 2 }),
  /** Bytes of the heaps of a list. */
  lengths: fc.array(fc.constantFrom(7, 150, 900), { minLength: MOST, maxLength: MOST }),
})

test('300 batches and lists, each sent in both orders', { timeout: 60_000 }, async () => {
  const seen = { regrouped: 0, partial: 0, interleaved: 0, apart: 0, explicit: 0 }
  await fc.assert(
    fc.asyncProperty(drawnArb, async ({ substreams, bytes, packetSizeBytes, descriptors, sends, explicit, lengths }) => {
      const items = [timestamp(), samples('adc', '|u1', [bytes])]
      const open = () => memoryStream({ to: TO, packetSizeBytes, descriptors })
      const modes = ['serial', 'by-substream'] as const
      const streams = await Promise.all(modes.map(open))
      const batches = streams.map((stream, i) => {
        const batch = stream.createBatch({ items: groupOf(items), heaps: substreams.length, groupMode: modes[i]!, substreams })
        fill(batch, items)
        for (const j of explicit) if (j < batch.heaps) batch.cnts[j] = 2 ** 40 + j
        return batch
      })
      for (const drawn of sends) {
        const heaps = 1 + (drawn % substreams.length)
        const results = await Promise.all(streams.map((stream, i) => stream.send(batches[i]!, { heaps })))
        expect(results[1]).toEqual(results[0])
        compare()
        if (heaps < substreams.length) seen.partial++
      }
      const list = substreams.map((substream, j) => ({
        heap: new Heap().addRaw({ id: 0x3000, bytes: new Uint8Array(lengths[j]!).fill(j), allowImmediate: false }),
        substream,
        ...(explicit.includes(j) && { cnt: 2 ** 40 + j }),
      }))
      // Twice: the second send is of what the first compiled.
      for (let n = 0; n < 2; n++) {
        await Promise.all(streams.map((stream, i) => stream.sendHeaps(list, modes[i]!)))
        compare()
      }
      seen[batches[1]!.interleaved ? 'interleaved' : 'apart']++
      if (explicit.some((j) => j < substreams.length)) seen.explicit++
      for (const stream of streams) await stream.destroy()

      function compare() {
        const [serial, own] = streams.map((stream) => stream.packets.splice(0))
        expect(shown(own!)).toBe(shown(grouped(serial!)))
        if (shown(own!) !== shown(serial!)) seen.regrouped++
      }
    }),
    { numRuns: 300, seed: SEED },
  )
  console.log(`by substream, seed ${SEED}: ${JSON.stringify(seen)}`)
  for (const [what, n] of Object.entries(seen)) expect(n, what).toBeGreaterThan(30)
})

const TURNS = [2, 0, 1, 2, 0, 1, 2]
const created = (stream: Stream, items: readonly BatchItem[], groupMode: Mode, substreams: readonly number[] = TURNS): Batch =>
  stream.createBatch({ items: groupOf(items), heaps: substreams.length, groupMode, substreams })

test('a message of interleaved heaps is one run of memory: each follows the one that is sent before it', async () => {
  const stream = await memoryStream({ to: TO })
  const batch = created(stream, [timestamp(), samples('adc', '|u1', [128])], 'by-substream')
  expect(batch.interleaved).toBe(true)
  for (const heaps of [7, 4]) {
    const compiled = compiledOf(batch, heaps)
    const ends = new Map<number, number>()
    for (const [row, segments] of segmentsOf(compiled).entries()) {
      expect(segments).toHaveLength(1)
      const [, offset, length] = segments[0]!
      const substream = compiled.table.substream[row]!
      expect(ends.get(substream) ?? offset, `${heaps} heaps, row ${row}`).toBe(offset)
      ends.set(substream, offset + length)
    }
  }
})

test('views are of the heap they are asked for, whoever asks', async () => {
  const stream = await memoryStream({ to: TO })
  const items = [timestamp(), samples('adc', '|u1', [128])]
  const batch = created(stream, items, 'by-substream')
  fill(batch, items)
  // As another thread gets it.
  const elsewhere = new BatchViews(structuredClone(batch.handle()))
  for (const [j, view] of [...batch.item('adc')].entries()) {
    expect(rawBytes(view)).toEqual(items[1]!.value(j))
    expect(rawBytes(elsewhere.heap(j).adc!)).toEqual(items[1]!.value(j))
  }
})

test('one substream, or one after the other already, is serial: any first heaps are compiled with the whole', async () => {
  const stream = await memoryStream({ to: TO })
  const items = [timestamp(), samples('adc', '|u1', [128])]
  for (const substreams of [[3, 3, 3], [2, 2, 0, 1, 1], [4]]) {
    const [serial, own] = (['serial', 'by-substream'] as const).map((mode) => created(stream, items, mode, substreams))
    expect(segmentsOf(compiledOf(own!))).toEqual(segmentsOf(compiledOf(serial!)))
    expect(own!.template.compilation(1).key).toBe('all')
  }
  expect(created(stream, items, 'by-substream').template.compilation(1).key).not.toBe('all')
})
