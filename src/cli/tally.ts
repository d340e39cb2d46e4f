import { SendError, type SettledHeaps } from '../index.js'
import { say } from './progress.js'

/** What was sent, counted as it settles; each cause of failure is told once, when it first shows. */
export class Tally {
  /** Sent whole. */
  heaps = 0
  failed = 0
  /** Cut off by the deadline. */
  dropped = 0
  /** Sent while the link was lost, or the interface dropped. */
  suspect = 0
  payloadBytes = 0
  /** When the last heaps settled, on performance.now()'s clock. */
  lastAt = 0
  /** The deadline passed: what fails from now on was dropped. */
  cut = false
  /** The stop heap did not go to every substream. */
  stopLost = false
  readonly #told = new Set<string>()

  constructor(readonly command: string) {}

  readonly settled = ({ heaps, failedHeaps, sampleBytes, result, error }: SettledHeaps): void => {
    this.heaps += heaps - failedHeaps
    this.payloadBytes += sampleBytes
    this.lastAt = performance.now()
    if (result?.suspect || (error instanceof SendError && error.outcome.suspect)) this.suspect += heaps - failedHeaps
    if (this.cut) this.dropped += failedHeaps
    else if (failedHeaps > 0) {
      this.failed += failedHeaps
      this.#tellCauses(error)
    }
  }

  stopFailed(error: unknown): void {
    this.stopLost = true
    this.#tellCauses(error)
  }

  #tellCauses(error: unknown): void {
    const causes = error instanceof SendError ? error.outcome.causes.map(({ message }) => message) : [(error as Error).message]
    for (const cause of causes) this.#tell(cause)
  }

  #tell(cause: string): void {
    if (this.#told.has(cause)) return
    this.#told.add(cause)
    say(`speadcast ${this.command}: ${cause}`)
  }
}
