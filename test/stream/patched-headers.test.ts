/**
 * A send writes only what it changes in headers that stand from earlier ones. Random histories of sends over one memory, with numbers
 * around 2^32, where upper halves change: every pointer must be what the test's own arithmetic says, whatever stood there before.
 */
import fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { itemsOf, memoryStream, parse, TIMESTAMP } from './support.js'

const SEED = Number(process.env.SPEADCAST_TEST_SEED ?? Date.now() % 2 ** 31)
const HEAPS = 5
/** By substream, heaps 0, 2, 4, 1, 3. */
const ORDERS = { serial: [0, 1, 2, 3, 4], 'round-robin': [0, 1, 2, 3, 4], 'by-substream': [0, 2, 4, 1, 3] }
const MODES = Object.keys(ORDERS) as (keyof typeof ORDERS)[]
const seen = { pointers: 0, jumps: 0, partial: 0, explicit: 0, mixed: 0 }
afterAll(() => console.log(`patched headers, seed ${SEED}: ${JSON.stringify(seen)}`))

const number48 = fc.oneof(
  fc.integer({ min: 0, max: 12 }).map((n) => 2 ** 32 - 6 + n),
  fc.integer({ min: 0, max: 5 }),
  fc.integer({ min: 0, max: 2 ** 15 - 1 }).map((n) => n * 2 ** 32 + 2 ** 32 - 3),
)
const sendArb = fc.record({
  batch: fc.nat(MODES.length - 1),
  heaps: fc.oneof({ arbitrary: fc.constant(HEAPS), weight: 3 }, { arbitrary: fc.integer({ min: 1, max: HEAPS }), weight: 1 }),
  /** Before it, the sequence jumps. */
  next: fc.option(number48, { freq: 3 }),
  explicit: fc.option(number48, { freq: 5 }),
  timestamps: fc.oneof(
    number48.map((first) => Array.from({ length: HEAPS }, (_, j) => first + j)),
    fc.array(number48, { minLength: HEAPS, maxLength: HEAPS }),
  ),
})

test.for([
  ['one packet a heap', 100],
  ['several packets a heap', 3000],
] as const)('heap cnts and timestamps are right whatever was sent before: %s', async ([, bytes]) => {
  await fc.assert(
    fc.asyncProperty(fc.array(sendArb, { minLength: 2, maxLength: 12 }), async (sends) => {
      const stream = await memoryStream({ to: '10.0.0.1+1:7148', descriptors: 'none' })
      const batches = MODES.map((groupMode) => stream.createBatch({ items: itemsOf(bytes), heaps: HEAPS, groupMode }))
      let next = 1
      for (const { batch: which, heaps, next: jump, explicit, timestamps } of sends) {
        const batch = batches[which]!
        const mode = MODES[which]!
        const order = ORDERS[mode].filter((j) => j < heaps)
        if (jump !== null) {
          next = jump
          stream.setCntSequence(jump, 1)
          seen.jumps++
        }
        batch.cnts.fill(-1)
        if (explicit !== null) {
          batch.cnts[0] = explicit
          seen.explicit++
        }
        batch.immediate('timestamp').set(timestamps)
        await stream.send(batch, { heaps })
        const packets = stream.packets.splice(0).map(parse)
        const cnts = Array.from({ length: heaps }, (_, j) => (j === 0 && explicit !== null ? explicit : next++ % 2 ** 48))
        const perHeap = packets.length / heaps
        for (const [i, packet] of packets.entries()) {
          const j = order[mode === 'round-robin' ? i % heaps : Math.floor(i / perHeap)]!
          expect(packet.cnt).toBe(cnts[j])
          const first = mode === 'round-robin' ? i < heaps : i % perHeap === 0
          if (first) expect(packet.value(TIMESTAMP)).toBe(timestamps[j])
        }
        seen.pointers += packets.length + heaps
        if (heaps < HEAPS) seen.partial++
        if (new Set(timestamps.map((t) => Math.floor(t / 2 ** 32))).size > 1) seen.mixed++
      }
      await stream.close()
    }),
    { seed: SEED, numRuns: 150 },
  )
  for (const count of Object.values(seen)) expect(count).toBeGreaterThan(20)
})
