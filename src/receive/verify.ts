/**
 * Checks the tutorial's pattern: item 0x3300 `adc_samples` (int8) has the heap index as int8 in every byte, and immediate 0x1600
 * `timestamp` is the index of the heap's first sample. The heap index is timestamp / samples per heap. The heap cnt is not, because
 * descriptor and stop heaps use cnts too. A timestamp has as many bits as a heap address, 48 at most, and starts again at 0 after the
 * last. The heaps before tell which time round it is.
 */
import type { AssembledHeap } from './assembled-heap.js'
import type { ItemTable } from './items.js'
import type { ReceivedDescriptor } from './received-descriptor.js'
import { immediateBytes, putImmediate } from './received-heap.js'

export const TUTORIAL_TIMESTAMP = 0x1600
export const TUTORIAL_SAMPLES = 0x3300
const EXAMPLES = 8
/** Bits of the tutorial's timestamp where the flavour has room for them. */
const TIMESTAMP_BITS = 48
/** How far from the last heap the next may be, in heaps, where timestamps start again. */
const REACH = 32768

export class PatternVerifier {
  corrupt = 0
  /** The first few corrupt heaps, each with what is wrong. */
  readonly examples: string[] = []
  #heaps = 0
  #first = 0
  #last = 0
  #stride = 0
  #latest = 0
  readonly #u8: Uint8Array
  readonly #u32: Uint32Array
  readonly #immediate = new Uint8Array(8)
  readonly #immediateWords = new Uint32Array(this.#immediate.buffer)

  constructor(buffer: ArrayBuffer) {
    this.#u8 = new Uint8Array(buffer)
    this.#u32 = new Uint32Array(buffer, 0, buffer.byteLength >> 2)
  }

  /** Checks every byte of a complete data heap. Allocates only if the heap is corrupt. */
  check(heap: AssembledHeap, table: ItemTable, known: ReadonlyMap<number, ReceivedDescriptor>): void {
    const problem = this.#judge(heap, table, known)
    if (problem === '') return
    this.corrupt++
    if (this.examples.length < EXAMPLES) this.examples.push(`heap cnt ${heap.cntNumber}: ${problem}`)
  }

  #judge(heap: AssembledHeap, table: ItemTable, known: ReadonlyMap<number, ReceivedDescriptor>): string {
    // Below table.count where they are not −1.
    const timestampAt = table.find(TUTORIAL_TIMESTAMP)
    const samplesAt = table.find(TUTORIAL_SAMPLES)
    if (timestampAt < 0 || !table.immediate[timestampAt]) return 'has no immediate timestamp (0x1600)'
    if (samplesAt < 0) return 'has no adc_samples (0x3300)'
    const timestamp = table.value(timestampAt)
    const immediate = table.immediate[samplesAt] === 1
    const samples = immediate ? immediateBytes(known.get(TUTORIAL_SAMPLES), heap.addressBytes) : table.length[samplesAt]!
    const index = this.#indexOf(timestamp, samples, 2 ** Math.min(TIMESTAMP_BITS, 8 * heap.addressBytes))
    if (!Number.isInteger(index)) return `timestamp ${timestamp} is not a multiple of its ${samples} samples`
    this.#note(index)
    // Heaps of up to six samples travel inside the item pointer.
    if (immediate) putImmediate(table, samplesAt, this.#immediate, 0, samples)
    const u8 = immediate ? this.#immediate : this.#u8
    const u32 = immediate ? this.#immediateWords : this.#u32
    const at = immediate ? 0 : heap.at + table.offset[samplesAt]!
    const wrong = firstDifference(u8, u32, at, samples, index & 0xff)
    if (wrong < 0) return ''
    return `sample ${wrong} of heap index ${index} is ${(u8[at + wrong]! << 24) >> 24}, not ${(index << 24) >> 24}`
  }

  /** Timestamps wrap, so several heaps share one: returns the index nearest to the expected one, or a fraction if no heap has this timestamp. */
  #indexOf(timestamp: number, samples: number, modulo: number): number {
    if (this.#heaps === 0) return timestamp / samples
    const expected = (this.#latest + 1) * samples
    const round = Math.round((expected - timestamp) / modulo)
    for (let d = 0; d * modulo <= (REACH + 1) * samples; d++) {
      for (let k = round + d; k >= 0 && k >= round - d; k -= 2 * d || 1) {
        const index = (timestamp + k * modulo) / samples
        if (Number.isInteger(index) && Math.abs(index - this.#latest) <= REACH) return index
      }
    }
    return timestamp / samples
  }

  /** Heaps that never came between the first and the last timestamp seen, if they are spaced as regularly as those that did. */
  get missing(): number {
    if (this.#heaps < 2 || this.#stride === 0) return 0
    return Math.max(0, (this.#last - this.#first) / this.#stride + 1 - this.#heaps)
  }

  #note(index: number): void {
    this.#latest = index
    if (this.#heaps++ === 0) {
      this.#first = index
      this.#last = index
      return
    }
    this.#stride = greatestCommonDivisor(Math.abs(index - this.#first), this.#stride)
    if (index < this.#first) this.#first = index
    if (index > this.#last) this.#last = index
  }
}

/** Euclid's algorithm, for safe integers; gcd(0, b) = b. */
export function greatestCommonDivisor(a: number, b: number): number {
  let x = a
  let y = b
  while (y !== 0) {
    const rest = x % y
    x = y
    y = rest
  }
  return x
}

/** Returns the index of the first of `length` bytes at `at` that is not `byte`, or −1. Compares 16 bytes a turn and allocates nothing. */
export function firstDifference(u8: Uint8Array, u32: Uint32Array, at: number, length: number, byte: number): number {
  const end = at + length
  let i = at
  while (i < end && (i & 3) !== 0) {
    if (u8[i] !== byte) return i - at
    i++
  }
  const word = Math.imul(byte, 0x01010101) >>> 0
  const wordEnd = end >>> 2
  let w = i >>> 2
  for (; w + 4 <= wordEnd; w += 4) {
    if (u32[w] !== word || u32[w + 1] !== word || u32[w + 2] !== word || u32[w + 3] !== word) break
  }
  for (i = Math.max(i, w << 2); i < end; i++) if (u8[i] !== byte) return i - at
  return -1
}
