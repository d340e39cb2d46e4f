/**
 * The heaps that are done, so that a late copy of a packet is not taken for a new heap. It remembers 256 by hash, direct-mapped: a collision
 * forgets the older one.
 */
import type { AssembledHeap } from './assembled-heap.js'
import type { PacketHeader } from './decode.js'

/** A power of two: indexOf takes the upper 8 bits of a hash. */
const ENTRIES = 256

export class FinishedHeaps {
  readonly #high = new Uint32Array(ENTRIES)
  readonly #low = new Uint32Array(ENTRIES)
  readonly #sender = new Int32Array(ENTRIES)
  /** The heap's number among all that have finished. */
  readonly #at = new Float64Array(ENTRIES)
  #count = 0

  constructor() {
    this.forget()
  }

  forget(): void {
    this.#at.fill(-1e9)
  }

  remember(heap: AssembledHeap): void {
    const i = indexOf(heap.cntLow, heap.sender)
    this.#high[i] = heap.cntHigh
    this.#low[i] = heap.cntLow
    this.#sender[i] = heap.sender
    this.#at[i] = this.#count++
  }

  /**
   * Whether the packet's heap is done already. Narrow heap cnts wrap around soon (SPEAD-64-8 has 256), so one seen half a turn ago is a new
   * heap.
   */
  has(packet: PacketHeader, sender: number): boolean {
    const i = indexOf(packet.cntLow, sender)
    // indexOf is below ENTRIES.
    return (
      this.#low[i] === packet.cntLow &&
      this.#high[i] === packet.cntHigh &&
      this.#sender[i] === sender &&
      this.#count - this.#at[i]! < Math.min(ENTRIES, 2 ** (packet.addressBytes * 8 - 1))
    )
  }
}

const indexOf = (cntLow: number, sender: number): number => (Math.imul(cntLow, 0x9e3779b1) ^ Math.imul(sender, 0x85ebca6b)) >>> 24
