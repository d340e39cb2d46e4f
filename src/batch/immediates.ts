/**
 * The staged columns of a batch: doubles, one per heap, that a send writes into the headers (engine/scatter.ts). Column 0 holds heap cnts,
 * each of the others the values of an item that travels inside its item pointer. Behind all columns stand two doubles for each, its ramp,
 * so that the ramps of a batch are in one cache line.
 */
import type { Region } from '../../ffi/memory/region.js'
import { SpeadcastError } from '../errors.js'
import type { Flavour, Item, PlanItem } from '../spead/index.js'
import { pointerBase } from '../spead/pointer.js'
import type { ChosenHeaps } from './chosen.js'
import type { StagedImmediate } from './compile.js'
import type { ImmediateEncoding } from './table.js'

/** How a number becomes an item's bytes, and which numbers may: whole ones from low to high − 1. low > high allows anything (floats). */
interface NumberForm {
  readonly encoding: ImmediateEncoding
  readonly littleEndian: boolean
  readonly low: number
  readonly high: number
}

/** Staged whole numbers that count modulo the item's width. */
export interface StagedNumbers {
  readonly values: Float64Array
  readonly low: number
  readonly modulus: number
}

/** A class, so that all columns have one hidden class in the loop of validate(). */
class ItemColumn {
  readonly low: number
  readonly high: number

  constructor(
    readonly item: Item,
    /** Index of the item in the plan. */
    readonly index: number,
    readonly form: NumberForm,
    readonly columnAt: number,
    readonly rampAt: number,
    /** The column as a plain Float64Array: one hidden class in the loops that read it. */
    readonly values: Float64Array,
    /** The findings of validate(): the first value, and the step or NaN. */
    readonly ramp: Float64Array,
  ) {
    this.low = form.low
    this.high = form.high
  }
}

export class StagedColumns {
  /** Heap cnts, −1 at first. */
  readonly cnts: Float64Array
  readonly cntColumnAt: number
  /** Bytes of all columns, ramps not included. */
  readonly byteLength: number
  readonly #items: readonly ItemColumn[]

  /** Returns how many columns a batch of these items has. */
  static count(planItems: readonly PlanItem[]): number {
    return 1 + planItems.filter(({ immediate }) => immediate).length
  }

  /** @param items the items that `planItems` plan, in the same order */
  constructor(items: readonly Item[], planItems: readonly PlanItem[], { buffer }: Region, columnsAt: number, heaps: number) {
    const columnBytes = heaps * 8
    this.byteLength = StagedColumns.count(planItems) * columnBytes
    this.cntColumnAt = columnsAt
    this.cnts = new Float64Array(buffer, columnsAt, heaps).fill(-1)
    let column = 1
    this.#items = items.flatMap((item, index) => {
      if (!planItems[index]?.immediate) return []
      const columnAt = columnsAt + column * columnBytes
      const rampAt = columnsAt + this.byteLength + column++ * 16
      const values = new Float64Array(buffer, columnAt, heaps)
      const ramp = new Float64Array(buffer, rampAt, 2).fill(Number.NaN)
      return [new ItemColumn(item, index, formOf(item), columnAt, rampAt, values, ramp)]
    })
  }

  /** Where views of the items' columns begin. */
  places(): { readonly name: string; readonly columnAt: number }[] {
    return this.#items.map(({ item, columnAt }) => ({ name: item.name, columnAt }))
  }

  /** The numbers staged for an item; undefined: there is no such column, or its numbers do not count. */
  numbers(name: string): StagedNumbers | undefined {
    const found = this.#items.find(({ item }) => item.name === name)
    if (!found || found.form.encoding === 'float' || found.item.byteLength! > 6 || found.item.byteLength === 0) return undefined
    return { values: found.values, low: found.low, modulus: 256 ** found.item.byteLength! }
  }

  /** Writes values that items have already into all heaps, by name and as wire bytes. */
  prefill(values: ReadonlyMap<string, Uint8Array>): void {
    for (const { item, form, values: column } of this.#items) {
      const bytes = values.get(item.name)
      if (bytes) column.fill(decode(bytes, form))
    }
  }

  /** Finds the ramps of `heaps` ≥ 1 values from `first` on. @throws ERR_SPEADCAST_VALUE for a value that the item cannot have */
  validate(heaps: number, first: number): void {
    for (let i = 0; i < this.#items.length; i++) {
      const { low, high, values: all, ramp } = this.#items[i]!
      if (low > high) continue
      // Loops from 0 are a quarter faster, and nearly all sends begin there.
      const values = first === 0 ? all : all.subarray(first)
      const step = stepOf(values, heaps, low, high)
      ramp[0] = values[0]!
      ramp[1] = step
      if (Number.isNaN(step)) this.#refuse(i, first, values, heaps)
    }
  }

  /** Checks the values of chosen heaps, which are written one by one. @throws ERR_SPEADCAST_VALUE for a value that the item cannot have */
  validateChosen({ heaps }: ChosenHeaps): void {
    for (let i = 0; i < this.#items.length; i++) {
      const { low, high, values, ramp } = this.#items[i]!
      if (low > high) continue
      ramp[1] = Number.NaN
      for (let k = 0; k < heaps.length; k++) {
        const j = heaps[k]!
        if (!isWithin(values[j]!, low, high)) this.#refuse(i, j, values.subarray(j), 1)
      }
    }
  }

  /** @throws ERR_SPEADCAST_VALUE unless all values of column `i` are in range after all */
  #refuse(i: number, first: number, values: Float64Array, heaps: number): void {
    const { item, low, high } = this.#items[i]!
    const j = firstOutside(values, heaps, low, high)
    if (j < 0) return
    throw new SpeadcastError(
      'ERR_SPEADCAST_VALUE',
      `immediate '${item.name}' of heap ${first + j} is ${values[j]}; it must be a whole number from ${low} to ${high - 1}`,
    )
  }

  /** Describes the items' columns to the compiler, as those of the heaps from `first` on. */
  staged(flavour: Flavour, first: number): StagedImmediate[] {
    return this.#items.map(({ item, index, form, columnAt, rampAt }) => {
      const base = pointerBase(flavour, item.id, true)
      return {
        name: item.name,
        item: index,
        baseHi: base.hi,
        baseLo: base.lo,
        encoding: form.encoding,
        bytes: item.byteLength!,
        littleEndian: form.littleEndian,
        columnAt: columnAt + first * 8,
        rampAt,
      }
    })
  }
}

/**
 * Returns by how much each of `n` ≥ 1 values exceeds the one before it, or NaN where that is not the same for all, or where not all are
 * whole numbers in low … high − 1. Additions are exact within ±2^53. 0.7 ns a value, and little for values at random.
 */
function stepOf(values: Float64Array, n: number, low: number, high: number): number {
  // There are n values.
  const first = values[0]!
  const step = n > 1 ? values[1]! - first : 0
  let expected = first
  for (let j = 0; j < n; j++) {
    if (values[j] !== expected) return Number.NaN
    expected += step
  }
  return Math.floor(step) === step && isWithin(first, low, high) && isWithin(values[n - 1]!, low, high) ? step : Number.NaN
}

function isWithin(value: number, low: number, high: number): boolean {
  return value >= low && value < high && Math.floor(value) === value
}

/** Returns the index of the first of `n` values that is not a whole number in low … high − 1, or −1. About 1 ns a value; NaN is outside. */
function firstOutside(values: Float64Array, n: number, low: number, high: number): number {
  for (let j = 0; j < n; j++) if (!isWithin(values[j]!, low, high)) return j
  return -1
}

/**
 * Says how a number staged for the item becomes its bytes. Items that are not one number (arrays, strings) are staged as their bytes read
 * as one big-endian integer, a float16 as its 16 bits.
 */
function formOf(item: Item): NumberForm {
  const { dtype, format, elements, byteLength } = item
  const [field] = format?.length === 1 ? format : []
  const kind = dtype?.kind ?? field?.[0] ?? 'raw'
  const bytes = byteLength!
  const single = elements === 1
  const littleEndian = single && dtype !== undefined && 'iuf'.includes(kind) && !dtype.bigEndian && dtype.itemSizeBytes > 1
  const span = 256 ** bytes
  if (single && kind === 'i')
    return { encoding: 'int', littleEndian, low: Math.max(-span / 2, 1 - 2 ** 53), high: Math.min(span / 2, 2 ** 53) }
  if (single && kind === 'f' && bytes === 4) return { encoding: 'float', littleEndian, low: 1, high: 0 }
  return { encoding: 'uint', littleEndian, low: 0, high: Math.min(span, 2 ** 53) }
}

/** Returns the number that is staged for these wire bytes. */
function decode(bytes: Uint8Array, { encoding, littleEndian }: NumberForm): number {
  const ordered = littleEndian ? bytes.toReversed() : bytes
  const [top = 0] = ordered
  // The sign comes first, because 2^56 − 1 is no double and −1 is.
  let value = encoding === 'int' && top >= 0x80 ? -1 : 0
  for (const byte of ordered) value = value * 256 + byte
  if (encoding === 'float') {
    const view = new DataView(new ArrayBuffer(4))
    view.setUint32(0, value)
    return view.getFloat32(0)
  }
  return value
}
