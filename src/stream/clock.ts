/** The observation clock, on the side of the user: its options become a schedule for the engine, and timestamps are found for it. */
import { type ClockOpinion, clockOpinion, TaiClock } from '../../ffi/clock.js'
import { nativeCallsWork } from '../../ffi/libc.js'
import { checkOptions, messageOf, shown } from '../checks.js'
import { floorDivide, fractionOf, type ScheduleOptions } from '../engine/schedule.js'
import { counted, ensure, SpeadcastError, warn } from '../errors.js'
import { type Distribution, Histogram } from '../histogram.js'
import type { Flavour, ItemGroup } from '../spead/index.js'
import type { StreamCounters } from '../stats.js'
import { type ClockTime, type Instant, parseTime } from './clock-time.js'
import type { StreamClockOptions } from './stream-clock-options.js'

/** A batch is made and filled by then. */
const LEAD_SECONDS = 0.05
/** A time slice of Linux's scheduler is 4 ms, so a host that is merely busy loses no heap. */
const TOLERANCE_SECONDS = 0.005
/** Times that are farther ahead are mistakes. */
const FAR_SECONDS = 366 * 86400
const PER_SECOND = 1_000_000_000n

/**
 * Options of `stream.clock.nextTimestamp`.
 * @example const first = stream.clock!.nextTimestamp({ period: 2 ** 20 })
 */
export interface NextTimestampOptions {
  /** The earliest time. Default `startAt` if that has not passed, else 50 ms from now, by which a batch is filled. */
  after?: ClockTime
  /** The timestamp is a multiple of this many samples, from 1 to 2^48. Default `samplesPerHeap`. */
  period?: number
  /** The width of the item, at which timestamps wrap: from 1 to the flavour's heap address bits, which is the default. */
  bits?: number
}

/**
 * The observation clock of a stream (docs/clock.md).
 * @example
 * const first = stream.clock!.nextTimestamp()
 * batch.immediate('timestamp').setRamp(first, stream.clock!.samplesPerHeap)
 */
export class StreamClock {
  /** Samples a second. */
  readonly sampleRateHz: number
  /** Samples from one heap's timestamp to the next one's. */
  readonly samplesPerHeap: number
  /** The name of the item that is the timestamp. */
  readonly item: string
  /** @internal */
  readonly schedule: ScheduleOptions
  /** When the first heap is to be due, as `startAt` said. */
  readonly startsAt: ClockTime | undefined
  /** TAI − UTC as the kernel knew it when the stream was opened (adjtimex(2)); 0 where it did not. */
  readonly taiOffsetSeconds: number
  readonly #start: Instant | undefined
  readonly #errors: Histogram
  readonly #tai = new TaiClock()
  readonly #flavour: Pick<Flavour, 'heapAddressBits'>
  /** @internal */
  counters: () => StreamCounters = () => {
    throw new Error('the clock has no stream')
  }

  /** @internal @throws ERR_SPEADCAST_CLOCK, ERR_SPEADCAST_CONFIG */
  constructor(options: StreamClockOptions, flavour: Pick<Flavour, 'heapAddressBits'>) {
    const {
      syncTime,
      sampleRateHz,
      samplesPerHeap,
      item = 'timestamp',
      startAt,
      late = 'slip',
      unsynchronised = 'refuse',
    } = options
    this.sampleRateHz = sampleRateHz
    this.samplesPerHeap = samplesPerHeap
    this.item = item
    this.startsAt = startAt
    this.#flavour = flavour
    this.taiOffsetSeconds = judge(opinion(), unsynchronised)
    const sync = this.#onTai('clock.syncTime', syncTime)
    this.#start = startAt === undefined ? undefined : this.#onTai('clock.startAt', startAt)
    const now = this.#now()
    const ahead = (instant: Instant): number => instant.seconds - now.seconds + (instant.nanoseconds - now.nanoseconds) / 1e9
    if (this.#start) checkStart(ahead(this.#start), ahead(sync) - ahead(this.#start))
    ensure(
      ahead(sync) < FAR_SECONDS,
      'ERR_SPEADCAST_CONFIG',
      () => `clock.syncTime is ${many(ahead(sync))} ahead; it is the time when timestamp 0 was due, and hardly that`,
    )
    const heapSeconds = samplesPerHeap / sampleRateHz
    const errors = new Float64Array(new SharedArrayBuffer(Histogram.DOUBLES * 8))
    this.#errors = new Histogram(errors)
    this.schedule = {
      syncSeconds: sync.seconds,
      syncNanoseconds: sync.nanoseconds,
      sampleRateHz,
      samplesPerHeap,
      item,
      startSeconds: this.#start?.seconds,
      late,
      toleranceNanoseconds: (options.lateToleranceSeconds ?? Math.max(heapSeconds, TOLERANCE_SECONDS)) * 1e9,
      errors,
    }
  }

  /**
   * Returns the first timestamp that can still be sent in time, or is due at `after` or later, as a multiple of `period` since the synchronisation:
   * samples, modulo 2^`bits`. Processes that were given the same `startAt` get the same one, until it has passed.
   * @throws ERR_SPEADCAST_CONFIG for options that are out of range, or a time that is none; ERR_SPEADCAST_VALUE for a timestamp beyond 2^53, which no
   *   batch holds
   * @example const first = stream.clock!.nextTimestamp({ after: '2026-12-01T00:00:00Z', period: 2 ** 26 })
   */
  nextTimestamp(options: NextTimestampOptions = {}): number {
    checkOptions('nextTimestamp', options, ['after', 'period', 'bits'])
    const { after, period = this.samplesPerHeap, bits = this.#flavour.heapAddressBits } = options
    const check = (name: string, value: number, most: number): void =>
      ensure(
        Number.isInteger(value) && value >= 1 && value <= most,
        'ERR_SPEADCAST_CONFIG',
        () => `nextTimestamp: ${name} is ${shown(value)}; it must be a whole number from 1 to ${most}`,
      )
    check('period', period, 2 ** 48)
    check('bits', bits, this.#flavour.heapAddressBits)
    const { seconds, nanoseconds } = after === undefined ? this.#soon() : this.#onTai('nextTimestamp: after', after)
    const { syncSeconds, syncNanoseconds } = this.schedule
    const elapsed = BigInt(seconds - syncSeconds) * PER_SECOND + BigInt(Math.ceil(nanoseconds - syncNanoseconds))
    const [numerator, denominator] = fractionOf(this.sampleRateHz)
    const periods = -floorDivide(-elapsed * numerator, denominator * PER_SECOND * BigInt(period))
    const timestamp = Number(BigInt.asUintN(bits, (periods > 0n ? periods : 0n) * BigInt(period)))
    ensure(
      Number.isSafeInteger(timestamp),
      'ERR_SPEADCAST_VALUE',
      () => `nextTimestamp: the timestamp is beyond 2^53, which batches cannot hold; choose a later syncTime, or fewer bits`,
    )
    return timestamp
  }

  /**
   * Returns when a timestamp is due, as a Date: to the millisecond, and of all its wraps the one nearest to now.
   * @param timestamp samples, a whole number from 0 up that the flavour's heap address bits hold
   * @throws ERR_SPEADCAST_CONFIG for another number
   * @example stream.clock!.dateOf(stream.clock!.nextTimestamp()).toISOString()
   */
  dateOf(timestamp: number): Date {
    const { heapAddressBits: bits } = this.#flavour
    ensure(
      Number.isInteger(timestamp) && timestamp >= 0 && timestamp < 2 ** bits,
      'ERR_SPEADCAST_CONFIG',
      () => `dateOf: the timestamp is ${shown(timestamp)}; it must be a whole number from 0 to 2^${bits} − 1`,
    )
    const { syncSeconds, syncNanoseconds } = this.schedule
    const now = this.#now()
    const elapsed = BigInt(now.seconds - syncSeconds) * PER_SECOND + BigInt(Math.round(now.nanoseconds - syncNanoseconds))
    const [numerator, denominator] = fractionOf(this.sampleRateHz)
    const samples = floorDivide(elapsed * numerator, denominator * PER_SECOND)
    const wanted = samples + BigInt.asIntN(bits, BigInt(timestamp) - samples)
    const milliseconds = Number(floorDivide(wanted * denominator * 1000n, numerator))
    return new Date((syncSeconds - this.taiOffsetSeconds) * 1000 + syncNanoseconds / 1e6 + milliseconds)
  }

  /** How late the last post was by the clock, in seconds; negative = early, 0 before the first one. */
  get timeErrorSeconds(): number {
    return this.counters().timeErrorNanoseconds / 1e9
  }

  /** The greatest error so far in seconds, in either direction, without its sign. */
  get greatestTimeErrorSeconds(): number {
    return this.counters().greatestTimeErrorNanoseconds / 1e9
  }

  /** How the errors of all posts were distributed, without their signs, in nanoseconds: a copy of this moment. */
  get timeErrors(): Distribution {
    return this.#errors.read()
  }

  /** @internal Refuses a batch whose heaps do not say when they are due. @throws ERR_SPEADCAST_ITEM */
  check(items: ItemGroup): void {
    const { item: name } = this
    const bits = this.#flavour.heapAddressBits
    const item = items.items().find((each) => each.name === name)
    const holds = (yes: boolean | undefined, why: string): void =>
      ensure(yes, 'ERR_SPEADCAST_ITEM', () => `createBatch: ${why}, and the clock of this stream goes by it; ${REMEDY}`)
    holds(item !== undefined, `the items have no '${name}'`)
    const { elements, elementBits, byteLength, allowImmediate, dtype, format } = item!
    const unsigned = dtype ? dtype.kind === 'u' : format?.length === 1 && format[0]![0] === 'u'
    holds(elements === 1 && unsigned, `item '${name}' is not one unsigned number`)
    holds(elementBits % 8 === 0, `item '${name}' has ${counted(elementBits, 'bit')}, which are no whole bytes`)
    const stands = byteLength !== undefined && byteLength <= bits / 8 && allowImmediate
    holds(stands, `item '${name}' does not stand in its item pointer, which holds ${counted(bits, 'bit')}`)
  }

  #soon(): Instant {
    const { seconds, nanoseconds } = this.#now()
    const start = this.#start
    if (start && (start.seconds > seconds || (start.seconds === seconds && start.nanoseconds >= nanoseconds))) return start
    return { seconds, nanoseconds: nanoseconds + LEAD_SECONDS * 1e9, scale: 'TAI' }
  }

  #now(): Instant {
    this.#tai.read()
    const { seconds, nanoseconds } = this.#tai
    return { seconds, nanoseconds, scale: 'TAI' }
  }

  #onTai(name: string, time: ClockTime): Instant {
    const instant = parseTime(name, time)
    return instant.scale === 'TAI' ? instant : { ...instant, seconds: instant.seconds + this.taiOffsetSeconds, scale: 'TAI' }
  }
}

const REMEDY =
  "give each heap an item such as { id: 0x1600, name: 'timestamp', format: [['u', 48]] }, or name another with clock.item"

function opinion(): ClockOpinion {
  const refuse = (why: string, cause?: unknown): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CLOCK', `clock needs the kernel's opinion of its clock: ${why}`, { cause })
  }
  if (!nativeCallsWork()) return refuse('only Linux tells it; use rate there')
  try {
    return clockOpinion()
  } catch (cause) {
    return refuse(`${messageOf(cause)}; a container may need another seccomp profile`, cause)
  }
}

/** Returns TAI − UTC. @throws ERR_SPEADCAST_CLOCK */
function judge({ synchronised, taiOffsetSeconds }: ClockOpinion, unsynchronised: 'refuse' | 'warn' | 'accept'): number {
  const problems = [
    ...(synchronised
      ? []
      : ['nobody keeps the clock of this host in step (adjtimex(2) says STA_UNSYNC); start chronyd, ntpd, or ptp4l with phc2sys']),
    ...(taiOffsetSeconds !== 0
      ? []
      : ['the kernel does not know TAI − UTC (it says 0); give chrony leapsectz or leapseclist, or ntpd a leapfile']),
  ]
  if (problems.length === 0 || unsynchronised === 'accept') return taiOffsetSeconds
  const message = problems.join('; and ')
  if (unsynchronised === 'warn') warn('SPEADCAST_CLOCK', `${message}: heaps may not be in step with those of other hosts`)
  else throw new SpeadcastError('ERR_SPEADCAST_CLOCK', `${message}; or give clock.unsynchronised 'warn' or 'accept'`)
  return taiOffsetSeconds
}

const many = (seconds: number): string =>
  Math.abs(seconds) < 120 ? `${Math.abs(seconds).toFixed(3)} s` : counted(Math.round(Math.abs(seconds) / 60), 'minute')

function checkStart(ahead: number, syncAhead: number): void {
  const refuse = (why: string): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `clock.startAt ${why}`)
  }
  if (ahead < 0) refuse(`passed ${many(ahead)} ago; give a time ahead, or leave it out to begin as soon as can be`)
  if (ahead >= FAR_SECONDS) refuse(`is ${many(ahead)} ahead; give a time within a year`)
  if (syncAhead > 0) refuse('is before clock.syncTime, when timestamp 0 is due; give a later time')
}
