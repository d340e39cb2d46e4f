/**
 * Where a SPEAD packet ends in a stream of bytes. Nothing between packets says it, so the payload length that the packet itself tells does,
 * as for spead2's TCP.
 */
import { HEADER_BYTES, ITEM_PAYLOAD_LENGTH, MAGIC, POINTER_BYTES, VERSION } from '../spead/constants.js'
import { idOf, pointerValue } from './decode.js'

/** Twice what a datagram holds. A longer one is refused, because a sender could make us keep all of it. */
export const MOST_STREAM_PACKET_BYTES = 131072

/** No packet begins here, or it is too long, or does not say how long it is: no later one can be found. */
export const NO_PACKET = -1

/**
 * Returns the bytes of the packet at `at`, of which `available` have come; as long as its header is not there whole, bytes that it has at
 * least, which are more than `available`; or NO_PACKET.
 */
export function packetBytes(view: DataView, at: number, available: number): number {
  if (available < HEADER_BYTES) return HEADER_BYTES
  const magic = view.getUint32(at)
  const addressBytes = magic & 0xff
  if (magic >>> 16 !== ((MAGIC << 8) | VERSION) || addressBytes < 1 || addressBytes > 7) return NO_PACKET
  if (((magic >>> 8) & 0xff) + addressBytes !== 8) return NO_PACKET
  const headerBytes = HEADER_BYTES + view.getUint16(at + 6) * POINTER_BYTES
  if (headerBytes > MOST_STREAM_PACKET_BYTES) return NO_PACKET
  if (available < headerBytes) return headerBytes
  for (let p = at + HEADER_BYTES; p < at + headerBytes; p += POINTER_BYTES) {
    const hi = view.getUint32(p)
    if (hi >>> 31 === 0) continue
    const lo = view.getUint32(p + 4)
    if (idOf(hi, lo, addressBytes) !== ITEM_PAYLOAD_LENGTH) continue
    const bytes = headerBytes + pointerValue(hi, lo, addressBytes)
    return bytes <= MOST_STREAM_PACKET_BYTES ? bytes : NO_PACKET
  }
  return NO_PACKET
}
