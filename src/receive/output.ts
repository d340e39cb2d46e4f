/**
 * Writes one item's payload into a file and a hash, heap after heap in heap-cnt order, each sender for itself. Heaps may finish out of order. Those that come early
 * wait in a window, which is bounded in heaps and bytes. When it is full the lowest of them is written, and a heap that comes later with a
 * lower cnt is left out and counted. Missing heaps leave nothing in the file.
 */
import { createHash, type Hash } from 'node:crypto'
import { writeSync } from 'node:fs'
import { SpeadcastError } from '../errors.js'
import type { AssembledHeap } from './assembled-heap.js'
import type { HeapStorage } from './storage.js'

interface Held {
  readonly cnt: number
  readonly at: number
  /** −1: the heap takes its place in the order but has nothing to write. */
  readonly length: number
  readonly slot: number
}

/** The order of one sender. */
interface Lane {
  readonly held: Held[]
  started: boolean
  next: number
}

export interface OutputOptions {
  /** The file to write; undefined: only hash. The caller opens and closes it. */
  readonly fd?: number | undefined
  readonly hash: boolean
  /** The most heaps that may wait. */
  readonly windowHeaps: number
  readonly windowBytes: number
  /** The number of heaps that wait at the start, while nobody knows which cnt is the first. */
  readonly firstHeaps: number
}

/** Bytes in which small items are gathered before they are hashed and written. */
export const STAGE_BYTES = 1 << 20

export class OrderedOutput {
  /** Heaps that came too late for their place. */
  late = 0
  bytes = 0
  readonly #u8: Uint8Array
  readonly #storage: HeapStorage
  readonly #options: OutputOptions
  readonly #hash: Hash | undefined
  readonly #stageAt: number
  #staged = 0
  readonly #lanes = new Map<number, Lane>()
  #heldHeaps = 0
  #heldBytes = 0

  /** @param stageAt where STAGE_BYTES of `buffer` are that nobody else uses */
  constructor(buffer: ArrayBuffer, stageAt: number, storage: HeapStorage, options: OutputOptions) {
    this.#u8 = new Uint8Array(buffer)
    this.#stageAt = stageAt
    this.#storage = storage
    this.#options = options
    this.#hash = options.hash ? createHash('sha256') : undefined
  }

  /**
   * Takes heap `cnt`'s contribution: `length` bytes at `at`, or a length of −1 for a heap without the item. If the heap has to wait, its
   * slot is kept, or its bytes are copied out of the receive buffer. A heap in order costs a copy into the stage and no allocation.
   */
  add(sender: number, cnt: number, at: number, length: number, heap: AssembledHeap): void {
    let lane = this.#lanes.get(sender)
    if (!lane) {
      lane = { held: [], started: false, next: 0 }
      this.#lanes.set(sender, lane)
    }
    if (lane.started && cnt < lane.next) {
      if (length >= 0) this.late++
      return
    }
    if (lane.started && cnt === lane.next) {
      this.#emit(at, length)
      lane.next = cnt + 1
      this.#drain(lane)
      return
    }
    this.#hold(lane, cnt, at, length, heap)
    const { windowHeaps, windowBytes, firstHeaps } = this.#options
    if (!lane.started && lane.held.length >= firstHeaps) this.#release(lane)
    while (lane.held.length > windowHeaps && this.#release(lane));
    while ((this.#heldHeaps > 2 * windowHeaps || this.#heldBytes > windowBytes) && this.releaseLowest());
  }

  /** Writes what waits of a sender that has stopped or started anew: its cnts may come again. */
  forget(sender: number, _endpoint?: number): void {
    const lane = this.#lanes.get(sender)
    if (!lane) return
    while (this.#release(lane));
    this.#lanes.delete(sender)
  }

  tick(_nowMs: number): void {}

  /** Lets the lowest waiting heap of a sender go before those that it waits for. Returns false if none waits. */
  releaseLowest(): boolean {
    for (const lane of this.#lanes.values()) if (this.#release(lane)) return true
    return false
  }

  #release(lane: Lane): boolean {
    const lowest = lane.held.shift()
    if (!lowest) return false
    lane.started = true
    this.#letGo(lane, lowest)
    this.#drain(lane)
    return true
  }

  /** Writes all waiting heaps and closes the hash. Returns its hexadecimal digest, or null if none was asked for. Call it once. */
  finish(): string | null {
    while (this.releaseLowest());
    this.#flushStage()
    return this.#hash?.digest('hex') ?? null
  }

  #drain(lane: Lane): void {
    for (let held = lane.held[0]; held && held.cnt <= lane.next; held = lane.held[0]) {
      lane.held.shift()
      this.#letGo(lane, held)
    }
  }

  #letGo(lane: Lane, held: Held): void {
    this.#heldHeaps--
    this.#emit(held.at, held.length)
    if (held.slot >= 0) {
      this.#heldBytes -= this.#storage.size(held.slot)
      this.#storage.release(held.slot)
    }
    lane.next = Math.max(lane.next, held.cnt + 1)
  }

  #hold(lane: Lane, cnt: number, at: number, length: number, heap: AssembledHeap): void {
    const { held } = lane
    let i = indexFor(held, cnt)
    if (held[i - 1]?.cnt === cnt) {
      if (length >= 0) this.late++
      return
    }
    let slot = -1
    let from = at
    if (length > 0) {
      // Bytes may stay in the heap's own slot only: an immediate comes from scratch memory, a single packet from the receive buffer.
      const owned = heap.slot >= 0 && at >= heap.slot && at < heap.slot + this.#storage.size(heap.slot)
      if (owned) slot = heap.keepSlot()
      else {
        slot = this.#storage.take(length)
        for (let lowest = held[0]; slot < 0 && lowest && lowest.cnt < cnt; lowest = held[0]) {
          this.#release(lane)
          slot = this.#storage.take(length)
        }
        if (slot < 0) {
          // There is no room, and everything lower has been written, so it goes now.
          lane.started = true
          this.#emit(at, length)
          lane.next = cnt + 1
          this.#drain(lane)
          return
        }
        this.#u8.copyWithin(slot, at, at + length)
        from = slot
        i = indexFor(held, cnt)
      }
      this.#heldBytes += this.#storage.size(slot)
    }
    held.splice(i, 0, { cnt, at: from, length, slot })
    this.#heldHeaps++
  }

  #emit(at: number, length: number): void {
    if (length <= 0) return
    this.bytes += length
    if (length >= STAGE_BYTES / 4) {
      this.#flushStage()
      this.#put(at, length)
      return
    }
    if (this.#staged + length > STAGE_BYTES) this.#flushStage()
    this.#u8.copyWithin(this.#stageAt + this.#staged, at, at + length)
    this.#staged += length
  }

  #flushStage(): void {
    const staged = this.#staged
    this.#staged = 0
    if (staged > 0) this.#put(this.#stageAt, staged)
  }

  #put(at: number, length: number): void {
    this.#hash?.update(this.#u8.subarray(at, at + length))
    if (this.#options.fd === undefined) return
    try {
      for (let done = 0; done < length; ) done += writeSync(this.#options.fd, this.#u8, at + done, length - done)
    } catch (cause) {
      throw new SpeadcastError('ERR_SPEADCAST_NATIVE', `cannot write the output: ${(cause as Error).message}`, { cause })
    }
  }
}

/** Returns where a heap of this cnt belongs among those that wait: behind all that are not above it. */
const indexFor = (held: readonly Held[], cnt: number): number => held.findLastIndex((other) => other.cnt <= cnt) + 1
