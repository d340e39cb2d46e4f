/** Defines the report from which a search's table, JSON and page are made, and the words that they share. */
import { bitsPerSecond } from '../../common/table.js'
import type { BenchFlags } from '../flags.js'
import { DEFAULT_BURST_BYTES } from './bursts.js'
import type { Found } from './found.js'

export interface SearchReport {
  readonly endpoint: string
  readonly flags: BenchFlags
  readonly found: readonly Found[]
  readonly interrupted: boolean
}

export const transportOf = (found: readonly Found[]): 'udp' | 'tcp' | undefined => found[0]?.transport

export const rateText = (rate: number | undefined): string => (rate === undefined ? '–' : bitsPerSecond(rate))

export function noteOf({ rate, burstBytes, confirmed, limitedBy, why }: Found, flags: BenchFlags): string {
  if (rate === undefined) return why
  const above = `${limitedBy === 'none' ? '' : 'above: '}${why}`
  const parts = [confirmed ? '' : 'not confirmed', shortened(burstBytes, flags) ? `with --burst ${burstBytes}` : '', above]
  return parts.filter((part) => part !== '').join('; ')
}

const shortened = (burstBytes: number, flags: BenchFlags): boolean =>
  flags.burst === undefined && burstBytes !== DEFAULT_BURST_BYTES
