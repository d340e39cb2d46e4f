// Finds bytes that leave back to back, in times and sizes written by hand.
import { expect, test } from 'vitest'
import { burstGap, burstsOf, runsOf } from '../../scripts/bench/bursts.mjs'

const pacing = { rateBytesPerSecond: 125e6, burstBytes: 65536, burstRateRatio: 1.05 }

test('packets nearer than the gap are one run; one that comes a gap later begins the next', () => {
  const packets: [number, number][] = [
    [0, 1],
    [9, 2],
    [18, 4],
    [28, 8],
    [37, 16],
  ]
  expect(runsOf(packets, 10)).toEqual([7, 24])
  expect(runsOf(packets, 11)).toEqual([31])
  expect(runsOf([], 10)).toEqual([])
})

test('the gap is a quarter of what a burst takes at the burst rate', () => {
  // 65536 bytes at 125 MB/s take 524,288 ns, at 1.05 of it 499,322.
  expect(burstGap(pacing)).toBeCloseTo(499_321.9 / 4, 0)
})

test('a run may hold a burst and one packet more', () => {
  const burst = (at: number, packets: number): [number, number][] =>
    Array.from({ length: packets }, (_, i) => [at + 5000 * i, 8192])
  // 8 packets are a burst; 9 are allowed; 10 are too many.
  expect(burstsOf([...burst(0, 8), ...burst(1e6, 9), ...burst(2e6, 10), ...burst(3e6, 1)], pacing)).toEqual({
    runs: 4,
    backToBackBytes: 81920,
    packetBytes: 8192,
    runsOver: 1,
  })
})
