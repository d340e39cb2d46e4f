// The tables of --measure growth, from rows made by hand.
import { expect, test } from 'vitest'
import { chainTable, growthTable } from '../../scripts/bench/growth.mjs'

const row = (round: number, streams: number, nanoseconds: number) => ({
  sweep: 'streams',
  round,
  streams,
  heaps: 64,
  cpuNanosecondsPerHeap: nanoseconds,
  cpuNanosecondsPerBatch: 64 * nanoseconds,
  openMilliseconds: 50 * streams,
  compileMilliseconds: 8 * streams,
  rssBytes: 100e6,
})

test('ratios are taken within a round', () => {
  // Twice as slow a machine in the second round: the medians hide that the ratio is 3 in every one.
  const rows = [row(0, 1, 100), row(0, 4, 300), row(1, 1, 200), row(1, 4, 600), row(2, 1, 110), row(2, 4, 330)]
  const lines = growthTable(rows).split('\n')
  expect(lines[0]).toBe('| streams | CPU ns a heap | CPU µs a batch | open ms | compile ms a batch | RSS MB |')
  expect(lines[2]).toBe('| 1 | 110 | 7.0 | 50 | 2.00 | 100 |')
  expect(lines[3]).toBe('| 4 | 330 (3.0 ×) | 21.1 (3.0 ×) | 200 (4.0 ×) | 2.00 (1.0 ×) | 100 (1.0 ×) |')
})

test('a chain is shown by heap and by batch', () => {
  const rows = [1, 4].flatMap((chain) => [300, 320, 310].map((ns) => ({ chain, nanosecondsPerPacket: ns / chain })))
  expect(chainTable(rows).split('\n').slice(2)).toEqual(['| 1 | 310.0 | 0.31 |', '| 4 | 77.5 (0.25 ×) | 0.31 |'])
})
