// Whatever is repeated, and whoever shares an item id: a receiver's last description of an id is that of the heap that comes next.

import type { Heap, ItemGroup, Stream, StreamOptions } from 'speadcast'
import { describe, expect, test } from 'vitest'
import { fill, type Gate, itemsOf, memoryStream, openOutlet, type Packet, parse, SAMPLE_VIEWS, turn } from './support.js'

const LONG = 100
const SHORT = 50
const batchOf = (stream: Stream, items: ItemGroup, heaps = 2, substreams?: number) =>
  fill(stream.createBatch({ items, heaps, views: SAMPLE_VIEWS, ...(substreams !== undefined && { substreams }) }), 0)

/** The samples that a descriptor in the packet tells of, of which there is one at most. */
const toldBy = (packet: Packet): number | undefined => {
  const shape = /'shape': \((\d+),\)/.exec(packet.data.toString('latin1'))?.[1]
  return shape === undefined ? undefined : Number(shape)
}

/** For each heap of data: its samples, and how many its receiver takes them for. */
function understood(packets: readonly Packet[]): { samples: number; told: number | undefined }[] {
  const told = new Map<number, number>()
  const heaps: { samples: number; told: number | undefined }[] = []
  for (const packet of packets) {
    const tells = toldBy(packet)
    if (tells !== undefined) told.set(packet.substream, tells)
    if (packet.descriptors === 0) heaps.push({ samples: packet.data.length, told: told.get(packet.substream) })
  }
  return heaps
}

const misread = (packets: readonly Packet[]) => understood(packets).filter(({ samples, told }) => samples !== told)
const repeats = (packets: readonly Packet[]): number => packets.filter(({ descriptors }) => descriptors > 0).length

function named(bytes: number, descriptors: 'all' | 'none' = 'none'): Heap {
  const items = itemsOf(bytes)
  items.get('timestamp').value = 1
  items.get('adc_samples').value = new Int8Array(bytes)
  return items.getHeap({ descriptors, data: 'all' })
}

describe('repeats overtake no heaps of an earlier description', () => {
  const options = { descriptors: { everySeconds: 0.004, firstCnt: 1e6 }, rate: 100_000, burstBytes: 1 } as const

  test('of batches', async () => {
    const stream = await memoryStream(options)
    const [long, short] = [batchOf(stream, itemsOf(LONG), 60), batchOf(stream, itemsOf(SHORT), 60)]
    const again = batchOf(stream, itemsOf(LONG), 20)
    await Promise.all([long, short, again].map((batch) => stream.send(batch)))
    const packets = stream.packets.map(parse)
    expect(misread(packets)).toEqual([])
    expect(understood(packets)).toHaveLength(140)
    // They have not stopped because of it.
    await stream.send(long)
    expect(repeats(stream.packets.slice(packets.length).map(parse))).toBeGreaterThan(2)
    expect(misread(stream.packets.map(parse))).toEqual([])
  })

  test.for(['all', 'none'] as const)('of heaps sent by name, with descriptors %s', async (descriptors) => {
    const stream = await memoryStream(options)
    const of = (bytes: number) => Array.from({ length: 40 }, () => ({ heap: named(bytes) }))
    const first = (bytes: number) => (descriptors === 'all' ? [{ heap: named(bytes, 'all') }] : [])
    const lists = [of(LONG), [...first(SHORT), ...of(SHORT)], [...first(LONG), ...of(LONG)]]
    await Promise.all(lists.map((list) => stream.sendHeaps(list, 'serial')))
    expect(misread(stream.packets.map(parse))).toEqual([])
    expect(understood(stream.packets.map(parse))).toHaveLength(120)
  })

  test.for([
    ['udp', { udpPath: 'sendmmsg' }],
    ['udp', { udpPath: 'io_uring' }],
    ['udp inline', {}],
    ['dgram', {}],
    ['memory', { memory: { acceptPerPost: 3, completeAfterReaps: 4 } }],
  ] as const)('nor do they follow a later one: short batches in turn, %j', async ([kind, more], ctx) => {
    const { stream, packets } = await openOutlet(ctx, kind, { descriptors: { everySeconds: 0.001, firstCnt: 1e6 }, ...more })
    const batches = [LONG, LONG, SHORT].map((bytes) => batchOf(stream, itemsOf(bytes), 3))
    const end = performance.now() + 300
    let sends = 0
    for (; performance.now() < end; sends++) {
      const batch = batches[sends % 3]!
      await batch.free
      stream.send(batch)
      if (sends % 5 === 0) await turn(1)
    }
    await stream.flush()
    const data = 3 * sends
    let all = await packets(data)
    for (let tries = 0; understood(all).length < data && tries < 20; tries++) all = await packets(all.length + 1)
    expect(misread(all)).toEqual([])
    expect(understood(all)).toHaveLength(data)
  })
})

describe('each substream is told what it was told last', () => {
  const to = '10.0.0.1+2:7148'

  test('and repeats tell it that, and nothing of items that it never had', async () => {
    const stream = await memoryStream({ to, descriptors: { everySeconds: 0.01, firstCnt: 1e6 } })
    await stream.sendHeap(named(LONG), { substream: 0 })
    await stream.sendHeap(named(SHORT), { substream: 1 })
    stream.packets.length = 0
    while (stream.packets.length < 6) await turn(2)
    const told = [0, 1, 2].map((k) => [
      ...new Set(
        stream.packets
          .map(parse)
          .filter((p) => p.substream === k)
          .map(toldBy),
      ),
    ])
    expect(told).toEqual([[LONG], [SHORT], []])
    // Neither is described again.
    await stream.close()
  })

  test('so a substream that another was told anew about goes on without', async () => {
    const stream = await memoryStream({ to, descriptors: { everySeconds: 3600 } })
    await stream.sendHeap(named(LONG), { substream: 0 })
    await stream.sendHeap(named(SHORT), { substream: 1 })
    await stream.sendHeap(named(LONG), { substream: 0 })
    await stream.sendHeap(named(SHORT), { substream: 1 })
    expect(stream.packets.map(parse).map(({ descriptors }) => descriptors)).toEqual([2, 0, 2, 0, 0, 0])
  })
})

describe('heaps sent by name that bring their descriptors', () => {
  const heaps = (stream: Stream) => stream.packets.map(parse).map(({ descriptors }) => descriptors)

  test('and are withdrawn tell nothing', async () => {
    const gate: Gate = { shut: true }
    const stream = await memoryStream({ descriptors: { everySeconds: 3600 } }, gate)
    const controller = new AbortController()
    const head = stream.sendEnd()
    const withdrawn = stream.sendHeap(named(LONG, 'all'), { signal: controller.signal })
    await turn()
    controller.abort('enough')
    await expect(withdrawn).rejects.toBe('enough')
    gate.shut = false
    await head
    await stream.sendHeap(named(LONG))
    expect(heaps(stream)).toEqual([0, 2, 0])
  })

  test('and are withdrawn are not repeated among heaps before them', async () => {
    const stream = await memoryStream({ descriptors: { everySeconds: 0.004, firstCnt: 1e6 }, rate: 100_000, burstBytes: 1 })
    const long = batchOf(stream, itemsOf(LONG), 60)
    const sent = stream.send(long)
    const controller = new AbortController()
    const withdrawn = stream.sendHeap(named(SHORT, 'all'), { signal: controller.signal })
    controller.abort('enough')
    await expect(withdrawn).rejects.toBe('enough')
    await sent
    await stream.send(long)
    const packets = stream.packets.map(parse)
    expect(misread(packets)).toEqual([])
    expect(repeats(packets)).toBeGreaterThan(2)
  })

  test('and fail tell nothing', async () => {
    let rows = 0
    const stream = await memoryStream({
      descriptors: { everySeconds: 3600 },
      memory: { failAt: () => (rows++ === 0 ? 101 : undefined) },
    })
    await expect(stream.sendHeap(named(LONG, 'all'))).rejects.toMatchObject({ outcome: { failedHeaps: [0] } })
    for (let i = 0; i < 2; i++) await stream.sendHeap(named(LONG))
    expect(heaps(stream)).toEqual([2, 0, 0])
  })
})

test('repeats go on to a substream that did not get the first', async () => {
  const gate: Gate & { dead: boolean } = { shut: false, dead: true, refuse: (_, k) => gate.dead && k === 1 }
  const stream = await memoryStream({ to: '10.0.0.1+1:7148', descriptors: { everySeconds: 0.005 } }, gate)
  await expect(stream.send(batchOf(stream, itemsOf()))).rejects.toThrow()
  await turn(20)
  gate.dead = false
  const before = stream.packets.length
  for (let waited = 0; waited < 5000 && !stream.packets.slice(before).some(({ substream }) => substream === 1); waited += 5)
    await turn(5)
  expect(stream.packets.map(parse).filter(({ substream }) => substream === 1)[0]!.descriptors).toBe(2)
})

test.for(['first', 'in-band', { everySeconds: 3600 }] as NonNullable<StreamOptions['descriptors']>[])(
  '%j: of groups with equal descriptions none stays known when a third replaces them',
  async (descriptors) => {
    const stream = await memoryStream({ descriptors })
    const [one, two, third] = [LONG, LONG, SHORT].map((bytes) => batchOf(stream, itemsOf(bytes))) as [never, never, never]
    // One that was never sent is described though another one is like it.
    for (const batch of [one, two, third, one, third, two, one]) await stream.send(batch)
    const packets = stream.packets.map(parse)
    expect(packets.flatMap((packet) => (packet.descriptors > 0 ? [toldBy(packet)] : []))).toEqual([
      LONG,
      LONG,
      SHORT,
      LONG,
      SHORT,
      LONG,
    ])
    expect(misread(packets)).toEqual([])
  },
)

test.for(['first', 'in-band', { everySeconds: 3600 }] as NonNullable<StreamOptions['descriptors']>[])(
  '%j: a batch is described again behind a heap sent by name that described its ids otherwise',
  async (descriptors) => {
    const stream = await memoryStream({ descriptors })
    const batch = batchOf(stream, itemsOf(LONG))
    await stream.send(batch)
    await stream.sendHeap(named(SHORT, 'all'))
    await stream.send(batch)
    await stream.send(batch)
    const packets = stream.packets.map(parse)
    expect(packets.flatMap((packet) => toldBy(packet) ?? [])).toEqual([LONG, SHORT, LONG])
    expect(misread(packets)).toEqual([])
  },
)

describe('in-band', () => {
  const letters = (stream: Stream, substream: number): string =>
    stream.packets
      .map(parse)
      .filter((packet) => packet.substream === substream)
      .map(({ descriptors }) => (descriptors > 0 ? 'D' : 'x'))
      .join('')

  test('substreams that have them do not get them again because another lacks them', async () => {
    const gate: Gate & { dead: boolean } = { shut: false, dead: true, refuse: (_, k) => gate.dead && k === 1 }
    const stream = await memoryStream({ descriptors: 'in-band', to: '10.0.0.1+2:7148' }, gate)
    const batch = batchOf(stream, itemsOf(), 6)
    for (let i = 0; i < 2; i++) await expect(stream.send(batch)).rejects.toMatchObject({ outcome: { failedHeaps: [1, 4] } })
    gate.dead = false
    await stream.send(batch)
    await stream.send(batch)
    expect([0, 1, 2].map((k) => letters(stream, k))).toEqual(['Dxxxxxxx', 'Dxxx', 'Dxxxxxxx'])
  })

  test('a send that is withdrawn leaves the heap cnts of the next one alone', async () => {
    const firstCnt = 2 ** 40
    const stream = await memoryStream({ descriptors: 'in-band', to: '10.0.0.1+1:7148', firstCnt })
    const [batch, other, warm] = [LONG, SHORT, SHORT].map((bytes) => batchOf(stream, itemsOf(bytes))) as [never, never, never]
    // At first all of a cnt is written each time; later the half that stands already is left out.
    for (let i = 0; i < 300; i++) await stream.send(warm)
    await stream.send(batch)
    await stream.send(other, { firstHeap: 1 })
    const controller = new AbortController()
    const withdrawn = stream.send(batch, { signal: controller.signal })
    controller.abort('enough')
    await expect(withdrawn).rejects.toBe('enough')
    await stream.send(other)
    await stream.send(batch)
    const cnts = stream.packets.map(parse).flatMap(({ cnt, descriptors }) => (descriptors === 0 ? [] : [cnt - firstCnt]))
    expect(cnts).toEqual([0, 1, 600, 601, 602, 603, 604, 605, 606])
  })

  test.for(['serial', 'round-robin', 'by-substream'] as const)(
    '%s: of runs of a batch that reach other substreams',
    async (groupMode) => {
      const stream = await memoryStream({ descriptors: 'in-band', to: '10.0.0.1+2:7148' })
      const batch = fill(stream.createBatch({ items: itemsOf(), heaps: 6, groupMode }), 0)
      await stream.send(batch, { heaps: 2 })
      await stream.send(batch, { firstHeap: 1, heaps: 3 })
      await stream.send(batch)
      expect([0, 1, 2].map((k) => letters(stream, k))).toEqual(['Dxxx', 'Dxxx', 'Dxx'])
      // Immediates, cnts and samples are those of the heaps.
      const heaps = stream.packets.map(parse)
      expect(heaps.map(({ cnt }) => cnt).toSorted((a, b) => a - b)).toEqual(heaps.map((_, i) => i + 1))
      for (const heap of heaps) {
        const j = heap.value(0x1600)!
        expect(heap.substream).toBe(j % 3)
        expect(heap.data.subarray(-100).every((sample) => sample === j)).toBe(true)
      }
    },
  )
})
