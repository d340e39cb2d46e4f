/**
 * When the thread that sends is woken, on a clock of the test's own. The gain is measured (docs/bench/README.md, "A busy machine, and
 * senders that keep a rate").
 */
import { beforeEach, expect, test } from 'vitest'
import { Contention } from '#dist/src/engine/contention.js'
import { Doorbell } from '#dist/src/engine/doorbell.js'

const RAPID_NANOSECONDS = 10_000
const SLOW_NANOSECONDS = 100_000

let now: number
let wakes: number
let later: (() => void)[]
const tools = { now: () => now, wake: () => void wakes++, later: (ring: () => void) => void later.push(ring) }

beforeEach(() => {
  now = 0
  wakes = 0
  later = []
})

const calm = new Contention(new Int32Array(1), () => false)
/** An offer of the CPU came back late. */
const busy = new Contention(new Int32Array(1), () => true)
busy.note(0, 6e6)

/** Submits `count` times; returns the wake-ups that each submission brought. */
function submit(doorbell: Doorbell, count: number, gap: number): number[] {
  return Array.from({ length: count }, () => {
    const before = wakes
    doorbell.submitted()
    now += gap
    return wakes - before
  })
}

test('on a calm host at once', () => {
  expect(submit(new Doorbell(tools, calm), 4, RAPID_NANOSECONDS)).toEqual([1, 1, 1, 1])
  expect(later).toEqual([])
})

test('of a stream with a rate at once, beside others too', () => {
  expect(submit(new Doorbell(tools, undefined), 4, RAPID_NANOSECONDS)).toEqual([1, 1, 1, 1])
})

test('beside others once for all that comes at once: when the caller has nothing more to run', () => {
  const doorbell = new Doorbell(tools, busy)
  expect(submit(doorbell, 4, RAPID_NANOSECONDS)).toEqual([1, 0, 0, 0])
  expect(later).toHaveLength(1)
  later[0]!()
  expect(wakes).toBe(2)
})

test('or when the caller waits for a batch, and not twice', () => {
  const doorbell = new Doorbell(tools, busy)
  submit(doorbell, 4, RAPID_NANOSECONDS)
  doorbell.ring()
  later[0]!()
  expect(wakes).toBe(2)
  doorbell.ring()
  expect(wakes).toBe(2)
})

test('beside others at once where the caller takes its time for each', () => {
  expect(submit(new Doorbell(tools, busy), 4, SLOW_NANOSECONDS)).toEqual([1, 1, 1, 1])
})

test('one that comes late wakes for those that were kept back', () => {
  const doorbell = new Doorbell(tools, busy)
  submit(doorbell, 2, RAPID_NANOSECONDS)
  now += SLOW_NANOSECONDS
  expect(submit(doorbell, 1, 0)).toEqual([1])
  later[0]!()
  expect(wakes).toBe(2)
})
