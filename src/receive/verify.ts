/**
 * Checks the tutorial's pattern: item 0x3300 `adc_samples` (int8) has the heap index as int8 in every byte, and item 0x1600
 * `timestamp` is the index of the heap's first sample. The heap index is timestamp / samples per heap. The heap cnt is not, because
 * descriptor and stop heaps use cnts too. A timestamp is an immediate as wide as a heap address, 48 bits at most, or an addressed
 * item.
 */
import { counted } from '../errors.js'
import type { AssembledHeap } from './assembled-heap.js'
import type { ItemTable } from './items.js'
import type { KnownItems } from './known-items.js'
import { PatternState } from './pattern-state.js'
import { valueBytes } from './received-descriptor.js'
import { immediateBytes, putImmediate } from './received-heap.js'
import type { Sender } from './sender.js'

const TUTORIAL_TIMESTAMP = 0x1600
export const TUTORIAL_SAMPLES = 0x3300
const EXAMPLES = 8
/** Bits of the tutorial's timestamp where the flavour has room for them. */
const TIMESTAMP_BITS = 48

export class PatternVerifier {
  corrupt = 0
  /** The first few corrupt heaps, each with what is wrong. */
  readonly examples: string[] = []
  readonly #u8: Uint8Array
  readonly #u32: Uint32Array
  readonly #immediate = new Uint8Array(8)
  readonly #immediateWords = new Uint32Array(this.#immediate.buffer)
  readonly #endpoints: number

  constructor(buffer: ArrayBuffer, endpoints: number) {
    this.#u8 = new Uint8Array(buffer)
    this.#u32 = new Uint32Array(buffer, 0, Math.floor(buffer.byteLength / 4))
    this.#endpoints = endpoints
  }

  /** Checks every byte of a complete data heap. Allocates only for a sender's first heap, and if the heap is corrupt. */
  check(heap: AssembledHeap, table: ItemTable, sender: Sender, known: KnownItems): void {
    sender.pattern ??= new PatternState(this.#endpoints)
    const problem = this.#judge(heap, table, known, sender.pattern)
    if (problem === '') return
    this.corrupt++
    if (this.examples.length < EXAMPLES) this.examples.push(`heap cnt ${heap.cntNumber}: ${problem}`)
  }

  #judge(heap: AssembledHeap, table: ItemTable, known: KnownItems, state: PatternState): string {
    // Below table.count where they are not −1.
    const timestampAt = table.find(TUTORIAL_TIMESTAMP)
    const samplesAt = table.find(TUTORIAL_SAMPLES)
    if (timestampAt < 0) return 'has no timestamp (0x1600)'
    if (samplesAt < 0) return 'has no adc_samples (0x3300)'
    const immediateTimestamp = table.immediate[timestampAt] === 1
    const width = immediateTimestamp ? heap.addressBytes : table.length[timestampAt]!
    if (width < 1 || width > 8) return `has a timestamp (0x1600) of ${counted(width, 'byte')}`
    const timestamp = immediateTimestamp ? table.value(timestampAt) : this.#unsigned(heap.at + table.offset[timestampAt]!, width)
    const immediate = table.immediate[samplesAt] === 1
    const descriptor = known.get(TUTORIAL_SAMPLES)
    const samples = immediate ? immediateBytes(descriptor, heap.addressBytes) : table.length[samplesAt]!
    const described = descriptor && valueBytes(descriptor)
    if (described !== undefined && described !== samples)
      return `has ${counted(samples, 'byte')} of samples where their descriptor says ${described}`
    if (state.samples > 0 && samples !== state.samples)
      return `has ${counted(samples, 'sample')}, and the heap before it ${state.samples}`
    const index = state.indexOf(timestamp, samples, 2 ** Math.min(TIMESTAMP_BITS, 8 * width))
    if (!Number.isInteger(index)) return `timestamp ${timestamp} is not a multiple of its ${counted(samples, 'sample')}`
    if (!state.note(index, timestamp, samples)) return `heap index ${index} has come before`
    for (let i = 0; i < table.count; i++) {
      if (table.ids[i] !== TUTORIAL_SAMPLES) continue
      const problem = this.#compare(heap, table, i, samples, index)
      if (problem !== '') return problem
    }
    return ''
  }

  /** Compares item `i`, one of those with the id of the samples. Heaps of up to six samples travel inside the item pointer. */
  #compare(heap: AssembledHeap, table: ItemTable, i: number, samples: number, index: number): string {
    const immediate = table.immediate[i] === 1
    // spead2 leaves out an item of no bytes, too.
    if (!immediate && table.length[i] === 0) return ''
    if (!immediate && table.length[i] !== samples)
      return `has another adc_samples (0x3300) of ${counted(table.length[i]!, 'byte')}, not ${samples}`
    if (immediate) putImmediate(table, i, this.#immediate, 0, samples)
    const u8 = immediate ? this.#immediate : this.#u8
    const at = immediate ? 0 : heap.at + table.offset[i]!
    const wrong = firstDifference(u8, immediate ? this.#immediateWords : this.#u32, at, samples, index & 0xff)
    if (wrong < 0) return ''
    return `sample ${wrong} of heap index ${index} is ${(u8[at + wrong]! << 24) >> 24}, not ${(index << 24) >> 24}`
  }

  #unsigned(at: number, bytes: number): number {
    let value = 0
    for (let i = 0; i < bytes; i++) value = value * 256 + this.#u8[at + i]!
    return value
  }
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
  for (i = Math.max(i, w * 4); i < end; i++) if (u8[i] !== byte) return i - at
  return -1
}
