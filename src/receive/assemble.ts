/**
 * Puts packets together to heaps. A heap is known by its sender and its heap cnt; its packets may come in any order, twice, or not at all.
 *
 * A heap whose only packet carries all of it is handed on where it lies, in the receive buffer. The others are copied once, packet by
 * packet, into a slot of the same ArrayBuffer. All of it is bounded: heaps in the making (the oldest is given up), their bytes
 * (storage.ts), their item pointers and ranges (budget.ts), and the memory of heaps already seen (finished-heaps.ts).
 */
import { AssembledHeap } from './assembled-heap.js'
import type { Budget } from './budget.js'
import { isPacketPointer, type PacketHeader } from './decode.js'
import { FINISHED, FINISHED_EMPTY, FINISHED_OTHER, FinishedHeaps, REFUSED_HEAP, UNKNOWN } from './finished-heaps.js'
import { LiveHeaps } from './live-heaps.js'
import { RANGE_KNOWN, RANGE_NEW, RANGE_REFUSED } from './ranges.js'
import type { Refusals } from './refusals.js'
import type { Sender } from './sender.js'
import type { HeapStorage } from './storage.js'

/** The most item pointers that a heap may have; a packet that brings more is malformed. */
const MAX_POINTERS = 65536
/** Size of the first slot of a heap that does not say how long it is. */
const UNKNOWN_LENGTH_BYTES = 65536
/** A heap whose packets came that long ago is not waited for. */
const RECENT_MS = 1000
/**
 * The most heaps of a sender in the making that do not say how long they are: spead2's own max_heaps. The oldest ends with the
 * next.
 */
const MAX_OPEN = 4
/** No receiver can have memory for a larger heap, so one that is claimed is malformed (options.ts). */
const LARGEST_HEAP_BYTES = 2 ** 32

/** The verdicts of add() on a packet. */
export const ADDED = 0
export const DUPLICATE = 1
const MALFORMED_PACKET = 2
/** There was no memory for it, as refusals.ts tells. */
export const REFUSED = 3

export interface AssemblerOptions {
  readonly maxHeaps: number
  readonly storage: HeapStorage
  readonly budget: Budget
  readonly refusals: Refusals
  /** Takes a heap that is finished (`complete`) or given up. The heap is valid during the call; a slot that keepSlot() took stays valid. */
  readonly onHeap: (heap: AssembledHeap) => void
  /** Called when the first packet that says so tells that its heap is the sender's last, before that heap is finished. */
  readonly onStop: (heap: AssembledHeap) => void
  /** Called before the first heap of another run of a sender (senders.ts). */
  readonly onRun: (sender: Sender) => void
  /** Called when storage is full: gives back a kept slot and returns true, or returns false if there is none. */
  readonly onPressure: () => boolean
}

export class Assembler {
  /** On the receiver's clock. */
  nowMs = 0
  /** No sender begins another run: the end is near, and what comes again is a copy. */
  ending = false
  readonly #live: LiveHeaps
  /** Heaps in the making that do not say how long they are, of each sender, oldest first. */
  readonly #open = new Map<Sender, readonly AssembledHeap[]>()
  readonly #finished = new FinishedHeaps()
  readonly #u8: Uint8Array
  readonly #view: DataView
  readonly #options: AssemblerOptions
  #beginning = false
  readonly #spare: AssembledHeap[] = []
  /** The heap that got the last packet, if it is in the making: most packets are for the same. */
  #last: AssembledHeap | undefined

  constructor(buffer: ArrayBuffer, options: AssemblerOptions) {
    this.#u8 = new Uint8Array(buffer)
    this.#view = new DataView(buffer)
    this.#options = options
    this.#live = new LiveHeaps(options.maxHeaps)
  }

  /** Whether packets came in the last second for a heap of the sender that is in the making and has a lower cnt. */
  receivingBelow(sender: number, cnt: number): boolean {
    for (let heap = this.#live.oldest; heap; heap = heap.newer) {
      if (heap.sender!.number !== sender || this.nowMs - heap.touched >= RECENT_MS) continue
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

  /**
   * Takes a decoded packet. Allocates for the first heaps of a run only; copies the payload once, unless the packet is all of its
   * heap.
   * @param from the driver's number of the socket that sent it, which `sender` may join with others
   */
  add(packet: PacketHeader, sender: Sender, from: number, endpoint: number): number {
    const { cntHigh, cntLow } = packet
    let heap = this.#last
    if (heap === undefined || heap.cntLow !== cntLow || heap.cntHigh !== cntHigh || heap.sender !== sender) {
      heap = this.#live.size === 0 ? undefined : this.#live.find(cntHigh, cntLow, sender)
      if (heap === undefined) {
        const known = this.#finished.find(packet, sender, this.nowMs)
        if (known !== UNKNOWN || sender.controlLow === cntLow) {
          const verdict = this.#judgeAgain(packet, sender, known)
          if (verdict !== ADDED) return verdict
        }
        heap = this.#make(packet, sender, from, endpoint)
        if (known === FINISHED_OTHER) heap.comesAgain = true
        // SKA-Low's packets say neither the heap's length nor their place in it, so each is a heap.
        const length = packet.heapLength < 0 && !packet.hasPayloadOffset ? packet.payloadLength : packet.heapLength
        heap.length = length
        if (packet.payloadLength === length) return this.#addWhole(heap, packet)
        const refused = this.#reserve(heap, packet)
        if (refused !== ADDED) {
          this.#keep(heap)
          return refused
        }
        this.#live.add(heap)
      }
      this.#last = heap
    }
    return this.#append(heap, packet)
  }

  /** Decides about a packet whose heap came already, or whose sender may begin a run: ADDED says that it is a heap to be made. */
  #judgeAgain(packet: PacketHeader, sender: Sender, known: number): number {
    if (sender.controlLow === packet.cntLow && sender.controlHigh === packet.cntHigh && !sender.paused) return DUPLICATE
    if (known === UNKNOWN) return ADDED
    if (known === REFUSED_HEAP) return REFUSED
    if (this.ending || sender.steady) return DUPLICATE
    // Data under this heap cnt tell what it is when they are whole.
    if (known === FINISHED_OTHER) return ADDED
    // After a pause it may be of the next run, or repeated in this: the first data that comes again tells.
    if (known === FINISHED_EMPTY && sender.after === undefined) sender.mark('start')
    else this.beginRun(sender)
    return ADDED
  }

  /** Gives up what is left of a sender's run, unless it is of the next, and makes all its heap cnts count as new. */
  beginRun(sender: Sender, keeps = false): void {
    // A heap that is given up for it may be the start of a run itself.
    if (this.#beginning) return
    this.#beginning = true
    for (let heap = keeps ? undefined : this.#live.oldest; heap; ) {
      const next = heap.newer
      if (heap.sender === sender) this.#giveUp(heap)
      heap = next
    }
    sender.beginRun()
    this.#options.onRun(sender)
    this.#beginning = false
  }

  #addWhole(heap: AssembledHeap, packet: PacketHeader): number {
    if (!this.#addPointers(heap, packet)) {
      this.#keep(heap)
      return REFUSED
    }
    heap.at = packet.payloadAt
    heap.packets = 1
    heap.received = heap.length
    if (packet.stop) this.#options.onStop(heap)
    this.#finish(heap, true)
    return ADDED
  }

  #append(heap: AssembledHeap, packet: PacketHeader): number {
    const start = packet.payloadOffset
    const end = start + packet.payloadLength
    if (packet.addressBytes !== heap.addressBytes) return MALFORMED_PACKET
    if (packet.heapLength >= 0 && packet.heapLength !== heap.length) {
      if (heap.length >= 0 || heap.ranges.end > packet.heapLength) return MALFORMED_PACKET
      const refused = this.#grow(heap, packet.heapLength)
      if (refused !== ADDED) return refused
      this.#close(heap)
      heap.length = packet.heapLength
    }
    if (heap.length < 0) {
      const refused = this.#grow(heap, end)
      if (refused !== ADDED) return refused
    } else if (end > heap.length) return MALFORMED_PACKET
    const words = 2 * packet.itemPointers
    if (heap.pointerCount + words > 2 * MAX_POINTERS) return MALFORMED_PACKET
    if (words > 0 && !this.#reservePointers(heap, words)) return this.#refused()
    if (end > start) {
      const verdict = this.#addRange(heap, start, end)
      if (verdict !== RANGE_NEW) return verdict === RANGE_REFUSED ? this.#refused() : this.#again(heap, packet, verdict)
      // Both sides are in one ArrayBuffer, so copyWithin does; set(subarray()) would make a view object per packet.
      this.#u8.copyWithin(heap.at + start, packet.payloadAt, packet.payloadAt + packet.payloadLength)
      heap.received += end - start
    }
    if (words > 0) this.#addPointers(heap, packet)
    if (packet.stop && !heap.stop) {
      heap.stop = true
      this.#options.onStop(heap)
    }
    heap.packets++
    heap.touched = this.nowMs
    if (heap.received === heap.length) {
      this.#live.remove(heap)
      this.#finish(heap, true)
    }
    return ADDED
  }

  /** A packet brings bytes that are there. After a pause it is no copy, but of another run. */
  #again(heap: AssembledHeap, packet: PacketHeader, verdict: number): number {
    const sender = heap.sender!
    if (this.ending || !sender.paused) return verdict === RANGE_KNOWN ? DUPLICATE : MALFORMED_PACKET
    const { from, endpoint } = heap
    this.beginRun(sender)
    return this.add(packet, sender, from, endpoint)
  }

  /** Gives up all heaps in the making, oldest first. */
  flush(): void {
    while (this.#live.oldest) this.#giveUp(this.#live.oldest)
  }

  /** Ends the heaps that do not say how long they are, of senders not heard since `heardMs`. */
  endOpen(heardMs: number): void {
    for (const [sender, open] of this.#open) if (sender.heardMs < heardMs) for (const heap of open) this.#giveUp(heap)
  }

  /** Ends a heap of which no more packets are expected. A heap that never said how long it is and has no gap counts as complete. */
  #giveUp(heap: AssembledHeap): boolean {
    this.#live.remove(heap)
    const complete = heap.length < 0 && heap.ranges.contiguous
    if (heap.length < 0) heap.length = heap.ranges.end
    if (!complete) heap.ranges.gaps(heap.length, (start, end) => this.#u8.fill(0, heap.at + start, heap.at + end))
    this.#finish(heap, complete)
    return complete
  }

  #finish(heap: AssembledHeap, complete: boolean): void {
    const sender = heap.sender!
    heap.complete = complete
    if (this.#open.size > 0) this.#close(heap)
    this.#options.onHeap(heap)
    sender.finished++
    // Remembered after onHeap, which may begin another run. A control heap may come again soon, with the next run.
    if (heap.control) {
      sender.controlHigh = heap.cntHigh
      sender.controlLow = heap.cntLow
    } else {
      sender.controlLow = -1
      this.#finished.remember(heap, sender, this.nowMs, heap.empty ? FINISHED_EMPTY : FINISHED)
    }
    if (heap.slot >= 0) this.#options.storage.release(heap.keepSlot())
    if (this.#last === heap) this.#last = undefined
    this.#keep(heap)
  }

  /** Keeps the object for another heap. */
  #keep(heap: AssembledHeap): void {
    heap.clear()
    this.#spare.push(heap)
  }

  #make(packet: PacketHeader, sender: Sender, from: number, endpoint: number): AssembledHeap {
    const heap = this.#spare.pop() ?? new AssembledHeap(this.#options.budget)
    heap.cntHigh = packet.cntHigh
    heap.cntLow = packet.cntLow
    heap.sender = sender
    heap.from = from
    heap.endpoint = endpoint
    heap.addressBytes = packet.addressBytes
    heap.length = -1
    heap.packets = 0
    heap.received = 0
    heap.control = false
    heap.empty = false
    heap.comesAgain = sender.paused
    heap.stop = false
    return heap
  }

  /** Gives the heap a slot, for which others may be given up. Returns ADDED, or the verdict on its packet. */
  #reserve(heap: AssembledHeap, packet: PacketHeader): number {
    const { storage, maxHeaps, refusals, onPressure } = this.#options
    const { length } = heap
    const sender = heap.sender!
    const bytes = length >= 0 ? length : Math.max(UNKNOWN_LENGTH_BYTES, packet.payloadOffset + packet.payloadLength)
    // A packet that claims an impossible heap must not push real heaps out.
    if (bytes > LARGEST_HEAP_BYTES) return MALFORMED_PACKET
    if (bytes > storage.capacity) {
      refusals.tooLarge(bytes)
      this.#finished.remember(heap, sender, this.nowMs, REFUSED_HEAP)
      return REFUSED
    }
    while (this.live >= maxHeaps) this.#giveUp(this.#live.oldest!)
    const open = length < 0 ? this.#open.get(sender) : undefined
    if (open && open.length >= MAX_OPEN) this.#giveUp(open[0]!)
    heap.slot = storage.take(bytes)
    while (heap.slot < 0) {
      if (!onPressure()) {
        if (!this.#live.oldest) return this.#refused()
        const { length } = this.#live.oldest
        if (!this.#giveUp(this.#live.oldest)) refusals.evicted(length, bytes)
      }
      heap.slot = storage.take(bytes)
    }
    heap.at = heap.slot
    if (length < 0) this.#open.set(sender, [...(this.#open.get(sender) ?? []), heap])
    return ADDED
  }

  /** The heap's length is known, or it ends. */
  #close(heap: AssembledHeap): void {
    const sender = heap.sender!
    const left = this.#open.get(sender)?.filter((other) => other !== heap)
    if (left && left.length > 0) this.#open.set(sender, left)
    else this.#open.delete(sender)
  }

  #grow(heap: AssembledHeap, bytes: number): number {
    const { storage, refusals } = this.#options
    if (bytes <= storage.size(heap.slot)) return ADDED
    if (bytes > LARGEST_HEAP_BYTES) return MALFORMED_PACKET
    const slot = storage.take(bytes)
    if (slot < 0) {
      if (bytes > storage.capacity) refusals.tooLarge(bytes)
      else refusals.noRoom()
      return REFUSED
    }
    this.#u8.copyWithin(slot, heap.slot, heap.slot + storage.size(heap.slot))
    storage.release(heap.slot)
    heap.slot = slot
    heap.at = slot
    return ADDED
  }

  #refused(): number {
    this.#options.refusals.noRoom()
    return REFUSED
  }

  #addRange(heap: AssembledHeap, start: number, end: number): number {
    let verdict = heap.ranges.add(start, end)
    while (verdict === RANGE_REFUSED && this.#evictCharged(heap)) verdict = heap.ranges.add(start, end)
    return verdict
  }

  #reservePointers(heap: AssembledHeap, words: number): boolean {
    while (!heap.reservePointers(heap.pointerCount + words)) if (!this.#evictCharged(heap)) return false
    return true
  }

  /** Gives up the oldest heap that has a part of the budget, but for `keep`. Returns false if there is none. */
  #evictCharged(keep: AssembledHeap): boolean {
    for (let heap = this.#live.oldest; heap; heap = heap.newer) {
      if (heap === keep || !heap.charged) continue
      this.#options.refusals.noRoom()
      this.#giveUp(heap)
      return true
    }
    return false
  }

  /**
   * Remembers the packet's item pointers. With repeat_pointers every packet has the same list, so a pointer that equals the remembered one
   * at its place is that pointer again. Returns false where there is no memory for them.
   */
  #addPointers(heap: AssembledHeap, packet: PacketHeader): boolean {
    if (!this.#reservePointers(heap, 2 * packet.itemPointers)) {
      this.#options.refusals.noRoom()
      return false
    }
    const view = this.#view
    const { addressBytes } = packet
    const { pointers } = heap
    const known = heap.pointerCount
    let count = known
    let place = 0
    for (let k = 0, p = packet.pointersAt; k < packet.pointers; k++, p += 8) {
      const hi = view.getUint32(p)
      const lo = view.getUint32(p + 4)
      if (isPacketPointer(hi, lo, addressBytes)) continue
      if (place < known && pointers[place] === hi && pointers[place + 1] === lo) {
        place += 2
        continue
      }
      place += 2
      pointers[count++] = hi
      pointers[count++] = lo
    }
    heap.pointerCount = count
    return true
  }
}
