/**
 * The heaps that are done, so that a late copy of a packet is not taken for a new heap. It remembers some 4096 by hash, in sets of
 * four: a fifth forgets the oldest. A sender that starts anew (sender.ts) makes all its own be forgotten.
 */
import type { AssembledHeap } from './assembled-heap.js'
import type { PacketHeader } from './decode.js'
import type { Sender } from './sender.js'

const WAYS = 4
/** 2^SET_BITS sets. */
const SET_BITS = 10
// An entry is eight words, so that a set is two cache lines.
const LOW = 0
const HIGH = 1
/** Id of its sender; −1: there is no heap. */
const SENDER = 2
const RUN = 3
/** Its number among the sender's heaps and among all, modulo 2^32. */
const OF_SENDER = 4
const ORDER = 5
/** In milliseconds on the receiver's clock, modulo 2^32. */
const AT = 6
/** One of the findings, and the low bits of the heap's length from LENGTH_SHIFT on. */
const FINDING = 7
const LENGTH_SHIFT = 2
const WORDS = 8
const SET_WORDS = WAYS * WORDS
/** An entry older than this is forgotten. */
const OLD_MS = 2000

/** The findings of find(). */
export const UNKNOWN = 0
export const FINISHED = 1
/** It had no data, as heaps of descriptors, which some senders repeat under one heap cnt. */
export const FINISHED_EMPTY = 3
/** One of another length came under this heap cnt. */
export const FINISHED_OTHER = 4
/** Its packets are refused, because there was no memory for it. */
export const REFUSED_HEAP = 2

export class FinishedHeaps {
  readonly #words = new Int32Array(SET_WORDS << SET_BITS).fill(-1)
  #count = 0

  remember({ cntHigh, cntLow, length }: AssembledHeap, sender: Sender, nowMs: number, finding: number): void {
    const words = this.#words
    const first = setOf(cntHigh, cntLow, sender.id)
    const count = (this.#count + 1) | 0
    this.#count = count
    let at = first
    let age = -1
    for (let i = first; i < first + SET_WORDS; i += WORDS) {
      if (words[i + SENDER] === -1) {
        at = i
        break
      }
      const older = (count - words[i + ORDER]!) >>> 0
      if (older > age) {
        age = older
        at = i
      }
    }
    words[at + LOW] = cntLow
    words[at + HIGH] = cntHigh
    words[at + SENDER] = sender.id
    words[at + RUN] = sender.run
    words[at + OF_SENDER] = sender.finished
    words[at + ORDER] = count
    words[at + AT] = nowMs
    words[at + FINDING] = finding | (length << LENGTH_SHIFT)
  }

  /** Whether the packet's heap is done already. Descriptors may have the heap cnt of another heap, which then has another length. */
  find(packet: PacketHeader, sender: Sender, nowMs: number): number {
    const words = this.#words
    const low = packet.cntLow | 0
    const first = setOf(packet.cntHigh, low, sender.id)
    let found = UNKNOWN
    for (let i = first; i < first + SET_WORDS; i += WORDS) {
      if (words[i + LOW] !== low || words[i + SENDER] !== sender.id) continue
      if (words[i + HIGH] !== packet.cntHigh || words[i + RUN] !== sender.run) continue
      const old = ((nowMs | 0) - words[i + AT]!) >>> 0 > OLD_MS
      if (old || this.#wrapped(packet, sender, ((sender.finished | 0) - words[i + OF_SENDER]!) >>> 0)) continue
      const word = words[i + FINDING]!
      const finding = word & (2 ** LENGTH_SHIFT - 1)
      const { heapLength } = packet
      if (heapLength < 0 || ((heapLength << LENGTH_SHIFT) ^ (word - finding)) === 0) return finding
      if (finding !== FINISHED_EMPTY) found = finding === FINISHED ? FINISHED_OTHER : finding
    }
    return found
  }

  /**
   * Narrow heap cnts wrap around soon (SPEAD-64-8 has 256). Such a cnt is a new heap if it was not the last but is ahead of the
   * highest.
   */
  #wrapped({ addressBytes, cntLow }: PacketHeader, { sequence }: Sender, heapsSince: number): boolean {
    if (addressBytes > 2) return false
    const period = 2 ** (addressBytes * 8)
    return heapsSince >= period / 2 || (heapsSince >= period / 32 && sequence.unwrap(cntLow, addressBytes) > sequence.highest)
  }
}

const setOf = (cntHigh: number, cntLow: number, sender: number): number =>
  ((Math.imul(cntLow ^ Math.imul(cntHigh, 0x27d4eb2f), 0x9e3779b1) ^ Math.imul(sender, 0x85ebca6b)) >>> (32 - SET_BITS)) * SET_WORDS
