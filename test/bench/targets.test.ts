import { describe, expect, test } from 'vitest'
import type { Row } from '../../scripts/bench/points.mjs'
import { targetLines } from '../../scripts/bench/targets.mjs'

const KiB = 1024
const MiB = 1024 * KiB

/** Six equal rounds of one size: the interval is the value itself. */
function rounds(heapSizeBytes: number, rates: Record<string, number>, more: Row = {}): Row[] {
  const one = (round: number) =>
    Object.entries(rates).map(([program, megabytes]) => ({
      ...{ kind: 'run', program, heapSizeBytes, packetSizeBytes: 9000, pointBatches: 4, round, attempt: 0 },
      payloadBytesPerSecond: megabytes * 1e6,
      ...more,
    }))
  return Array.from({ length: 6 }, (_, round) => one(round)).flat()
}
const lineOf = (rows: Row[], start: string) => targetLines(rows).find((line) => line.trim().startsWith(start))

describe('over spead2', () => {
  // The least ratio at each end of its bands.
  const sendmmsg: [number, number][] = [
    [256, 2.5],
    [KiB, 2.5],
    [2 * KiB, 1.7],
    [4 * KiB, 1.7],
    [8 * KiB, 1.5],
    [512 * KiB, 1.5],
    [MiB, 1.1],
    [4 * MiB, 1.1],
    [8 * MiB, 0.95],
    [64 * MiB, 0.95],
  ]
  const zeroCopy: [number, number][] = [
    [256, 3],
    [KiB, 3],
    [2 * KiB, 2],
    [512 * KiB, 2],
    [MiB, 1.6],
    [64 * MiB, 1.6],
  ]
  const all = [...sendmmsg.map((row) => ['ours-sendmmsg', ...row] as const), ...zeroCopy.map((row) => ['ours', ...row] as const)]
  test.each(all)('%s at %d bytes must reach %f', (program, size, least) => {
    const at = (ratio: number) => lineOf(rounds(size, { [program]: ratio * 1000, 'spead2-wheel': 1000 }), `${program}/spead2-wheel`)
    expect(at(least)).toContain(`≥ ${least}: met, 1 of 1 sizes`)
    expect(at(least - 0.01)).toContain(`≥ ${least}: MISSED, 0 of 1 sizes`)
  })

  test('the worst size of a band decides; spead2 from source is shown and not judged', () => {
    const rows = [
      ...rounds(8 * KiB, { 'ours-sendmmsg': 3000, 'spead2-wheel': 1000, spead2: 4000 }),
      ...rounds(64 * KiB, { 'ours-sendmmsg': 1400, 'spead2-wheel': 1000, spead2: 700 }),
    ]
    expect(lineOf(rows, 'ours-sendmmsg/spead2-wheel')).toBe(
      '  ours-sendmmsg/spead2-wheel, 8 KiB to 512 KiB, median ≥ 1.5: MISSED, 1 of 2 sizes, worst 1.40 [1.40…1.40] at 64 KiB; ' +
        'over spead2, not judged: 1 of 2 sizes, worst 0.75 [0.75…0.75] at 8 KiB',
    )
  })
})

describe('over the floor', () => {
  test('the lower end of the interval counts, from 4 KiB on', () => {
    const rows = [
      ...rounds(4 * KiB, { 'ours-sendmmsg': 900, floor: 1000 }),
      ...rounds(2 * KiB, { 'ours-sendmmsg': 100, floor: 1000 }),
    ]
    expect(lineOf(rows, 'ours-sendmmsg/floor')).toContain('lower bound ≥ 0.9: met, 1 of 1 sizes')
    // Six values: the interval reaches from the least to the greatest, and one bad round is its lower end though the median is
    // 0.95.
    const uneven = rounds(4 * KiB, { 'ours-sendmmsg': 950, floor: 1000 })
    uneven[0] = { ...uneven[0], payloadBytesPerSecond: 800e6 }
    expect(lineOf(uneven, 'ours-sendmmsg/floor')).toContain('MISSED, 0 of 1 sizes, worst 0.95 [0.80…0.95] at 4 KiB')
  })

  test('one round has no lower end', () => {
    const rows = rounds(4 * KiB, { 'ours-sendmmsg': 1000, floor: 1000 }).slice(0, 2)
    expect(lineOf(rows, 'ours-sendmmsg/floor')).toContain('MISSED, 0 of 1 sizes, worst 1.00 [one round]')
  })

  test('it is admitted at 8 and 64 KiB each, by 1.3', () => {
    const rows = [8 * KiB, 64 * KiB].flatMap((size) =>
      rounds(size, { floor: size === 8 * KiB ? 1300 : 1290, 'spead2-wheel': 1000 }),
    )
    expect(lineOf(rows, 'floor/spead2-wheel, 8 KiB')).toContain('met')
    expect(lineOf(rows, 'floor/spead2-wheel, 64 KiB')).toContain('MISSED')
  })
})

test('only the black hole is judged, each packet size by itself', () => {
  const rates = { 'ours-sendmmsg': 3000, 'spead2-wheel': 1000 }
  expect(targetLines(rounds(256, rates, { ground: 'veth' }))).toEqual([])
  expect(targetLines(rounds(256, rates, { ground: 'blackhole-gso1' }))).toEqual([])
  expect(targetLines(rounds(256, rates, { hogs: 1 }))).toEqual([])
  const both = targetLines([...rounds(256, rates), ...rounds(256, rates, { packetSizeBytes: 1472 })])
  expect(both.filter((line) => line.startsWith('UDP'))).toEqual([
    'UDP, black hole, packets ≤ 9000, 4 batches:',
    'UDP, black hole, packets ≤ 1472, 4 batches:',
  ])
})

describe('ibverbs', () => {
  const verbs = (mode: string, chain: number, costs: Record<string, number>): Row[] =>
    Object.entries(costs).map(([program, nanosecondsPerPacket]) => ({
      kind: 'verbs',
      mode,
      round: 0,
      program,
      chain,
      nanosecondsPerPacket,
    }))

  test.each([
    ['null', 1.4],
    ['model', 1.15],
  ])('%s: at most %f of the floor, from chains of 64 on', (mode, most) => {
    const cost = (ratio: number) => lineOf(verbs(mode, 64, { 'ours-two': 10 * ratio, floor: 10 }), 'chain 64, ours/floor')
    expect(cost(most)).toMatch(/met$/)
    expect(cost(most + 0.01)).toMatch(/MISSED$/)
    expect(targetLines(verbs(mode, 16, { 'ours-two': 1000, floor: 10 }))).toEqual([])
  })

  test('null: at most an eighth of spead2; model is not judged by it', () => {
    const cost = (mode: string, ours: number) =>
      lineOf(verbs(mode, 256, { 'ours-two': ours, spead2: 80 }), 'chain 256, ours/spead2')
    expect(cost('null', 10)).toMatch(/met$/)
    expect(cost('null', 10.1)).toMatch(/MISSED$/)
    expect(cost('model', 10)).toBeUndefined()
  })

  test('of a repeated round the last attempt counts', () => {
    const rows = [
      ...verbs('null', 64, { 'ours-two': 100, floor: 10 }).map((row) => ({ ...row, attempt: 0 })),
      ...verbs('null', 64, { 'ours-two': 12, floor: 10 }).map((row) => ({ ...row, attempt: 1 })),
    ]
    expect(lineOf(rows, 'chain 64, ours/floor')).toContain('1.20 [one round]: met')
  })
})

test.each([
  ['eventloop', 'medianAddedMilliseconds', 1],
  ['startup', 'workerAddedMilliseconds', 120],
  ['startup', 'inlineAddedMilliseconds', 50],
  ['rss', 'addedMegabytes', 45],
])('%s: %s is at most %d', (measure, field, most) => {
  const row = (value: number): Row => ({
    ...{ kind: 'measure', measure, workerAddedMilliseconds: 0, inlineAddedMilliseconds: 0 },
    [field]: value,
  })
  const verdicts = (value: number) => targetLines([row(value)]).map((line) => line.split(': ').at(-1))
  expect(verdicts(most)).not.toContain('MISSED')
  expect(verdicts(most)).toContain('met')
  expect(verdicts(most + 0.01).filter((end) => end === 'MISSED')).toHaveLength(1)
})
