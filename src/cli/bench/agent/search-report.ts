/** What the table, JSON and the page of a search are made from, and words that they share. */
import { bitsPerSecond } from '../../common/table.js'
import type { BenchFlags } from '../flags.js'
import type { Found } from './found.js'

export interface SearchReport {
  readonly endpoint: string
  readonly flags: BenchFlags
  readonly found: readonly Found[]
  readonly interrupted: boolean
}

export const transportOf = (found: readonly Found[]): 'udp' | 'tcp' | undefined => found[0]?.transport

export const rateText = (rate: number | undefined): string => (rate === undefined ? '–' : bitsPerSecond(rate))

export function noteOf({ rate, confirmed, limitedBy, why }: Found): string {
  const above = rate === undefined ? why : `${limitedBy === 'none' ? '' : 'above: '}${why}`
  return rate === undefined || confirmed ? above : `not confirmed; ${above}`
}
