/** The heaps of a batch that a mask names, in their order. */
export class ChosenHeaps {
  /** Equal for equal choices of batches of one length. */
  readonly key: string

  constructor(
    /** Indices in the batch, rising. */
    readonly heaps: Uint32Array,
    /** Heaps of the batch. */
    readonly of: number,
  ) {
    const bits = new Uint8Array(Math.ceil(of / 8))
    for (const heap of heaps) bits[heap >>> 3]! |= 1 << (heap & 7)
    this.key = Buffer.from(bits).toString('base64')
  }

  /** Whether a mask names the same heaps, of those from `first` on. Allocates nothing: a program sends with one mask over and over. */
  isOf(mask: Uint8Array, first: number, heaps: number): boolean {
    const { heaps: chosen } = this
    let i = 0
    for (let j = first; j < first + heaps; j++) if (mask[j] !== 0 && chosen[i++] !== j) return false
    return i === chosen.length
  }

  /** The values of these heaps, from a list with a value for each heap of the batch. */
  pick(values: Float64Array): Float64Array {
    return Float64Array.from(this.heaps, (heap) => values[heap]!)
  }

  /** A list with a value for each heap of the batch: those of these heaps, and one for all others. */
  spread<T>(values: readonly T[], others: T): T[] {
    const all = new Array<T>(this.of).fill(others)
    for (const [i, heap] of this.heaps.entries()) all[heap] = values[i]!
    return all
  }
}
