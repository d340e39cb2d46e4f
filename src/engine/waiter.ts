/**
 * The caller's thread waits for a batch: it looks again and again for a moment before it sleeps, because waking it costs the thread that
 * sends 10 to 40 µs, as much as a batch.
 *
 * | seen                                                                 | the next waits                                           |
 * |----------------------------------------------------------------------|----------------------------------------------------------|
 * | others want the CPU (contention.ts)                                   | wake the thread that sends, look once, sleep              |
 * | PATIENCE waits in a row settled nothing                               | the next one sleeps at once, then the next 2, 4 … 64      |
 * | a nap left nothing in flight: the thread that sends ran dry meanwhile | spin without naps, once, then 2, 4 … MOST_SPINS times     |
 * | nothing of these                                                     | spin briefly, then nap                                   |
 *
 * All but brief waits nap in between, because the thread that sends may be on the same core, as the two CPUs of many small virtual
 * machines are, and is faster by itself.
 */
import type { Contention } from './contention.js'

/** Four batches of 512 KiB take this long. */
const LONGEST_NANOSECONDS = 200_000
/** Looks, each of some nanoseconds, between two offers of the CPU to others. */
const LOOKS = 256
/** A nap comes after this many offers, which take 7 µs. */
const BRIEF_OFFERS = 4
/** At most this many waits in a row spin without naps. */
const MOST_SPINS = 1024
/** After this many fruitless waits in a row, skip the next one; then 2, 4 … up to 2^(MOST_IN_VAIN − PATIENCE). */
const PATIENCE = 32
const MOST_IN_VAIN = 38

export interface WaitTools {
  /** Nanoseconds. */
  now(): number
  /** Lets others have this CPU, or leaves it for 20 µs. */
  yieldOrNap(asleep: boolean): void
  /** Tells the thread that sends of submissions that it was not told of yet. */
  ring(): void
}

/** The queue as a wait sees it. Counts wrap at 2^32. */
export interface Awaited {
  /** Settles the sends that the engine has settled; false if there are none, which costs one atomic load. */
  harvest(): boolean
  /** Sends that are not settled, as far as harvest() knows. */
  readonly inFlight: number
}

export class Waiter {
  /** Waits still to be skipped, and fruitless waits in a row. */
  #sleeps = 0
  #inVain = 0
  /** Waits still to be spun through without naps; how many the next nap that is too long brings. */
  #spins = 0
  #penalty = 1

  constructor(
    readonly tools: WaitTools,
    readonly contention: Contention,
  ) {}

  /** Waits a moment for the batch to leave the state 'in-flight'; the caller sleeps if it has not. */
  wait(batch: { readonly state: string }, queue: Awaited): void {
    const { tools, contention } = this
    const start = tools.now()
    if (!contention.maySpin(start)) {
      // A thread that wakes on this CPU has the CPU at once, and has sent when it gives it back.
      tools.ring()
      queue.harvest()
      return
    }
    if (this.#sleeps > 0) {
      this.#sleeps--
      return
    }
    const naps = this.#spins === 0
    if (!naps) this.#spins--
    const until = start + LONGEST_NANOSECONDS
    for (let looks = 1; batch.state === 'in-flight'; looks++) {
      if (queue.harvest() || looks % LOOKS !== 0) continue
      const asleep = naps && looks > LOOKS * BRIEF_OFFERS
      const before = tools.now()
      // The sending thread may be waiting for this very CPU.
      tools.yieldOrNap(asleep)
      const now = tools.now()
      contention.note(before, now)
      const settled = queue.harvest()
      if (asleep && settled) this.#slept(queue.inFlight)
      // A wait in which something settled during a nap was not fruitless.
      if (settled) continue
      if (!contention.maySpin(now)) return
      if (now > until) {
        this.#sleeps = Math.floor(2 ** (this.#inVain - PATIENCE))
        this.#inVain = Math.min(this.#inVain + 1, MOST_IN_VAIN)
        return
      }
    }
    this.#inVain = 0
  }

  /** Notes that something settled during a nap. @param inFlight sends that have not settled yet */
  #slept(inFlight: number): void {
    if (inFlight > 0) {
      this.#penalty = Math.max(1, this.#penalty >> 1)
      return
    }
    this.#spins = this.#penalty
    this.#penalty = Math.min(2 * this.#penalty, MOST_SPINS)
  }
}
