/**
 * The batch compiler. Makes a packet table for the backend and a scatter table for the engine out of heaps that have a packet plan and a
 * place in memory. Runs once for each order in which a batch is sent; cold, but linear in packets and without an object per packet.
 */

import { ITEM_HEAP_CNT } from '../spead/constants.js'
import { pointerBase } from '../spead/pointer.js'
import type { SpacedPlan } from './headroom.js'
import type { ImmediateScatter, PacketTable, ScatterTable, TableRegion } from './table.js'

/**
 * Order of the packets of a batch, or of a group of heaps. Heap cnts do not depend on it.
 *
 * - 'serial': heap after heap. A receiver holds one heap open.
 * - 'round-robin': one packet of each heap in turn, skipping finished ones. A receiver holds open all heaps of a batch that go to it.
 * - 'by-substream': heap after heap, all of a substream before those of the next, substreams in the order of their first heaps. A receiver of
 *   one substream gets the packets that serial sends it, in the same order, and holds one heap open. Over UDP, a message has one destination
 *   and up to 64 KiB of packets that follow one another: small heaps for many substreams take fewer messages in this order.
 */
export type GroupMode = 'serial' | 'round-robin' | 'by-substream'

/** The place of a piece of a heap's payload; `region` indexes the list given to compileBatch. */
export interface PayloadPart {
  readonly region: number
  readonly offset: number
  readonly length: number
}

export interface HeapSpec {
  readonly plan: SpacedPlan
  readonly substream: number
  /** Where the plan's headers stand in region 0. */
  readonly headerOffset: number
  /** The heap payload in wire order, plan.heapLengthBytes in all; neighbours in memory are merged. */
  readonly parts: readonly PayloadPart[]
}

/** A staged immediate: the item of the plan that it is, and how and from where a send writes it. */
export interface StagedImmediate extends Omit<ImmediateScatter, 'at' | 'start'> {
  readonly item: number
}

export interface CompiledBatch {
  readonly table: PacketTable
  readonly scatter: ScatterTable
  /** rowsOfHeaps[n]: the rows that heaps 0 … n−1 take, where they are the first rows (serial). */
  readonly rowsOfHeaps: Uint32Array
}

export interface CompileOptions {
  readonly specs: readonly HeapSpec[]
  /** Region 0 holds headers and staged columns. */
  readonly regions: readonly TableRegion[]
  readonly mode: GroupMode
  readonly immediates: readonly StagedImmediate[]
  readonly cntColumnAt: number
  /** The entry of the columns that each heap has; default: heap j has the j-th. */
  readonly entries?: Uint32Array | undefined
  /** Returns which item of a heap's plan a staged immediate is, where plans differ; default: the same in all. */
  readonly itemIndex?: (spec: HeapSpec, item: number) => number
}

export function compileBatch({ specs, regions, mode, immediates, cntColumnAt, entries, itemIndex }: CompileOptions): CompiledBatch {
  const heaps = specs.length
  const rowsOfHeaps = new Uint32Array(heaps + 1)
  let rows = 0
  for (const [j, { plan }] of specs.entries()) {
    rows += plan.packets
    rowsOfHeaps[j + 1] = rows
  }
  const order = mode === 'serial' ? undefined : mode === 'round-robin' ? roundRobin(specs, rows) : grouped(specs, rows)

  const segmentStart = new Uint32Array(rows + 1)
  const udpBytes = new Uint32Array(rows)
  const substream = new Uint16Array(rows)
  const heap = new Uint32Array(rows)
  const segments = new SegmentList(rows * 2 + heaps)
  const walkers = specs.map((spec) => new HeapWalker(spec))

  // Every row is of a heap j < heaps, and the order has plan.packets rows of each. The plan's arrays of starts have an entry more.
  let j = 0
  for (let r = 0; r < rows; r++) {
    if (order) j = order[r]!
    else while (rowsOfHeaps[j + 1]! <= r) j++
    const walker = walkers[j]!
    const { spec } = walker
    const { plan } = spec
    const p = walker.packet++
    const header = plan.headerStart[p + 1]! - plan.headroomBytes - plan.headerStart[p]!
    const payload = plan.payloadStart[p + 1]! - plan.payloadStart[p]!
    segmentStart[r] = segments.count
    segments.push(0, spec.headerOffset + plan.headerStart[p]!, header, true)
    walker.take(payload, segments)
    udpBytes[r] = header + payload
    substream[r] = spec.substream
    heap[r] = j
  }
  segmentStart[rows] = segments.count

  // A batch has at least one heap, and the first region is its own.
  const { flavour, headroomBytes } = specs[0]!.plan
  const { id, address, byteLength } = regions[0]!
  const cntBase = pointerBase(flavour, ITEM_HEAP_CNT, true)
  const bits = flavour.heapAddressBits
  const cntStart = new Uint32Array(heaps + 1)
  const cntAt: number[] = []
  for (const [j, { plan, headerOffset }] of specs.entries()) {
    for (let p = 0; p < plan.packets; p++) {
      const at = plan.cntAt[p]!
      if (at >= 0) cntAt.push(headerOffset + plan.headerStart[p]! + at)
    }
    cntStart[j + 1] = cntAt.length
  }
  return {
    table: {
      rows,
      heaps,
      regions: regions.map(({ id, address, byteLength, pages, file }) => ({
        ...{ id, address, byteLength },
        ...(pages && { pages }),
        ...(file && { file }),
      })),
      segmentStart,
      segmentRegion: segments.region.slice(0, segments.count),
      segmentOffset: segments.offset.slice(0, segments.count),
      segmentLength: segments.length.slice(0, segments.count),
      udpBytes,
      substream,
      heap,
      headroomBytes,
    },
    scatter: {
      region: { id, address, byteLength },
      cntAt: Uint32Array.from(cntAt),
      cntStart,
      cntBaseHi: cntBase.hi,
      cntBaseLo: cntBase.lo,
      maskHi: bits > 32 ? 2 ** (bits - 32) - 1 : 0,
      maskLo: bits >= 32 ? 0xffffffff : 2 ** bits - 1,
      cntColumnAt,
      ...(entries && { entries }),
      immediates: immediates.map((staged) => locateImmediate(specs, staged, itemIndex ?? ((_, item) => item))),
    },
    rowsOfHeaps,
  }
}

/** Returns the batch cut to its first `heaps` heaps, its rows in their order. It shares memory with the whole; its tables are new. */
export function firstHeaps(whole: CompiledBatch, heaps: number): CompiledBatch {
  const { table } = whole
  const keep: number[] = []
  for (let r = 0; r < table.rows; r++) if (table.heap[r]! < heaps) keep.push(r)
  const segmentStart = new Uint32Array(keep.length + 1)
  const segments = new SegmentList(table.segmentLength.length)
  // Kept rows are rows of the table, and segmentStart has an entry more than there are rows.
  for (const [i, r] of keep.entries()) {
    segmentStart[i] = segments.count
    for (let s = table.segmentStart[r]!; s < table.segmentStart[r + 1]!; s++)
      segments.push(table.segmentRegion[s]!, table.segmentOffset[s]!, table.segmentLength[s]!, true)
  }
  segmentStart[keep.length] = segments.count
  return {
    ...whole,
    table: {
      rows: keep.length,
      heaps,
      regions: table.regions,
      segmentStart,
      segmentRegion: segments.region.slice(0, segments.count),
      segmentOffset: segments.offset.slice(0, segments.count),
      segmentLength: segments.length.slice(0, segments.count),
      udpBytes: Uint32Array.from(keep, (r) => table.udpBytes[r]!),
      substream: Uint16Array.from(keep, (r) => table.substream[r]!),
      heap: Uint32Array.from(keep, (r) => table.heap[r]!),
      headroomBytes: table.headroomBytes,
    },
  }
}

/** Copies the plan's header templates to where the spec wants them; heap cnts and staged immediates stay zero until a send. */
export function writeHeaders(bytes: Uint8Array, spec: HeapSpec): void {
  bytes.set(spec.plan.headers, spec.headerOffset)
}

function roundRobin(specs: readonly HeapSpec[], rows: number): Uint32Array {
  const order = new Uint32Array(rows)
  let r = 0
  // `j` is an index of specs.
  for (let turn = 0; r < rows; turn++) for (let j = 0; j < specs.length; j++) if (turn < specs[j]!.plan.packets) order[r++] = j
  return order
}

/** Returns the heaps in an order in which those of a substream follow one another; undefined where they do so already. */
export function heapsBySubstream(substreams: ArrayLike<number>): Uint32Array | undefined {
  const groups = new Map<number, number[]>()
  for (const [j, substream] of Array.from(substreams).entries()) {
    const group = groups.get(substream)
    if (group) group.push(j)
    else groups.set(substream, [j])
  }
  const order = Uint32Array.from([...groups.values()].flat())
  return order.every((heap, i) => heap === i) ? undefined : order
}

function grouped(specs: readonly HeapSpec[], rows: number): Uint32Array | undefined {
  const heaps = heapsBySubstream(specs.map(({ substream }) => substream))
  if (!heaps) return undefined
  const order = new Uint32Array(rows)
  let r = 0
  for (const j of heaps) {
    const { packets } = specs[j]!.plan
    order.fill(j, r, r + packets)
    r += packets
  }
  return order
}

function locateImmediate(
  specs: readonly HeapSpec[],
  { item, ...staged }: StagedImmediate,
  itemIndex: (spec: HeapSpec, item: number) => number,
): ImmediateScatter {
  const start = new Uint32Array(specs.length + 1)
  const at: number[] = []
  for (const [j, spec] of specs.entries()) {
    const { plan, headerOffset } = spec
    const wanted = itemIndex(spec, item)
    // The three arrays have an entry for each immediate.
    for (let i = 0; i < plan.immediateItem.length; i++)
      if (plan.immediateItem[i] === wanted)
        at.push(headerOffset + plan.headerStart[plan.immediatePacket[i]!]! + plan.immediateAt[i]!)
    start[j + 1] = at.length
  }
  return { ...staged, at: Uint32Array.from(at), start }
}

class SegmentList {
  region: Uint16Array
  offset: Float64Array
  length: Uint32Array
  count = 0
  constructor(capacity: number) {
    this.region = new Uint16Array(capacity)
    this.offset = new Float64Array(capacity)
    this.length = new Uint32Array(capacity)
  }
  /** Appends, or lengthens the last segment when the new one continues it in memory and does not begin a packet. */
  push(region: number, offset: number, length: number, newPacket: boolean): void {
    if (length === 0) return
    // The first piece of a list begins a packet, so there is a last one where it is read.
    const last = this.count - 1
    if (!newPacket && this.region[last] === region && this.offset[last]! + this.length[last]! === offset) {
      this.length[last]! += length
      return
    }
    if (this.count === this.length.length) {
      this.region = grown(this.region, new Uint16Array(this.count * 2))
      this.offset = grown(this.offset, new Float64Array(this.count * 2))
      this.length = grown(this.length, new Uint32Array(this.count * 2))
    }
    this.region[this.count] = region
    this.offset[this.count] = offset
    this.length[this.count++] = length
  }
}

function grown<T extends Uint16Array | Uint32Array | Float64Array>(from: T, to: T): T {
  to.set(from)
  return to
}

/** Walks through the packets of a heap, and hands out its payload in wire order, across its parts. */
class HeapWalker {
  packet = 0
  #part = 0
  #used = 0
  constructor(readonly spec: HeapSpec) {}
  /** Appends the next `bytes` of the payload, of which that many are left. */
  take(bytes: number, into: SegmentList): void {
    const { parts } = this.spec
    while (bytes > 0) {
      const part = parts[this.#part]!
      const n = Math.min(bytes, part.length - this.#used)
      into.push(part.region, part.offset + this.#used, n, false)
      this.#used += n
      bytes -= n
      if (this.#used === part.length) {
        this.#part++
        this.#used = 0
      }
    }
  }
}
