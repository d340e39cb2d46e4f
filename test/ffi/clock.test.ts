// The kernel's clocks against Python's, and its opinion of them against adjtimex(8)'s words by ctypes.
import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { clockOpinion, TaiClock } from '#dist/ffi/clock.js'
import { need } from '../support/need.js'

const python = (program: string): number[] =>
  execFileSync('python3', ['-c', program], { encoding: 'utf8' }).trim().split(/\s+/).map(Number)

test('TAI and the monotonic clock go by the kernel’s', (ctx) => {
  need(ctx, process.platform === 'linux', 'adjtimex and CLOCK_TAI are Linux’s')
  const clock = new TaiClock()
  clock.read()
  const first = { ...clock }
  const [tai, monotonic] = python('import time; print(time.clock_gettime_ns(11), time.monotonic_ns())') as [number, number]
  clock.read()
  const between = (low: number, value: number, high: number) => value >= low && value <= high
  expect(between(first.seconds * 1e9 + first.nanoseconds - 1000, tai, clock.seconds * 1e9 + clock.nanoseconds + 1000)).toBe(true)
  expect(between(first.at, monotonic, clock.at)).toBe(true)
  expect(clock.nanoseconds).toBeLessThan(1e9)
  expect(clock.uncertainty).toBeLessThan(1e6)
})

test('the kernel’s opinion is what another program hears', (ctx) => {
  need(ctx, process.platform === 'linux', 'adjtimex and CLOCK_TAI are Linux’s')
  const program = [
    'import ctypes, struct',
    'buf = ctypes.create_string_buffer(208)',
    'ctypes.CDLL(None).adjtimex(buf)',
    "print(struct.unpack_from('i', buf, 40)[0] >> 6 & 1, struct.unpack_from('i', buf, 160)[0])",
  ]
  const [unsynchronised, tai] = python(program.join('\n'))
  expect(clockOpinion()).toMatchObject({ synchronised: unsynchronised === 0, taiOffsetSeconds: tai })
})
