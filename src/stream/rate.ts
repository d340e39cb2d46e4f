import { shown } from '../checks.js'
import { ensure, SpeadcastError } from '../errors.js'

type Metric = '' | 'k' | 'K' | 'M' | 'm' | 'G' | 'g' | 'T' | 't'
type Binary = 'Ki' | 'ki' | 'Mi' | 'mi' | 'Gi' | 'gi' | 'Ti' | 'ti'

/**
 * Units of a rate. 'b' is bits and 'B' bytes, whatever the case of the prefix: 'Gb/s', 'Gbps', 'Gbit/s' and 'Gbit' are one unit, 'GB/s' another. A
 * prefix alone, as in '10G', means bits a second.
 */
export type RateUnit =
  | `${Metric | Binary}${'bps' | 'b/s' | 'bit/s' | 'bit' | 'B/s'}`
  | `${Uppercase<Metric>}BPS`
  | `${Uppercase<Metric>}${'BIT/S' | 'B/S'}`
  | Exclude<Metric, ''>

/**
 * A rate with its unit: '40Gbps', '890 Mb/s', '5GB/s', '100 MiB/s', '10G', or a share of the link's speed: '50%'. `parseRate` makes a number of a text that
 * is only known when the program runs.
 */
export type RateText = `${number}${'' | ' '}${RateUnit | '%'}` | '0'

const PREFIXES: Readonly<Record<string, number>> = {
  '': 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12, ki: 2 ** 10, mi: 2 ** 20, gi: 2 ** 30, ti: 2 ** 40,
} // biome-ignore format: a table

const REMEDY = 'write it as 10Gbps, 890 Mb/s or 10G for bits a second, 1.25GB/s or 100 MiB/s for bytes a second, 50% of the link'

/**
 * A rate in bytes per second of what `rateBasis` counts: a number, or text with a unit ('40Gbps', '890 Mb/s', '5GB/s', '100 MiB/s', '10G'). 0 = as fast as
 * possible.
 * @throws ERR_SPEADCAST_CONFIG, also for a share of a link ('50%'), whose speed only `openStream` can look up
 * @example parseRate('40Gbps') // 5e9
 */
export function parseRate(rate: number | string): number {
  if (typeof rate === 'number') {
    if (rate >= 0 && Number.isFinite(rate)) return rate
    const why = rate < 0 && Number.isFinite(rate) ? ', which is negative' : ''
    return refuse(`rate is ${rate}${why}; it must be a number of bytes per second, 0 for as fast as possible`)
  }
  ensure(
    typeof rate === 'string',
    'ERR_SPEADCAST_CONFIG',
    () => `rate is ${shown(rate)}; it must be a number or a text with a unit, such as '10Gbps'`,
  )
  const match = NUMBER.exec(rate)
  if (!match) return refuse(`rate '${cut(rate)}' ${whyNoNumber(rate)}; ${REMEDY}`)
  const [, digits, unit] = match as unknown as readonly [string, string, string]
  if (unit === '%')
    return refuse(
      Number(digits) === 0
        ? shareTooSmall(rate)
        : `rate '${rate}' is a share of a link; give it to openStream, which knows the link`,
    )
  if (Number(digits) === 0) return 0
  const bytes = unitBytes(unit)
  if (typeof bytes === 'string') return refuse(`rate '${cut(rate)}' ${bytes.replaceAll('#', cut(digits))}; ${REMEDY}`)
  if (Number.isFinite(Number(digits) * bytes)) return Number(digits) * bytes
  return refuse(`rate '${cut(rate)}' is too large; ${REMEDY}`)
}

/**
 * The part of the link's speed that '50%' asks for: 0.5. Undefined for other rates.
 * @throws ERR_SPEADCAST_CONFIG
 */
export function shareOfLink(rate: number | string): number | undefined {
  const [, digits, unit] = (typeof rate === 'string' && NUMBER.exec(rate)) || []
  if (unit !== '%') return undefined
  const share = Number(digits) / 100
  if (share === 0) return refuse(shareTooSmall(`${rate}`))
  if (share > 1) return refuse(`rate '${rate}' is more than the link can carry; give at most 100%, or a rate such as 10Gbps`)
  return share
}

const NUMBER = /^\s*\+?((?:\d+\.?\d*|\.\d+)(?:e\+?\d+)?)\s*([A-Za-z/]*|%)\s*$/i

const shareTooSmall = (rate: string): string => `rate '${rate}' would never send; 0 without % is as fast as possible`

/** Bytes a second that the unit stands for; else what is wrong with it, in which # stands for the number. */
function unitBytes(unit: string): number | string {
  const [, letters = '', base = ''] = /^((?:[kmgt]i?)?)(|b\/s|bps|bits?(?:\/s)?|bytes?\/s)$/i.exec(unit) ?? []
  const scale = PREFIXES[letters.toLowerCase()]
  if (unit === '')
    return 'has no known unit, so that it may be bits or bytes; for bits a second it is #bps, for bytes a second #B/s'
  if (base === '' && letters.length === 1) return scale! / 8
  const [amount] = /^(?:[kmgt]i?)?b$/i.exec(unit) ?? []
  if (amount !== undefined) return `has no known unit: ${amount} is an amount, and a rate is #${amount}/s`
  if (base === '' || scale === undefined) return `has no known unit: '${cut(unit)}' is none`
  // Some write GBps for gigabytes, others for gigabits.
  if (/^Bps$/i.test(base) && base[0] === 'B' && unit !== unit.toUpperCase())
    return `has no known unit: ${unit} may be bits or bytes; for bits a second it is #${letters}bps, for bytes a second #${letters}B/s`
  const inBytes = base.toLowerCase().startsWith('byte') || base === 'B/s' || base === 'B/S'
  return inBytes ? scale : scale / 8
}

function whyNoNumber(rate: string): string {
  if (rate.trim() === '') return 'is empty'
  if (/^\s*[-−–]\s*[\d.]/.test(rate)) return 'is negative, and no rate is below 0'
  if (/^\s*[\d.]+\s*[A-Za-z/%]*\s+[\d.]/.test(rate)) return 'has more than one number'
  if (/^\s*\d+,\d/.test(rate)) return 'has a comma in its number, where a point belongs'
  if (/^\s*0x/i.test(rate)) return 'is not a decimal number'
  return /\d/.test(rate) ? 'is not a number with a unit' : 'has no number, and no known unit'
}

const cut = (text: string): string => (text.length <= 40 ? text : `${text.slice(0, 40)}…`)

function refuse(message: string): never {
  throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message)
}
