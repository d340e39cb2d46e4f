/** Parsers of option arguments, for commander. Their errors say what is allowed, and commander says which option it was. */
import { InvalidArgumentError } from 'commander'

export function wholeNumber(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+$/.test(text) && Number.isSafeInteger(value) && value >= least && value <= most) return value
    throw new InvalidArgumentError(
      `It must be a whole number ${most === Number.MAX_SAFE_INTEGER ? `from ${least} up` : `from ${least} to ${most}`}.`,
    )
  }
}

const BYTE_UNITS: Readonly<Record<string, number>> = {
  '': 1, B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40,
} // biome-ignore format: a table

/** Parses bytes, plain or with a unit: 1048576, 1MiB, 64KiB, 1.5GB. */
export function byteCount(least: number, most: number): (text: string) => number {
  return (text) => {
    const [, digits, unit] = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text) ?? []
    const value = Number(digits) * (unit === undefined ? Number.NaN : (BYTE_UNITS[unit] ?? Number.NaN))
    if (Number.isInteger(value) && value >= least && value <= most) return value
    throw new InvalidArgumentError(`It must be a whole number of bytes from ${least} to ${most}, such as 8192 or 8KiB.`)
  }
}

/** Parses several: 256,8KiB,1MiB. */
export function byteCounts(least: number, most: number): (text: string) => number[] {
  const one = byteCount(least, most)
  return (text) => text.split(',').map((part) => one(part.trim()))
}

/** Parses a number, decimal or 0x…, as a bigint where a number is not exact. The library knows the limits. */
export function counter(text: string): number | bigint {
  if (!/^(\d+|0x[\da-f]+)$/i.test(text)) throw new InvalidArgumentError('It must be a whole number, such as 1 or 0x1000.')
  const value = Number(text)
  return Number.isSafeInteger(value) ? value : BigInt(text)
}

export function decimal(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+(\.\d+)?$/.test(text) && Number.isFinite(value) && value >= least) return value
    throw new InvalidArgumentError(`It must be a number from ${least} up, without a unit.`)
  }
}
