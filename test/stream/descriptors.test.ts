// When descriptors travel: before the first batch of an item group, every so often, in its first heaps, or never; and again if lost.

import { type ItemGroup, SendError, type Stream, type StreamOptions } from 'speadcast'
import { describe, expect, test } from 'vitest'
import { need } from '../support/need.js'
import { PythonPeer } from '../support/python-peer.js'
import { fill, type Gate, itemsOf, memoryStream, OUTLETS, openOutlet, type Packet, parse, SAMPLE_VIEWS } from './support.js'

const batchOf = (stream: Stream, items: ItemGroup, heaps = 2) => fill(stream.createBatch({ items, heaps, views: SAMPLE_VIEWS }), 0)
/** d: descriptors alone, D: descriptors and data, x: data. */
const letter = (packet: Packet): string => (packet.descriptors === 0 ? 'x' : packet.value(0x1600) === undefined ? 'd' : 'D')
const kinds = (stream: Stream): string => stream.packets.map(parse).map(letter).join('')

describe.for(OUTLETS)('%s', (kind) => {
  test.for([
    ['first', ['dxx', 'dxx']],
    ['in-band', ['Dxx', 'Dxx']],
    ['none', ['xxx', 'xxx']],
    [{ everySeconds: 3600 }, ['dxx', 'dxx']],
  ] as [NonNullable<StreamOptions['descriptors']>, string[]][])('%j', async ([descriptors, expected], ctx) => {
    const { stream, packets } = await openOutlet(ctx, kind, { descriptors }, 2)
    const batch = batchOf(stream, itemsOf(), descriptors === 'first' || typeof descriptors === 'object' ? 4 : 6)
    await stream.send(batch)
    const arrived = await packets(6)
    const words = [0, 1].map((substream) =>
      arrived
        .filter((packet) => packet.substream === substream)
        .map(letter)
        .join(''),
    )
    expect(words).toEqual(expected)
    for (const packet of arrived.filter((candidate) => candidate.descriptors > 0)) expect(packet.descriptors).toBe(2)
  })
})

test('first: once for a group of items, however many batches; again for another group and for items that joined', async () => {
  const stream = await memoryStream()
  const items = itemsOf()
  const [one, two] = [batchOf(stream, items), batchOf(stream, items)]
  await stream.send(one)
  await stream.send(two)
  await stream.send(one, { heaps: 1 })
  expect(kinds(stream)).toBe('dxxxxx')
  stream.packets.length = 0
  await stream.send(batchOf(stream, itemsOf()))
  expect(kinds(stream)).toBe('dxx')
  stream.packets.length = 0
  items.add({ id: 0x1700, name: 'gain', format: [['u', 8]] })
  await stream.send(batchOf(stream, items))
  expect(kinds(stream)).toBe('dxx')
  expect(parse(stream.packets[0]!).descriptors).toBe(3)
})

test('another group that describes an id otherwise makes the first group be described again', async () => {
  for (const descriptors of ['first', 'in-band', { everySeconds: 3600 }] as const) {
    const stream = await memoryStream({ descriptors })
    const [long, short] = [batchOf(stream, itemsOf(100)), batchOf(stream, itemsOf(50))]
    const [first, again] = descriptors === 'in-band' ? ['Dx', 'Dx'] : ['dxx', 'dxx']
    for (const batch of [long, long, short, long, long]) await stream.send(batch)
    expect(kinds(stream)).toBe(`${first}xx${first}${again}xx`)
  }
})

test('in-band: each substream has them with its own first heap', async () => {
  const stream = await memoryStream({ descriptors: 'in-band', to: '10.0.0.1+2:7148' })
  const items = itemsOf()
  const batch = fill(stream.createBatch({ items, heaps: 4, substreams: [0, 0, 1, 2] }), 0)
  await stream.send(batch, { heaps: 2 })
  expect(kinds(stream)).toBe('Dx')
  stream.packets.length = 0
  await stream.send(batch)
  const seen = stream.packets.map(parse).filter(({ descriptors }) => descriptors > 0)
  expect(seen.map(({ substream }) => substream)).toEqual(expect.arrayContaining([1, 2]))
  stream.packets.length = 0
  await stream.send(batch)
  expect(kinds(stream)).toBe('xxxx')
})

test('sendHeap and stream control send none of their own', async () => {
  const stream = await memoryStream()
  await stream.sendStart()
  await stream.sendHeap(itemsOf().getHeap({ descriptors: 'none' }))
  await stream.sendEnd()
  expect(stream.packets.map(parse).map(({ descriptors }) => descriptors)).toEqual([0, 0, 0])
})

describe('lost descriptors', () => {
  /** Nothing gets to substream 1 while `dead`. */
  async function halfDead(options: Partial<StreamOptions>) {
    const gate: Gate & { dead: boolean } = { shut: false, dead: true, refuse: (_, substream) => substream === 1 && gate.dead }
    return { gate, stream: await memoryStream({ to: '10.0.0.1+1:7148', ...options }, gate) }
  }
  const of = (stream: Stream, substream: number) =>
    stream.packets
      .map(parse)
      .filter((packet) => packet.substream === substream)
      .map(letter)
      .join('')

  /** The heaps that came to each substream: up to the batch that gets through to both, and of the next batch. */
  async function recovery(descriptors: NonNullable<StreamOptions['descriptors']>) {
    const { gate, stream } = await halfDead({ descriptors })
    const batch = batchOf(stream, itemsOf(), 4)
    for (let i = 0; i < 2; i++) await expect(stream.send(batch)).rejects.toMatchObject({ outcome: { failedHeaps: [1, 3] } })
    gate.dead = false
    await stream.send(batch)
    const [alive, recovered] = [of(stream, 0), of(stream, 1)]
    stream.packets.length = 0
    await stream.send(batch)
    return { alive, recovered, behind: [of(stream, 0), of(stream, 1)] }
  }

  test.for(['first', { everySeconds: 3600 }] as const)(
    '%j: come with the first batch that gets through to the substream, and not again to the others',
    async (descriptors) => {
      expect(await recovery(descriptors)).toEqual({ alive: 'dxxxxxx', recovered: 'dxx', behind: ['xx', 'xx'] })
    },
  )

  test('in-band: come with the first batch that gets through to the substream', async () => {
    expect(await recovery('in-band')).toMatchObject({ recovered: 'Dx', behind: ['xx', 'xx'] })
  })

  test('though the data got through', async () => {
    let rows = 0
    const stream = await memoryStream({ memory: { failAt: () => (rows++ === 0 ? 101 : undefined) } })
    const batch = batchOf(stream, itemsOf())
    // The data was sent, which is what its promise is about.
    expect(await stream.send(batch)).toMatchObject({ heaps: 2, firstCnt: 2 })
    expect(stream.stats()).toMatchObject({ heapsFailed: 1 })
    await stream.send(batch)
    expect(kinds(stream)).toBe('xxdxx')
    await stream.close()
  })

  test('are no failure of their own to surface', async () => {
    const { stream } = await halfDead({})
    const batch = batchOf(stream, itemsOf(), 4)
    await expect(stream.send(batch)).rejects.toBeInstanceOf(SendError)
    expect(await stream.close()).toEqual({ droppedHeaps: 0 })
  })
})

test('the real spead2 knows every item from the first data heap on, in every way', async (ctx) => {
  const peer = PythonPeer.start()
  need(ctx, peer, 'no Python with spead2 (npm test sets it up)')
  await using _ = { [Symbol.asyncDispose]: async () => peer.close() }
  for (const descriptors of ['first', 'in-band', { everySeconds: 1 }] as const) {
    const stream = await memoryStream({ descriptors })
    await stream.send(batchOf(stream, itemsOf(), 1))
    const packets = stream.packets.map(({ bytes }) => Buffer.from(bytes).toString('base64'))
    const heaps = await peer.decode(packets.map((packet) => ({ packets: [packet] })))
    expect(heaps.flatMap((heap) => heap.descriptors!.map(({ name }) => name))).toEqual(['timestamp', 'adc_samples'])
  }
})
