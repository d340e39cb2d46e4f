/**
 * The heaps that are done, so that a late copy of a packet is not taken for a new heap. It remembers some 8192 by hash, in sets of four: a
 * fifth forgets the oldest. A sender that starts anew (senders.ts) makes all its own be forgotten.
 */
import type { PacketHeader } from './decode.js'
import type { Sender } from './sender.js'

const WAYS = 4
/** 2^SET_BITS sets. */
const SET_BITS = 11
const ENTRIES = WAYS << SET_BITS
/** An entry older than this is forgotten. */
const OLD_MS = 2000

/** The findings of find(). */
export const UNKNOWN = 0
export const FINISHED = 1
/** Its packets are refused, because there was no memory for it. */
export const REFUSED_HEAP = 2

export class FinishedHeaps {
  readonly #high = new Uint32Array(ENTRIES)
  readonly #low = new Uint32Array(ENTRIES)
  /** Id and run of its sender; −1: none. */
  readonly #sender = new Int32Array(ENTRIES).fill(-1)
  readonly #run = new Int32Array(ENTRIES)
  /** Its number among the sender's heaps, and among all. */
  readonly #ofSender = new Float64Array(ENTRIES)
  readonly #order = new Float64Array(ENTRIES)
  readonly #at = new Float64Array(ENTRIES)
  readonly #finding = new Uint8Array(ENTRIES)
  #count = 0

  remember(cntHigh: number, cntLow: number, sender: Sender, nowMs: number, finding: number): void {
    const first = setOf(cntHigh, cntLow, sender.id)
    const order = this.#order
    let i = first
    for (let k = first + 1; k < first + WAYS; k++) if (order[k]! < order[i]!) i = k
    this.#high[i] = cntHigh
    this.#low[i] = cntLow
    this.#sender[i] = sender.id
    this.#run[i] = sender.run
    this.#ofSender[i] = sender.finished
    order[i] = ++this.#count
    this.#at[i] = nowMs
    this.#finding[i] = finding
  }

  /** Whether the packet's heap is done already. */
  find(packet: PacketHeader, sender: Sender, nowMs: number): number {
    const { cntHigh, cntLow } = packet
    const first = setOf(cntHigh, cntLow, sender.id)
    for (let i = first; i < first + WAYS; i++) {
      if (this.#low[i] !== cntLow || this.#sender[i] !== sender.id || this.#high[i] !== cntHigh || this.#run[i] !== sender.run)
        continue
      if (nowMs - this.#at[i]! > OLD_MS || this.#wrapped(packet, sender, sender.finished - this.#ofSender[i]!)) continue
      return this.#finding[i]!
    }
    return UNKNOWN
  }

  /** Narrow heap cnts wrap around soon (SPEAD-64-8 has 256). Such a cnt is a new heap if it was not the last but is ahead of the highest. */
  #wrapped({ addressBytes, cntLow }: PacketHeader, { sequence }: Sender, heapsSince: number): boolean {
    if (addressBytes > 2) return false
    const period = 2 ** (addressBytes * 8)
    return heapsSince >= period / 2 || (heapsSince >= period / 32 && sequence.unwrap(cntLow, addressBytes) > sequence.highest)
  }
}

const setOf = (cntHigh: number, cntLow: number, sender: number): number =>
  ((Math.imul(cntLow ^ Math.imul(cntHigh, 0x27d4eb2f), 0x9e3779b1) ^ Math.imul(sender, 0x85ebca6b)) >>> (32 - SET_BITS)) * WAYS
