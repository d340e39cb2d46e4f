// The targets of a busy host: rows written by hand at each limit and just short of it.
import { describe, expect, test } from 'vitest'
import type { Row } from '../../scripts/bench/points.mjs'
import { targetLines } from '../../scripts/bench/targets.mjs'

const KiB = 1024
const MiB = 1024 * KiB
const MACHINE: Row = { kind: 'machine', cpus: 2 }

/** Five rounds of each; a figure that is equal in all of them is its own median. */
const rounds = (each: (round: number) => Row[]): Row[] => [MACHINE, ...[0, 1, 2, 3, 4].flatMap(each)]
const run = (program: string, heapSizeBytes: number, rate: number, more: Row = {}): Row => ({
  ...{ kind: 'run', program, heapSizeBytes, packetSizeBytes: 9000, pointBatches: 4, attempt: 0, hogs: 0 },
  ...{ payloadBytesPerSecond: rate * 1e6, ...more },
})
const lineOf = (rows: Row[], start: string) => targetLines(rows).find((line) => line.trim().startsWith(start))

describe('unpaced, over spead2 from source', () => {
  const at = (program: string, size: number, hogs: number, ratio: number, idleRatio = 3) =>
    lineOf(
      rounds((round) => [
        run(program, size, 1000 * ratio, { round, hogs }),
        run('spead2', size, 1000, { round, hogs }),
        run(program, size, 1000 * idleRatio, { round }),
        run('spead2', size, 1000, { round }),
      ]),
      `${program}/spead2, ${size / KiB === 1024 ? '1 MiB' : `${size / KiB} KiB`}, beside ${hogs}`,
    )

  test.each([
    ['ours', 2, 1.3, 1.6],
    ['ours-sendmmsg', 2, 1.0, 1.2],
  ])('%s beside %d loops must reach %f, the aim is %f', (program, hogs, least, aim) => {
    for (const size of [8 * KiB, 64 * KiB, MiB]) {
      expect(at(program, size, hogs, aim)).toMatch(/: met, aim reached$/)
      expect(at(program, size, hogs, least)).toMatch(/: met, aim not$/)
      expect(at(program, size, hogs, least - 0.01)).toMatch(/: MISSED, aim not$/)
    }
    expect(at(program, 16 * KiB, hogs, 9)).toBeUndefined()
  })

  test.each([
    ['ours', 1.3],
    ['ours-sendmmsg', 1.05],
  ])('%s beside one loop must reach %f, the aim is what it reaches idle', (program, least) => {
    expect(at(program, 8 * KiB, 1, least, 1.5)).toMatch(/: met, aim not$/)
    expect(at(program, 8 * KiB, 1, 1.5, 1.5)).toMatch(/: met, aim reached$/)
    expect(at(program, 8 * KiB, 1, least - 0.01, 0.5)).toMatch(/: MISSED, aim reached$/)
  })
})

test.each([
  [1, 0.55, 0.7],
  [2, 0.35, 0.45],
])('ibverbs beside %d loops keeps %f of its own idle rate', (hogs, least, aim) => {
  const at = (share: number) =>
    lineOf(
      rounds((round) => [
        // Twice as fast a machine in every round: only shares within a round are the same.
        run('ours-ibverbs', 8 * KiB, 2 ** round * 1000, { round, ground: 'softnic' }),
        run('ours-ibverbs', 8 * KiB, 2 ** round * 1000 * share, { round, hogs, ground: 'softnic' }),
      ]),
      'ours-ibverbs, 8 KiB',
    )
  expect(at(aim)).toMatch(/: met, aim reached$/)
  expect(at(least)).toMatch(/: met, aim not$/)
  expect(at(least - 0.01)).toMatch(/MISSED/)
})

test.each([
  ['ours', 'before', 'blackhole', 16 * KiB, 0.97, 1],
  ['ours-sendmmsg', 'before-sendmmsg', 'blackhole', 256, 0.97, 1],
  ['ours-nofill', 'floor-nofill', 'blackhole', 256, 0.85, 1],
  ['ours-sendmmsg', 'floor', 'veth', 8 * KiB, 0.85, 1],
])('%s over %s on %s', (a, b, ground, size, least, aim) => {
  const at = (ratio: number, more: Row = {}) =>
    lineOf(
      rounds((round) => [run(a, size, 1000 * ratio, { round, ground, ...more }), run(b, size, 1000, { round, ground, ...more })]),
      `${a}/${b}, `,
    )
  expect(at(aim)).toMatch(/: met, aim reached$/)
  expect(at(least)).toMatch(/: met, aim not$/)
  expect(at(least - 0.01)).toMatch(/MISSED/)
  expect(at(1, { hogs: 2 })?.includes(`${ground}`) ?? false).toBe(false)
})

describe('paced', () => {
  const paced = (program: string, rateBytesPerSecond: number, hogs: number, error: number, cpu: number) => (round: number) => ({
    ...{ kind: 'pacing', program, rateBytesPerSecond, hogs, round, attempt: 0 },
    ...{ error, seconds: 5, cpuSeconds: 5 * cpu },
  })
  const at = (rate: number, hogs: number, [ours, spead2]: [number, number], cpu: [number, number], start: string) =>
    lineOf(
      rounds((round) => [paced('ours', rate, hogs, ours, cpu[0])(round), paced('spead2', rate, hogs, spead2, cpu[1])(round)]),
      start,
    )

  test('too fast is as wrong as too slow, and half a percent more than spead2 is allowed', () => {
    const off = (ours: number) => at(12.5e6, 2, [ours, -0.01], [1, 1], '100 Mb/s, beside 2 endless loops, off')
    expect(off(-0.0149)).toMatch(/≤ 1.50 % .*: met$/)
    expect(off(0.0149)).toMatch(/: met$/)
    expect(off(-0.0151)).toMatch(/: MISSED$/)
    expect(off(0.0151)).toMatch(/: MISSED$/)
    expect(at(12.5e6, 0, [0, 0], [1, 1], '100 Mb/s, idle, off')).toBeUndefined()
  })

  test('a thousandth is the aim at 1 Gb/s', () => {
    const off = (ours: number) => at(125e6, 2, [ours, 0], [1, 1], '1 Gb/s, beside 2 endless loops, off')
    expect(off(-0.001)).toMatch(/: met, aim reached$/)
    expect(off(-0.0011)).toMatch(/: met, aim not$/)
  })

  test('CPU time counts idle, at 100 Mb/s and 1 Gb/s', () => {
    const cpu = (rate: number, ours: number, hogs = 0) =>
      at(rate, hogs, [0, 0], [ours, 1], `${rate > 1e8 ? '1 G' : '100 M'}b/s, idle, CPU`)
    for (const rate of [12.5e6, 125e6]) {
      expect(cpu(rate, 0.7)).toMatch(/: met, aim reached$/)
      expect(cpu(rate, 1)).toMatch(/: met, aim not$/)
      expect(cpu(rate, 1.01)).toMatch(/MISSED/)
    }
    expect(cpu(625e6, 0.5)).toBeUndefined()
    expect(cpu(125e6, 0.05, 2)).toBeUndefined()
  })

  test('a burst and one packet may leave back to back, by the median of the rounds', () => {
    const bursts = (largest: number[]) =>
      lineOf(
        rounds((round) => [
          {
            ...{ kind: 'bursts', program: 'ours', rateBytesPerSecond: 125e6, burstBytes: 65536, hogs: 0, round, attempt: 0 },
            ...{ packetBytes: 8248, backToBackBytes: largest[round], runs: 10, runsOver: 0 },
          },
        ]),
        'back to back',
      )
    expect(bursts([73784, 73784, 73784, 99999, 99999])).toMatch(/≤ 73784 bytes: 73784, at most 99999: met$/)
    expect(bursts([73784, 73784, 73785, 73785, 73785])).toMatch(/: MISSED$/)
  })
})

test('64 streams: threads and memory are what they add to one stream', () => {
  const streams = (count: number, program: string, threads: number, megabytes: number, cpu: number, worstError: number) => ({
    ...{ kind: 'streams', streams: count, program, hogs: 0, attempt: 0, threads },
    ...{ rssBytes: megabytes * 1e6, seconds: 5, cpuSeconds: 5 * cpu, worstError },
  })
  const lines = (threads: number, megabytes: number, cpu: number, worstError: number) =>
    targetLines(
      rounds((round) =>
        [
          streams(1, 'ours', 12, 75, 0.05, 0),
          streams(64, 'ours', threads, megabytes, cpu, worstError),
          streams(64, 'spead2', 7, 67, 0.1, -0.5),
        ].map((row) => ({ ...row, round })),
      ),
    )
      .slice(1)
      .map((line) => line.split(': ').at(-1))
  // One of the 12 threads is the first stream's.
  expect(lines(15, 135, 0.1, -0.001)).toEqual(Array(4).fill('met, aim reached'))
  expect(lines(19, 195, 0.15, -0.01)).toEqual(Array(4).fill('met, aim not'))
  expect(lines(20, 196, 0.151, -0.0101)).toEqual(Array(4).fill('MISSED, aim not'))
})

test('by-substream: the worst number of substreams from 4 on counts, within rounds', () => {
  const cost = (times: number) =>
    lineOf(
      [
        MACHINE,
        {
          kind: 'measure',
          measure: 'growth',
          rows: [0, 1, 2].flatMap((round) =>
            [
              [1, 1],
              [4, 1.1],
              [64, times],
              [256, 1.2],
            ].map(([substreams, factor]) => ({
              ...{ sweep: 'by-substream', round, substreams },
              cpuNanosecondsPerHeap: 100 * (round + 1) * factor!,
            })),
          ),
        },
      ],
      'by-substream',
    )
  expect(cost(1.3)).toMatch(/1.30 \[1.30…1.30\] with 64: met, aim reached$/)
  expect(cost(2)).toMatch(/with 64: met, aim not$/)
  expect(cost(2.01)).toMatch(/: MISSED, aim not$/)
  expect(cost(1)).toMatch(/with 256: met, aim reached$/)
})

test("the main thread's cost of a heap beside the fill", () => {
  const cost = (besideFillNanoseconds: number) =>
    lineOf([MACHINE, { kind: 'measure', measure: 'mainthread', besideFillNanoseconds }], 'main thread')
  expect(cost(10)).toMatch(/: met, aim reached$/)
  expect(cost(20)).toMatch(/: met, aim not$/)
  expect(cost(20.1)).toMatch(/MISSED/)
})
