/** Where a substream's heaps ended. */
export interface SubstreamCounts {
  /** Sent whole. */
  readonly heaps: number
  readonly failed: number
  /** Packets that could not be sent. */
  readonly refused: number
}

/**
 * Counts the heaps of each substream: heap i of a run goes to substream i mod `substreams`, and sends settle in order. So only failures
 * have to be counted one by one.
 */
export class SubstreamTally {
  /** Heaps of this run that have settled, whatever their fate, and of the runs before it. */
  #settled = 0
  readonly #before: number[] = []
  readonly #lost = new Map<number, { failed: number; refused: number }>()

  constructor(readonly substreams: number) {}

  /** The next heap goes to substream 0, whatever was sent before. */
  begin(): void {
    if (this.#settled > 0) this.#before.push(this.#settled)
    this.#settled = 0
  }

  /** `failed` are the indices of those of the next `heaps` that were not sent whole; `causes` say which packets were lost. */
  settled(heaps: number, failed: Iterable<number>, causes: readonly { substream: number; packets: number }[]): void {
    for (const j of failed) this.#of((this.#settled + j) % this.substreams).failed++
    for (const { substream, packets } of causes) this.#of(substream).refused += packets
    this.#settled += heaps
  }

  counts(substream: number): SubstreamCounts {
    const { failed, refused } = this.#lost.get(substream) ?? NOTHING
    const settled = [...this.#before, this.#settled].reduce(
      (sum, heaps) => sum + Math.max(0, Math.ceil((heaps - substream) / this.substreams)),
      0,
    )
    return { heaps: settled - failed, failed, refused }
  }

  /** The first `most` substreams, those that lost the most before all others. */
  foremost(most: number): number[] {
    if (this.substreams <= most) return Array.from({ length: this.substreams }, (_, substream) => substream)
    const lossy = [...this.#lost].toSorted(([a, x], [b, y]) => y.failed - x.failed || y.refused - x.refused || a - b)
    const first = lossy.slice(0, most).map(([substream]) => substream)
    const taken = new Set(first)
    for (let substream = 0; first.length < most; substream++) if (!taken.has(substream)) first.push(substream)
    return first
  }

  #of(substream: number): { failed: number; refused: number } {
    const lost = this.#lost.get(substream) ?? { failed: 0, refused: 0 }
    this.#lost.set(substream, lost)
    return lost
  }
}

const NOTHING = { failed: 0, refused: 0 }
