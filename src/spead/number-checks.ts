/** Checks of numbers that are written into items: their type, their range, and whether they are whole. */
import { shown } from '../checks.js'
import { SpeadcastError } from '../errors.js'

/** Names the place of a value for an error, such as '[3][1]'. */
export type Where = () => string

export type Check<T> = (value: unknown, where: Where) => T

export function fail(name: string, where: Where, problem: string): never {
  throw new SpeadcastError('ERR_SPEADCAST_VALUE', `item '${name}'${where()}: ${problem}`)
}

/** Makes a check for whole numbers of a width. It returns a number up to 53 bits, and above them the value as it was given. */
export function integerCheck(name: string, code: 'u' | 'i', bits: number): Check<number | bigint> {
  const bigMin = code === 'i' ? -(1n << BigInt(bits - 1)) : 0n
  const bigMax = (1n << BigInt(code === 'i' ? bits - 1 : bits)) - 1n
  const min = Number(bigMin)
  const max = Number(bigMax)
  const limit = bits <= 32 ? `${min} to ${max}` : code === 'i' ? `−2^${bits - 1} to 2^${bits - 1} − 1` : `0 to 2^${bits} − 1`
  return (value, where) => {
    if (typeof value === 'bigint') {
      if (value < bigMin || value > bigMax) fail(name, where, `${value}n is out of range for ${code}${bits} (${limit})`)
      return bits <= 53 ? Number(value) : value
    }
    if (typeof value !== 'number') return fail(name, where, `${shown(value)} is not a number, which ${code}${bits} needs`)
    if (!Number.isInteger(value)) fail(name, where, `${value} is not a whole number, which ${code}${bits} needs (${limit})`)
    if (value < min || value > max) fail(name, where, `${value} is out of range for ${code}${bits} (${limit})`)
    if (!Number.isSafeInteger(value)) fail(name, where, `${value} is beyond 2^53, where numbers have gaps: give a bigint`)
    return value
  }
}

const FLOAT_MAX: Readonly<Record<number, number>> = { 16: 65_504, 32: 3.4028234663852886e38 }

export function floatCheck(name: string, bits: number): Check<number> {
  const rounds = bits === 16 ? (value: number) => (Math.abs(value) < 65_520 ? value : Infinity) : bits === 32 ? Math.fround : Number
  return (value, where) => {
    if (typeof value !== 'number' && typeof value !== 'bigint')
      return fail(name, where, `${shown(value)} is not a number, which f${bits} needs`)
    const number = Number(value)
    if (Number.isFinite(number) && !Number.isFinite(rounds(number)))
      fail(name, where, `${value} is out of range for f${bits} (up to ±${FLOAT_MAX[bits]})`)
    return number
  }
}

export function booleanCheck(name: string): Check<number> {
  return (value, where) => {
    if (value === true || value === 1 || value === 1n) return 1
    if (value === false || value === 0 || value === 0n) return 0
    return fail(name, where, `${shown(value)} is not a boolean (true, false, 1 or 0)`)
  }
}
