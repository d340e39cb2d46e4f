import { describe, expect, test } from 'vitest'
import { ERRNO } from '#dist/ffi/native-error.js'
import { NEXT_AT_DEADLINE, NEXT_IDLE, NEXT_STOPPED } from '#dist/src/engine/contract.js'
import type { OutcomeMessage } from '#dist/src/engine/outcome.js'
import * as R from '#dist/src/engine/ring.js'
import { COUNTER } from '#dist/src/stats.js'
import { cntOf, rawHeap, rig, settlementOf, submitSequence } from '../support/engine-rig.js'

const EPERM = ERRNO.EPERM
const ENOBUFS = ERRNO.ENOBUFS

test('heap cnts are 1, 2, 3 … across submissions, in every packet of a heap', () => {
  const r = rig()
  const a = r.add(1, [{ heap: rawHeap(3000) }, { heap: rawHeap(3000) }])
  const b = r.add(2, [{ heap: rawHeap(100) }])
  r.submit(1, a)
  r.submit(2, b)
  r.submit(1, a)
  expect(r.run()).toBe(NEXT_IDLE)
  const perHeap = a.compilation().rows / 2
  expect(perHeap).toBeGreaterThan(2)
  const cnts = (...values: number[]) => values.flatMap((cnt) => Array.from({ length: perHeap }, () => cnt))
  expect(r.backend.packets.map(cntOf)).toEqual([...cnts(1, 2), 3, ...cnts(4, 5)])
  expect(r.settled).toEqual([1, 2, 3])
})

test('an explicit cnt is sent as it is and does not advance the sequence', () => {
  const r = rig()
  const prepared = r.add(1, [
    { heap: rawHeap(8) },
    { heap: rawHeap(8), cnt: 2 ** 48 - 1 },
    { heap: rawHeap(8), cnt: 0 },
    { heap: rawHeap(8) },
  ])
  r.submit(1, prepared)
  r.run()
  expect(r.backend.packets.map(cntOf)).toEqual([1, 2 ** 48 - 1, 0, 2])
})

test('the sequence wraps at the width, with its step', () => {
  const r = rig()
  const prepared = r.add(1, [{ heap: rawHeap(8) }, { heap: rawHeap(8) }, { heap: rawHeap(8) }])
  submitSequence(r.ring, 0xffff, 0xfffffffe | 0, 0, 3)
  expect(r.run()).toBe(NEXT_IDLE)
  r.submit(1, prepared)
  r.run()
  expect(r.backend.packets.map(cntOf)).toEqual([2 ** 48 - 2, 1, 4])
})

test('round-robin sends one packet of each heap in turn, skipping finished ones', () => {
  const r = rig()
  const prepared = r.add(1, [{ heap: rawHeap(1000, 1) }, { heap: rawHeap(4000, 2) }, { heap: rawHeap(2500, 3) }], 'round-robin')
  r.submit(1, prepared)
  r.run()
  expect(r.backend.packets.map(({ bytes }) => bytes.at(-1))).toEqual([1, 2, 3, 2, 3, 2])
})

test('a backend that takes one row at a time gets every row once, in order', () => {
  const r = rig({ acceptPerPost: 1, pauseNanoseconds: 500 })
  const prepared = r.add(1, [{ heap: rawHeap(9000, 1) }, { heap: rawHeap(9000, 2) }])
  r.submit(1, prepared)
  r.run()
  const n = prepared.compilation().rows / 2
  expect(n).toBeGreaterThan(6)
  expect(r.backend.packets.map(cntOf)).toEqual([...Array.from({ length: n }, () => 1), ...Array.from({ length: n }, () => 2)])
})

describe('failures', () => {
  // 3 heaps × 5 packets, packet k fails: the outcome must name exactly what the capture lacks.
  for (const how of ['skip', 'late'] as const)
    for (let k = 0; k < 15; k++)
      test(`3 heaps × 5 packets, packet ${k} fails (${how})`, () => {
        const r = rig({ failAt: (row) => (row === k ? { errno: EPERM, how } : undefined) })
        const prepared = r.add(
          1,
          [0, 1, 2].map((j) => ({ heap: rawHeap(6500, j), substream: j })),
        )
        const count = r.submit(1, prepared)
        r.run()
        expect(r.backend.packets).toHaveLength(14)
        const captured = [0, 1, 2].map((j) => r.backend.packets.filter(({ substream }) => substream === j).length)
        const [outcome] = r.messages.filter((message): message is OutcomeMessage => message.type === 'outcome')
        expect(outcome!.heaps).toEqual(captured.map((n) => (n === 5 ? 'sent' : 'partial')))
        expect(outcome!.causes).toMatchObject([{ substream: Math.floor(k / 5), errno: EPERM, errnoName: 'EPERM', packets: 1 }])
        expect(outcome!.submission).toBe(count)
        expect(settlementOf(r.ring, count).outcome).toBe(R.OUTCOME_FAILED)
        expect(r.ring.counters[COUNTER.packets]).toBe(14)
        expect(r.ring.counters[COUNTER.heapsFailed]).toBe(1)
        expect(r.ring.counters[COUNTER.heapsSent]).toBe(2)
      })

  test('a dead substream fails its own heaps only, and its packets are `failed`, not `partial`', () => {
    const r = rig({ failAt: (_row, substream) => (substream === 1 ? EPERM : undefined) })
    const prepared = r.add(
      1,
      [0, 1, 2, 1].map((substream) => ({ heap: rawHeap(3000), substream })),
    )
    r.submit(1, prepared)
    r.run()
    const [outcome] = r.messages.filter((message): message is OutcomeMessage => message.type === 'outcome')
    expect(outcome!.heaps).toEqual(['sent', 'failed', 'sent', 'failed'])
    expect(outcome!.causes).toHaveLength(1)
  })

  test('ENOBUFS backs off, ever longer, and posts again: everything arrives once', () => {
    const asked = new Map<number, number>()
    const r = rig({
      pauseNanoseconds: 50_000,
      failAt: (row) => {
        const n = (asked.get(row) ?? 0) + 1
        asked.set(row, n)
        return row === 3 && n <= 4 ? { errno: ENOBUFS, how: 'again' } : undefined
      },
    })
    const prepared = r.add(1, [{ heap: rawHeap(6500) }])
    const start = r.clock
    r.submit(1, prepared)
    r.run()
    expect(r.backend.packets).toHaveLength(5)
    expect(r.clock - start).toBe(50_000 + 100_000 + 200_000 + 400_000)
    expect(r.ring.counters[COUNTER.heapsSent]).toBe(1)
  })

  test('a fatal error fails the rest of the batch and everything after it', () => {
    const r = rig({ failAt: (row) => (row === 2 ? { errno: ERRNO.EBADF, how: 'fatal' } : undefined) })
    const prepared = r.add(1, [{ heap: rawHeap(2600) }, { heap: rawHeap(2600) }])
    r.submit(1, prepared)
    r.submit(1, prepared)
    expect(r.run()).toBe(NEXT_IDLE)
    const outcomes = r.messages.filter((message): message is OutcomeMessage => message.type === 'outcome')
    expect(outcomes.map(({ heaps }) => heaps)).toEqual([
      ['sent', 'failed'],
      ['failed', 'failed'],
    ])
    expect(r.backend.packets).toHaveLength(2)
  })
})

test('asynchronous completions settle in submission order, failures with the right batch', () => {
  const r = rig({ completeAfterReaps: 5, failAt: (row) => (row === 7 ? { errno: EPERM, how: 'late' } : undefined) })
  const prepared = r.add(1, [{ heap: rawHeap(2600) }, { heap: rawHeap(2600) }])
  const counts = [r.submit(1, prepared), r.submit(1, prepared), r.submit(1, prepared)]
  r.run()
  expect(r.settled).toEqual([1, 2, 3])
  const outcomes = counts.map((count) => settlementOf(r.ring, count).outcome)
  expect(outcomes).toEqual([R.OUTCOME_SENT, R.OUTCOME_FAILED, R.OUTCOME_SENT])
  expect(r.messages.find((message) => message.type === 'outcome')).toMatchObject({
    submission: counts[1],
    heaps: ['sent', 'partial'],
  })
})

test('an aborted submission leaves no hole in the cnt sequence', () => {
  const r = rig()
  const prepared = r.add(1, [{ heap: rawHeap(8) }])
  r.submit(1, prepared)
  const aborted = r.submit(1, prepared)
  r.submit(1, prepared)
  expect(r.ring.withdraw(aborted)).toBe(true)
  r.run()
  expect(r.backend.packets.map(cntOf)).toEqual([1, 2])
  expect(settlementOf(r.ring, aborted).outcome).toBe(R.OUTCOME_ABORTED)
  expect(r.settled).toEqual([1, 2, 3])
})

test('stopping by abort flushes what is left: nothing unsent is reported as sent', () => {
  const r = rig({ acceptPerPost: 2, pauseNanoseconds: 1e6 })
  const prepared = r.add(1, [{ heap: rawHeap(2600) }, { heap: rawHeap(2600) }])
  r.submit(1, prepared)
  const waiting = r.submit(1, prepared)
  expect(r.engine.step(r.clock)).toBe(NEXT_AT_DEADLINE)
  const sent = r.backend.packets.length
  r.ring.stop(R.STOP_ABORT)
  expect(r.run()).toBe(NEXT_STOPPED)
  expect(r.backend.packets).toHaveLength(sent)
  expect(r.messages.find((message) => message.type === 'outcome')).toMatchObject({
    heaps: ['sent', 'flushed'],
  })
  expect(settlementOf(r.ring, waiting).outcome).toBe(R.OUTCOME_ABORTED)
  expect(r.ring.settled).toBe(2)
})

test('stopping by abort calls posted rows whose completion is not known `unknown`', () => {
  const r = rig({ completeAfterReaps: 1000 })
  const prepared = r.add(1, [{ heap: rawHeap(100) }, { heap: rawHeap(100) }])
  r.submit(1, prepared)
  r.engine.step(r.clock)
  r.ring.stop(R.STOP_ABORT)
  r.run()
  expect(r.messages.find((message) => message.type === 'outcome')).toMatchObject({ heaps: ['unknown', 'unknown'] })
})

test('stopping by drain sends everything first', () => {
  const r = rig()
  const prepared = r.add(1, [{ heap: rawHeap(100) }])
  for (let i = 0; i < 20; i++) r.submit(1, prepared)
  r.ring.stop(R.STOP_DRAIN)
  expect(r.run()).toBe(NEXT_STOPPED)
  expect(r.backend.packets).toHaveLength(20)
})

describe('pacing under a virtual clock', () => {
  test('the rate is kept to the byte', () => {
    const r = rig({}, { rateBytesPerSecond: 1e9, burstBytes: 10_000 })
    const prepared = r.add(
      1,
      Array.from({ length: 50 }, () => ({ heap: rawHeap(8000) })),
    )
    const start = r.clock
    for (let i = 0; i < 20; i++) r.submit(1, prepared)
    r.run()
    const bytes = r.ring.counters[COUNTER.udpBytes]!
    // The last burst starts when all before it are paid for.
    expect(r.clock - start).toBeLessThanOrEqual(bytes)
    expect(r.clock - start).toBeGreaterThan(bytes - 3 * 12_000)
  })

  test('per-heap rates: 0 is free, a slower heap takes its own time', () => {
    const r = rig({}, { rateBytesPerSecond: 1e9, burstBytes: 1 })
    const free = r.add(
      1,
      Array.from({ length: 50 }, () => ({ heap: rawHeap(1000), rateBytesPerSecond: 0 })),
    )
    const slow = r.add(
      2,
      Array.from({ length: 50 }, () => ({ heap: rawHeap(1000), rateBytesPerSecond: 1e8 })),
    )
    const start = r.clock
    r.submit(1, free)
    r.run()
    expect(r.clock).toBe(start)
    r.submit(2, slow)
    r.run()
    const packetNanoseconds = (1000 + 48) * 10
    expect(r.clock - start).toBeGreaterThan(48 * packetNanoseconds)
    expect(r.clock - start).toBeLessThanOrEqual(50 * packetNanoseconds)
  })
})

test('a dropped variant is released only when nothing of it is in flight', () => {
  const r = rig({ completeAfterReaps: 3 })
  const prepared = r.add(1, [{ heap: rawHeap(100) }])
  let released = 0
  r.backend.release = () => {
    released++
  }
  r.submit(1, prepared)
  r.engine.step(r.clock)
  r.engine.dropVariant(1)
  expect(released).toBe(0)
  r.run()
  expect(released).toBe(1)
})
