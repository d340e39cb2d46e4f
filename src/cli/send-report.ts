import type { Stream } from '../index.js'
import { complain, EXIT_FAILED } from './exit.js'
import type { SendFlags } from './send.js'
import { packetSizeBytes } from './send-options.js'
import { bitsPerSecond, bytes, bytesPerSecond, count, table } from './table.js'
import type { Tally } from './tally.js'

/**
 * Of each frame: UDP 8, Ethernet header 14, FCS 4, preamble and start 8, gap 12 (IEEE 802.3); IP without options 20 or 40. A datagram of
 * RoCE version 2 has base and datagram headers of 12 and 8 behind UDP's, and a checksum of 4 (IBTA annex A17); one of InfiniBand less.
 */
const wireOverheadBytes = (family: 4 | 6, backend: string): number =>
  8 + (family === 4 ? 20 : 40) + 14 + 4 + 8 + 12 + (backend === 'rdma-ud' ? 12 + 8 + 4 : 0)

/** '[::1]:7148', or 'name (::1):7148'. */
const familyOf = (endpoint: string): 4 | 6 => (/^\[|\([^)]*:/.test(endpoint) ? 6 : 4)

interface Measured {
  readonly seconds: number
  readonly cpuSeconds: number
  readonly failure: unknown
}

/** The summary on standard output, complaints on standard error, the exit status. */
export function reportSend(stream: Stream, tally: Tally, flags: SendFlags, { seconds, cpuSeconds, failure }: Measured): void {
  const { backend, reason, evidence, states, inFlight: _, ...counters } = stream.stats()
  const { packets, udpBytes } = counters
  const wireBytes = udpBytes + packets * wireOverheadBytes(familyOf(stream.endpoints[0]!), backend)
  const perSecond = (value: number): number => (seconds > 0 ? value / seconds : 0)
  const summary = {
    backend,
    reason,
    evidence,
    heaps: tally.heaps,
    heapsFailed: tally.failed,
    heapSizeBytes: flags.heapSize,
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
    stats: { ...counters, ...states },
  }
  process.stdout.write(
    flags.json
      ? `${JSON.stringify(summary)}\n`
      : table([
          ['backend', `${backend} (${reason})`],
          ['heaps', `${count(tally.heaps)} sent, ${count(tally.failed)} failed`],
          ...(tally.dropped > 0 ? ([['  dropped', `${count(tally.dropped)} at the deadline`]] as const) : []),
          ...(tally.suspect > 0
            ? ([['  suspect', `${count(tally.suspect)}: the link was lost or the interface dropped`]] as const)
            : []),
          ['evidence', evidence],
          ['payload', `${bytes(tally.payloadBytes)} (${tally.payloadBytes} bytes)`],
          ['packets', `${count(packets)} of at most ${summary.packetSizeBytes} bytes`],
          ['segmentation', `${summary.segmentation} (${summary.segmentationReason})`],
          ['seconds', `${seconds.toFixed(3)}, CPU ${cpuSeconds.toFixed(3)}`],
          ['payload rate', bytesPerSecond(summary.payloadBytesPerSecond)],
          ['UDP rate', bitsPerSecond(perSecond(udpBytes))],
          ['wire rate', bitsPerSecond(perSecond(wireBytes))],
          ['packets/s', count(summary.packetsPerSecond)],
        ]),
  )
  if (states.sendBufferClipped) process.stderr.write(`speadcast send: socket send buffer: ${states.sendBufferClipped}\n`)
  if (failure !== undefined) complain('send', failure)
  if (tally.failed > 0) fail(`${tally.failed} heaps were not sent whole`)
  if (tally.stopLost) fail('the stop heap was not sent to every substream')
}

function fail(message: string): void {
  process.stderr.write(`speadcast send: ${message}\n`)
  process.exitCode = EXIT_FAILED
}
