/**
 * Views that a user writes into: typed arrays over a batch's memory. They are made from plain data, so that another thread of the process
 * can make the same views from a batch's handle (postMessage would silently clone the views themselves).
 */
import type { LoanTicket } from '../../ffi/memory/loans.js'
import { attachRegion, type RegionHandle } from '../../ffi/memory/region.js'
import { shown } from '../checks.js'
import { counted, ensure, INSPECT, type Inspection, inspected, SpeadcastError } from '../errors.js'
import { parseDtype, typedView } from '../spead/index.js'

/**
 * The typed arrays of numbers. 64-bit integer items have BigInt64Array or BigUint64Array views: name them in createBatch's type argument.
 */
export type NumericView = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float32Array | Float64Array
export type HeapViews = Record<string, NumericView>

/** A staged immediate: one number per heap, in heap order; write it like any Float64Array. */
export class ImmediateColumn extends Float64Array<ArrayBuffer> {
  /** Heap j gets first + j × step. */
  setRamp(first: number, step: number): void {
    ensure(
      typeof first === 'number' && typeof step === 'number',
      'ERR_SPEADCAST_VALUE',
      () => `setRamp: first is ${shown(first)}, step is ${shown(step)}; both must be numbers`,
    )
    for (let j = 0; j < this.length; j++) this[j] = first + j * step
  }
}

export interface ItemViewPlace {
  readonly name: string
  readonly region: number
  readonly offset: number
  readonly stride: number
  /** numpy dtype for the typed view; empty for raw bytes (bit-packed and other format items). */
  readonly dtype: string
  /** Elements of the view (bytes for raw). */
  readonly elements: number
}

/** Where the parts of a batch lie in memory. */
export interface BatchParts {
  readonly heaps: number
  readonly regions: readonly RegionHandle[]
  readonly items: readonly ItemViewPlace[]
  /** Heap j has the slots[j]-th place in memory; undefined: it has the j-th. */
  readonly slots?: Uint32Array
  readonly immediates: readonly { readonly name: string; readonly columnAt: number }[]
}

/**
 * Plain data: pass it unchanged to worker threads of the same process, and call attachBatch there. It is of use while the batch is
 * open.
 */
export interface BatchHandle extends BatchParts {
  /** By which attachBatch knows that the batch is open, and that nothing of this was changed. */
  readonly loan: LoanTicket
}

export class BatchViews<T extends object = HeapViews> {
  readonly #parts: BatchParts
  readonly #buffers: readonly ArrayBuffer[]
  readonly #heaps: (T | undefined)[]
  readonly #columns = new Map<string, ImmediateColumn>()

  /** @internal */
  constructor(parts: BatchParts) {
    this.#parts = parts
    this.#buffers = parts.regions.map(attachRegion)
    this.#heaps = new Array(parts.heaps)
    // Region 0 is the batch's own; places name regions of the list.
    for (const { name, columnAt } of parts.immediates)
      this.#columns.set(name, new ImmediateColumn(this.#buffers[0]!, columnAt, parts.heaps))
  }

  get heaps(): number {
    return this.#parts.heaps
  }

  /** @internal What util.inspect shows of a batch. */
  shown(): object {
    const { heaps, items, immediates } = this.#parts
    return { heaps, items: items.map(({ name }) => name), immediates: immediates.map(({ name }) => name) }
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('BatchViews', how, () => this.shown())
  }

  /**
   * Returns views of heap j's addressed items, by name. They are made once and valid for the life of the batch. Elements are in the dtype's
   * own byte order; items whose bytes no typed array can hold (big-endian, bit-packed, strings) are raw wire bytes as Uint8Array.
   */
  heap(j: number): T {
    return (typeof j === 'number' ? this.#heaps[j] : undefined) ?? this.#makeHeap(j)
  }

  /** Yields one item's views, heap by heap. @throws ERR_SPEADCAST_ITEM when there is no such addressed item. */
  item<K extends keyof T & string>(name: K): Generator<T[K]> {
    const names = this.#parts.items.map((item) => item.name)
    if (names.includes(name)) return this.#viewsOf(name)
    const why = this.#columns.has(name)
      ? `item '${name}' is an immediate, which has a column instead: immediate('${name}')`
      : `the batch has no addressed item ${shown(name)}; it has ${names.map((known) => `'${known}'`).join(', ') || 'none'}`
    throw new SpeadcastError('ERR_SPEADCAST_ITEM', why)
  }

  *#viewsOf<K extends keyof T & string>(name: K): Generator<T[K]> {
    for (let j = 0; j < this.heaps; j++) yield this.heap(j)[name]
  }

  /** Returns the staged column of an immediate item. @throws ERR_SPEADCAST_ITEM when there is no such immediate. */
  immediate(name: string): ImmediateColumn {
    const column = this.#columns.get(name)
    if (column) return column
    const known = [...this.#columns.keys()].map((known) => `'${known}'`).join(', ') || 'none'
    throw new SpeadcastError('ERR_SPEADCAST_ITEM', `the batch has no immediate item ${shown(name)}; it has ${known}`)
  }

  #makeHeap(j: number): T {
    if (!(Number.isInteger(j) && j >= 0 && j < this.heaps))
      throw new SpeadcastError(
        'ERR_SPEADCAST_VALUE',
        `heap index ${shown(j)} is not below the batch's ${counted(this.heaps, 'heap')}`,
      )
    const slot = this.#parts.slots?.[j] ?? j
    // An item may have any name, '__proto__' too.
    const views = Object.fromEntries(
      this.#parts.items.map(({ name, region, offset, stride, dtype, elements }) => {
        const buffer = this.#buffers[region]!
        const at = offset + slot * stride
        return [name, dtype === '' ? new Uint8Array(buffer, at, elements) : typedView(parseDtype(dtype), buffer, at, elements)]
      }),
    ) as T
    this.#heaps[j] = views
    return views
  }
}
