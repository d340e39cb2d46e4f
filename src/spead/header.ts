import { HEADER_BYTES, MAGIC, VERSION } from './constants.js'
import type { Flavour } from './flavour.js'

/**
 * Writes the packet header (SPEAD section 8.1): magic, version, bytes of an item id and of a heap address, 16 reserved bits, number of
 * item pointers (at most 65535; callers see to it). Returns the byte after it.
 */
export function putPacketHeader(view: DataView, at: number, flavour: Flavour, pointers: number): number {
  const addressBytes = flavour.heapAddressBits / 8
  view.setUint8(at, MAGIC)
  view.setUint8(at + 1, VERSION)
  view.setUint8(at + 2, 8 - addressBytes)
  view.setUint8(at + 3, addressBytes)
  view.setUint16(at + 4, 0)
  view.setUint16(at + 6, pointers)
  return at + HEADER_BYTES
}
