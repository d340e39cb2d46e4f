// Issue 5's table of targets, judged against rows. Pure (--targets).
import { groups, points, ratio } from './points.mjs'
import { showBytes, showRatio, verdict } from './text.mjs'
import { verbsTargets } from './verbs-report.mjs'

const KiB = 2 ** 10
const MiB = 2 ** 20
/** Of the median of paired ratios, for heaps of `from` to `to` bytes. */
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
/** Of the lower end of the interval. */
const OVER_FLOOR = { from: 4 * KiB, to: Infinity, least: 0.9 }
/** The floor is one only if it beats spead2's Python program by this. */
const ADMISSION = { sizes: [8 * KiB, 64 * KiB], least: 1.3 }
/** Segmentation and a receiver's share of the cores are not what the targets are about: other grounds are shown, not judged. */
const JUDGED_GROUND = 'blackhole'

const showBand = ({ from, to }) => {
  if (to === Infinity) return `${showBytes(from)} and above`
  return from === to ? showBytes(from) : `${showBytes(from)} to ${showBytes(to)}`
}

/** The worst size of a band by `figure` of the ratio; undefined if none ran both. */
function worst(group, a, b, band, figure) {
  const inside = group.filter((point) => point.heapSizeBytes >= band.from && point.heapSizeBytes <= band.to)
  const all = inside.map((point) => ({ point, ratio: ratio(point, a, b) })).filter((entry) => entry.ratio)
  return (
    all.toSorted((x, y) => figure(x.ratio) - figure(y.ratio))[0] && {
      ...all.toSorted((x, y) => figure(x.ratio) - figure(y.ratio))[0],
      sizes: all.length,
    }
  )
}

const medianOf = (r) => r.median
/** One round has no interval, so nothing below it is known. */
const lowerBound = (r) => r.low ?? 0

function bandLine(group, a, b, band, { figure, what, judged, beside }) {
  const found = worst(group, a, b, band, figure)
  if (!found) return []
  const shown = `worst of ${found.sizes} sizes ${showRatio(found.ratio)} at ${showBytes(found.point.heapSizeBytes)}`
  const other = beside && worst(group, a, beside, band, figure)
  const extra = other ? ` (over ${beside}: ${showRatio(other.ratio)} at ${showBytes(other.point.heapSizeBytes)}, not judged)` : ''
  const end = judged ? verdict(figure(found.ratio) >= band.least) : 'not judged'
  return [`  ${a}/${b}, ${showBand(band)}, ${what} ≥ ${band.least}: ${shown}: ${end}${extra}`]
}

function udpTargets(group) {
  const { ground, packetSizeBytes, batches } = group[0]
  const judged = ground === JUDGED_GROUND
  const lines = []
  for (const size of ADMISSION.sizes)
    lines.push(
      ...bandLine(
        group,
        'floor',
        'spead2-wheel',
        { from: size, to: size, least: ADMISSION.least },
        { figure: medianOf, what: 'admitted as a floor by', judged },
      ),
    )
  lines.push(...bandLine(group, 'ours-sendmmsg', 'floor', OVER_FLOOR, { figure: lowerBound, what: 'lower bound', judged }))
  for (const [name, bands] of [
    ['ours-sendmmsg', SENDMMSG_OVER_SPEAD2],
    ['ours', ZERO_COPY_OVER_SPEAD2],
  ])
    for (const band of bands)
      lines.push(...bandLine(group, name, 'spead2-wheel', band, { figure: medianOf, what: 'median', judged, beside: 'spead2' }))
  return lines.length ? [`${ground}, packets ≤ ${packetSizeBytes}, ${batches} batches:`, ...lines] : []
}

/** Most of what sending adds to the main thread's event-loop p99, ms. */
const MOST_LOOP_DELAY = 1

function measureTargets(rows) {
  return rows
    .filter((row) => row.measure === 'eventloop')
    .map(
      ({ medianAddedMilliseconds: added }) =>
        `event-loop p99 added by sending ≤ ${MOST_LOOP_DELAY} ms: ${added.toFixed(2)}: ${verdict(added <= MOST_LOOP_DELAY)}`,
    )
}

/** One line per target that the rows speak of; empty if they speak of none. */
export function targetLines(rows) {
  const lines = [
    ...groups(points(rows)).flatMap(udpTargets),
    ...verbsTargets(rows.filter((row) => row.kind === 'verbs')),
    ...measureTargets(rows),
  ]
  return lines.length ? ['targets of issue 5', ...lines] : []
}
