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

/** A longer time between the two looks at the other clock says that the thread was away, and the reading is taken again. */
const PROMPT_NANOSECONDS = 2000
const TRIES = 4

/** Tells where TAI stands on another clock of this thread's. Reading costs a call of 0.2 µs and allocates nothing. */
export class TaiClock {
  /** Seconds of TAI since 1970, and the nanoseconds beyond them, when the other clock was at `at`. */
  seconds = 0
  nanoseconds = 0
  at = 0
  /** TAI was read no farther from `at` than this. */
  uncertainty = Number.POSITIVE_INFINITY

  /** @param now the other clock, in nanoseconds; default the monotonic clock, exact where it began at boot */
  read(now: () => number = monotonic): void {
    this.uncertainty = Number.POSITIVE_INFINITY
    for (let tries = 0; tries < TRIES && this.uncertainty > PROMPT_NANOSECONDS; tries++) {
      const before = now()
      gettime(CLOCK_TAI)
      const seconds = word(0)
      const nanoseconds = word(8)
      const half = (now() - before) / 2
      if (half >= this.uncertainty) continue
      this.seconds = seconds
      this.nanoseconds = nanoseconds
      this.at = before + half
      this.uncertainty = half
    }
  }
}

/** This thread keeps it for good. */
let scratch: Scratch | undefined

function gettime(clock: number): void {
  scratch ??= new Scratch(16)
  if (libc().clock_gettime(clock, scratch.address) < 0) throw new NativeError('clock_gettime', errno(), `clock ${clock}`)
}

function monotonic(): number {
  gettime(CLOCK_MONOTONIC)
  return word(0) * 1e9 + word(8)
}

/** A signed long without a BigInt. */
const word = (at: number): number => scratch!.view.getInt32(at + 4, true) * 2 ** 32 + scratch!.view.getUint32(at, true)
