/** Heaps that wait for the consumer, and consumers that wait for heaps. */
import type { ReceivedHeap } from './received-heap.js'

export class HeapQueue {
  readonly #heaps: ReceivedHeap[] = []
  readonly #waiting: { resolve: (result: IteratorResult<ReceivedHeap, undefined>) => void; reject: (error: unknown) => void }[] = []
  #ended = false
  #error: { readonly value: unknown } | undefined

  /** @param onTaken called for each heap that leaves for a consumer or is dropped */
  constructor(private readonly onTaken: (heap: ReceivedHeap) => void = () => undefined) {}

  get length(): number {
    return this.#heaps.length
  }

  push(heap: ReceivedHeap): void {
    const consumer = this.#waiting.shift()
    if (!consumer) {
      this.#heaps.push(heap)
      return
    }
    this.onTaken(heap)
    consumer.resolve({ done: false, value: heap })
  }

  next(): Promise<IteratorResult<ReceivedHeap, undefined>> {
    const heap = this.#heaps.shift()
    if (heap) {
      this.onTaken(heap)
      return Promise.resolve({ done: false, value: heap })
    }
    if (this.#error) return Promise.reject(this.#error.value)
    if (this.#ended) return Promise.resolve({ done: true, value: undefined })
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  /** Says that no more heaps will come. Waiting ones are still handed out; then the iteration ends, with `error` if there is one. */
  end(error?: { readonly value: unknown }): void {
    if (this.#ended) return
    this.#ended = true
    this.#error = error
    for (const consumer of this.#waiting.splice(0)) {
      if (error) consumer.reject(error.value)
      else consumer.resolve({ done: true, value: undefined })
    }
  }

  /** Drops the waiting heaps. */
  clear(): void {
    for (const heap of this.#heaps.splice(0)) this.onTaken(heap)
  }
}
