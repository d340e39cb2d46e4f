/**
 * The loops over evenly spaced pointers, which are the cost of a send of ordinary heaps. Headers that are in the isolate's window
 * (ffi/memory/block-view.ts) are written through it by functions that close over it. V8 inlines a constant captured by a closure that is
 * created once; passed as an argument, the view is re-checked on every store.
 */
import { blockView } from '../../ffi/memory/block-view.js'

/** Lower halves of item pointers, in 32 signed bits all. */
export interface Ramp {
  /** Offset in the view of the first heap's, and bytes to the next one's. */
  readonly from: number
  readonly stride: number
  /** The upper bits of each. */
  readonly baseLo: number
  /** The first heap's number, and what each is above the one before it, modulo 2^32. */
  readonly first: number
  readonly step: number
}

/** A ramp over heaps that lie evenly spaced, but not in the order of their indices (by-substream). */
export interface OrderedRamp extends Ramp {
  /** Bytes between neighbours in memory. */
  readonly spacing: number
}

export const TWO_32 = 4294967296

/** One ramp, 0.6 ns each and more where headers are far apart. makeWindowed's writeRamp says why its numbers are cut to 32 bits. */
export function writeRamp(view: DataView, ramp: Ramp, heaps: number): void {
  const stride = ramp.stride | 0
  const step = ramp.step | 0
  let word = ramp.baseLo | ramp.first
  let at = ramp.from | 0
  const end = (at + Math.imul(stride, heaps)) | 0
  for (; at < end; at = (at + stride) | 0) {
    view.setInt32(at, word)
    word = (word + step) | 0
  }
}

/** Writes the ramp into all heaps in the order of memory; order[s] is the heap in place s. */
export function writeOrdered(view: DataView, ramp: OrderedRamp, order: Uint32Array): void {
  const spacing = ramp.spacing | 0
  const step = ramp.step | 0
  const base = ramp.baseLo | ramp.first
  let at = ramp.from | 0
  for (let s = 0; s < order.length; s++) {
    view.setInt32(at, (base + Math.imul(order[s]!, step)) | 0)
    at = (at + spacing) | 0
  }
}

/** Writes the numbers of a column, whose upper half is `hi`: 1.5 ns each. False at the first that has another. */
export function writeColumn(
  view: DataView,
  { from, stride, baseLo }: Ramp,
  column: Float64Array,
  heaps: number,
  hi: number,
): boolean {
  const least = hi * TWO_32
  const beyond = least + TWO_32
  let at = from
  let j = 0
  for (; j + 4 <= heaps; j += 4) {
    const a = column[j]!
    const b = column[j + 1]!
    const c = column[j + 2]!
    const d = column[j + 3]!
    if (a < least || a >= beyond || b < least || b >= beyond || c < least || c >= beyond || d < least || d >= beyond) return false
    view.setInt32(at, baseLo | a)
    view.setInt32(at + stride, baseLo | b)
    view.setInt32(at + 2 * stride, baseLo | c)
    view.setInt32(at + 3 * stride, baseLo | d)
    at = (at + 4 * stride) | 0
  }
  for (; j < heaps; j++) {
    const value = column[j]!
    if (value < least || value >= beyond) return false
    view.setInt32(at, baseLo | value)
    at = (at + stride) | 0
  }
  return true
}

function makeWindowed(window: DataView) {
  const view = window

  /**
   * One ramp, 0.45 ns each. Every number is cut to 32 bits, because V8 tests for overflow otherwise. It is a function of its own, as all the
   * loops here, because within a larger function they are slower. It writes two heaps a turn, because a turn costs as much as a store. A ramp
   * that is in range never reaches the bits of the item id above it.
   */
  function writeRamp(ramp: Ramp, heaps: number): void {
    const stride = ramp.stride | 0
    const step = ramp.step | 0
    let word = ramp.baseLo | ramp.first
    let at = ramp.from | 0
    const end = (at + Math.imul(stride, heaps & ~1)) | 0
    while (at < end) {
      view.setInt32(at, word)
      word = (word + step) | 0
      at = (at + stride) | 0
      view.setInt32(at, word)
      word = (word + step) | 0
      at = (at + stride) | 0
    }
    if ((heaps & 1) === 1) view.setInt32(at, word)
  }

  /** Two of one stride at once: 0.65 ns for both. */
  function writeRamps(a: Ramp, b: Ramp, heaps: number): void {
    const stride = a.stride | 0
    const gap = (b.from - a.from) | 0
    const stepA = a.step | 0
    const stepB = b.step | 0
    let wordA = a.baseLo | a.first
    let wordB = b.baseLo | b.first
    let at = a.from | 0
    const end = (at + Math.imul(stride, heaps & ~1)) | 0
    while (at < end) {
      view.setInt32(at, wordA)
      view.setInt32((at + gap) | 0, wordB)
      wordA = (wordA + stepA) | 0
      wordB = (wordB + stepB) | 0
      at = (at + stride) | 0
      view.setInt32(at, wordA)
      view.setInt32((at + gap) | 0, wordB)
      wordA = (wordA + stepA) | 0
      wordB = (wordB + stepB) | 0
      at = (at + stride) | 0
    }
    if ((heaps & 1) === 0) return
    view.setInt32(at, wordA)
    view.setInt32((at + gap) | 0, wordB)
  }

  /** Writes two ramps of one spacing in one pass: 1.3 ns for both. */
  function writeOrderedPair(a: OrderedRamp, b: OrderedRamp, order: Uint32Array): void {
    const spacing = a.spacing | 0
    const gap = (b.from - a.from) | 0
    const stepA = a.step | 0
    const stepB = b.step | 0
    const baseA = a.baseLo | a.first
    const baseB = b.baseLo | b.first
    let at = a.from | 0
    for (let s = 0; s < order.length; s++) {
      const heap = order[s]!
      view.setInt32(at, (baseA + Math.imul(heap, stepA)) | 0)
      view.setInt32((at + gap) | 0, (baseB + Math.imul(heap, stepB)) | 0)
      at = (at + spacing) | 0
    }
  }

  return { writeRamp, writeRamps, writeOrderedPair }
}

let loops: ReturnType<typeof makeWindowed> | undefined

/** Once there is a window. */
export function windowed(): ReturnType<typeof makeWindowed> {
  loops ??= makeWindowed(blockView())
  return loops
}
