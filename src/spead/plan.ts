import type { Flavour } from './flavour.js'
export interface PlanItem {
  id: number
  immediate: boolean
  lengthBytes: number
}
export type ExactPointer =
  | 'heap-cnt'
  | 'heap-length'
  | 'payload-offset'
  | 'payload-length'
  | { item: number; addressAsImmediate?: boolean }
  | 'padding'
export interface ExactSplit {
  payloadBytes: number
  pointers: readonly ExactPointer[]
  repeat?: boolean
}
export type Split = 'greedy' | 'even' | ExactSplit
export interface PacketPlan {
  readonly flavour: Flavour
  readonly packets: number
  readonly heapLengthBytes: number
  readonly paddingBytes: number
  readonly headers: Uint8Array
  readonly headerStart: Uint32Array
  readonly payloadStart: Float64Array
  readonly cntAt: Int32Array
  readonly immediateItem: Uint16Array
  readonly immediatePacket: Uint32Array
  readonly immediateAt: Uint32Array
}
export function planPackets(options: {
  flavour: Flavour
  items: readonly PlanItem[]
  maxPacketSizeBytes: number
  split?: Split
  repeatPointers?: boolean
}): PacketPlan {
  throw new Error(`${options}`)
}
