import { shown } from '../checks.js'
import { ensure, SpeadcastError } from '../errors.js'

/** Units of a rate: of bits ('bps' and its multiples by 1000) or of bytes, a second. */
export type RateUnit = 'bps' | 'kbps' | 'Mbps' | 'Gbps' | 'Tbps' | 'B/s' | 'kB/s' | 'MB/s' | 'GB/s' | 'KiB/s' | 'MiB/s' | 'GiB/s'

/** A rate with its unit: '40Gbps', '5GB/s', '100 MiB/s'. `parseRate` makes a number of a text that is only known when the program runs. */
export type RateText = `${number}${'' | ' '}${RateUnit}` | '0'

const UNITS: Readonly<Record<RateUnit, number>> = {
  bps: 1 / 8, kbps: 1e3 / 8, Mbps: 1e6 / 8, Gbps: 1e9 / 8, Tbps: 1e12 / 8,
  'B/s': 1, 'kB/s': 1e3, 'MB/s': 1e6, 'GB/s': 1e9, 'KiB/s': 1024, 'MiB/s': 2 ** 20, 'GiB/s': 2 ** 30,
} // biome-ignore format: a table

/**
 * A rate in bytes per second of UDP payload: a number, or text with a unit ('40Gbps', '5GB/s', '100 MiB/s'). 0 = as fast as possible.
 * @throws ERR_SPEADCAST_CONFIG
 * @example parseRate('40Gbps') // 5e9
 */
export function parseRate(rate: number | string): number {
  if (typeof rate === 'number') {
    if (rate >= 0 && Number.isFinite(rate)) return rate
    throw new SpeadcastError(
      'ERR_SPEADCAST_CONFIG',
      `rate is ${rate}; it must be a number of bytes per second, 0 for as fast as possible`,
    )
  }
  ensure(
    typeof rate === 'string',
    'ERR_SPEADCAST_CONFIG',
    () => `rate is ${shown(rate)}; it must be a number or a text with a unit, such as '10Gbps'`,
  )
  const match = /^\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([A-Za-z/]*)\s*$/.exec(rate)
  if (match && Number(match[1]) === 0) return 0
  const unit = match && (UNITS as Readonly<Record<string, number>>)[match[2]!]
  if (unit && Number.isFinite(Number(match[1]) * unit)) return Number(match[1]) * unit
  throw new SpeadcastError(
    'ERR_SPEADCAST_CONFIG',
    `rate '${rate}' ${unit ? 'is too large' : 'has no known unit'}; write it as 10Gbps or 1.25GB/s (units: ${Object.keys(UNITS).join(', ')})`,
  )
}
