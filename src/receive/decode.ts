/**
 * Reads one SPEAD packet (SPEAD protocol document, section 8): any flavour from SPEAD-64-8 to 64-56, item pointers in any order. Nothing
 * here throws, because packets come from anybody.
 */
import {
  HEADER_BYTES,
  ITEM_HEAP_CNT,
  ITEM_HEAP_LENGTH,
  ITEM_PAYLOAD_LENGTH,
  ITEM_PAYLOAD_OFFSET,
  ITEM_STREAM_CTRL,
  MAGIC,
  POINTER_BYTES,
  STREAM_CTRL_STOP,
  VERSION,
} from '../spead/constants.js'

/** The findings of decodePacket; one object, reused for every packet. */
export class PacketHeader {
  /** Bytes of a heap address: the N/8 of SPEAD-64-N. */
  addressBytes = 0
  /** Heap cnt, in halves because 56 bits do not fit a double. */
  cntHigh = 0
  cntLow = 0
  /** −1 where the packet does not say. */
  heapLength = -1
  /** Whether the packet says; `payloadOffset` is 0 if not. */
  hasPayloadOffset = false
  payloadOffset = 0
  payloadLength = 0
  /** Where the payload starts, in the same buffer as the packet. */
  payloadAt = 0
  /** Where the item pointers start, and how many there are, the four standard ones included. */
  pointersAt = 0
  pointers = 0
  /** How many pointers there are beside the standard ones; the heap has to remember those. */
  itemPointers = 0
  /** Whether a stream control item says that this heap is the last. */
  stop = false
}

export const PACKET_OK = 0
/** The reasons to refuse a packet, by decodePacket's result. */
export const MALFORMED = [
  '',
  'shorter than a SPEAD header',
  'no SPEAD version 4 magic',
  'item id and heap address widths do not add up to 8 bytes',
  'item pointers reach beyond the packet',
  'no heap cnt',
  'payload reaches beyond the packet',
  'payload reaches beyond the heap',
] as const

// The bits of a pointer's high and low word that belong to the value, by heap address bytes, which are from 1 to 7.
const VALUE_HIGH = new Uint32Array([0, 0, 0, 0, 0, 0xff, 0xffff, 0xffffff])
const VALUE_LOW = new Uint32Array([0, 0xff, 0xffff, 0xffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff])

/** The high word's part of a pointer's value. */
export const valueHigh = (hi: number, addressBytes: number): number => (hi & VALUE_HIGH[addressBytes]!) >>> 0
/** The low word's part of a pointer's value. */
export const valueLow = (lo: number, addressBytes: number): number => (lo & VALUE_LOW[addressBytes]!) >>> 0
/** A pointer's address or immediate as a double: exact to 2^53, and nothing that must be exact is larger. */
export const pointerValue = (hi: number, lo: number, addressBytes: number): number =>
  valueHigh(hi, addressBytes) * 0x100000000 + valueLow(lo, addressBytes)
/** The item id: the 63 − N bits above the value. */
export function idOf(hi: number, lo: number, addressBytes: number): number {
  const top = hi & 0x7fffffff
  const bits = addressBytes * 8
  return bits >= 32 ? top >>> (bits - 32) : top * 2 ** (32 - bits) + (lo >>> bits)
}

/**
 * Decodes the packet at bytes at … at+length−1 of `view` into `out`. Returns PACKET_OK or an index into MALFORMED. Allocates nothing and
 * passes once over the item pointers. Missing pointers have defaults: heap length unknown, offset 0, payload up to the packet's end
 * (SKA-Low's station beams send neither length nor offset of the heap).
 */
export function decodePacket(view: DataView, at: number, length: number, out: PacketHeader): number {
  if (length < HEADER_BYTES) return 1
  const magic = view.getUint32(at)
  if (magic >>> 16 !== ((MAGIC << 8) | VERSION)) return 2
  const addressBytes = magic & 0xff
  if (addressBytes < 1 || addressBytes > 7 || ((magic >>> 8) & 0xff) + addressBytes !== 8) return 3
  const pointers = view.getUint16(at + 6)
  const payloadAt = at + HEADER_BYTES + pointers * POINTER_BYTES
  const room = at + length - payloadAt
  if (room < 0) return 4
  let hasCnt = false
  let heapLength = -1
  let offset = -1
  let payloadLength = -1
  let others = 0
  let stop = false
  for (let p = at + HEADER_BYTES; p < payloadAt; p += POINTER_BYTES) {
    const hi = view.getUint32(p)
    const lo = view.getUint32(p + 4)
    const id = hi >>> 31 ? idOf(hi, lo, addressBytes) : 0
    if (id === ITEM_HEAP_CNT) {
      out.cntHigh = valueHigh(hi, addressBytes)
      out.cntLow = valueLow(lo, addressBytes)
      hasCnt = true
    } else if (id === ITEM_HEAP_LENGTH) heapLength = pointerValue(hi, lo, addressBytes)
    else if (id === ITEM_PAYLOAD_OFFSET) offset = pointerValue(hi, lo, addressBytes)
    else if (id === ITEM_PAYLOAD_LENGTH) payloadLength = pointerValue(hi, lo, addressBytes)
    else {
      others++
      if (id === ITEM_STREAM_CTRL && valueLow(lo, addressBytes) === STREAM_CTRL_STOP && valueHigh(hi, addressBytes) === 0)
        stop = true
    }
  }
  if (!hasCnt) return 5
  if (payloadLength > room) return 6
  if (payloadLength < 0) payloadLength = room
  const start = offset < 0 ? 0 : offset
  if (heapLength >= 0 && start + payloadLength > heapLength) return 7
  out.addressBytes = addressBytes
  out.heapLength = heapLength
  out.hasPayloadOffset = offset >= 0
  out.payloadOffset = start
  out.payloadLength = payloadLength
  out.payloadAt = payloadAt
  out.pointersAt = at + HEADER_BYTES
  out.pointers = pointers
  out.itemPointers = others
  out.stop = stop
  return PACKET_OK
}

/** Whether the pointer belongs to the packet and not to the heap. */
export function isPacketPointer(hi: number, lo: number, addressBytes: number): boolean {
  if (hi >>> 31 === 0) return false
  const id = idOf(hi, lo, addressBytes)
  return id >= ITEM_HEAP_CNT && id <= ITEM_PAYLOAD_LENGTH
}
