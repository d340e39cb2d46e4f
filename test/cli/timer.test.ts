// Timers beyond what Node's take, on a clock that the test moves.
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { callAt } from '#dist/src/cli/common/timer.js'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }))
afterEach(() => void vi.useRealTimers())

test.for([1, 50.5, 2 ** 31 - 1, 2 ** 31, 2 ** 31 + 7, 5 * 2 ** 31])('after %d ms, and not before', (ms) => {
  let calls = 0
  callAt(performance.now() + ms, () => calls++)
  vi.advanceTimersByTime(Math.ceil(ms) - 1)
  expect(calls).toBe(0)
  vi.advanceTimersByTime(1)
  expect(calls).toBe(1)
  vi.advanceTimersByTime(2 ** 32)
  expect(calls).toBe(1)
})

test('undone between two waits, it never comes', () => {
  let calls = 0
  const undo = callAt(performance.now() + 3 * 2 ** 31, () => calls++)
  vi.advanceTimersByTime(2 ** 32)
  undo()
  vi.advanceTimersByTime(2 ** 33)
  expect(calls).toBe(0)
})
