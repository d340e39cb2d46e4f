// From rows of --verbs to tables and verdicts. Pure.
import { groupBy, lastAttempts } from './points.mjs'
import { median, summarise } from './statistics.mjs'
import { showRatio, table, verdict } from './text.mjs'

const OURS = 'ours-two'
const FROM_CHAIN = 64
/** The most that our CPU per packet may be over the floor's. */
const MOST_OF_FLOOR = { null: 1.4, model: 1.15 }
const MOST_OF_SPEAD2 = { null: 1 / 8 }
/** The columns, by the programs of the rows. */
const PROGRAMS = {
  floor: 'C floor',
  'ours-two': 'ours, 2 SGEs',
  'ours-one': 'ours, 1 SGE',
  spead2: 'spead2',
  raw_ethernet_bw: 'raw_ethernet_bw',
}

const byMode = (rows) => [...groupBy(rows, (row) => row.mode)].map(([mode, own]) => [mode, lastAttempts(own).flat()])
const chainsOf = (rows) => [...new Set(rows.map((row) => row.chain))].toSorted((a, b) => a - b)
const of = (rows, program, chain) => rows.filter((row) => row.program === program && row.chain === chain)

/** Ratios of CPU per packet within a round: below 1 is better. */
export function costRatio(rows, a, b, chain) {
  const others = new Map(of(rows, b, chain).map((row) => [row.round, row.nanosecondsPerPacket]))
  const own = of(rows, a, chain).filter((row) => others.has(row.round))
  return summarise(own.map((row) => row.nanosecondsPerPacket / others.get(row.round)))
}

const inverse = (r) => r && { median: 1 / r.median, low: r.high && 1 / r.high, high: r.low && 1 / r.low }
const showCost = (values) => (values.length ? median(values).toFixed(values.every((v) => v >= 100) ? 0 : 1) : '–')

export function verbsReport(rows) {
  return byMode(rows)
    .map(([mode, own]) => {
      const programs = Object.keys(PROGRAMS).filter((name) => own.some((row) => row.program === name))
      const lines = chainsOf(own).map((chain) => [
        chain,
        ...programs.map((name) => showCost(of(own, name, chain).map((row) => row.nanosecondsPerPacket))),
        showRatio(costRatio(own, OURS, 'floor', chain)),
        showRatio(inverse(costRatio(own, OURS, 'spead2', chain)), 1),
      ])
      const rounds = new Set(own.map((row) => row.round)).size
      const head = ['chain', ...programs.map((name) => PROGRAMS[name]), 'ours/floor', 'spead2/ours']
      return `\nsoftware NIC, ${mode}: ns of CPU per packet, our side of the verbs ABI; medians of ${rounds} rounds, ratios [95 % interval]\n${table(head, lines)}`
    })
    .join('\n')
}

export function verbsTargets(rows) {
  return byMode(rows).flatMap(([mode, own]) => {
    const lines = []
    for (const chain of chainsOf(own).filter((n) => n >= FROM_CHAIN)) {
      const floor = costRatio(own, OURS, 'floor', chain)
      const spead2 = costRatio(own, OURS, 'spead2', chain)
      if (floor && MOST_OF_FLOOR[mode])
        lines.push(
          `  chain ${chain}, ours/floor ≤ ${MOST_OF_FLOOR[mode]}: ${showRatio(floor)}: ${verdict(floor.median <= MOST_OF_FLOOR[mode])}`,
        )
      if (spead2 && MOST_OF_SPEAD2[mode])
        lines.push(
          `  chain ${chain}, ours/spead2 ≤ 1/${1 / MOST_OF_SPEAD2[mode]}: 1/${showRatio(inverse(spead2), 1)}: ${verdict(spead2.median <= MOST_OF_SPEAD2[mode])}`,
        )
    }
    return lines.length ? [`ibverbs on the software NIC, ${mode}:`, ...lines] : []
  })
}
