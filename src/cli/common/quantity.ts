/**
 * Parsers of option arguments, for commander. They take what table.ts prints. Their errors say what is allowed, and commander says which option it
 * was.
 */
import { InvalidArgumentError } from 'commander'

/** Digits, with commas between thousands as table.ts writes them or without. */
const WHOLE = /^(?:\d+|\d{1,3}(?:,\d{3})+)$/

const numberOf = (digits: string): number => Number(digits.replaceAll(',', ''))

export function wholeNumber(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = numberOf(text)
    if (WHOLE.test(text) && Number.isSafeInteger(value) && value >= least && value <= most) return value
    throw new InvalidArgumentError(
      `It must be a whole number ${most === Number.MAX_SAFE_INTEGER && !(value > most) ? `from ${least} up` : `from ${least} to ${most}`}.`,
    )
  }
}

/** By lower-case prefix. */
const PREFIXES: Readonly<Record<string, number>> = {
  '': 1, k: 1e3, m: 1e6, g: 1e9, t: 1e12, ki: 2 ** 10, mi: 2 ** 20, gi: 2 ** 30, ti: 2 ** 40,
} // biome-ignore format: a table

/** Parses bytes, plain or with a unit: 1048576, 1MiB, 64 KiB, 1.5GB, 512 bytes. A fraction of a unit is rounded to whole bytes. */
export function byteCount(least: number, most: number): (text: string) => number {
  const allowed = `a whole number of bytes from ${least} to ${most}, such as 8192 or 8KiB`
  return (text) => {
    const [, digits = '', unit = ''] = /^([\d.,]+)\s*([A-Za-z]*)$/.exec(text) ?? []
    const [, prefix = '', base] = /^((?:[kmgt]i?)?)(B|bytes?)?$/i.exec(unit) ?? []
    const scale = PREFIXES[prefix.toLowerCase()]!
    if (base === 'b') throw new InvalidArgumentError(`It must be ${allowed}; b is bits, write ${digits}${prefix}B.`)
    // Programs disagree whether 8k is 8000 or 8192.
    if (/^[kmgt]$/i.test(unit))
      throw new InvalidArgumentError(
        `It must be ${allowed}; ${unit} may be ${scale} or ${PREFIXES[`${unit.toLowerCase()}i`]}, write ${digits}${unit}B or ${digits}${unit.toUpperCase()}iB.`,
      )
    const value = /^\d+(?:\.\d+)?$/.test(digits) ? Number(digits) : WHOLE.test(digits) ? numberOf(digits) : Number.NaN
    const bytes = prefix === '' ? value : Math.round(value * scale)
    const known = unit === '' || base !== undefined || /i$/i.test(prefix)
    if (known && Number.isInteger(bytes) && bytes >= least && bytes <= most) return bytes
    throw new InvalidArgumentError(`It must be ${allowed}.`)
  }
}

/** Parses several: 256,8KiB,1MiB. */
export function byteCounts(least: number, most: number): (text: string) => number[] {
  const one = byteCount(least, most)
  return (text) => text.split(',').map((part) => one(part.trim()))
}

/** Parses a number, decimal or 0x…, as a bigint where a number is not exact. The library knows the limits. */
export function counter(text: string): number | bigint {
  const digits = WHOLE.test(text) ? text.replaceAll(',', '') : text
  if (!/^(\d+|0x[\da-f]+)$/i.test(digits)) throw new InvalidArgumentError('It must be a whole number, such as 1 or 0x1000.')
  const value = Number(digits)
  return Number.isSafeInteger(value) ? value : BigInt(digits)
}

export function decimal(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+(\.\d+)?$/.test(text) && Number.isFinite(value) && value >= least) return value
    throw new InvalidArgumentError(`It must be a number from ${least} up, without a unit.`)
  }
}

/** Parses samples a second: 1712e6, 1.712 GHz. */
export function hertz(text: string): number {
  const [, digits, prefix = ''] = /^(\d+(?:\.\d+)?(?:e\+?\d+)?)\s*(?:([kMG]?)Hz)?$/i.exec(text) ?? []
  const value = Number(digits) * PREFIXES[prefix.toLowerCase()]!
  if (value > 0 && Number.isFinite(value)) return value
  throw new InvalidArgumentError('It must be samples a second, such as 1712e6, 1712MHz or 1.712GHz.')
}

const SECONDS: Readonly<Record<string, number>> = {
  ns: 1e-9, us: 1e-6, 'µs': 1e-6, 'μs': 1e-6, ms: 1e-3, s: 1, sec: 1, second: 1, seconds: 1, min: 60, minute: 60, minutes: 60, h: 3600, hour: 3600, hours: 3600,
} // biome-ignore format: a table

/** Timers of Node run no longer: 2^31 − 1 milliseconds. */
const MOST_SECONDS = 2_147_483

/** Seconds of a text such as 5, 1.5 s, 250ms, 2min or 1:02:03; NaN where it is none. */
export const secondsOf = (text: string): number => timeOf(text, 1)

/** @param unit of a number without one, and of the result, in seconds */
function timeOf(text: string, unit: number): number {
  const clock = /^(?:(\d+):)?(\d+):([0-5]\d)$/.exec(text)
  if (clock) return (Number(clock[1] ?? 0) * 3600 + Number(clock[2]) * 60 + Number(clock[3])) / unit
  const [, digits, letters = ''] = /^(\d+(?:\.\d+)?)\s*([a-zµμ]*)$/i.exec(text) ?? []
  const scale = letters === '' ? unit : (SECONDS[letters.toLowerCase()] ?? Number.NaN)
  return Number(digits) * (scale / unit)
}

/** Parses a time in seconds: plain, or with a unit. */
export function seconds(least: number): (text: string) => number {
  return (text) => {
    const value = timeOf(text, 1)
    if (value >= least && value <= MOST_SECONDS) return value
    throw new InvalidArgumentError(`It must be a time from ${least} to ${MOST_SECONDS} seconds, such as 5, 250ms, 2min or 1:30.`)
  }
}

/** Parses a time in milliseconds: plain, or with a unit. */
export function milliseconds(least: number): (text: string) => number {
  return (text) => {
    const value = timeOf(text, 1e-3)
    if (value >= least && value <= MOST_SECONDS * 1000) return value
    throw new InvalidArgumentError(
      `It must be a time from ${least} to ${MOST_SECONDS * 1000} milliseconds, such as 10, 2.5ms or 1s.`,
    )
  }
}
