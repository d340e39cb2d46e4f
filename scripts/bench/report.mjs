// From rows to tables. Pure: a committed file of rows gives the same tables again (--report).
import { pacingReport } from './pacing-report.mjs'
import { groups, points, rate, ratio, share } from './points.mjs'
import { targetLines } from './targets.mjs'
import { showBytes, showHogs, showRatio, table } from './text.mjs'
import { verbsReport } from './verbs-report.mjs'

const ORDER = [
  'floor',
  'spead2-wheel',
  'spead2',
  'dgram',
  'ours',
  'ours-sendmmsg',
  'ours-sendmmsg-greedy',
  'ours-ibverbs',
  'floor-nofill',
  'ours-nofill',
]
const OURS = ['ours', 'ours-sendmmsg', 'ours-sendmmsg-greedy', 'ours-ibverbs', 'ours-nofill']
const isUnfilled = (name) => name.endsWith('-nofill')
const GROUND_NAMES = {
  blackhole: 'black hole',
  'blackhole-gso1': 'black hole that takes no segmentation',
  veth: 'veth to a receiver',
  softnic: 'software NIC that completes at once',
}

const programsOf = (group) => {
  const ran = new Set(group.flatMap((point) => point.rounds.flatMap(Object.keys)))
  return [...ORDER.filter((name) => ran.has(name)), ...[...ran].filter((name) => !ORDER.includes(name))]
}

/** Pairs worth comparing: the floor against spead2, ours against everything else. */
function pairsOf(programs) {
  const pairs = [
    ['floor', 'spead2-wheel'],
    ['floor', 'spead2'],
  ].filter((pair) => pair.every((name) => programs.includes(name)))
  const others = programs.filter((name) => !OURS.includes(name))
  for (const name of OURS.filter((own) => programs.includes(own)))
    pairs.push(...others.filter((other) => isUnfilled(other) === isUnfilled(name)).map((other) => [name, other]))
  return pairs
}

const showRate = (r) => {
  if (!r) return '–'
  const megabytes = (value) => Math.round(value / 1e6).toLocaleString('en')
  return `${megabytes(r.median)} [${megabytes(r.least)}…${megabytes(r.most)}]`
}

/** Median of the rounds with the least and the greatest, MB/s, for points that share all but the heap size. */
export function rateTable(group) {
  const programs = programsOf(group)
  const lines = group.map((point) => [showBytes(point.heapSizeBytes), ...programs.map((name) => showRate(rate(point, name)))])
  return table(['heap', ...programs.map((name) => `${name} MB/s`)], lines)
}

/** Paired ratios with their intervals; `committed` points put theirs beside. */
export function ratioTable(group, committed = []) {
  const pairs = pairsOf(programsOf(group))
  const same = (point) => (c) =>
    ['ground', 'heapSizeBytes', 'packetSizeBytes', 'batches', 'hogs'].every((key) => c[key] === point[key])
  const head = ['heap']
  for (const [a, b] of pairs) head.push(`${a}/${b}`, ...(committed.length ? ['committed'] : []))
  const lines = group.map((point) => {
    const before = committed.find(same(point))
    const cells = pairs.flatMap(([a, b]) => [
      showRatio(ratio(point, a, b)),
      ...(committed.length ? [before ? showRatio(ratio(before, a, b)) : '–'] : []),
    ])
    return [showBytes(point.heapSizeBytes), ...cells]
  })
  return table(head, lines)
}

/** Share of each program's own rate that busy neighbours leave it, in the same rounds: median and interval. */
export function shareTable(group, idle) {
  const programs = programsOf(group)
  const lines = group.map((point) => {
    const own = idle.find((one) => one.heapSizeBytes === point.heapSizeBytes)
    return [showBytes(point.heapSizeBytes), ...programs.map((name) => showRatio(own && share(point, own, name)))]
  })
  return table(['heap', ...programs], lines)
}

/** How undisturbed the runs were, and how many packets were lost on the way to a receiver. */
function quality(group) {
  const runs = group.flatMap((point) => point.rounds.flatMap((round) => Object.values(round)))
  const percent = (name) => (100 * Math.max(...runs.map((row) => row[name]))).toFixed(1)
  const repeated = group.reduce((sum, point) => sum + point.repeated, 0)
  const lines = [
    `${runs.length} runs, ${runs.filter((row) => row.disturbed).length} disturbed, ${repeated} rounds repeated; most stolen by the host ${percent('stealShare')} %, most used by others ${percent('otherShare')} %`,
  ]
  const delivered = runs.filter((row) => row.lossShare !== undefined)
  for (const name of programsOf(group)) {
    const own = delivered.filter((row) => row.program === name).map((row) => row.lossShare)
    if (own.length) lines.push(`lost on the way, ${name}: at most ${(100 * Math.max(...own)).toFixed(2)} % of a run`)
  }
  return lines.join('\n')
}

export function machineLines(machine) {
  const { cpu, cpus, kernel, node, koffi, spead2, date, commit, dirty } = machine
  const mitigations = Object.entries(machine.mitigations).map(([name, state]) => `${name}: ${state}`)
  return [
    `${cpu} × ${cpus}, ${kernel}, node ${node}, koffi ${koffi}, spead2 ${spead2 ?? 'not used'}`,
    `mitigations: ${mitigations.join('; ') || 'none needed'}`,
    `${date}, commit ${commit.slice(0, 7)}${dirty ? ' with changes' : ''}`,
  ].join('\n')
}

/** The report of rows; with `committed` rows only how the two compare. */
export function reportText(rows, committed) {
  const machine = rows.find((row) => row.kind === 'machine')
  const parts = machine ? [machineLines(machine)] : []
  const before = points(committed ?? [])
  const all = groups(points(rows))
  for (const group of all) {
    const { ground, batches, packetSizeBytes, hogs } = group[0]
    const counts = group.map((point) => point.rounds.length)
    const least = Math.min(...counts)
    const rounds = least === Math.max(...counts) ? `${least}` : `${least} to ${Math.max(...counts)}`
    const idle = all.find(
      ([one]) => one.hogs === 0 && one.ground === ground && one.packetSizeBytes === packetSizeBytes && one.batches === batches,
    )
    parts.push(
      `\n${GROUND_NAMES[ground] ?? ground}, packets ≤ ${packetSizeBytes}, ${batches} batches of 512 KiB in flight (spead2: 2), ${showHogs(hogs)}, ${rounds} rounds`,
      `medians [least…most]\n${rateTable(group)}`,
    )
    if (pairsOf(programsOf(group)).length > 0)
      parts.push(`medians of the ratios within a round [95 % interval]\n${ratioTable(group, before)}`)
    if (hogs > 0 && idle) parts.push(`share of the idle rate, within a round [95 % interval]\n${shareTable(group, idle)}`)
    parts.push(quality(group))
  }
  const verbs = rows.filter((row) => row.kind === 'verbs')
  if (verbs.length) parts.push(verbsReport(verbs))
  parts.push(...pacingReport(rows))
  const targets = committed ? [] : targetLines(rows)
  if (targets.length) parts.push(`\n${targets.join('\n')}`)
  return parts.join('\n')
}
