import { readPlain, shown } from '../checks.js'
import { INSPECT, type Inspection, inspected, words } from '../errors.js'
import { Descriptor, ITEM_OPTIONS, type ItemOptions, properties } from './descriptor.js'
import type { DtypeText } from './dtype-text.js'
import type { FormatField, Shape } from './item-types.js'
import type { ItemValue } from './value.js'

/**
 * Where an item's value comes from. Typed arrays, buffers and nested arrays are referred to, not copied, and read again whenever a heap
 * with the item is sent; a function is called then.
 */
export type ItemSource = ItemValue | (() => ItemValue)

/**
 * Describes an item, and gives it a value.
 * @example items.add({ id: 0x1600, name: 'timestamp', format: [['u', 48]], value: 0 })
 */
export interface ItemInit<
  N extends string = string,
  D extends DtypeText = DtypeText,
  F extends readonly FormatField[] = readonly FormatField[],
  S extends Shape = Shape,
  A extends boolean = boolean,
> extends ItemOptions<N, D, F, S, A> {
  /** Where the value comes from; default: the item has none yet. */
  value?: ItemSource | null
}

/** All that an ItemInit may have. */
export const ITEM_KEYS = [...ITEM_OPTIONS, 'value'] as const satisfies readonly (keyof ItemInit)[]

/**
 * A descriptor with a value.
 * @example const gain = new Item({ id: 0x1700, name: 'gain', dtype: '<f4', value: 1.5 })
 */
export class Item extends Descriptor {
  /** 1 at first, one more with every assignment to `value`. Raise it by hand after changing a value in place. */
  version = 1
  #value: ItemSource | undefined

  /** The value is checked when the item goes into a heap. @throws ERR_SPEADCAST_ITEM */
  constructor(init: ItemInit) {
    super(init)
    this.#value = readPlain('new Item', init, ['value'], 'ERR_SPEADCAST_ITEM').value ?? undefined
  }

  /** Where the value comes from. undefined: it has none, and is not sent. Assigning raises `version`. */
  get value(): ItemSource | undefined {
    return this.#value
  }

  /** A null or undefined source takes the value away. */
  set value(value: ItemSource | null | undefined) {
    this.#value = value ?? undefined
    this.version++
  }

  /** @internal */
  override [INSPECT](...how: Inspection): string {
    const { version, value } = this
    return inspected('Item', how, () => ({
      ...properties(this),
      ...(value !== undefined && { value: words(shown(value)) }),
      version,
    }))
  }
}
