/**
 * The observation clock: timestamp T is due at syncTime + T / sampleRateHz, on TAI, which knows no leap seconds. This file says when that is
 * on the engine's own clock.
 *
 * Timestamps wrap at the width of their item. Each is taken for the one nearest to the timestamp before it, or nearest to now after a pause
 * of half a wrap, so a stream may go on through any number of wraps. Times are exact for ever: samples since the synchronisation are counted in
 * a BigInt, which changes every 1000 s, and doubles only hold what was added since.
 *
 * The two clocks are compared every 100 ms. A step of the wall clock moves everything that is due; what both clocks do alike (the slewing of
 * NTP) moves nothing. Nothing is allocated, but for BigInts when the base changes.
 */

/** TAI beside the engine's clock. TaiClock of ffi/clock.ts is one. */
export interface TaiReading {
  /** Since 1970. */
  readonly seconds: number
  readonly nanoseconds: number
  /** The engine's clock at that time. */
  readonly at: number
  /** How far TAI may have been read from `at`. */
  readonly uncertainty: number
  /** @param now the engine's clock */
  read(now: () => number): void
}

/** Plain data, which crosses to the I/O thread. */
export interface ScheduleOptions {
  /** When timestamp 0 was due: seconds of TAI since 1970, and nanoseconds beyond them. */
  readonly syncSeconds: number
  readonly syncNanoseconds: number
  readonly sampleRateHz: number
  /** From one heap's timestamp to the next one's. */
  readonly samplesPerHeap: number
  /** The name of the immediate that is the timestamp. */
  readonly item: string
  /** Near this time the first timestamp is, whatever its wraps: seconds of TAI. Undefined: near now. */
  readonly startSeconds: number | undefined
  readonly late: 'slip' | 'skip'
  /** How late a heap may be before it is left out. */
  readonly toleranceNanoseconds: number
  /** The histogram of time errors, in shared memory. */
  readonly errors: Float64Array
}

/** Heaps were late and left out, or the wall clock was set. */
export interface ClockMessage {
  readonly type: 'clock'
  readonly what: 'late' | 'step'
  /** Heaps that were left out. */
  readonly heaps: number
  /** How late the first of them was; or by how much the clock was set, backwards if negative. */
  readonly seconds: number
}

/** How often the clocks are compared. */
const LOOK_NANOSECONDS = 100e6
/** Smaller differences between two comparisons are how the clocks were read. */
const NOISE_NANOSECONDS = 1000
/** A difference from here on counts as a step. */
const STEP_NANOSECONDS = 100_000
/** The base follows before a double counts more nanoseconds than this. */
const FARTHEST_NANOSECONDS = 1e12

export class Schedule {
  /** When the clocks are to be compared again, by the engine's clock. */
  lookAt = Number.NEGATIVE_INFINITY
  readonly nanosecondsPerSample: number
  // The comparison that is in force.
  #seconds = Number.NaN
  #nanoseconds = 0
  #at = 0
  /** The width of timestamps; 0 = there was none yet. */
  #bits = 0
  #wrap = 0
  /** The base: samples since the synchronisation, and when they were due, on TAI and on the engine's clock. */
  #samples = 0n
  #baseSeconds = 0
  #baseNanoseconds = 0
  #baseDue = 0
  /** The last timestamp, how many samples it is from the base, and when a timestamp was last asked about. */
  #timestamp = 0
  #offset = 0
  #askedAt = 0
  readonly #rate: readonly [numerator: bigint, denominator: bigint]

  constructor(
    readonly options: ScheduleOptions,
    readonly tai: TaiReading,
    /** The engine's clock, in nanoseconds. */
    readonly now: () => number,
  ) {
    this.nanosecondsPerSample = 1e9 / options.sampleRateHz
    this.#rate = fractionOf(options.sampleRateHz)
  }

  /** Compares the clocks. Returns by how much everything is due later on the engine's clock: the wall clock stepped back by that. */
  look(now: number): number {
    const { tai } = this
    tai.read(this.now)
    this.lookAt = now + LOOK_NANOSECONDS
    const moved = tai.at - this.#at - ((tai.seconds - this.#seconds) * 1e9 + (tai.nanoseconds - this.#nanoseconds))
    if (Math.abs(moved) <= NOISE_NANOSECONDS + tai.uncertainty) return 0
    this.#seconds = tai.seconds
    this.#nanoseconds = tai.nanoseconds
    this.#at = tai.at
    this.#baseDue = this.#dueOfBase()
    // The first comparison of all moves nothing.
    return Number.isNaN(moved) ? 0 : moved
  }

  /** Whether that is a step of the wall clock, and not merely how it is kept. */
  static isStep(moved: number): boolean {
    return Math.abs(moved) >= STEP_NANOSECONDS
  }

  /** When a heap is due, by the engine's clock. @param bits the width of its timestamp */
  dueOf(timestamp: number, bits: number, now: number): number {
    if (bits !== this.#bits || (now - this.#askedAt) * 2 > this.#wrap * this.nanosecondsPerSample)
      this.#anchor(timestamp, bits, now)
    this.#askedAt = now
    this.#goTo(timestamp)
    if (Math.abs(this.#offset) * this.nanosecondsPerSample > FARTHEST_NANOSECONDS) {
      this.#setBase(this.#samples + BigInt(this.#offset))
      this.#offset = 0
    }
    return this.#baseDue + this.#offset * this.nanosecondsPerSample
  }

  /** How long the heaps take from the timestamp last asked about to the end of that with the timestamp `last`. */
  spanTo(last: number): number {
    const before = this.#offset
    this.#goTo(last)
    return (Math.max(0, this.#offset - before) + this.options.samplesPerHeap) * this.nanosecondsPerSample
  }

  /** Whether a heap is due no earlier than the one before it, and within the time that this takes. */
  follows(timestamp: number, before: number): boolean {
    const distance = this.#distance(timestamp, before)
    return distance >= 0 && distance <= this.options.samplesPerHeap
  }

  #distance(timestamp: number, before: number): number {
    const distance = timestamp - before
    if (distance * 2 >= this.#wrap) return distance - this.#wrap
    return distance * 2 < -this.#wrap ? distance + this.#wrap : distance
  }

  #goTo(timestamp: number): void {
    this.#offset += this.#distance(timestamp, this.#timestamp)
    this.#timestamp = timestamp
  }

  /** Takes the timestamp for the one nearest to now, or, if it is the first, to the start. */
  #anchor(timestamp: number, bits: number, now: number): void {
    const { syncSeconds, syncNanoseconds, startSeconds } = this.options
    const started = this.#bits > 0 || startSeconds === undefined
    const seconds = started ? this.#seconds : startSeconds
    const nanoseconds = started ? this.#nanoseconds + now - this.#at : 0
    const elapsed = BigInt(seconds - syncSeconds) * 1_000_000_000n + BigInt(Math.round(nanoseconds - syncNanoseconds))
    const [numerator, denominator] = this.#rate
    const samples = floorDivide(elapsed * numerator, denominator * 1_000_000_000n)
    this.#bits = bits
    this.#wrap = 2 ** bits
    this.#timestamp = timestamp
    this.#offset = 0
    this.#setBase(samples + BigInt.asIntN(bits, BigInt(timestamp) - samples))
  }

  #setBase(samples: bigint): void {
    const { syncSeconds, syncNanoseconds } = this.options
    const [numerator, denominator] = this.#rate
    const picoseconds = floorDivide(samples * denominator * 1_000_000_000_000n, numerator)
    const seconds = floorDivide(picoseconds, 1_000_000_000_000n)
    this.#samples = samples
    this.#baseSeconds = syncSeconds + Number(seconds)
    this.#baseNanoseconds = syncNanoseconds + Number(picoseconds - seconds * 1_000_000_000_000n) / 1000
    this.#baseDue = this.#dueOfBase()
  }

  #dueOfBase(): number {
    return this.#at + ((this.#baseSeconds - this.#seconds) * 1e9 + (this.#baseNanoseconds - this.#nanoseconds))
  }
}

/** A double as the fraction that it is. */
export function fractionOf(value: number): [numerator: bigint, denominator: bigint] {
  let denominator = 1n
  let numerator = value
  for (; !Number.isInteger(numerator); denominator *= 2n) numerator *= 2
  return [BigInt(numerator), denominator]
}

/** The greatest whole number that is not above the quotient; the divisor is positive. */
export function floorDivide(dividend: bigint, divisor: bigint): bigint {
  const quotient = dividend / divisor
  return dividend % divisor < 0n ? quotient - 1n : quotient
}
