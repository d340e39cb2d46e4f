/**
 * Where samples are copied to: the heaps of a ring of batches, one after the other.
 *
 * | state   | legal                                | leaves by                                                                |
 * |---------|--------------------------------------|--------------------------------------------------------------------------|
 * | waiting | take                                 | take() → filling                                                         |
 * | filling | copy; passOn if there are whole heaps | passOn() → waiting, with the bytes of a heap that is not whole kept aside |
 *
 * The i-th heap of all goes to substream i mod n, and every heap of the ring has its substream. So filling goes on, after a batch
 * that was passed on before it was full, at the first heap behind that batch that has the substream of the next.
 */
import type { Batch } from '../stream/batch.js'

export class SampleRing {
  /** Byte views of the sample item, by batch and heap, made at first use. */
  readonly #views: Uint8Array<ArrayBuffer>[][]
  #state: 'waiting' | 'filling' = 'waiting'
  /** Index of the batch that is filled, or is next. */
  #turn = 0
  /** The heap of that batch that filling began with. */
  #first = 0
  /** Where the next byte goes. */
  #heap = 0
  #byte = 0
  /** The beginning of the next heap, from a batch that was passed on without it. */
  #kept: Uint8Array | undefined

  constructor(
    readonly batches: readonly Batch[],
    readonly itemName: string,
    readonly heapBytes: number,
    readonly substreams: number,
  ) {
    this.#views = batches.map(() => [])
  }

  get filling(): boolean {
    return this.#state === 'filling'
  }

  /** The batch that is filled, or is next. */
  get batch(): Batch {
    return this.batches[this.#turn]!
  }

  /** Heaps of it that are whole, the first of which is `first`. */
  get wholeHeaps(): number {
    return this.#heap - this.#first
  }

  get first(): number {
    return this.#first
  }

  get full(): boolean {
    return this.#heap === this.batch.heaps
  }

  /** Bytes of the heap that is not whole. */
  get partBytes(): number {
    return this.#byte
  }

  /** The substream of the heap that is not whole, or comes next. */
  get substream(): number {
    return (this.#turn * this.batch.heaps + this.#heap) % this.substreams
  }

  /** A copy of the first bytes of the heap that is not whole, of which there are at least as many. */
  part(bytes: number): Uint8Array {
    return this.#kept ? this.#kept.subarray(0, bytes) : this.#view(this.#heap).slice(0, bytes)
  }

  /** The batch is free. */
  take(): void {
    this.#state = 'filling'
    if (this.#kept) this.#view(this.#heap).set(this.#kept)
    this.#kept = undefined
  }

  /** Copies as much as the batch takes: one subarray per heap touched. Returns how much that is. */
  copy(bytes: Uint8Array, from: number): number {
    const { heaps } = this.batch
    const { heapBytes } = this
    let at = from
    while (at < bytes.length && this.#heap < heaps) {
      const count = Math.min(bytes.length - at, heapBytes - this.#byte)
      this.#view(this.#heap).set(count === bytes.length ? bytes : bytes.subarray(at, at + count), this.#byte)
      at += count
      this.#byte += count
      if (this.#byte < heapBytes) break
      this.#heap++
      this.#byte = 0
    }
    return at - from
  }

  /** The whole heaps of the batch are sent, and the next batch comes. */
  passOn(): void {
    if (this.#byte > 0) this.#kept = this.part(this.#byte)
    this.#state = 'waiting'
    const { substream, batches, substreams } = this
    const { heaps } = this.batch
    // The ring has every substream.
    do {
      this.#turn = (this.#turn + 1) % batches.length
      const ahead = (substream - this.#turn * heaps) % substreams
      this.#heap = ahead < 0 ? ahead + substreams : ahead
    } while (this.#heap >= heaps)
    this.#first = this.#heap
  }

  close(): void {
    for (const batch of this.batches) batch.close()
  }

  #view(heap: number): Uint8Array<ArrayBuffer> {
    const views = this.#views[this.#turn]!
    let view = views[heap]
    if (!view) {
      const { buffer, byteOffset, byteLength } = this.batch.heap(heap)[this.itemName]!
      // It is the memory of a region, which is never a SharedArrayBuffer.
      view = new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength)
      views[heap] = view
    }
    return view
  }
}
