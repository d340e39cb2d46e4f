import { isInstance, isObject, readPlain, shown } from '../checks.js'
import { ensure, INSPECT, type Inspection, inspected, printable, SpeadcastError } from '../errors.js'
import type { Descriptor } from './descriptor.js'
import type { DtypeText } from './dtype-text.js'
import { DEFAULT_FLAVOUR, type Flavour, makeFlavour } from './flavour.js'
import { Heap } from './heap.js'
import { ITEM_KEYS, Item, type ItemInit } from './item.js'
import type { EntryOf, FormatField, NameIn, Shape, WithItem } from './item-types.js'
import { hex } from './pointer.js'

/**
 * Options of `new ItemGroup`.
 * @example new ItemGroup({ descriptorFrequency: 100 })
 */
export interface ItemGroupOptions {
  /** The flavour of the heaps that `getHeap` makes; default SPEAD-64-48. */
  flavour?: Flavour
  /** 'stale' descriptors are those not sent within this many heaps; default: sent once. */
  descriptorFrequency?: number
}

/**
 * Chooses what `getHeap` puts into a heap.
 * @example await stream.sendHeap(items.getHeap({ descriptors: 'all', data: 'none' }))
 */
export interface HeapSelection {
  /** Which descriptors. 'stale' (default): never sent, sent `descriptorFrequency` heaps ago, or of an item replaced since. */
  descriptors?: 'stale' | 'all' | 'none'
  /** Which values. 'stale' (default): the item's version changed since it was last in a heap. */
  data?: 'stale' | 'all' | 'none'
}

/** Records what the group's heaps have carried of an item id. */
interface Sent {
  item: Item
  version: number | undefined
  descriptorHeap: number | undefined
}

/** Lowest id given to items without one (spead2's; SPEAD itself keeps those below 0x400). */
const FIRST_AUTO_ID = 0x1000

declare const ITEMS: unique symbol

/**
 * The items of a stream, by name and id, and what of them has been sent. Its rules are those of spead2's ItemGroup and HeapGenerator.
 *
 * Its type says which items it has, by name, and `createBatch` takes from it what views a heap has:
 *
 * ```ts
 * const items = new ItemGroup()
 *   .add({ name: 'timestamp', format: [['u', 48]] })
 *   .add({ name: 'adc_samples', dtype: 'i1', shape: [8192] })
 * stream.createBatch({ items, heaps: 64 }).heap(0).adc_samples.fill(1) // an Int8Array
 * ```
 *
 * The type is that of what `add` returned last, so keep it: items that are added to a variable afterwards are not in the variable's type. The
 * type knows nothing of a plain `ItemGroup`, of one that was added to without chaining from the start, and of names that are only known when
 * the program runs. Views have loose types there: give `createBatch` the option `views`.
 * @example const items = new ItemGroup().add({ name: 'adc_samples', dtype: 'i1', shape: [8192] })
 */
export interface ItemGroup<out G = unknown> {
  /** @hidden The items are in the type alone. */
  readonly [ITEMS]: G
  /** The flavour of the heaps that `getHeap` makes. A batch has that of its stream. */
  readonly flavour: Flavour

  /**
   * Adds an item; chainable. An item identical but for its value to one of the group only passes its value, if it has one, on to that.
   * Otherwise items with the same id or the same name are replaced, and the new one's version is above theirs. A group that is built in one
   * expression may have 90 items; build a larger one in two.
   * @throws ERR_SPEADCAST_ITEM for what describes no item
   * @example const two = new ItemGroup().add({ name: 'gain', dtype: '<f4' }).add({ name: 'samples', dtype: 'i1', shape: [8192] })
   */
  add<
    T,
    const N extends string = string,
    const D extends DtypeText = never,
    const F extends readonly FormatField[] = never,
    const S extends Shape = [],
    A extends boolean = true,
  >(
    this: ItemGroup<T>,
    // Without the N, a template of text, such as `beam_${i}`, would be a plain string here, and no name of an ItemInit.
    init: ItemInit<N, D, F, S, A> | (Item & { readonly name: N }),
  ): ItemGroup<WithItem<T, N, EntryOf<D, F, S, A>>>

  /**
   * Returns the item of a name or an id. @throws ERR_SPEADCAST_ITEM if there is none
   * @example items.get('adc_samples').value = new Int8Array(8192)
   */
  get<T>(this: ItemGroup<T>, nameOrId: NameIn<T> | number): Item

  /**
   * Whether there is an item of that name or id.
   * @example if (items.has(0x1600)) items.get(0x1600).value = 0
   */
  has(nameOrId: string | number): boolean

  /**
   * Returns the items in the order they were added.
   * @example for (const { id, name } of items.items()) console.log(id, name)
   */
  items(): Item[]

  /**
   * Makes a heap of what the receivers do not know yet, or of everything. Each item's descriptor comes directly before its value; an item
   * without a value gives a descriptor only.
   * @throws ERR_SPEADCAST_VALUE for a value that its item cannot have
   * @example await stream.sendHeap(items.getHeap({ data: 'all' }))
   */
  getHeap(selection?: HeapSelection): Heap
}

/** Makes item groups: `new ItemGroup({ descriptorFrequency: 100 })`. */
export interface ItemGroupConstructor {
  /** @throws ERR_SPEADCAST_CONFIG */
  // biome-ignore lint/complexity/noBannedTypes: no items yet, and `keyof` of it is never
  new (options?: ItemGroupOptions): ItemGroup<{}>
  /** For `instanceof`. */
  readonly prototype: ItemGroup
}

class Group {
  readonly flavour: Flavour
  readonly #frequency: number | undefined
  readonly #byName = new Map<string, Item>()
  readonly #byId = new Map<number, Item>()
  readonly #sent = new Map<number, Sent>()
  #heaps = 0

  constructor(options: ItemGroupOptions = {}) {
    ensure(isObject(options), 'ERR_SPEADCAST_CONFIG', () => `new ItemGroup: the options are ${shown(options)}; give an object`)
    const { flavour = DEFAULT_FLAVOUR, descriptorFrequency } = readPlain('new ItemGroup', options, [
      'flavour',
      'descriptorFrequency',
    ])
    ensure(
      descriptorFrequency === undefined || (Number.isSafeInteger(descriptorFrequency) && descriptorFrequency > 0),
      'ERR_SPEADCAST_CONFIG',
      () => `descriptorFrequency is ${shown(descriptorFrequency)}; it must be a whole number of heaps from 1 up`,
    )
    this.flavour = makeFlavour(flavour)
    this.#frequency = descriptorFrequency
  }

  add(init: ItemInit | Item): this {
    ensure(
      isObject(init),
      'ERR_SPEADCAST_ITEM',
      () => `add: the item is ${shown(init)}; give an object such as { name, dtype, shape }`,
    )
    const item = isInstance(init, Item) ? init : this.#itemOf(init)
    const sameId = this.#byId.get(item.id)
    const sameName = this.#byName.get(item.name)
    if (sameId && identical(sameId, item)) {
      if (item.value !== undefined && sameId !== item) sameId.value = item.value
      return this
    }
    for (const old of [sameId, sameName]) {
      if (!old) continue
      item.version = Math.max(item.version, old.version + 1)
      this.#byId.delete(old.id)
      this.#byName.delete(old.name)
    }
    this.#byId.set(item.id, item)
    this.#byName.set(item.name, item)
    return this
  }

  #itemOf(init: ItemInit): Item {
    const { id, ...rest } = readPlain('add', init, ITEM_KEYS, 'ERR_SPEADCAST_ITEM')
    return new Item({ ...rest, id: id ?? this.#freeId() })
  }

  #freeId(): number {
    let id = FIRST_AUTO_ID
    while (this.#byId.has(id)) id++
    return id
  }

  get(nameOrId: string | number): Item {
    const item = this.#find(nameOrId)
    if (item) return item
    const asked =
      typeof nameOrId === 'number'
        ? `id ${hex(nameOrId)}`
        : typeof nameOrId === 'string'
          ? `name '${printable(nameOrId)}'`
          : `name ${shown(nameOrId)}`
    const known = this.items().map(({ name, id }) => `'${name}' (${hex(id)})`)
    throw new SpeadcastError('ERR_SPEADCAST_ITEM', `no item of ${asked} in the group; it has ${known.join(', ') || 'none'}`)
  }

  has(nameOrId: string | number): boolean {
    return this.#find(nameOrId) !== undefined
  }

  #find(nameOrId: string | number): Item | undefined {
    return typeof nameOrId === 'number' ? this.#byId.get(nameOrId) : this.#byName.get(nameOrId)
  }

  items(): Item[] {
    return [...this.#byName.values()]
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('ItemGroup', how, () => ({ flavour: this.flavour, items: this.items() }))
  }

  getHeap(selection: HeapSelection = {}): Heap {
    ensure(isObject(selection), 'ERR_SPEADCAST_CONFIG', () => `getHeap: the selection is ${shown(selection)}; give an object`)
    const { descriptors = 'stale', data = 'stale' } = readPlain('getHeap', selection, ['descriptors', 'data'])
    for (const [option, choice] of Object.entries({ descriptors, data }))
      ensure(
        choice === 'stale' || choice === 'all' || choice === 'none',
        'ERR_SPEADCAST_CONFIG',
        () => `${option} is ${shown(choice)}; it must be 'stale', 'all' or 'none'`,
      )
    const heap = new Heap(this.flavour)
    const record = new Map<number, Sent>()
    for (const item of this.#byName.values()) {
      const sent = { ...(this.#sent.get(item.id) ?? { item, version: undefined, descriptorHeap: undefined }) }
      record.set(item.id, sent)
      if (descriptors === 'all' || (descriptors === 'stale' && this.#descriptorStale(item, sent))) {
        heap.addDescriptor(item)
        sent.descriptorHeap = this.#heaps
      }
      if (item.value !== undefined && (data === 'all' || (data === 'stale' && sent.version !== item.version))) {
        heap.addItem(item)
        sent.version = item.version
      }
    }
    // Recorded only now, because a heap that could not be made has told no receiver anything.
    for (const [id, sent] of record) this.#sent.set(id, sent)
    this.#heaps++
    return heap
  }

  /** Also forgets, in `sent`, the value sent under this id if another item has it now, as spead2 does. */
  #descriptorStale(item: Item, sent: Sent): boolean {
    if (sent.descriptorHeap === undefined) return true
    if (this.#frequency !== undefined && this.#heaps - sent.descriptorHeap >= this.#frequency) return true
    if (sent.item === item) return false
    sent.item = item
    sent.version = undefined
    return true
  }
}

Object.defineProperty(Group, 'name', { value: 'ItemGroup' })

/** Makes item groups. @throws ERR_SPEADCAST_CONFIG */
export const ItemGroup = Group as unknown as ItemGroupConstructor

/** Same but for the value. */
const identical = (a: Descriptor, b: Descriptor): boolean => a.describesAs(b) && a.allowImmediate === b.allowImmediate
