/** Times as users write them: UTC or TAI, to the nanosecond. */
import { isInstance, isObject, shown } from '../checks.js'
import { SpeadcastError } from '../errors.js'

/**
 * A time: seconds since 1970 UTC, a Date, or text, which is such seconds or ISO 8601 with its zone ('2026-12-01T00:00:00Z'). `{ tai }` is on TAI
 * instead: seconds since 1970 TAI, or text without a zone. Text may end with ' TAI' to the same effect. A number is exact to 0.3 µs, text to 1 ns.
 * Times before 1970 or after the year 5000 are refused, and so is text without a zone (ERR_SPEADCAST_CONFIG).
 * @example const sync: ClockTime = { tai: 1_796_083_237 } // 2026-12-01T00:00:00Z, while TAI − UTC is 37 s
 */
export type ClockTime =
  | number
  | string
  | Date
  | {
      /** Seconds since 1970 TAI, or text without a zone. */
      readonly tai: number | string
    }

/** A time in whole seconds since 1970 of its scale, and nanoseconds beyond them. */
export interface Instant {
  readonly seconds: number
  readonly nanoseconds: number
  readonly scale: 'UTC' | 'TAI'
}

/** The year 5138: larger numbers of seconds are milliseconds or nanoseconds. */
const MOST_SECONDS = 1e11

const NUMBER = /^(\d+)(?:\.(\d+))?(?:\s*(TAI|UTC))?$/i
const ISO = /^(\d{4})-(\d\d)-(\d\d)(?:T|\s+)(\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?\s*(Z|UTC|TAI|[+-]\d\d:?\d\d)?$/i

/** @throws ERR_SPEADCAST_CONFIG for what is no time */
export function parseTime(name: string, time: ClockTime): Instant {
  const refuse = (why: string): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `${name} ${why}`)
  }
  if (typeof time === 'number') return ofNumber(time, 'UTC', refuse)
  if (typeof time === 'string') return ofText(time, 'UTC', refuse)
  if (isInstance(time, Date)) {
    const milliseconds = time.getTime()
    if (Number.isNaN(milliseconds)) return refuse('is an invalid Date; give one whose getTime() is a number')
    if (milliseconds < 0) return refuse(`is ${time.toISOString()}, before 1970; give a later time`)
    return { seconds: Math.floor(milliseconds / 1000), nanoseconds: (milliseconds % 1000) * 1e6, scale: 'UTC' }
  }
  const tai = isObject(time) ? (time as { readonly tai?: unknown }).tai : undefined
  if (typeof tai === 'number') return ofNumber(tai, 'TAI', refuse)
  if (typeof tai === 'string') return ofText(tai, 'TAI', refuse)
  return refuse(
    `is ${shown(time)}; it must be a time: seconds since 1970, a Date, text such as '2026-12-01T00:00:00Z', or { tai: seconds }`,
  )
}

type Scale = Instant['scale']
type Refuse = (why: string) => never

function ofNumber(time: number, scale: Scale, refuse: Refuse): Instant {
  if (!Number.isFinite(time)) return refuse(`is ${time}; it must be seconds since 1970`)
  if (time < 0) return refuse(`is ${time}, before 1970; give a later time, in seconds since 1970`)
  if (time >= MOST_SECONDS)
    return refuse(`is ${time} seconds since 1970, which is after the year 5000; if those are milliseconds, divide them by 1000`)
  const seconds = Math.floor(time)
  const nanoseconds = Math.round((time - seconds) * 1e9)
  return nanoseconds === 1e9 ? { seconds: seconds + 1, nanoseconds: 0, scale } : { seconds, nanoseconds, scale }
}

function ofText(text: string, scale: Scale, refuse: Refuse): Instant {
  const trimmed = text.trim()
  const [, whole, fraction = '', suffix] = NUMBER.exec(trimmed) ?? []
  if (whole !== undefined) {
    const is = scaleOf(scale, suffix, text, refuse)
    return { ...ofNumber(Number(whole), is, refuse), nanoseconds: nanosecondsOf(fraction) }
  }
  const match = ISO.exec(trimmed)
  if (!match)
    return refuse(
      `is ${shown(text)}; it must be a time such as '2026-12-01T00:00:00Z', '2026-12-01T00:00:37 TAI' or seconds since 1970`,
    )
  const [year, month, day, hour, minute, second] = match.slice(1, 7).map((digits) => Number(digits ?? 0)) as [
    number, number, number, number, number, number,
  ] // biome-ignore format: six numbers
  const [, , , , , , , parts = '', zone] = match
  if (second === 60)
    return refuse(`is ${shown(text)}, within a leap second; write it on TAI, which has none: '2026-12-01T00:00:37 TAI'`)
  // Date.UTC takes the years 0 to 99 for those of the last century.
  if (year < 1969) return refuse(`is ${shown(text)}, before 1970; give a later time`)
  const milliseconds = Date.UTC(year, month - 1, day, hour, minute, second)
  const date = new Date(milliseconds)
  const exists = date.getUTCMonth() === month - 1 && date.getUTCDate() === day && hour < 24 && minute < 60 && second < 60
  if (!exists) return refuse(`is ${shown(text)}, which is no day or no time of a day`)
  if (scale === 'UTC' && zone === undefined)
    return refuse(`is ${shown(text)}, of which the zone is unknown; write Z behind it for UTC, or ' TAI'`)
  const isOffset = zone !== undefined && /^[+-]/.test(zone)
  if (isOffset && scale === 'TAI') return refuse(`is ${shown(text)}, and TAI has no zones; leave ${zone} out`)
  const ahead = isOffset ? offsetOf(zone) : 0
  if (Number.isNaN(ahead)) return refuse(`is ${shown(text)}, and ${zone} is no zone; zones go from -12:00 to +14:00`)
  const seconds = milliseconds / 1000 - ahead
  if (seconds < 0) return refuse(`is ${shown(text)}, before 1970; give a later time`)
  return { seconds, nanoseconds: nanosecondsOf(parts), scale: scaleOf(scale, isOffset ? undefined : zone, text, refuse) }
}

function scaleOf(scale: Scale, suffix: string | undefined, text: string, refuse: Refuse): Scale {
  const said = suffix === undefined ? scale : suffix.toUpperCase() === 'TAI' ? 'TAI' : 'UTC'
  if (scale === 'TAI' && said === 'UTC') return refuse(`is { tai: ${shown(text)} }, which says UTC too; leave one of the two out`)
  return said
}

/** Digits beyond the ninth are cut off. */
const nanosecondsOf = (fraction: string): number => Number(fraction.slice(0, 9).padEnd(9, '0'))

/** Seconds that a zone such as +02:00 is ahead of UTC; NaN: there is no such zone. */
function offsetOf(zone: string): number {
  const [, sign, hours, minutes] = /^([+-])(\d\d):?(\d\d)$/.exec(zone)!
  const ahead = (sign === '-' ? -1 : 1) * (Number(hours) * 3600 + Number(minutes) * 60)
  return Number(minutes) > 59 || ahead < -12 * 3600 || ahead > 14 * 3600 ? Number.NaN : ahead
}
