import { shown } from '../checks.js'
import { counted, ensure } from '../errors.js'
import type { Flavour } from './flavour.js'
import { planExact } from './plan-exact.js'
import { planEven, planGreedy } from './plan-packed.js'
import type { ItemPointers, PacketPlan, PlanItem, Split } from './plan-types.js'
import { checkItemId, flavourName, hex, maxAddress, pointerBase } from './pointer.js'

export type { ExactPointer, ExactSplit, PacketPlan, PlanItem, Split } from './plan-types.js'

export interface PlanOptions {
  flavour: Flavour
  items: readonly PlanItem[]
  /** Largest UDP payload: SPEAD header, item pointers and payload. */
  maxPacketSizeBytes: number
  /** Default 'even'. */
  split?: Split
  /** Every packet carries all item pointers (spead2's repeat_pointers). Default false; an exact layout has its own word for it. */
  repeatPointers?: boolean
  /**
   * The backend merges equal packets of neighbouring heaps into one message, so 'even' takes one packet more than the fewest if that makes
   * all of them equal. Default false: never more than the fewest.
   */
  mergesEqualPackets?: boolean
}

const MAX_ITEMS = 65_535

/**
 * Cuts a heap into packets. Cost: a few dozen bytes and as many stores per packet, no object per packet.
 *
 * Throws ERR_SPEADCAST_PACKET_SIZE if the packets are too small for SPEAD or for the repeated pointers, ERR_SPEADCAST_SPLIT if the heap is
 * too long for the flavour, makes too many packets or contradicts an exact layout, ERR_SPEADCAST_ITEM for an id or an immediate that
 * does not fit.
 */
export function planPackets(options: PlanOptions): PacketPlan {
  const { flavour, items, maxPacketSizeBytes, split = 'even', repeatPointers = false, mergesEqualPackets = false } = options
  // 65535 item pointers are what the packet header can count.
  ensure(
    Number.isSafeInteger(maxPacketSizeBytes) && maxPacketSizeBytes > 0 && maxPacketSizeBytes <= 8 * MAX_ITEMS,
    'ERR_SPEADCAST_PACKET_SIZE',
    () => `maximum packet size is ${shown(maxPacketSizeBytes)}; it must be a whole number of bytes up to ${8 * MAX_ITEMS}`,
  )
  const pointers = itemPointers(flavour, items)
  if (split === 'greedy') return planGreedy(flavour, pointers, maxPacketSizeBytes, repeatPointers)
  if (split === 'even') return planEven(flavour, pointers, maxPacketSizeBytes, repeatPointers, mergesEqualPackets)
  ensure(
    typeof split === 'object' && split !== null,
    'ERR_SPEADCAST_SPLIT',
    () => `split is ${shown(split)}; it must be 'even', 'greedy' or { payloadBytes, pointers }`,
  )
  return planExact(flavour, items, pointers, maxPacketSizeBytes, split, repeatPointers)
}

function itemPointers(flavour: Flavour, items: readonly PlanItem[]): ItemPointers {
  const count = items.length
  ensure(count <= MAX_ITEMS, 'ERR_SPEADCAST_SPLIT', () => `the heap has ${count} items; a heap can have up to ${MAX_ITEMS}`)
  const hi = new Uint32Array(count)
  const lo = new Uint32Array(count)
  const immediate = new Uint8Array(count)
  const limit = maxAddress(flavour)
  const width = flavour.heapAddressBits / 8
  let address = 0
  for (const [i, item] of items.entries()) {
    checkItemId(flavour, item.id)
    ensure(
      Number.isSafeInteger(item.lengthBytes) && item.lengthBytes >= 0,
      'ERR_SPEADCAST_SPLIT',
      () => `item ${hex(item.id)} has a length of ${item.lengthBytes} bytes; it must be a whole number from 0 up`,
    )
    ensure(
      !item.immediate || item.lengthBytes <= width,
      'ERR_SPEADCAST_ITEM',
      () =>
        `item ${hex(item.id)} is immediate and ${counted(item.lengthBytes, 'byte')} long; an immediate of ${flavourName(flavour)} holds ${width}`,
    )
    const base = pointerBase(flavour, item.id, item.immediate)
    hi[i] = base.hi + (item.immediate ? 0 : Math.floor(address / 2 ** 32))
    lo[i] = base.lo + (item.immediate ? 0 : address % 2 ** 32)
    immediate[i] = item.immediate ? 1 : 0
    if (!item.immediate) address += item.lengthBytes
    ensure(
      address <= limit,
      'ERR_SPEADCAST_SPLIT',
      () =>
        `the heap payload reaches ${address} bytes with item ${hex(item.id)}; ${flavourName(flavour)} addresses up to ${limit}: ` +
        'send smaller heaps or use more heap address bits',
    )
  }
  return { count, hi, lo, immediate, payloadBytes: address }
}
