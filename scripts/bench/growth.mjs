// How cost grows with heaps per batch, items per heap, substreams and streams: growth-ours.mjs at each point, all points of a round
// in turn. Ratios are within a round, to the smallest point of the row.
import { existsSync } from 'node:fs'
import { at } from '../lib/process.mjs'
import { DESTINATION } from './blackhole.mjs'
import { openNic } from './nic.mjs'
import { median } from './statistics.mjs'

const PROGRAM = at('scripts/bench/growth-ours.mjs')
/** Most rounds, because one takes more than a minute. */
const ROUNDS = 3

/** name → the numbers that vary, and the program's other options. */
export const SWEEPS = {
  heaps: { what: 'heaps a batch', points: [1, 4, 16, 64, 256, 1024, 4096] },
  items: { what: 'items a heap', points: [1, 4, 16, 64] },
  substreams: { what: 'substreams', points: [1, 4, 16, 64, 256], with: ['--heaps', 256] },
  blocks: { what: 'substreams, in blocks', points: [1, 4, 16, 64, 256], varies: 'substreams', with: ['--heaps', 256, '--blocks'] },
  // A message holds 60 heaps (of 1080 bytes, in 65507), so 15360 heaps give each of 256 substreams one message.
  'by-substream': {
    what: 'substreams, by substream',
    points: [1, 4, 16, 64, 256],
    varies: 'substreams',
    with: ['--heaps', 15360, '--group-mode', 'by-substream', '--warmup-batches', 200],
  },
  streams: { what: 'streams', points: [1, 4, 16, 64] },
}

const COLUMNS = [
  ['CPU ns a heap', 'cpuNanosecondsPerHeap', 0],
  ['CPU µs a batch', (row) => row.cpuNanosecondsPerBatch / 1000, 1],
  ['open ms', 'openMilliseconds', 0],
  ['compile ms a batch', (row) => row.compileMilliseconds / (4 * row.streams), 2],
  ['RSS MB', (row) => row.rssBytes / 1e6, 0],
]
const cellOf = (row, field) => (typeof field === 'function' ? field(row) : row[field])

/** Markdown: medians over the rounds, in brackets how many times the smallest point's, likewise. Pure. */
export function growthTable(rows) {
  return Object.entries(SWEEPS)
    .filter(([sweep]) => rows.some((row) => row.sweep === sweep))
    .map(([sweep, { what, varies = sweep }]) => {
      const points = [...new Set(rows.filter((row) => row.sweep === sweep).map((row) => row[varies]))]
      const of = (point) => rows.filter((row) => row.sweep === sweep && row[varies] === point)
      const first = of(points[0])
      const lines = points.map((point) => {
        const own = of(point)
        const cells = COLUMNS.map(([, field, digits]) => {
          const ratios = own.map(
            (row) =>
              cellOf(row, field) /
              cellOf(
                first.find(({ round }) => round === row.round),
                field,
              ),
          )
          const shown = median(own.map((row) => cellOf(row, field))).toFixed(digits)
          return point === points[0] ? shown : `${shown} (${median(ratios).toPrecision(2)} ×)`
        })
        return `| ${[point, ...cells].join(' | ')} |`
      })
      const head = [what, ...COLUMNS.map(([name]) => name)]
      return [`| ${head.join(' | ')} |`, `|${'---|'.repeat(head.length)}`, ...lines].join('\n')
    })
    .join('\n\n')
}

/**
 * Heaps of 8 KiB, a packet each, posted through libibverbs to the software NIC, which delivers nothing: a batch is a chain. Pure.
 */
export function chainTable(rows) {
  const lengths = [...new Set(rows.map(({ chain }) => chain))]
  const costs = lengths.map((length) => median(rows.filter(({ chain }) => chain === length).map((row) => row.nanosecondsPerPacket)))
  const lines = lengths.map((length, i) => {
    const times = i === 0 ? '' : ` (${(costs[i] / costs[0]).toPrecision(2)} ×)`
    return `| ${length} | ${costs[i].toFixed(1)}${times} | ${((costs[i] * length) / 1000).toFixed(2)} |`
  })
  return ['| heaps a batch, ibverbs | CPU ns a heap | CPU µs a batch |', '|---|---|---|', ...lines].join('\n')
}

async function chains(rounds, packets) {
  const nic = await openNic('-nic')
  const rows = []
  try {
    for (let round = 0; round < rounds; round++)
      for (const row of await nic.ours('null', packets, 'one', SWEEPS.heaps.points)) rows.push({ round, ...row })
  } finally {
    nic.close()
  }
  return rows
}

/** One round of a sweep: a row for each point. */
async function sweepRound(hole, sweep, round) {
  const { points, varies = sweep, with: more = [] } = SWEEPS[sweep]
  const rows = []
  for (const point of points) {
    const output = await hole.run([process.execPath, PROGRAM, ...more, `--${varies}`, point, DESTINATION].map(String))
    const row = { sweep, round, ...JSON.parse(output) }
    rows.push(row)
    process.stderr.write(`round ${round + 1}, ${point} ${sweep}: ${Math.round(row.cpuNanosecondsPerHeap)} ns a heap\n`)
  }
  return rows
}

export async function growth(hole, { repeats, packets, sweeps }) {
  const rounds = sweeps ? repeats : Math.min(repeats, ROUNDS)
  const asked = sweeps ?? [...Object.keys(SWEEPS), 'chains']
  const rows = []
  for (let round = 0; round < rounds; round++)
    for (const sweep of Object.keys(SWEEPS)) if (asked.includes(sweep)) rows.push(...(await sweepRound(hole, sweep, round)))
  const hasVerbs = existsSync('/usr/include/infiniband/verbs.h')
  const verbs = hasVerbs && asked.includes('chains') ? await chains(rounds, packets) : []
  if (rows.length > 0) console.log(growthTable(rows))
  if (verbs.length > 0) console.log(`\n${chainTable(verbs)}`)
  else if (!hasVerbs) console.log('\nibverbs is left out: libibverbs-dev is not installed')
  // Prints nothing where everything asked for was left out.
  return rows.length + verbs.length > 0 ? { program: 'ours', rows, verbs } : undefined
}
