/** Descriptors inside the first heaps of the first batch, where receivers need them: once per substream. */
import { expect, test } from 'vitest'
import { Region } from '#dist/ffi/memory/region.js'
import type { StreamOptions } from '#dist/src/index.js'
import { dump } from '../support/spead-cases.js'
import { fill, filled, groupOf, memoryStream, planned, samples, taken, timestamp } from './support.js'

const THREE = ['10.0.0.1:7148', '10.0.0.2:7148', '10.0.0.3:7148']
const open = (options: Partial<StreamOptions> = {}) => memoryStream({ descriptors: 'in-band', ...options })

test.for(['serial', 'round-robin', 'by-substream'] as const)(
  'the first heap of every substream carries them, the others do not (%s)',
  async (mode) => {
    const stream = await open({ to: THREE })
    const items = [timestamp(), samples('adc', '<i2', [1000])]
    const substreams = [1, 1, 0, 2, 0, 2, 1]
    const batch = stream.createBatch({ items: groupOf(items), heaps: 7, groupMode: mode, substreams })
    fill(batch, items)
    const { packets } = await stream.send(batch)
    const wanted = planned({ items, heaps: 7, mode, substreams, described: [0, 2, 3] })
    expect(packets).toBe(wanted.length)
    expect(stream.packets.map(({ bytes }) => bytes)).toEqual(wanted)
    const cntOf = (bytes: Uint8Array) => Buffer.from(bytes.subarray(10, 16)).readUIntBE(0, 6)
    expect(stream.packets.map(({ substream }) => substream)).toEqual(wanted.map((bytes) => substreams[cntOf(bytes) - 1]))
  },
)

test('a substream whose first heap was not among those sent has them at the next send', async () => {
  const stream = await open({ to: THREE })
  const items = [samples('adc', '|u1', [100])]
  const batch = filled(stream, items, 6)
  await stream.send(batch, { heaps: 2 })
  expect(dump(taken(stream))).toBe(dump(planned({ items, heaps: 2, described: [0, 1] })))
  await stream.send(batch)
  expect(dump(taken(stream))).toBe(dump(planned({ items, heaps: 6, described: [2], cnt: (j) => 3 + j })))
  await stream.send(batch)
  expect(dump(taken(stream))).toBe(dump(planned({ items, heaps: 6, cnt: (j) => 9 + j })))
})

test('once for an item group, whatever batch sends it; again for another, and when the group has grown', async () => {
  const stream = await open()
  const items = [samples('adc', '|u1', [100])]
  const group = groupOf(items)
  const [a, b] = [1, 2].map((heaps) => stream.createBatch({ items: group, heaps }))
  for (const batch of [a!, b!]) fill(batch, items)
  await stream.send(a!)
  await stream.send(b!)
  const expected = [...planned({ items, heaps: 1, described: [0] }), ...planned({ items, heaps: 2, cnt: (j) => 2 + j })]
  expect(dump(taken(stream))).toBe(dump(expected))
  const more = [...items, samples('power', '<f4', [10])]
  group.add(more[1]!.init)
  const c = stream.createBatch({ items: group, heaps: 1 })
  fill(c, more)
  const other = [samples('other', '|u1', [7])]
  await stream.send(c)
  await stream.send(filled(stream, other, 1))
  const grown = [
    ...planned({ items: more, heaps: 1, described: [0], cnt: () => 4 }),
    ...planned({ items: other, heaps: 1, described: [0], cnt: () => 5 }),
  ]
  expect(dump(taken(stream))).toBe(dump(grown))
})

test('a send withdrawn before it went has told nobody', async () => {
  let shut = true
  const failAt = () => (shut ? ({ errno: 11, how: 'again' } as const) : undefined)
  const stream = await open({ memory: { failAt, pauseNanoseconds: 1e6 } })
  const items = [samples('adc', '|u1', [100])]
  const [first, second] = [filled(stream, items, 1), stream.createBatch({ items: groupOf(items), heaps: 1 })]
  // One of another group is in front, so that the second is still in the queue.
  const front = stream.send(first)
  const abort = new AbortController()
  fill(second, items)
  const withdrawn = stream.send(second, { signal: abort.signal })
  await new Promise((resolve) => setTimeout(resolve, 5))
  abort.abort(new Error('withdrawn by the test'))
  await expect(withdrawn).rejects.toThrow('withdrawn by the test')
  shut = false
  await front
  await stream.send(second)
  const expected = [...planned({ items, heaps: 1, described: [0] }), ...planned({ items, heaps: 1, described: [0], cnt: () => 2 })]
  expect(dump(taken(stream))).toBe(dump(expected))
})

test('descriptors stand between items that lie in memory of the user', async () => {
  const stream = await open({ packetSizeBytes: 256 })
  const items = [samples('a', '<u2', [50]), samples('b', '|u1', [33]), samples('c', '<f8', [5])]
  const region = Region.allocate(4096)
  const memory = { b: { region, offsetBytes: 100, strideBytes: 40 }, c: { region, offsetBytes: 1000, strideBytes: 48 } }
  const batch = stream.createBatch({ items: groupOf(items), heaps: 3, memory })
  fill(batch, items)
  await stream.send(batch)
  const options = { packetSizeBytes: 256 }
  expect(dump(taken(stream))).toBe(dump(planned({ items, heaps: 3, options, described: [0] })))
  batch.close()
  region.release()
})

test('an exact layout is of heaps without descriptors: the first is cut evenly', async () => {
  const items = [timestamp(), samples('adc', '|u1', [600])]
  const pointers = [
    ...(['heap-cnt', 'payload-offset', 'payload-length'] as const),
    ...items.map(({ init: { id } }) => ({ item: id })),
  ]
  const split = { payloadBytes: 200, pointers }
  const stream = await open({ split, packetSizeBytes: 256 })
  const batch = filled(stream, items, 3)
  await stream.send(batch)
  const options = { packetSizeBytes: 256 }
  const [first] = [planned({ items, heaps: 1, options, described: [0] })]
  const others = planned({ items, heaps: 3, options: { ...options, split } }).slice(3)
  expect(dump(taken(stream))).toBe(dump([...first!, ...others]))
})

test('an exact layout without a heap cnt: all packets of the heap that carries descriptors have its cnt', async () => {
  const items = [samples('adc', '|u1', [100])]
  const split = { payloadBytes: 100, pointers: ['payload-length', { item: items[0]!.init.id }] } as const
  for (const packetSizeBytes of [100, 128, 160, 256, 512]) {
    const options = { split, packetSizeBytes: Math.max(packetSizeBytes, 124) }
    const first = planned({ items, heaps: 1, options: { packetSizeBytes: options.packetSizeBytes }, described: [0], cnt: () => 7 })
    for (const heaps of [1, 2, 3, first.length]) {
      const stream = await open({ ...options, firstCnt: 7 })
      const batch = filled(stream, items, heaps)
      await stream.send(batch)
      const others = planned({ items, heaps, options }).slice(1)
      expect(dump(taken(stream)), `${heaps} heaps, the first of ${first.length} packets`).toBe(dump([...first, ...others]))
    }
  }
})
