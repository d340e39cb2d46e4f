import type { Descriptor } from './descriptor.js'
export type ItemValue = number | bigint | boolean | string | ArrayBufferLike | ArrayBufferView | readonly ItemValue[]
export function encodeValue(descriptor: Descriptor, value: ItemValue): Uint8Array {
  throw new Error(`${descriptor}${value}`)
}
