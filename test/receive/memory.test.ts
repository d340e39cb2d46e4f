/** What a peer can make the receiver keep is bounded, and what is refused for it is said, with the option to raise. */
import { createSocket, type Socket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { Budget } from '#dist/src/receive/budget.js'
import { openReceiver } from '#dist/src/receive/index.js'
import { RANGE_NEW, RANGE_REFUSED, Ranges } from '#dist/src/receive/ranges.js'
import { heldBytes } from '#dist/src/receive/received-heap.js'
import { ReceiveSession, SESSION_BYTES, STAT, type StatName, statWords } from '#dist/src/receive/session.js'
import { need } from '../support/need.js'
import { freePort, recvArgv, start } from './support.js'
import {
  BACKENDS,
  control,
  data,
  descriptor,
  heapOf,
  type Pointer,
  packetOf,
  partOf,
  receive,
  SAMPLES,
  STOP,
  upTo,
} from './wire.js'

const MEBI = 1 << 20

describe.each(BACKENDS)('%s', (backend) => {
  test('a heap above the memory is refused with the option that raises it, and fits where it is raised', async () => {
    const parts = upTo(0, 63).map((i) => partOf(1, 3 * MEBI, i * 49152, new Uint8Array(49152), [[false, SAMPLES, 0]]))
    const small = await receive({ backend, heapMemoryBytes: 2 * MEBI, deliver: false, close: true }, async ({ send }) => {
      await send('A', data(0), ...parts, data(2))
    })
    expect(small.summary).toMatchObject({ heaps: 2, heapsRefused: 1, packetsRefused: 64, malformed: 0, packets: 66 })
    expect(small.summary.refusals).toEqual([
      expect.stringMatching(/1 heap refused: .*3145728 bytes.* \(--memory\) to 7MiB or more/),
    ])
    const large = await receive({ backend, heapMemoryBytes: 7 * MEBI, deliver: false, close: true }, async ({ send }) => {
      await send('A', ...parts)
    })
    expect(large.summary).toMatchObject({ heaps: 1, heapsRefused: 0, refusals: [] })
  })

  test('heaps that push one another out say why', async () => {
    const { summary } = await receive({ backend, heapMemoryBytes: 16 * MEBI, deliver: false, close: true }, async ({ send }) => {
      for (const at of [0, 4]) for (const cnt of upTo(1, 20)) await send('A', partOf(cnt, MEBI, at, new Uint8Array(4)))
    })
    expect(summary.heapsEvicted).toBe(4)
    expect(summary.refusals).toEqual([
      expect.stringMatching(/given up unfinished: the memory for heaps .* was full.* \(--memory\)/),
    ])
  })
})

test.each(BACKENDS)('%s: the least memory is there for heaps, also beside an output', async (backend) => {
  const { summary } = await receive({ backend, heapMemoryBytes: MEBI, hash: true, close: true }, async ({ send }) => {
    await send('A', heapOf(1, [[true, SAMPLES + 1, 0]]))
    await send('A', partOf(2, MEBI / 2, 0, new Uint8Array(8192), [[false, SAMPLES, 0]]))
    for (const i of upTo(1, 63)) await send('A', partOf(2, MEBI / 2, i * 8192, new Uint8Array(8192)))
  })
  expect(summary).toMatchObject({ heaps: 2, outputBytes: MEBI / 2, outputLeftOut: 1, refusals: [] })
})

test.each(BACKENDS)('%s: 2 GiB of memory and a pattern to verify', async (backend) => {
  const options = { backend, heapMemoryBytes: 2 ** 31, verify: true, close: true }
  const { summary } = await receive(options, async ({ send }) => {
    await send(
      'A',
      heapOf(1, [
        [true, SAMPLES, 0],
        [true, 0x1600, 0],
      ]),
    )
  })
  expect(summary).toMatchObject({ heaps: 1, heapsCorrupt: 0 })
})

test.each(BACKENDS)(
  '%s: 1,200 strangers cost a sender that sends on neither a heap in the making nor its order',
  async (backend) => {
    const port = await freePort()
    await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, timeoutSeconds: 20, backend, deliver: false })
    const one = (from: Socket, packet: Uint8Array) =>
      new Promise<void>((done) => from.send(packet, port, '127.0.0.1', () => done()))
    const own = createSocket('udp4')
    await one(own, partOf(1, 8, 0, new Uint8Array(4), [[false, SAMPLES, 0]]))
    for (const cnt of upTo(2, 1201)) {
      const stranger = createSocket('udp4')
      await one(stranger, data(cnt))
      stranger.close()
      if (cnt % 50 === 0) await one(own, data(cnt))
    }
    await one(own, partOf(1, 8, 4, new Uint8Array(4)))
    await expect.poll(() => receiver.stats().packets, { timeout: 10_000 }).toBe(1226)
    own.close()
    const summary = await receiver.close()
    expect(summary).toMatchObject({ heaps: 1225, heapsIncomplete: 0 })
    // Some strangers get the port of one before.
    expect(summary.sendersForgotten).toBeGreaterThan(20)
  },
)

test('recv: a heap above the memory is a failure that names --memory; with more of it all is well', async () => {
  const outcome = async (...args: string[]) => {
    const port = await freePort()
    const run = start(recvArgv(`127.0.0.1:${port}`, '--timeout', '20', ...args))
    await run.said(/^listening/m)
    const socket = createSocket('udp4')
    const to = (packet: Uint8Array) => new Promise<void>((resolve) => socket.send(packet, port, '127.0.0.1', () => resolve()))
    for (const at of [0, MEBI]) await to(partOf(1, 300 * MEBI, at, new Uint8Array(1024), [[false, SAMPLES, 0]]))
    await to(control(2, STOP))
    const ended = await run.ended
    socket.close()
    return ended
  }
  const refused = await outcome('--memory', '256MiB')
  expect(refused.code).toBe(1)
  expect(refused.stderr).toMatch(/1 heap refused: .*314572800 bytes.*raise heapMemoryBytes \(--memory\) to 304MiB/)
  expect((await outcome('--memory', '304MiB')).code).toBe(0)
})

function makeSession(memoryBytes: number, hash = false) {
  const buffer = new ArrayBuffer((64 << 10) + memoryBytes + SESSION_BYTES)
  const stats = new Float64Array(statWords(1))
  const ends = { timeoutMs: Number.POSITIVE_INFINITY, heaps: Number.POSITIVE_INFINITY, stops: Number.POSITIVE_INFINITY }
  const what = { verify: false, hash, item: SAMPLES, deliver: true, anySource: false, cntStep: 0 }
  const session = new ReceiveSession(buffer, 64 << 10, { endpoints: 1, maxHeaps: 1024, memoryBytes, ...ends, ...what }, stats)
  const u8 = new Uint8Array(buffer)
  return {
    session,
    stat: (name: StatName) => stats[STAT[name]]!,
    feed(packet: Uint8Array, from = 0) {
      u8.set(packet)
      session.packet(0, packet.length, from, 0)
    },
  }
}

test('item pointers of unfinished heaps are bounded, and heaps that have few are none the worse', () => {
  const { feed, stat, session } = makeSession(32 * MEBI)
  const many = (id: number): Pointer[] => upTo(0, 7999).map((i) => [false, 0x1000 + ((id + i) % 0x6000), i])
  let sent = 0
  for (const cnt of upTo(1, 40))
    for (const at of upTo(0, 7)) {
      feed(partOf(cnt, 1000, at, new Uint8Array(1), many(8000 * at)))
      sent++
    }
  for (const cnt of upTo(1000, 1099)) for (const at of [0, 4]) feed(partOf(cnt, 8, at, new Uint8Array(4), [[false, SAMPLES, 0]]), 1)
  expect(stat('tablesFull')).toBeGreaterThan(0)
  expect(session.outbox.filter(({ complete }) => complete)).toHaveLength(100)
  expect(stat('packets') + stat('duplicates') + stat('malformed')).toBe(sent + 200)
  expect(session.finish('closed').refusals).toEqual([expect.stringContaining('item pointers and scattered packets')])
})

test('descriptors are bounded by number and bytes, and refused ones are counted', () => {
  const { feed, stat, session } = makeSession(4 * MEBI)
  for (const cnt of upTo(1, 60)) feed(descriptor(cnt, 0x1000 + cnt, 'x'.repeat(30_000)))
  expect(stat('descriptorsRefused')).toBeGreaterThan(40)
  feed(data(1000))
  expect(stat('heaps')).toBe(1)
  expect(session.finish('closed').refusals).toEqual([expect.stringContaining('descriptors refused')])
})

test('a delivered heap counts for all that it keeps', () => {
  const { feed, session } = makeSession(4 * MEBI)
  const inner = descriptor(1, 0x1000, 'y'.repeat(20_000))
  feed(
    heapOf(
      1,
      [
        [false, 5, 0],
        [false, SAMPLES, inner.length],
      ],
      Buffer.concat([inner, Buffer.alloc(1)]),
    ),
  )
  expect(session.outbox).toHaveLength(1)
  expect(heldBytes(session.outbox[0]!)).toBeGreaterThan(20_000)
})

test('senders are bounded: the silent are forgotten, the one that sends on keeps its heap and its memory', () => {
  const { feed, stat, session } = makeSession(4 * MEBI)
  const one = (cnt: number) => partOf(cnt, 8, 0, new Uint8Array(4), [[false, SAMPLES, 0]])
  feed(one(1))
  feed(data(2))
  for (const stranger of upTo(1, 5000)) {
    feed(data(1), stranger)
    if (stranger % 100 === 0) feed(data(2 + stranger))
  }
  feed(partOf(1, 8, 4, new Uint8Array(4)))
  feed(data(4902))
  expect([stat('heaps'), stat('duplicates')]).toEqual([5052, 1])
  const { refusals } = session.finish('closed')
  expect(stat('sendersForgotten')).toBe(5001 - 1024)
  expect(refusals).toEqual([expect.stringMatching(/^3977 senders forgotten/)])
})

test('strangers do not cost a sender its place in the output', () => {
  const { feed, session } = makeSession(4 * MEBI, true)
  for (const cnt of upTo(5, 40)) feed(data(cnt))
  for (const stranger of upTo(1, 1500)) {
    feed(data(1), stranger)
    if (stranger % 100 === 0) feed(data(40 + stranger / 100))
  }
  feed(data(3))
  expect(session.finish('closed')).toMatchObject({ outputLeftOut: 1 })
})

test('packets of one byte in descending order are no burden, and their ranges are bounded', () => {
  const ranges = new Ranges(new Budget(64 * MEBI))
  for (let at = 600_000; at >= 0; at -= 2) if (ranges.add(at, at + 1) !== RANGE_NEW) throw new Error(`${at} is not new`)
  for (let at = 1; at < 600_000; at += 2) if (ranges.add(at, at + 1) !== RANGE_NEW) throw new Error(`${at} is not new`)
  expect([ranges.contiguous, ranges.end]).toEqual([true, 600_001])
  const few = new Ranges(new Budget(10_000))
  const verdicts = upTo(0, 999).map((i) => few.add(10_000 - 2 * i, 10_001 - 2 * i))
  expect(verdicts.at(-1)).toBe(RANGE_REFUSED)
  expect(verdicts.indexOf(RANGE_REFUSED)).toBeGreaterThan(256)
})

test('recv under unfinished heaps with many pointers stays within its memory', async (ctx) => {
  need(ctx, process.platform === 'linux', 'reads /proc')
  const port = await freePort()
  const run = start(recvArgv(`127.0.0.1:${port}`, '--timeout', '30', '--memory', '64MiB'))
  await run.said(/^listening/m)
  const peak = () => Number(/VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${run.child.pid}/status`, 'utf8'))![1]) / 1024
  const before = peak()
  const socket = createSocket('udp4')
  const to = (packet: Uint8Array) => new Promise<void>((resolve) => socket.send(packet, port, '127.0.0.1', () => resolve()))
  for (const cnt of upTo(1, 600)) {
    const pointers = upTo(0, 8100).map((i) => [false, 0x1000 + i, (cnt + i) % 900] as Pointer)
    for (const at of [0, 1])
      await to(packetOf([[true, 1, cnt], [true, 2, 1000], [true, 3, at], [true, 4, 1], ...pointers], new Uint8Array(1)))
  }
  await to(control(1000, STOP))
  await to(control(1000, STOP))
  const grown = peak() - before
  const { code } = await run.ended
  socket.close()
  expect(code).toBe(1)
  // 64 MiB, an eighth of it for tables, a thirty-second for descriptors, and what V8 needs to run.
  expect(grown).toBeLessThan(64 + 8 + 2 + 60)
})
