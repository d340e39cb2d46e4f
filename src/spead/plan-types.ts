import type { Flavour } from './flavour.js'

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
  | {
      /** Item id. */
      readonly item: number
      /** Sets the immediate bit of an addressed item. Default false. */
      readonly addressAsImmediate?: boolean
    }

/**
 * The packet layout of an interface document.
 * @example
 * const split: ExactSplit = {
 *   payloadBytes: 4096,
 *   pointers: ['heap-cnt', 'heap-length', 'payload-offset', 'payload-length', { item: 0x1600 }, { item: 0x3300 }],
 * }
 */
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

/** The items' pointers with everything but immediates in them, and the heap payload's length. */
export interface ItemPointers {
  readonly count: number
  readonly hi: Uint32Array
  readonly lo: Uint32Array
  /** 1 where the value comes later. */
  readonly immediate: Uint8Array
  readonly payloadBytes: number
}
