// Descriptors by a timer of their own: while nothing is sent, of heaps sent by name, between the heaps of long batches, staggered.

import { ItemGroup, openStream, type Stream, type StreamOptions } from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runProgram } from '../support/program.js'
import { fill, type Gate, itemsOf, memoryStream, OUTLETS, openOutlet, type Packet, parse, TIMESTAMP, turn } from './support.js'

const letter = (packet: Packet): string => (packet.descriptors === 0 ? 'x' : packet.value(TIMESTAMP) === undefined ? 'd' : 'D')
const kindsOf = (packets: readonly Packet[]): string => packets.map(letter).join('')
const kinds = (stream: Stream): string => kindsOf(stream.packets.map(parse))
const batchOf = (stream: Stream, heaps: number, items = itemsOf()) => fill(stream.createBatch({ items, heaps }), 0)

async function until(met: () => boolean | Promise<boolean>): Promise<void> {
  for (let waited = 0; !(await met()); waited += 2) {
    if (waited > 10_000) throw new Error('it did not come to be')
    await turn(2)
  }
}

describe.for([...OUTLETS, 'udp io_uring'] as const)('%s', (kind) => {
  const open = (ctx: Parameters<typeof openOutlet>[0], options: Partial<StreamOptions>, substreams = 1) =>
    kind === 'udp io_uring'
      ? openOutlet(ctx, 'udp', { udpPath: 'io_uring', ...options }, substreams)
      : openOutlet(ctx, kind, options, substreams)

  test('go on while nothing else is sent, to each substream', async (ctx) => {
    const { stream, packets } = await open(ctx, { descriptors: { everySeconds: 0.02, firstCnt: 1000 } }, 2)
    await stream.send(batchOf(stream, 2))
    await until(async () => (await packets(10)).length >= 10)
    const all = await packets(10)
    for (const substream of [0, 1]) expect(kindsOf(all.filter((packet) => packet.substream === substream))).toMatch(/^d+xd+$/)
    // Numbers of their own: each once.
    const own = all.filter((packet) => letter(packet) === 'd').map(({ cnt }) => cnt)
    expect(own.toSorted((a, b) => a - b)).toEqual(own.map((_, i) => 1000 + i))
    expect(
      all
        .filter((packet) => letter(packet) === 'x')
        .map(({ cnt }) => cnt)
        .sort(),
    ).toEqual([1, 2])
    await stream.close()
  })

  test('come with heaps that are sent by name, and go on behind them', async (ctx) => {
    const { stream, packets } = await open(ctx, { descriptors: { everySeconds: 0.02 } })
    const items = itemsOf(10)
    items.get('timestamp').value = 7
    items.get('adc_samples').value = new Int8Array(10)
    // The first brings none, so they go ahead; the second has nothing new.
    await stream.sendHeap(items.getHeap({ descriptors: 'none', data: 'all' }))
    await stream.sendHeap(items.getHeap({ descriptors: 'none', data: 'all' }))
    await until(async () => (await packets(6)).length >= 6)
    const all = await packets(6)
    const word = kindsOf(all)
    expect(word).toMatch(/^d+x.*d/)
    expect(word.match(/x/g)).toHaveLength(2)
    for (const packet of all.filter((candidate) => letter(candidate) === 'd')) expect(packet.descriptors).toBe(2)
  })
})

describe('between the heaps of a long batch', () => {
  const LONG: [string, Partial<StreamOptions>, number][] = [
    ['at rate 0', { memory: { acceptPerPost: 3, pauseNanoseconds: 1e6 } }, 200],
    ['at a rate', { rate: 60_000, burstBytes: 1 }, 40],
    ['completed later', { memory: { acceptPerPost: 3, pauseNanoseconds: 1e6, completeAfterReaps: 4 } }, 200],
    ['of several packets', { packetSizeBytes: 100, memory: { acceptPerPost: 7, pauseNanoseconds: 1e6 } }, 40],
  ]
  test.for(LONG)('%s', async ([, options, heaps]) => {
    const stream = await memoryStream({ descriptors: { everySeconds: 0.005, firstCnt: 1e6 }, ...options })
    const batches = [0, 1].map((i) => fill(stream.createBatch({ items: itemsOf(), heaps }), 64 * i))
    const results = await Promise.all(batches.map((batch) => stream.send(batch)))
    const before = stream.packets.length
    const packets = stream.packets.map(parse)
    // Between the first data packet and the last of a batch.
    const cnts = packets.map(({ cnt }) => cnt)
    const inside = cnts.slice(cnts.indexOf(2), cnts.lastIndexOf(heaps - 1)).filter((cnt) => cnt >= 1e6)
    expect(inside.length).toBeGreaterThan(1)
    // A heap's packets follow one another, and heaps their order.
    const data = cnts.filter((cnt) => cnt < 1e6)
    expect(data).toEqual(data.toSorted((a, b) => a - b))
    expect(new Set(data).size).toBe(2 * heaps)
    const runs = cnts.filter((cnt, i) => i === 0 || cnt !== cnts[i - 1])
    expect(runs.length).toBe(new Set(cnts).size)
    expect(results).toMatchObject([
      { heaps, firstCnt: 1 },
      { heaps, firstCnt: heaps + 1 },
    ])
    expect(before).toBe(packets.length)
    await stream.close()
    const stats = stream.stats()
    expect(stats.heapsSent).toBe(
      2 * heaps +
        new Set(
          stream.packets
            .map(parse)
            .map(({ cnt }) => cnt)
            .filter((cnt) => cnt >= 1e6),
        ).size,
    )
    expect(stats).toMatchObject({ heapsFailed: 0, packets: stream.packets.length, inFlight: 0 })
  })

  test('with cnts of the stream’s own sequence no number is used twice', async () => {
    const stream = await memoryStream({
      descriptors: { everySeconds: 0.005 },
      memory: { acceptPerPost: 1, pauseNanoseconds: 2e6 },
    })
    await Promise.all([stream.send(batchOf(stream, 30)), stream.send(batchOf(stream, 30))])
    const cnts = stream.packets.map(parse).map(({ cnt }) => cnt)
    expect(kinds(stream)).toMatch(/^d+x+d.*x/)
    expect(cnts.toSorted((a, b) => a - b)).toEqual(cnts.map((_, i) => 1 + i))
  })

  test.for(['sendmmsg', 'io_uring'] as const)('of a socket, by an I/O thread: %s', async (udpPath, ctx) => {
    const { stream, packets } = await openOutlet(ctx, 'udp', {
      descriptors: { everySeconds: 0.01, firstCnt: 1e6 },
      rate: 100_000,
      burstBytes: 1,
      udpPath,
    })
    await stream.send(batchOf(stream, 100))
    const all = await packets(102)
    const word = kindsOf(all)
    expect(word).toMatch(/^d+x+d+x/)
    expect(word.match(/x/g)).toHaveLength(100)
    await stream.close()
  })

  test('more often than the rate allows: a heap at least goes between two', async () => {
    const stream = await memoryStream({ descriptors: { everySeconds: 0.001 }, rate: 100_000, burstBytes: 1 })
    await stream.send(batchOf(stream, 20))
    const word = kinds(stream)
    expect(word.match(/x/g)).toHaveLength(20)
    expect(word).toMatch(/xdx/)
    expect(word.slice(word.indexOf('x'))).not.toMatch(/dd/)
  })

  test('what fails of the batch, and of the descriptors, is told of each', async () => {
    const gate: Gate & { dead: boolean } = { shut: false, dead: true, refuse: (_, substream) => gate.dead && substream === 1 }
    for (const late of [false, true]) {
      const failAt = (_: number, substream: number) =>
        gate.dead && substream === 1 ? { errno: 101, how: late ? ('late' as const) : ('skip' as const) } : undefined
      gate.dead = true
      const stream = await memoryStream({
        to: '10.0.0.1+1:7148',
        descriptors: { everySeconds: 0.008, firstCnt: 1e6 },
        rate: 200_000,
        burstBytes: 1,
        memory: { failAt, completeAfterReaps: late ? 3 : 1 },
      })
      const batch = batchOf(stream, 60)
      const error = await stream.send(batch).catch((error) => error)
      expect(error.outcome.heaps).toEqual(Array.from({ length: 60 }, (_, j) => (j % 2 === 0 ? 'sent' : 'failed')))
      expect(kinds(stream)).toMatch(/^d+x+d+x+/)
      // Substream 1 has the descriptors with the next batch that gets through.
      gate.dead = false
      stream.packets.length = 0
      await stream.send(batch)
      const first = stream.packets.map(parse).find(({ substream }) => substream === 1)!
      expect(first.descriptors).toBe(2)
      await stream.close()
    }
  })

  test.for([false, true])('none goes before the first, however long that waits; staggered %s', async (stagger) => {
    const gate: Gate = { shut: true }
    const descriptors = { everySeconds: 0.001, firstCnt: 1e6, stagger }
    const stream = await memoryStream({ to: '10.0.0.1+1:7148', descriptors }, gate)
    const sent = stream.send(batchOf(stream, 2))
    await turn(30)
    gate.shut = false
    await sent
    await until(() => stream.packets.length >= 6)
    const packets = stream.packets.map(parse)
    expect(packets.slice(0, 2).map(({ substream, cnt }) => [substream, cnt])).toEqual([
      [0, 1e6],
      [1, 1e6 + 1],
    ])
    const own = packets.map(({ cnt }) => cnt).filter((cnt) => cnt >= 1e6)
    expect(own).toEqual(own.map((_, i) => 1e6 + i))
  })

  test('destroy and a deadline end a batch between whose heaps they go', async () => {
    for (const end of ['destroy', 'close'] as const) {
      const gate: Gate = { shut: false }
      const stream = await memoryStream({ descriptors: { everySeconds: 0.002 } }, gate)
      await stream.send(batchOf(stream, 2))
      gate.shut = true
      const send = stream.send(batchOf(stream, 2)).catch((error) => error)
      await turn(20)
      if (end === 'destroy') await stream.destroy()
      else expect((await stream.close({ deadlineSeconds: 0 })).droppedHeaps).toBeGreaterThanOrEqual(2)
      expect((await send).code).toMatch(/^ERR_SPEADCAST_(SEND|ABORTED)$/)
      const count = stream.packets.length
      await turn(20)
      expect(stream.packets).toHaveLength(count)
    }
  })
})

describe('stagger', () => {
  test('one substream after the other over the period; without it all at once', async () => {
    const order = async (stagger: boolean) => {
      const stream = await memoryStream({ to: '10.0.0.1+3:7148', descriptors: { everySeconds: 0.2, stagger } })
      await stream.send(batchOf(stream, 4))
      const posts: number[][] = []
      let seen = stream.packets.length
      await until(() => {
        const fresh = stream.packets.slice(seen)
        seen += fresh.length
        if (fresh.length > 0) posts.push(fresh.map(({ substream }) => substream))
        return posts.flat().length >= 8
      })
      return posts
    }
    const staggered = await order(true)
    // A busy machine may let some come together, but in turn.
    expect(staggered.flat().slice(0, 8)).toEqual([0, 1, 2, 3, 0, 1, 2, 3])
    expect(staggered.length).toBeGreaterThan(2)
    expect((await order(false)).slice(0, 2)).toEqual([
      [0, 1, 2, 3],
      [0, 1, 2, 3],
    ])
  })
})

describe('heaps sent by name', () => {
  const heapOf = (items: ItemGroup, descriptors: 'all' | 'none' = 'none') => {
    items.get('timestamp').value = 1
    items.get('adc_samples').value = new Int8Array(10)
    return items.getHeap({ descriptors, data: 'all' })
  }

  test('that bring their descriptors have none sent ahead, and have them repeated', async () => {
    const stream = await memoryStream({ descriptors: { everySeconds: 0.02 } })
    await stream.sendHeap(heapOf(itemsOf(10), 'all'))
    await stream.sendHeap(heapOf(itemsOf(10)))
    expect(kinds(stream)).toBe('Dx')
    await until(() => stream.packets.length >= 4)
    expect(kinds(stream)).toMatch(/^Dxdd/)
  })

  test('of new items with the same description are known; of another they are described anew', async () => {
    const stream = await memoryStream({ descriptors: { everySeconds: 3600 } })
    for (let i = 0; i < 3; i++) await stream.sendHeap(heapOf(itemsOf(10)))
    const narrow = new ItemGroup()
      .add({ id: TIMESTAMP, name: 'timestamp', format: [['u', 32]] })
      .add({ id: 0x3300, name: 'adc_samples', dtype: 'i1', shape: [10] })
    await stream.sendHeap(heapOf(narrow))
    expect(stream.packets.map(parse).map(({ descriptors }) => descriptors)).toEqual([2, 0, 0, 0, 1, 0])
  })

  test('each substream has them', async () => {
    const stream = await memoryStream({ descriptors: { everySeconds: 3600 }, to: '10.0.0.1+1:7148' })
    const items = itemsOf(10)
    await stream.sendHeaps([{ heap: heapOf(items) }, { heap: heapOf(items), substream: 1 }], 'serial')
    expect(stream.packets.map(parse).map((packet) => [packet.substream, letter(packet)])).toEqual([
      [0, 'd'],
      [1, 'd'],
      [0, 'x'],
      [1, 'x'],
    ])
  })

  test('stream control and descriptors first or none: nothing is added', async () => {
    for (const descriptors of ['first', 'none', {}] as const) {
      const stream = await memoryStream({ descriptors })
      await stream.sendHeap(heapOf(itemsOf(10)))
      await stream.sendEnd()
      expect(stream.packets.map(parse).map((packet) => packet.descriptors)).toEqual([0, 0])
    }
  })
})

test('a timer that only waits keeps no process alive, and ends with the stream', async () => {
  const stream = await openStream({ to: '127.0.0.1:9', backend: 'memory', descriptors: { everySeconds: 0.001 } })
  onTestFinished(() => stream.destroy())
  await stream.send(batchOf(stream, 1))
  await stream.close()
  const count = stream.packets.length
  await turn(30)
  expect(stream.packets).toHaveLength(count)
})

test.for([
  { backend: 'memory' },
  { backend: 'dgram' },
  { backend: 'udp' },
  { backend: 'udp', thread: 'inline' },
] as Partial<StreamOptions>[])('but what is under way between heaps does: %j', async (options) => {
  for (let i = 0; i < 3; i++)
    expect(await runProgram('stream/repeats', options)).toMatchObject({ code: 0, stdout: 'closed\n', stderr: '' })
})
