/** The items of a finished heap: the place of each in the payload, or its immediate. */
import { ITEM_NULL, ITEM_STREAM_CTRL } from '../spead/constants.js'
import type { AssembledHeap } from './assembled-heap.js'
import { idOf, valueHigh, valueLow } from './decode.js'

/**
 * A table of items, reused for every heap. load() allocates only for a heap that has more items than any before, or addresses out of order.
 */
export class ItemTable {
  count = 0
  ids = new Float64Array(64)
  immediate = new Uint8Array(64)
  /**
   * An addressed item's bytes from the start of the heap's payload, and up to the next address. For an immediate they are 0 and the address
   * width.
   */
  offset = new Float64Array(64)
  length = new Float64Array(64)
  high = new Uint32Array(64)
  low = new Uint32Array(64)
  #order = new Uint32Array(64)

  load(heap: AssembledHeap): void {
    const n = heap.pointerCount >>> 1
    if (n > this.ids.length) this.#grow(n)
    // The heap has n pairs of words. The columns have room for n items, and `count` and `addressed` never exceed n.
    const { addressBytes, pointers } = heap
    let count = 0
    let addressed = 0
    let last = -1
    let sorted = true
    for (let k = 0; k < n; k++) {
      const hi = pointers[2 * k]!
      const lo = pointers[2 * k + 1]!
      const id = idOf(hi, lo, addressBytes)
      const immediate = hi >>> 31
      // An immediate NULL only fills a place; an addressed one marks where the item before it ends.
      if (immediate === 1 && id === ITEM_NULL) continue
      const high = valueHigh(hi, addressBytes)
      const low = valueLow(lo, addressBytes)
      this.ids[count] = id
      this.immediate[count] = immediate
      this.high[count] = high
      this.low[count] = low
      this.offset[count] = 0
      this.length[count] = addressBytes
      if (immediate === 0) {
        const at = high * 0x100000000 + low
        this.offset[count] = at
        if (at < last) sorted = false
        last = at
        this.#order[addressed++] = count
      }
      count++
    }
    this.count = count
    const order = this.#order
    if (!sorted) order.subarray(0, addressed).sort((a, b) => this.offset[a]! - this.offset[b]! || a - b)
    // An item reaches to the next higher address, or to the end of the heap; items at one address are empty but for the last.
    for (let k = addressed - 1, end = heap.length; k >= 0; k--) {
      const i = order[k]!
      const at = Math.min(this.offset[i]!, heap.length)
      this.offset[i] = at
      this.length[i] = end - at
      end = at
    }
  }

  /** Returns the index of the item with this id, or −1. Where there are several, it is the one that prevails. */
  find(id: number): number {
    let found = -1
    for (let i = 0; i < this.count; i++) if (this.ids[i] === id) found = found < 0 ? i : this.prevailing(found, i)
    return found
  }

  /**
   * Returns which of two items with one id stands for both. It is the one that spead2 takes, which goes through the items sorted by
   * their pointers, and keeps the last: an immediate before an address, the larger value, the higher address. An item of no bytes
   * is none there.
   */
  prevailing(a: number, b: number): number {
    if (this.immediate[a] !== this.immediate[b]) return this.immediate[a] === 1 ? a : b
    if (this.immediate[a] === 1) {
      const larger = this.high[a]! - this.high[b]! || this.low[a]! - this.low[b]!
      return larger > 0 ? a : b
    }
    if (this.length[a] === 0 || this.length[b] === 0) return this.length[b] === 0 ? a : b
    return this.offset[a]! > this.offset[b]! ? a : b
  }

  /** Returns the immediate of item `i`, which is below `count`, as a double: exact to 2^53. */
  value(i: number): number {
    return this.high[i]! * 0x100000000 + this.low[i]!
  }

  #grow(n: number): void {
    this.ids = new Float64Array(n)
    this.immediate = new Uint8Array(n)
    this.offset = new Float64Array(n)
    this.length = new Float64Array(n)
    this.high = new Uint32Array(n)
    this.low = new Uint32Array(n)
    this.#order = new Uint32Array(n)
  }
}

/** Ids up to here are SPEAD's own (SPEAD protocol document, section 8.2): heap structure, descriptors, stream control. */
export const LAST_RESERVED_ID = ITEM_STREAM_CTRL
