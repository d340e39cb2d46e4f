/** Finished heaps as a consumer sees them: plain data with memory of its own. */
import { ITEM_DESCRIPTOR, ITEM_STREAM_CTRL, STREAM_CTRL_START, STREAM_CTRL_STOP } from '../spead/constants.js'
import type { AssembledHeap } from './assembled-heap.js'
import { immediateValue } from './immediate-value.js'
import { type ItemTable, LAST_RESERVED_ID } from './items.js'
import { descriptorBytes, type ReceivedDescriptor, resolveShape, valueBytes } from './received-descriptor.js'

/** An item of a received heap. */
export interface ReceivedItem {
  /** Item id. */
  readonly id: number
  /** The name in the latest descriptor of this id; null before there is one. */
  readonly name: string | null
  /** As in `ReceivedDescriptor`; null before there is one. */
  readonly dtype: string | null
  /** Dimensions; null before there is a descriptor. A varying dimension is filled in from the length where that tells it. */
  readonly shape: (number | null)[] | null
  /** As in `ReceivedDescriptor`; 'C' before there is one. */
  readonly order: 'C' | 'F'
  /** As in `ReceivedDescriptor`; empty before there is one. */
  readonly format: readonly (readonly [code: string, bits: number])[]
  /** Whether the value stood in the item pointer. */
  readonly immediate: boolean
  /**
   * An immediate as its sender's `batch.immediate(name)` has it: the number that its descriptor makes of the bytes, or else, and where
   * that is not one number, their value as a big-endian whole number. A bigint beyond 2^53 − 1. Undefined for an addressed item.
   */
  readonly value: number | bigint | undefined
  /** The value's bytes in wire order. An immediate has as many low-order bytes as its descriptor says, or else the whole address width. */
  readonly bytes: Uint8Array<ArrayBuffer>
}

/**
 * A heap as it was received. Its memory is its own: it stays as it is as long as you keep it.
 * @example const samples = new Int8Array(heap.items.get(0x3300)!.bytes.buffer)
 */
export interface ReceivedHeap {
  /** Heap cnt; a bigint only beyond 2^53 − 1 (SPEAD-64-56). */
  readonly cnt: number | bigint
  /** The flavour of its packets. */
  readonly flavour: {
    /** Width of heap cnts, addresses and immediates. */
    readonly heapAddressBits: number
  }
  /** A number per sending socket. */
  readonly sender: number
  /** Index of the endpoint that it came to. */
  readonly endpoint: number
  /**
   * The items in the order of their pointers, without SPEAD's own (ids 0–6). Where several have one id, it is the one that spead2
   * takes.
   */
  readonly items: Map<number, ReceivedItem>
  /** Descriptors that came in this heap. */
  readonly descriptors: ReceivedDescriptor[]
  /** Whether the sender says with it that the stream begins or ends. */
  readonly control?: 'start' | 'stop'
  /** False: packets are missing, and bytes never received are zero. */
  readonly complete: boolean
  /** Item data: the lengths of the addressed items that are not descriptors. */
  readonly payloadBytes: number
  /** Packets that it came in. */
  readonly packets: number
}

// In these functions `i` is below table.count, and every column of a table is at least that long.

/** Returns 'start' or 'stop' if the heap carries that stream control item. */
export function controlOf(table: ItemTable): 'start' | 'stop' | undefined {
  const i = table.find(ITEM_STREAM_CTRL)
  if (i < 0 || !table.immediate[i]) return undefined
  const code = table.value(i)
  return code === STREAM_CTRL_STOP ? 'stop' : code === STREAM_CTRL_START ? 'start' : undefined
}

/** Returns the bytes of item data of the loaded heap, or −1 if it has no item but SPEAD's own. */
export function dataBytesOf(table: ItemTable): number {
  let bytes = -1
  for (let i = 0; i < table.count; i++) {
    if (table.ids[i]! <= LAST_RESERVED_ID) continue
    if (bytes < 0) bytes = 0
    if (!table.immediate[i]) bytes += table.length[i]!
  }
  return bytes
}

/** Returns the bytes of each descriptor item of the loaded heap, as views of `u8`. */
export function descriptorItems(heap: AssembledHeap, table: ItemTable, u8: Uint8Array): Uint8Array[] {
  const found: Uint8Array[] = []
  for (let i = 0; i < table.count; i++) {
    if (table.ids[i] !== ITEM_DESCRIPTOR || table.immediate[i]) continue
    const at = heap.at + table.offset[i]!
    found.push(u8.subarray(at, at + table.length[i]!))
  }
  return found
}

/** Returns how many low-order bytes of an immediate are the value. */
export function immediateBytes(descriptor: ReceivedDescriptor | undefined, addressBytes: number): number {
  const bytes = descriptor ? valueBytes(descriptor) : undefined
  return bytes === undefined || bytes > addressBytes ? addressBytes : bytes
}

/** Writes the low `bytes` of an immediate, big-endian, at `at`. */
export function putImmediate(table: ItemTable, i: number, u8: Uint8Array, at: number, bytes: number): void {
  const high = table.high[i]!
  const low = table.low[i]!
  for (let k = 0; k < bytes; k++) {
    const shift = 8 * (bytes - 1 - k)
    u8[at + k] = shift >= 32 ? high >>> (shift - 32) : low >>> shift
  }
}

const NO_FORMAT: readonly [string, number][] = []

/** Copies the heap out of the receive buffer, payload and immediates into one ArrayBuffer, which may be transferred. */
export function copyHeap(
  heap: AssembledHeap,
  table: ItemTable,
  u8: Uint8Array,
  known: Pick<ReadonlyMap<number, ReceivedDescriptor>, 'get'>,
  descriptors: ReceivedDescriptor[],
): ReceivedHeap {
  const chosen = new Map<number, number>()
  for (let i = 0; i < table.count; i++) {
    const id = table.ids[i]!
    if (id <= LAST_RESERVED_ID) continue
    const before = chosen.get(id)
    chosen.set(id, before === undefined ? i : table.prevailing(before, i))
  }
  const payload = chosen.size > 0 ? Math.max(0, heap.length) : 0
  const own = new Uint8Array(payload + 8 * chosen.size)
  own.set(u8.subarray(heap.at, heap.at + payload))
  let free = payload
  const items = new Map<number, ReceivedItem>()
  for (const [id, i] of chosen) {
    const descriptor = known.get(id)
    const immediate = table.immediate[i] === 1
    let at = table.offset[i]!
    let length = table.length[i]!
    if (immediate) {
      at = free
      length = immediateBytes(descriptor, heap.addressBytes)
      putImmediate(table, i, own, at, length)
      free += length
    }
    const bytes = new Uint8Array(own.buffer, at, length)
    items.set(id, {
      id,
      name: descriptor?.name ?? null,
      dtype: descriptor?.dtype ?? null,
      shape: descriptor ? resolveShape(descriptor, length) : null,
      order: descriptor?.order ?? 'C',
      format: descriptor?.format ?? NO_FORMAT,
      immediate,
      value: immediate ? immediateValue(bytes, descriptor) : undefined,
      bytes,
    })
  }
  const control = controlOf(table)
  return {
    cnt: cntOf(heap),
    flavour: { heapAddressBits: heap.addressBytes * 8 },
    sender: heap.from,
    endpoint: heap.endpoint,
    items,
    descriptors,
    ...(control && { control }),
    complete: heap.complete,
    payloadBytes: Math.max(0, dataBytesOf(table)),
    packets: heap.packets,
  }
}

/** Returns how many bytes a heap keeps until its consumer has done with it. */
export function heldBytes({ items, descriptors }: ReceivedHeap): number {
  const first = items.values().next().value
  let bytes = HEAP_BYTES + ITEM_BYTES * items.size + (first?.bytes.buffer.byteLength ?? 0)
  for (const descriptor of descriptors) bytes += descriptorBytes(descriptor)
  return bytes
}

/** About what the objects of a heap and of each item take. */
const HEAP_BYTES = 512
const ITEM_BYTES = 256

function cntOf(heap: AssembledHeap): number | bigint {
  const cnt = heap.cntNumber
  return Number.isSafeInteger(cnt) ? cnt : (BigInt(heap.cntHigh) << 32n) | BigInt(heap.cntLow)
}
