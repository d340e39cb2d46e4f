// From rows to tables. Pure: a committed file of rows gives the same tables again (--report).

export function median(values) {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

export const geometricMean = (values) => Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length)

function groupBy(list, key) {
  const groups = new Map()
  for (const item of list) groups.set(key(item), [...(groups.get(key(item)) ?? []), item])
  return groups
}

/** One point: every round's rows of one heap size, packet size and number of batches in flight. A repeated round counts once. */
export function points(rows) {
  const key = (row) => [row.pointBatches, row.packetSizeBytes, row.heapSizeBytes].join()
  return [
    ...groupBy(
      rows.filter((row) => row.kind === 'run'),
      key,
    ).values(),
  ].map((own) => {
    const rounds = [...groupBy(own, (row) => row.round).values()].map((round) => {
      const last = Math.max(...round.map((row) => row.attempt))
      return Object.fromEntries(round.filter((row) => row.attempt === last).map((row) => [row.program, row]))
    })
    const { heapSizeBytes, packetSizeBytes, pointBatches } = own[0]
    return {
      heapSizeBytes,
      packetSizeBytes,
      batches: pointBatches,
      rounds,
      repeated: new Set(own.map((r) => `${r.round},${r.attempt}`)).size - rounds.length,
    }
  })
}

/** Median, least and greatest of a/b over the rounds that have both; undefined if none has. */
export function ratio(point, a, b) {
  const all = point.rounds
    .filter((round) => round[a] && round[b])
    .map((round) => round[a].payloadBytesPerSecond / round[b].payloadBytesPerSecond)
  return all.length ? { median: median(all), least: Math.min(...all), most: Math.max(...all) } : undefined
}

const rate = (point, program) => {
  const all = point.rounds.filter((round) => round[program]).map((round) => round[program].payloadBytesPerSecond / 1e6)
  return all.length ? Math.round(median(all)).toLocaleString('en') : '–'
}
const showRatio = (r) => (r ? `${r.median.toFixed(2)} [${r.least.toFixed(2)}…${r.most.toFixed(2)}]` : '–')
export const showBytes = (n) => {
  for (const [unit, size] of [
    ['GiB', 2 ** 30],
    ['MiB', 2 ** 20],
    ['KiB', 2 ** 10],
  ])
    if (n >= size && n % size === 0) return `${n / size} ${unit}`
  return `${n} B`
}

/** Lines of a table, columns padded, the first flush left. */
export function table(head, lines) {
  const all = [head, ...lines]
  const width = head.map((_, c) => Math.max(...all.map((line) => String(line[c]).length)))
  const show = (line) =>
    line
      .map((cell, c) => (c ? String(cell).padStart(width[c]) : String(cell).padEnd(width[c])))
      .join('  ')
      .trimEnd()
  return [show(head), width.map((w) => '-'.repeat(w)).join('  '), ...lines.map(show)].join('\n')
}

const ORDER = ['floor', 'spead2', 'spead2-wheel', 'ours']
const RATIOS = [
  ['floor', 'spead2'],
  ['ours', 'floor'],
  ['ours', 'spead2'],
  ['ours', 'spead2-wheel'],
]

/** One table for all points that share packet size and batches. `committed` adds its ratios beside ours. */
export function rateTable(group, committed = []) {
  const programs = ORDER.filter((name) => group.some((point) => point.rounds.some((round) => round[name])))
  const ratios = RATIOS.filter(([a, b]) => programs.includes(a) && programs.includes(b))
  const before = (point) =>
    committed.find(
      (c) => c.heapSizeBytes === point.heapSizeBytes && c.packetSizeBytes === point.packetSizeBytes && c.batches === point.batches,
    )
  const head = ['heap', ...programs.map((name) => `${name} MB/s`), ...ratios.map(([a, b]) => `${a}/${b}`)]
  if (committed.length) head.push(...ratios.map(([a, b]) => `${a}/${b} committed`))
  return table(
    head,
    group.map((point) => [
      showBytes(point.heapSizeBytes),
      ...programs.map((name) => rate(point, name)),
      ...ratios.map(([a, b]) => showRatio(ratio(point, a, b))),
      ...(committed.length ? ratios.map(([a, b]) => (before(point) ? showRatio(ratio(before(point), a, b)) : '–')) : []),
    ]),
  )
}

const verdict = (ok) => (ok ? 'met' : 'MISSED')

/** The figures issue 2 asks for, one line each. */
export function summary(group) {
  const medians = (a, b) => group.map((point) => ratio(point, a, b)?.median).filter((value) => value !== undefined)
  const lines = []
  for (const size of [8192, 65536]) {
    const admission = group.filter((point) => point.heapSizeBytes === size).map((point) => ratio(point, 'floor', 'spead2'))[0]
    if (admission)
      lines.push(
        `floor admitted at ${showBytes(size)} (floor/spead2 ≥ 1.3): ${showRatio(admission)} ${verdict(admission.median >= 1.3)}`,
      )
  }
  const floor = medians('ours', 'floor')
  const spead2 = medians('ours', 'spead2')
  const mean = (values) => geometricMean(values).toFixed(2)
  if (floor.length)
    lines.push(
      `ours/floor, geometric mean of ${floor.length} sizes (≥ 0.75): ${mean(floor)} ${verdict(geometricMean(floor) >= 0.75)}`,
    )
  if (spead2.length) {
    lines.push(
      `ours/spead2, geometric mean of ${spead2.length} sizes (≥ 1.4): ${mean(spead2)} ${verdict(geometricMean(spead2) >= 1.4)}`,
    )
    lines.push(`ours/spead2, least size (≥ 0.9): ${Math.min(...spead2).toFixed(2)} ${verdict(Math.min(...spead2) >= 0.9)}`)
  }
  const runs = group.flatMap((point) => point.rounds.flatMap((round) => Object.values(round)))
  const disturbed = runs.filter((row) => row.disturbed).length
  const most = (name) => (100 * Math.max(...runs.map((row) => row[name]))).toFixed(1)
  const repeated = group.reduce((sum, point) => sum + point.repeated, 0)
  lines.push(
    `${runs.length} runs, ${disturbed} disturbed, ${repeated} rounds repeated; most stolen by the host ${most('stealShare')} %, most used by others ${most('otherShare')} %`,
  )
  return lines.join('\n')
}

export function printReport(rows, committed = []) {
  const machine = rows.find((row) => row.kind === 'machine')
  if (machine) {
    const { cpu, cpus, kernel, node, koffi, spead2, date, commit, dirty } = machine
    console.log(`${cpu} × ${cpus}, ${kernel}, node ${node}, koffi ${koffi}, spead2 ${spead2 ?? 'not used'}`)
    console.log(
      `mitigations: ${
        Object.entries(machine.mitigations)
          .map(([name, state]) => `${name}: ${state}`)
          .join('; ') || 'none needed'
      }`,
    )
    console.log(`${date}, commit ${commit.slice(0, 7)}${dirty ? ' with changes' : ''}`)
  }
  const before = points(committed)
  for (const group of groupBy(points(rows), (point) => `${point.batches},${point.packetSizeBytes}`).values()) {
    const { batches, packetSizeBytes, rounds } = group[0]
    console.log(
      `\nblack hole, packets ≤ ${packetSizeBytes}, ${batches} batches of 512 KiB in flight (spead2: 2), medians of ${rounds.length} rounds`,
    )
    console.log(
      rateTable(
        group.toSorted((a, b) => a.heapSizeBytes - b.heapSizeBytes),
        before,
      ),
    )
    console.log(summary(group))
  }
}
