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
  /** Byte views of the sample items, by batch, heap and item, made at first use. */
  readonly #views: Uint8Array<ArrayBuffer>[][]
  #state: 'waiting' | 'filling' = 'waiting'
  /** Index of the batch that is filled, or is next. */
  #turn = 0
  /** The heap of that batch that filling began with. */
  #first = 0
  /** Where the next byte goes. */
  #heap = 0
  #item = 0
  #byte = 0
  /** The beginning of the next heap, from a batch that was passed on without it. */
  #kept: Uint8Array | undefined

  constructor(
    readonly batches: readonly Batch[],
    /** They are filled one after the other. */
    readonly items: readonly string[],
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
    if (this.#kept) return this.#kept.length
    let bytes = this.#byte
    for (let item = 0; item < this.#item; item++) bytes += this.#view(this.#heap, item).length
    return bytes
  }

  /** The substream of the heap that is not whole, or comes next. */
  get substream(): number {
    return (this.#turn * this.batch.heaps + this.#heap) % this.substreams
  }

  /** A copy of the first bytes of the heap that is not whole, of which there are at least as many. */
  part(bytes: number): Uint8Array {
    if (this.#kept) return this.#kept.subarray(0, bytes)
    const part = new Uint8Array(bytes)
    for (let item = 0, at = 0; at < bytes; item++) {
      const view = this.#view(this.#heap, item)
      part.set(view.subarray(0, bytes - at), at)
      at += view.length
    }
    return part
  }

  /** The batch is free. */
  take(): void {
    this.#state = 'filling'
    const kept = this.#kept
    this.#kept = undefined
    if (kept) this.copy(kept, 0)
  }

  /** Copies as much as the batch takes: one subarray per item touched. Returns how much that is. */
  copy(bytes: Uint8Array, from: number): number {
    const { heaps } = this.batch
    const { length } = this.items
    let at = from
    while (at < bytes.length && this.#heap < heaps) {
      const view = this.#view(this.#heap, this.#item)
      const count = Math.min(bytes.length - at, view.length - this.#byte)
      view.set(count === bytes.length ? bytes : bytes.subarray(at, at + count), this.#byte)
      at += count
      this.#byte += count
      if (this.#byte < view.length) break
      this.#byte = 0
      if (++this.#item === length) {
        this.#item = 0
        this.#heap++
      }
    }
    return at - from
  }

  /** The whole heaps of the batch are sent, and the next batch comes. */
  passOn(): void {
    const { partBytes } = this
    if (partBytes > 0) this.#kept = this.part(partBytes)
    this.#item = 0
    this.#byte = 0
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

  #view(heap: number, item: number): Uint8Array<ArrayBuffer> {
    const views = this.#views[this.#turn]!
    const at = heap * this.items.length + item
    let view = views[at]
    if (!view) {
      const { buffer, byteOffset, byteLength } = this.batch.heap(heap)[this.items[item]!]!
      // It is the memory of a region, which is never a SharedArrayBuffer.
      view = new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength)
      views[at] = view
    }
    return view
  }
}
