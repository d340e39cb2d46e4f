/**
 * How the heaps of a variant are shared out over substreams. A send mostly has as many heaps as the one before it, so the shares are taken
 * once and used again. Nothing is allocated when they change.
 */
import type { CompiledBatch } from '../batch/compile.js'

export class Shares {
  /** The substreams that heaps go to, each once. */
  readonly substreams: Uint16Array
  /** What each of `substreams` gets of the heaps that were taken last. */
  readonly heaps: Float64Array
  readonly packets: Float64Array
  readonly bytes: Float64Array
  /** Where the substream of each heap stands in `substreams`. */
  readonly #places: Uint16Array
  #taken = -1

  constructor(
    readonly compiled: CompiledBatch,
    /** Bytes of rows 0 … r−1. */
    readonly bytesBefore: Float64Array,
  ) {
    const { heap, heaps, substream } = compiled.table
    const placeOf = new Map<number, number>()
    this.#places = new Uint16Array(heaps)
    for (let r = 0; r < heap.length; r++) {
      if (!placeOf.has(substream[r]!)) placeOf.set(substream[r]!, placeOf.size)
      this.#places[heap[r]!] = placeOf.get(substream[r]!)!
    }
    this.substreams = Uint16Array.from(placeOf.keys())
    this.heaps = new Float64Array(this.substreams.length)
    this.packets = new Float64Array(this.substreams.length)
    this.bytes = new Float64Array(this.substreams.length)
  }

  substreamOf(heap: number): number {
    return this.substreams[this.#places[heap]!]!
  }

  /** The rows of the first heaps, which are the table's first. */
  rowsOf(heaps: number): number {
    const { table, rowsOfHeaps } = this.compiled
    return heaps === table.heaps ? table.rows : rowsOfHeaps[heaps]!
  }

  /** Shares out the first heaps. */
  take(heaps: number): void {
    if (heaps === this.#taken) return
    this.#taken = heaps
    const rows = this.rowsOf(heaps)
    if (this.substreams.length === 1) {
      this.heaps[0] = heaps
      this.packets[0] = rows
      this.bytes[0] = this.bytesBefore[rows]!
      return
    }
    const { heap, udpBytes } = this.compiled.table
    const places = this.#places
    this.heaps.fill(0)
    this.packets.fill(0)
    this.bytes.fill(0)
    for (let j = 0; j < heaps; j++) this.heaps[places[j]!]! += 1
    for (let r = 0; r < rows; r++) {
      const place = places[heap[r]!]!
      this.packets[place]! += 1
      this.bytes[place]! += udpBytes[r]!
    }
  }
}
