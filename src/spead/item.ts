import { Descriptor, type ItemOptions } from './descriptor.js'
import type { Flavour } from './flavour.js'
import type { Heap } from './heap.js'
import type { ItemValue } from './value.js'
export type ItemSource = ItemValue | (() => ItemValue)
export interface ItemInit extends ItemOptions {
  value?: ItemSource | null
}
export class Item extends Descriptor {
  version = 1
  constructor(init: ItemInit) {
    super(init)
    throw new Error('unwritten')
  }
  get value(): ItemSource | undefined {
    throw new Error('unwritten')
  }
  set value(value: ItemSource | null | undefined) {
    throw new Error(`${value}`)
  }
}
export interface HeapSelection {
  descriptors?: 'stale' | 'all' | 'none'
  data?: 'stale' | 'all' | 'none'
}
export class ItemGroup {
  constructor(options?: { flavour?: Flavour; descriptorFrequency?: number }) {
    throw new Error(`${options}`)
  }
  add(item: ItemInit | Item): this {
    throw new Error(`${item}`)
  }
  get(nameOrId: string | number): Item {
    throw new Error(`${nameOrId}`)
  }
  has(nameOrId: string | number): boolean {
    throw new Error(`${nameOrId}`)
  }
  items(): Item[] {
    throw new Error('unwritten')
  }
  getHeap(selection?: HeapSelection): Heap {
    throw new Error(`${selection}`)
  }
}
