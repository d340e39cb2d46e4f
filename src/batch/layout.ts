/**
 * Lays out a batch's bytes: headers, payloads and staged columns of `heaps` equal heaps. The layout is no part of the API; views are handed
 * out per heap and item.
 *
 * Interleaved (one packet per heap): header, payload, header, payload … without gaps, so that many packets are one contiguous segment of
 * one GSO message (2–3 times the rate of separate segments at small heaps). Apart (several packets per heap): all headers, then each heap's
 * payload contiguous in wire order. A heap payload has no padding between items, because addresses count from the start of the concatenated
 * items (SPEAD §8). So where no single start address aligns every item's typed array, the items are stored apart and the packets gather
 * them.
 *
 * Interleaved heaps stand in the order they are sent in, because only then a message is one segment. Apart, a segment ends with its packet
 * in any order, so heaps stand in their own.
 */

import { counted, ensure } from '../errors.js'
import type { PacketPlan } from '../spead/index.js'
import type { PayloadPart } from './compile.js'

export interface AddressedItem {
  readonly name: string
  readonly lengthBytes: number
  /** BYTES_PER_ELEMENT of its view. */
  readonly alignment: number
  /** Set where the item's data lives in a region of the user's: heap j's at offset + j × stride. */
  readonly external?: { readonly region: number; readonly offset: number; readonly stride: number }
}

export interface ItemPlace {
  readonly name: string
  readonly region: number
  readonly offset: number
  readonly stride: number
  readonly lengthBytes: number
}

export interface BatchLayout {
  readonly interleaved: boolean
  readonly byteLength: number
  readonly columnsAt: number
  /** Heap j has the slots[j]-th place in memory; undefined: it has the j-th. */
  readonly slots?: Uint32Array
  headerOffset(heap: number): number
  parts(heap: number): PayloadPart[]
  readonly places: readonly ItemPlace[]
}

const CACHE_LINE = 64
/** Offsets in the packet tables are 32-bit, and huge pages round up. */
const MAX_BATCH_BYTES = 2 ** 32 - 2 ** 21
/** The most bytes by which rounding makes a layout larger. */
const ROUNDING_BYTES = 4096

const roundUp = (n: number, to: number): number => Math.ceil(n / to) * to

/**
 * @param byteLength length of the layout
 * @param extraBytes length of whatever stands behind it
 * @throws ERR_SPEADCAST_MEMORY when a batch, with samples that live elsewhere, would exceed 4 GiB
 */
export function checkBatchBytes(byteLength: number, extraBytes: number, heaps: number, payloadBytes: number): void {
  const bytes = Math.max(byteLength, heaps * payloadBytes)
  ensure(bytes + extraBytes <= MAX_BATCH_BYTES, 'ERR_SPEADCAST_MEMORY', () => {
    const most = Math.floor((MAX_BATCH_BYTES - extraBytes - ROUNDING_BYTES) / Math.ceil(bytes / heaps))
    return `a batch of ${counted(heaps, 'heap')} × ${payloadBytes} bytes exceeds 4 GiB; ${most > 0 ? `use at most ${counted(most, 'heap')} per batch` : 'use smaller heaps'}`
  })
}

/**
 * @param columns number of columns of staged values, which have a double per heap and two more
 * @param order the heaps in the order they are sent in; undefined: in their own
 * @throws ERR_SPEADCAST_MEMORY when the batch would exceed 4 GiB
 */
export function layoutBatch(
  plan: PacketPlan,
  items: readonly AddressedItem[],
  heaps: number,
  columns: number,
  order?: Uint32Array,
): BatchLayout {
  const layout = arrange(plan, items, heaps, columns, order)
  checkBatchBytes(layout.byteLength, 0, heaps, plan.heapLengthBytes)
  return layout
}

function arrange(
  plan: PacketPlan,
  items: readonly AddressedItem[],
  heaps: number,
  columns: number,
  order: Uint32Array | undefined,
): BatchLayout {
  const headerBytes = plan.headers.length
  const payloadBytes = plan.heapLengthBytes
  const anyExternal = items.some((item) => item.external)
  // One for each item.
  const offsets = startOffsets(items)
  const stride = headerBytes + payloadBytes
  const widest = Math.max(1, ...items.map((item) => item.alignment))
  const aligned = (base: number): boolean => items.every((item, i) => (base + offsets[i]!) % item.alignment === 0)

  if (plan.packets === 1 && !anyExternal && aligned(headerBytes) && (heaps === 1 || stride % widest === 0)) {
    const slots = order && inverse(order)
    // `j` is below `heaps`, and `order` names each heap once.
    const at = slots ? (j: number) => slots[j]! * stride : (j: number) => j * stride
    return {
      interleaved: true,
      ...(slots && { slots }),
      columnsAt: roundUp(heaps * stride, CACHE_LINE),
      byteLength: roundUp(heaps * stride, CACHE_LINE) + columns * (heaps + 2) * 8,
      headerOffset: at,
      parts: (j) => [{ region: 0, offset: at(j) + headerBytes, length: payloadBytes }],
      places: items.map((item, i) => ({
        name: item.name,
        region: 0,
        offset: headerBytes + offsets[i]!,
        stride,
        lengthBytes: item.lengthBytes,
      })),
    }
  }

  const payloadAt = roundUp(heaps * headerBytes, CACHE_LINE)
  let base = 0
  while (base < 16 && !aligned(base)) base++
  if (!anyExternal && base < 16) {
    const payloadStride = roundUp(base + payloadBytes, CACHE_LINE)
    const columnsAt = payloadAt + heaps * payloadStride
    return {
      interleaved: false,
      columnsAt,
      byteLength: columnsAt + columns * (heaps + 2) * 8,
      headerOffset: (j) => j * headerBytes,
      parts: (j) => [{ region: 0, offset: payloadAt + j * payloadStride + base, length: payloadBytes }],
      places: items.map((item, i) => ({
        name: item.name,
        region: 0,
        offset: payloadAt + base + offsets[i]!,
        stride: payloadStride,
        lengthBytes: item.lengthBytes,
      })),
    }
  }

  let at = payloadAt
  const places = items.map((item): ItemPlace => {
    if (item.external) return { name: item.name, ...item.external, lengthBytes: item.lengthBytes }
    const place = {
      name: item.name,
      region: 0,
      offset: at,
      stride: roundUp(item.lengthBytes, CACHE_LINE),
      lengthBytes: item.lengthBytes,
    }
    at += heaps * place.stride
    return place
  })
  const paddingAt = at
  const columnsAt = roundUp(paddingAt + plan.paddingBytes, CACHE_LINE)
  return {
    interleaved: false,
    columnsAt,
    byteLength: columnsAt + columns * (heaps + 2) * 8,
    headerOffset: (j) => j * headerBytes,
    parts: (j) => [
      ...places.map((place) => ({ region: place.region, offset: place.offset + j * place.stride, length: place.lengthBytes })),
      { region: 0, offset: paddingAt, length: plan.paddingBytes },
    ],
    places,
  }
}

function inverse(order: Uint32Array): Uint32Array {
  const slots = new Uint32Array(order.length)
  for (const [slot, heap] of order.entries()) slots[heap] = slot
  return slots
}

function startOffsets(items: readonly AddressedItem[]): number[] {
  let at = 0
  return items.map((item) => {
    const offset = at
    at += item.lengthBytes
    return offset
  })
}
