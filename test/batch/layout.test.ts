/** Where the bytes of a batch lie: what is contiguous is one segment, views are aligned, nothing overlaps, nothing exceeds 4 GiB. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type AddressedItem, layoutBatch } from '#dist/src/batch/layout.js'
import { makeFlavour } from '#dist/src/index.js'
import { planPackets } from '#dist/src/spead/index.js'
import {
  type BatchItem,
  compiledOf,
  filled,
  groupOf,
  memoryStream,
  planned,
  rawBytes,
  samples,
  segmentsOf,
  taken,
  timestamp,
} from './support.js'

const FOUR_GIB = 2 ** 32

async function sentAsPlanned(items: readonly BatchItem[], heaps: number, packetSizeBytes = 1472) {
  const stream = await memoryStream({ packetSizeBytes })
  const batch = filled(stream, items, heaps)
  await stream.send(batch)
  expect(taken(stream)).toEqual(planned({ items, heaps, options: { packetSizeBytes } }))
  return { batch, segments: segmentsOf(compiledOf(batch)) }
}

describe('one packet a heap: headers beside their payloads', () => {
  test('each packet is one segment, and all of them one run of bytes', async () => {
    const { batch, segments } = await sentAsPlanned([timestamp(), samples('adc', '|i1', [8192])], 16, 8972)
    expect(batch).toMatchObject({ interleaved: true, packetsPerHeap: 1 })
    const bytes = 8 + 6 * 8 + 8192
    expect(segments).toEqual(Array.from({ length: 16 }, (_, j) => [[0, j * bytes, bytes]]))
  })

  test('several items, each aligned', async () => {
    const items = [samples('a', '<f8', [4]), samples('b', '<f4', [6]), samples('c', '|u1', [8])]
    const { batch, segments } = await sentAsPlanned(items, 5)
    expect(batch.interleaved).toBe(true)
    expect(segments.map(({ length }) => length)).toEqual([1, 1, 1, 1, 1])
    expect(batch.heap(4).a!.byteOffset % 8).toBe(0)
  })

  test('not where the second heap would be off the alignment of its items; one heap alone may be', async () => {
    const items = [samples('a', '<f8', [4]), samples('b', '|u1', [9])]
    expect((await sentAsPlanned(items, 1)).batch.interleaved).toBe(true)
    const { batch, segments } = await sentAsPlanned(items, 3)
    expect(batch).toMatchObject({ interleaved: false, packetsPerHeap: 1 })
    expect(segments.map((packet) => packet.map(([, , length]) => length))).toEqual(Array(3).fill([56, 41]))
    for (let j = 0; j < 3; j++) expect(batch.heap(j).a!.byteOffset % 8).toBe(0)
  })
})

describe('several packets a heap: headers apart from payloads', () => {
  test('a header and one piece of payload per packet, the payload of a heap without gaps', async () => {
    const items = [timestamp(), samples('a', '<i2', [1000]), samples('b', '<c8', [300])]
    const { batch, segments } = await sentAsPlanned(items, 3)
    expect(batch).toMatchObject({ interleaved: false, packetsPerHeap: 4 })
    expect(segments.every((packet) => packet.length === 2)).toBe(true)
    for (let j = 0; j < 3; j++) {
      const payload = segments.slice(4 * j, 4 * j + 4).map(([, part]) => part!)
      for (let p = 1; p < 4; p++) expect(payload[p]![1]).toBe(payload[p - 1]![1] + payload[p - 1]![2])
      // A cache line of its own for every heap.
      expect(payload[0]![1] % 64).toBe(0)
      expect(payload.reduce((sum, [, , length]) => sum + length, 0)).toBe(2000 + 2400)
    }
    // The headers of a heap, of all heaps, follow one another.
    const headers = segments.map(([header]) => header!)
    for (let r = 1; r < 12; r++) expect(headers[r]![1]).toBe(headers[r - 1]![1] + headers[r - 1]![2])
  })

  test('the payload starts where all items are aligned', async () => {
    const items = [samples('a', '|u1', [7]), samples('b', '<f8', [300]), samples('c', '<u2', [4])]
    const { batch, segments } = await sentAsPlanned(items, 2)
    expect(segments.every((packet) => packet.length === 2)).toBe(true)
    for (let j = 0; j < 2; j++) {
      const { a, b, c } = batch.heap(j)
      expect(b!.byteOffset).toBe(a!.byteOffset + 7)
      expect(c!.byteOffset).toBe(b!.byteOffset + 2400)
      expect([b!.byteOffset % 8, c!.byteOffset % 2]).toEqual([0, 0])
    }
  })

  test('where no address aligns all items they are stored apart, and packets gather them', async () => {
    const items = [samples('a', '<f8', [2]), samples('b', '|u1', [7]), samples('c', '<i2', [2000])]
    const { batch, segments } = await sentAsPlanned(items, 3)
    expect(batch.packetsPerHeap).toBe(3)
    expect(segments.map(({ length }) => length)).toEqual([4, 2, 2, 4, 2, 2, 4, 2, 2])
    for (let j = 0; j < 3; j++) expect([batch.heap(j).a!.byteOffset % 8, batch.heap(j).c!.byteOffset % 2]).toEqual([0, 0])
  })
})

test('items may be named like what every object has', async () => {
  const items = ['constructor', 'toString', '__proto__', 'hasOwnProperty', 'valueOf'].map((name) => samples(name, '|u1', [20]))
  const stream = await memoryStream()
  const batch = filled(stream, items, 3)
  for (const { init, value } of items) {
    expect(Object.keys(batch.heap(2))).toContain(init.name)
    expect(rawBytes(batch.heap(2)[init.name]!)).toEqual(value(2))
    expect([...batch.item(init.name)].map((view) => rawBytes(view))).toEqual([0, 1, 2].map((j) => value(j)))
  }
  await stream.send(batch)
  expect(taken(stream)).toEqual(planned({ items, heaps: 3 }))
})

const itemArb = fc.record({
  lengthBytes: fc.oneof(fc.nat(20), fc.nat(5000)),
  alignment: fc.constantFrom(1, 2, 4, 8),
  external: fc.boolean(),
})

/** A plan and a layout as a batch makes them, but without memory. */
function layoutOf(
  lengths: { lengthBytes: number; alignment: number; external?: boolean }[],
  heaps: number,
  packetSizeBytes: number,
  columns = 2,
) {
  const items = lengths.map(({ lengthBytes, alignment, external }, i): AddressedItem => {
    const length = Math.ceil(lengthBytes / alignment) * alignment
    const region = { region: 1, offset: i * 2 ** 20, stride: length }
    return { name: `${i}`, lengthBytes: length, alignment, ...(external && { external: region }) }
  })
  const plan = planPackets({
    flavour: makeFlavour(),
    items: items.map(({ lengthBytes }, i) => ({ id: 0x400 + i, immediate: false, lengthBytes })),
    maxPacketSizeBytes: packetSizeBytes,
  })
  return { items, plan, layout: layoutBatch(plan, items, heaps, columns) }
}

test('headers, payloads and columns of any layout are apart from each other and inside the region', () => {
  fc.assert(
    fc.property(
      fc.array(itemArb, { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 1, max: 5 }),
      fc.constantFrom(200, 1472, 8972, 65507),
      fc.nat(3),
      (lengths, heaps, packetSizeBytes, columns) => {
        const { items, plan, layout } = layoutOf(lengths, heaps, packetSizeBytes, columns)
        const taken: { at: number; end: number; what: string }[] = []
        const take = (what: string, at: number, length: number) => length > 0 && taken.push({ what, at, end: at + length })
        for (let j = 0; j < heaps; j++) {
          take(`header ${j}`, layout.headerOffset(j), plan.headers.length)
          const parts = layout.parts(j)
          expect(parts.reduce((sum, { length }) => sum + length, 0)).toBe(plan.heapLengthBytes)
          for (const { region, offset, length } of parts) {
            // Zeros that all heaps may share.
            const padding = offset === layout.parts(0).at(-1)!.offset && length === plan.paddingBytes
            if (region === 0 && !(padding && j > 0)) take(`payload ${j}`, offset, length)
          }
        }
        expect(layout.columnsAt % 8).toBe(0)
        take('columns', layout.columnsAt, columns * heaps * 8)
        taken.sort((a, b) => a.at - b.at)
        for (let i = 1; i < taken.length; i++) expect(taken[i]!.at, JSON.stringify(taken)).toBeGreaterThanOrEqual(taken[i - 1]!.end)
        expect(taken.at(-1)!.end).toBeLessThanOrEqual(layout.byteLength)
        for (const [i, { offset, stride, lengthBytes }] of layout.places.entries()) {
          const { alignment, external } = items[i]!
          if (!external && heaps > 1) expect(stride).toBeGreaterThanOrEqual(lengthBytes)
          for (let j = 0; j < heaps; j++) expect((offset + j * stride) % alignment).toBe(0)
        }
      },
    ),
    { numRuns: 500 },
  )
})

describe('more than 4 GiB', () => {
  test('is refused when the batch is made, with what would fit', async () => {
    const stream = await memoryStream({ packetSizeBytes: 8972 })
    const before = process.memoryUsage.rss()
    const refuse = (heaps: number, samplesPerHeap: number, message: RegExp) =>
      expect(() => stream.createBatch({ items: groupOf([timestamp(), samples('adc', '<i2', [samplesPerHeap])]), heaps })).toThrow(
        expect.objectContaining({ code: 'ERR_SPEADCAST_MEMORY', message: expect.stringMatching(message) }),
      )
    refuse(2 ** 20, 4096, /^a batch of 1048576 heaps × 8192 bytes exceeds 4 GiB; use at most 5\d{5} heaps per batch$/)
    refuse(1, 2 ** 31 - 2, /^a batch of 1 heap × 4294967292 bytes exceeds 4 GiB; use smaller heaps$/)
    expect(process.memoryUsage.rss() - before).toBeLessThan(2 ** 29)
  })

  test('the number of heaps that an error names does fit, whatever the layout', () => {
    const shapes = [
      [{ lengthBytes: 8192, alignment: 1 }],
      [{ lengthBytes: 100_000, alignment: 2 }],
      // Stored apart, each in cache lines of its own, most of which is air.
      [{ lengthBytes: 8, alignment: 8 }, { lengthBytes: 7, alignment: 1 }, ...Array(40).fill({ lengthBytes: 10, alignment: 2 })],
    ]
    for (const shape of shapes)
      for (const heaps of [2 ** 14, 2 ** 18, 2 ** 20, 2 ** 21, 2 ** 22, 2 ** 24 - 1]) {
        let n = heaps
        let refusals = 0
        let layout: ReturnType<typeof layoutOf>['layout'] | undefined
        while (!layout) {
          try {
            layout = layoutOf(shape, n, 8972).layout
          } catch (error) {
            expect(error).toMatchObject({ code: 'ERR_SPEADCAST_MEMORY' })
            expect(++refusals).toBe(1)
            n = Number((error as Error).message.match(/at most (\d+) heaps/)![1])
          }
        }
        expect(layout.byteLength).toBeLessThanOrEqual(FOUR_GIB)
        expect(layout.columnsAt).toBeLessThanOrEqual(FOUR_GIB)
        // Refusing much less would be a waste.
        if (refusals > 0) expect(layout.byteLength).toBeGreaterThan(0.95 * FOUR_GIB)
      }
  })

  test('what goes in band counts too', { timeout: 60_000 }, async () => {
    const stream = await memoryStream({ to: '239.0.0.1+65534:7148', packetSizeBytes: 8972, descriptors: 'in-band' })
    expect(stream.endpoints.length).toBe(65535)
    const items = groupOf([timestamp(), samples('adc', '<i2', [4096])])
    const refusal = (heaps: number): string => {
      try {
        stream.createBatch({ items, heaps })
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_SPEADCAST_MEMORY' })
        return (error as Error).message
      }
      return 'none'
    }
    const most = Number(/at most (\d+) heaps/.exec(refusal(2 ** 20))![1])
    // The batch alone would fit; with the headers of 65535 heaps that carry descriptors it does not.
    expect(refusal(most)).toMatch(/exceeds 4 GiB/)
  })
})
