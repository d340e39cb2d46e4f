/** What streams tell on the channels of node:diagnostics_channel. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { ItemGroup, openStream, SendError, type StreamMessages, type StreamOptions } from 'speadcast'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runProgram } from '../support/program.js'

const MEMORY: StreamOptions = { to: '10.0.0.5:7148', backend: 'memory', descriptors: 'none' }
const items = new ItemGroup().add({ name: 'samples', dtype: 'i1', shape: [1024] })

/** The messages on a channel from now on. */
function heard<N extends keyof StreamMessages>(name: N): StreamMessages[N][] {
  const messages: StreamMessages[N][] = []
  const listener = (message: unknown): number => messages.push(message as StreamMessages[N])
  subscribe(name, listener)
  onTestFinished(() => void unsubscribe(name, listener))
  return messages
}

/** Messages come when the publisher is in the middle of nothing. */
const turn = () => new Promise(setImmediate)

describe('a stream', () => {
  test('tells that it is open and closed', async () => {
    const opened = heard('speadcast:stream:open')
    const closed = heard('speadcast:stream:close')
    const stream = await openStream(MEMORY)
    await turn()
    expect(opened).toEqual([{ stream: expect.anything() }])
    expect(opened[0]!.stream).toBe(stream)
    expect(closed).toEqual([])
    await stream.close()
    await turn()
    expect(closed).toEqual([{ stream: expect.anything(), droppedHeaps: 0 }])
    expect(closed[0]!.stream).toBe(stream)
  })

  test('that cannot be opened tells neither', async () => {
    const messages = [heard('speadcast:stream:open'), heard('speadcast:stream:close')]
    await expect(openStream({ to: '10.0.0.5:7148', backend: 'pcap', pcapPath: '/no/such/file' })).rejects.toThrow('cannot create')
    await turn()
    expect(messages).toEqual([[], []])
  })

  test('that is destroyed tells how much it dropped', async () => {
    const closed = heard('speadcast:stream:close')
    const failed = heard('speadcast:send:error')
    const stream = await openStream({ ...MEMORY, rate: 1000, burstBytes: 2000 })
    const batches = Array.from({ length: 3 }, () => stream.createBatch({ items, heaps: 8 }))
    for (const batch of batches) void stream.send(batch)
    await turn()
    await stream.destroy()
    await turn()
    expect(failed.map(({ heaps }) => heaps)).toEqual([8, 8, 8])
    expect(closed).toHaveLength(1)
    expect(closed[0]!.droppedHeaps).toBe(24 - stream.stats().heapsSent)
  })
})

describe('a send', () => {
  test('tells its result, whichever it is', async () => {
    const results = heard('speadcast:send:result')
    await using stream = await openStream(MEMORY)
    const sent = [await stream.send(stream.createBatch({ items, heaps: 3 })), await stream.sendEnd()]
    await turn()
    expect(results.map(({ result }) => result)).toEqual(sent)
    expect(results.every((message) => message.stream === stream)).toBe(true)
  })

  test('that failed tells the error that its promise rejects with', async () => {
    const failed = heard('speadcast:send:error')
    const results = heard('speadcast:send:result')
    const memory = { failAt: (packet: number) => (packet === 1 ? 1 : undefined) }
    await using stream = await openStream({ ...MEMORY, memory })
    const error = await stream.send(stream.createBatch({ items, heaps: 3 })).catch((reason: unknown) => reason)
    await turn()
    expect(error).toBeInstanceOf(SendError)
    expect(failed).toHaveLength(1)
    expect(failed[0]).toMatchObject({ heaps: 3, error })
    expect(results).toEqual([])
  })

  test('that was withdrawn tells the reason', async () => {
    const failed = heard('speadcast:send:error')
    await using stream = await openStream({ ...MEMORY, rate: 1e5 })
    const abort = new AbortController()
    void stream.send(stream.createBatch({ items, heaps: 8 }))
    const promise = stream.send(stream.createBatch({ items, heaps: 8 }), { signal: abort.signal })
    abort.abort('changed my mind')
    await expect(promise).rejects.toBe('changed my mind')
    await turn()
    expect(failed).toEqual([{ stream: expect.anything(), heaps: 8, error: 'changed my mind' }])
    await stream.destroy()
  })

  test('is told of, and a change of the heap cnts is none', async () => {
    const results = heard('speadcast:send:result')
    await using stream = await openStream({ ...MEMORY, firstCnt: 5 })
    stream.setCntSequence(9, 1)
    await stream.send(stream.createBatch({ items, heaps: 1 }))
    await turn()
    expect(results.map(({ result }) => result.firstCnt)).toEqual([9])
  })

  test('may be followed by another from the subscriber', async () => {
    const seen: number[] = []
    await using stream = await openStream(MEMORY)
    const batch = stream.createBatch({ items, heaps: 2 })
    const done = new Promise<void>((resolve) => {
      const again = (message: unknown): void => {
        const { result } = message as StreamMessages['speadcast:send:result']
        seen.push(result.firstCnt)
        if (seen.length === 5) resolve()
        else void stream.send(batch)
      }
      subscribe('speadcast:send:result', again)
      onTestFinished(() => void unsubscribe('speadcast:send:result', again))
    })
    void stream.send(batch)
    await done
    expect(seen).toEqual([1, 3, 5, 7, 9])
  })
})

test('a subscriber that throws is an uncaught exception, and everything is sent all the same', async () => {
  const { stdout, stderr, code } = await runProgram('stream/throwing-subscriber')
  expect(stderr).toBe('')
  expect(JSON.parse(stdout)).toEqual({ caught: 22, settled: 20, packets: 20, droppedHeaps: 0 })
  expect(code).toBe(0)
})
