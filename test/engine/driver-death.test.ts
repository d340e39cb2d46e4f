/** When whoever sends dies: every promise settles, nothing stays open, and what comes next is told why. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import type { Worker } from 'node:worker_threads'
import { describe, expect, onTestFinished, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { DEFAULT_IO_THREADS } from '#dist/src/engine/pool.js'
import { Heap, IoThread, ItemGroup, openStream, type Stream, type StreamOptions } from '#dist/src/index.js'
import { rawHeap } from '../support/engine-rig.js'
import { need } from '../support/need.js'
import { driverRig, settledOf, within } from './driver-support.js'

/** The threads that are started from now on, as Node announces them. */
function threads(): Worker[] {
  const started: Worker[] = []
  const listen = (worker: Worker) => started.push(worker)
  process.on('worker', listen)
  onTestFinished(() => void process.off('worker', listen))
  return started
}

/** The targets of the open descriptors, without those of files that the test runner opens and closes as it likes. */
const descriptors = (): string[] =>
  readdirSync('/proc/self/fd')
    .map((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`)
      } catch {
        return ''
      }
    })
    .filter((target) => /^(socket|anon_inode):|\.pcap$/.test(target))
    .map((target) => target.replace(/\[?\d+\]?$/, ''))
    .sort()

function pcapPath(): string {
  const folder = mkdtempSync(join(tmpdir(), 'speadcast-death-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return join(folder, 'packets.pcap')
}

async function open(options: Partial<StreamOptions>): Promise<Stream> {
  const stream = await openStream({ to: '127.0.0.1:9', descriptors: 'none', ...options })
  onTestFinished(() => stream.destroy())
  return stream
}

const ITEMS = new ItemGroup().add({ id: 0x3300, name: 'adc', dtype: '|u1', shape: [1000] })
const WORKER = 'ERR_SPEADCAST_WORKER'
const outcome = (result: PromiseSettledResult<unknown>): unknown => (result.status === 'rejected' ? result.reason.code : 'sent')

/** Everything a user may wait for or call on a stream whose sending side is gone. */
async function expectDead(stream: Stream, message: RegExp): Promise<void> {
  const dead = expect.objectContaining({ code: WORKER, message: expect.stringMatching(message) })
  expect(() => stream.createBatch({ items: ITEMS, heaps: 1 })).toThrow(dead)
  expect(() => stream.sendHeap(new Heap().addStart())).toThrow(dead)
  expect(() => stream.sendEnd()).toThrow(dead)
  expect(() => stream.setCntSequence(5, 1)).toThrow(dead)
  expect(stream.stats().inFlight).toBe(0)
  await within('flush', stream.flush())
  await within('close', stream.close())
  await within('destroy', stream.destroy())
}

describe('the I/O thread', () => {
  for (const backend of ['udp', 'pcap'] as const)
    test(`killed with sends in the ring and beyond it (${backend})`, async (ctx) => {
      need(ctx, process.platform === 'linux' && nativeCallsWork(), 'looks at /proc, and udp is for Linux')
      const before = descriptors()
      const started = threads()
      // One packet goes, the rest has a quarter of an hour's time.
      const stream = await open({
        backend,
        thread: new IoThread(),
        rate: 1,
        burstBytes: 1,
        ...(backend === 'pcap' && { pcapPath: pcapPath() }),
      })
      expect(started).toHaveLength(1)
      expect(descriptors().length).toBeGreaterThan(before.length)
      const batch = stream.createBatch({ items: ITEMS, heaps: 2 })
      const sends = [stream.send(batch), ...Array.from({ length: 1500 }, () => stream.sendHeap(new Heap().addStart()))]
      const free = batch.free
      const flush = stream.flush()
      const unseen = stream.sendHeap(new Heap().addStart())
      expect(batch.state).toBe('in-flight')
      await started[0]!.terminate()
      const results = await within('every send', Promise.allSettled(sends))
      expect(results.map(outcome)).toEqual(Array(1501).fill(WORKER))
      await within('free', free)
      expect(batch.state).toBe('free')
      // `unseen` was looked at by nobody, so its failure surfaces here, once.
      await expect(within('flush', flush)).rejects.toMatchObject({
        code: WORKER,
        message: expect.stringMatching(/the I\/O thread ended with code 1/),
      })
      expect(() => stream.send(batch)).toThrow(expect.objectContaining({ code: WORKER }))
      await expectDead(stream, /the I\/O thread ended with code 1/)
      await expect(unseen).rejects.toMatchObject({ code: WORKER })
      expect(descriptors()).toEqual(before)
      // Another one is none the worse for it.
      const next = await open({ backend: 'udp', thread: 'worker' })
      expect(await within('a send', next.sendHeap(new Heap().addStart()))).toMatchObject({ heaps: 1 })
      await next.close()
    })

  test('killed while idle: the next send says so', async (ctx) => {
    need(ctx, nativeCallsWork(), 'udp is for Linux')
    const started = threads()
    const stream = await open({ backend: 'udp', thread: new IoThread() })
    await within('a send', stream.sendHeap(new Heap().addStart()))
    const told: unknown[] = []
    const listener = (message: unknown): number => told.push(message)
    subscribe('speadcast:stream:error', listener)
    onTestFinished(() => void unsubscribe('speadcast:stream:error', listener))
    await started[0]!.terminate()
    expect(inspect(stream)).toContain("state: 'dead'")
    await expectDead(stream, /the I\/O thread ended with code 1/)
    expect(told).toEqual([{ stream, error: expect.objectContaining({ code: WORKER }) }])
  })

  test('killed under a stream that outlives it: what was under way fails, what waits goes on, nothing stays open', async (ctx) => {
    need(ctx, process.platform === 'linux' && nativeCallsWork(), 'looks at /proc, and udp is for Linux')
    const before = descriptors()
    const started = threads()
    const thread = new IoThread()
    const stream = await open({ backend: 'udp', thread, onThreadDeath: 'restart', rate: 100_000, burstBytes: 1 })
    const opened = descriptors()
    const batches = [400, 2, 2].map((heaps) => stream.createBatch({ items: ITEMS, heaps }))
    const sends = batches.map((batch) => stream.send(batch))
    await expect.poll(() => stream.stats().packets, { interval: 1 }).toBeGreaterThan(0)
    await started[0]!.terminate()
    const results = await within('every send', Promise.allSettled(sends))
    expect(results.map(outcome)).toEqual([WORKER, 'sent', 'sent'])
    expect(results[0]).toMatchObject({
      reason: { message: expect.stringMatching(/the I\/O thread ended with code 1; 400 of 400 heaps/) },
    })
    expect(started).toHaveLength(2)
    expect(stream.stats()).toMatchObject({ threadRestarts: 1, heapsSent: 4, heapsFailed: 400 })
    expect(descriptors()).toEqual(opened)
    // Another death, of a stream that has nothing to send.
    await started[1]!.terminate()
    await expect.poll(() => stream.stats().threadRestarts).toBe(2)
    expect(await within('a send', stream.send(batches[1]!))).toMatchObject({ heaps: 2, firstCnt: 405 })
    await stream.close()
    await thread.close()
    expect(descriptors()).toEqual(before)
  })

  test('killed while it is being closed: close resolves', async (ctx) => {
    need(ctx, nativeCallsWork(), 'udp is for Linux')
    const started = threads()
    const stream = await open({ backend: 'udp', thread: new IoThread(), rate: 1, burstBytes: 1 })
    const sends = Promise.allSettled([1, 2].map(() => stream.sendHeap(new Heap().addStart())))
    const closed = stream.close()
    await started[0]!.terminate()
    await within('close', closed)
    expect((await within('every send', sends)).map(outcome)).toContain(WORKER)
  })

  test('an error in its engine is told in its words, and it leaves nothing behind', async () => {
    const rig = await driverRig('worker')
    const variant = rig.add([{ heap: rawHeap(100) }])
    const sends = [rig.send(variant), rig.send({ ...variant, id: 4711 }), ...Array.from({ length: 1500 }, () => rig.send(variant))]
    const results = await settledOf(sends)
    expect(results.map(outcome)).toEqual(['sent', ...Array(1501).fill(WORKER)])
    expect(results[1]).toMatchObject({ reason: { message: 'submission of unknown variant 4711' } })
    expect(rig.deaths).toHaveLength(1)
    expect(rig.ring.closed).toBe(true)
    expect(() => rig.send(variant)).toThrow(rig.deaths[0])
    await within('stopped', rig.driver.stopped())
    expect(rig.thread).toMatchObject({ streams: 0, state: 'running' })
    expect(rig.packets()).toHaveLength(1)
  })

  test('while what it said of failures is unread: every send is told its own fate', async () => {
    const rig = await driverRig('worker')
    const variant = rig.add([{ heap: rawHeap(100) }])
    const [two, three] = [2, 3].map((heaps) =>
      rig.add(Array.from({ length: heaps }, () => ({ heap: rawHeap(100), substream: 99 }))),
    )
    const sends = [two!, three!, { ...variant, id: 4711 }, variant].map((what) => rig.send(what))
    // No turn of the event loop, so the first to read its reports is who settles.
    rig.ring.awaitClosed(10_000)
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 100)
    rig.submissions.harvest()
    const results = await settledOf(sends)
    expect(results.map(outcome)).toEqual([...Array(2).fill('ERR_SPEADCAST_SEND'), WORKER, WORKER])
    expect(results.slice(0, 2)).toMatchObject(
      [2, 3].map((heaps) => ({ reason: { outcome: { heaps: Array(heaps).fill('failed') } } })),
    )
    expect(rig.deaths).toMatchObject([{ message: 'submission of unknown variant 4711' }])
  })

  test('what cannot be opened rejects with the reason, and no threads are made for it', async (ctx) => {
    need(ctx, process.platform === 'linux', 'looks at /proc')
    const started = threads()
    let before: string[] | undefined
    for (let round = 0; round < 10; round++) {
      const refused = Array.from({ length: 6 }, () => open({ backend: 'pcap', thread: 'worker', pcapPath: '/nowhere/at/all.pcap' }))
      for (const result of await within('the refusals', Promise.allSettled(refused)))
        expect(result).toMatchObject({
          reason: { code: 'ERR_SPEADCAST_BACKEND', message: "cannot create the pcap file '/nowhere/at/all.pcap': ENOENT" },
        })
      // The first round starts the threads, which keep a few.
      before ??= descriptors()
    }
    expect(started.length).toBeLessThanOrEqual(DEFAULT_IO_THREADS)
    expect(descriptors()).toEqual(before)
  })
})

describe('the event loop', () => {
  test('an error of the backend, here of failAt, is the cause; what was sent before it stays sent', async () => {
    const boom = new Error('thrown by failAt')
    const failAt = (row: number) => {
      if (row === 3) throw boom
      return undefined
    }
    const stream = await open({ backend: 'memory', memory: { failAt }, packetSizeBytes: 1472 })
    const batch = stream.createBatch({ items: ITEMS, heaps: 5 })
    const sends = [
      stream.sendHeap(new Heap().addStart()),
      stream.send(batch),
      ...Array.from({ length: 1500 }, () => stream.sendHeap(new Heap().addStart())),
    ]
    const results = await within('every send', Promise.allSettled(sends))
    expect(results.map(outcome)).toEqual(['sent', ...Array(1501).fill(WORKER)])
    expect(results[1]).toMatchObject({ reason: { message: 'the engine failed: thrown by failAt', cause: boom } })
    expect(stream.packets).toHaveLength(3)
    expect(batch.state).toBe('free')
    await expectDead(stream, /thrown by failAt/)
  })

  test('withdrawing and destroying after it died harms nobody', async () => {
    const abort = new AbortController()
    const failAt = () => {
      throw new Error('thrown by failAt')
    }
    const stream = await open({ backend: 'memory', memory: { failAt } })
    const sends = [1, 2].map(() => stream.sendHeap(new Heap().addStart(), { signal: abort.signal }))
    const results = await within('every send', Promise.allSettled(sends))
    expect(results.map(outcome)).toEqual([WORKER, WORKER])
    abort.abort()
    await within('destroy', stream.destroy())
    expect(stream.stats().inFlight).toBe(0)
  })
})
