/**
 * Puts packets together to heaps. A heap is known by its sender and its heap cnt; its packets may come in any order, twice, or not at all.
 *
 * A heap whose only packet carries all of it is handed on where it lies, in the receive buffer. The others are copied once, packet by
 * packet, into a slot of the same ArrayBuffer. Four things are bounded: heaps in the making (the oldest is given up), their bytes, item
 * pointers per heap, and the memory of heaps already seen (256, by hash).
 */
import { isPacketPointer, type PacketHeader } from './decode.js'
import type { HeapStorage } from './storage.js'

/** The most item pointers that a heap may have; a packet that brings more is refused. */
const MAX_POINTERS = 65536
/** Size of the first slot of a heap that does not say how long it is. */
const UNKNOWN_LENGTH_BYTES = 65536
/** Entries for heaps already seen, a power of two: #seenIndex takes the upper 8 bits of a hash. */
const SEEN = 256

/** One heap, in the making or just finished; objects are reused. */
export class AssembledHeap {
  cntHigh = 0
  cntLow = 0
  sender = 0
  /** Index of the socket that received it. */
  endpoint = 0
  addressBytes = 6
  /** Payload bytes by the heap length pointer, −1 while unknown. When the heap is handed on: the bytes from `at` that may be read. */
  length = -1
  /** Where the payload lies in the buffer. */
  at = 0
  /** Whether every payload byte is there. */
  complete = false
  packets = 0
  received = 0
  /** Item pointers as pairs of high and low words, without the four standard ones of every packet. */
  pointers = new Uint32Array(32)
  pointerCount = 0
  /** The slot that it owns, or −1. */
  slot = -1
  /** Received payload as sorted, disjoint, non-touching ranges. */
  readonly starts: number[] = []
  readonly ends: number[] = []

  bucket = 0
  nextInBucket: AssembledHeap | undefined
  older: AssembledHeap | undefined
  newer: AssembledHeap | undefined

  /** The heap cnt as a double: exact to 2^53. */
  get cntNumber(): number {
    return this.cntHigh * 0x100000000 + this.cntLow
  }

  /** Where the received payload ends, gaps in it included. */
  get receivedEnd(): number {
    return this.ends.at(-1) ?? 0
  }

  /** Takes the slot over from the assembler, which otherwise reuses it as soon as onHeap returns. */
  keepSlot(): number {
    const slot = this.slot
    this.slot = -1
    return slot
  }

  /** Marks bytes start … end−1 as received. Returns 0 if they are new, 1 if all of them were there, 2 if some of them were. */
  addRange(start: number, end: number): 0 | 1 | 2 {
    const { starts, ends } = this
    const n = ends.length
    if (n > 0 && start === ends[n - 1]) {
      ends[n - 1] = end
      return 0
    }
    // Every index below is from 0 to n − 1.
    let i = 0
    if (n > 0 && start > ends[n - 1]!) i = n
    else {
      let above = n
      while (i < above) {
        const middle = (i + above) >>> 1
        if (ends[middle]! >= start) above = middle
        else i = middle + 1
      }
    }
    // Range i is the first that does not end before `start`. A range that ends exactly there is only touched.
    let touched = i < n && ends[i] === start ? i : -1
    const next = touched >= 0 ? i + 1 : i
    if (next < n && starts[next]! < end) {
      return touched < 0 && starts[next]! <= start && end <= ends[next]! ? 1 : 2
    }
    if (touched >= 0) ends[touched] = end
    else if (next < n && starts[next] === end) {
      starts[next] = start
      return 0
    } else {
      starts.splice(i, 0, start)
      ends.splice(i, 0, end)
      touched = i
    }
    if (touched + 1 < starts.length && starts[touched + 1] === end) {
      ends[touched] = ends[touched + 1]!
      starts.splice(touched + 1, 1)
      ends.splice(touched + 1, 1)
    }
    return 0
  }
}

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
  /** Heaps in the making. */
  live = 0
  readonly #u8: Uint8Array
  readonly #view: DataView
  readonly #options: AssemblerOptions
  readonly #buckets: (AssembledHeap | undefined)[]
  readonly #spare: AssembledHeap[] = []
  #oldest: AssembledHeap | undefined
  #newest: AssembledHeap | undefined
  #last: AssembledHeap | undefined

  // Heaps that are done are remembered, so that a late copy of a packet is not taken for a new heap. Direct-mapped: a collision forgets the
  // older one.
  readonly #seenHigh = new Uint32Array(SEEN)
  readonly #seenLow = new Uint32Array(SEEN)
  readonly #seenSender = new Int32Array(SEEN)
  readonly #seenAt = new Float64Array(SEEN)
  #finished = 0

  constructor(buffer: ArrayBuffer, options: AssemblerOptions) {
    this.#u8 = new Uint8Array(buffer)
    this.#view = new DataView(buffer)
    this.#options = options
    let buckets = 16
    while (buckets < options.maxHeaps * 2) buckets *= 2
    this.#buckets = new Array<AssembledHeap | undefined>(buckets).fill(undefined)
    this.forgetFinished()
  }

  /** Makes every heap cnt count as new again, because a sender has stopped or started. */
  forgetFinished(): void {
    this.#seenAt.fill(-1e9)
  }

  /** Takes a decoded packet. Allocates for the first heaps of a run only; copies the payload once, unless the packet is all of its heap. */
  add(packet: PacketHeader, sender: number, endpoint: number): number {
    const { cntHigh, cntLow } = packet
    let heap = this.#last
    if (heap === undefined || heap.cntLow !== cntLow || heap.cntHigh !== cntHigh || heap.sender !== sender) {
      heap = this.#find(cntHigh, cntLow, sender)
      if (heap === undefined) {
        if (this.#wasSeen(packet, sender)) return DUPLICATE
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
        this.#link(heap)
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
    if (heap.received === heap.length) {
      this.#unlink(heap)
      this.#finish(heap, true)
    }
    return ADDED
  }

  /** Gives up all heaps in the making, oldest first. */
  flush(): void {
    while (this.#oldest) this.#giveUp(this.#oldest)
  }

  /** Ends a heap of which no more packets are expected. A heap that never said how long it is and has no gap counts as complete. */
  #giveUp(heap: AssembledHeap): void {
    this.#unlink(heap)
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
    this.#remember(heap)
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
    while (this.live >= maxHeaps) this.#giveUp(this.#oldest!)
    heap.slot = storage.take(bytes)
    while (heap.slot < 0) {
      if (!onPressure()) {
        if (!this.#oldest) return false
        this.#giveUp(this.#oldest)
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

  // The live heaps stand in a chained hash, and in a list from oldest to newest.

  #bucketOf(cntLow: number, sender: number): number {
    return (Math.imul(cntLow, 0x9e3779b1) ^ Math.imul(sender, 0x85ebca6b)) & (this.#buckets.length - 1)
  }

  #find(cntHigh: number, cntLow: number, sender: number): AssembledHeap | undefined {
    let heap = this.#buckets[this.#bucketOf(cntLow, sender)]
    while (heap !== undefined && (heap.cntLow !== cntLow || heap.cntHigh !== cntHigh || heap.sender !== sender)) {
      heap = heap.nextInBucket
    }
    return heap
  }

  #link(heap: AssembledHeap): void {
    heap.bucket = this.#bucketOf(heap.cntLow, heap.sender)
    heap.nextInBucket = this.#buckets[heap.bucket]
    this.#buckets[heap.bucket] = heap
    heap.newer = undefined
    heap.older = this.#newest
    if (this.#newest) this.#newest.newer = heap
    else this.#oldest = heap
    this.#newest = heap
    this.live++
  }

  #unlink(heap: AssembledHeap): void {
    let at = this.#buckets[heap.bucket]
    if (at === heap) this.#buckets[heap.bucket] = heap.nextInBucket
    else {
      while (at !== undefined && at.nextInBucket !== heap) at = at.nextInBucket
      if (at) at.nextInBucket = heap.nextInBucket
    }
    heap.nextInBucket = undefined
    if (heap.older) heap.older.newer = heap.newer
    else this.#oldest = heap.newer
    if (heap.newer) heap.newer.older = heap.older
    else this.#newest = heap.older
    heap.older = undefined
    heap.newer = undefined
    if (this.#last === heap) this.#last = undefined
    this.live--
  }

  #seenIndex(cntLow: number, sender: number): number {
    return (Math.imul(cntLow, 0x9e3779b1) ^ Math.imul(sender, 0x85ebca6b)) >>> 24
  }

  #remember(heap: AssembledHeap): void {
    const i = this.#seenIndex(heap.cntLow, heap.sender)
    this.#seenHigh[i] = heap.cntHigh
    this.#seenLow[i] = heap.cntLow
    this.#seenSender[i] = heap.sender
    this.#seenAt[i] = this.#finished++
  }

  /**
   * Whether the heap is done already. Narrow heap cnts wrap around soon (SPEAD-64-8 has 256), so one seen half a turn ago is a new heap.
   */
  #wasSeen(packet: PacketHeader, sender: number): boolean {
    const i = this.#seenIndex(packet.cntLow, sender)
    // #seenIndex is below SEEN.
    return (
      this.#seenLow[i] === packet.cntLow &&
      this.#seenHigh[i] === packet.cntHigh &&
      this.#seenSender[i] === sender &&
      this.#finished - this.#seenAt[i]! < Math.min(SEEN, 2 ** (packet.addressBytes * 8 - 1))
    )
  }
}
