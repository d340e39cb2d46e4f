import { ensure } from '../errors.js'
import {
  HEADER_BYTES,
  ITEM_HEAP_CNT,
  ITEM_HEAP_LENGTH,
  ITEM_NULL,
  ITEM_PAYLOAD_LENGTH,
  ITEM_PAYLOAD_OFFSET,
  POINTER_BYTES,
} from './constants.js'
import type { Flavour } from './flavour.js'
import { putPacketHeader } from './header.js'
import type { ItemPointers, PacketPlan } from './plan-types.js'
import { type Halves, pointerBase, putPointer } from './pointer.js'

/** More than these in one heap is a mistake rather than a heap: the plan alone would take GiBs. */
export const MAX_PACKETS = 2 ** 24
const MAX_HEADER_BYTES = 2 ** 30
const MAX_IMMEDIATES = 2 ** 27

interface PlanSize {
  packets: number
  /** Over all packets. */
  itemPointers: number
  /** Over all packets. */
  immediates: number
  heapLengthBytes: number
  paddingBytes: number
}

/** Fills a plan's arrays packet by packet: `packet`, then its pointers in order, and in the end `finish`. */
export class PlanWriter {
  readonly #flavour: Flavour
  readonly #size: PlanSize
  readonly #pointers: ItemPointers
  readonly #headers: Uint8Array
  readonly #view: DataView
  readonly #headerStart: Uint32Array
  readonly #payloadStart: Float64Array
  readonly #cntAt: Int32Array
  readonly #immediateItem: Uint16Array
  readonly #immediatePacket: Uint32Array
  readonly #immediateAt: Uint32Array
  readonly #cnt: Halves
  readonly #length: Halves
  readonly #offset: Halves
  readonly #payloadLength: Halves
  #packet = -1
  /** Start of the current packet's header, and the part of the heap payload that it carries. */
  #packetAt = 0
  #payloadAt = 0
  #payloadEnd = 0
  #at = 0
  #immediate = 0

  /** Throws ERR_SPEADCAST_SPLIT if the plan would be unreasonably large. */
  constructor(flavour: Flavour, size: PlanSize, pointers: ItemPointers) {
    const { packets } = size
    const headerBytes = packets * HEADER_BYTES + size.itemPointers * POINTER_BYTES
    ensure(
      packets <= MAX_PACKETS && headerBytes <= MAX_HEADER_BYTES && size.immediates <= MAX_IMMEDIATES,
      'ERR_SPEADCAST_SPLIT',
      () =>
        `a heap of ${size.heapLengthBytes} bytes makes ${packets} packets with ${headerBytes} bytes of headers; ` +
        `at most ${MAX_PACKETS} and ${MAX_HEADER_BYTES} are planned: send smaller heaps or larger packets`,
    )
    this.#flavour = flavour
    this.#size = size
    this.#pointers = pointers
    this.#headers = new Uint8Array(headerBytes)
    this.#view = new DataView(this.#headers.buffer)
    this.#headerStart = new Uint32Array(packets + 1)
    this.#payloadStart = new Float64Array(packets + 1)
    this.#cntAt = new Int32Array(packets).fill(-1)
    this.#immediateItem = new Uint16Array(size.immediates)
    this.#immediatePacket = new Uint32Array(size.immediates)
    this.#immediateAt = new Uint32Array(size.immediates)
    this.#cnt = pointerBase(flavour, ITEM_HEAP_CNT, true)
    this.#length = pointerBase(flavour, ITEM_HEAP_LENGTH, true)
    this.#offset = pointerBase(flavour, ITEM_PAYLOAD_OFFSET, true)
    this.#payloadLength = pointerBase(flavour, ITEM_PAYLOAD_LENGTH, true)
  }

  /** Starts the next packet, with `pointers` item pointers to come and `payloadBytes` of the heap payload. */
  packet(pointers: number, payloadBytes: number): void {
    const p = ++this.#packet
    this.#packetAt = this.#at
    this.#payloadAt = this.#payloadEnd
    this.#payloadEnd += payloadBytes
    this.#headerStart[p] = this.#packetAt
    this.#payloadStart[p + 1] = this.#payloadEnd
    this.#at = putPacketHeader(this.#view, this.#at, this.#flavour, pointers)
  }

  #put(base: Halves, value: number): void {
    putPointer(this.#view, this.#at, base.hi + Math.floor(value / 2 ** 32), base.lo + (value % 2 ** 32))
    this.#at += POINTER_BYTES
  }

  heapCnt(): void {
    this.#cntAt[this.#packet] = this.#at - this.#packetAt
    this.#put(this.#cnt, 0)
  }

  heapLength(): void {
    this.#put(this.#length, this.#size.heapLengthBytes)
  }

  payloadOffset(): void {
    this.#put(this.#offset, this.#payloadAt)
  }

  payloadLength(): void {
    this.#put(this.#payloadLength, this.#payloadEnd - this.#payloadAt)
  }

  /** Writes the pointer of item `index`, which is below the heap's count; `addressAsImmediate` sets the mode bit of an addressed one. */
  item(index: number, addressAsImmediate = false): void {
    const { hi, lo, immediate } = this.#pointers
    if (immediate[index] === 1) {
      this.#immediateItem[this.#immediate] = index
      this.#immediatePacket[this.#immediate] = this.#packet
      this.#immediateAt[this.#immediate] = this.#at - this.#packetAt
      this.#immediate++
    }
    putPointer(this.#view, this.#at, hi[index]! + (addressAsImmediate ? 0x80000000 : 0), lo[index]!)
    this.#at += POINTER_BYTES
  }

  /** Writes a NULL pointer: immediate 0, or the address where padding begins. */
  nullItem(address?: number): void {
    this.#put(pointerBase(this.#flavour, ITEM_NULL, address === undefined), address ?? 0)
  }

  finish(): PacketPlan {
    const { packets, heapLengthBytes, paddingBytes } = this.#size
    this.#headerStart[packets] = this.#at
    return {
      flavour: this.#flavour,
      packets,
      heapLengthBytes,
      paddingBytes,
      headers: this.#headers,
      headerStart: this.#headerStart,
      payloadStart: this.#payloadStart,
      cntAt: this.#cntAt,
      immediateItem: this.#immediateItem,
      immediatePacket: this.#immediatePacket,
      immediateAt: this.#immediateAt,
    }
  }
}
