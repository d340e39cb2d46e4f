/**
 * Decides when a submission wakes the I/O thread, if that sleeps. Each wake-up costs two switches where both threads share a CPU, as they do on a
 * busy host, so there it must be worth as many batches as come at once.
 *
 * | a submission to a sleeping thread                               | wakes it                                                 |
 * |----------------------------------------------------------------|----------------------------------------------------------|
 * | the host is calm, or the one before is RAPID_NANOSECONDS ago or longer | at once                                             |
 * | otherwise                                                             | when the caller waits for a batch, or has nothing to run  |
 */
import type { Contention } from './contention.js'

/** A wake-up takes this long. A caller that takes longer to fill a batch gains nothing by keeping it back. */
const RAPID_NANOSECONDS = 50_000

export interface DoorbellTools {
  /** Nanoseconds. */
  now(): number
  /** Wakes the thread if it sleeps. */
  wake(): void
  /** Calls back when the caller has nothing more to run, its settled promises included (process.nextTick). */
  later(ring: () => void): void
}

export class Doorbell {
  #submittedAt = Number.NEGATIVE_INFINITY
  #owed = false

  /** @param contention undefined = never keep a submission back */
  constructor(
    readonly tools: DoorbellTools,
    readonly contention: Contention | undefined,
  ) {}

  /** Something was submitted, and the thread sleeps. */
  submitted(): void {
    const { tools, contention } = this
    if (!contention) {
      tools.wake()
      return
    }
    const now = tools.now()
    const rapid = now - this.#submittedAt < RAPID_NANOSECONDS
    this.#submittedAt = now
    if (!rapid || contention.maySpin(now)) {
      this.#owed = false
      tools.wake()
    } else if (!this.#owed) {
      this.#owed = true
      tools.later(this.ring)
    }
  }

  /** Wakes the thread if a submission was kept back. */
  readonly ring = (): void => {
    if (!this.#owed) return
    this.#owed = false
    this.tools.wake()
  }
}
