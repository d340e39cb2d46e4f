/**
 * Whether somebody else wants the CPU of the thread that asks. A thread that spins, and offers its CPU by sched_yield(2), is last in the
 * scheduler's line (EEVDF, yield_task_fair() in kernel/sched/fair.c): on a busy host each offer costs it whole time slices of the others.
 * A thread that sleeps is let in as soon as it wakes, because it has lag to claim. So nobody spins while the host is busy.
 *
 * | state     | may spin | leaves by                                                                                   |
 * |-----------|----------|---------------------------------------------------------------------------------------------|
 * | calm      | yes      | an offer of the CPU came back late, and others are running; or another thread found so → busy |
 * | busy      | no       | a pause, at whose end no others are running → calm                                          |
 *
 * An offer may come back late on an idle host too, where it let a thread of ours run, which has some time slices to claim from one that
 * offered its CPU before. So the kernel is asked what CPU time others take, and where it does not tell, pauses double while the calm behind them
 * does not last. Its account of how long a thread waited (/proc/thread-self/schedstat) does not tell: threads of ours that wake one
 * another on one CPU wait there, 5 to 30 % of the time on an idle host with two CPUs.
 */
import { availableParallelism, cpus } from 'node:os'
import { performance } from 'node:perf_hooks'

/** Time slices are 1.4 ms or more. */
const LATE_NANOSECONDS = 1_000_000
/** On a host without others no offer comes back this late, except where a quota of CPU time is used up (cgroup v2, cpu.max). */
const THROTTLED_NANOSECONDS = 5_000_000
const PAUSE_NANOSECONDS = 20_000_000
/** Looking again at its end costs 50 µs, or a time slice where the kernel does not tell. */
const LONGEST_PAUSE_NANOSECONDS = 1_600_000_000
/** Threads of a stream that have work at the same time: the one that fills batches and the one that sends. */
const OWN_THREADS = 2

export class Contention {
  #calm = true
  /** The end of the pause while busy; else since when it is calm. */
  #until = Number.NEGATIVE_INFINITY
  #pause = PAUSE_NANOSECONDS
  #seen: number

  /**
   * @param shared one word of memory that the threads of the process share: how often any of them found others there
   * @param others whether the CPUs do not suffice for others that run now and for us; undefined where that cannot be told. Asked when an offer
   *   came back late, and at the end of pauses
   */
  constructor(
    readonly shared: Int32Array,
    readonly others: () => boolean | undefined,
  ) {
    this.#seen = shared[0]!
  }

  /** Whether spinning may pay at `now` (nanoseconds). A few comparisons, but at the end of a pause. */
  maySpin(now: number): boolean {
    const found = this.shared[0]!
    if (found !== this.#seen) {
      this.#seen = found
      this.#wait(now)
    }
    if (!this.#calm && now >= this.#until) {
      if (this.others()) this.#lengthen(now)
      else {
        this.#calm = true
        this.#until = now
      }
    }
    return this.#calm
  }

  /** The thread looked at the clock at `before`, offered its CPU or did next to nothing, and looked again at `now`. */
  note(before: number, now: number): void {
    if (now - before < LATE_NANOSECONDS || !this.#calm) return
    if (now - before < THROTTLED_NANOSECONDS && this.others() === false) return
    this.#seen = Atomics.add(this.shared, 0, 1) + 1
    this.#wait(now)
  }

  #wait(now: number): void {
    if (this.#calm && now - this.#until >= this.#pause) this.#pause = PAUSE_NANOSECONDS / 2
    this.#calm = false
    this.#lengthen(now)
  }

  #lengthen(now: number): void {
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE_NANOSECONDS)
    this.#until = now + this.#pause
  }
}

/** The word that this process's threads share, as far as they were started from here. */
export const contentionWord = new Int32Array(new SharedArrayBuffer(4))

/** The kernel counts in hundredths of a second: a shorter span says nothing. */
const SHORTEST_SPAN_MS = 50
/** A longer span says nothing about the present. */
const LONGEST_SPAN_MS = 1000
/** CPUs that others may take of those that a stream needs. */
const TOLERATED = 0.4

/**
 * Whether other processes take so much CPU time that too little is left for a stream: all that the kernel counts as user and system time
 * (proc_stat(5)), less this process's. How many threads run at a moment (proc_loadavg(5)) does not tell, because on an idle host too that
 * is 1 to 5 as threads of node and the kernel come and go.
 */
export class HostLoad {
  #at = Number.NEGATIVE_INFINITY
  #all = 0
  #own = 0
  #busy = false

  /** undefined off Linux, where /proc is hidden, and where this process may use some of the CPUs only. 50 µs. */
  readonly othersRun = (): boolean | undefined => {
    const count = cpus().length
    if (process.platform !== 'linux' || availableParallelism() < count) return undefined
    const now = performance.now()
    const span = now - this.#at
    if (span < SHORTEST_SPAN_MS) return this.#busy
    try {
      const all = busySeconds()
      const { user, system } = process.cpuUsage()
      const own = (user + system) / 1e6
      const others = (all - this.#all - (own - this.#own)) / (span / 1000)
      this.#busy = span <= LONGEST_SPAN_MS && others + OWN_THREADS > count + TOLERATED
      this.#at = now
      this.#all = all
      this.#own = own
      return this.#busy
    } catch {
      return undefined
    }
  }
}

/** Seconds that all CPUs together spent in user, nice and system mode. USER_HZ is 100 on every architecture that Node runs on. */
function busySeconds(): number {
  const { readFileSync } = process.getBuiltinModule('node:fs')
  const [, user, nice, system] = readFileSync('/proc/stat', 'latin1').split(/\s+/, 4)
  return (Number(user) + Number(nice) + Number(system)) / 100
}
