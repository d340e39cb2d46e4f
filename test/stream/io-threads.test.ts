/** Streams that share I/O threads: each keeps its own heaps, order and fate, and what threads cost stays where it was. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { Worker } from 'node:worker_threads'
import { IoThread, ItemGroup, openStream, type Stream, type StreamOptions } from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { DEFAULT_IO_THREADS } from '#dist/src/engine/pool.js'
import { need } from '../support/need.js'
import { programFile } from '../support/program.js'
import { filledBatch, openOutlet, type Packet, timestampsOf } from './support.js'

/** The threads that are started from now on, as Node announces them. */
function threads(): Worker[] {
  const started: Worker[] = []
  const listen = (worker: Worker) => started.push(worker)
  process.on('worker', listen)
  onTestFinished(() => void process.off('worker', listen))
  return started
}

const open = async (options: Partial<StreamOptions> = {}): Promise<Stream> => {
  const stream = await openStream({ to: '127.0.0.1:9', backend: 'udp', descriptors: 'none', ...options })
  onTestFinished(() => stream.destroy())
  return stream
}

const upTo = (n: number, from = 0): number[] => Array.from({ length: n }, (_, i) => from + i)

test('64 streams with a rate: all heaps of each arrive in order, whatever happens to others', async (ctx) => {
  need(ctx, process.platform === 'linux', 'backend udp needs Linux')
  const started = threads()
  const batchesEach = 10
  const paced = { descriptors: 'none', rate: '20Mbps' } as const
  const outlets = await Promise.all(upTo(61).map(() => openOutlet(ctx, 'udp', paced)))
  // One sends to a port where nobody listens, one is closed and one destroyed in the middle.
  const [dead, closed, destroyed] = await Promise.all(upTo(3).map(() => open(paced)))
  expect(started.length).toBeLessThanOrEqual(1)
  const send = async (stream: Stream, k: number): Promise<number> => {
    const batch = filledBatch(stream, 0, { items: itemsOf() })
    let sent = 0
    for (let i = 0; i < batchesEach; i++) {
      await batch.free
      batch.immediate('timestamp').setRamp(1000 * k + 2 * i, 1)
      await stream.send(batch).then(
        ({ heaps }) => {
          sent += heaps
        },
        () => {},
      )
      if (i < 4 || (stream !== closed && stream !== destroyed)) continue
      await (stream === closed ? stream.close() : stream.destroy())
      break
    }
    return sent
  }
  const all = [...outlets.map(({ stream }) => stream), dead!, closed!, destroyed!]
  const sent = await Promise.all(all.map(send))
  expect(sent.slice(0, 61)).toEqual(Array(61).fill(2 * batchesEach))
  expect(sent.slice(62)).toEqual([10, 10])
  const arrived = await Promise.all(outlets.map(({ packets }) => packets(2 * batchesEach)))
  for (const [k, packets] of arrived.entries()) {
    expect(timestampsOf(packets)).toEqual(upTo(2 * batchesEach, 1000 * k))
    expect(packets.map(({ cnt }: Packet) => cnt)).toEqual(upTo(2 * batchesEach, 1))
  }
})

const itemsOf = () =>
  new ItemGroup()
    .add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
    .add({ id: 0x3300, name: 'adc_samples', dtype: 'i1', shape: [1000] })

describe('an I/O thread of the program', () => {
  test('that dies takes its streams with it, each of which says so, and no other', async (ctx) => {
    need(ctx, process.platform === 'linux', 'backend udp needs Linux')
    const started = threads()
    const thread = new IoThread()
    const streams = await Promise.all(upTo(8).map(() => open({ thread })))
    const other = await openOutlet(ctx, 'udp', { descriptors: 'none' })
    expect(thread.streams).toBe(8)
    await started[0]!.terminate()
    const dead = { code: 'ERR_SPEADCAST_WORKER', message: expect.stringMatching(/the I\/O thread ended with code 1/) }
    for (const stream of streams) {
      expect(() => stream.sendEnd()).toThrow(expect.objectContaining(dead))
      expect(await stream.close()).toEqual({ droppedHeaps: 0 })
    }
    expect(thread.streams).toBe(0)
    // The next stream has another thread of the same kind.
    const before = started.length
    const next = await open({ thread })
    expect(await next.sendEnd()).toMatchObject({ heaps: 1 })
    expect(started).toHaveLength(before + 1)
    await next.close()
    await thread.close()
    await expect(openStream({ to: '127.0.0.1:9', backend: 'udp', thread })).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_CLOSED',
      message: expect.stringMatching(/make another/),
    })
    await other.stream.send(filledBatch(other.stream, 5))
    expect(timestampsOf(await other.packets(2))).toEqual([5, 6])
  })

  test('ends when it is closed and its streams are; nothing is opened in it meanwhile', async (ctx) => {
    need(ctx, process.platform === 'linux', 'backend udp needs Linux')
    const started = threads()
    const thread = new IoThread({ name: 'mine', priority: 5 })
    const stream = await open({ thread })
    const closed = thread.close()
    await expect(openStream({ to: '127.0.0.1:9', backend: 'udp', thread })).rejects.toMatchObject({ code: 'ERR_SPEADCAST_CLOSED' })
    expect(await stream.sendEnd()).toMatchObject({ heaps: 1 })
    await stream.close()
    await closed
    expect(started.map(({ threadId }) => threadId)).toEqual([-1])
    await thread.close()
  })

  test('one that was never used ends too', async () => {
    const started = threads()
    {
      await using thread = new IoThread()
      expect(thread.streams).toBe(0)
    }
    expect(started.map(({ threadId }) => threadId)).toEqual([-1])
  })

  test.for([
    [{ affinity: 3 }, /affinity is 3; it must be a list of CPU numbers/],
    [{ affinity: [-1] }, /affinity is .*; it must be a list of CPU numbers/],
    [{ name: '' }, /name is ''; it must be a text/],
    [{ priority: 20 }, /priority is 20; it must be a nice value/],
    [{ threads: 2 }, /unknown option 'threads'; known ones: affinity, name, priority/],
    [null, /the options are null/],
  ] as const)('%o is refused', ([options, message]) => {
    expect(() => new IoThread(options as object)).toThrow(
      expect.objectContaining({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(message) }),
    )
  })
})

test('streams at full speed have a thread each, as far as there are threads', async (ctx) => {
  need(ctx, process.platform === 'linux', 'backend udp needs Linux')
  const started = threads()
  // An affinity that nobody else here asks for, or its threads would be found.
  const affinity = [1, 0]
  const streams: Stream[] = []
  for (let i = 0; i < 4; i++) streams.push(await open({ affinity, ioThreads: 3 }))
  expect(started).toHaveLength(3)
  for (let i = 0; i < 4; i++) streams.push(await open({ affinity, ioThreads: 3, rate: '1Gbps' }))
  expect(started).toHaveLength(3)
  await Promise.all(streams.map((stream) => stream.close()))
  await open({ affinity, ioThreads: 3 })
  expect(started).toHaveLength(3)
})

test.for(['opened', 'refused'])(
  '1000 streams that are %s leave mappings, threads and memory where they were',
  async (what, ctx) => {
    need(ctx, process.platform === 'linux', 'looks at /proc')
    const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', programFile('stream/reopen'), what])
    const added = JSON.parse(stdout)
    expect(added.threads).toBeLessThanOrEqual(DEFAULT_IO_THREADS)
    // Each thread that ends leaves three mappings behind; a stream that is held is 15 KB of heap.
    expect(added.mappings).toBeLessThan(200)
    expect(added.heapBytes).toBeLessThan(2e6)
  },
)
