// How a stream ends: drained, at a deadline, destroyed, left by its block, or because its I/O thread died. Every send settles.

import { type BatchResult, IoThread, openStream, SendError, type Stream, type StreamOptions } from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { need } from '../support/need.js'
import { mappings } from '../support/smaps.js'
import {
  EAGAIN,
  filledBatch,
  type Gate,
  itemsOf,
  memoryStream,
  numberHeap,
  OUTLETS,
  openOutlet,
  threadsOf,
  timestampsOf,
  turn,
  wholeHeaps,
} from './support.js'

const CLOSED = { code: 'ERR_SPEADCAST_CLOSED' }

/** Heaps of three packets, ten heaps a second. */
const SLOW: Partial<StreamOptions> = { rate: '10kB/s', burstBytes: 1, packetSizeBytes: 400, split: 'greedy', descriptors: 'none' }
const PACKETS = 3
const slowBatches = (stream: Stream, batches: number, heaps: number) =>
  Array.from({ length: batches }, (_, i) => filledBatch(stream, i * heaps, { heaps, items: itemsOf(900) }))

/** Every other call that needs an open stream. */
const CALLS: readonly ((stream: Stream) => unknown)[] = [
  (stream) => filledBatch(stream, 0),
  (stream) => stream.sendHeap(numberHeap(1)),
  (stream) => stream.sendHeaps([{ heap: numberHeap(1) }], 'serial'),
  (stream) => stream.sendStart(),
  (stream) => stream.sendEnd(),
  (stream) => stream.setCntSequence(1, 1),
]

/** The fate of each heap of a send. Sends that no packet was tried of are 'flushed' when they were taken, and aborted before that. */
function fates(settled: PromiseSettledResult<BatchResult>): readonly string[] {
  if (settled.status === 'fulfilled') return Array(settled.value.heaps).fill('sent')
  if (settled.reason instanceof SendError) return settled.reason.outcome.heaps
  return [settled.reason.code === 'ERR_SPEADCAST_ABORTED' ? 'flushed' : settled.reason.code]
}

describe.for(OUTLETS)('%s', (kind) => {
  test('send tells what it sent, close drains the rest, everything arrives once and in order', async (ctx) => {
    const { stream, packets } = await openOutlet(ctx, kind, { descriptors: 'none' })
    const batches = [0, 2, 4, 6].map((first) => filledBatch(stream, first))
    const evidence = kind === 'memory' || kind === 'pcap' ? 'written' : 'accepted'
    expect(await stream.send(batches[0]!)).toEqual({
      heaps: 2,
      skippedHeaps: 0,
      packets: 2,
      payloadBytes: 200,
      firstCnt: 1,
      evidence,
      suspect: false,
    })
    const flushed = stream.send(batches[1]!)
    await stream.flush()
    expect(stream.stats()).toMatchObject({ inFlight: 0, heapsSent: 4 })
    expect(batches[1]!.state).toBe('free')
    const last = [stream.send(batches[2]!, { heaps: 1 }), stream.send(batches[3]!)]
    expect(await stream.close()).toEqual({ droppedHeaps: 0 })
    expect(await Promise.all([flushed, ...last])).toMatchObject([{ firstCnt: 3 }, { firstCnt: 5, heaps: 1 }, { firstCnt: 6 }])
    const arrived = await packets(7)
    expect(wholeHeaps(arrived, 1)).toEqual([0, 1, 2, 3, 4, 6, 7])
    expect(arrived.map(({ cnt }) => cnt)).toEqual([1, 2, 3, 4, 5, 6, 7])
  })

  test('await using drains', async (ctx) => {
    const outlet = await openOutlet(ctx, kind, SLOW)
    {
      await using stream = outlet.stream
      stream.send(slowBatches(stream, 1, 2)[0]!)
    }
    expect(outlet.stream.stats().inFlight).toBe(0)
    expect(wholeHeaps(await outlet.packets(2 * PACKETS), PACKETS)).toEqual([0, 1])
  })

  test('once closing, everything new is refused; closing again is the same close', async (ctx) => {
    const { stream, packets } = await openOutlet(ctx, kind, SLOW)
    const [batch, other] = slowBatches(stream, 2, 1)
    const sent = stream.send(batch!)
    const closing = stream.close()
    for (const state of ['closing', 'closed']) {
      expect(() => stream.send(other!)).toThrow(expect.objectContaining({ ...CLOSED, message: `send: the stream is ${state}` }))
      for (const call of CALLS) expect(() => call(stream)).toThrow(expect.objectContaining(CLOSED))
      expect(stream.close({ deadlineSeconds: 0 })).toBe(closing)
      expect(await closing).toEqual({ droppedHeaps: 0 })
    }
    expect(await sent).toMatchObject({ heaps: 1 })
    expect(await packets(PACKETS)).toHaveLength(PACKETS)
    await stream.flush()
    await stream.destroy()
    await stream[Symbol.asyncDispose]()
    await batch!.free
    batch!.close()
    expect([batch!.state, other!.state]).toEqual(['closed', 'closed'])
    expect(stream.stats()).toMatchObject({ heapsSent: 1, inFlight: 0 })
  })

  test.for(['deadline', 'destroy'])('%s under load: what arrived and what was dropped is all there was', async (how, ctx) => {
    const { stream, packets } = await openOutlet(ctx, kind, SLOW)
    const outcomes = Promise.allSettled(slowBatches(stream, 3, 4).map((batch) => stream.send(batch)))
    await turn(250)
    if (how === 'destroy') await stream.destroy()
    const { droppedHeaps } = await stream.close({ deadlineSeconds: 0.1 })
    const { heapsSent, packets: sent, inFlight } = stream.stats()
    const arrived = await packets(sent)
    const whole = wholeHeaps(arrived, PACKETS)
    expect({ sent, heapsSent, inFlight }).toEqual({ sent: arrived.length, heapsSent: whole.length, inFlight: 0 })
    expect(whole).toEqual(Array.from({ length: 12 - droppedHeaps }, (_, i) => i))
    // The first packets go before the limiter has anything to say; all twelve heaps would take more than a second.
    expect(whole.length).toBeGreaterThan(0)
    expect(droppedHeaps).toBeGreaterThan(0)
    const words = (await outcomes).flatMap(fates)
    expect(words.filter((word) => word === 'sent')).toHaveLength(whole.length)
    expect(words.filter((word) => word === 'partial')).toHaveLength(arrived.length > whole.length * PACKETS ? 1 : 0)
    expect(words.filter((word) => !['sent', 'partial', 'flushed'].includes(word))).toEqual([])
  })

  test('a deadline that is long enough drops nothing, and one of nothing closes an idle stream', async (ctx) => {
    const { stream, packets } = await openOutlet(ctx, kind, SLOW)
    stream.send(slowBatches(stream, 1, 2)[0]!)
    expect(await stream.close({ deadlineSeconds: 1e9 })).toEqual({ droppedHeaps: 0 })
    expect(await packets(2 * PACKETS)).toHaveLength(2 * PACKETS)
    const idle = await openOutlet(ctx, kind)
    expect(await idle.stream.close({ deadlineSeconds: 0 })).toEqual({ droppedHeaps: 0 })
  })
})

describe('in every state of its sends', () => {
  const heaps = (stream: Stream, n: number) => Array.from({ length: n }, (_, i) => stream.sendHeap(numberHeap(i)))
  const flushed = (n: number): string[] => Array(n).fill('flushed')
  const STATES: readonly {
    readonly state: string
    /** Default: nothing is taken. */
    readonly memory?: object
    readonly atOnce?: boolean
    readonly send: (stream: Stream) => PromiseLike<BatchResult>[]
    /** When all is given up. */
    readonly fates: readonly string[]
  }[] = [
    { state: 'nothing sent', send: () => [], fates: [] },
    { state: 'submitted, not looked at yet', atOnce: true, send: (stream) => heaps(stream, 3), fates: flushed(3) },
    { state: 'taken, refused for now', send: (stream) => heaps(stream, 3), fates: flushed(3) },
    {
      state: 'taken, part of it posted',
      memory: { failAt: (row: number) => (row >= 2 ? { errno: EAGAIN, how: 'again' } : undefined), pauseNanoseconds: 1e6 },
      send: (stream) => {
        const group = [0, 1, 2, 3].map((n) => ({ heap: numberHeap(n) }))
        return [stream.sendHeaps(group, 'serial'), ...heaps(stream, 1)]
      },
      fates: ['sent', 'sent', ...flushed(3)],
    },
    {
      state: 'posted, not completed',
      memory: { completeAfterReaps: 2 ** 31 },
      send: (stream) => heaps(stream, 2),
      fates: ['unknown', 'unknown'],
    },
    { state: 'more than the ring holds', send: (stream) => heaps(stream, 2500), fates: flushed(2500) },
    {
      state: 'some withdrawn, not passed yet',
      send: (stream) => {
        const controller = new AbortController()
        const withdrawn = [1, 2].map((n) => stream.sendHeap(numberHeap(n), { signal: controller.signal }))
        const sends = [stream.sendHeap(numberHeap(0)), ...withdrawn, stream.sendHeap(numberHeap(3))]
        controller.abort({ code: 'WITHDRAWN' })
        return sends
      },
      fates: ['flushed', 'WITHDRAWN', 'WITHDRAWN', 'flushed'],
    },
    {
      state: 'a flush under way',
      send: (stream) => [...heaps(stream, 2), stream.flush().then(() => ({ heaps: 0 }) as BatchResult)],
      fates: flushed(2),
    },
  ]

  describe.for(['destroy', 'deadline', 'destroy while closing'])('%s', (how) => {
    test.for(STATES)('$state', async ({ memory, send, atOnce, fates: expected }) => {
      const stream = await memoryStream(memory ? { memory } : {}, { shut: true })
      const settled = Promise.allSettled(send(stream))
      if (!atOnce) await turn()
      const closing = how === 'destroy' ? undefined : stream.close(how === 'deadline' ? { deadlineSeconds: 0 } : {})
      if (how !== 'deadline') await stream.destroy()
      const { droppedHeaps } = await (closing ?? stream.close())
      const words = (await settled).flatMap(fates)
      expect(words).toEqual(expected)
      // The stream does not count as dropped a send that its own signal withdrew.
      expect(droppedHeaps).toBe(words.filter((word) => word !== 'sent' && word !== 'WITHDRAWN').length)
      expect(stream.stats().inFlight).toBe(0)
    })
  })

  test.for(STATES.filter(({ memory }) => !memory))(
    'close waits, and sends all: $state',
    async ({ send, atOnce, fates: expected }) => {
      const gate: Gate = { shut: true }
      const stream = await memoryStream({}, gate)
      const settled = Promise.allSettled(send(stream))
      if (!atOnce) await turn()
      const closing = stream.close()
      expect(await Promise.race([closing.then(() => 'closed'), turn()])).toBe(expected.length > 0 ? 'pending' : 'closed')
      gate.shut = false
      expect(await closing).toEqual({ droppedHeaps: 0 })
      const words = expected.map((word) => (word === 'WITHDRAWN' ? word : 'sent'))
      expect((await settled).flatMap(fates)).toEqual(words)
    },
  )
})

describe('the I/O thread', () => {
  async function withThread(options: Partial<StreamOptions> = {}) {
    const { result: stream, threads } = await threadsOf(() =>
      openStream({ to: '127.0.0.1:7148', backend: 'udp', descriptors: 'none', thread: new IoThread(), ...SLOW, ...options }),
    )
    onTestFinished(() => stream.destroy())
    return { stream, thread: threads[0]! }
  }

  test('terminated: every send settles, none hangs, nothing is reported sent that may not have been', async (ctx) => {
    need(ctx, process.platform === 'linux', 'only backend udp has a thread')
    const { stream, thread } = await withThread()
    const batches = slowBatches(stream, 3, 4)
    const settled = Promise.allSettled(batches.map((batch) => stream.send(batch)))
    const flushed = stream.flush().catch((error) => error)
    const free = Promise.all(batches.map((batch) => batch.free))
    await turn(50)
    await thread.terminate()
    for (const outcome of await settled) expect(outcome).toMatchObject({ reason: { code: 'ERR_SPEADCAST_WORKER' } })
    await free
    expect(await flushed).toBeUndefined()
    expect(stream.stats().inFlight).toBe(0)
    const dead = expect.objectContaining({ code: 'ERR_SPEADCAST_WORKER', message: expect.stringMatching(/I\/O thread ended/) })
    expect(() => stream.send(batches[0]!)).toThrow(dead)
    for (const call of CALLS) expect(() => call(stream)).toThrow(dead)
    batches[0]!.close()
    expect(await stream.close({ deadlineSeconds: 1 })).toEqual({ droppedHeaps: 0 })
    await stream.destroy()
  })

  test('terminated with a send that nobody looks at: close surfaces it', async (ctx) => {
    need(ctx, process.platform === 'linux', 'only backend udp has a thread')
    const { stream, thread } = await withThread()
    const [batch] = slowBatches(stream, 1, 4)
    stream.send(batch!)
    await thread.terminate()
    await batch!.free
    await expect(stream.close()).rejects.toMatchObject({ code: 'ERR_SPEADCAST_WORKER' })
  })

  test('terminated while closing: close ends', async (ctx) => {
    need(ctx, process.platform === 'linux', 'only backend udp has a thread')
    const { stream, thread } = await withThread()
    const settled = Promise.allSettled(slowBatches(stream, 2, 4).map((batch) => stream.send(batch)))
    const closing = stream.close()
    await turn(50)
    await thread.terminate()
    expect(await closing).toEqual({ droppedHeaps: 0 })
    expect((await settled).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
  })

  test('one stream’s is not the other’s', async (ctx) => {
    need(ctx, process.platform === 'linux', 'only backend udp has a thread')
    const { packets, stream: other } = await openOutlet(ctx, 'udp', { descriptors: 'none' })
    const { stream, thread } = await withThread()
    await thread.terminate()
    await stream.close()
    expect(await other.send(filledBatch(other, 5))).toMatchObject({ heaps: 2 })
    expect(timestampsOf(await packets(2))).toEqual([5, 6])
  })
})

test('two streams at once keep their heaps, counts and batches apart', async (ctx) => {
  need(ctx, process.platform === 'linux', 'backend udp needs Linux')
  const outlets = await Promise.all([
    openOutlet(ctx, 'udp', { descriptors: 'none', firstCnt: 1000, cntStep: 10 }),
    openOutlet(ctx, 'udp', { descriptors: 'none' }),
  ])
  const batches = outlets.map(({ stream }, k) => filledBatch(stream, 100 * k))
  expect(() => outlets[1]!.stream.send(batches[0]!)).toThrow(
    expect.objectContaining({
      code: 'ERR_SPEADCAST_BATCH_STATE',
      message: expect.stringMatching(/of another stream|another stream/),
    }),
  )
  for (let i = 0; i < 20; i++)
    for (const [k, { stream }] of outlets.entries()) {
      await batches[k]!.free
      batches[k]!.immediate('timestamp').setRamp(100 * k + 2 * i, 1)
      stream.send(batches[k]!)
    }
  await outlets[0]!.stream.close()
  await outlets[1]!.stream.flush()
  const [first, second] = await Promise.all(outlets.map(({ packets }) => packets(40)))
  expect(timestampsOf(first!)).toEqual(Array.from({ length: 40 }, (_, i) => i))
  expect(first!.map(({ cnt }) => cnt)).toEqual(Array.from({ length: 40 }, (_, i) => 1000 + 10 * i))
  expect(timestampsOf(second!)).toEqual(Array.from({ length: 40 }, (_, i) => 100 + i))
  expect(second!.map(({ cnt }) => cnt)).toEqual(Array.from({ length: 40 }, (_, i) => 1 + i))
})

/**
 * Resident KiB of memory that is ours: no child inherits it (VmFlags dc, proc_pid_smaps(5)), and it does not start at a multiple of 256 KiB
 * as V8's heap does, of which that is also true.
 */
const mappedKib = (): number =>
  mappings()
    .filter(({ from, rights, flags }) => from % 2 ** 18 !== 0 && rights === 'rw-p' && flags.includes('dc'))
    .reduce((sum, mapping) => sum + mapping.kib('Rss'), 0)

test.for(['worker', 'inline'] as const)('%s: what a stream mapped is given back when it closes', async (thread, ctx) => {
  need(ctx, process.platform === 'linux', 'looks at /proc')
  const messages = 4000
  const use = async (times: number) => {
    for (let i = 0; i < times; i++) {
      const stream = await openStream({ to: '127.0.0.1:9', backend: 'udp', thread, segmentation: 'off', descriptors: 'none' })
      await stream.send(filledBatch(stream, 0, { heaps: messages, items: itemsOf(16) }))
      await stream.sendHeap(numberHeap(0))
      await stream.close()
    }
  }
  // The things kept for the next stream exist from now on.
  await use(2)
  const before = mappedKib()
  await use(8)
  // A message takes more than 100 bytes.
  expect(mappedKib() - before).toBeLessThan((8 * messages * 100) / 1024 / 4)
})

test('leaving the block after a failed close adds no second error', async () => {
  const gate: Gate = { shut: false, refuse: () => true }
  let failure: unknown
  const block = async () => {
    await using stream = await memoryStream({ descriptors: 'none' }, gate)
    stream.send(filledBatch(stream, 0))
    failure = await stream.close().catch((error) => error)
  }
  await block()
  expect(failure).toBeInstanceOf(SendError)
})
