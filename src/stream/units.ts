/** Warns of options that are allowed and probably in another unit than was meant, once for each in a process. */
import { shown } from '../checks.js'
import { counted, warn } from '../errors.js'
import type { StreamConfig } from './config.js'

/** No stream of samples is slower. */
const SLOW_BYTES_PER_SECOND = 1000
/** Longer times were probably given in milliseconds. */
const LONG_CATCH_UP_SECONDS = 10
const LONG_SECONDS = 1000
/** A program that opens streams at random rates for ever is told of this many. */
const MOST_TOLD = 100

const told = new Set<string>()

function tell(option: string, value: unknown, is: string, instead: string): void {
  const message = `${option} is ${shown(value)}, which is ${is}; ${instead}`
  if (told.has(message) || told.size >= MOST_TOLD) return
  told.add(message)
  warn('SPEADCAST_UNIT', message)
}

const isSlow = (bytesPerSecond: number): boolean => bytesPerSecond > 0 && bytesPerSecond < SLOW_BYTES_PER_SECOND
const perSecond = (bytes: number): string => `${counted(Number(bytes.toPrecision(4)), 'byte')} a second`

/** Whether a time in seconds is so long that it was probably given in milliseconds. */
function tellIfLong(option: string, seconds: number | undefined, least: number): void {
  if (seconds === undefined || seconds < least) return
  const is = seconds < 120 ? `${seconds} seconds` : `${Math.round(seconds / 60)} minutes`
  tell(option, seconds, is, `if you meant ${seconds} milliseconds, give ${seconds / 1000}`)
}

export function tellOfUnits({ rate, rateBytesPerSecond, catchUpSeconds, descriptors }: StreamConfig): void {
  if (isSlow(rateBytesPerSecond))
    tell('rate', rate, perSecond(rateBytesPerSecond), `if you meant gigabits, give '${Number.parseFloat(`${rate}`)}Gbps'`)
  tellIfLong('catchUpSeconds', catchUpSeconds, LONG_CATCH_UP_SECONDS)
  if (typeof descriptors === 'object') tellIfLong('descriptors.everySeconds', descriptors.everySeconds, LONG_SECONDS)
}

/** A rate of single heaps. */
export function tellIfHeapRateSlow(rate: number): void {
  if (isSlow(rate)) tell('heap rate', rate, perSecond(rate), `if you meant gigabits a second, give ${rate * 1.25e8}`)
}

export function tellIfDeadlineLong(deadlineSeconds: number | undefined): void {
  tellIfLong('close: deadlineSeconds', deadlineSeconds, LONG_SECONDS)
}
