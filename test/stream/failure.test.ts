// A failure that nobody looks at is no unhandled rejection, and is not lost: the next send, flush or close throws it, once.

import { type BatchResult, openStream, SendError, type SendPromise, type Stream, type StreamOptions } from 'speadcast'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { need } from '../support/need.js'
import { fill, filledBatch, type Gate, memoryStream, numberHeap, parse, timestampsOf, turn, wholeHeaps } from './support.js'

const unhandled: unknown[] = []
const onUnhandled = (reason: unknown) => unhandled.push(reason)
beforeEach(() => {
  unhandled.length = 0
  process.on('unhandledRejection', onUnhandled)
})
afterEach(async () => {
  await turn(5)
  process.off('unhandledRejection', onUnhandled)
  expect(unhandled).toEqual([])
})

/** A stream whose first `bad` packets are refused. */
async function failing(bad: number, options: Partial<StreamOptions> = {}): Promise<Stream> {
  return memoryStream({ descriptors: 'none', ...options }, { shut: false, refuse: (row) => row < bad })
}

/** The error that a call throws or rejects with, or its result. */
async function outcomeOf(call: () => unknown): Promise<unknown> {
  try {
    return await call()
  } catch (error) {
    return error
  }
}

describe('nobody looks: it surfaces', () => {
  /** The heaps that the call sends itself. */
  const SURFACES: readonly [string, (stream: Stream) => unknown, number][] = [
    ['send', (stream) => stream.send(filledBatch(stream, 10)), 2],
    ['sendHeap', (stream) => stream.sendHeap(numberHeap(10)), 1],
    ['sendHeaps', (stream) => stream.sendHeaps([{ heap: numberHeap(10) }], 'serial'), 1],
    ['sendStart', (stream) => stream.sendStart(), 1],
    ['sendEnd', (stream) => stream.sendEnd(), 1],
    ['flush', (stream) => stream.flush(), 0],
    ['close', (stream) => stream.close(), 0],
    ['close with a deadline', (stream) => stream.close({ deadlineSeconds: 10 }), 0],
    ['leaving the block', (stream) => stream[Symbol.asyncDispose](), 0],
  ]
  test.for(SURFACES)('at the next %s, once', async ([name, call, heaps]) => {
    const stream = await failing(1)
    const batch = filledBatch(stream, 0)
    stream.send(batch)
    await batch.free
    const error = await outcomeOf(() => call(stream))
    expect(error).toBeInstanceOf(SendError)
    expect((error as SendError).outcome).toMatchObject({ heaps: ['failed', 'sent'], failedHeaps: [0] })
    // The call that threw it did nothing else; the same call goes through now.
    expect(timestampsOf(stream.packets.map(parse))).toEqual([1])
    if (name.startsWith('close') || name.startsWith('leaving')) {
      expect(() => stream.sendEnd()).toThrow(expect.objectContaining({ code: 'ERR_SPEADCAST_CLOSED' }))
      return
    }
    expect(await outcomeOf(() => call(stream))).not.toBeInstanceOf(Error)
    await stream.flush()
    expect(stream.packets).toHaveLength(1 + heaps)
    expect(await stream.close()).toEqual({ droppedHeaps: 0 })
  })

  test('flush waits for what was sent before it, and then throws', async () => {
    const stream = await failing(1)
    stream.sendHeap(numberHeap(0))
    await expect(stream.flush()).rejects.toBeInstanceOf(SendError)
    await stream.flush()
  })

  test('of several failures the first surfaces; all are counted', async () => {
    const stream = await failing(3)
    for (let n = 0; n < 4; n++) stream.sendHeap(numberHeap(n))
    await turn()
    const error = (await outcomeOf(() => stream.flush())) as SendError
    expect(error.outcome.causes).toMatchObject([{ packets: 1, errnoName: 'ENETUNREACH' }])
    await stream.flush()
    expect(stream.stats()).toMatchObject({ heapsSent: 1, heapsFailed: 3 })
  })

  test('after a fatal failure nothing is sent, and close still closes', async () => {
    const stream = await memoryStream({
      descriptors: 'none',
      memory: { failAt: (row: number) => (row === 1 ? { errno: 5, how: 'fatal' } : undefined) },
    })
    const sends = [0, 2].map((first) => stream.send(filledBatch(stream, first)))
    await expect(sends[0]).rejects.toMatchObject({ outcome: { heaps: ['sent', 'failed'] } })
    await expect(sends[1]).rejects.toMatchObject({ outcome: { heaps: ['failed', 'failed'] } })
    stream.sendEnd()
    await expect(stream.close()).rejects.toBeInstanceOf(SendError)
    expect(stream.stats()).toMatchObject({ heapsSent: 1, heapsFailed: 4, inFlight: 0 })
  })
})

describe('somebody looks: it does not surface again', () => {
  const LOOKS: readonly [string, (send: SendPromise<BatchResult>) => unknown][] = [
    ['await', async (send) => await send],
    ['then with two callbacks', (send) => send.then(undefined, () => {})],
    ['catch', (send) => send.catch(() => {})],
    ['finally', (send) => send.finally(() => {}).catch(() => {})],
    ['Promise.all', (send) => Promise.all([send])],
    ['Promise.allSettled', (send) => Promise.allSettled([send])],
    ['Promise.race', (send) => Promise.race([send, new Promise(() => {})])],
    ['Promise.resolve', (send) => Promise.resolve(send)],
    ['being returned by an async function', async (send) => send],
  ]
  describe.for(['before it settles', 'afterwards'])('%s', (when) => {
    test.for(LOOKS)('by %s', async ([, look]) => {
      const stream = await failing(1)
      const send = stream.sendHeap(numberHeap(0))
      if (when === 'afterwards') await turn()
      // Some of them reject in turn, which is what looking means.
      await outcomeOf(() => look(send))
      await stream.flush()
      await stream.sendHeap(numberHeap(1))
      expect(await stream.close()).toEqual({ droppedHeaps: 0 })
    })
  })

  test('one that was looked at does not hide one that was not', async () => {
    const stream = await failing(2)
    const seen = stream.sendHeap(numberHeap(0))
    stream.sendHeap(numberHeap(1))
    await expect(seen).rejects.toBeInstanceOf(SendError)
    const surfaced = await outcomeOf(() => stream.flush())
    expect(surfaced).toBeInstanceOf(SendError)
    expect(surfaced).not.toBe(await outcomeOf(() => seen))
  })
})

describe('batch.free', () => {
  test('never rejects, and does not count as looking', async () => {
    const stream = await failing(2)
    const batch = filledBatch(stream, 0)
    stream.send(batch)
    expect(batch.state).toBe('in-flight')
    const { free } = batch
    expect(batch.free).toBe(free)
    expect(await free).toBeUndefined()
    expect(batch.state).toBe('free')
    await expect(stream.flush()).rejects.toMatchObject({ outcome: { heaps: ['failed', 'failed'] } })
  })

  test('resolves when the batch may be written and sent again', async () => {
    const stream = await failing(0)
    const batch = filledBatch(stream, 0)
    for (let first = 0; first < 20; first += 2) {
      await batch.free
      stream.send(fill(batch, first))
    }
    await stream.flush()
    expect(wholeHeaps(stream.packets.map(parse), 1)).toEqual(Array.from({ length: 20 }, (_, i) => i))
  })

  test('resolves when the stream is destroyed under it, and at once when nothing is under way', async () => {
    const gate: Gate = { shut: true }
    const stream = await memoryStream({}, gate)
    const batches = [0, 2].map((first) => filledBatch(stream, first))
    await batches[0]!.free
    for (const batch of batches) stream.send(batch)
    const free = Promise.all(batches.map((batch) => batch.free))
    await stream.destroy()
    await free
    await batches[0]!.free
    expect(batches.map(({ state }) => state)).toEqual(['closed', 'closed'])
  })

  test('lets timers run in a loop of sends that settle at once', async () => {
    const stream = await memoryStream({ descriptors: 'none', memory: { keepPackets: false } })
    const batch = filledBatch(stream, 0)
    let timerRan = false
    setTimeout(() => {
      timerRan = true
    }, 1)
    for (const end = performance.now() + 5000; !timerRan && performance.now() < end; ) {
      await batch.free
      stream.send(batch)
    }
    expect(timerRan).toBe(true)
  })
})

describe('one endpoint that cannot be sent to', () => {
  // Sending to a broadcast address needs permission that is not asked for (SO_BROADCAST, socket(7)): EACCES, and nothing goes out.
  test.for([
    ['udp', {}],
    ['udp', { thread: 'inline' }],
    ['dgram', {}],
  ] as const)('does not stop the other: %s %j', async ([backend, options], ctx) => {
    need(ctx, process.platform === 'linux', 'relies on Linux refusing 127.255.255.255')
    const to = ['127.0.0.1:7148', '127.255.255.255:7148']
    const stream = await openStream({ to, backend, descriptors: 'none', ...options })
    onTestFinished(() => stream.destroy())
    const batch = filledBatch(stream, 0, { heaps: 5 })
    stream.send(batch)
    await batch.free
    const error = (await outcomeOf(() => stream.send(batch))) as SendError
    expect(error.outcome).toMatchObject({
      heaps: ['sent', 'failed', 'sent', 'failed', 'sent'],
      failedHeaps: [1, 3],
      causes: [{ substream: 1, errnoName: 'EACCES', packets: 2, message: expect.stringMatching(/127\.255\.255\.255:7148/) }],
    })
    expect(error.message).toMatch(/2 of 5 heaps were not sent whole: 127\.255\.255\.255:7148/)
    expect(stream.stats()).toMatchObject({ heapsSent: 3, heapsFailed: 2, packetsFailed: 2 })
    await expect(stream.send(batch, { heaps: 1 })).resolves.toMatchObject({ heaps: 1 })
    await stream.close()
  })
})
