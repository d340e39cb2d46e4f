/** The kernel's clocks (clock_gettime(2)) and its opinion of them (adjtimex(2)). */
import { CLOCK_MONOTONIC, CLOCK_TAI, STA_DEL, STA_INS, STA_UNSYNC, TIMEX } from './layout.js'
import { errno, libc } from './libc.js'
import { Scratch } from './memory/scratch.js'
import { NativeError } from './native-error.js'

/** The kernel's opinion of its clock. */
export interface ClockOpinion {
  /** A daemon keeps it in step (STA_UNSYNC is not set). */
  readonly synchronised: boolean
  /** TAI − UTC as somebody told the kernel; 0: nobody did. */
  readonly taiOffsetSeconds: number
  /** The bound of its error that the daemon keeps up to date. */
  readonly maxErrorSeconds: number
  /** The end of the day has a leap second: 1 one more, −1 one fewer. */
  readonly leapSeconds: -1 | 0 | 1
}

/** @throws NativeError where the kernel does not tell, as in some containers */
export function clockOpinion(): ClockOpinion {
  const scratch = new Scratch(TIMEX.size)
  const failure = libc().adjtimex(scratch.address) < 0 ? errno() : 0
  const { view } = scratch
  const status = view.getInt32(TIMEX.status, true)
  const opinion: ClockOpinion = {
    synchronised: (status & STA_UNSYNC) === 0,
    taiOffsetSeconds: view.getInt32(TIMEX.tai, true),
    maxErrorSeconds: Number(view.getBigInt64(TIMEX.maxerror, true)) / 1e6,
    leapSeconds: status & STA_INS ? 1 : status & STA_DEL ? -1 : 0,
  }
  scratch.region.release()
  if (failure !== 0) throw new NativeError('adjtimex', failure)
  return opinion
}

/** Tells where TAI stands on this thread's monotonic clock. Reading costs two calls of 0.2 µs and allocates nothing. */
export class TaiClock {
  /** Seconds of TAI since 1970, and the nanoseconds beyond them, when `monotonicNanoseconds` was the monotonic clock. */
  seconds = 0
  nanoseconds = 0
  monotonicNanoseconds = 0
  readonly #scratch = new Scratch(16)
  readonly #gettime = libc().clock_gettime

  read(): void {
    // The monotonic clock on both sides bounds how long the thread was away between.
    const before = this.#time(CLOCK_MONOTONIC)
    this.#time(CLOCK_TAI)
    const { view } = this.#scratch
    this.seconds = word(view, 0)
    this.nanoseconds = word(view, 8)
    this.monotonicNanoseconds = (before + this.#time(CLOCK_MONOTONIC)) / 2
  }

  /** The clock in nanoseconds, exact for clocks that began at boot. */
  #time(clock: number): number {
    const { address, view } = this.#scratch
    if (this.#gettime(clock, address) < 0) throw new NativeError('clock_gettime', errno(), `clock ${clock}`)
    return word(view, 0) * 1e9 + word(view, 8)
  }

  close(): void {
    this.#scratch.region.release()
  }
}

/** A signed long without a BigInt. */
const word = (view: DataView, at: number): number => view.getInt32(at + 4, true) * 2 ** 32 + view.getUint32(at, true)
