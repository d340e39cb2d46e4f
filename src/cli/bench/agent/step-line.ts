/** A run as one line of a table whose other lines are not known yet. */
import { bitsPerSecond, count } from '../../common/table.js'
import type { Step } from './step.js'

const WIDTHS = [10, 12, 12, 9, 9, 7] as const
const row = (cells: readonly string[], last: string): string =>
  `${cells.map((cell, i) => cell.padStart(WIDTHS[i]!)).join('  ')}  ${last}`.trimEnd()

export const STEP_HEAD = row(['asked', 'sent', 'received', 'lost', 'reordered', 'drops'], '')

/** 0 %, 12.5 %, 0.0013 %. */
export function percent(share: number): string {
  if (share === 0) return '0 %'
  return `${Number((share * 100).toPrecision(share < 0.01 ? 2 : 3))} %`
}

export function lossOf({ packetsLost, packetsSent }: Pick<Step, 'packetsLost' | 'packetsSent'>): number {
  return packetsSent > 0 ? packetsLost / packetsSent : 0
}

export function describeStep(step: Step): string {
  const { rateAsked, rateReached, rateReceived, packetsReordered, passed, phase, why } = step
  const asked = rateAsked === 0 ? 'most' : bitsPerSecond(rateAsked)
  const verdict = passed ? (phase === 'confirm' ? 'well, again' : 'well') : 'not whole'
  return row(
    [
      asked,
      bitsPerSecond(rateReached),
      bitsPerSecond(rateReceived),
      percent(lossOf(step)),
      count(packetsReordered),
      count(step.droppedByReceiverSocket),
    ],
    why === '' ? verdict : `${verdict}: ${why}`,
  )
}
