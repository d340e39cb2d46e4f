/**
 * Puts packets together to heaps. A heap is known by its sender and its heap cnt; its packets may come in any order, twice, or not at all.
 *
 * A heap whose only packet carries all of it is handed on where it lies, in the receive buffer. The others are copied once, packet by
 * packet, into a slot of the same ArrayBuffer. Four things are bounded: heaps in the making (the oldest is given up), their bytes, item
 * pointers per heap, and the memory of heaps already seen (256, by hash).
 */
import { AssembledHeap } from './assembled-heap.js'
import { isPacketPointer, type PacketHeader } from './decode.js'
import { FinishedHeaps } from './finished-heaps.js'
import { LiveHeaps } from './live-heaps.js'
import type { HeapStorage } from './storage.js'

/** The most item pointers that a heap may have; a packet that brings more is refused. */
const MAX_POINTERS = 65536
/** Size of the first slot of a heap that does not say how long it is. */
const UNKNOWN_LENGTH_BYTES = 65536
const RECENT_MS = 1000

/** The verdicts of add() on a packet. */
export const ADDED = 0
export const DUPLICATE = 1
export const REFUSED = 2

export interface AssemblerOptions {
  readonly maxHeaps: number
  readonly storage: HeapStorage
  /** Takes a heap that is finished (`complete`) or given up. The heap is valid during the call; a slot that keepSlot() took stays valid. */
  readonly onHeap: (heap: AssembledHeap) => void
  /** Called when storage is full: gives back a kept slot and returns true, or returns false if there is none. */
  readonly onPressure: () => boolean
}

export class Assembler {
  readonly #live: LiveHeaps
  readonly #finished = new FinishedHeaps()
  readonly #u8: Uint8Array
  readonly #view: DataView
  readonly #options: AssemblerOptions
  readonly #spare: AssembledHeap[] = []
  /** The heap that got the last packet, if it is in the making: most packets are for the same. */
  #last: AssembledHeap | undefined

  constructor(buffer: ArrayBuffer, options: AssemblerOptions) {
    this.#u8 = new Uint8Array(buffer)
    this.#view = new DataView(buffer)
    this.#options = options
    this.#live = new LiveHeaps(options.maxHeaps)
  }

  /** The time in whole milliseconds, to within a turn of the driver. */
  now = 0

  /** Whether packets came in the last second for a heap of the sender that is in the making and has a lower cnt. */
  receivingBelow(sender: number, cnt: number): boolean {
    for (let heap = this.#live.oldest; heap; heap = heap.newer) {
      if (heap.sender !== sender || ((this.now - heap.touched) | 0) >= RECENT_MS) continue
      const period = 2 ** (heap.addressBytes * 8)
      const its = heap.cntNumber + Math.round((cnt - heap.cntNumber) / period) * period
      if (its < cnt) return true
    }
    return false
  }

  /** How many heaps are in the making. */
  get live(): number {
    return this.#live.size
  }

  /** Makes every heap cnt count as new again, because a sender has stopped or started. */
  forgetFinished(): void {
    this.#finished.forget()
  }

  /** Takes a decoded packet. Allocates for the first heaps of a run only; copies the payload once, unless the packet is all of its heap. */
  add(packet: PacketHeader, sender: number, endpoint: number): number {
    const { cntHigh, cntLow } = packet
    let heap = this.#last
    if (heap === undefined || heap.cntLow !== cntLow || heap.cntHigh !== cntHigh || heap.sender !== sender) {
      heap = this.#live.find(cntHigh, cntLow, sender)
      if (heap === undefined) {
        if (this.#finished.has(packet, sender)) return DUPLICATE
        heap = this.#make(packet, sender, endpoint)
        // SKA-Low's packets say neither the heap's length nor their place in it, so each is a heap.
        const length = packet.heapLength < 0 && !packet.hasPayloadOffset ? packet.payloadLength : packet.heapLength
        heap.length = length
        if (packet.payloadLength === length) {
          this.#addPointers(heap, packet)
          heap.at = packet.payloadAt
          heap.packets = 1
          heap.received = length
          this.#finish(heap, true)
          return ADDED
        }
        if (!this.#reserve(heap, packet)) {
          this.#spare.push(heap)
          return REFUSED
        }
        this.#live.add(heap)
      }
      this.#last = heap
    }
    return this.#append(heap, packet)
  }

  #append(heap: AssembledHeap, packet: PacketHeader): number {
    const start = packet.payloadOffset
    const end = start + packet.payloadLength
    if (packet.addressBytes !== heap.addressBytes) return REFUSED
    if (packet.heapLength >= 0 && packet.heapLength !== heap.length) {
      if (heap.length >= 0 || heap.receivedEnd > packet.heapLength) return REFUSED
      if (!this.#grow(heap, packet.heapLength)) return REFUSED
      heap.length = packet.heapLength
    }
    if (heap.length >= 0 ? end > heap.length : !this.#grow(heap, end)) return REFUSED
    if (heap.pointerCount / 2 + packet.itemPointers > MAX_POINTERS) return REFUSED
    if (end > start) {
      const overlap = heap.addRange(start, end)
      if (overlap !== 0) return overlap === 1 ? DUPLICATE : REFUSED
      // Both sides are in one ArrayBuffer, so copyWithin does; set(subarray()) would make a view object per packet.
      this.#u8.copyWithin(heap.at + start, packet.payloadAt, packet.payloadAt + packet.payloadLength)
      heap.received += end - start
    }
    if (packet.itemPointers > 0) this.#addPointers(heap, packet)
    heap.packets++
    heap.touched = this.now
    if (heap.received === heap.length) {
      this.#live.remove(heap)
      this.#finish(heap, true)
    }
    return ADDED
  }

  /** Gives up all heaps in the making, oldest first. */
  flush(): void {
    while (this.#live.oldest) this.#giveUp(this.#live.oldest)
  }

  /** Ends a heap of which no more packets are expected. A heap that never said how long it is and has no gap counts as complete. */
  #giveUp(heap: AssembledHeap): void {
    this.#live.remove(heap)
    const contiguous = heap.ends.length === 0 || (heap.ends.length === 1 && heap.starts[0] === 0)
    const complete = heap.length < 0 && contiguous
    if (!complete) this.#zeroGaps(heap)
    if (heap.length < 0) heap.length = heap.receivedEnd
    this.#finish(heap, complete)
  }

  #zeroGaps(heap: AssembledHeap): void {
    let from = 0
    // Each start has an end.
    for (const [i, start] of heap.starts.entries()) {
      this.#u8.fill(0, heap.at + from, heap.at + start)
      from = heap.ends[i]!
    }
    if (heap.length > from) this.#u8.fill(0, heap.at + from, heap.at + heap.length)
  }

  #finish(heap: AssembledHeap, complete: boolean): void {
    heap.complete = complete
    this.#options.onHeap(heap)
    // Remembered after onHeap, which may forget all others: a second copy of the stop heap is still a copy.
    this.#finished.remember(heap)
    if (heap.slot >= 0) this.#options.storage.release(heap.keepSlot())
    if (this.#last === heap) this.#last = undefined
    this.#spare.push(heap)
  }

  #make(packet: PacketHeader, sender: number, endpoint: number): AssembledHeap {
    const heap = this.#spare.pop() ?? new AssembledHeap()
    heap.cntHigh = packet.cntHigh
    heap.cntLow = packet.cntLow
    heap.sender = sender
    heap.endpoint = endpoint
    heap.addressBytes = packet.addressBytes
    heap.length = -1
    heap.packets = 0
    heap.received = 0
    heap.pointerCount = 0
    // Setting a length to 0 costs as much as decoding a pointer, also where it is 0 already.
    if (heap.starts.length > 0) {
      heap.starts.length = 0
      heap.ends.length = 0
    }
    return heap
  }

  #reserve(heap: AssembledHeap, packet: PacketHeader): boolean {
    const { storage, maxHeaps, onPressure } = this.#options
    const bytes = heap.length >= 0 ? heap.length : Math.max(UNKNOWN_LENGTH_BYTES, packet.payloadOffset + packet.payloadLength)
    // A packet that claims an impossible heap must not push real heaps out.
    if (bytes > storage.capacity) return false
    while (this.live >= maxHeaps) this.#giveUp(this.#live.oldest!)
    heap.slot = storage.take(bytes)
    while (heap.slot < 0) {
      if (!onPressure()) {
        if (!this.#live.oldest) return false
        this.#giveUp(this.#live.oldest)
      }
      heap.slot = storage.take(bytes)
    }
    heap.at = heap.slot
    return true
  }

  #grow(heap: AssembledHeap, bytes: number): boolean {
    const { storage } = this.#options
    if (bytes <= storage.size(heap.slot)) return true
    const slot = storage.take(bytes)
    if (slot < 0) return false
    this.#u8.copyWithin(slot, heap.slot, heap.slot + storage.size(heap.slot))
    storage.release(heap.slot)
    heap.slot = slot
    heap.at = slot
    return true
  }

  /**
   * Remembers the packet's item pointers. With repeat_pointers every packet has the same list, so a pointer that equals the remembered one
   * at its place is that pointer again.
   */
  #addPointers(heap: AssembledHeap, packet: PacketHeader): void {
    const view = this.#view
    const { addressBytes } = packet
    const known = heap.pointerCount
    let place = 0
    for (let k = 0, p = packet.pointersAt; k < packet.pointers; k++, p += 8) {
      const hi = view.getUint32(p)
      const lo = view.getUint32(p + 4)
      if (isPacketPointer(hi, lo, addressBytes)) continue
      if (place < known && heap.pointers[place] === hi && heap.pointers[place + 1] === lo) {
        place += 2
        continue
      }
      place += 2
      if (heap.pointerCount === heap.pointers.length) {
        const larger = new Uint32Array(heap.pointers.length * 2)
        larger.set(heap.pointers)
        heap.pointers = larger
      }
      heap.pointers[heap.pointerCount++] = hi
      heap.pointers[heap.pointerCount++] = lo
    }
  }
}
