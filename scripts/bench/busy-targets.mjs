// The targets of a busy host, judged against rows: rates that hold beside other programs, and senders that keep a rate. Pure
// (--targets).
import { againstSpead2, cpuOf, missOf, pointsOf, seriesOf } from './pacing-report.mjs'
import { points, ratio, share } from './points.mjs'
import { median, summarise } from './statistics.mjs'
import { showBytes, showHogs, showRate, showRatio, verdict } from './text.mjs'

const KiB = 2 ** 10
const MiB = 2 ** 20
const PACKET_BYTES = 9000
const GIGABIT = 125e6

/**
 * Least medians of ratios to spead2 from source, beside as many loops as there are CPUs, and beside one: there the aim is the idle
 * ratio.
 */
const UNPACED_SIZES = [8 * KiB, 64 * KiB, MiB]
const UNPACED = {
  ours: { full: { least: 1.3, aim: 1.6 }, one: { least: 1.3 } },
  'ours-sendmmsg': { full: { least: 1.0, aim: 1.2 }, one: { least: 1.05 } },
}
/** Share of the idle rate on the software NIC, by loops beside it. */
const IBVERBS_SIZES = [8 * KiB, MiB]
const IBVERBS = { 1: { least: 0.55, aim: 0.7 }, 2: { least: 0.35, aim: 0.45 } }
const BEFORE = { least: 0.97, aim: 1 }
const UNFILLED = { sizes: [256, KiB], least: 0.85, aim: 1 }
const VETH = { sizes: [256, 8 * KiB], least: 0.85, aim: 1 }
/** By how much more than spead2 a sender may be off its rate; `aim` is for 1 Gb/s. */
const ERROR = { over: 0.005, aim: 0.001 }
const PACED_CPU = { rates: [12.5e6, GIGABIT], most: 1, aim: 0.7 }
const STREAMS = {
  threads: { most: 8, aim: 4 },
  addedBytes: { most: 120e6, aim: 60e6 },
  cpu: { most: 1.5, aim: 1 },
  behind: { most: 0.01, aim: 0.001 },
}
const BY_SUBSTREAM = { from: 4, most: 2, aim: 1.3 }
const BESIDE_FILL_NANOSECONDS = { most: 20, aim: 10 }

/** A line that says whether `must` and `aim` were reached; `aim` is undefined for a target without one. */
function line(what, shown, must, aim) {
  const aimed = aim === undefined ? '' : aim ? ', aim reached' : ', aim not'
  return `  ${what}: ${shown}: ${verdict(must)}${aimed}`
}
const atLeast = (what, r, least, aim) =>
  r
    ? [
        line(
          `${what} ≥ ${least}${aim === undefined ? '' : ` (aim ${aim.toFixed(2)})`}`,
          showRatio(r),
          r.median >= least,
          aim && r.median >= aim,
        ),
      ]
    : []
const atMost = (what, value, shown, { most, aim }, unit = (x) => x) =>
  line(`${what} ≤ ${unit(most)} (aim ${unit(aim)})`, shown, value <= most, value <= aim)

const find = (all, ground, heapSizeBytes, hogs) =>
  all.find(
    (point) =>
      point.ground === ground &&
      point.heapSizeBytes === heapSizeBytes &&
      point.hogs === hogs &&
      point.packetSizeBytes === PACKET_BYTES,
  )

function unpaced(all, cpus) {
  const lines = []
  for (const [hogs, key] of [
    [cpus, 'full'],
    [1, 'one'],
  ])
    for (const [program, limits] of Object.entries(UNPACED))
      for (const size of UNPACED_SIZES) {
        const busy = find(all, 'blackhole', size, hogs)
        const idle = find(all, 'blackhole', size, 0)
        const { least, aim = idle && ratio(idle, program, 'spead2')?.median } = limits[key]
        const what = `${program}/spead2, ${showBytes(size)}, ${showHogs(hogs)}`
        if (busy) lines.push(...atLeast(what, ratio(busy, program, 'spead2'), least, aim))
      }
  return lines
}

const ibverbs = (all) =>
  Object.entries(IBVERBS).flatMap(([hogs, { least, aim }]) =>
    IBVERBS_SIZES.flatMap((size) => {
      const [busy, idle] = [Number(hogs), 0].map((n) => find(all, 'softnic', size, n))
      const what = `ours-ibverbs, ${showBytes(size)}, ${showHogs(Number(hogs))}, share of its idle rate`
      return busy && idle ? atLeast(what, share(busy, idle, 'ours-ibverbs'), least, aim) : []
    }),
  )

/** Idle, one program over another at the sizes given, or at all that ran both. */
const idleRatios = (all, ground, [a, b], { sizes, least, aim }) =>
  all
    .filter((point) => point.ground === ground && point.hogs === 0 && point.packetSizeBytes === PACKET_BYTES)
    .filter((point) => !sizes || sizes.includes(point.heapSizeBytes))
    .toSorted((x, y) => x.heapSizeBytes - y.heapSizeBytes)
    .flatMap((point) => atLeast(`${a}/${b}, ${showBytes(point.heapSizeBytes)}, ${ground}`, ratio(point, a, b), least, aim))

const percent = (value) => `${(100 * value).toFixed(2)} %`

function pacing(rows, cpus) {
  const lines = []
  for (const point of pointsOf(rows, 'pacing')) {
    const { rateBytesPerSecond, hogs } = point
    const [own, other] = ['ours', 'spead2'].map((program) => seriesOf(point, program, missOf))
    if (own.length === 0 || other.length === 0) continue
    const off = median(own)
    const allowed = median(other) + ERROR.over
    const where = `${showRate(rateBytesPerSecond)}, ${showHogs(hogs)}`
    if (hogs === cpus) {
      const aim = rateBytesPerSecond === GIGABIT ? off <= ERROR.aim : undefined
      const text = `${where}, off the rate ≤ ${percent(allowed)} (spead2's + ${percent(ERROR.over)})`
      lines.push(line(text, percent(off), off <= allowed, aim))
    }
    const cpu = againstSpead2(point, cpuOf)
    if (hogs === 0 && PACED_CPU.rates.includes(rateBytesPerSecond))
      lines.push(atMost(`${where}, CPU ours/spead2`, cpu.median, showRatio(cpu), PACED_CPU))
  }
  return lines
}

const bursts = (rows) =>
  pointsOf(rows, 'bursts').flatMap((point) => {
    const [own, other] = ['ours', 'spead2'].map((program) => seriesOf(point, program, (row) => row.backToBackBytes))
    if (own.length === 0) return []
    const allowed = point.burstBytes + Math.max(...seriesOf(point, 'ours', (row) => row.packetBytes))
    const beside = other.length ? ` (spead2 ${median(other)})` : ''
    const what = `back to back at ${showRate(point.rateBytesPerSecond)}, ${showHogs(point.hogs)} ≤ ${allowed} bytes`
    return [line(what, `${median(own)}, at most ${Math.max(...own)}${beside}`, median(own) <= allowed)]
  })

function streams(rows) {
  const all = pointsOf(rows, 'streams').filter((point) => point.hogs === 0)
  const [one, many] = [Math.min, Math.max].map((pick) => all.find((point) => point.streams === pick(...all.map((p) => p.streams))))
  if (!many || one === many) return []
  const of = (point, field) => median(seriesOf(point, 'ours', (row) => row[field]))
  const threads = of(many, 'threads') - of(one, 'threads') + 1
  const added = of(many, 'rssBytes') - of(one, 'rssBytes')
  const cpu = againstSpead2(many, cpuOf)
  const behind = -of(many, 'worstError')
  const what = `${many.streams} streams`
  const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`
  return [
    atMost(`${what}, I/O threads`, threads, threads, STREAMS.threads),
    atMost(`${what}, memory over one`, added, megabytes(added), STREAMS.addedBytes, megabytes),
    ...(cpu ? [atMost(`${what}, CPU ours/spead2`, cpu.median, showRatio(cpu), STREAMS.cpu)] : []),
    atMost(`${what}, the worst is behind by`, behind, percent(behind), STREAMS.behind, percent),
  ]
}

/** Ratios of CPU time a heap to that of one substream within a round: the worst number of substreams counts. */
function bySubstream(rows) {
  const own = rows
    .filter((row) => row.measure === 'growth')
    .flatMap((row) => row.rows)
    .filter((row) => row.sweep === 'by-substream')
  const costs = (substreams) => own.filter((row) => row.substreams === substreams)
  const counts = [...new Set(own.map((row) => row.substreams))].filter((n) => n >= BY_SUBSTREAM.from)
  const grown = counts.map((n) => {
    const base = new Map(costs(1).map((row) => [row.round, row.cpuNanosecondsPerHeap]))
    return { n, times: summarise(costs(n).map((row) => row.cpuNanosecondsPerHeap / base.get(row.round))) }
  })
  const worst = grown.toSorted((a, b) => b.times.median - a.times.median)[0]
  if (!worst) return []
  const what = `by-substream, ${BY_SUBSTREAM.from} substreams and more, CPU a heap over one substream's`
  return [atMost(what, worst.times.median, `${showRatio(worst.times)} with ${worst.n}`, BY_SUBSTREAM)]
}

const mainThread = (rows) =>
  rows
    .filter((row) => row.measure === 'mainthread')
    .map(({ besideFillNanoseconds: ns }) =>
      atMost('main thread beside fill, ns a heap', ns, ns.toFixed(1), BESIDE_FILL_NANOSECONDS),
    )

/** One line for each target that the rows have figures for. */
export function busyTargetLines(rows) {
  const cpus = rows.findLast((row) => row.kind === 'machine')?.cpus
  const all = points(rows)
  const lines = [
    ...unpaced(all, cpus),
    ...ibverbs(all),
    ...idleRatios(all, 'blackhole', ['ours', 'before'], BEFORE),
    ...idleRatios(all, 'blackhole', ['ours-sendmmsg', 'before-sendmmsg'], BEFORE),
    ...pacing(rows, cpus),
    ...bursts(rows),
    ...streams(rows),
    ...bySubstream(rows),
    ...idleRatios(all, 'blackhole', ['ours-nofill', 'floor-nofill'], UNFILLED),
    ...mainThread(rows),
    ...idleRatios(all, 'veth', ['ours-sendmmsg', 'floor'], VETH),
  ]
  return lines.length ? ['targets of a busy machine', ...lines] : []
}
