import { expect, test } from 'vitest'
import { Limiter, type LimiterOptions } from '#dist/src/engine/limiter.js'

const START = 1e9

function make(burstBytes: number, rate: number, options: Partial<LimiterOptions> = {}): Limiter {
  const burstNanoseconds = (burstBytes * 1e9) / rate
  const limiter = new Limiter({ burstBytes, burstNanoseconds, burstRateRatio: 1.05, catchUpNanoseconds: 0, ...options })
  limiter.resume(START)
  return limiter
}

/** Sends whole bursts as soon as allowed, on a clock that moves only by waiting and by `delay` before burst `delayAt`. When each went. */
function run(limiter: Limiter, rate: number, bursts: number, delayAt?: number, delay = 0): number[] {
  const bytes = limiter.burstBytes
  const times: number[] = []
  let now = START
  for (let i = 0; i < bursts; i++) {
    if (i === delayAt) now += delay
    while (limiter.allowance(now) < bytes) {
      const next = limiter.next(bytes)
      expect(next).toBeGreaterThan(now)
      now = next
    }
    times.push(now)
    limiter.charge(bytes, (bytes * 1e9) / rate, now, now, 0)
  }
  return times
}

const gapsOf = (times: readonly number[]): number[] => times.slice(1).map((time, i) => time - times[i]!)

test('65536-byte bursts at 40 Gb/s start exactly 13107.2 ns apart, from the first on and without rounding drift', () => {
  const times = run(make(65536, 5e9), 5e9, 10_001)
  expect((times[10_000]! - times[0]!) / 10_000).toBeCloseTo(13107.2, 6)
})

test('after a delay it catches up, never faster than rate × burstRateRatio, and then keeps the average', () => {
  const interval = 1000
  const times = run(make(1000, 1e9, { burstRateRatio: 1.25 }), 1e9, 200, 50, 10_000)
  const gaps = gapsOf(times)
  expect(Math.min(...gaps)).toBeCloseTo(interval / 1.25, 6)
  expect(gaps[49]).toBe(10_000)
  expect(gaps[50]).toBeCloseTo(interval / 1.25, 6)
  expect(times[199]! - times[0]!).toBeCloseTo(199 * interval, 3)
})

test('with a burst rate that is the rate, a delay stays', () => {
  const times = run(make(1000, 1e9, { burstRateRatio: 1 }), 1e9, 100, 50, 5000)
  expect(Math.min(...gapsOf(times))).toBeCloseTo(1000, 6)
  expect(times[99]! - times[0]!).toBeCloseTo(99 * 1000 + 5000 - 1000, -3)
})

test.for([
  [0, 1e6, 1e6, 0],
  [400, 1000, 600, 400],
  [400, 400, 0, 400],
  [1e6, 5000, 0, 5000],
] as const)(
  'with catchUpNanoseconds %i, %i ns without work forget %i and leave %i to catch up',
  ([catchUpNanoseconds, gap, forgotten, left]) => {
    const limiter = make(1000, 1e9, { catchUpNanoseconds })
    limiter.charge(1000, 1000, START, START, 0)
    const due = START + 1000
    expect([limiter.resume(due), limiter.resume(due + gap)]).toEqual([0, forgotten])
    expect(limiter.lag(due + gap)).toBe(left)
  },
)

test('work that came before its time has no gap behind it', () => {
  const limiter = make(1000, 1e9)
  limiter.charge(1000, 1000, START, START, 0)
  expect(limiter.resume(START + 300)).toBe(0)
  expect(limiter.lag(START + 300)).toBe(-700)
})

test('what is below a burst is allowed and remembered until it is paid for', () => {
  const limiter = make(1000, 1e9)
  expect(limiter.allowance(START)).toBe(1000)
  limiter.charge(400, 400, START, START, 0)
  expect(limiter.allowance(START + 300)).toBe(600)
  limiter.charge(600, 600, START + 300, START + 300, 0)
  expect(limiter.allowance(START + 300)).toBe(0)
  expect(limiter.next(1000)).toBe(START + 1000)
  expect(limiter.allowance(START + 1000)).toBe(1000)
})

test('behind, the bucket fills at the burst rate', () => {
  const limiter = make(1000, 1e9, { burstRateRatio: 1.25 })
  const late = START + 1e6
  limiter.charge(1000, 1000, late, late, 0)
  expect(limiter.allowance(late)).toBe(0)
  expect(limiter.allowance(late + 200)).toBe(250)
  expect(limiter.next(500)).toBeCloseTo(late + 800, 6)
  // Woken late again and again, it asks to be woken earlier, but not before what is to go fits.
  for (let i = 0; i < 100; i++) limiter.charge(0, 0, late + 200, late + 200, 700)
  expect(limiter.next(500)).toBeCloseTo(late + 400, 0)
  expect(limiter.next(100)).toBeCloseTo(late + 200, 0)
})

test('a thread that lost its CPU while it posted may have sent only then', () => {
  const limiter = make(1000, 1e9, { burstRateRatio: 1.25 })
  for (let i = 0; i < 100; i++) limiter.charge(0, 0, START, START + 50, 0)
  const late = START + 1e6
  limiter.charge(1000, 1000, late, late + 5050, 0)
  expect(limiter.allowance(late + 5050)).toBeLessThan(100)
  expect(limiter.allowance(late + 5000 + 400)).toBeCloseTo(500, -1)
  const later = late + 1e6
  expect(limiter.allowance(later)).toBe(1000)
  limiter.charge(1000, 1000, later, later + 60, 0)
  expect(limiter.allowance(later + 400)).toBe(500)
})

test('cost and bytes are separate: an unlimited heap costs nothing', () => {
  const limiter = make(1000, 1e9)
  limiter.charge(1000, 0, START, START, 0)
  expect(limiter.allowance(START)).toBe(1000)
})
