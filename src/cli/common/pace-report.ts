/** Reports how much of the asked rate was reached and why not all, as far as the sender itself can tell. */
import type { StreamStats } from '../../index.js'

export interface PaceReport {
  readonly bytesPerSecond: number
  readonly basis: 'udp' | 'wire'
  /** The reached share of the rate; undefined where nothing was sent. */
  readonly reached: number | undefined
  /** That many bytes per second were sent. */
  readonly reachedBytesPerSecond: number | undefined
  /** Times without a batch, of which the bytes were sent later, and those of which they were not. */
  readonly madeUp: Gaps
  readonly givenUp: Gaps
  /** Empty where it was reached, or the device kept it. */
  readonly reasons: readonly string[]
}

interface Gaps {
  readonly gaps: number
  readonly seconds: number
}

type Counted = Pick<
  StreamStats,
  | 'udpBytes'
  | 'wireBytes'
  | 'packets'
  | 'packetsFailed'
  | 'pacedNanoseconds'
  | 'starvedNanoseconds'
  | 'lateNanoseconds'
  | 'refusedNanoseconds'
  | 'gapsMadeUp'
  | 'madeUpNanoseconds'
  | 'gapsGivenUp'
  | 'givenUpNanoseconds'
>

/** From this share on a rate counts as reached. Short runs end within a burst, so they may be half a per cent off. */
const NOT_REACHED = 0.995
/** Smaller shares of the time are no reason. */
const LEAST_SHARE = 0.01

export function paceReport(stats: Counted, bytesPerSecond: number, basis: 'udp' | 'wire', seconds: number): PaceReport {
  const bytes = basis === 'wire' ? stats.wireBytes : stats.udpBytes
  const reachedBytesPerSecond = seconds > 0 ? bytes / seconds : undefined
  const reached = reachedBytesPerSecond && reachedBytesPerSecond / bytesPerSecond
  const missed = reached !== undefined && reached < NOT_REACHED
  return {
    bytesPerSecond,
    basis,
    reached,
    reachedBytesPerSecond,
    madeUp: { gaps: stats.gapsMadeUp, seconds: stats.madeUpNanoseconds / 1e9 },
    givenUp: { gaps: stats.gapsGivenUp, seconds: stats.givenUpNanoseconds / 1e9 },
    reasons: missed ? reasonsOf(stats, seconds) : [],
  }
}

function reasonsOf(stats: Counted, seconds: number): string[] {
  const { packets, packetsFailed, pacedNanoseconds } = stats
  const shareOf = (nanoseconds: number): number => nanoseconds / 1e9 / seconds
  const starved = shareOf(stats.starvedNanoseconds)
  const late = shareOf(stats.lateNanoseconds)
  const refused = shareOf(stats.refusedNanoseconds)
  // Where the kernel or the device keeps the rate, nothing is known of the time.
  const kept = pacedNanoseconds + stats.starvedNanoseconds + stats.lateNanoseconds + stats.refusedNanoseconds > 0
  const busy = kept ? 1 - shareOf(pacedNanoseconds) - starved - late - refused : 0
  const causes: readonly (readonly [share: number, text: (percent: string) => string])[] = [
    [starved, (percent) => `no batch was waiting ${percent} of the time`],
    [late, (percent) => `the sending thread woke up late, by ${percent} of the time`],
    [refused, (percent) => `the kernel or the device had no room ${percent} of the time`],
    [packetsFailed / Math.max(1, packets + packetsFailed), (percent) => `${percent} of the packets could not be sent`],
    [busy, (percent) => `the sending thread was at work, or without a CPU, ${percent} of the time`],
  ]
  return causes
    .filter(([share]) => share >= LEAST_SHARE)
    .toSorted(([a], [b]) => b - a)
    .map(([share, text]) => text(`${(share * 100).toFixed(0)} %`))
}
