import { counted, ensure } from '../errors.js'
import { HEADER_BYTES, POINTER_BYTES } from './constants.js'
import type { Flavour } from './flavour.js'
import type { ItemPointers, PacketPlan } from './plan-types.js'
import { MAX_PACKETS, PlanWriter } from './plan-writer.js'
import { flavourName, maxAddress } from './pointer.js'

/** The packet header and the four pointers spead2 puts into every packet: heap cnt, heap length, payload offset, payload length. */
const PREFIX_BYTES = HEADER_BYTES + 4 * POINTER_BYTES
/** Payload kept free beside the pointers of a packet, so that packets of one heap differ in their offsets. */
const MIN_PAYLOAD_BYTES = 8
/** Prefix, one pointer, payload. */
const MIN_PACKET_BYTES = PREFIX_BYTES + POINTER_BYTES + MIN_PAYLOAD_BYTES

/** Item pointers that fit a packet of `sizeBytes` beside the least payload. */
const pointerRoom = (sizeBytes: number): number => Math.floor((sizeBytes - PREFIX_BYTES - MIN_PAYLOAD_BYTES) / POINTER_BYTES)

interface Load {
  /** Heap payload with its padding, at least 1. */
  payloadBytes: number
  paddingBytes: number
  /** Item pointers with the NULL one, at least 1. */
  pointers: number
  repeat: boolean
}

/** spead2's packets: as large as the maximum, rounded down to a multiple of 8, allows. */
export function planGreedy(flavour: Flavour, items: ItemPointers, maxPacketSizeBytes: number, repeat: boolean): PacketPlan {
  const { load, greedyBytes } = loadOf(flavour, items, maxPacketSizeBytes, repeat)
  return pack(flavour, items, load, greedyBytes)
}

/** Packets of the size that makes all of them equal, or all but the last. */
export function planEven(
  flavour: Flavour,
  items: ItemPointers,
  maxPacketSizeBytes: number,
  repeat: boolean,
  mergesEqualPackets: boolean,
): PacketPlan {
  const { load, greedyBytes } = loadOf(flavour, items, maxPacketSizeBytes, repeat)
  return pack(flavour, items, load, evenPacketBytes(load, maxPacketSizeBytes, greedyBytes, mergesEqualPackets ? 1 : 0))
}

/**
 * Decides what the packets of both splits carry. Pointers go into the first packets until there are none left (or all into every packet),
 * and payload fills the rest of each packet. Only the packet size is the split's own.
 *
 * Padding is spead2's: where the items' payload does not reach into every packet that the pointers alone need, zeros and a NULL pointer to
 * them are added. The zeros come after the items' bytes in every case; spead2 misplaces them in heaps of very many pointers.
 */
function loadOf(
  flavour: Flavour,
  items: ItemPointers,
  maxPacketSizeBytes: number,
  repeat: boolean,
): { load: Load; greedyBytes: number } {
  ensure(
    maxPacketSizeBytes >= MIN_PACKET_BYTES,
    'ERR_SPEADCAST_PACKET_SIZE',
    () => `maximum packet size is ${maxPacketSizeBytes} bytes; SPEAD headers and the least payload need ${MIN_PACKET_BYTES}`,
  )
  const greedyBytes = maxPacketSizeBytes - (maxPacketSizeBytes % 8)
  const room = pointerRoom(greedyBytes)
  ensure(
    !repeat || items.count < room,
    'ERR_SPEADCAST_PACKET_SIZE',
    () =>
      `${counted(items.count, 'item pointer')} cannot be repeated in packets of ${maxPacketSizeBytes} bytes, which hold ${room - 1}: ` +
      `use packets of ${MIN_PACKET_BYTES + items.count * POINTER_BYTES} bytes or do not set repeatPointers`,
  )
  const least = repeat ? 1 : MIN_PAYLOAD_BYTES * Math.floor(items.count / room) + 1
  const paddingBytes = Math.max(0, least - items.payloadBytes)
  const payloadBytes = items.payloadBytes + paddingBytes
  ensure(
    payloadBytes <= maxAddress(flavour),
    'ERR_SPEADCAST_SPLIT',
    () =>
      `${counted(items.count, 'item pointer')} in packets of ${maxPacketSizeBytes} bytes need a heap payload of ${payloadBytes} bytes with padding; ` +
      `${flavourName(flavour)} addresses up to ${maxAddress(flavour)}: use larger packets or more heap address bits`,
  )
  return { load: { payloadBytes, paddingBytes, pointers: items.count + (paddingBytes > 0 ? 1 : 0), repeat }, greedyBytes }
}

const once = (load: Load): number => load.payloadBytes + (load.repeat ? 0 : load.pointers * POINTER_BYTES)
const perPacket = (load: Load): number => PREFIX_BYTES + (load.repeat ? load.pointers * POINTER_BYTES : 0)
/** Every packet but the last is full. */
const packetsAt = (load: Load, sizeBytes: number): number => Math.ceil(once(load) / (sizeBytes - perPacket(load)))

/** Whether packets of this size leave payload for every packet that pointers need. */
function feasible(load: Load, sizeBytes: number): boolean {
  if (load.repeat) return sizeBytes > perPacket(load)
  const room = pointerRoom(sizeBytes)
  if (room < 1) return false
  const full = Math.ceil(load.pointers / room) - 1
  return load.payloadBytes > full * (sizeBytes - PREFIX_BYTES - room * POINTER_BYTES)
}

/**
 * The packet size that makes all packets equal with the fewest of them, k, or with up to `extra` more. Without such a size: the least
 * multiple of 8 that does with k packets, the last of which is then shorter.
 *
 * A packet more is worth being equal where that saves a message, and one more only: docs/bench/README.md, "A packet more to be equal".
 */
function evenPacketBytes(load: Load, maxPacketSizeBytes: number, greedyBytes: number, extra: number): number {
  // Where the pointers spill over several packets, the padding (spead2's) suffices for the multiple of 8, but maybe not for all above it.
  let largest = maxPacketSizeBytes
  while (largest > greedyBytes && !feasible(load, largest)) largest--
  const fewest = packetsAt(load, largest)
  if (fewest > MAX_PACKETS) return largest
  for (let packets = fewest; packets <= fewest + extra; packets++) {
    const sizeBytes = once(load) / packets + perPacket(load)
    if (Number.isInteger(sizeBytes) && feasible(load, sizeBytes)) return sizeBytes
  }
  const balanced = Math.ceil(once(load) / fewest) + perPacket(load)
  const aligned = Math.ceil(balanced / 8) * 8
  if (aligned <= largest && feasible(load, aligned)) return aligned
  return feasible(load, balanced) ? balanced : largest
}

function pack(flavour: Flavour, items: ItemPointers, load: Load, sizeBytes: number): PacketPlan {
  const packets = packetsAt(load, sizeBytes)
  const copies = load.repeat ? packets : 1
  const immediates = items.immediate.reduce((sum, flag) => sum + flag, 0)
  const size = {
    packets,
    itemPointers: packets * 4 + copies * load.pointers,
    immediates: copies * immediates,
    heapLengthBytes: load.payloadBytes,
    paddingBytes: load.paddingBytes,
  }
  const writer = new PlanWriter(flavour, size, items)
  const room = load.repeat ? load.pointers : pointerRoom(sizeBytes)
  let next = 0
  let left = load.payloadBytes
  for (let p = 0; p < packets; p++) {
    if (load.repeat) next = 0
    const end = Math.min(next + room, load.pointers)
    const payloadBytes = Math.min(left, sizeBytes - PREFIX_BYTES - (end - next) * POINTER_BYTES)
    writer.packet(4 + end - next, payloadBytes)
    writer.heapCnt()
    writer.heapLength()
    writer.payloadOffset()
    writer.payloadLength()
    for (; next < end; next++) {
      if (next < items.count) writer.item(next)
      else writer.nullItem(items.payloadBytes)
    }
    left -= payloadBytes
  }
  return writer.finish()
}
