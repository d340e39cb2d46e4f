/** Notices settlements that nobody waits for, and keeps the process alive while there are some to come. */
/**
 * How late a settlement that nobody waits for may be noticed, of a stream that is as fast as it can, and of one with a rate. The latter looks
 * half as often after every look that finds somebody waiting, who is told of settlements anyway, because each look wakes the CPU: 20 a second
 * are a tenth of what 100 Mb/s take.
 */
const UNWATCHED_MS = 2
const UNWATCHED_PACED_MS = 50
const MOST_UNWATCHED_PACED_MS = 800

export class Unwatched {
  #timer: NodeJS.Timeout | undefined
  /** The timer only keeps the process alive. */
  #patient = false

  constructor(
    readonly ring: { readonly watched: boolean },
    /** The stream has a rate. */
    readonly paced: boolean,
    readonly harvest: () => void,
  ) {}

  /**
   * A slow timer, referenced while work is in flight, notices settlements that nobody waits for. Waking the main thread for every batch would
   * cost some microseconds and 300 bytes each, mostly for nothing: a loop that finds its next batch free never waits.
   */
  hold(inFlight: boolean, patient = false): void {
    if (!inFlight) {
      this.#timer?.unref()
      return
    }
    if (this.#timer && patient === this.#patient) {
      this.#timer.ref()
      return
    }
    clearInterval(this.#timer)
    this.#patient = patient
    this.#look(patient ? MOST_UNWATCHED_PACED_MS : !this.paced ? UNWATCHED_MS : UNWATCHED_PACED_MS)
  }

  #look(everyMs: number): void {
    this.#timer = setInterval(this.#tick, everyMs, everyMs)
  }

  readonly #tick = (everyMs: number): void => {
    this.harvest()
    const needed = this.#timer?.hasRef() === true
    if (needed && (!this.paced || this.#patient)) return
    clearInterval(this.#timer)
    this.#timer = undefined
    if (!needed) return
    const watched = this.ring.watched
    this.#look(watched ? Math.min(2 * everyMs, MOST_UNWATCHED_PACED_MS) : UNWATCHED_PACED_MS)
  }

  end(): void {
    clearInterval(this.#timer)
  }
}
