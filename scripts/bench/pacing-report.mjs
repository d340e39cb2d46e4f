// From rows of --measure pacing and --measure streams to tables. Pure.
import { groupBy, hogsOf, lastAttempts, pointKey } from './points.mjs'
import { median, summarise } from './statistics.mjs'
import { showHogs, showRate, showRatio, table } from './text.mjs'

const NAMES = { ours: 'speadcast', spead2: 'spead2' }

/** Every point of a kind of rows: what its rows have in common, and those of the attempts that count. */
export const pointsOf = (rows, kind) =>
  [
    ...groupBy(
      rows.filter((row) => row.kind === kind),
      pointKey,
    ).values(),
  ].map((own) => ({
    ...own[0],
    hogs: hogsOf(own[0]),
    runs: lastAttempts(own).flat(),
  }))

/** A program's runs at a point, by round. */
export const seriesOf = (point, program, of) => point.runs.filter((row) => row.program === program).map(of)

/** Ratios of speadcast to spead2 within each round that has both; undefined if none has. */
export function againstSpead2(point, of) {
  const others = new Map(point.runs.filter((row) => row.program === 'spead2').map((row) => [row.round, of(row)]))
  const own = point.runs.filter((row) => row.program === 'ours' && others.has(row.round))
  return summarise(own.map((row) => of(row) / others.get(row.round)))
}

/** Seconds of CPU time in a second. */
export const cpuOf = (row) => row.cpuSeconds / row.seconds
/** Deviation from the rate, without its sign. */
export const missOf = (row) => Math.abs(row.error)

const percent = (digits) => (value) => `${(100 * value).toFixed(digits)} %`
const bytes = (value) => Math.round(value).toLocaleString('en')
const megabytes = (value) => Math.round(value / 1e6)

/** `columns`: [head, what of a row, how it is shown, least…most too?] */
function medianTable(head, all, nameOf, columns, more = []) {
  const programs = Object.keys(NAMES)
  const names = programs.flatMap((program) => columns.map(([column]) => `${NAMES[program]} ${column}`))
  const cell = (values, [, , show, range]) => {
    if (values.length === 0) return '–'
    return range ? `${show(median(values))} [${show(Math.min(...values))}…${show(Math.max(...values))}]` : show(median(values))
  }
  const lines = all.map((point) => [
    nameOf(point),
    ...programs.flatMap((program) => columns.map((column) => cell(seriesOf(point, program, column[1]), column))),
    ...more.map(([, of]) => of(point)),
  ])
  return table([head, ...names, ...more.map(([name]) => name)], lines)
}

const roundsOf = (all) => Math.min(...all.map((point) => new Set(point.runs.map((row) => row.round)).size))
const cpuAgainst = ['CPU ours/spead2', (point) => showRatio(againstSpead2(point, cpuOf))]
const title = (what, all) => `\n${what}, black hole; medians of ${roundsOf(all)} rounds`

const TABLES = {
  pacing: (all) =>
    `${title('paced senders: how far from the rate [least…most], share of a CPU', all)}\n${medianTable(
      'rate',
      all,
      (point) => `${showRate(point.rateBytesPerSecond)}, ${showHogs(point.hogs)}`,
      [
        ['off', (row) => row.error, percent(3), true],
        ['CPU', cpuOf, percent(1)],
      ],
      [cpuAgainst],
    )}`,
  bursts: (all) =>
    `${title('bytes that left back to back at most [least…most], and of how many runs more than a burst and a packet', all)}\n${medianTable(
      'rate',
      all,
      (point) => `${showRate(point.rateBytesPerSecond)}, ${showHogs(point.hogs)}`,
      [
        ['bytes', (row) => row.backToBackBytes, bytes, true],
        ['over', (row) => row.runsOver / row.runs, percent(1)],
      ],
    )}`,
  streams: (all) =>
    `${title('streams of 20 Mb/s in one process', all)}\n${medianTable(
      'streams',
      all,
      (point) => `${point.streams}, ${showHogs(point.hogs)}`,
      [
        ['worst off', (row) => row.worstError, percent(2)],
        ['threads', (row) => row.threads, String],
        ['RSS MB', (row) => row.rssBytes, megabytes],
        ['CPU', cpuOf, percent(1)],
      ],
      [cpuAgainst],
    )}`,
}

/** A table for each kind that has rows. */
export const pacingReport = (rows) =>
  Object.entries(TABLES).flatMap(([kind, show]) => {
    const all = pointsOf(rows, kind)
    return all.length ? [show(all)] : []
  })
