/** Substreams whose refused packets are posted again, or left out, as policies say: on the memory backend, under a clock of the test's own. */
import { describe, expect, test } from 'vitest'
import { ERRNO } from '#dist/ffi/native-error.js'
import type { Fault } from '#dist/src/backend/memory.js'
import { type ErrorPolicy, NEXT_IDLE, NEXT_STOPPED } from '#dist/src/engine/contract.js'
import type { OutcomeMessage } from '#dist/src/engine/outcome.js'
import * as R from '#dist/src/engine/ring.js'
import { COUNTER } from '#dist/src/stats.js'
import { cntOf, type Rig, rawHeap, settlementOf, steppedRig } from '../support/engine-rig.js'

const { EPERM, EHOSTUNREACH, ENOBUFS, EFAULT } = ERRNO
const MS = 1e6

const FAIL: ErrorPolicy = { skips: false, retry: undefined }
const SKIP: ErrorPolicy = { skips: true, retry: undefined }
const retry = (forSeconds = 1, skips = false, duplicates = false): ErrorPolicy => ({
  skips,
  retry: { firstNanoseconds: MS, mostNanoseconds: 20 * MS, forNanoseconds: forSeconds * 1e9, duplicates },
})
const all = (policy: ErrorPolicy): readonly ErrorPolicy[] => [policy, policy, policy, policy]

/** Heaps of a packet each, one to each of these substreams. */
const heapsTo = (...substreams: number[]) => substreams.map((substream) => ({ heap: rawHeap(1000, substream), substream }))
/** Submits the same heaps several times, from memory of their own as sends under way have it. */
function submitAll(r: Rig, heaps: Parameters<Rig['add']>[1], times: number): number[] {
  return Array.from({ length: times }, () => {
    const id = ids++
    return r.submit(id, r.add(id, heaps))
  })
}
let ids = 100
const cntsTo = (r: Rig, substream: number) => r.backend.packets.filter((packet) => packet.substream === substream).map(cntOf)
const outcomes = (r: Rig) => r.messages.filter((message): message is OutcomeMessage => message.type === 'outcome')
const counters = (r: Rig) => {
  const { counters: all } = r.ring
  const of = (name: keyof typeof COUNTER) => all[COUNTER[name]!]
  return {
    sent: of('heapsSent'),
    failed: of('heapsFailed'),
    skipped: of('heapsSkipped'),
    retried: of('heapsRetried'),
    packets: of('packets'),
    packetsFailed: of('packetsFailed'),
    packetsRetried: of('packetsRetried'),
  }
}

describe.each(['skip', 'late'] as const)('a packet that fails by %s', (how) => {
  test('is posted again until it goes: nothing is lost, nothing twice, and the others are not held up', () => {
    let open = false
    const fault = (_row: number, substream: number): Fault | undefined =>
      substream === 1 && !open ? { errno: EPERM, how } : undefined
    const r = steppedRig({ failAt: fault }, { onError: all(retry()) })
    submitAll(r, heapsTo(0, 1, 2, 1), 20)
    const start = r.clock
    while (r.clock < start + 100 * MS) {
      r.engine.step(r.clock)
      r.clock += 1000
    }
    // More than may be in flight otherwise.
    expect([cntsTo(r, 0).length, cntsTo(r, 1).length, cntsTo(r, 2).length]).toEqual([20, 0, 20])
    expect(r.settled).toEqual([])
    open = true
    expect(r.run()).toBe(NEXT_IDLE)
    const every = (first: number) => Array.from({ length: 20 }, (_, i) => 4 * i + first)
    expect(cntsTo(r, 0)).toEqual(every(1))
    expect(cntsTo(r, 2)).toEqual(every(3))
    expect(cntsTo(r, 1)).toEqual(every(2).flatMap((cnt) => [cnt, cnt + 2]))
    expect(outcomes(r)).toEqual([])
    expect(r.settled.at(-1)).toBe(20)
    expect(counters(r)).toMatchObject({ sent: 80, failed: 0, skipped: 0, packets: 80, packetsFailed: 0 })
    expect(counters(r).retried).toBeGreaterThan(0)
    if (how === 'skip') expect(counters(r).packetsRetried).toBe(counters(r).retried)
  })

  test('fails when its time is over, and so do those behind it; each later one is tried once, until one gets through', () => {
    let open = false
    let tries = 0
    const fault = (_row: number, substream: number): Fault | undefined => {
      if (substream === 1) tries++
      return substream === 1 && !open ? { errno: EHOSTUNREACH, how } : undefined
    }
    const r = steppedRig({ failAt: fault }, { onError: all(retry(0.2)) })
    const batch = r.add(1, heapsTo(0, 1))
    submitAll(r, heapsTo(0, 1), 3)
    const start = r.clock
    r.run()
    expect(r.clock - start).toBeGreaterThanOrEqual(200 * MS)
    expect(r.clock - start).toBeLessThan(230 * MS)
    // 1, 2, 4, 8, 16 ms, and then every 20.
    expect(tries).toBeGreaterThan(10)
    expect(tries).toBeLessThan(20)
    expect(outcomes(r).map(({ heaps, causes }) => [...heaps, causes[0]!.errnoName])).toEqual(
      Array(3).fill(['sent', 'failed', 'EHOSTUNREACH']),
    )
    const before = tries
    r.submit(1, batch)
    const later = r.clock
    r.run()
    expect(tries).toBe(before + 1)
    expect(r.clock - later).toBeLessThan(MS)
    open = true
    r.submit(1, batch)
    r.run()
    open = false
    r.submit(1, batch)
    r.run()
    expect(tries).toBeGreaterThan(before + 10)
    expect(counters(r)).toMatchObject({ sent: 7, failed: 5, packets: 7, packetsFailed: 5 })
  })

  test("of a substream that says 'skip' fails no send", () => {
    const r = steppedRig(
      { failAt: (_row, substream) => (substream > 1 ? { errno: EPERM, how } : undefined) },
      { onError: [FAIL, FAIL, SKIP, retry(0.01, true)] },
    )
    r.submit(1, r.add(1, heapsTo(0, 1, 2, 3)))
    r.run()
    const [outcome] = outcomes(r)
    expect(outcome).toMatchObject({ heaps: ['sent', 'sent', 'skipped', 'skipped'], packetsUnsent: 2 })
    expect(outcome!.causes).toMatchObject([{ substream: 2, errnoName: 'EPERM' }, { substream: 3 }])
    expect(counters(r)).toMatchObject({ sent: 2, failed: 0, skipped: 2, packets: 2, packetsFailed: 2 })
  })

  test('of one substream that fails and one that skips: the send fails, and says which is which', () => {
    const r = steppedRig({ failAt: () => ({ errno: EPERM, how }) }, { onError: [SKIP, FAIL, SKIP, FAIL] })
    r.submit(1, r.add(1, heapsTo(0, 1)))
    r.run()
    expect(outcomes(r)[0]).toMatchObject({ heaps: ['skipped', 'failed'] })
    expect(counters(r)).toMatchObject({ sent: 0, failed: 1, skipped: 1 })
  })

  test.each([...Array(15).keys()])('once, packet %i of 3 heaps × 5: the heaps are sent, each packet once', (k) => {
    const failed = new Set<number>()
    const r = steppedRig(
      {
        completeAfterReaps: 3,
        failAt: (row) => {
          if (row !== k || failed.has(row)) return undefined
          failed.add(row)
          return { errno: EPERM, how }
        },
      },
      { onError: all(retry()) },
    )
    const heaps = [0, 1, 2].map((substream) => ({ heap: rawHeap(6500, substream), substream }))
    submitAll(r, heaps, 2)
    r.run()
    expect(outcomes(r)).toEqual([])
    expect(counters(r)).toEqual({
      sent: 6,
      failed: 0,
      skipped: 0,
      retried: 1,
      packets: 30,
      packetsFailed: 0,
      packetsRetried: 1,
    })
    const distinct = new Set(r.backend.packets.map(({ bytes }) => Buffer.from(bytes).toString('hex')))
    expect([r.backend.packets.length, distinct.size]).toEqual([30, 30])
    // As they are refused before anything behind them goes, packets to one endpoint stay in order.
    if (how === 'skip')
      for (const substream of [0, 1, 2]) expect(cntsTo(r, substream)).toEqual(cntsTo(r, substream).toSorted((a, b) => a - b))
  })
})

test('some packets of a heap went, the others when they may: none goes twice', () => {
  let refuses = 0
  const r = steppedRig(
    { failAt: () => (r.backend.packets.length === 2 && refuses++ < 6 ? EPERM : undefined) },
    { onError: all(retry()) },
  )
  const batch = r.add(1, [{ heap: rawHeap(6500, 5) }])
  r.submit(1, batch)
  r.run()
  expect(r.backend.packets).toHaveLength(5)
  expect(counters(r)).toMatchObject({ sent: 1, packets: 5, packetsRetried: 1, retried: 1 })
})

test('no room for longer than the policy allows: the packets fail, and others as long as there is none', () => {
  let stuck = true
  const r = steppedRig(
    { pauseNanoseconds: 50_000, failAt: () => (stuck ? { errno: ENOBUFS, how: 'again' } : undefined) },
    { onError: all(retry(0.5)) },
  )
  const batch = r.add(1, heapsTo(0, 1, 2))
  r.submit(1, batch)
  const start = r.clock
  r.run()
  expect(r.clock - start).toBeGreaterThanOrEqual(500 * MS)
  expect(r.clock - start).toBeLessThan(600 * MS)
  expect(outcomes(r)[0]).toMatchObject({ heaps: ['failed', 'failed', 'failed'] })
  expect(outcomes(r)[0]!.causes.map(({ errnoName }) => errnoName)).toEqual(['ENOBUFS', 'ENOBUFS', 'ENOBUFS'])
  stuck = false
  r.submit(1, batch)
  r.run()
  expect(counters(r)).toMatchObject({ sent: 3, failed: 3 })
})

test('a backend that only waits for its time is not given up', () => {
  let asked = 0
  const r = steppedRig(
    { pauseNanoseconds: MS, failAt: () => (asked++ < 3000 ? { errno: 0, how: 'again' } : undefined) },
    { onError: all(retry(0.5)) },
  )
  r.submit(1, r.add(1, heapsTo(0)))
  r.run()
  expect(counters(r)).toMatchObject({ sent: 1, failed: 0 })
})

test('a packet whose memory is gone is not tried again', () => {
  let tries = 0
  const r = steppedRig({ failAt: () => (++tries > 0 ? EFAULT : undefined) }, { onError: all(retry()) })
  r.submit(1, r.add(1, heapsTo(0)))
  r.run()
  expect(tries).toBe(1)
  expect(counters(r)).toMatchObject({ failed: 1 })
})

test('a broken backend fails all that waits, whatever the policy', () => {
  let fatal = false
  const r = steppedRig(
    { failAt: (_row, substream) => (fatal ? { errno: ERRNO.EBADF, how: 'fatal' } : substream === 1 ? EPERM : undefined) },
    { onError: all(retry(10, true)) },
  )
  submitAll(r, heapsTo(0, 1), 1)
  for (let i = 0; i < 100; i++, r.clock += 1000) r.engine.step(r.clock)
  fatal = true
  submitAll(r, heapsTo(0, 1), 1)
  expect(r.run()).toBe(NEXT_IDLE)
  expect(outcomes(r).map(({ heaps }) => heaps)).toEqual([
    ['sent', 'failed'],
    ['failed', 'failed'],
  ])
})

test('at the end of the stream by force, packets that wait have failed or were never tried', () => {
  const r = steppedRig({ failAt: (_row, substream) => (substream === 1 ? EPERM : undefined) }, { onError: all(retry(10, true)) })
  const counts = submitAll(r, heapsTo(0, 1), 2)
  for (let i = 0; i < 100; i++, r.clock += 1000) r.engine.step(r.clock)
  r.ring.stop(R.STOP_ABORT)
  expect(r.run()).toBe(NEXT_STOPPED)
  expect(counts.map((count) => settlementOf(r.ring, count).outcome)).toEqual([R.OUTCOME_FAILED, R.OUTCOME_FAILED])
  expect(outcomes(r).map(({ heaps }) => heaps)).toEqual([
    ['sent', 'failed'],
    ['sent', 'flushed'],
  ])
})

test('a stream that is closed waits until its packets went, or their time is over', () => {
  let open = false
  const r = steppedRig({ failAt: (_row, substream) => (substream === 1 && !open ? EPERM : undefined) }, { onError: all(retry(10)) })
  const batch = r.add(1, heapsTo(0, 1))
  r.submit(1, batch)
  r.ring.stop(R.STOP_DRAIN)
  for (let i = 0; i < 100; i++, r.clock += 1000) expect(r.engine.step(r.clock)).not.toBe(NEXT_STOPPED)
  open = true
  expect(r.run()).toBe(NEXT_STOPPED)
  expect(counters(r)).toMatchObject({ sent: 2, failed: 0 })
})

test('packets that wait do not exceed the rate when they go', () => {
  let open = false
  const rateBytesPerSecond = 1e6
  const r = steppedRig(
    { failAt: (_row, substream) => (substream === 1 && !open ? EPERM : undefined) },
    { onError: all(retry(100)), rateBytesPerSecond, burstBytes: 1500, burstRateRatio: 1, catchUpSeconds: 0 },
  )
  submitAll(r, heapsTo(0, 1), 200)
  const start = r.clock
  let sent = 0
  let most = 0
  for (const limit of [0.1, 0.5]) {
    while (r.clock < start + limit * 1e9) {
      r.engine.step(r.clock)
      r.clock += 10_000
      sent = r.ring.counters[COUNTER.udpBytes]!
      most = Math.max(most, sent - ((r.clock - start) * rateBytesPerSecond) / 1e9)
    }
    open = true
  }
  expect(r.backend.packets.length).toBe(400)
  expect(sent).toBeGreaterThan(400_000)
  expect(most).toBeLessThanOrEqual(3 * 1500)
})
