import { check } from '../errors.js'
import type { Flavour } from './flavour.js'
import { planExact } from './plan-exact.js'
import { planEven, planGreedy } from './plan-packed.js'
import { checkItemId, flavourName, hex, maxAddress, pointerBase } from './pointer.js'

/** One item of a heap as the plan sees it. */
export interface PlanItem {
  id: number
  /** The value stands in the item pointer; at most N/8 bytes. */
  immediate: boolean
  lengthBytes: number
}

/**
 * One item pointer of an exact layout. The first four are SPEAD's immediates 1 to 4; 'padding' is an immediate NULL (id 0, value 0),
 * which receivers skip wherever it stands. `{ item }` is the heap's item of that id (its n-th mention the n-th such item), immediate
 * or addressed as the heap has it; `addressAsImmediate` sets the immediate bit of an addressed one all the same, for firmware
 * that wants the payload's offset as a value.
 */
export type ExactPointer =
  | 'heap-cnt'
  | 'heap-length'
  | 'payload-offset'
  | 'payload-length'
  | 'padding'
  | { readonly item: number; readonly addressAsImmediate?: boolean }

/** The packet layout of an interface document. */
export interface ExactSplit {
  /** Item payload bytes of every packet; the last has what is left. 0 only for a heap of immediates. */
  payloadBytes: number
  /** The item pointers of a packet in their order; every item of the heap must be among them. */
  pointers: readonly ExactPointer[]
  /**
   * True (default): every packet carries the whole list. False: the first does, the others only the standard pointers in it
   * ('heap-cnt' … 'payload-length').
   */
  repeat?: boolean
}

/**
 * 'greedy': spead2's packets. 'even': the fewest packets, all of one size where that is possible, else with a shorter last one. Where the
 * backend merges equal packets into messages (`udp` with segmentation offload), 'even' takes one packet more if that makes all equal.
 * Or an exact layout.
 */
export type Split = 'greedy' | 'even' | ExactSplit

/**
 * How a heap is cut into packets, as flat arrays. The heap payload is the addressed items one after the other, in the order they were
 * added, then the padding zeros.
 */
export interface PacketPlan {
  readonly flavour: Flavour
  readonly packets: number
  /** Addressed item bytes + padding: what the heap-length pointer says. */
  readonly heapLengthBytes: number
  /** Zeros at the end of the heap payload, there because no packet may be without payload. */
  readonly paddingBytes: number
  /** Header and item pointers of all packets, heap cnt and immediates zero. */
  readonly headers: Uint8Array
  /** packets + 1: packet p's header is `headers[headerStart[p]…headerStart[p + 1]]`. */
  readonly headerStart: Uint32Array
  /** packets + 1: packet p carries the bytes payloadStart[p] … payloadStart[p + 1] of the heap payload. */
  readonly payloadStart: Float64Array
  /** Offset of the heap cnt's item pointer within packet p's header, or −1. */
  readonly cntAt: Int32Array
  /** The item pointers to fill: item immediateItem[i] stands in packet immediatePacket[i], at immediateAt[i] within its header. */
  readonly immediateItem: Uint16Array
  readonly immediatePacket: Uint32Array
  readonly immediateAt: Uint32Array
}

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

/** The items' pointers with everything but immediates in them, and the heap payload's length. */
export interface ItemPointers {
  readonly count: number
  readonly hi: Uint32Array
  readonly lo: Uint32Array
  /** 1 where the value comes later. */
  readonly immediate: Uint8Array
  readonly payloadBytes: number
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
  check(
    Number.isSafeInteger(maxPacketSizeBytes) && maxPacketSizeBytes > 0 && maxPacketSizeBytes <= 8 * MAX_ITEMS,
    'ERR_SPEADCAST_PACKET_SIZE',
    () => `maximum packet size is ${maxPacketSizeBytes}; it must be a whole number of bytes up to ${8 * MAX_ITEMS}`,
  )
  const pointers = itemPointers(flavour, items)
  if (split === 'greedy') return planGreedy(flavour, pointers, maxPacketSizeBytes, repeatPointers)
  if (split === 'even') return planEven(flavour, pointers, maxPacketSizeBytes, repeatPointers, mergesEqualPackets)
  check(
    typeof split === 'object' && split !== null,
    'ERR_SPEADCAST_SPLIT',
    () => `split is ${split}; it must be 'even', 'greedy' or { payloadBytes, pointers }`,
  )
  return planExact(flavour, items, pointers, maxPacketSizeBytes, split, repeatPointers)
}

function itemPointers(flavour: Flavour, items: readonly PlanItem[]): ItemPointers {
  const count = items.length
  check(count <= MAX_ITEMS, 'ERR_SPEADCAST_SPLIT', () => `the heap has ${count} items; a heap can have up to ${MAX_ITEMS}`)
  const hi = new Uint32Array(count)
  const lo = new Uint32Array(count)
  const immediate = new Uint8Array(count)
  const limit = maxAddress(flavour)
  const width = flavour.heapAddressBits / 8
  let address = 0
  for (let i = 0; i < count; i++) {
    const item = items[i]
    checkItemId(flavour, item.id)
    check(
      Number.isSafeInteger(item.lengthBytes) && item.lengthBytes >= 0,
      'ERR_SPEADCAST_SPLIT',
      () => `item ${hex(item.id)} has a length of ${item.lengthBytes} bytes; it must be a whole number from 0 up`,
    )
    check(
      !item.immediate || item.lengthBytes <= width,
      'ERR_SPEADCAST_ITEM',
      () =>
        `item ${hex(item.id)} is immediate and ${item.lengthBytes} bytes long; an immediate of ${flavourName(flavour)} holds ${width}`,
    )
    const base = pointerBase(flavour, item.id, item.immediate)
    hi[i] = base.hi + (item.immediate ? 0 : Math.floor(address / 2 ** 32))
    lo[i] = base.lo + (item.immediate ? 0 : address % 2 ** 32)
    immediate[i] = item.immediate ? 1 : 0
    if (!item.immediate) address += item.lengthBytes
    check(
      address <= limit,
      'ERR_SPEADCAST_SPLIT',
      () =>
        `the heap payload reaches ${address} bytes with item ${hex(item.id)}; ${flavourName(flavour)} addresses up to ${limit}: ` +
        'send smaller heaps or use more heap address bits',
    )
  }
  return { count, hi, lo, immediate, payloadBytes: address }
}
