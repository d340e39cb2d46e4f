/** When a thread may spin: not while others want its CPU, and again when they have gone. A clock of the test's own. */
import { expect, test } from 'vitest'
import { Contention, runDelayNanoseconds } from '#dist/src/engine/contention.js'
import { need } from '../support/need.js'

const MS = 1e6

/** A thread that is kept waiting for `share` of the time. */
class Host {
  now = 0
  delay = 0
  share = 0
  readonly contention = new Contention(() => this.delay)

  pass(milliseconds: number): boolean {
    this.now += milliseconds * MS
    this.delay += this.share * milliseconds * MS
    return this.contention.maySpin(this.now)
  }

  /** An offer of the CPU that comes back so much later. */
  offer(milliseconds: number): void {
    const before = this.now
    this.now += milliseconds * MS
    this.contention.note(before, this.now)
  }

  /** Milliseconds until it may spin again. */
  pause(): number {
    const from = this.now
    for (let i = 0; i < 100_000; i++) if (this.pass(1)) return (this.now - from) / MS
    return Number.POSITIVE_INFINITY
  }
}

test('brief offers are none of anybody else', () => {
  const host = new Host()
  for (let i = 0; i < 1000; i++) host.offer(0.199)
  expect(host.pass(0)).toBe(true)
})

test('a yield that takes 3 ms ends spinning for 0.2 s', () => {
  const host = new Host()
  host.offer(3)
  expect(host.pass(0)).toBe(false)
  expect(host.pause()).toBe(200)
})

test('while the thread is kept waiting it does not spin, however long that lasts', () => {
  const host = new Host()
  host.share = 0.2
  host.offer(3)
  for (let ms = 0; ms < 20_000; ms += 10) expect(host.pass(10)).toBe(false)
  host.share = 0
  // At the end of the pause under way, and of one more: half of the first was busy.
  expect(host.pause()).toBeLessThanOrEqual(400)
})

test('pauses double while the calm behind them does not last, and are short again after a longer one', () => {
  const host = new Host()
  const pauses = Array.from({ length: 6 }, () => {
    host.offer(3)
    return host.pause()
  })
  expect(pauses).toEqual([200, 400, 800, 1600, 1600, 1600])
  expect(host.pass(1700)).toBe(true)
  host.offer(3)
  expect(host.pause()).toBe(200)
})

test('where the kernel does not say, pauses alone decide', () => {
  const contention = new Contention(() => Number.NaN)
  contention.note(0, 3 * MS)
  expect(contention.maySpin(100 * MS)).toBe(false)
  expect(contention.maySpin(203 * MS)).toBe(true)
})

test('the kernel tells how long this thread waited', (ctx) => {
  const first = runDelayNanoseconds()
  need(ctx, !Number.isNaN(first), 'this kernel has no /proc/thread-self/schedstat')
  expect(first).toBeGreaterThanOrEqual(0)
  expect(runDelayNanoseconds()).toBeGreaterThanOrEqual(first)
})
