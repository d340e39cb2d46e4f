import { SendError, type SettledHeaps } from '../../index.js'
import { say } from './print.js'
import type { SubstreamTally } from './substream-tally.js'

/** Texts of causes that are remembered as told. An endless run may meet ever new ones. */
const MOST_TOLD = 1000

/** Counts heaps as they settle, and tells each cause of failure once, when it first shows. */
export class Tally {
  /** Heaps sent whole. */
  heaps = 0
  failed = 0
  /** Heaps that were left out, as --late and --on-error say. */
  skipped = 0
  /** Heaps that the deadline cut off. */
  dropped = 0
  /** Heaps sent while the link was lost or the interface dropped. */
  suspect = 0
  payloadBytes = 0
  /** When the last heaps settled, on performance.now()'s clock. */
  lastAt = 0
  /** The deadline has passed: heaps that fail from now on were dropped. */
  cut = false
  /** The stop heap did not go to every substream. */
  stopLost = false
  /** Counts by substream too, if it is there. */
  substreams: SubstreamTally | undefined
  readonly #told = new Set<string>()

  constructor(readonly command: string) {}

  readonly settled = ({ heaps, failedHeaps, skippedHeaps = 0, sampleBytes, result, error }: SettledHeaps): void => {
    const sent = heaps - failedHeaps - skippedHeaps
    this.heaps += sent
    this.skipped += skippedHeaps
    this.payloadBytes += sampleBytes
    this.lastAt = performance.now()
    const outcome = error instanceof SendError ? error.outcome : undefined
    if (result?.suspect || outcome?.suspect) this.suspect += sent
    // Where no outcome tells them apart, all have failed.
    const unsent = outcome
      ? [...outcome.heaps.keys()].filter((j) => outcome.heaps[j] !== 'sent')
      : (result?.skipped?.heaps ?? (failedHeaps > 0 ? Array(failedHeaps).keys() : []))
    this.substreams?.settled(heaps, unsent, outcome?.causes ?? result?.skipped?.causes ?? [])
    for (const { message } of result?.skipped?.causes ?? []) this.#tell(message)
    if (this.cut) this.dropped += failedHeaps
    else if (failedHeaps > 0) {
      this.failed += failedHeaps
      // The heaps of a loop are counted, and their causes told, apart.
      if (error !== undefined) this.tellCauses(error)
    }
  }

  stopFailed(error: unknown): void {
    this.stopLost = true
    this.tellCauses(error)
  }

  tellCauses(error: unknown): void {
    const causes = error instanceof SendError ? error.outcome.causes.map(({ message }) => message) : []
    // Where the I/O thread died, for one.
    if (causes.length === 0) causes.push((error as Error).message)
    for (const cause of causes) this.#tell(cause)
  }

  #tell(cause: string): void {
    if (this.#told.has(cause) || this.#told.size === MOST_TOLD) return
    this.#told.add(cause)
    say(`speadcast ${this.command}: ${cause}`)
  }
}
