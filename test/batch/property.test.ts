/**
 * Any batch, by chance: items of every kind, layouts, splits, orders, substreams, memory of the user's, first n heaps, descriptors in
 * band. Its packets are those that packetsOf makes of each heap by itself. A failure prints its seed; SPEADCAST_TEST_SEED repeats it.
 */
import fc from 'fast-check'
import { afterAll, expect, test } from 'vitest'
import { Region } from '#dist/ffi/memory/region.js'
import type { ExternalMemory } from '#dist/src/batch/external-memory.js'
import { BatchTemplate } from '#dist/src/batch/template.js'
import {
  Heap,
  Item,
  ItemGroup,
  type ItemInit,
  type ItemValue,
  makeFlavour,
  openStream,
  packetsOf,
  type StreamOptions,
} from '#dist/src/index.js'
import { alignmentOf } from '#dist/src/spead/dtype.js'
import type { ExactPointer } from '#dist/src/spead/index.js'
import { dump, type ItemCase } from '../support/spead-cases.js'
import { itemArb } from '../support/spead-generate.js'
import { inOrder, type Mode, rawBytes } from './support.js'

const SEED = Number(process.env.SPEADCAST_TEST_SEED ?? Date.now() % 2 ** 31)
const seen = { interleaved: 0, apart: 0, external: 0, inBand: 0, partial: 0, packets: 0 }
afterAll(() => console.log(`batches by chance, seed ${SEED}: ${JSON.stringify(seen)}`))

// Kinds with a fixed shape; a string may be of any length, and is then left out.
const KINDS = ['immediate', 'dtype', 'fortran', 'format', 'bits', 'string', 'empty'] as const

/** A single float of which processors make a quiet NaN when it becomes a number, as it must to be staged. */
function signalling({ init, theirs }: ItemCase): boolean {
  if (!/f4$/.test(init.dtype ?? '') || !theirs || !('raw' in theirs)) return false
  const bytes = Buffer.from(theirs.raw, 'base64')
  const bits = init.dtype!.startsWith('>') ? bytes.readUInt32BE() : bytes.readUInt32LE()
  return bytes.length === 4 && (bits & 0x7f800000) === 0x7f800000 && (bits & 0x7fffff) !== 0
}

const batchArb = fc
  .record({
    heapAddressBits: fc.constantFrom(16, 24, 32, 40, 48),
    kinds: fc.array(fc.record({ kind: fc.constantFrom(...KINDS), bytes: fc.constantFrom(1, 8, 60, 700) }), {
      minLength: 1,
      maxLength: 6,
    }),
    heaps: fc.integer({ min: 1, max: 6 }),
    endpoints: fc.integer({ min: 1, max: 3 }),
    /** Modulo the endpoints. */
    substreams: fc.array(fc.nat(2), { minLength: 6, maxLength: 6 }),
    mode: fc.constantFrom<Mode>('serial', 'round-robin', 'by-substream'),
    split: fc.constantFrom('even', 'greedy', 'exact'),
    repeatPointers: fc.boolean(),
    extraBytes: fc.constantFrom(0, 3, 24, 400, 9000),
    external: fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }),
    gap: fc.nat(3),
    sends: fc.array(fc.nat(5), { minLength: 1, maxLength: 3 }),
    inBand: fc.boolean(),
  })
  .chain((drawn) =>
    fc
      .tuple(
        ...drawn.kinds.map(({ kind, bytes }, i) =>
          itemArb(kind, { id: 0x400 + i, name: `item ${i}`, description: '' }, bytes, drawn.heapAddressBits / 8),
        ),
      )
      .map((items) => ({ ...drawn, items: items.filter((item) => !item.init.shape?.includes(null) && !signalling(item)) })),
  )
  .filter(({ items }) => items.length > 0)

type Drawn = typeof batchArb extends fc.Arbitrary<infer T> ? T : never

/** Standard pointers and one per item; payload for at least two packets where there is some. */
function exactSplit(items: readonly Item[], flavourBytes: number, payloadBytes: number) {
  const pointers: ExactPointer[] = ['heap-cnt', 'payload-offset', 'payload-length', ...items.map(({ id }) => ({ item: id }))]
  const addressed = items.reduce(
    (sum, item) => sum + (item.allowImmediate && item.byteLength! <= flavourBytes ? 0 : item.byteLength!),
    0,
  )
  return { payloadBytes: Math.min(addressed, payloadBytes), pointers }
}

async function check(drawn: Drawn): Promise<void> {
  const { heapAddressBits, heaps, endpoints, mode, repeatPointers } = drawn
  const substreams = drawn.substreams.slice(0, heaps).map((k) => k % endpoints)
  const flavour = makeFlavour({ heapAddressBits })
  const inits = drawn.items.map(({ init, ours }): ItemInit => ({ ...init, value: ours! }))
  const items = inits.map((init) => new Item(init as ItemInit & { id: number }))
  const smallest = 56 + 8 * items.length
  const exact = drawn.split === 'exact'
  const options: StreamOptions = {
    to: Array.from({ length: endpoints }, (_, i) => `10.0.0.1:${7148 + i}`),
    backend: 'memory',
    flavour: { heapAddressBits },
    packetSizeBytes: smallest + drawn.extraBytes,
    split: exact ? exactSplit(items, heapAddressBits / 8, 1 + drawn.extraBytes) : (drawn.split as 'even' | 'greedy'),
    repeatPointers: repeatPointers && !exact,
    descriptors: drawn.inBand ? 'in-band' : 'none',
    firstCnt: 1,
  }
  await using stream = await openStream(options)
  const group = new ItemGroup({ flavour })
  for (const item of items) group.add(item)
  const isImmediate = (item: Item): boolean => item.allowImmediate && item.byteLength! <= heapAddressBits / 8
  const regions: Region[] = []
  const memory = Object.fromEntries(
    items.flatMap((item, i): [string, ExternalMemory][] => {
      if (!drawn.external[i] || isImmediate(item)) return []
      const unit = item.dtype ? alignmentOf(item.dtype) : 1
      const strideBytes = Math.ceil(item.byteLength! / unit) * unit + drawn.gap * unit
      const region = Region.allocate(Math.max(1, (heaps + 1) * strideBytes), { hugePages: 'never' })
      regions.push(region)
      return [[item.name, { region, offsetBytes: drawn.gap * unit, strideBytes }]]
    }),
  )
  const batch = stream.createBatch({ items: group, heaps, groupMode: mode, substreams, memory })
  expect(batch.template).toBeInstanceOf(BatchTemplate)
  // From the start every heap has the items' values, but for those in the user's memory; heap j then gets bytes of its own.
  const values = Array.from({ length: heaps }, (_, j) =>
    items.map((item): ItemValue => {
      if (isImmediate(item)) return item.value as ItemValue
      const bytes = rawBytes(batch.heap(j)[item.name]!)
      expect(bytes.length).toBe(item.byteLength)
      if (memory[item.name]) for (let i = 0; i < bytes.length; i++) bytes[i] = i * 7 + j
      else if (bytes.length > 0) bytes[bytes.length - 1]! ^= j
      return bytes.slice()
    }),
  )
  let cnt = 1
  const told = new Set<number>()
  for (const drawnHeaps of drawn.sends) {
    const n = 1 + (drawnHeaps % heaps)
    const firsts = Array.from({ length: n }, (_, j) => j).filter((j) => drawn.inBand && substreams.indexOf(substreams[j]!) === j)
    const describes = firsts.filter((j) => !told.has(substreams[j]!))
    for (const j of describes) told.add(substreams[j]!)
    const expected = Array.from({ length: n }, (_, j) => {
      const described = describes.includes(j)
      const heap = new Heap(flavour)
      heap.repeatPointers = options.repeatPointers!
      for (const [i, item] of items.entries()) {
        if (described) heap.addDescriptor(item)
        heap.addItem(new Item({ ...(inits[i] as ItemInit & { id: number }), value: values[j]![i]! }))
      }
      const split = described && exact ? 'even' : options.split!
      return packetsOf(heap, cnt + j, { maxPacketSizeBytes: options.packetSizeBytes!, split }).map((bytes) => ({
        substream: substreams[j]!,
        bytes,
      }))
    })
    const result = await stream.send(batch, { heaps: n })
    const sent = stream.packets.splice(0)
    const wanted = inOrder(expected, mode, substreams.slice(0, n))
    expect(dump(sent.map(({ bytes }) => bytes))).toBe(dump(wanted.map(({ bytes }) => bytes)))
    expect(sent.map(({ substream }) => substream)).toEqual(wanted.map(({ substream }) => substream))
    expect(result).toMatchObject({ heaps: n, packets: wanted.length, firstCnt: cnt })
    cnt += n
    seen.packets += sent.length
    seen.partial += n < heaps ? 1 : 0
    seen.inBand += describes.length > 0 ? 1 : 0
  }
  seen[batch.interleaved ? 'interleaved' : 'apart']++
  seen.external += regions.length > 0 ? 1 : 0
  batch.close()
  for (const region of regions) region.release()
}

test('300 batches: every packet is what packetsOf makes of its heap', { timeout: 60_000 }, async () => {
  const refused = new Map<string, number>()
  await fc.assert(
    fc.asyncProperty(batchArb, async (drawn) => {
      try {
        await check(drawn)
      } catch (error) {
        // Pointers that may not be repeated in packets so small, payloads beyond the flavour: packetsOf is no wider.
        const { code } = error as { code?: string }
        if (code !== 'ERR_SPEADCAST_PACKET_SIZE' && code !== 'ERR_SPEADCAST_SPLIT') throw error
        refused.set(code, (refused.get(code) ?? 0) + 1)
      }
    }),
    { numRuns: 300, seed: SEED },
  )
  const refusals = [...refused.values()].reduce((sum, n) => sum + n, 0)
  console.log(`refused: ${JSON.stringify([...refused])}`)
  expect(refusals).toBeLessThan(100)
  for (const [what, n] of Object.entries(seen)) expect(n, what).toBeGreaterThan(10)
})
