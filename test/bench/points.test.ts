import { expect, test } from 'vitest'
import { groups, pointKey, points, progress, type Row, rate, ratio, share } from '../../scripts/bench/points.mjs'

const run = (program: string, megabytes: number, more: Row = {}): Row => ({
  ...{ kind: 'run', program, heapSizeBytes: 8192, packetSizeBytes: 9000, pointBatches: 4, round: 0, attempt: 0 },
  payloadBytesPerSecond: megabytes * 1e6,
  ...more,
})

test('ratios are taken within a round, and of rounds that ran both', () => {
  const rows = [
    ...[run('a', 200), run('b', 100)],
    ...[run('a', 900, { round: 1 }), run('b', 300, { round: 1 })],
    ...[run('a', 50, { round: 2 }), run('b', 10, { round: 2 })],
    run('a', 7000, { round: 3 }),
  ]
  const [point] = points(rows)
  // 2, 3, 5; the ratio of the medians would be 550 / 100.
  expect(ratio(point!, 'a', 'b')).toMatchObject({ median: 3, least: 2, most: 5, n: 3 })
  expect(rate(point!, 'a')).toMatchObject({ median: 550e6, n: 4 })
  expect(ratio(point!, 'a', 'c')).toBeUndefined()
})

test('a share of the idle rate is taken within rounds of one number, by their last attempts', () => {
  const rows = [
    ...[run('a', 1000), run('a', 2000, { round: 1 }), run('a', 4000, { round: 1, attempt: 1 }), run('a', 8000, { round: 7 })],
    ...[run('a', 500, { hogs: 2 }), run('a', 1000, { hogs: 2, round: 1 }), run('a', 9000, { hogs: 2, round: 5 })],
  ]
  const [idle, busy] = points(rows)
  // 500 / 1000 and 1000 / 4000; rounds 5 and 7 have no other.
  expect(share(busy!, idle!, 'a')).toMatchObject({ least: 0.25, most: 0.5, n: 2 })
  expect(share(busy!, idle!, 'b')).toBeUndefined()
})

test('of a round that was repeated the last attempt counts', () => {
  const rows = [run('a', 100), run('b', 100), run('a', 300, { attempt: 1 }), run('b', 100, { attempt: 1 })]
  const [point] = points(rows)
  expect(ratio(point!, 'a', 'b')).toMatchObject({ median: 3, n: 1 })
  expect(point!.repeated).toBe(1)
})

test('ground, packet size, batches and hogs make points of their own; a row without them is of the black hole, idle', () => {
  const rows = [
    run('a', 1),
    run('a', 2, { ground: 'blackhole', round: 1 }),
    run('a', 3, { ground: 'veth' }),
    run('a', 4, { packetSizeBytes: 1472 }),
    run('a', 5, { pointBatches: 2 }),
    run('a', 6, { hogs: 2 }),
    run('a', 7, { hogs: 0, round: 2 }),
  ]
  const all = points(rows)
  expect(all.map((point) => [point.ground, point.packetSizeBytes, point.batches, point.hogs, point.rounds.length])).toEqual([
    ['blackhole', 9000, 4, 0, 3],
    ['veth', 9000, 4, 0, 1],
    ['blackhole', 1472, 4, 0, 1],
    ['blackhole', 9000, 2, 0, 1],
    ['blackhole', 9000, 4, 2, 1],
  ])
})

test('a group is in the order of heap sizes, whatever order they were run in', () => {
  const rows = [run('a', 1, { heapSizeBytes: 65536 }), run('a', 1), run('a', 1, { heapSizeBytes: 256 })]
  expect(groups(points(rows)).map((group) => group.map((point) => point.heapSizeBytes))).toEqual([[256, 8192, 65536]])
})

test('a round is complete when it ran every program; numbers go on behind all there are', () => {
  const rows = [run('a', 1), run('b', 1), run('a', 1, { round: 1 }), run('a', 1, { round: 4, ground: 'veth' })]
  const key = pointKey(run('a', 1))
  expect(progress(rows, key, ['a', 'b'])).toEqual({ complete: 1, next: 2 })
  expect(progress(rows, key, ['a'])).toEqual({ complete: 2, next: 2 })
  expect(progress(rows, pointKey(run('a', 1, { heapSizeBytes: 256 })), ['a'])).toEqual({ complete: 0, next: 0 })
  expect(progress(rows, pointKey(run('a', 1, { hogs: 1 })), ['a'])).toEqual({ complete: 0, next: 0 })
})
