/** Prints the results of `speadcast bench`: the host, and a line for each heap size; or all of it as JSON. */
import { readFileSync } from 'node:fs'
import { cpus, machine, release, totalmem, type } from 'node:os'
import type { StreamStats } from '../../index.js'
import { printSummary } from '../common/print.js'
import { binaryBytes, columns, count, table } from '../common/table.js'
import type { BenchFlags } from './flags.js'

/** A row of a run, as docs/bench/README.md describes it. */
export interface BenchRow {
  readonly kind: 'run'
  readonly ground: 'host'
  readonly program: 'ours'
  readonly round: number
  readonly attempt: 0
  readonly pointBatches: number
  readonly batches: number
  readonly batchHeaps: number
  readonly heapSizeBytes: number
  readonly packetSizeBytes: number
  readonly heaps: number
  readonly payloadBytes: number
  readonly seconds: number
  readonly payloadBytesPerSecond: number
  readonly packetsPerSecond: number
  readonly cpuSeconds: number
  readonly packets: number
  readonly udpBytes: number
  readonly warmupHeaps: number
  readonly heapsFailed: number
  readonly heapsSuspect: number
  readonly refused: number
  readonly interrupted?: true
  readonly stats: Omit<StreamStats, 'inFlight'>
}

/** Returns the interface's MTU; undefined off Linux, and where the backend does not tell its interface. */
function mtuBytes(interfaceName: string): number | undefined {
  try {
    return Number(readFileSync(`/sys/class/net/${interfaceName}/mtu`, 'utf8'))
  } catch {
    return undefined
  }
}

function describeHost(rows: readonly BenchRow[], flags: BenchFlags) {
  const stats = rows.at(-1)?.stats
  const name = String(stats?.states.interface ?? flags.interface ?? '')
  return {
    kind: 'machine',
    date: new Date().toISOString(),
    cpu: cpus()[0]?.model ?? 'unknown',
    cpus: cpus().length,
    memoryBytes: totalmem(),
    kernel: `${type()} ${release()} ${machine()}`,
    node: process.version,
    interface: name,
    mtuBytes: mtuBytes(name),
    backend: stats?.backend,
    reason: stats?.reason,
    evidence: stats?.evidence,
    states: stats?.states ?? {},
  }
}

export function reportBench(rows: readonly BenchRow[], to: readonly string[], flags: BenchFlags, interrupted: boolean): void {
  const host = describeHost(rows, flags)
  if (printSummary(flags, { machine: host, interrupted, rows })) return
  if (rows.length === 0) process.stdout.write('nothing was measured\n')
  else process.stdout.write(`${describe(host, to, flags, rows)}\n${sizes(rows)}`)
}

function describe(
  { states, ...host }: ReturnType<typeof describeHost>,
  to: readonly string[],
  { seconds, warmupSeconds }: BenchFlags,
  rows: readonly BenchRow[],
): string {
  const batches = [...new Set(rows.map((row) => row.batches))].sort((a, b) => a - b)
  const state = (name: 'segmentation' | 'udpPath'): string =>
    `${states[name]}${states[`${name}Reason`] ? ` (${states[`${name}Reason`]})` : ''}`
  return table([
    ['to', to.join(', ')],
    ['host', `${host.cpu} × ${host.cpus}, ${host.kernel}, node ${host.node}`],
    ['interface', `${host.interface || 'unknown'}${host.mtuBytes ? `, MTU ${host.mtuBytes}` : ''}`],
    ['backend', `${host.backend} (${host.reason}), evidence: ${host.evidence}`],
    ...(['segmentation', 'udpPath'] as const)
      .filter((name) => states[name] !== undefined)
      .map((name) => [name === 'udpPath' ? 'UDP path' : name, state(name)] as const),
    ['each', `${seconds} s behind ${warmupSeconds} s of warm-up, ${batches.join(' or ')} batches in flight`],
  ])
}

/** `values` has at least one, so both of the middle ones are there. */
const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b)
  return (sorted[(sorted.length - 1) >> 1]! + sorted[sorted.length >> 1]!) / 2
}

/** Makes the table of medians over the rounds. */
function sizes(rows: readonly BenchRow[]): string {
  const lines = [...new Set(rows.map((row) => row.heapSizeBytes))].map((size) => {
    const own = rows.filter((row) => row.heapSizeBytes === size)
    const megabytes = own.map((row) => row.payloadBytesPerSecond / 1e6)
    const sum = (field: 'heapsFailed' | 'heapsSuspect' | 'refused'): string => count(own.reduce((all, row) => all + row[field], 0))
    return [
      binaryBytes(size),
      count(median(megabytes)),
      own.length > 1 ? `${count(Math.min(...megabytes))}…${count(Math.max(...megabytes))}` : '',
      count(median(own.map((row) => row.packetsPerSecond))),
      own.every((row) => row.payloadBytes > 0)
        ? median(own.map((row) => row.cpuSeconds / (row.payloadBytes / 1e9))).toFixed(3)
        : '–',
      sum('heapsFailed'),
      sum('heapsSuspect'),
      sum('refused'),
      own.some((row) => row.interrupted) ? 'cut short' : '',
    ]
  })
  const head = ['heap', 'MB/s', 'least…most', 'packets/s', 'CPU s/GB', 'failed', 'suspect', 'refused', '']
  return columns(head, lines)
}
