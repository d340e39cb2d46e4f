/** The items of a finished heap: where each lies in the payload, or what its immediate is. */
import { ITEM_NULL, ITEM_STREAM_CTRL } from '../spead/constants.js'
import type { AssembledHeap } from './assemble.js'
import { idOf, valueHigh, valueLow } from './decode.js'

/** Reused for every heap. load() allocates only when a heap has more items than any before, or lists addresses out of order. */
export class ItemTable {
  count = 0
  ids = new Float64Array(64)
  immediate = new Uint8Array(64)
  /** Addressed: bytes from the start of the heap's payload, and how many up to the next address. Immediate: 0 and the address width. */
  offset = new Float64Array(64)
  length = new Float64Array(64)
  high = new Uint32Array(64)
  low = new Uint32Array(64)
  #order = new Uint32Array(64)

  load(heap: AssembledHeap): void {
    const n = heap.pointerCount >>> 1
    if (n > this.ids.length) this.#grow(n)
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
      this.ids[count] = id
      this.immediate[count] = immediate
      this.high[count] = valueHigh(hi, addressBytes)
      this.low[count] = valueLow(lo, addressBytes)
      this.offset[count] = 0
      this.length[count] = addressBytes
      if (immediate === 0) {
        const at = this.high[count]! * 0x100000000 + this.low[count]!
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
      if (this.offset[i]! > heap.length) this.offset[i] = heap.length
      this.length[i] = end - this.offset[i]!
      end = this.offset[i]!
    }
  }

  /** Index of the first item with this id, or −1. */
  find(id: number): number {
    for (let i = 0; i < this.count; i++) if (this.ids[i] === id) return i
    return -1
  }

  /** An immediate as a double: exact to 2^53. */
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
