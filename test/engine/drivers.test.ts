/** Both drivers alike: order, back-pressure without loss, waking, pacing, stopping. Real clocks, real threads. */
import { describe, expect, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import * as R from '#dist/src/engine/ring.js'
import { readCounters } from '#dist/src/stats.js'
import { cntOf, rawHeap } from '../support/engine-rig.js'
import { need } from '../support/need.js'
import { type DriverKind, type DriverRig, driverRig, KINDS, type Sent, settledOf, type Variant, within } from './driver-support.js'

const last = ({ bytes }: { bytes: Uint8Array }): number => bytes.at(-1)!

/** Heap cnts in the order of the packets, each once. */
const cntsOf = (rig: DriverRig): number[] =>
  rig
    .packets()
    .map(cntOf)
    .filter((cnt, i, all) => cnt !== all[i - 1])

const upTo = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1)

/** Three shapes, told apart by the byte their payloads are made of. */
function shapes(rig: DriverRig): Variant[] {
  return [
    rig.add([{ heap: rawHeap(100, 1) }]),
    rig.add(
      [0, 1, 2].map((substream) => ({ heap: rawHeap(3000, 2), substream })),
      'round-robin',
    ),
    rig.add([{ heap: rawHeap(5000, 3) }, { heap: rawHeap(64, 3), substream: 3 }]),
  ]
}

describe.for(KINDS)('%s driver', (kind) => {
  test('packets, settlements and cnts in the order of the sends', async () => {
    const rig = await driverRig(kind)
    const variants = shapes(rig)
    const order: number[] = []
    const sends = Array.from({ length: 400 }, (_, i) => {
      const sent = rig.send(variants[(i * 7 + (i >> 3)) % 3]!)
      void sent.promise.then(() => order.push(i))
      return { ...sent, variant: (i * 7 + (i >> 3)) % 3 }
    })
    await settledOf(sends)
    expect(order).toEqual(upTo(400).map((n) => n - 1))
    let first = 1
    const expected = []
    for (const { promise, variant } of sends) {
      const { heaps, rows } = variants[variant]!
      expect(await promise).toMatchObject({ heaps, packets: rows, firstCnt: first, evidence: 'written' })
      for (let r = 0; r < rows; r++) expected.push(variant + 1)
      first += heaps
    }
    expect(readCounters(rig.ring.counters)).toMatchObject({
      batches: 400,
      heapsSent: first - 1,
      heapsFailed: 0,
      packets: expected.length,
    })
    await rig.stop(R.STOP_DRAIN)
    expect(rig.packets().map(last)).toEqual(expected)
    // Round-robin repeats the cnts of its heaps, so they are counted whole.
    expect(new Set(rig.packets().map(cntOf))).toEqual(new Set(upTo(first - 1)))
    expect(rig.submissions.inFlight).toBe(0)
  })

  test('5000 sends at once are five rings full: none is dropped, doubled or overtaken', async () => {
    const rig = await driverRig(kind)
    const variant = rig.add([{ heap: rawHeap(200, 9) }])
    const sends = Array.from({ length: 5000 }, () => rig.send(variant))
    expect(rig.submissions.inFlight).toBe(5000)
    expect(rig.ring.submitted).toBeLessThanOrEqual(2 * R.SLOTS)
    const results = await settledOf(sends)
    expect(results.map((result) => result.status === 'fulfilled' && result.value.firstCnt)).toEqual(upTo(5000))
    expect(rig.submissions.inFlight).toBe(0)
    expect(rig.ring.submitted).toBe(5000)
    expect(rig.ring.settled).toBe(5000)
    await rig.stop(R.STOP_DRAIN)
    expect(cntsOf(rig)).toEqual(upTo(5000))
  })

  test('beyond the ring: withdrawn ones leave no hole, new sequences take their turn, flush waits for what was before it', async () => {
    const rig = await driverRig(kind)
    const variant = rig.add([{ heap: rawHeap(200, 9) }])
    const sends: Sent[] = []
    let flushed = 0
    const { signal } = new AbortController()
    for (let i = 0; i < 4000; i++) {
      sends.push(rig.send(variant, i % 7 === 0 ? signal : undefined))
      if (i === 2999) rig.setSequence(1_000_000, 2)
      if (i === 1999) void rig.submissions.drained().then(() => (flushed = rig.submissions.inFlight))
    }
    // Every seventh of those that still wait. The event loop's driver has claimed nothing yet; an I/O thread may have.
    const withdrawn = new Set<number>()
    for (let i = 0; i < 4000; i += 7) if (rig.submissions.abort(sends[i]!.send, `withdrawn ${i}`)) withdrawn.add(i)
    expect(withdrawn.size).toBeGreaterThan(400)
    expect(rig.submissions.abort(sends[1]!.send, 'it has no signal')).toBe(false)
    const results = await settledOf(sends)
    let cnt = 1
    for (const [i, result] of results.entries()) {
      if (i === 3000) cnt = 1_000_000
      if (withdrawn.has(i)) {
        expect(result).toEqual({ status: 'rejected', reason: `withdrawn ${i}` })
        continue
      }
      expect(result, `send ${i}`).toMatchObject({ status: 'fulfilled', value: { firstCnt: cnt } })
      cnt += i < 3000 ? 1 : 2
    }
    await within('the flush', rig.submissions.drained())
    // 2000 sends came behind it, and a new sequence.
    expect(flushed).toBeGreaterThan(0)
    expect(flushed).toBeLessThanOrEqual(2001)
    await rig.stop(R.STOP_DRAIN)
    expect(rig.packets()).toHaveLength(4000 - withdrawn.size)
  })

  test('wakes from every depth of sleep, watched or not', async () => {
    const rig = await driverRig(kind)
    const variant = rig.add([{ heap: rawHeap(100) }])
    const pause = (i: number): unknown =>
      [
        undefined,
        Promise.resolve(),
        new Promise(setImmediate),
        ...[1, 2, 5].map((ms) => new Promise((resolve) => setTimeout(resolve, ms))),
      ][i % 6]
    // A lost wake-up costs up to 50 ms each in the I/O thread, and for ever on the event loop.
    const started = performance.now()
    for (let i = 0; i < 200; i++) {
      await pause(i)
      const { promise } = rig.send(variant)
      expect(await within(`send ${i}`, promise)).toMatchObject({ firstCnt: i + 1 })
    }
    expect(performance.now() - started).toBeLessThan(8000)
    for (let i = 0; i < 10; i++) {
      rig.send(variant)
      expect(rig.submissions.inFlight).toBe(1)
      // Nobody waits for it nor looks at the ring; the driver does, now and then.
      await within(
        `unwatched send ${i}`,
        until(() => rig.submissions.inFlight === 0),
      )
    }
  })

  test('variants announced and used at once, while others are under way; dropped ones may be replaced', async () => {
    const rig = await driverRig(kind)
    const sends: Sent[] = []
    for (let i = 0; i < 300; i++) {
      const variant = rig.add([{ heap: rawHeap(100 + i, i % 251) }])
      sends.push(rig.send(variant))
      if (i % 3 === 2) {
        const [before] = sends.slice(-3)
        await within('a send', before!.promise)
        rig.driver.dropVariant(before!.send.variant)
      }
    }
    await settledOf(sends)
    await rig.stop(R.STOP_DRAIN)
    expect(rig.packets().map(({ bytes }) => [bytes.length, last({ bytes })])).toEqual(
      // SPEAD header, four pointers and the item's: 48 bytes.
      Array.from({ length: 300 }, (_, i) => [148 + i, i % 251]),
    )
    expect(rig.deaths).toEqual([])
  })

  test('the limiter holds under a real clock: never faster than the rate, and everything goes', async () => {
    const rate = 20e6
    const burstBytes = 10_000
    const rig = await driverRig(kind, { engine: { rateBytesPerSecond: rate, burstBytes } })
    const variant = rig.add([{ heap: rawHeap(20_000) }, { heap: rawHeap(20_000) }])
    const started = performance.now()
    const results = await settledOf(Array.from({ length: 50 }, () => rig.send(variant)))
    const seconds = (performance.now() - started) / 1000
    expect(results.every(({ status }) => status === 'fulfilled')).toBe(true)
    const { udpBytes, pacedNanoseconds } = readCounters(rig.ring.counters)
    expect(udpBytes).toBeGreaterThan(2e6)
    // A lower bound, which a slow machine only moves away from: all but two bursts were paid for before the last packet went.
    expect(seconds).toBeGreaterThan((udpBytes - 3 * burstBytes) / (rate * 1.05))
    expect(pacedNanoseconds).toBeGreaterThan(0)
  })

  describe('stopping', () => {
    // At a byte per second one packet goes, and the next is a quarter of an hour away.
    const stuck = { engine: { rateBytesPerSecond: 1, burstBytes: 1 }, keepNothing: true }

    test('by abort settles everything at once: what was begun as far as it got, the rest as never sent', async () => {
      const rig = await driverRig(kind, stuck)
      const variant = rig.add([{ heap: rawHeap(2500) }, { heap: rawHeap(2500) }])
      expect(variant.rows).toBe(4)
      const sends = Array.from({ length: 1500 }, () => rig.send(variant))
      await within('the first packet', untilSent(rig, 1))
      expect(sends.every(({ send }) => !send.done)).toBe(true)
      await within('the stop', rig.stop(R.STOP_ABORT))
      expect(rig.ring.closed).toBe(true)
      // The ring, and what came into it as it emptied. The others are settled as a stream does it when its driver has stopped.
      const done = sends.filter(({ send }) => send.done).length
      expect(done).toBeGreaterThanOrEqual(R.SLOTS)
      rig.submissions.die(Object.assign(new Error('closed'), { code: 'ERR_SPEADCAST_CLOSED' }) as never)
      const [first, ...others] = await settledOf(sends)
      expect(first).toMatchObject({
        status: 'rejected',
        reason: { code: 'ERR_SPEADCAST_SEND', outcome: { heaps: ['partial', 'flushed'], failedHeaps: [0, 1] } },
      })
      const codes = others.map((result) => result.status === 'rejected' && result.reason.code)
      expect(codes).toEqual([...Array(done - 1).fill('ERR_SPEADCAST_ABORTED'), ...Array(1500 - done).fill('ERR_SPEADCAST_CLOSED')])
      expect(readCounters(rig.ring.counters)).toMatchObject({ packets: 1, heapsSent: 0, heapsFailed: 2 })
      expect(rig.submissions.inFlight).toBe(0)
      expect(rig.deaths).toEqual([])
    })

    test('what an abort says was sent is what was written', async () => {
      const rig = await driverRig(kind, { engine: { rateBytesPerSecond: 1, burstBytes: 1 } })
      const sends = [rig.send(rig.add([1, 2, 3].map((value) => ({ heap: rawHeap(1000, value) }))))]
      await within('the first packet', untilSent(rig, 1))
      // Not at the next deadline.
      await within('the stop', rig.stop(R.STOP_ABORT), 2000)
      expect((await settledOf(sends))[0]).toMatchObject({ reason: { outcome: { heaps: ['sent', 'flushed', 'flushed'] } } })
      expect(rig.packets().map(last)).toEqual([1])
    })

    test('by drain sends what is queued first', async () => {
      const rig = await driverRig(kind, { engine: { rateBytesPerSecond: 5e6, burstBytes: 1000 } })
      const variant = rig.add([{ heap: rawHeap(1000) }])
      const sends = Array.from({ length: 500 }, () => rig.send(variant))
      await within('the stop', rig.stop(R.STOP_DRAIN))
      const results = await settledOf(sends)
      expect(results.every(({ status }) => status === 'fulfilled')).toBe(true)
      expect(cntsOf(rig)).toEqual(upTo(500))
    })

    test('a drain may still be cut short', async () => {
      const rig = await driverRig(kind, stuck)
      const sends = [1, 2].map(() => rig.send(rig.add([{ heap: rawHeap(2500) }])))
      await within('the first packet', untilSent(rig, 1))
      const drained = rig.stop(R.STOP_DRAIN)
      await new Promise((resolve) => setTimeout(resolve, 20))
      expect(sends[0]!.send.done).toBe(false)
      void rig.stop(R.STOP_ABORT)
      await within('the stop', drained)
      expect((await settledOf(sends)).map((result) => result.status)).toEqual(['rejected', 'rejected'])
    })

    test('idle, and twice', async () => {
      const rig = await driverRig(kind)
      await within('the stop', rig.stop(R.STOP_DRAIN))
      rig.driver.submitted()
      rig.driver.hold(false)
      await within('the stop', rig.driver.stopped())
      expect(rig.deaths).toEqual([])
    })
  })
})

test('an I/O thread is told of a CPU while somebody waits there, and no longer', async (ctx) => {
  need(ctx, process.platform === 'linux' && nativeCallsWork(), 'CPUs are looked at on Linux only')
  const rig = await driverRig('worker', { memory: { pauseNanoseconds: 1e9, acceptPerPost: 1 }, keepNothing: true })
  const told = () => rig.ring.waiterCpu !== R.NO_CPU
  // The engine waits for 2 ms a packet at most, so a heap of many is in flight until the stop, however late this thread is.
  const { promise } = rig.send(rig.add([{ heap: rawHeap(2_500_000) }]))
  for (const asleep of [false, true]) {
    rig.driver.waiter!.tools.yieldOrNap(asleep)
    expect(told()).toBe(false)
  }
  const settled = promise.catch(() => {})
  expect(told()).toBe(true)
  for (const asleep of [false, true]) {
    rig.driver.waiter!.tools.yieldOrNap(asleep)
    expect(told()).toBe(true)
  }
  await within('the stop', rig.stop(R.STOP_ABORT))
  await settled
  expect(told()).toBe(false)
})

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1))
}

const untilSent = (rig: DriverRig, packets: number) => until(() => readCounters(rig.ring.counters).packets >= packets)

/** Backends that take their time, refuse and fail, on the event loop's own clock. */
describe('event loop: order and outcome whatever the backend does', () => {
  const kind: DriverKind = 'inline'

  test.for([
    { acceptPerPost: 1, pauseNanoseconds: 0 },
    { acceptPerPost: 3, pauseNanoseconds: 100_000 },
    { completeAfterReaps: 7 },
    { acceptPerPost: 2, pauseNanoseconds: 2_500_000, completeAfterReaps: 3 },
  ])('%o', async (memory) => {
    for (const maxInFlight of [1, 8]) {
      const rig = await driverRig(kind, { memory, engine: { maxInFlight } })
      const variants = shapes(rig)
      const sends = Array.from({ length: 12 }, (_, i) => rig.send(variants[i % 3]!))
      const results = await settledOf(sends)
      expect(results.map((result) => result.status === 'fulfilled' && result.value.firstCnt)).toEqual(
        Array.from({ length: 12 }, (_, i) => 1 + 6 * Math.floor(i / 3) + [0, 1, 4][i % 3]!),
      )
      expect(rig.packets().map(last)).toEqual(
        Array.from({ length: 12 }, (_, i) => Array(variants[i % 3]!.rows).fill((i % 3) + 1)).flat(),
      )
    }
  })

  test('the event loop turns while a long queue is sent', async () => {
    const rig = await driverRig(kind, { memory: { keepPackets: false } })
    const variant = rig.add(Array.from({ length: 2000 }, () => ({ heap: rawHeap(64) })))
    let turns = 0
    let sent = 0
    let most = 0
    const turn = (): void => {
      turns++
      const { packets } = readCounters(rig.ring.counters)
      most = Math.max(most, packets - sent)
      sent = packets
      if (rig.submissions.inFlight > 0) setImmediate(turn)
    }
    const sends = Array.from({ length: 500 }, () => rig.send(variant))
    setImmediate(turn)
    await settledOf(sends)
    expect(turns).toBeGreaterThan(10)
    // A million packets; no turn had more than a small part of them.
    expect(most).toBeLessThan(500_000)
  })
})
