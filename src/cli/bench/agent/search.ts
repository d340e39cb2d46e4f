/**
 * Looks for the highest rate that passes, by trials that somebody else makes. Rates are bytes a second.
 *
 * | phase   | the next trial                                                    | ends when                                   |
 * |---------|-------------------------------------------------------------------|---------------------------------------------|
 * | full    | as fast as possible, or the highest rate allowed                  | it was made                                 |
 * | search  | what arrived of a trial that failed, then steps that double, then  | the lowest that failed is within `accuracy` |
 * |         | the middle between what passed and what failed                    | of the highest that passed                  |
 * | confirm | the highest that passed, again; a lower one if it fails           | it passed `confirm` times in a row          |
 * | done    | none                                                              |                                             |
 */

export interface SearchOptions {
  /** The relative distance at which the search ends. */
  readonly accuracy: number
  /** Further rounds at the rate found. */
  readonly confirm: number
  /** The highest rate to try; 0: as fast as possible. */
  readonly mostRate: number
}

export interface Trial {
  /** The rate asked; 0: as fast as possible. */
  readonly rate: number
  /** The rate that the sender reached. */
  readonly reached: number
  /** The rate at which packets arrived. */
  readonly received: number
  readonly passed: boolean
  /** The share of the packets that did not arrive. */
  readonly lost: number
}

export type Phase = 'full' | 'search' | 'confirm' | 'done'

/** A rate counts as reached from this share on. */
export const REACHED = 0.98
/**
 * A trial that did not reach its rate, or lost a little, may have met a busy machine instead of a limit. It is made again, until there are this
 * many such trials.
 */
const MOST_UNSURE = 3
const LITTLE_LOST = 0.02
/** A step that doubled this often reaches beyond the middle between `#low` and `#high`, so the middle is tried next. */
const UNBOUNDED = 30
/** More trials would find nothing: conditions change faster than the search. */
const MOST_TRIALS = 60
/** A rate below this share of the first trial's is not looked for. */
const LEAST_SHARE = 1e-4

export class RateSearch {
  readonly #options: SearchOptions
  #phase: Phase = 'full'
  /** The highest that passed; 0: none did. */
  #low = 0
  /** The rate to ask for to get `#low`; 0: as fast as possible. */
  #lowRate = 0
  /** The lowest that failed, above `#low`. */
  #high = Number.POSITIVE_INFINITY
  /** The next rate to try in phase `search`. */
  #candidate = 0
  /** How many trials in a row passed in this phase; below 0: failed, with none that passed before. */
  #run = 0
  /** How many trials at this rate said too little. */
  #unsure = 0
  #confirmed = 0
  #trials = 0
  #first = 0

  constructor(options: SearchOptions) {
    this.#options = options
  }

  get phase(): Phase {
    return this.#phase
  }

  /** Whether every round at the rate found passed. */
  get confirmed(): boolean {
    return this.#phase === 'done' && this.#low > 0 && this.#confirmed >= this.#options.confirm
  }

  /** The highest rate that passed; 0: none did. */
  get low(): number {
    return this.#low
  }

  /** The rate of the next trial. */
  get next(): number {
    if (this.#phase === 'search') return Math.round(this.#candidate)
    return this.#phase === 'confirm' ? Math.round(this.#lowRate) : this.#options.mostRate
  }

  /** Begins again at a rate: what failed so far failed for another reason. */
  again(rate: number): void {
    this.#phase = 'search'
    this.#low = 0
    this.#high = this.#first
    this.#candidate = rate
    this.#run = 0
    this.#unsure = 0
  }

  note(trial: Trial): void {
    this.#trials++
    if (this.#phase === 'full') this.#noteFull(trial)
    else if (this.#phase === 'search') this.#noteSearch(trial)
    else if (this.#phase === 'confirm') this.#noteConfirm(trial)
    if (this.#trials >= MOST_TRIALS) this.#phase = 'done'
  }

  #noteFull(trial: Trial): void {
    this.#first = trial.reached
    if (trial.passed) {
      this.#low = trial.reached
      this.#lowRate = trial.rate
      this.#toConfirm()
    } else this.#fall(trial)
  }

  #noteSearch(trial: Trial): void {
    const { rate, reached, passed } = trial
    const short = reached < rate * REACHED
    const good = short ? reached : rate
    if (passed && good > this.#low) {
      this.#low = good
      this.#lowRate = good
    }
    if ((short || (!passed && trial.lost < LITTLE_LOST)) && ++this.#unsure < MOST_UNSURE) return
    if (!passed) {
      this.#fall(trial)
      return
    }
    if (short) this.#high = Math.min(this.#high, rate)
    this.#run++
    this.#rise()
  }

  #noteConfirm(trial: Trial): void {
    if (!trial.passed) {
      // Late, and nothing lost: see MOST_UNSURE.
      if (trial.lost === 0 && ++this.#unsure < MOST_UNSURE) return
      this.#low = 0
      this.#run = 0
      this.#fall(trial)
    } else if (trial.reached >= trial.rate * REACHED) {
      this.#unsure = 0
      if (++this.#confirmed >= this.#options.confirm) this.#phase = 'done'
    } else if (++this.#unsure >= MOST_UNSURE) this.#phase = 'done'
  }

  #rise(): void {
    const { accuracy } = this.#options
    this.#unsure = 0
    if (this.#high <= this.#low * (1 + accuracy)) this.#toConfirm()
    else this.#candidate = Math.min(this.#low * (1 + accuracy * 2 ** Math.max(0, this.#run)), Math.sqrt(this.#low * this.#high))
  }

  /** A trial failed: goes down from there. */
  #fall({ rate, reached, received }: Trial): void {
    // A sender that was held up reaches less than the rate on the whole, but sends the rest at the rate, so the rate is what failed.
    const failed = rate > 0 && rate <= this.#first ? rate : reached
    // A rate that is no higher than `#low` failed, so `#low` passed by chance and counts no longer.
    if (failed <= this.#low) this.#low = 0
    this.#high = this.#low === 0 ? failed : Math.min(this.#high, failed)
    this.#phase = 'search'
    if (this.#low > 0) {
      this.#run = UNBOUNDED
      this.#rise()
      return
    }
    this.#unsure = 0
    this.#run = Math.min(this.#run, 0) - 1
    const lower = this.#high / (1 + this.#options.accuracy * 2 ** (-this.#run - 1))
    this.#candidate = Math.min(received || Number.POSITIVE_INFINITY, lower)
    if (this.#candidate < this.#first * LEAST_SHARE || this.#candidate < 1) this.#phase = 'done'
  }

  #toConfirm(): void {
    this.#confirmed = 0
    this.#unsure = 0
    this.#run = 0
    this.#phase = this.#options.confirm > 0 ? 'confirm' : 'done'
  }
}
