/**
 * Heaps in spead2's vocabulary: a list of Heap references, compiled at first use and not again while their shape stays the same. Their
 * values live in the user's memory, outside any region, so each send copies them into this list's memory first.
 */
import type { Region } from '../../ffi/memory/region.js'
import type { PacketOptions } from '../spead/heap.js'
import type { Flavour, Heap } from '../spead/index.js'
import { planOf } from '../spead/index.js'
import { pointerBase, putPointer } from '../spead/pointer.js'
import { type CompiledBatch, compileBatch, type GroupMode, type HeapSpec, heapsBySubstream, writeHeaders } from './compile.js'
import { type SpacedPlan, withHeadroom } from './headroom.js'
import { allocateRegion, type Compilation, itemBytes, type Sendable, validateCnts } from './sendable.js'

/**
 * A heap and the way to send it; spead2's HeapReference.
 * @example await stream.sendHeaps([{ heap, substream: 0 }, { heap: other, substream: 1, cnt: 42 }], 'round-robin')
 */
export interface HeapReference {
  /** The heap. Its values are copied when it is sent. */
  readonly heap: Heap
  /** Heap cnt. Default, and −1: the sequence's next. */
  readonly cnt?: number
  /** Index of the endpoint; default 0. */
  readonly substream?: number
  /** Bytes per second. Default, and −1: the stream's rate; 0 = unlimited. Only with a stream rate. */
  readonly rateBytesPerSecond?: number
}

/** The place of one heap in the list's memory. */
interface Slot {
  readonly plan: SpacedPlan
  readonly substream: number
  readonly headerOffset: number
  readonly payloadOffset: number
}

/** Returns a key: lists with equal keys can share a PreparedHeaps, one at a time. */
export function preparedKey(references: readonly HeapReference[], mode: GroupMode): string {
  return `${mode}|${references.map(({ heap, substream = 0, rateBytesPerSecond = -1 }) => `${substream},${rateBytesPerSecond},${heap.shapeKey()}`).join('|')}`
}

export class PreparedHeaps implements Sendable {
  readonly heaps: number
  readonly flavour: Flavour
  readonly region: Region
  readonly rates: Float64Array | undefined
  readonly #slots: readonly Slot[]
  readonly #specs: readonly HeapSpec[]
  readonly #cntColumnAt: number
  readonly #cnts: Float64Array
  readonly #bytes: Uint8Array
  readonly #view: DataView
  #explicit = false

  constructor(
    references: readonly HeapReference[],
    readonly mode: GroupMode,
    options: Omit<PacketOptions, 'maxPacketSizeBytes'> & { packetSizeBytes: number; headroomBytes?: number; numaNode?: number },
  ) {
    this.heaps = references.length
    // A list to send is never empty.
    this.flavour = references[0]!.heap.flavour
    const { packetSizeBytes: maxPacketSizeBytes, headroomBytes = 0, numaNode, ...cut } = options
    let at = 0
    const place = ({ heap, substream = 0 }: HeapReference): Slot => {
      const plan = withHeadroom(planOf(heap, { ...cut, maxPacketSizeBytes }), headroomBytes)
      // The header and the payload of a single packet adjoin, so that they are one segment. Several packets have their headers first.
      const slot = { plan, substream, headerOffset: at, payloadOffset: at + plan.headers.length }
      at += plan.headers.length + plan.heapLengthBytes
      if (plan.packets > 1) at = Math.ceil(at / 64) * 64
      return slot
    }
    // Heaps stand in the order they are sent in, so that a message of them is one segment. The order names each heap once.
    const order = mode === 'by-substream' ? heapsBySubstream(references.map(({ substream = 0 }) => substream)) : undefined
    const slots: Slot[] = []
    for (const j of order ?? references.keys()) slots[j] = place(references[j]!)
    this.#slots = slots
    this.#cntColumnAt = Math.ceil(at / 64) * 64
    this.region = allocateRegion(this.#cntColumnAt + this.heaps * 8, numaNode)
    this.#cnts = new Float64Array(this.region.buffer, this.#cntColumnAt, this.heaps)
    this.#bytes = new Uint8Array(this.region.buffer)
    this.#view = new DataView(this.region.buffer)
    const rates = Float64Array.from(references, ({ rateBytesPerSecond }) => rateBytesPerSecond ?? -1)
    this.rates = rates.some((rate) => rate !== -1) ? rates : undefined
    this.#specs = this.#slots.map(({ plan, substream, headerOffset, payloadOffset }) => ({
      plan,
      substream,
      headerOffset,
      parts: [{ region: 0, offset: payloadOffset, length: plan.heapLengthBytes }],
    }))
    for (const spec of this.#specs) writeHeaders(this.#bytes, spec)
  }

  /** Copies the heaps' present values in. `references` must have this object's key, and so as many heaps. */
  fill(references: readonly HeapReference[]): void {
    this.#explicit = false
    for (const [j, { heap, cnt }] of references.entries()) {
      const { plan, headerOffset, payloadOffset } = this.#slots[j]!
      this.#cnts[j] = cnt ?? -1
      if (cnt !== undefined) this.#explicit = true
      let at = payloadOffset
      for (const [i, entry] of heap.entries.entries()) {
        const bytes = entry.bytes()
        if (entry.immediate) this.#putImmediate(plan, headerOffset, i, entry.id, bytes)
        else {
          this.#bytes.set(bytes, at)
          at += bytes.length
        }
      }
    }
  }

  #putImmediate(plan: SpacedPlan, headerOffset: number, item: number, id: number, bytes: Uint8Array): void {
    const base = pointerBase(this.flavour, id, true)
    let hi = 0
    let lo = 0
    // At most 7 bytes, right-aligned (SPEAD §8.1). Halves keep 56 bits exact.
    for (const byte of bytes) {
      hi = (hi << 8) | (lo >>> 24)
      lo = ((lo << 8) | byte) >>> 0
    }
    // The three arrays have an entry for each immediate.
    for (let i = 0; i < plan.immediateItem.length; i++)
      if (plan.immediateItem[i] === item)
        putPointer(
          this.#view,
          headerOffset + plan.headerStart[plan.immediatePacket[i]!]! + plan.immediateAt[i]!,
          base.hi | hi,
          (base.lo | lo) >>> 0,
        )
  }

  get explicitCnts(): boolean {
    return this.#explicit
  }

  payloadBytes(heaps: number): number {
    // A send has at most as many heaps as there are slots.
    let bytes = 0
    for (let j = 0; j < heaps; j++) bytes += itemBytes(this.#slots[j]!.plan)
    return bytes
  }

  queuedBytes(): number {
    return this.#cntColumnAt
  }

  validate(heaps: number): void {
    if (this.#explicit) validateCnts(this.#cnts, heaps, 0, this.flavour)
  }

  compilation(): Compilation {
    const rows = this.#slots.reduce((sum, { plan }) => sum + plan.packets, 0)
    return {
      key: 'all',
      rows,
      compile: (): CompiledBatch =>
        compileBatch({
          specs: this.#specs,
          regions: [this.region],
          mode: this.mode,
          immediates: [],
          cntColumnAt: this.#cntColumnAt,
        }),
    }
  }
}
