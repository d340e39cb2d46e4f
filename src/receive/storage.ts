/**
 * Room for heaps that arrive in several packets: power-of-two slots cut from one buffer. They are handed out last-in first-out, so that a
 * steady stream keeps reusing the same few, cache-warm ones. Slots are never merged; when all are free the cutting starts anew.
 */
const SMALLEST_LOG2 = 12

export class HeapStorage {
  readonly #start: number
  readonly #end: number
  #fresh: number
  #used = 0
  /** Free slots by log2 of their size. */
  readonly #free: readonly number[][] = Array.from({ length: 48 }, () => [])
  /** log2 of the slot's size, by its position in units of the smallest; 0 for a slot cut short by the end of the buffer. */
  readonly #sizeLog2: Uint8Array

  /** Cuts slots from bytes start … end−1; `start` must be a multiple of 4096. */
  constructor(start: number, end: number) {
    this.#start = start
    this.#end = end
    this.#fresh = start
    this.#sizeLog2 = new Uint8Array((end - start) >>> SMALLEST_LOG2)
  }

  /** The largest heap that could ever be stored. */
  get capacity(): number {
    return this.#end - this.#start
  }

  /** Takes a slot of at least `bytes` and returns its byte offset, or −1 if none is free. */
  take(bytes: number): number {
    if (bytes > this.capacity) return -1
    let log2 = SMALLEST_LOG2
    while (2 ** log2 < bytes) log2++
    const own = this.#free[log2]?.pop()
    if (own !== undefined) {
      this.#used++
      return own
    }
    if (this.#used === 0 && this.#fresh > this.#start) this.#forget()
    // The end of the buffer may cut the last slot short, as long as it holds `bytes`.
    if (this.#end - this.#fresh >= bytes) {
      const at = this.#fresh
      this.#fresh = Math.min(this.#end, at + 2 ** log2)
      this.#sizeLog2[(at - this.#start) >>> SMALLEST_LOG2] = 2 ** log2 <= this.#end - at ? log2 : 0
      this.#used++
      return at
    }
    for (let larger = log2 + 1; larger < this.#free.length; larger++) {
      const slot = this.#free[larger]?.pop()
      if (slot === undefined) continue
      this.#used++
      return slot
    }
    return -1
  }

  /** Gives back the slot at `at`. */
  release(at: number): void {
    this.#used--
    const log2 = this.#log2At(at)
    // A slot cut short serves nobody else: it comes back when everything is free.
    if (log2 > 0) this.#free[log2]?.push(at)
  }

  /** Returns how many bytes the slot at `at` holds. */
  size(at: number): number {
    const log2 = this.#log2At(at)
    return log2 > 0 ? 2 ** log2 : this.#end - at
  }

  /** The slot at `at` was taken from here, so there is an entry for it. */
  #log2At(at: number): number {
    return this.#sizeLog2[(at - this.#start) >>> SMALLEST_LOG2]!
  }

  /** Starts cutting anew: all slots are free. */
  #forget(): void {
    for (const list of this.#free) list.length = 0
    this.#fresh = this.#start
  }
}
