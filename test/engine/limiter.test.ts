import { expect, test } from 'vitest'
import { Limiter } from '#dist/src/engine/limiter.js'

/** Sends bursts of `bytes` at `rate` bytes per second as soon as allowed, on a clock that moves only by waiting. Returns the send times. */
function run(limiter: Limiter, bytes: number, rate: number, bursts: number, delayAt = -1, delay = 0): number[] {
  const times: number[] = []
  let now = 1e9
  limiter.wake(now)
  for (let i = 0; i < bursts; i++) {
    if (i === delayAt) now += delay
    now = Math.max(now, limiter.target)
    times.push(now)
    limiter.charge(bytes, (bytes * 1e9) / rate, now)
  }
  return times
}

test('65536-byte bursts at 40 Gb/s start exactly 13107.2 ns apart, without rounding drift', () => {
  const times = run(new Limiter(65536, 1.05), 65536, 5e9, 10_001)
  // The start lets one burst go at once; from the second on the distance is the rate's.
  expect((times[10_000]! - times[1]!) / 9999).toBeCloseTo(13107.2, 6)
})

test('after a delay it catches up, no faster than rate × burstRateRatio, and then keeps the average', () => {
  const interval = 1000
  const times = run(new Limiter(1000, 1.25), 1000, 1e9, 200, 50, 10_000)
  const gaps = times.slice(1).map((time, i) => time - times[i]!)
  // The late burst's successor may follow at once (the burst clock restarts there), then the burst rate holds.
  expect(gaps[50]).toBe(0)
  expect(Math.min(...gaps.slice(51, 99))).toBeGreaterThanOrEqual(interval / 1.25 - 1e-6)
  expect(gaps[60]).toBeCloseTo(interval / 1.25, 6)
  expect(times[199]! - times[0]!).toBeCloseTo(199 * interval, 3)
})

test('an idle time is not caught up on', () => {
  const limiter = new Limiter(1000, 1.05)
  const first = run(limiter, 1000, 1e9, 10)
  const idleUntil = first[9]! + 1e9
  limiter.wake(idleUntil)
  let now = idleUntil
  const times: number[] = []
  for (let i = 0; i < 10; i++) {
    now = Math.max(now, limiter.target)
    times.push(now)
    limiter.charge(1000, 1000, now)
  }
  expect(times[9]! - times[1]!).toBeGreaterThanOrEqual(8 * (1000 / 1.05) - 1e-6)
})

test('what is below a burst is allowed and remembered', () => {
  const limiter = new Limiter(1000, 1.05)
  expect(limiter.allowanceBytes).toBe(1000)
  limiter.charge(400, 400, 0)
  expect(limiter.target).toBe(0)
  expect(limiter.allowanceBytes).toBe(600)
  limiter.charge(700, 700, 0)
  expect(limiter.target).toBeGreaterThan(0)
  expect(limiter.allowanceBytes).toBe(1000)
})

test('cost and bytes are separate: an unlimited heap costs nothing', () => {
  const limiter = new Limiter(1000, 1.05)
  limiter.wake(5000)
  limiter.charge(1000, 0, 5000)
  expect(limiter.target).toBeLessThanOrEqual(5000)
})
