/**
 * Whether somebody else wants the CPU of the thread that asks. A thread that spins, and offers its CPU by sched_yield(2), is last in the
 * scheduler's line: on a busy host each offer costs it whole time slices of the others. A thread that sleeps is let in as soon as it
 * wakes (EEVDF, kernel/sched/fair.c: it has lag to claim). So nobody spins while the host is busy.
 *
 * | state     | may spin | leaves by                                                                                    |
 * |-----------|----------|----------------------------------------------------------------------------------------------|
 * | calm      | yes      | a pause between two looks at the clock that was long, because others had the CPU → contended  |
 * | contended | no       | a pause of 0.2 s or more, at whose end the kernel says that this thread hardly waited → calm |
 *
 * Pauses double when the calm behind one does not last, because the only way to find out is to lose a time slice.
 */

/** A look at the clock that comes so much later than the one before it says that others had the CPU: a time slice is 1.4 ms or more. */
const LONG_NANOSECONDS = 200_000
const PAUSE_NANOSECONDS = 200_000_000
const LONGEST_PAUSE_NANOSECONDS = 1_600_000_000
/** A thread that was kept waiting for so much of a pause would be kept waiting if it spun. */
const BUSY_SHARE = 0.05

export class Contention {
  #calm = true
  /** The end of the pause while contended; else since when it is calm. */
  #until = Number.NEGATIVE_INFINITY
  #pause = PAUSE_NANOSECONDS
  #since = 0
  #delay = 0

  /**
   * @param runDelay nanoseconds that this thread was ready to run and did not, ever; NaN where the kernel does not say. Asked twice a
   *   pause.
   */
  constructor(readonly runDelay: () => number) {}

  /** Whether spinning may pay at `now` (nanoseconds). A comparison or two, unless a pause has just ended. */
  maySpin(now: number): boolean {
    if (this.#calm) return true
    if (now < this.#until) return false
    const share = (this.runDelay() - this.#delay) / (now - this.#since)
    if (share > BUSY_SHARE) this.#wait(now)
    else {
      this.#calm = true
      this.#until = now
    }
    return this.#calm
  }

  /** The thread looked at the clock at `before`, did next to nothing, and looked again at `now`. */
  note(before: number, now: number): void {
    if (now - before < LONG_NANOSECONDS) return
    const brief = this.#calm && now - this.#until < this.#pause
    if (brief) this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE_NANOSECONDS)
    else if (this.#calm) this.#pause = PAUSE_NANOSECONDS
    this.#wait(now)
  }

  #wait(now: number): void {
    this.#calm = false
    this.#since = now
    this.#until = now + this.#pause
    this.#delay = this.runDelay()
  }
}

/**
 * The second number of /proc/thread-self/schedstat (Documentation/scheduler/sched-stats.rst in the kernel's sources), of the calling thread.
 * Some 40 µs. NaN on a kernel without CONFIG_SCHED_INFO, where /proc is hidden, and off Linux.
 */
export function runDelayNanoseconds(): number {
  try {
    const text = process.getBuiltinModule('node:fs').readFileSync('/proc/thread-self/schedstat', 'latin1')
    return Number(text.split(' ')[1])
  } catch {
    return Number.NaN
  }
}
