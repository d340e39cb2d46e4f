// The accounts of an engine under a clock of the test's own: what each fate of a heap adds to, late evidence, interludes, aborts, distributions,
// and counts that wrap around.
import { describe, expect, test } from 'vitest'
import { ERRNO } from '#dist/ffi/native-error.js'
import type { MemoryOptions } from '#dist/src/backend/memory.js'
import { NEXT_IDLE, NEXT_STOPPED } from '#dist/src/engine/contract.js'
import { ORIGIN_NANOSECONDS } from '#dist/src/engine/origin.js'
import * as R from '#dist/src/engine/ring.js'
import { readCounters, sumOf } from '#dist/src/stats.js'
import { type Rig, rawHeap, settlementOf, steppedRig } from '../support/engine-rig.js'
import { driverRig, KINDS, settledOf } from './driver-support.js'

const EPERM = ERRNO.EPERM
const NAMES = ['a', 'b', 'c', 'd']
/** Causes that have a count of their own, those that share one among them. */
const CAUSES = 32

/** The substreams' accounts, which must be the stream's in sum. */
function accountsOf({ ring }: Pick<Rig, 'ring'>) {
  const each = ring.accounts.read(NAMES)
  const counters = readCounters(ring.counters)
  const total = (name: 'packets' | 'udpBytes') => each.reduce((sum, one) => sum + one[name], 0)
  expect(counters).toMatchObject({ ...sumOf(each), packets: total('packets'), udpBytes: total('udpBytes') })
  const blamed = each.flatMap(({ failedByCause }) => Object.values(failedByCause)).reduce((sum, n) => sum + n, 0)
  expect(blamed).toBe(counters.packetsFailed)
  return { each, counters }
}

/** Three heaps of five packets each, to substreams 0, 1 and 1. */
function threeHeaps(memory: Partial<MemoryOptions> = {}, first = 0) {
  const r = steppedRig(memory, {}, first)
  const prepared = r.add(1, [0, 1, 1].map((substream) => ({ heap: rawHeap(6500), substream }))) // biome-ignore format: one line
  return { r, prepared }
}

test('a heap that is sent, one that is cut and one that is refused, of two substreams', () => {
  const { r, prepared } = threeHeaps({ failAt: (row) => (row === 7 || row >= 10 ? EPERM : undefined) })
  r.submit(1, prepared)
  expect(r.run()).toBe(NEXT_IDLE)
  const { each } = accountsOf(r)
  const bytesTo = (substream: number) =>
    r.backend.packets.filter((packet) => packet.substream === substream).reduce((sum, { bytes }) => sum + bytes.length, 0)
  expect(each).toMatchObject([
    { endpoint: 'a', heapsSent: 1, heapsFailed: 0, packets: 5, packetsFailed: 0, udpBytes: bytesTo(0), failedByCause: {} },
    {
      endpoint: 'b',
      heapsSent: 0,
      heapsFailed: 2,
      packets: 4,
      packetsFailed: 6,
      udpBytes: bytesTo(1),
      failedByCause: { EPERM: 6 },
    },
    { heapsSent: 0, packets: 0 },
    { heapsSent: 0, packets: 0 },
  ])
})

test('a send without a failure counts the same whether it is the first of its length or not', () => {
  const { r, prepared } = threeHeaps()
  for (const heaps of [3, 3, 1, 2, 2, 3]) {
    const rows = 5 * heaps
    r.ring.push({ variant: 1, heaps, rows, explicitCnts: false, sequence: undefined }, R.STATE_FINAL)
  }
  expect(r.run()).toBe(NEXT_IDLE)
  expect(prepared.heaps).toBe(3)
  const { each } = accountsOf(r)
  expect(each.map(({ heapsSent, packets }) => [heapsSent, packets])).toEqual([[6, 30], [8, 40], [0, 0], [0, 0]]) // biome-ignore format: pairs
})

test('heaps that were sent in doubt are suspect, those that failed are not', () => {
  const { r, prepared } = threeHeaps({
    completeAfterReaps: 10,
    failAt: (row) => (row === 22 ? { errno: EPERM, how: 'late' } : undefined),
  })
  r.submit(1, prepared)
  r.submit(1, prepared)
  r.engine.step(r.clock)
  r.engine.step(r.clock)
  r.backend.suspect()
  expect(r.run()).toBe(NEXT_IDLE)
  // What is claimed after the doubt is not suspect.
  r.submit(1, prepared)
  expect(r.run()).toBe(NEXT_IDLE)
  const suspects = [0, 1].map((count) => settlementOf(r.ring, count).suspect)
  expect(suspects).toEqual([true, true])
  const { each, counters } = accountsOf(r)
  expect(counters).toMatchObject({ heapsSent: 8, heapsFailed: 1, heapsSuspect: 5 })
  expect(each.map(({ heapsSuspect }) => heapsSuspect)).toEqual([2, 3, 0, 0])
})

describe('an abort', () => {
  test('counts packets that were never heard of as failed, those that failed before once', () => {
    const { r, prepared } = threeHeaps({
      completeAfterReaps: 1000,
      acceptPerPost: 12,
      failAt: (row) => (row === 3 ? EPERM : undefined),
    })
    r.submit(1, prepared)
    r.engine.step(r.clock)
    r.engine.step(r.clock)
    r.ring.stop(R.STOP_ABORT)
    expect(r.run()).toBe(NEXT_STOPPED)
    const { each, counters } = accountsOf(r)
    expect(counters).toMatchObject({ packets: 0, udpBytes: 0, packetsFailed: 15, heapsSent: 0, heapsFailed: 3 })
    expect(each.slice(0, 2)).toMatchObject([
      { packetsFailed: 5, failedByCause: { EPERM: 1, UNKNOWN: 4 } },
      { packetsFailed: 10, failedByCause: { UNKNOWN: 10 } },
    ])
  })

  test('counts heaps that were never tried as flushed', () => {
    const { r, prepared } = threeHeaps({ acceptPerPost: 6 })
    r.submit(1, prepared)
    r.engine.step(r.clock)
    r.ring.stop(R.STOP_ABORT)
    expect(r.run()).toBe(NEXT_STOPPED)
    const { each, counters } = accountsOf(r)
    expect(counters).toMatchObject({ packets: 6, packetsFailed: 9, heapsSent: 1, heapsFailed: 2, heapsFlushed: 1 })
    expect(each[1]).toMatchObject({ heapsFailed: 2, heapsFlushed: 1, failedByCause: { FLUSHED: 9 } })
  })

  test.for([1, 1000])('counts an interlude that is under way, completed after %i reaps', (completeAfterReaps) => {
    const { r } = threeHeaps({ completeAfterReaps, acceptPerPost: 2 })
    r.engine.interlude(1, 3, 15, false)
    r.engine.step(r.clock)
    expect(r.backend.packets).toHaveLength(2)
    r.ring.stop(R.STOP_ABORT)
    expect(r.run()).toBe(NEXT_STOPPED)
    const { counters } = accountsOf(r)
    const sent = completeAfterReaps === 1 ? 2 : 0
    expect(counters).toMatchObject({
      batches: 1,
      packets: sent,
      packetsFailed: 15 - sent,
      heapsSent: 0,
      heapsFailed: 3,
      heapsFlushed: 2,
    })
  })
})

test('an interlude counts as a send does, whole or not', () => {
  const { r } = threeHeaps({ failAt: (row) => (row === 16 ? EPERM : undefined) })
  for (let i = 0; i < 2; i++) {
    r.engine.interlude(1, 3, 15, false)
    expect(r.run()).toBe(NEXT_IDLE)
  }
  const { counters } = accountsOf(r)
  expect(counters).toMatchObject({ batches: 2, heapsSent: 5, heapsFailed: 1, packets: 29, packetsFailed: 1 })
})

test('more causes than there is room for are others', () => {
  const errnos = Array.from({ length: 40 }, (_, i) => i + 1)
  const r = steppedRig({ failAt: (row) => errnos[row] })
  const prepared = r.add(1, errnos.map((_, i) => ({ heap: rawHeap(8), substream: i % 4 }))) // biome-ignore format: one line
  r.submit(1, prepared)
  expect(r.run()).toBe(NEXT_IDLE)
  const { each } = accountsOf(r)
  const causes = Object.assign({}, ...each.map(({ failedByCause }) => failedByCause))
  expect(Object.keys(causes)).toHaveLength(CAUSES)
  expect(causes).toMatchObject({ EPERM: 1, ENOENT: 1 })
  expect(each.reduce((sum, { failedByCause }) => sum + (failedByCause.OTHER ?? 0), 0)).toBe(9)
})

describe('distributions', () => {
  test('a latency is the time from the call until the send has settled, in the queue too', () => {
    const { r } = threeHeaps()
    const push = (ago: number) =>
      r.ring.push(
        {
          variant: 1,
          heaps: 3,
          rows: 15,
          explicitCnts: false,
          sequence: undefined,
          submittedAt: ORIGIN_NANOSECONDS + r.clock - ago,
        },
        R.STATE_FINAL,
      )
    push(200)
    push(100)
    // Of another thread's clock, which is ahead by a little.
    push(-50)
    expect(r.run()).toBe(NEXT_IDLE)
    const { batchLatencyNanoseconds } = r.ring.accounts.histograms()
    // A double of nanoseconds since the host's start is exact to some of them.
    expect(batchLatencyNanoseconds).toMatchObject({ count: 3, p50: 100, p99: 200 })
    expect(batchLatencyNanoseconds.mean).toBeCloseTo(100, 0)
  })

  test('posts count the packets that they sent, and those that sent none do not count', () => {
    const { r, prepared } = threeHeaps({ acceptPerPost: 4, failAt: (row) => (row === 8 ? EPERM : undefined) })
    r.submit(1, prepared)
    expect(r.run()).toBe(NEXT_IDLE)
    // 4, 4, then the refused one, 4 and 2.
    expect(r.ring.accounts.histograms().postPackets).toEqual({ count: 4, mean: 3.5, p50: 4, p99: 4, p999: 4, max: 4 })
  })

  test('lags are those of each paced post; without a rate there are none', () => {
    const paced = steppedRig({}, { rateBytesPerSecond: 1e6, burstBytes: 1000, catchUpSeconds: 1 })
    const prepared = paced.add(1, [{ heap: rawHeap(1000) }])
    const send = () => {
      paced.submit(1, prepared)
      expect(paced.run()).toBe(NEXT_IDLE)
    }
    send()
    paced.clock += 20e6
    send()
    const { pacingLagNanoseconds } = paced.ring.accounts.histograms()
    const { greatestLagNanoseconds } = readCounters(paced.ring.counters)
    expect(greatestLagNanoseconds).toBeGreaterThan(10e6)
    expect(pacingLagNanoseconds).toMatchObject({ count: 2, max: greatestLagNanoseconds })
    const { r, prepared: other } = threeHeaps()
    r.submit(1, other)
    r.run()
    expect(r.ring.accounts.histograms().pacingLagNanoseconds.count).toBe(0)
  })
})

describe('counts that wrap around', () => {
  /** 2^32 − 5 and 2^31 − 5, as the ring has them: in 32 signed bits. */
  const STARTS = [-5, 2 ** 31 - 5]

  test.for(STARTS)('an engine whose ring begins at %i settles in order, and counts on', (first) => {
    const { r, prepared } = threeHeaps({ completeAfterReaps: 3, failAt: (row) => (row % 15 === 3 ? EPERM : undefined) }, first)
    const counts = Array.from({ length: 20 }, () => r.submit(1, prepared))
    expect(counts).toEqual(counts.map((_, i) => (first + i) | 0))
    expect(r.run()).toBe(NEXT_IDLE)
    expect(r.ring.settled).toBe((first + 20) | 0)
    const told = r.messages.flatMap((message) => (message.type === 'outcome' ? [message.submission] : []))
    expect(told).toEqual(counts)
    expect(counts.map((count) => settlementOf(r.ring, count).outcome)).toEqual(Array(20).fill(R.OUTCOME_FAILED))
    const { counters } = accountsOf(r)
    expect(counters).toMatchObject({ batches: 20, heapsSent: 40, heapsFailed: 20, packets: 280, packetsFailed: 20 })
  })

  test.for(STARTS.flatMap((first) => KINDS.map((kind) => [kind, first] as const)))(
    '%s: submissions from count %i on settle each with its own fate, past full rings',
    async ([kind, first]) => {
      const rig = await driverRig(kind, { first, memory: { failAt: (row) => (row % 100 === 50 ? EPERM : undefined) } })
      const variant = rig.add([{ heap: rawHeap(8), substream: 2 }])
      const sends = Array.from({ length: 2500 }, () => rig.send(variant))
      const fates = (await settledOf(sends)).map(({ status }) => status)
      const failed = kind === 'inline' ? 25 : 0
      expect(fates.filter((fate) => fate === 'rejected')).toHaveLength(failed)
      if (failed > 0) expect(fates.indexOf('rejected')).toBe(50)
      expect(rig.ring.settled).toBe((first + 2500) | 0)
      const { each } = accountsOf(rig)
      expect(each[2]).toMatchObject({ heapsSent: 2500 - failed, heapsFailed: failed })
      expect(rig.ring.accounts.histograms().batchLatencyNanoseconds.count).toBe(2500)
      expect(rig.submissions.inFlight).toBe(0)
      await rig.stop(R.STOP_DRAIN)
      expect(rig.packets()).toHaveLength(2500 - failed)
    },
  )

  test('counters go on to 2^53', () => {
    const { r, prepared } = threeHeaps()
    r.ring.counters.fill(2 ** 53 - 100)
    r.submit(1, prepared)
    expect(r.run()).toBe(NEXT_IDLE)
    expect(readCounters(r.ring.counters)).toMatchObject({ heapsSent: 2 ** 53 - 97, packets: 2 ** 53 - 85, batches: 2 ** 53 - 99 })
  })
})
