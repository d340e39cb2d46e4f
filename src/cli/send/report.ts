import { counted } from '../../errors.js'
import type { Stream, StreamStats } from '../../index.js'
import { complain, EXIT_FAILED, errorReport } from '../common/exit.js'
import { type PaceReport, paceReport } from '../common/pace-report.js'
import { printSummary, say } from '../common/print.js'
import { bitsPerSecond, bytes, bytesPerSecond, count, many, milliseconds, table } from '../common/table.js'
import type { Tally } from '../common/tally.js'
import type { SendFlags } from './flags.js'
import { packetSizeBytes } from './options.js'

interface Measured {
  /** Bytes of samples in a heap. */
  readonly heapBytes: number
  /** The number of batches that could be under way at once. */
  readonly batches: number
  readonly batchHeaps: number
  readonly seconds: number
  readonly cpuSeconds: number
  readonly failure: unknown
}

/** Prints the summary on standard output and complaints on standard error, and sets the exit status. */
export function reportSend(
  stream: Stream,
  tally: Tally,
  flags: SendFlags,
  { heapBytes, batches, batchHeaps, seconds, cpuSeconds, failure }: Measured,
): void {
  const stats = stream.stats({ substreams: true })
  const { backend, reason, evidence, states, inFlight: _, wireBytes, histograms, substreams, ...counters } = stats
  const { packets, udpBytes } = counters
  const rate =
    stream.rateBytesPerSecond > 0
      ? paceReport({ ...counters, wireBytes }, stream.rateBytesPerSecond, flags.rateBasis, seconds)
      : undefined
  const perSecond = (value: number): number => (seconds > 0 ? value / seconds : 0)
  const summary = {
    backend,
    reason,
    evidence,
    heaps: tally.heaps,
    heapsFailed: tally.failed,
    heapSizeBytes: heapBytes,
    packetSizeBytes: packetSizeBytes(flags),
    packets,
    payloadBytes: tally.payloadBytes,
    udpBytes,
    wireBytes,
    seconds,
    payloadBytesPerSecond: perSecond(tally.payloadBytes),
    packetsPerSecond: perSecond(packets),
    segmentation: String(states.segmentation ?? 'off'),
    segmentationReason: String(states.segmentationReason ?? `backend ${backend} has none`),
    cpuSeconds,
    heapsDropped: tally.dropped,
    heapsSuspect: tally.suspect,
    portUnreachable: counters.portUnreachable,
    batches,
    batchHeaps,
    ...(rate && { rate }),
    histograms,
    substreams,
    stats: { ...counters, ...states },
    ...(failure !== undefined && { error: errorReport('send', failure, EXIT_FAILED) }),
  }
  if (!printSummary(flags, summary))
    process.stdout.write(
      table([
        ['backend', `${backend} (${reason})`],
        ['heaps', `${count(tally.heaps)} sent, ${count(tally.failed)} failed`],
        ...(tally.dropped > 0 ? ([['  dropped', `${count(tally.dropped)} at the deadline`]] as const) : []),
        ...(tally.suspect > 0 ? ([['  suspect', `${count(tally.suspect)}: ${suspicionOf(counters, states)}`]] as const) : []),
        ...(counters.portUnreachable > 0 ? ([['  unreachable', unreachableAt(states, counters.portUnreachable)]] as const) : []),
        ['evidence', evidence],
        ['payload', `${bytes(tally.payloadBytes)} (${tally.payloadBytes} bytes)`],
        ['packets', `${count(packets)} of at most ${summary.packetSizeBytes} bytes`],
        ['segmentation', `${summary.segmentation} (${summary.segmentationReason})`],
        ['seconds', `${seconds.toFixed(3)}, CPU ${cpuSeconds.toFixed(3)}`],
        ['batches', `${count(batches)} of ${many(summary.batchHeaps, 'heap')} under way at most`],
        ...(rate ? ([['rate', describeRate(rate, backend)], ...gapRows(rate)] as const) : []),
        ['payload rate', bytesPerSecond(summary.payloadBytesPerSecond)],
        [`${carrierOf(backend)} rate`, bitsPerSecond(perSecond(udpBytes))],
        ...(backend === 'tcp' ? [] : ([['wire rate', bitsPerSecond(perSecond(wireBytes))]] as const)),
        ['packets/s', count(summary.packetsPerSecond)],
      ]),
    )
  if (states.sendBufferClipped) say(`speadcast send: socket send buffer: ${states.sendBufferClipped}`)
  if (failure !== undefined) {
    complain('send', failure)
    // Bad usage is what is refused before anything goes.
    if (packets > 0) process.exitCode = EXIT_FAILED
  }
  if (tally.failed > 0)
    fail(
      `${counted(tally.failed, 'heap')} ${tally.failed === 1 ? 'was' : 'were'} not sent whole (speadcast explain ERR_SPEADCAST_SEND)`,
    )
  if (tally.dropped > 0)
    fail(`${counted(tally.dropped, 'heap')} ${tally.dropped === 1 ? 'was' : 'were'} dropped at the deadline (--deadline)`)
  if (tally.stopLost) fail('the stop heap was not sent to every substream')
}

/** Says where nobody listens. */
function unreachableAt({ portUnreachableAt = 'an endpoint' }: StreamStats['states'], times: number): string {
  return `nobody listens: ${count(times)} ICMP port unreachable (${portUnreachableAt})`
}

/** Says why heaps may not have left, by the counters. */
function suspicionOf(
  { queuedErrors, portUnreachable }: Pick<StreamStats, 'queuedErrors' | 'portUnreachable'>,
  states: StreamStats['states'],
): string {
  const reasons = [
    ...(Number(states.dropsBelowSocket) > 0
      ? [`${counted(Number(states.dropsBelowSocket), 'packet')} dropped below the socket`]
      : []),
    ...(Number(states.dropsByIpsec) > 0 ? [`IPsec dropped ${counted(Number(states.dropsByIpsec), 'packet')}`] : []),
    ...(queuedErrors > portUnreachable ? ['routers or hosts rejected packets'] : []),
  ]
  return reasons.join(', ') || 'the link was lost, or the path changed'
}

/** The protocol whose payload `udpBytes` counts. */
const carrierOf = (backend: Stream['backend']): string => (backend === 'tcp' ? 'TCP' : backend === 'rdma-ud' ? 'datagram' : 'UDP')

function describeRate(
  { bytesPerSecond, basis, reached, reachedBytesPerSecond = 0, reasons }: PaceReport,
  backend: Stream['backend'],
): string {
  const asked = `asked ${bitsPerSecond(bytesPerSecond)} of ${basis === 'wire' ? 'the wire' : `${carrierOf(backend)} payload`}`
  if (reached === undefined) return asked
  const got = `reached ${reached.toFixed(3)} (${bitsPerSecond(reachedBytesPerSecond)})`
  return `${asked}, ${got}${reasons.length > 0 ? `: ${reasons.join('; ')}` : ''}`
}

/** Rows of the times without a batch; none where there were none. */
function gapRows({ madeUp, givenUp }: PaceReport): [name: string, value: string][] {
  const text = ({ gaps, seconds }: PaceReport['madeUp']): string =>
    `${many(gaps, 'time')} without a batch, ${milliseconds(seconds * 1000)} in all`
  const rows: [string, string][] = []
  if (madeUp.gaps > 0) rows.push(['  made up', text(madeUp)])
  if (givenUp.gaps > 0) rows.push(['  not made up', `${text(givenUp)}: --catch-up is shorter`])
  return rows
}

function fail(message: string): void {
  say(`speadcast send: ${message}`)
  process.exitCode = EXIT_FAILED
}
