/**
 * Finds the fields of a descriptor, which is a SPEAD packet of its own within a heap. As in spead2, the last of several with one id
 * holds.
 */
import {
  ITEM_DESCRIPTOR_DESCRIPTION,
  ITEM_DESCRIPTOR_DTYPE,
  ITEM_DESCRIPTOR_FORMAT,
  ITEM_DESCRIPTOR_ID,
  ITEM_DESCRIPTOR_NAME,
  ITEM_DESCRIPTOR_SHAPE,
  MAGIC,
  VERSION,
} from '../../spead/constants.js'
import { refuseUnless } from '../../spead/numpy/limits.js'
import { decodePacket, idOf, isPacketPointer, MALFORMED, PACKET_OK, PacketHeader, pointerValue } from '../decode.js'
import { MAX_POINTERS } from './limits.js'

/** Bytes of each field, as views of the packet; empty where there is none. */
export interface DescriptorFields {
  readonly addressBytes: number
  readonly id: number
  readonly name: Uint8Array
  readonly description: Uint8Array
  readonly shape: Uint8Array
  readonly format: Uint8Array
  readonly dtype: Uint8Array
}

/** @throws Refusal */
export function readDescriptorFields(bytes: Uint8Array): DescriptorFields {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const header = new PacketHeader()
  // The count is checked before anything passes over the pointers.
  const count = bytes.length >= 8 && view.getUint16(0) === ((MAGIC << 8) | VERSION) ? view.getUint16(6) : 0
  refuseUnless(count <= MAX_POINTERS, () => `it has ${count} item pointers; at most ${MAX_POINTERS}`)
  const verdict = decodePacket(view, 0, bytes.length, header)
  refuseUnless(verdict === PACKET_OK, () => `it is no SPEAD packet: ${MALFORMED[verdict]}`)
  const { addressBytes, payloadAt, payloadLength, heapLength } = header
  refuseUnless(header.payloadOffset === 0 && heapLength <= payloadLength, () => 'it is only a part of a heap')

  const addresses: number[] = []
  const found = new Map<number, Uint8Array>()
  let id = 0
  const each = (visit: (hi: number, lo: number, at: number) => void): void => {
    for (let at = header.pointersAt; at < payloadAt; at += 8) {
      const hi = view.getUint32(at)
      const lo = view.getUint32(at + 4)
      if (!isPacketPointer(hi, lo, addressBytes)) visit(hi, lo, at)
    }
  }
  each((hi, lo) => {
    if (hi >>> 31 === 0) addresses.push(pointerValue(hi, lo, addressBytes))
  })
  addresses.sort((a, b) => a - b)
  refuseUnless((addresses.at(-1) ?? 0) <= payloadLength, () => 'an item pointer of it leads beyond its end')
  each((hi, lo, at) => {
    const item = idOf(hi, lo, addressBytes)
    if (hi >>> 31 === 0) {
      // A field reaches to the next address. The last of several at one address has the bytes, and the others, being empty, are as
      // good as absent.
      const from = pointerValue(hi, lo, addressBytes)
      const to = addresses.find((address) => address > from) ?? payloadLength
      for (const [other, field] of found) if (field.byteOffset === bytes.byteOffset + payloadAt + from) found.delete(other)
      if (to > from) found.set(item, bytes.subarray(payloadAt + from, payloadAt + to))
    } else if (item === ITEM_DESCRIPTOR_ID) id = pointerValue(hi, lo, addressBytes)
    else found.set(item, withoutPadding(bytes.subarray(at + 8 - addressBytes, at + 8)))
  })
  refuseUnless(id > 0, () => 'it has no item id')
  refuseUnless(
    Number.isSafeInteger(id) && id < 2 ** (63 - 8 * addressBytes),
    () => `its item id is ${id}, which SPEAD-64-${8 * addressBytes} has no room for`,
  )
  const field = (item: number): Uint8Array => found.get(item) ?? NOTHING
  return {
    addressBytes,
    id,
    name: field(ITEM_DESCRIPTOR_NAME),
    description: field(ITEM_DESCRIPTOR_DESCRIPTION),
    shape: field(ITEM_DESCRIPTOR_SHAPE),
    format: field(ITEM_DESCRIPTOR_FORMAT),
    dtype: field(ITEM_DESCRIPTOR_DTYPE),
  }
}

const NOTHING = new Uint8Array(0)

/** An immediate has its value in the low-order bytes, after zeros. */
function withoutPadding(immediate: Uint8Array): Uint8Array {
  const start = immediate.findIndex((byte) => byte !== 0)
  return start < 0 ? NOTHING : immediate.subarray(start)
}
