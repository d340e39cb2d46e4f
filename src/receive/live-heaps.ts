/** The heaps in the making: in a chained hash by sender and heap cnt, and in a list from oldest to newest. */
import type { AssembledHeap } from './assembled-heap.js'
import type { Sender } from './sender.js'

export class LiveHeaps {
  size = 0
  oldest: AssembledHeap | undefined
  readonly #buckets: (AssembledHeap | undefined)[]
  #newest: AssembledHeap | undefined

  /** @param most heaps for which lookups stay short */
  constructor(most: number) {
    let buckets = 16
    while (buckets < most * 2) buckets *= 2
    this.#buckets = new Array<AssembledHeap | undefined>(buckets).fill(undefined)
  }

  find(cntHigh: number, cntLow: number, sender: Sender): AssembledHeap | undefined {
    let heap = this.#buckets[this.#bucketOf(cntLow, sender.id)]
    while (heap !== undefined && (heap.cntLow !== cntLow || heap.cntHigh !== cntHigh || heap.sender !== sender)) {
      heap = heap.nextInBucket
    }
    return heap
  }

  /** Takes a heap that is not in it, as the newest. */
  add(heap: AssembledHeap): void {
    // Only heaps of a sender are put together.
    heap.bucket = this.#bucketOf(heap.cntLow, heap.sender!.id)
    heap.nextInBucket = this.#buckets[heap.bucket]
    this.#buckets[heap.bucket] = heap
    heap.newer = undefined
    heap.older = this.#newest
    if (this.#newest) this.#newest.newer = heap
    else this.oldest = heap
    this.#newest = heap
    this.size++
  }

  remove(heap: AssembledHeap): void {
    let at = this.#buckets[heap.bucket]
    if (at === heap) this.#buckets[heap.bucket] = heap.nextInBucket
    else {
      while (at !== undefined && at.nextInBucket !== heap) at = at.nextInBucket
      if (at) at.nextInBucket = heap.nextInBucket
    }
    heap.nextInBucket = undefined
    if (heap.older) heap.older.newer = heap.newer
    else this.oldest = heap.newer
    if (heap.newer) heap.newer.older = heap.older
    else this.#newest = heap.older
    heap.older = undefined
    heap.newer = undefined
    this.size--
  }

  #bucketOf(cntLow: number, sender: number): number {
    return (Math.imul(cntLow, 0x9e3779b1) ^ Math.imul(sender, 0x85ebca6b)) & (this.#buckets.length - 1)
  }
}
