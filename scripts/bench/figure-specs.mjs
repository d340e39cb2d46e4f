// From rows to Vega-Lite specifications, one function for each kind of figure. Pure: the same rows give the same figure.
import { bytesAxis, encodingOf, frame, gigabytesAxis, layers, looksOf } from './figure-style.mjs'
import { groupBy, groups, points, rate } from './points.mjs'
import { median } from './statistics.mjs'
import { showBytes } from './text.mjs'

const IN_FLIGHT = 4
const GROUND_TITLES = {
  blackhole: 'an interface that drops everything, so upper bounds',
  'blackhole-gso1': 'an interface that drops everything, packets cut before it',
  veth: 'sent through veth to a receiver',
}

/** Where and when: the machine of the newest rows. */
export function madeOn(rows) {
  const machine = rows.findLast((row) => row.kind === 'machine')
  if (!machine) throw new Error('rows without a machine line')
  const { cpu, cpus, kernel, node, date, commit } = machine
  const [system, release] = kernel.split(' ')
  return `${cpu} × ${cpus}, ${system} ${release.split('-')[0]}, Node ${node.replace(/^v/, '')}, ${date.slice(0, 10)}, commit ${commit.slice(0, 7)}`
}

function roundsOf(counts) {
  const [least, most] = [Math.min(...counts), Math.max(...counts)]
  return most === 1 ? 'one round' : `medians of ${least === most ? least : `${least} to ${most}`} rounds`
}

const spreadText = (counts, how) => `${roundsOf(counts)}${Math.max(...counts) > 1 ? `, ${how}: least to greatest` : ''}`

const heapOf = ({ heapSizeBytes }) => `heaps of ${showBytes(heapSizeBytes)}`
const inWords = (program, where, unit, { median: middle, least, most }) =>
  `${program}, ${where}: ${middle} ${unit}, least ${least}, greatest ${most}`

/** One datum for each program of each point, in GB/s, with whatever `facts` tells of the point; `where` says it in words. */
function rateData(all, where, facts) {
  const programs = [...new Set(all.flatMap((point) => point.rounds.flatMap(Object.keys)))]
  const looks = looksOf(programs)
  const data = looks.flatMap(({ name, label }) =>
    all.flatMap((point) => {
      const seen = rate(point, name)
      if (!seen) return []
      const [middle, least, most] = [seen.median, seen.least, seen.most].map((value) => Math.round(value / 1e6) / 1e3)
      const figures = { median: middle, least, most }
      return [{ program: label, ...facts(point), ...figures, told: inWords(label, where(point), 'GB/s', figures), rounds: seen.n }]
    }),
  )
  return { looks, data, rounds: data.map((datum) => datum.rounds) }
}

/** Rate against heap size: one figure for each ground and packet size that has several heap sizes. → name → specification */
export function rateFigures(rows) {
  const figures = {}
  for (const group of groups(points(rows).filter((point) => point.batches === IN_FLIGHT && point.hogs === 0))) {
    const { ground, packetSizeBytes } = group[0]
    if (group.length < 2) continue
    const { looks, data, rounds } = rateData(group, heapOf, ({ heapSizeBytes }) => ({ heapSizeBytes }))
    const sizes = group.map((point) => point.heapSizeBytes)
    const encoding = {
      x: bytesAxis('heapSizeBytes', 'heap size', [Math.min(...sizes), Math.max(...sizes)]),
      y: gigabytesAxis,
      ...encodingOf(looks, 3),
    }
    figures[`rate-${ground}-${packetSizeBytes}`] = {
      ...frame(`UDP payload rate against heap size, packets of up to ${packetSizeBytes} bytes`, [
        `${GROUND_TITLES[ground] ?? ground}; ${IN_FLIGHT} batches of 512 KiB in flight (spead2: 2); ${spreadText(rounds, 'bands')}`,
        madeOn(rows),
      ]),
      width: 700,
      height: 380,
      data: { values: data },
      layer: layers(encoding),
    }
  }
  return figures
}

const neighbours = (hogs) => ['idle', 'one busy neighbour'][hogs] ?? `${hogs} busy neighbours`

/**
 * Rate against heap size on an idle and on a busy machine, a panel for each number of endless loops beside. → specification, or
 * undefined
 */
export function busyFigure(rows) {
  const onHole = points(rows).filter((point) => point.batches === IN_FLIGHT && point.ground === 'blackhole')
  const busy = onHole.filter((point) => point.hogs > 0)
  if (busy.length === 0) return undefined
  const sizes = [...new Set(busy.map((point) => point.heapSizeBytes))].sort((a, b) => a - b)
  const programs = new Set(busy.flatMap((point) => point.rounds.flatMap(Object.keys)))
  const ownOf = (round) => Object.fromEntries(Object.entries(round).filter(([name]) => programs.has(name)))
  const all = onHole
    .filter((point) => sizes.includes(point.heapSizeBytes))
    .map((point) => ({ ...point, rounds: point.rounds.map(ownOf) }))
  const { looks, data, rounds } = rateData(
    all,
    (point) => `${heapOf(point)}, ${neighbours(point.hogs)}`,
    ({ heapSizeBytes, hogs }) => ({ heapSizeBytes, machine: neighbours(hogs) }),
  )
  const hogCounts = [...new Set(all.map((point) => point.hogs))].sort((a, b) => a - b)
  // Room beside the outer sizes, whose labels would run into the next panel's.
  const x = bytesAxis('heapSizeBytes', 'heap size', [sizes[0] / 2, sizes.at(-1) * 2])
  const encoding = {
    x: { ...x, axis: { ...x.axis, values: sizes } },
    y: gigabytesAxis,
    ...encodingOf(looks, 2),
  }
  return {
    ...frame('UDP payload rate on an idle and on a busy machine', [
      `endless loops at ordinary priority run beside the sender; packets of up to ${all[0].packetSizeBytes} bytes; ${spreadText(rounds, 'bands')}`,
      `${GROUND_TITLES.blackhole}; ${madeOn(rows)}`,
    ]),
    data: { values: data },
    facet: { column: { field: 'machine', sort: hogCounts.map(neighbours), header: {} } },
    spec: { width: Math.floor(700 / hogCounts.length) - 14, height: 300, layer: layers(encoding) },
  }
}

const VERBS_LABELS = { floor: 'C loop with the same patches', spead2: 'spead2, ibverbs sender' }
const MODES = {
  null: 'null: takes and completes at once',
  model: 'model: burns 30 ns a packet',
  copy: 'copy: copies every packet',
}

/** CPU time per packet through libibverbs against the length of the chain of work requests. → specification, or undefined */
export function verbsFigure(rows) {
  const runs = rows.filter((row) => row.kind === 'verbs')
  if (runs.length === 0) return undefined
  const looks = looksOf(
    runs.map((row) => row.program),
    VERBS_LABELS,
  )
  const labels = Object.fromEntries(looks.map(({ name, label }) => [name, label]))
  const chains = [...new Set(runs.map((row) => row.chain))].sort((a, b) => a - b)
  const modes = Object.keys(MODES).filter((mode) => runs.some((row) => row.mode === mode))
  const data = [...groupBy(runs, (row) => [row.mode, row.program, row.chain].join()).values()].map((own) => {
    const all = own.map((row) => row.nanosecondsPerPacket)
    const [middle, least, most] = [median(all), Math.min(...all), Math.max(...all)].map((value) => Math.round(value * 100) / 100)
    const { mode, program, chain } = own[0]
    const figures = { median: middle, least, most }
    const told = inWords(labels[program], `${mode}, chains of ${chain}`, 'ns a packet', figures)
    return { mode: MODES[mode], program: labels[program], chain, ...figures, told, rounds: all.length }
  })
  const encoding = {
    x: {
      field: 'chain',
      type: 'quantitative',
      title: 'work requests in a chain',
      scale: { type: 'log', base: 2, domain: [chains[0], chains.at(-1)] },
      axis: { values: chains, format: 'd' },
    },
    y: {
      type: 'quantitative',
      title: 'CPU time per packet, ns',
      scale: {
        type: 'log',
        nice: false,
        domain: [Math.min(...data.map((d) => d.least)) / 1.2, Math.max(...data.map((d) => d.most)) * 1.2],
      },
      axis: { values: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000], format: 'd' },
    },
    ...encodingOf(looks, 2),
  }
  return {
    ...frame('CPU time per packet through libibverbs: our side of the verbs ABI, software NIC', [
      `heaps of one packet of 8 KiB, heap cnt and timestamp patched in each; ${spreadText(
        data.map((d) => d.rounds),
        'bars',
      )}`,
      `not figures of a real card; ${madeOn(rows)}`,
    ]),
    data: { values: data },
    facet: { column: { field: 'mode', sort: modes.map((mode) => MODES[mode]), header: {} } },
    spec: { width: Math.floor(700 / modes.length) - 16, height: 300, layer: layers({ spread: 'bars', ...encoding }) },
  }
}

/** Rate against heap size around two packets a heap, where the size of the last packet shows. → specification, or undefined */
export function evenPacketsFigure(rows) {
  const all = points(rows).filter((point) => point.batches === IN_FLIGHT)
  if (all.length === 0) return undefined
  const { looks, data, rounds } = rateData(all, heapOf, ({ heapSizeBytes }) => ({ heapKiB: heapSizeBytes / 1024 }))
  const { packetSizeBytes } = all[0]
  const sizes = data.map((datum) => datum.heapKiB)
  const encoding = {
    x: {
      field: 'heapKiB',
      type: 'quantitative',
      title: 'heap size, KiB',
      scale: { domain: [Math.min(...sizes), Math.max(...sizes)], nice: false, zero: false },
      axis: { values: [...new Set(sizes)].filter((size) => size % 4 === 0).sort((a, b) => a - b), format: 'd' },
    },
    y: gigabytesAxis,
    ...encodingOf(looks, 3),
  }
  return {
    ...frame('Packets of one size keep segmentation whole', [
      `packets of up to ${packetSizeBytes} bytes; at 16 KiB spead2 cuts 9000 + 7480, speadcast 8240 + 8240; ${spreadText(rounds, 'bands')}`,
      `${GROUND_TITLES.blackhole}; ${madeOn(rows)}`,
    ]),
    width: 700,
    height: 340,
    data: { values: data },
    layer: layers(encoding),
  }
}

/** Rate against the number of batches in flight, a panel for each heap size. → specification, or undefined */
export function inFlightFigure(rows) {
  const all = points(rows).toSorted((a, b) => a.heapSizeBytes - b.heapSizeBytes || a.batches - b.batches)
  if (all.length === 0) return undefined
  const { looks, data, rounds } = rateData(
    all,
    (point) => `${heapOf(point)}, ${point.batches} batches`,
    ({ batches, heapSizeBytes }) => ({
      batches,
      heap: `${showBytes(heapSizeBytes)} heaps`,
    }),
  )
  const heaps = [...new Set(all.map((point) => `${showBytes(point.heapSizeBytes)} heaps`))]
  const counts = [...new Set(all.map((point) => point.batches))].sort((a, b) => a - b)
  const encoding = {
    x: {
      field: 'batches',
      type: 'quantitative',
      title: 'batches in flight',
      scale: { domain: [counts[0], counts.at(-1)], nice: false, zero: false },
      axis: { values: counts, format: 'd' },
    },
    y: gigabytesAxis,
    ...encodingOf(looks, 4),
  }
  return {
    ...frame('Payload rate against the number of batches in flight', [
      `batches of 512 KiB, or of one heap; packets of up to ${all[0].packetSizeBytes} bytes; ${spreadText(rounds, 'bands')}`,
      `${GROUND_TITLES.blackhole}; ${madeOn(rows)}`,
    ]),
    data: { values: data },
    facet: { column: { field: 'heap', sort: heaps, header: {} } },
    spec: { width: Math.floor(700 / heaps.length) - 14, height: 300, layer: layers(encoding) },
  }
}
