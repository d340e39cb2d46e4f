/**
 * Runs `speadcast bench`: for each measurement opens a stream, sends the tutorial's pattern for a time, and takes the counts of that time.
 */
import { SpeadcastError } from '../../errors.js'
import { openStream, type Stream } from '../../index.js'
import { withAlternatives } from '../common/alternatives.js'
import { complain, EXIT_FAILED } from '../common/exit.js'
import { cutOffAfter, onInterrupt } from '../common/interrupt.js'
import { type CommandMetrics, openMetrics } from '../common/metrics.js'
import { say } from '../common/print.js'
import { Succession } from '../common/succession.js'
import { binaryBytes } from '../common/table.js'
import { Tally } from '../common/tally.js'
import { checkTransportOptions, transportOptions } from '../common/transport-options.js'
import { Watch } from '../common/watch.js'
import { batchHeapsOf, patternSource } from '../send/heaps.js'
import { tutorialItems } from '../send/items.js'
import { DEFAULT_PACKET_BYTES } from '../send/options.js'
import type { BenchFlags } from './flags.js'
import { type BenchRow, reportBench } from './report.js'
import { SweepProgress } from './sweep-progress.js'

/** After Ctrl-C, or the time of a measurement, queued batches may go for this time. */
const DEADLINE_SECONDS = 5

/** @param to where to send */
export async function runBench(to: readonly string[], flags: BenchFlags): Promise<void> {
  const stopping = new AbortController()
  const undo = onInterrupt(() => {
    say('interrupted: ending with what was measured so far; again to end at once')
    stopping.abort()
  })
  const rows: BenchRow[] = []
  let failure: unknown
  let succession: Succession | undefined
  let metrics: CommandMetrics | undefined
  try {
    checkTransportOptions(flags, flags.backend, to)
    succession = new Succession(new Watch('bench', flags))
    metrics = await openMetrics('bench', flags)
    await sweep(to, flags, rows, stopping.signal, succession, metrics)
  } catch (error) {
    failure = error
  } finally {
    succession?.end()
    await metrics?.close()
  }
  undo()
  if (rows.length > 0 || failure === undefined) reportBench(rows, to, flags, stopping.signal.aborted)
  if (failure !== undefined) complain('bench', await withAlternatives(failure, to, flags))
  else if (rows.some((row) => row.heapsFailed > 0)) {
    say('speadcast bench: heaps were not sent whole')
    process.exitCode = EXIT_FAILED
  }
}

async function sweep(
  to: readonly string[],
  flags: BenchFlags,
  rows: BenchRow[],
  stopping: AbortSignal,
  succession: Succession,
  metrics: CommandMetrics,
): Promise<void> {
  // One tally for all measurements, so that a cause is told once.
  const tally = new Tally('bench')
  let firstCnt = 1
  const progress = new SweepProgress(flags, tally)
  for (let round = 0; round < flags.repeats; round++)
    for (const heapSize of flags.sizes) {
      if (stopping.aborted) return
      const stream = await openStream({
        to,
        backend: flags.backend,
        packetSizeBytes: flags.packetSize ?? DEFAULT_PACKET_BYTES,
        rate: flags.rate,
        firstCnt,
        ...transportOptions(flags),
      })
      metrics.next(stream, { heap_size_bytes: heapSize })
      await succession.next({
        stream,
        tally,
        heapSizeBytes: heapSize,
        rateBasis: 'udp',
        title: `heaps of ${binaryBytes(heapSize)}, `,
        chosen: { sizes: flags.sizes, seconds: flags.seconds, warmupSeconds: flags.warmupSeconds, repeats: flags.repeats },
      })
      const hideProgress = succession.watch.shows ? () => undefined : progress.show(round, heapSize)
      try {
        const row = await measure(stream, { flags, heapSize, round, tally, stopping })
        if (row === undefined) return
        rows.push(row)
        // No heap was sent, so larger ones would not be sent either.
        if (row.heaps === 0) return
        firstCnt += row.stats.heapsSent + row.stats.heapsFailed
      } finally {
        hideProgress()
        await stream.destroy()
      }
    }
}

interface Point {
  readonly flags: BenchFlags
  readonly heapSize: number
  readonly round: number
  readonly tally: Tally
  readonly stopping: AbortSignal
}

/** Measures one heap size. Returns undefined if it was interrupted before anything was measured. */
async function measure(stream: Stream, { flags, heapSize, round, tally, stopping }: Point): Promise<BenchRow | undefined> {
  const batchHeaps = batchHeapsOf(undefined, heapSize)
  const options = {
    heaps: Number.POSITIVE_INFINITY,
    batchHeaps,
    batches: flags.batches,
    groupMode: 'serial',
  } as const
  const source = patternSource(stream, tutorialItems(heapSize), options, tally)
  const interrupted = (): boolean => stopping.aborted
  const sendFor = async (seconds: number): Promise<void> => {
    // Not AbortSignal.any: Node 20 may collect its signal while somebody still asks it.
    const enough = new AbortController()
    const end = (): void => enough.abort()
    const timer = setTimeout(end, seconds * 1000)
    stopping.addEventListener('abort', end)
    const settledInTime = cutOffAfter(stream, tally, enough.signal, DEADLINE_SECONDS)
    try {
      await source.send(enough.signal)
      await stream.flush()
    } catch (error) {
      if (!tally.cut) throw error
    } finally {
      settledInTime()
      clearTimeout(timer)
      stopping.removeEventListener('abort', end)
    }
    if (tally.cut && !interrupted())
      throw new SpeadcastError(
        'ERR_SPEADCAST_SEND',
        `heaps of ${binaryBytes(heapSize)} at --rate ${flags.rate}: what was queued in ${seconds} s had not left ` +
          `${DEADLINE_SECONDS} s later; give a higher --rate, or --sizes of less`,
      )
  }
  const now = () => ({ ...tally, counters: stream.stats(), cpu: process.cpuUsage(), at: performance.now() })
  const start = now()
  if (flags.warmupSeconds > 0) await sendFor(flags.warmupSeconds)
  if (interrupted()) return undefined
  const before = now()
  await sendFor(flags.seconds)
  const after = now()
  if (tally.lastAt <= before.at) return undefined
  const { inFlight: _, ...stats } = after.counters
  const seconds = (tally.lastAt - before.at) / 1000
  const packets = after.counters.packets - before.counters.packets
  const payloadBytes = after.payloadBytes - before.payloadBytes
  const refusals = ({ counters }: typeof after): number => counters.noBuffers + counters.reposts
  return {
    kind: 'run',
    ground: 'host',
    program: 'ours',
    round,
    attempt: 0,
    pointBatches: flags.batches ?? source.batches,
    batches: source.batches,
    batchHeaps,
    heapSizeBytes: heapSize,
    packetSizeBytes: flags.packetSize ?? DEFAULT_PACKET_BYTES,
    heaps: after.heaps - before.heaps,
    payloadBytes,
    seconds,
    payloadBytesPerSecond: Math.round(payloadBytes / seconds),
    packetsPerSecond: Math.round(packets / seconds),
    cpuSeconds: (after.cpu.user + after.cpu.system - before.cpu.user - before.cpu.system) / 1e6,
    packets: stats.packets,
    udpBytes: stats.udpBytes,
    warmupHeaps: before.heaps - start.heaps,
    heapsFailed: after.failed - start.failed,
    heapsSuspect: after.suspect - start.suspect,
    refused: refusals(after) - refusals(before),
    ...(interrupted() && { interrupted: true }),
    stats,
  }
}
