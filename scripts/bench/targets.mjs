// The targets of rates, verbs and measures, judged against rows, and those of a busy host from busy-targets.mjs. Pure (--targets).
import { busyTargetLines } from './busy-targets.mjs'
import { groups, points, ratio } from './points.mjs'
import { showBytes, showRatio, verdict } from './text.mjs'
import { verbsTargets } from './verbs-report.mjs'

const KiB = 2 ** 10
const MiB = 2 ** 20
/** Least medians of paired ratios, for heaps of `from` to `to` bytes. */
const SENDMMSG_OVER_SPEAD2 = [
  { from: 256, to: KiB, least: 2.5 },
  { from: 2 * KiB, to: 4 * KiB, least: 1.7 },
  { from: 8 * KiB, to: 512 * KiB, least: 1.5 },
  { from: MiB, to: 4 * MiB, least: 1.1 },
  { from: 8 * MiB, to: Infinity, least: 0.95 },
]
const ZERO_COPY_OVER_SPEAD2 = [
  { from: 256, to: KiB, least: 3 },
  { from: 2 * KiB, to: 512 * KiB, least: 2 },
  { from: MiB, to: Infinity, least: 1.6 },
]
/** Least lower end of the interval. */
const OVER_FLOOR = { from: 4 * KiB, to: Infinity, least: 0.9 }
/** The floor counts as one only if it beats spead2's Python program by this. */
const ADMISSION = { sizes: [8 * KiB, 64 * KiB], least: 1.3 }
/** The other grounds add segmentation, or a receiver's share of the cores, which the targets leave out. */
const JUDGED_GROUND = 'blackhole'

const showBand = ({ from, to }) => {
  if (to === Infinity) return `${showBytes(from)} and above`
  return from === to ? showBytes(from) : `${showBytes(from)} to ${showBytes(to)}`
}

const medianOf = (r) => r.median
/** One round has no interval: 0 is taken, so that the target does not count as reached. */
const lowerBound = (r) => r.low ?? 0

/** Every size of a band that ran both, worst first by `figure` of the ratio. */
function ranked(group, a, b, band, figure) {
  const inside = group.filter((point) => point.heapSizeBytes >= band.from && point.heapSizeBytes <= band.to)
  const all = inside.map((point) => ({ heapSizeBytes: point.heapSizeBytes, ratio: ratio(point, a, b) }))
  return all.filter((entry) => entry.ratio).toSorted((x, y) => figure(x.ratio) - figure(y.ratio))
}

/** A line for the band, empty if nothing in it ran both. `beside` shows the same over another program, unjudged. */
function bandLine(group, a, b, band, { figure, what, beside }) {
  const reached = (all) => all.filter((entry) => figure(entry.ratio) >= band.least).length
  const show = (all) =>
    `${reached(all)} of ${all.length} sizes, worst ${showRatio(all[0].ratio)} at ${showBytes(all[0].heapSizeBytes)}`
  const found = ranked(group, a, b, band, figure)
  if (found.length === 0) return []
  const other = beside ? ranked(group, a, beside, band, figure) : []
  const extra = other.length ? `; over ${beside}, not judged: ${show(other)}` : ''
  return [
    `  ${a}/${b}, ${showBand(band)}, ${what} ≥ ${band.least}: ${verdict(reached(found) === found.length)}, ${show(found)}${extra}`,
  ]
}

function udpTargets(group) {
  const { ground, packetSizeBytes, batches, hogs } = group[0]
  if (ground !== JUDGED_GROUND || hogs > 0) return []
  const lines = ADMISSION.sizes.flatMap((size) =>
    bandLine(
      group,
      'floor',
      'spead2-wheel',
      { from: size, to: size, least: ADMISSION.least },
      { figure: medianOf, what: 'admitted by', beside: 'spead2' },
    ),
  )
  lines.push(...bandLine(group, 'ours-sendmmsg', 'floor', OVER_FLOOR, { figure: lowerBound, what: 'lower bound' }))
  for (const [name, bands] of [
    ['ours-sendmmsg', SENDMMSG_OVER_SPEAD2],
    ['ours', ZERO_COPY_OVER_SPEAD2],
  ])
    for (const band of bands)
      lines.push(...bandLine(group, name, 'spead2-wheel', band, { figure: medianOf, what: 'median', beside: 'spead2' }))
  return lines.length ? [`UDP, black hole, packets ≤ ${packetSizeBytes}, ${batches} batches:`, ...lines] : []
}

/** The most that fields of --measure's rows may be. */
const MEASURED = [
  { measure: 'startup', field: 'workerAddedMilliseconds', what: 'start to first packet over node -e 0', most: 120, unit: 'ms' },
  { measure: 'startup', field: 'inlineAddedMilliseconds', what: 'the same inline', most: 50, unit: 'ms' },
  { measure: 'rss', field: 'addedMegabytes', what: 'resident memory over node -e 0', most: 45, unit: 'MB' },
  { measure: 'eventloop', field: 'medianAddedMilliseconds', what: 'event-loop p99 added by sending', most: 1, unit: 'ms' },
]

/** The most that a field of a measure's row may be. */
export const limitOf = (name) => MEASURED.find(({ field }) => field === name).most

const measureTargets = (rows) =>
  MEASURED.flatMap(({ measure, field, what, most, unit }) =>
    rows
      .filter((row) => row.measure === measure)
      .map((row) => `${what} ≤ ${most} ${unit}: ${row[field].toFixed(2)}: ${verdict(row[field] <= most)}`),
  )

/** One line for each target that the rows have figures for. */
export function targetLines(rows) {
  const lines = [
    ...groups(points(rows)).flatMap(udpTargets),
    ...verbsTargets(rows.filter((row) => row.kind === 'verbs')),
    ...measureTargets(rows),
  ]
  return [...(lines.length ? ['targets of an idle machine', ...lines] : []), ...busyTargetLines(rows)]
}
