// The observation clock under a clock of the test's own: when heaps go, by their timestamps.
import { beforeEach, describe, expect, test } from 'vitest'
import type { MemoryOptions } from '#dist/src/backend/memory.js'
import type { ImmediateColumn } from '#dist/src/batch/column.js'
import type { GroupMode } from '#dist/src/batch/compile.js'
import { BatchTemplate } from '#dist/src/batch/template.js'
import { NEXT_AT_DEADLINE, NEXT_IDLE, NEXT_STEP_NOW } from '#dist/src/engine/contract.js'
import { STATE_FINAL } from '#dist/src/engine/ring.js'
import { Schedule, type ScheduleOptions, type TaiReading } from '#dist/src/engine/schedule.js'
import { Histogram } from '#dist/src/histogram.js'
import { Item, ItemGroup, makeFlavour } from '#dist/src/spead/index.js'
import { COUNTER, type CounterName } from '#dist/src/stats.js'
import { cntOf, steppedRig } from '../support/engine-rig.js'

const RATE = 1712e6
const SAMPLES = 4096
const SYNC = 1_790_000_000
const MS = 1e6
const BATCHES = 4
const SECOND = 1e9

/** TAI beside a clock of the test's own, exact for any time. */
class VirtualTai implements TaiReading {
  seconds = 0
  nanoseconds = 0
  at = 0
  uncertainty = 0
  reads = 0

  /** @param zero TAI when the other clock was 0 */
  constructor(
    public zeroSeconds: number,
    public zeroNanoseconds = 0,
  ) {}

  read(now: () => number): void {
    this.reads++
    this.at = now()
    const nanoseconds = this.zeroNanoseconds + this.at
    this.seconds = this.zeroSeconds + Math.floor(nanoseconds / 1e9)
    this.nanoseconds = nanoseconds - Math.floor(nanoseconds / 1e9) * 1e9
  }

  /** The wall clock is set: forward if positive. */
  step(nanoseconds: number): void {
    this.zeroNanoseconds += nanoseconds
  }
}

const OPTIONS: ScheduleOptions = {
  syncSeconds: SYNC,
  syncNanoseconds: 0,
  sampleRateHz: RATE,
  samplesPerHeap: SAMPLES,
  item: 'timestamp',
  startSeconds: undefined,
  late: 'slip',
  toleranceNanoseconds: 5 * MS,
  errors: new Float64Array(Histogram.DOUBLES),
}

interface Given {
  readonly schedule?: Partial<ScheduleOptions>
  readonly heaps?: number
  readonly heapBytes?: number
  readonly packetSizeBytes?: number
  readonly substreams?: number
  readonly groupMode?: GroupMode
  readonly tai?: VirtualTai
  readonly burstBytes?: number
  readonly bits?: number
  readonly memory?: Partial<MemoryOptions>
}

/** A rig whose clock is 0 at the synchronisation, unless `tai` says otherwise. */
function clocked(given: Given = {}) {
  const { heaps = 16, heapBytes = 4096, packetSizeBytes = 9000, substreams = 1, groupMode = 'serial', bits = 48 } = given
  const tai = given.tai ?? new VirtualTai(SYNC)
  const errors = new Float64Array(Histogram.DOUBLES)
  const schedule = { ...OPTIONS, errors, ...given.schedule }
  const r = steppedRig({ substreams, ...given.memory }, { burstBytes: given.burstBytes ?? 65536, schedule }, tai)
  const flavour = makeFlavour({ heapAddressBits: 48, bugCompat: 0 })
  const items = new ItemGroup()
  items.add(new Item({ id: 0x1600, name: 'timestamp', format: [['u', bits]], shape: [] }))
  items.add(new Item({ id: 0x3300, name: 'samples', dtype: '|i1', shape: [heapBytes] }))
  const templates = Array.from({ length: BATCHES }, (_, i) => {
    const template = new BatchTemplate({
      items,
      heaps,
      flavour,
      packetSizeBytes,
      split: 'even',
      repeatPointers: false,
      groupMode,
      substreams: Uint16Array.from({ length: heaps }, (_, j) => j % substreams),
      memory: {},
      headroomBytes: 0,
      mergesEqualPackets: false,
      inBandDescriptors: false,
    })
    r.engine.addVariant(1 + i, template.compilation(heaps).compile())
    return template
  })
  const { rows } = templates[0]!.compilation(heaps)
  r.clock = 0
  const pending: ((column: ImmediateColumn) => void)[] = []
  let sent = 0
  /** A batch is filled when one is free. */
  function refill(): void {
    while (pending.length > 0 && ((sent - r.ring.settled) | 0) < BATCHES) {
      const template = templates[sent % BATCHES]!
      pending.shift()!(template.immediate('timestamp'))
      template.validate(heaps)
      r.ring.push({ variant: 1 + (sent++ % BATCHES), heaps, rows, explicitCnts: false, sequence: undefined }, STATE_FINAL)
    }
  }
  const at = new Map<number, number>()
  const times: number[] = []
  const { post } = r.backend
  r.backend.post = (posting, first, end, out) => {
    post.call(r.backend, posting, first, end, out)
    for (const packet of r.backend.packets.splice(0)) {
      times.push(r.clock)
      const cnt = cntOf(packet)
      if (!at.has(cnt)) at.set(cnt, r.clock)
    }
  }
  const count = (name: CounterName): number => r.ring.counters[COUNTER[name]]!
  return {
    ...r,
    tai,
    at,
    times,
    count,
    get clock() {
      return r.clock
    },
    set clock(now: number) {
      r.clock = now
    },
    errors: () => new Histogram(errors).read(),
    /** Sends a batch whose heaps are due one after the other from `first` on. */
    send(first: number, step = SAMPLES, per: 'heap' | 'substream' = 'heap') {
      pending.push((column) => column.setRamp(first, step, { per }))
    },
    sendEach(timestamps: readonly number[]) {
      pending.push((column) => column.set(timestamps))
    },
    /** Runs until nothing is left, moving the clock to every deadline and `late` beyond; `before` is called with each deadline. */
    settle(late: (wakeUp: number) => number = () => 0, before: (deadline: number) => void = () => {}) {
      for (let i = 0, wakeUps = 0; i < 1e6; i++) {
        refill()
        const next = r.engine.step(r.clock)
        if (next === NEXT_IDLE && pending.length === 0) return
        if (next === NEXT_AT_DEADLINE) {
          expect(r.engine.deadline).toBeGreaterThan(r.clock)
          before(r.engine.deadline)
          r.clock = Math.max(r.clock, r.engine.deadline) + late(wakeUps++)
        } else if (next !== NEXT_STEP_NOW) r.clock += 1000
      }
      throw new Error('no end')
    },
  }
}

/** When a timestamp is due after the synchronisation, in nanoseconds, by exact arithmetic. */
const dueOf = (timestamp: number | bigint, rate = RATE): number =>
  Number((BigInt(timestamp) * 1_000_000_000_000n) / BigInt(rate)) / 1000

describe('a heap is due at syncTime + timestamp / sampleRateHz', () => {
  test('the first packet goes then, and those of a burst at most half a millisecond before', () => {
    const r = clocked()
    for (let b = 0; b < 50; b++) {
      r.send(1_000_000 * SAMPLES + b * 16 * SAMPLES)
      r.settle()
    }
    expect(r.at.get(1)).toBeCloseTo(dueOf(1_000_000 * SAMPLES), 1)
    for (let i = 0; i < 800; i++) {
      const early = dueOf((1_000_000 + i) * SAMPLES) - r.at.get(1 + i)!
      expect(early).toBeGreaterThan(-1)
      expect(early).toBeLessThan(500_000)
    }
    expect(r.count('greatestTimeErrorNanoseconds')).toBeLessThan(1)
    expect(r.errors().count).toBeGreaterThan(25)
  })

  test('heaps that are farther apart than half a millisecond go one by one, each at its time', () => {
    const r = clocked({ schedule: { sampleRateHz: 4096 } })
    for (let b = 0; b < 4; b++) r.send(100 * SAMPLES + b * 16 * SAMPLES)
    r.settle()
    expect(r.at.size).toBe(64)
    for (const [cnt, at] of r.at) expect(at).toBeCloseTo((99 + cnt) * SECOND, 0)
  })

  test('the packets of a heap are spread over its time', () => {
    const r = clocked({ schedule: { sampleRateHz: 4096 }, heaps: 1, heapBytes: 8 * 1024, packetSizeBytes: 1100 })
    r.send(10 * SAMPLES)
    r.settle()
    expect(r.times).toHaveLength(8)
    for (const [i, at] of r.times.entries()) expect(Math.abs(at - 10 * SECOND - (i * SECOND) / 8)).toBeLessThan(10 * MS)
  })

  test('heaps that share a timestamp, one for each substream, share its time', () => {
    const r = clocked({ schedule: { sampleRateHz: 4096 }, substreams: 4 })
    r.send(10 * SAMPLES, SAMPLES, 'substream')
    r.send(14 * SAMPLES, SAMPLES, 'substream')
    r.settle()
    for (const [cnt, at] of r.at) expect(at).toBeCloseTo(10 * SECOND + ((cnt - 1) * SECOND) / 4, 0)
  })

  test.for(['round-robin', 'by-substream'] as const)('packets in another order, %s, fill the same time', (groupMode) => {
    const r = clocked({ schedule: { sampleRateHz: 4096 }, substreams: 4, groupMode, packetSizeBytes: 1100 })
    r.send(10 * SAMPLES, SAMPLES, 'substream')
    r.settle()
    const { times } = r
    expect(times[0]).toBeCloseTo(10 * SECOND, 0)
    for (const [i, at] of times.entries()) expect(Math.abs(at - 10 * SECOND - (i * 4 * SECOND) / times.length)).toBeLessThan(5 * MS)
  })

  test('a gap in the timestamps is a gap in time, and nothing goes before its end', () => {
    const r = clocked()
    r.send(1_000_000 * SAMPLES)
    r.send(2_000_000 * SAMPLES)
    r.settle()
    expect(r.at.get(17)).toBeCloseTo(dueOf(2_000_000 * SAMPLES), 1)
  })

  test('a gap between the heaps of a batch is one too, so what a mask leaves out takes its time', () => {
    const r = clocked({ schedule: { sampleRateHz: 4096e3 }, heaps: 6, heapBytes: 4096, packetSizeBytes: 1100 })
    const due = [100, 101, 150, 151, 152, 400]
    r.sendEach(due.map((ms) => ms * SAMPLES))
    r.settle()
    expect(due.map((_, i) => r.at.get(i + 1)! / MS)).toEqual(due.map((ms) => expect.closeTo(ms, 6)))
    expect(r.count('greatestTimeErrorNanoseconds')).toBeLessThan(1)
  })

  test('a gap at the wrap of the timestamps is as long as it is', () => {
    const r = clocked({ schedule: { sampleRateHz: 4096e3 }, heaps: 2, bits: 32 })
    const first = 2 ** 32 - 2 * SAMPLES
    r.clock = dueOf(first, 4096e3) - 10 * MS
    r.sendEach([first, 5 * SAMPLES])
    r.settle()
    expect((r.at.get(2)! - r.at.get(1)!) / MS).toBeCloseTo(7, 6)
  })

  test('a heap that is due before the one in front of it is late by that, and the one in front in time', () => {
    const r = clocked({ schedule: { sampleRateHz: 4096e3, late: 'skip' }, heaps: 5 })
    r.sendEach([100, 101, 50, 51, 103].map((ms) => ms * SAMPLES))
    r.settle()
    expect([...r.at].map(([cnt, at]) => [cnt, at / MS])).toEqual(
      [1, 2, 5].map((cnt) => [cnt, expect.closeTo([100, 101, 0, 0, 103][cnt - 1]!, 6)]),
    )
    expect(r.messages.filter((message) => message.type === 'clock')).toEqual([expect.objectContaining({ what: 'late', heaps: 2 })])
  })

  test.for([RATE, 1, 0.1, 1712e6 / 3, 7e9, 1e12])('at %f Hz', (sampleRateHz) => {
    const r = clocked({ schedule: { sampleRateHz, samplesPerHeap: 1 }, heaps: 2 })
    const first = Math.ceil(sampleRateHz * 3)
    r.sendEach([first, first + 1])
    r.settle()
    expect(Math.abs(r.at.get(1)! - (first * 1e9) / sampleRateHz)).toBeLessThan(1)
  })
})

describe('nothing adds up', () => {
  test('after days of heaps the times are exact, and past the wrap of 48 bits', () => {
    // A heap every 35 s and a bit takes the clock over the wrap, which comes every 45.7 hours, three times.
    const step = 60_000_000_007
    const r = clocked({ heaps: 1 })
    let total = 0n
    for (let i = 0; i < 15_000; i++) {
      total += BigInt(step)
      r.clock = dueOf(total) - 150 * MS
      r.sendEach([Number(BigInt.asUintN(48, total))])
      r.settle()
      if (i % 1500 === 0 || i > 14_990) expect(Math.abs(r.at.get(i + 1)! - dueOf(total))).toBeLessThan(100)
    }
    expect(total / 2n ** 48n).toBe(3n)
    expect(r.count('greatestTimeErrorNanoseconds')).toBeLessThan(1)
    expect(r.count('clockSteps')).toBe(0)
  })

  test('a sender that begins years after the synchronisation is exact too', () => {
    const years = 20 * 365.25 * 86400
    const tai = new VirtualTai(SYNC + years, 123_456_789)
    const r = clocked({ tai, heaps: 1 })
    // Half a second later.
    const total = BigInt(years) * BigInt(RATE) + BigInt(RATE * 0.5)
    r.sendEach([Number(BigInt.asUintN(48, total))])
    r.settle()
    expect(r.at.get(1)).toBeCloseTo(500_000_000 - 123_456_789, 0)
  })

  test('a schedule of three million claims has the time of exact arithmetic', () => {
    const tai = new VirtualTai(SYNC)
    const schedule = new Schedule({ ...OPTIONS, samplesPerHeap: 8191 }, tai, () => 0)
    schedule.look(0)
    let total = 0n
    for (let i = 0; i < 3e6; i++) {
      total += 8191n * 333n
      schedule.dueOf(Number(BigInt.asUintN(48, total)), 48, Number((total * 1000n) / 1712n))
    }
    const due = schedule.dueOf(Number(BigInt.asUintN(48, total)), 48, Number((total * 1000n) / 1712n))
    expect(Math.abs(due - Number((total * 1000n) / 1712n))).toBeLessThan(2)
  })

  test.for([24, 32, 40])('timestamps of %i bits wrap where their item does', (bits) => {
    const r = clocked({ heaps: 16, bits })
    let total = 5_000_000n * BigInt(SAMPLES)
    r.clock = dueOf(total) - MS
    for (let b = 0; b < 1000; b++) {
      const first = total
      r.sendEach(Array.from({ length: 16 }, (_, j) => Number(BigInt.asUintN(bits, first + BigInt(j * SAMPLES)))))
      r.settle()
      expect(Math.abs(r.at.get(16 * b + 1)! - dueOf(first))).toBeLessThan(500_000)
      total += 16n * BigInt(SAMPLES)
    }
  })
})

describe('a late sender', () => {
  /** Heaps of a millisecond. */
  const given = { schedule: { sampleRateHz: 4096e3, late: 'slip' as const } }

  test('slips: everything goes, as fast as the burst rate allows, until it is in time again', () => {
    const r = clocked(given)
    for (let b = 0; b < 100; b++) r.send((100 + b * 16) * SAMPLES)
    r.settle((i) => (i === 200 ? 20 * MS : 0))
    expect(r.at.size).toBe(1600)
    const lateOf = (i: number): number => r.at.get(i + 1)! - (100 + i) * MS
    expect(lateOf(100)).toBeCloseTo(0, 0)
    expect(Math.max(...Array.from({ length: 1600 }, (_, i) => lateOf(i)))).toBeCloseTo(20 * MS, -2)
    // 20 ms are made up at 5 %: in 400 heaps and a bit.
    expect(lateOf(800)).toBeCloseTo(0, 0)
    expect(lateOf(400)).toBeGreaterThan(5 * MS)
    expect(r.count('greatestTimeErrorNanoseconds')).toBeCloseTo(20 * MS, -2)
    expect([r.count('heapsSkipped'), r.count('heapsSent'), r.count('heapsFailed')]).toEqual([0, 1600, 0])
    expect(r.errors().max).toBeCloseTo(20 * MS, -2)
  })

  test('keeps up where each wake-up is as late as a time slice is long', () => {
    const r = clocked(given)
    for (let b = 0; b < 200; b++) r.send((100 + b * 16) * SAMPLES)
    r.settle(() => 4 * MS)
    const late = Array.from({ length: 3200 }, (_, i) => r.at.get(i + 1)! - (100 + i) * MS)
    expect(Math.max(...late)).toBeLessThan(12 * MS)
    // Nothing more than half a millisecond early all the same.
    expect(Math.min(...late)).toBeGreaterThan(-MS / 2)
  })

  test('skips whole heaps to be in time again, tells of them, and their cnts are used up', () => {
    const r = clocked({ schedule: { ...given.schedule, late: 'skip' } })
    for (let b = 0; b < 10; b++) r.send((100 + b * 16) * SAMPLES)
    r.settle((i) => (i === 50 ? 20 * MS : 0))
    const missing = Array.from({ length: 160 }, (_, i) => i).filter((i) => !r.at.has(i + 1))
    // Those that were due before the thread came back, without a gap.
    expect(missing).toHaveLength(20)
    expect(missing.at(-1)! - missing[0]!).toBe(19)
    for (const [cnt, at] of r.at) expect(at - (99 + cnt) * MS).toBeCloseTo(0, 0)
    expect([r.count('heapsSkipped'), r.count('heapsSent'), r.count('heapsFailed'), r.count('packetsFailed')]).toEqual([
      20, 140, 0, 0,
    ])
    const told = r.messages.filter((message) => message.type === 'clock')
    expect(told.reduce((sum, { heaps }) => sum + heaps, 0)).toBe(20)
    expect(told[0]).toMatchObject({ what: 'late', seconds: expect.closeTo(0.02, 3) })
    const outcomes = r.messages.filter((message) => message.type === 'outcome')
    expect(outcomes.flatMap(({ heaps }) => heaps).filter((status) => status === 'skipped')).toHaveLength(20)
    expect(outcomes.flatMap(({ causes }) => causes).map(({ errnoName }) => errnoName)).toEqual(outcomes.map(() => 'LATE'))
  })

  test('skips batches that are late as a whole, and settles them', () => {
    const r = clocked({ schedule: { ...given.schedule, late: 'skip' } })
    r.clock = 10 * SECOND
    for (const first of [0, 16, 10_100]) r.send(first * SAMPLES)
    r.settle()
    expect([...r.at.keys()]).toEqual(Array.from({ length: 16 }, (_, i) => 33 + i))
    expect(r.ring.settled).toBe(3)
    expect([r.count('heapsSkipped'), r.count('heapsSent')]).toEqual([32, 16])
  })

  test.for([1, 2, 5])(
    'waits for what is posted of a batch before it leaves out more of it: completions after %i looks',
    (reaps) => {
      const r = clocked({
        schedule: { ...given.schedule, late: 'skip' },
        memory: { completeAfterReaps: reaps, failAt: (row) => (row === 40 ? { errno: 5, how: 'late' } : undefined) },
      })
      for (let b = 0; b < 10; b++) r.send((100 + b * 16) * SAMPLES)
      r.settle((i) => (i % 30 === 20 ? 12 * MS : 0))
      expect(r.ring.settled).toBe(10)
      expect(r.count('heapsSkipped')).toBeGreaterThan(5)
      expect(r.count('heapsFailed')).toBe(1)
      expect(r.count('heapsSkipped') + r.count('heapsSent') + r.count('heapsFailed')).toBe(160)
      expect(r.at.size).toBe(r.count('heapsSent'))
    },
  )

  test('leaves none out for small delays, once one was in time again', () => {
    const r = clocked({ schedule: { ...given.schedule, late: 'skip' } })
    r.clock = 10 * SECOND
    for (const first of [9000, 10_100]) r.send(first * SAMPLES)
    r.settle(() => 20_000)
    expect([r.count('heapsSkipped'), r.count('heapsSent')]).toEqual([16, 16])
  })

  test.for(['round-robin', 'by-substream'] as const)('never cuts a heap whose packets are %s', (groupMode) => {
    const r = clocked({ schedule: { ...given.schedule, late: 'skip' }, groupMode, substreams: 4, packetSizeBytes: 1100 })
    for (let b = 0; b < 20; b++) r.send((100 + b * 4) * SAMPLES, SAMPLES, 'substream')
    r.settle((i) => (i === 30 ? 20 * MS : 0))
    expect(r.count('heapsSkipped')).toBeGreaterThan(20)
    expect(r.times.length % 4).toBe(0)
    expect(r.times.length / 4).toBe(r.at.size)
    expect(r.at.size + r.count('heapsSkipped')).toBe(320)
  })
})

describe('the wall clock', () => {
  const given = { schedule: { sampleRateHz: 4096e3 } }
  let r: ReturnType<typeof clocked>
  beforeEach(() => {
    r = clocked(given)
  })

  /** Sends three seconds of heaps, and sets the wall clock by `step` after the first. */
  function stepping(step: number): void {
    let done = false
    for (let b = 0; b < 180; b++) {
      r.send((1000 + b * 16) * SAMPLES)
      r.settle(
        () => 0,
        () => {
          if (!done && r.clock >= 2 * SECOND) {
            r.tai.step(step)
            done = true
          }
        },
      )
    }
  }

  test('set back by half a second: everything waits for so long', () => {
    stepping(-500 * MS)
    expect(r.count('clockSteps')).toBe(1)
    expect(r.messages).toContainEqual({ type: 'clock', what: 'step', heaps: 0, seconds: -0.5 })
    const last = r.at.get(2880)!
    expect(last).toBeCloseTo((1000 + 2879) * MS + 500 * MS, 0)
    // Nothing was late: it went before its time until the step was seen.
    expect(r.count('greatestTimeErrorNanoseconds')).toBeLessThan(1)
  })

  test('set forward by half a second: what is due by then is late by that', () => {
    stepping(500 * MS)
    expect(r.count('clockSteps')).toBe(1)
    expect(r.messages).toContainEqual({ type: 'clock', what: 'step', heaps: 0, seconds: 0.5 })
    expect(r.count('greatestTimeErrorNanoseconds')).toBeGreaterThan(499 * MS)
    expect(r.count('greatestTimeErrorNanoseconds')).toBeLessThan(500 * MS + 1)
  })

  test('set while a stream waits for its start moves the start, within a tenth of a second', () => {
    r.send(3600_000 * SAMPLES)
    let steps = 0
    r.settle(
      () => 0,
      (deadline) => {
        expect(deadline - r.clock).toBeLessThanOrEqual(100 * MS)
        if (++steps === 100) r.tai.step(3000 * SECOND)
        if (steps === 200) r.tai.step(-1000 * SECOND)
      },
    )
    expect(r.at.get(1)).toBeCloseTo(3600 * SECOND - 2000 * SECOND, 0)
    expect(r.count('clockSteps')).toBe(2)
    expect(r.count('lateNanoseconds')).toBe(0)
  })

  test('a leap second moves nothing, because TAI has none', () => {
    // At a leap second the kernel sets UTC back and raises TAI − UTC, so CLOCK_TAI goes on: there is nothing to see.
    stepping(0)
    expect(r.count('clockSteps')).toBe(0)
    for (const [cnt, at] of r.at) expect(at).toBeCloseTo((999 + cnt) * MS, 0)
  })

  test('readings that are not exact are no steps, and move nothing', () => {
    const { tai } = r
    const read = tai.read.bind(tai)
    tai.read = (now) => {
      read(now)
      tai.uncertainty = 40_000
      tai.nanoseconds += tai.reads % 2 === 0 ? 30_000 : 0
    }
    stepping(0)
    expect(r.count('clockSteps')).toBe(0)
    for (const [cnt, at] of r.at) expect(at).toBeCloseTo((999 + cnt) * MS, 0)
  })

  test('the clocks are compared ten times a second, not at every packet', () => {
    stepping(0)
    expect(r.tai.reads).toBeGreaterThan(20)
    expect(r.tai.reads).toBeLessThan(45)
  })
})

test('the time without work is no time to make up', () => {
  const r = clocked({ schedule: { sampleRateHz: 4096e3 } })
  r.send(100 * SAMPLES)
  r.settle()
  r.clock = 5 * SECOND
  r.send(10_000 * SAMPLES)
  r.settle()
  expect(r.at.get(17)).toBeCloseTo(10 * SECOND, 0)
  expect([r.count('starvedNanoseconds'), r.count('gapsGivenUp')]).toEqual([0, 0])
})
