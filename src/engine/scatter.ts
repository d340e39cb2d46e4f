/**
 * Patching a compiled batch: the only work per heap that a send costs. Plain stores into the headers, nothing allocated, no FFI.
 *
 * A heap cnt or an immediate is the low `heapAddressBits` of an 8-byte big-endian item pointer (SPEAD §8.1), so each patch is two
 * 32-bit stores of (constant half | value half). Values are doubles or pairs of 32-bit halves: no BigInt.
 */
import { blockView, offsetInBlock } from '../../ffi/memory/block-view.js'
import type { ImmediateScatter, ScatterTable, TableRegion } from '../batch/table.js'
import { type OrderedRamp, TWO_32, windowed, writeColumn, writeOrdered, writeRamp } from './strided.js'

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
 * The first 128 columns of a thread take the slow path too, which writes both halves of every number, so that V8 compiles it. Otherwise its
 * first run, when a timestamp's upper half changes a second into a stream, discards the compiled code.
 */
let slowPathWarmups = 128

/**
 * Where one number a heap goes, and the number that stands there: a send whose numbers keep their upper halves, as nearly all do, writes the
 * lower ones only.
 */
class Pointers implements OrderedRamp {
  /** The upper half of all numbers of the first `heaps` heaps; −1: not all the same, or not known. */
  hi = -1
  heaps = 0
  /** Bytes from one heap's pointer to the next one's; 0 when a heap has several or they are not evenly spaced. */
  readonly stride: number
  /** Where each heap has one and they are evenly spaced in another order: the heaps in that order, and bytes from one's to the next one's. */
  readonly order: Uint32Array | undefined
  readonly spacing: number
  readonly from: number
  readonly inWindow: boolean
  readonly baseHi: number
  readonly baseLo: number
  first = 0
  step = 0

  constructor(
    readonly at: Uint32Array,
    readonly start: Uint32Array,
    region: TableRegion,
    baseHi: number,
    baseLo: number,
    /** The order of other pointers in these headers. */
    known?: Uint32Array,
  ) {
    const outside = at.find((offset) => offset + 8 > region.byteLength)
    if (outside !== undefined) throw new Error(`item pointer at byte ${outside} of a region of ${region.byteLength}`)
    const oneEach = at.length > 0 && at.length === start.length - 1 && start.every((first, j) => first === j)
    this.stride = oneEach ? evenStride(at) : 0
    const order = oneEach && this.stride === 0 ? (known ?? Uint32Array.from(at.keys()).sort((a, b) => at[a]! - at[b]!)) : undefined
    this.spacing = order ? evenStride(order.map((heap) => at[heap]!)) : 0
    this.order = this.spacing > 0 ? order : undefined
    const even = this.stride > 0 || this.order !== undefined
    const offset = even ? offsetInBlock(region) : -1
    this.inWindow = offset >= 0
    this.from = even ? at[this.order ? this.order[0]! : 0]! + 4 + Math.max(0, offset) : 0
    this.baseHi = baseHi | 0
    this.baseLo = baseLo | 0
  }

  /** The upper half of the first `heaps` heaps' numbers is known. */
  stands(heaps: number): boolean {
    return this.hi >= 0 && heaps <= this.heaps
  }

  written(hi: number, heaps: number): void {
    if (slowPathWarmups > 0) slowPathWarmups--
    this.hi = slowPathWarmups > 0 ? -1 : hi
    this.heaps = heaps
  }
}

export class CntPointers extends Pointers {
  /** 32 signed bits, as all numbers here: others would be objects of their own, in cache lines of their own. */
  readonly maskHi: number
  readonly maskLo: number
  constructor(table: ScatterTable) {
    super(table.cntAt, table.cntStart, table.region, table.cntBaseHi, table.cntBaseLo)
    this.maskHi = table.maskHi | 0
    this.maskLo = table.maskLo | 0
  }
}

export class ImmediatePointers extends Pointers {
  readonly plain: boolean
  readonly column: Float64Array
  /** Read through the view of the headers: an array of its own would be two cache lines more. The machine is little-endian. */
  readonly rampAt: number
  constructor(
    readonly table: ImmediateScatter,
    region: TableRegion,
    buffer: ArrayBuffer,
    heaps: number,
    cnt: CntPointers,
    column = new Float64Array(buffer, table.columnAt, heaps),
  ) {
    super(table.at, table.start, region, table.baseHi, table.baseLo, cnt.order)
    this.plain = table.encoding === 'uint' && !table.littleEndian
    this.column = column
    this.rampAt = table.rampAt
  }
}

/** Bytes from each offset to the next; 0 when they are not evenly spaced, or not rising. */
function evenStride(at: Uint32Array): number {
  const heaps = at.length
  const stride = heaps > 1 ? at[1]! - at[0]! : 8
  // The loops count in 32 signed bits.
  if (at[0]! + 4 + heaps * stride > 0x7fffffff) return 0
  return stride > 0 && at.every((offset, j) => offset === at[0]! + j * stride) ? stride : 0
}

/** A ramp by heap where a heap has several pointers, or they stand anywhere: 1.5 ns a pointer. */
function writeEach(view: DataView, { at, start, baseLo, first, step }: Pointers, heaps: number): void {
  let word = baseLo | first
  for (let j = 0; j < heaps; j++) {
    for (let i = start[j]!, end = start[j + 1]!; i < end; i++) view.setInt32(at[i]! + 4, word)
    word = (word + step) | 0
  }
}

function write(view: DataView, pointers: Pointers, heaps: number): void {
  const { order } = pointers
  if (order !== undefined) {
    if (heaps < order.length) writeEach(view, pointers, heaps)
    else writeOrdered(pointers.inWindow ? blockView() : view, pointers, order)
  } else if (pointers.inWindow) windowed().writeRamp(pointers, heaps)
  else if (pointers.stride > 0) writeRamp(view, pointers, heaps)
  else writeEach(view, pointers, heaps)
}

/** Whether the upper half changes within the sequence's next `heaps` cnts, or behind them. */
function carries({ nextLo, stepHi, stepLo }: CntSequence, heaps: number, maskLo: number): boolean {
  return stepHi !== 0 || nextLo + stepLo * heaps > maskLo >>> 0
}

/** The sequence's next `heaps` cnts as a ramp, and the sequence behind them; false if upper halves change or must be written. */
function takeRamp(cnt: CntPointers, heaps: number, sequence: CntSequence): boolean {
  const { nextHi, nextLo, stepLo } = sequence
  if (carries(sequence, heaps, cnt.maskLo) || !cnt.stands(heaps) || (nextHi & cnt.maskHi) !== cnt.hi) return false
  cnt.first = nextLo | 0
  cnt.step = stepLo | 0
  sequence.nextLo = nextLo + stepLo * heaps
  return true
}

/** The staged values as a ramp; false if they are none, or upper halves change or must be written. */
function findRamp(view: DataView, pointers: ImmediatePointers, heaps: number): boolean {
  const { hi, rampAt } = pointers
  if (!pointers.stands(heaps)) return false
  const step = view.getFloat64(rampAt + 8, true)
  const first = view.getFloat64(rampAt, true) - hi * TWO_32
  const last = first + step * (heaps - 1)
  // NaN is never within.
  if (!(first >= 0 && first < TWO_32 && last >= 0 && last < TWO_32)) return false
  pointers.first = first | 0
  pointers.step = step | 0
  return true
}

/**
 * Writes the next `heaps` cnts of the sequence and the staged values, in range as send() found them, into the headers of heaps 0 … heaps−1.
 * Cost: 0.7 ns per evenly spaced one-packet heap for cnt and one immediate that is a ramp (1.3 where all heaps are sent and stand evenly
 * spaced in another order); 0.5 for each further ramp, 1.4 for other values; else 1.5 ns for each pointer of a ramp, 2–4 of other values.
 */
export function scatter(
  view: DataView,
  cnt: CntPointers,
  immediates: readonly ImmediatePointers[],
  heaps: number,
  sequence: CntSequence,
): void {
  const ramp = takeRamp(cnt, heaps, sequence)
  if (ramp && immediates.length > 0 && pair(cnt, immediates[0]!, heaps) && findRamp(view, immediates[0]!, heaps)) {
    if (cnt.order === undefined) windowed().writeRamps(cnt, immediates[0]!, heaps)
    else windowed().writeOrderedPair(cnt, immediates[0]!, cnt.order)
    for (let i = 1; i < immediates.length; i++) scatterImmediate(view, immediates[i]!, heaps)
  } else scatterApart(view, cnt, immediates, heaps, ramp ? null : sequence)
}

/** Whether cnts and the immediate have the same distance in every heap, so that one loop can write both. */
function pair(cnt: CntPointers, { stride, spacing, order }: ImmediatePointers, heaps: number): boolean {
  if (!cnt.inWindow || stride !== cnt.stride || spacing !== cnt.spacing) return false
  return order === cnt.order && (order === undefined || heaps === order.length)
}

/** Cnts of the sequence, or the ramp found for them, and then immediates. */
function scatterApart(
  view: DataView,
  cnt: CntPointers,
  immediates: readonly ImmediatePointers[],
  heaps: number,
  sequence: CntSequence | null,
): void {
  if (sequence === null) write(view, cnt, heaps)
  else scatterSequence(view, cnt, heaps, sequence)
  for (let i = 0; i < immediates.length; i++) scatterImmediate(view, immediates[i]!, heaps)
}

/** Into every packet header, and advances the sequence. The additions carry by comparison, so all bits are exact. */
function scatterSequence(view: DataView, cnt: CntPointers, heaps: number, sequence: CntSequence): void {
  const { maskHi, maskLo, baseHi, baseLo } = cnt
  const { stepHi, stepLo } = sequence
  let hi = sequence.nextHi
  let lo = sequence.nextLo
  cnt.written(carries(sequence, heaps, maskLo) ? -1 : hi & maskHi, heaps)
  const { at: cntAt, start: cntStart } = cnt
  for (let j = 0; j < heaps; j++) {
    const wordHi = baseHi | (hi & maskHi)
    const wordLo = baseLo | (lo & maskLo)
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

/** Writes cnts as scatter does, but heap j takes column[j] where that is ≥ 0; explicit cnts do not advance the sequence. */
export function scatterExplicit(
  view: DataView,
  pointers: CntPointers,
  heaps: number,
  column: Float64Array,
  sequence: CntSequence,
): void {
  const { at: cntAt, start: cntStart, maskHi, maskLo, baseHi, baseLo } = pointers
  pointers.written(-1, 0)
  for (let j = 0; j < heaps; j++) {
    const cnt = column[j]!
    const explicit = cnt >= 0
    const hi = explicit ? Math.floor(cnt / TWO_32) : sequence.nextHi
    const lo = explicit ? cnt >>> 0 : sequence.nextLo
    for (let i = cntStart[j]!, end = cntStart[j + 1]!; i < end; i++) {
      const at = cntAt[i]!
      view.setUint32(at, baseHi | (hi & maskHi))
      view.setUint32(at + 4, baseLo | (lo & maskLo))
    }
    if (!explicit) {
      const sum = lo + sequence.stepLo
      sequence.nextLo = sum >>> 0
      sequence.nextHi = (hi + sequence.stepHi + (sum > 0xffffffff ? 1 : 0)) >>> 0
    }
  }
}

/** Exact: a power of two. */
const PER_TWO_32 = 1 / TWO_32

/** Any number of pointers per heap (repeated pointers). Returns the upper half of all numbers, or −1 when they differ. 2–4 ns a pointer. */
function scatterUint(view: DataView, { at, start, column, baseHi, baseLo }: ImmediatePointers, heaps: number): number {
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
function scatterConverted(view: DataView, { at, start, column, baseHi, baseLo, table }: ImmediatePointers, heaps: number): void {
  const { encoding, bytes, littleEndian } = table
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

/** Writes the staged values of one immediate into heaps 0 … heaps−1; for the cost see scatter(). */
export function scatterImmediate(view: DataView, pointers: ImmediatePointers, heaps: number): void {
  const { inWindow, column, hi, stride } = pointers
  if (!pointers.plain) {
    scatterConverted(view, pointers, heaps)
    return
  }
  if (findRamp(view, pointers, heaps)) {
    write(view, pointers, heaps)
    return
  }
  // Not for a ramp: its upper half has just been found to change.
  const low = stride > 0 && pointers.stands(heaps) && Number.isNaN(view.getFloat64(pointers.rampAt + 8, true))
  if (low && writeColumn(inWindow ? blockView() : view, pointers, column, heaps, hi)) return
  pointers.written(scatterUint(view, pointers, heaps), heaps)
}
