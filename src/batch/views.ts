/**
 * Views that a user writes into: typed arrays over a batch's memory. They are made from plain data, so that another thread of the process
 * can make the same views from a batch's handle (postMessage would silently clone the views themselves).
 */
import type { LoanTicket } from '../../ffi/memory/loans.js'
import { attachRegion, type RegionHandle } from '../../ffi/memory/region.js'
import { isObject, shown, withArticle } from '../checks.js'
import { counted, ensure, INSPECT, type Inspection, inspected, SpeadcastError } from '../errors.js'
import { type Dtype, itemView, parseDtype, type ViewClass, viewClassOf } from '../spead/index.js'
import { ImmediateColumn } from './column.js'
import { type HeapNames, heapMaker, noView } from './heap-object.js'
import type { HeapViews, ViewClasses } from './view-types.js'

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
  /** How many heaps the batch has. */
  readonly heaps: number
  /** @hidden */
  readonly regions: readonly RegionHandle[]
  /** @hidden */
  readonly items: readonly ItemViewPlace[]
  /** @hidden Heap j has the slots[j]-th place in memory; undefined: it has the j-th. */
  readonly slots?: Uint32Array
  /** @hidden The substream of each heap; undefined: all go to the first. */
  readonly substreams?: Uint16Array
  /** @hidden */
  readonly immediates: readonly { readonly name: string; readonly columnAt: number }[]
}

declare const VIEWS: unique symbol

/**
 * Plain data: pass it unchanged to worker threads of the same process, and call attachBatch there. It is of use while the batch is
 * open. Its type says what views and immediates the batch has, as that of the batch does.
 */
export interface BatchHandle<out T extends object = object, out I extends string = string> extends BatchParts {
  /** @hidden By which attachBatch knows that the batch is open, and that nothing of this was changed. */
  readonly loan: LoanTicket
  /** @hidden In the type alone. */
  readonly [VIEWS]?: readonly [T, I]
}

const dtypeOf = ({ dtype }: ItemViewPlace): Dtype | undefined => (dtype === '' ? undefined : parseDtype(dtype as Dtype['descr']))
const classOf = (dtype: Dtype | undefined): ViewClass => (dtype ? viewClassOf(dtype) : Uint8Array)

/** The items of a batch, as far as names and classes go. */
interface ViewedItems {
  readonly items: readonly ItemViewPlace[]
  readonly immediates: readonly { readonly name: string }[]
}

const namesOf = ({ items, immediates }: ViewedItems): HeapNames => ({
  views: items.map(({ name }) => name),
  immediates: immediates.map(({ name }) => name),
})

/** Undefined for no object, or where an accessor or a proxy of the user's throws. */
function entriesOf(views: unknown): [string, unknown][] | undefined {
  try {
    return isObject(views) && !Array.isArray(views) ? Object.entries(views) : undefined
  } catch {
    return undefined
  }
}

/**
 * Checks the option `views` against the items: no class but that of the item's own view shows what is sent.
 * @throws ERR_SPEADCAST_CONFIG for no object of classes, ERR_SPEADCAST_ITEM for a name or a class that is not the items'
 */
export function checkViews(call: string, parts: ViewedItems, views: ViewClasses | undefined): void {
  if (views === undefined) return
  const given = entriesOf(views)
  ensure(
    given?.every(([, view]) => typeof view === 'function'),
    'ERR_SPEADCAST_CONFIG',
    () => `${call}: views is ${shown(views)}; it must be an object of classes by item name, such as { samples: Int16Array }`,
  )
  for (const [name, view] of given!) {
    const place = parts.items.find((item) => item.name === name)
    if (!place) throw noView(namesOf(parts), name)
    const dtype = dtypeOf(place)
    const right = classOf(dtype)
    ensure(
      view === right,
      'ERR_SPEADCAST_ITEM',
      () =>
        `${call}: views has ${(view as ViewClass).name} for item ${shown(name)}, which is of ` +
        `${dtype ? `dtype '${dtype.descr}' and has ${withArticle(right.name)}` : 'a format and has a Uint8Array of the bytes of the wire'}`,
    )
  }
}

/**
 * The views and columns of a batch, in the thread that made it or in another.
 * @example for (let j = 0; j < batch.heaps; j++) batch.heap(j).adc_samples.fill(0)
 */
export class BatchViews<T extends object = HeapViews, I extends string = string> {
  readonly #parts: BatchParts
  readonly #names: HeapNames
  readonly #makeHeap: (views: readonly unknown[]) => object
  readonly #buffers: readonly ArrayBuffer[]
  readonly #heaps: (T | undefined)[]
  readonly #columns = new Map<string, ImmediateColumn>()

  /** @internal */
  constructor(parts: BatchParts) {
    this.#parts = parts
    this.#names = namesOf(parts)
    this.#makeHeap = heapMaker(this.#names)
    this.#buffers = parts.regions.map(attachRegion)
    this.#heaps = new Array(parts.heaps)
    const { substreams = new Uint16Array(parts.heaps) } = parts
    // Region 0 is the batch's own; places name regions of the list.
    for (const { name, columnAt } of parts.immediates)
      this.#columns.set(name, ImmediateColumn.over(this.#buffers[0]!, columnAt, substreams))
  }

  /** How many heaps the batch has. */
  get heaps(): number {
    return this.#parts.heaps
  }

  /** @internal The properties of a batch that util.inspect shows. */
  shown(): object {
    const { heaps, items, immediates } = this.#parts
    return { heaps, items: items.map(({ name }) => name), immediates: immediates.map(({ name }) => name) }
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('BatchViews', how, () => this.shown())
  }

  /**
   * Returns the views of heap `j`'s addressed items, by name, as `Batch.heap` does. They are made once and valid while the batch is open.
   * @throws ERR_SPEADCAST_VALUE for a heap that there is not; ERR_SPEADCAST_ITEM when a name is read that has no view
   * @example batch.heap(0).adc_samples.fill(1)
   */
  heap(j: number): T {
    return (typeof j === 'number' ? this.#heaps[j] : undefined) ?? this.#viewsOf(j)
  }

  /**
   * Yields one item's views, heap by heap. @throws ERR_SPEADCAST_ITEM when there is no such addressed item.
   * @example for (const samples of batch.item('adc_samples')) samples.fill(0)
   */
  item<K extends keyof T & string>(name: K): Generator<T[K]> {
    if (!this.#names.views.includes(name)) throw noView(this.#names, name)
    return this.#each(name)
  }

  *#each<K extends keyof T & string>(name: K): Generator<T[K]> {
    for (let j = 0; j < this.heaps; j++) yield this.heap(j)[name]
  }

  /**
   * Returns the staged column of an immediate item. @throws ERR_SPEADCAST_ITEM when there is no such immediate.
   * @example batch.immediate('timestamp').setRamp(0, 8192)
   */
  immediate(name: I): ImmediateColumn {
    const column = this.#columns.get(name)
    if (column) return column
    const known = this.#names.immediates.map(shown).join(', ') || 'none'
    throw new SpeadcastError('ERR_SPEADCAST_ITEM', `the batch has no immediate item ${shown(name)}; it has ${known}`)
  }

  #viewsOf(j: number): T {
    if (!(Number.isInteger(j) && j >= 0 && j < this.heaps))
      throw new SpeadcastError(
        'ERR_SPEADCAST_VALUE',
        `heap index ${shown(j)} is not below the batch's ${counted(this.heaps, 'heap')}`,
      )
    const slot = this.#parts.slots?.[j] ?? j
    const heap = this.#makeHeap(
      this.#parts.items.map((place) => {
        const { name, region, offset, stride, elements } = place
        const buffer = this.#buffers[region]!
        const at = offset + slot * stride
        const dtype = dtypeOf(place)
        return dtype ? itemView(dtype, buffer, at, elements, name) : new Uint8Array(buffer, at, elements)
      }),
    ) as T
    this.#heaps[j] = heap
    return heap
  }
}
