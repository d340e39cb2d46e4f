/**
 * Patching a compiled batch: the only work per heap that a send costs. Plain stores into the headers, nothing allocated, no FFI.
 *
 * A heap cnt or an immediate is the low `heapAddressBits` of an 8-byte big-endian item pointer (SPEAD §8.1), so each patch is two
 * 32-bit stores of (constant half | value half). Values are doubles or pairs of 32-bit halves: no BigInt.
 */
import type { ImmediateScatter, ScatterTable } from '../batch/table.js'

/**
 * The heap cnt sequence: next value and step as 32-bit halves, counting modulo 2^64. Heaps take its low N bits, so a heap of a narrower
 * flavour leaves it whole. One object per engine, updated in place.
 */
export interface CntSequence {
  nextHi: number
  nextLo: number
  stepHi: number
  stepLo: number
}

/**
 * What stands in the headers of a variant's first `heaps` heaps: a send whose heap cnts or immediates keep their upper halves, as nearly
 * all do, writes the lower ones only. −1: not all the same, or not known.
 */
export class HighHalf {
  hi = -1
  heaps = 0
  /** Bytes from one heap's pointer to the next one's; 0 when a heap has several or they are not evenly spaced. */
  readonly stride: number

  constructor(at: Uint32Array, start: Uint32Array) {
    this.stride = evenStride(at, start)
  }

  stands(hi: number, heaps: number): boolean {
    return hi === this.hi && heaps <= this.heaps
  }

  written(hi: number, heaps: number): void {
    this.hi = hi
    this.heaps = heaps
  }
}

function evenStride(at: Uint32Array, start: Uint32Array): number {
  const heaps = start.length - 1
  if (at.length !== heaps || start.some((first, j) => first !== j)) return 0
  const stride = heaps > 1 ? at[1]! - at[0]! : 8
  return at.every((offset, j) => offset === at[0]! + j * stride) ? stride : 0
}

/**
 * One 32-bit number a heap, evenly spaced: 0.8 ns each, in fours because V8 does not unroll. By itself, as all the loops here: within a
 * larger function they are slower.
 */
function writeRamp(view: DataView, from: number, stride: number, heaps: number, base: number, first: number, step: number): void {
  let at = from
  let value = first
  let j = 0
  for (; j + 4 <= heaps; j += 4) {
    view.setInt32(at, base | value)
    view.setInt32(at + stride, base | (value + step))
    view.setInt32(at + 2 * stride, base | (value + 2 * step))
    view.setInt32(at + 3 * stride, base | (value + 3 * step))
    value = (value + 4 * step) | 0
    at = (at + 4 * stride) | 0
  }
  for (; j < heaps; j++) {
    view.setInt32(at, base | value)
    value = (value + step) | 0
    at = (at + stride) | 0
  }
}

/**
 * Writes the next `heaps` cnts of the sequence into every packet header of heaps 0 … heaps−1 and advances it.
 * Cost: 0.8 ns per packet of evenly spaced one-packet heaps whose cnts keep their upper half, else two stores, 2–4 ns. The additions carry
 * by comparison, so all bits are exact.
 */
export function scatterSequence(
  view: DataView,
  table: ScatterTable,
  heaps: number,
  sequence: CntSequence,
  standing: HighHalf,
): void {
  const { cntAt, cntStart, maskHi, maskLo } = table
  const cntBaseHi = table.cntBaseHi | 0
  const cntBaseLo = table.cntBaseLo | 0
  const { stepHi, stepLo } = sequence
  let hi = sequence.nextHi
  let lo = sequence.nextLo
  const carries = stepHi !== 0 || lo + stepLo * heaps > maskLo
  if (!carries && standing.stride > 0 && standing.stands(hi & maskHi, heaps)) {
    writeRamp(view, cntAt[0]! + 4, standing.stride, heaps, cntBaseLo, lo | 0, stepLo | 0)
    sequence.nextLo = lo + stepLo * heaps
    return
  }
  standing.written(carries ? -1 : hi & maskHi, heaps)
  for (let j = 0; j < heaps; j++) {
    const wordHi = cntBaseHi | (hi & maskHi)
    const wordLo = cntBaseLo | (lo & maskLo)
    for (let i = cntStart[j]!, end = cntStart[j + 1]!; i < end; i++) {
      const at = cntAt[i]!
      view.setUint32(at, wordHi)
      view.setUint32(at + 4, wordLo)
    }
    const sum = lo + stepLo
    lo = sum >>> 0
    hi = (hi + stepHi + (sum > 0xffffffff ? 1 : 0)) >>> 0
  }
  sequence.nextHi = hi
  sequence.nextLo = lo
}

/** As scatterSequence, but heap j takes column[j] where that is ≥ 0; explicit cnts do not advance the sequence. */
export function scatterExplicit(
  view: DataView,
  table: ScatterTable,
  heaps: number,
  column: Float64Array,
  sequence: CntSequence,
  standing: HighHalf,
): void {
  const { cntAt, cntStart, maskHi, maskLo } = table
  const cntBaseHi = table.cntBaseHi | 0
  const cntBaseLo = table.cntBaseLo | 0
  standing.written(-1, 0)
  for (let j = 0; j < heaps; j++) {
    const cnt = column[j]!
    const explicit = cnt >= 0
    const hi = explicit ? Math.floor(cnt / 4294967296) : sequence.nextHi
    const lo = explicit ? cnt >>> 0 : sequence.nextLo
    for (let i = cntStart[j]!, end = cntStart[j + 1]!; i < end; i++) {
      const at = cntAt[i]!
      view.setUint32(at, cntBaseHi | (hi & maskHi))
      view.setUint32(at + 4, cntBaseLo | (lo & maskLo))
    }
    if (!explicit) {
      const sum = lo + sequence.stepLo
      sequence.nextLo = sum >>> 0
      sequence.nextHi = (hi + sequence.stepHi + (sum > 0xffffffff ? 1 : 0)) >>> 0
    }
  }
}

const TWO_32 = 4294967296
/** Exact: a power of two. */
const PER_TWO_32 = 1 / TWO_32

/** Lower halves of numbers whose upper half is `hi`, evenly spaced. False at the first that has another. 1.6 ns a pointer. */
function writeLowHalves(
  view: DataView,
  from: number,
  stride: number,
  column: Float64Array,
  heaps: number,
  hi: number,
  baseLo: number,
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

/** Any number of pointers per heap (repeated pointers). Returns the upper half of all numbers, or −1 when they differ. 2–4 ns a pointer. */
function scatterUint(
  view: DataView,
  table: ImmediateScatter,
  column: Float64Array,
  heaps: number,
  baseHi: number,
  baseLo: number,
): number {
  const { at, start } = table
  const firstHi = Math.floor(column[0]! * PER_TWO_32)
  let common = firstHi
  for (let j = 0; j < heaps; j++) {
    const value = column[j]!
    const hi = Math.floor(value * PER_TWO_32)
    if (hi !== firstHi) common = -1
    const wordHi = baseHi | hi
    const wordLo = baseLo | (value - hi * TWO_32)
    for (let i = start[j]!, end = start[j + 1]!; i < end; i++) {
      const to = at[i]!
      view.setInt32(to, wordHi)
      view.setInt32(to + 4, wordLo)
    }
  }
  return common
}

const f32 = new Float32Array(1)
const f32bits = new Uint32Array(f32.buffer)

/** Signed, float and little-endian immediates: brought to an unsigned big-endian number first. 9 ns. */
function scatterConverted(
  view: DataView,
  table: ImmediateScatter,
  column: Float64Array,
  heaps: number,
  baseHi: number,
  baseLo: number,
): void {
  const { at, start, encoding, bytes, littleEndian } = table
  // Two's complement in halves: 2^56 − 1 is no double. Zero-length items have bytes = 0 and value 0.
  const maskHi = bytes > 4 ? 256 ** (bytes - 4) - 1 : 0
  const maskLo = bytes >= 4 ? 0xffffffff : 256 ** bytes - 1
  for (let j = 0; j < heaps; j++) {
    let value = column[j]!
    if (encoding === 'float') {
      f32[0] = value
      value = f32bits[0]!
    }
    let hi = Math.floor(value * PER_TWO_32) & maskHi
    let lo = (value & maskLo) >>> 0
    if (littleEndian) {
      // Byte-reversed over the item's own length; little-endian numpy types that fit a pointer have 1, 2 or 4 bytes.
      const swapped = ((lo & 0xff) << 24) | ((lo & 0xff00) << 8) | ((lo >>> 8) & 0xff00) | (lo >>> 24)
      lo = swapped >>> (8 * (4 - bytes))
      hi = 0
    }
    for (let i = start[j]!, end = start[j + 1]!; i < end; i++) {
      view.setInt32(at[i]!, baseHi | hi)
      view.setInt32(at[i]! + 4, baseLo | lo)
    }
  }
}

/** Writes the staged values of one immediate into heaps 0 … heaps−1. Values were range-checked at send. */
export function scatterImmediate(
  view: DataView,
  table: ImmediateScatter,
  heaps: number,
  column: Float64Array,
  standing: HighHalf,
): void {
  const baseHi = table.baseHi | 0
  const baseLo = table.baseLo | 0
  if (table.encoding !== 'uint' || table.littleEndian) {
    scatterConverted(view, table, column, heaps, baseHi, baseLo)
    return
  }
  const { hi, stride } = standing
  if (stride > 0 && hi >= 0 && heaps <= standing.heaps) {
    if (writeLowHalves(view, table.at[0]! + 4, stride, column, heaps, hi, baseLo)) return
  }
  standing.written(scatterUint(view, table, column, heaps, baseHi, baseLo), heaps)
}
