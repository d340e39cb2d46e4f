/**
 * Room for heaps that arrive in several packets: power-of-two slots cut from one buffer, handed out last-in first-out so that a steady
 * stream keeps reusing the same few, cache-warm ones. Slots are never merged; when all are free the cutting starts anew.
 */
const SMALLEST_LOG2 = 12

export class HeapStorage {
  readonly #start: number
  readonly #end: number
  #fresh: number
  #used = 0
  readonly #free: number[][] = []
  /** log2 of the slot's size, by its position in units of the smallest. */
  readonly #sizeLog2: Uint8Array

  /** Slots come from bytes start … end−1; `start` must be a multiple of 4096. */
  constructor(start: number, end: number) {
    this.#start = start
    this.#end = end
    this.#fresh = start
    this.#sizeLog2 = new Uint8Array((end - start) >>> SMALLEST_LOG2)
    for (let k = 0; k < 48; k++) this.#free.push([])
  }

  /** The largest heap that could ever be stored. */
  get capacity(): number {
    return this.#end - this.#start
  }

  /** Byte offset of a slot of at least `bytes`, or −1 if there is none free. */
  take(bytes: number): number {
    if (bytes > this.capacity) return -1
    let log2 = SMALLEST_LOG2
    while (2 ** log2 < bytes) log2++
    const own = this.#free[log2]!
    if (own.length > 0) {
      this.#used++
      return own.pop()!
    }
    if (this.#used === 0 && this.#fresh > this.#start) this.#forget()
    // The last slot may be cut short by the end of the buffer, as long as it holds what is asked.
    if (this.#end - this.#fresh >= bytes) {
      const at = this.#fresh
      this.#fresh = Math.min(this.#end, at + 2 ** log2)
      this.#sizeLog2[(at - this.#start) >>> SMALLEST_LOG2] = 2 ** log2 <= this.#end - at ? log2 : 0
      this.#used++
      return at
    }
    for (let larger = log2 + 1; larger < this.#free.length; larger++) {
      if (this.#free[larger]!.length === 0) continue
      this.#used++
      return this.#free[larger]!.pop()!
    }
    return -1
  }

  release(at: number): void {
    this.#used--
    const log2 = this.#sizeLog2[(at - this.#start) >>> SMALLEST_LOG2]!
    // A slot cut short serves nobody else: it comes back when everything is free.
    if (log2 > 0) this.#free[log2]!.push(at)
  }

  /** How many bytes the slot holds. */
  size(at: number): number {
    const log2 = this.#sizeLog2[(at - this.#start) >>> SMALLEST_LOG2]!
    return log2 > 0 ? 2 ** log2 : this.#end - at
  }

  #forget(): void {
    for (const list of this.#free) list.length = 0
    this.#fresh = this.#start
  }
}
