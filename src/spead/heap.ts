import type { Descriptor } from './descriptor.js'
import { DEFAULT_FLAVOUR, type Flavour } from './flavour.js'
import type { Item } from './item.js'
import type { PacketPlan, Split } from './plan.js'
export interface HeapEntry {
  readonly id: number
  readonly name: string
  readonly kind: 'item' | 'descriptor' | 'control'
  readonly immediate: boolean
  readonly lengthBytes: number
  bytes(): Uint8Array
}
export interface RawItem {
  id: number
  name?: string
  bytes: Uint8Array | (() => Uint8Array)
  allowImmediate: boolean
}
export class Heap {
  repeatPointers = false
  constructor(readonly flavour: Flavour = DEFAULT_FLAVOUR) {}
  addItem(item: Item): this {
    throw new Error(`${item}`)
  }
  addRaw(raw: RawItem): this {
    throw new Error(`${raw}`)
  }
  addDescriptor(descriptor: Descriptor): this {
    throw new Error(`${descriptor}`)
  }
  addStart(): this {
    throw new Error('unwritten')
  }
  addEnd(): this {
    throw new Error('unwritten')
  }
  get entries(): readonly HeapEntry[] {
    throw new Error('unwritten')
  }
  shapeKey(): string {
    throw new Error('unwritten')
  }
}
export function planOf(heap: Heap, options: { maxPacketSizeBytes: number; split?: Split }): PacketPlan {
  throw new Error(`${heap}${options}`)
}
export function packetsOf(heap: Heap, cnt: number | bigint, options: { maxPacketSizeBytes: number; split?: Split }): Uint8Array[] {
  throw new Error(`${heap}${cnt}${options}`)
}
