/** The option `clock` of openStream: what it may be, and what it must not be together with others. */
import * as v from 'valibot'
import { isInstance } from '../checks.js'
import { SpeadcastError } from '../errors.js'
import { parseTime } from './clock-time.js'
import type { StreamOptions } from './options.js'
import { choice, whole } from './schema.js'
import type { StreamClockOptions } from './stream-clock-options.js'

const between = (low: number, high: number, unit: string) => {
  const message = `must be a number from ${low} to ${high} (${unit})`
  return v.pipe(
    v.number(message),
    v.check((n) => n >= low && n <= high, message),
  )
}

const time = v.union(
  // parseTime says what is amiss with a Date that is none.
  [
    v.number(),
    v.string(),
    v.custom<Date>((value) => isInstance(value, Date)),
    v.strictObject({ tai: v.union([v.number(), v.string()]) }),
  ],
  "must be a time: seconds since 1970, a Date, text such as '2026-12-01T00:00:00Z', or { tai: seconds }",
)

export const clockSchema = v.strictObject(
  {
    syncTime: time,
    sampleRateHz: between(1e-3, 1e12, 'samples a second'),
    samplesPerHeap: whole(1, 2 ** 48, 'samples'),
    item: v.exactOptional(v.string('must be the name of an item')),
    startAt: v.exactOptional(time),
    late: v.exactOptional(choice(['slip', 'skip'])),
    lateToleranceSeconds: v.exactOptional(between(0, 3600, 'seconds')),
    unsynchronised: v.exactOptional(choice(['refuse', 'warn', 'accept'])),
  },
  'must be an object { syncTime, sampleRateHz, samplesPerHeap }',
)

/** The other options that the clock meets. */
type Beside = { readonly clock?: StreamClockOptions | undefined } & Pick<StreamOptions, 'rateMethod'> & {
    readonly rateShare?: number | undefined
    readonly rateBytesPerSecond: number
  }

/** @throws ERR_SPEADCAST_CONFIG */
export function checkClock({ clock, rateBytesPerSecond, rateShare, rateMethod }: Beside): void {
  if (!clock) return
  const contradict = (message: string): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message)
  }
  if (rateBytesPerSecond > 0 || rateShare !== undefined)
    contradict('rate and clock are given: the clock says when each heap is due, which makes the rate; leave rate out')
  if (rateMethod === 'kernel' || rateMethod === 'hw')
    contradict(`rateMethod '${rateMethod}' keeps a rate, and clock says when each heap is due; leave rateMethod out`)
  if (clock.lateToleranceSeconds !== undefined && clock.late !== 'skip')
    contradict("clock.lateToleranceSeconds is of heaps that are left out; give clock.late 'skip' too")
  parseTime('clock.syncTime', clock.syncTime)
  if (clock.startAt !== undefined) parseTime('clock.startAt', clock.startAt)
}
