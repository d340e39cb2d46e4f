/** Reports how well the heaps kept their times by the observation clock. */
import type { StreamClock, StreamStats } from '../../index.js'
import { count, many, milliseconds } from '../common/table.js'

export interface ClockReport {
  /** Between a heap's time and its sending. */
  readonly timeErrorSeconds: { readonly p50: number; readonly p99: number; readonly greatest: number }
  readonly heapsSkipped: number
  readonly clockSteps: number
}

export function clockReport(
  { timeErrors: { p50, p99, max } }: Pick<StreamClock, 'timeErrors'>,
  { heapsSkipped, clockSteps }: Pick<StreamStats, 'heapsSkipped' | 'clockSteps'>,
): ClockReport {
  return { timeErrorSeconds: { p50: p50 / 1e9, p99: p99 / 1e9, greatest: max / 1e9 }, heapsSkipped, clockSteps }
}

export function clockRows({ timeErrorSeconds, heapsSkipped, clockSteps }: ClockReport): [name: string, value: string][] {
  const { p50, p99, greatest } = timeErrorSeconds
  const text = (seconds: number): string =>
    seconds < 1e-3 ? `${count(Math.round(seconds * 1e6))} µs` : milliseconds(seconds * 1000)
  return [
    ['time error', `p50 ${text(p50)}, p99 ${text(p99)}, at most ${text(greatest)}`],
    ...(heapsSkipped > 0 ? ([['  left out', `${count(heapsSkipped)} late (--late skip)`]] as [string, string][]) : []),
    ...(clockSteps > 0 ? ([['  clock set', many(clockSteps, 'time')]] as [string, string][]) : []),
  ]
}
