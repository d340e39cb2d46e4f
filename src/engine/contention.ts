/**
 * Whether somebody else wants the CPU of the thread that asks. A thread that spins, and offers its CPU by sched_yield(2), is last in the
 * scheduler's line: on a busy host each offer costs it whole time slices of the others. A thread that sleeps is let in as soon as it
 * wakes (EEVDF, kernel/sched/fair.c: it has lag to claim). So nobody spins while the host is busy.
 *
 * | state     | may spin | leaves by                                                                                     |
 * |-----------|----------|-----------------------------------------------------------------------------------------------|
 * | calm      | yes      | an offer of the CPU came back late, to this thread or to another of the process → contended   |
 * | contended | no       | a pause of 20 ms or more → calm                                                               |
 *
 * Pauses double, up to 1.6 s, while the calm behind them does not last: to find out costs a time slice. The kernel's own account of
 * how long a thread waited for a CPU (/proc/thread-self/schedstat) does not tell, because threads of ours that wake one another on one CPU
 * wait there too: 5 to 30 % of the time on an idle host with two CPUs.
 */

/**
 * An offer that takes longer let a thread run that is not one of ours. A time slice of others is 1.4 ms or more; a thread of ours on the
 * same CPU sends the batches that wait and sleeps, within 0.9 ms in all that was seen on an idle host.
 */
const LATE_NANOSECONDS = 1_000_000
/** V8's own threads, which compile and collect, end within it. */
const PAUSE_NANOSECONDS = 20_000_000
const LONGEST_PAUSE_NANOSECONDS = 1_600_000_000

export class Contention {
  #calm = true
  /** The end of the pause while contended; else since when it is calm. */
  #until = Number.NEGATIVE_INFINITY
  #pause = PAUSE_NANOSECONDS
  #seen: number

  /** @param shared one word of memory that the threads of the process share: how often any of them found others there */
  constructor(readonly shared: Int32Array) {
    this.#seen = shared[0]!
  }

  /** As maySpin found when it was last asked. */
  get calm(): boolean {
    return this.#calm
  }

  /** Whether spinning may pay at `now` (nanoseconds). A few comparisons. */
  maySpin(now: number): boolean {
    const found = this.shared[0]!
    if (found !== this.#seen) {
      this.#seen = found
      this.#wait(now)
    }
    if (!this.#calm && now >= this.#until) {
      this.#calm = true
      this.#until = now
    }
    return this.#calm
  }

  /** The thread looked at the clock at `before`, offered its CPU or did next to nothing, and looked again at `now`. */
  note(before: number, now: number): void {
    if (now - before < LATE_NANOSECONDS) return
    this.#seen = Atomics.add(this.shared, 0, 1) + 1
    this.#wait(now)
  }

  #wait(now: number): void {
    if (this.#calm) {
      const brief = now - this.#until < this.#pause
      this.#pause = brief ? Math.min(2 * this.#pause, LONGEST_PAUSE_NANOSECONDS) : PAUSE_NANOSECONDS
    }
    this.#calm = false
    this.#until = now + this.#pause
  }
}

/** The word that this process's threads share, as far as they were started from here. */
export const contentionWord = new Int32Array(new SharedArrayBuffer(4))
