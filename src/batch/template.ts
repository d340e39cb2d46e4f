/**
 * The template of a batch: `heaps` heaps of the same items in preallocated memory, compiled once for each order of sending, sent many
 * times.
 */
import { Loan } from '../../ffi/memory/loans.js'
import { isShort, type Region } from '../../ffi/memory/region.js'
import { counted, ensure } from '../errors.js'
import { alignmentOf, encodeValue, type Flavour, type Item, type ItemGroup, type PlanItem, type Split } from '../spead/index.js'
import type { ChosenHeaps } from './chosen.js'
import type { ImmediateColumn } from './column.js'
import {
  type CompiledBatch,
  compileBatch,
  firstHeaps,
  type GroupMode,
  type HeapSpec,
  heapsBySubstream,
  writeHeaders,
} from './compile.js'
import { checkExternal, type ExternalMemory } from './external-memory.js'
import { digestOf } from './handle.js'
import { planSpaced, type SpacedPlan } from './headroom.js'
import { StagedColumns, type StagedNumbers } from './immediates.js'
import { InBandDescriptors } from './in-band.js'
import { type AddressedItem, type BatchLayout, checkBatchBytes, type ItemPlace, layoutBatch } from './layout.js'
import { allocateRegion, type Compilation, itemBytes, type Sendable, validateCnts } from './sendable.js'
import type { HeapViews, ViewClasses } from './view-types.js'
import { type BatchHandle, type BatchParts, BatchViews, checkViews, type ItemViewPlace } from './views.js'

export interface BatchConfig {
  readonly items: ItemGroup
  readonly heaps: number
  readonly flavour: Flavour
  readonly packetSizeBytes: number
  readonly split: Split
  readonly repeatPointers: boolean
  readonly groupMode: GroupMode
  /** Substream of each heap. */
  readonly substreams: Uint16Array
  /** Bytes per second of each heap: −1 the stream's rate, 0 unlimited. */
  readonly rates?: Float64Array | undefined
  readonly memory: Readonly<Partial<Record<string, ExternalMemory>>>
  /** The classes of views that the caller expects. */
  readonly views?: ViewClasses | undefined
  /** Room that the backend wants in front of every packet. */
  readonly headroomBytes: number
  /** The backend merges equal packets, so that one packet more is worth being equal. */
  readonly mergesEqualPackets: boolean
  /** Reserve room for sends in which the first heap of each substream carries the descriptors. */
  readonly inBandDescriptors: boolean
  /** Where its memory comes from first; ANY_NODE or undefined: nowhere in particular. */
  readonly numaNode?: number | undefined
}

export class BatchTemplate<T extends object = HeapViews, I extends string = string> implements Sendable {
  readonly heaps: number
  readonly items: ItemGroup
  /** Substream of each heap. */
  readonly substreams: Uint16Array
  readonly flavour: Flavour
  readonly region: Region
  readonly rates: Float64Array | undefined
  /** 'by-substream' becomes 'serial' where heap order already groups the substreams. */
  readonly groupMode: GroupMode
  readonly views: BatchViews<T, I>
  /** How the heaps are laid out: interleaved single packets, or headers and payloads apart. */
  readonly interleaved: boolean
  readonly packetsPerHeap: number
  readonly #plan: SpacedPlan
  readonly #layout: BatchLayout
  readonly #specs: readonly HeapSpec[]
  readonly #regions: readonly Region[]
  /** The user's, that items live in. */
  readonly externalRegions: readonly Region[]
  readonly #columns: StagedColumns
  readonly #parts: BatchParts
  #loan: Loan | undefined
  #closed = false
  readonly #inBand: InBandDescriptors | undefined
  /** The compilation of an ordinary send, made once. */
  readonly #whole: Compilation
  #explicit = false

  /** @throws ERR_SPEADCAST_ITEM, _SPLIT, _PACKET_SIZE, _MEMORY, _VALUE, _SUBSTREAM */
  constructor(config: BatchConfig) {
    const { flavour, heaps, substreams, headroomBytes, split, repeatPointers, mergesEqualPackets } = config
    this.items = config.items
    this.substreams = substreams
    this.flavour = flavour
    this.heaps = heaps
    this.rates = config.rates
    const order = config.groupMode === 'by-substream' ? heapsBySubstream(substreams) : undefined
    this.groupMode = config.groupMode === 'by-substream' && !order ? 'serial' : config.groupMode
    const items = config.items.items()
    ensure(items.length > 0, 'ERR_SPEADCAST_ITEM', () => 'the item group is empty; add() at least one item before createBatch')
    const planItems = items.map((item) => planItem(item, flavour))
    const cut = { flavour, maxPacketSizeBytes: config.packetSizeBytes, repeatPointers, mergesEqualPackets, headroomBytes }
    this.#plan = planSpaced({ ...cut, split, items: planItems })
    this.packetsPerHeap = this.#plan.packets

    const addressed = items.filter((_, i) => !planItems[i]?.immediate)
    const external = new Map(Object.entries(config.memory as Readonly<Record<string, ExternalMemory>>))
    for (const [name, memory] of external) {
      const item = config.items.get(name)
      ensure(
        addressed.includes(item),
        'ERR_SPEADCAST_MEMORY',
        () => `memory of item '${name}': '${name}' is sent as an immediate, which has a column instead; leave it out`,
      )
      checkExternal(item, memory, heaps)
    }
    const externalRegions = [...new Set([...external.values()].map(({ region }) => region))]
    this.externalRegions = externalRegions
    const places = addressed.map((item) => placeOf(item, external.get(item.name), externalRegions))
    this.#layout = layoutBatch(this.#plan, places, heaps, StagedColumns.count(planItems), order)
    this.interleaved = this.#layout.interleaved
    // The layout has a place for each addressed item, in the same order.
    const viewPlaces = this.#layout.places.map((place, i) => viewPlaceOf(place, addressed[i]!))
    const immediates = items.filter((_, i) => planItems[i]?.immediate)
    checkViews('createBatch', { items: viewPlaces, immediates }, config.views)
    // An exact layout has no place for descriptors: the heaps that carry them are split evenly.
    const inBandCut = { ...cut, split: typeof split === 'string' ? split : 'even' } as const
    this.#inBand = config.inBandDescriptors
      ? new InBandDescriptors(inBandCut, items, planItems, substreams, this.#layout.byteLength)
      : undefined
    const inBandBytes = this.#inBand?.byteLength ?? 0
    checkBatchBytes(this.#layout.byteLength, inBandBytes, heaps, this.#plan.heapLengthBytes)
    // Encoded before memory is taken, because a value may not fit its item.
    const values = new Map<string, Uint8Array>()
    for (const item of items) {
      const { value, name } = item
      if (value === undefined || external.has(name)) continue
      values.set(name, encodeValue(item, typeof value === 'function' ? value() : value))
    }

    this.region = allocateRegion(this.#layout.byteLength + inBandBytes, config.numaNode)
    this.#regions = [this.region, ...externalRegions]
    this.#specs = Array.from(substreams.subarray(0, heaps), (substream, j) => ({
      plan: this.#plan,
      substream,
      headerOffset: this.#layout.headerOffset(j),
      parts: this.#layout.parts(j),
    }))
    const bytes = new Uint8Array(this.region.buffer)
    for (const spec of this.#specs) writeHeaders(bytes, spec)
    this.#columns = new StagedColumns(items, planItems, this.region, this.#layout.columnsAt, heaps)
    this.#parts = {
      heaps,
      regions: this.#regions.map(({ id, address, byteLength }) => ({ id, address, byteLength })),
      ...(this.#layout.slots && { slots: this.#layout.slots }),
      ...(substreams.some((substream) => substream > 0) && { substreams: substreams.slice(0, heaps) }),
      items: viewPlaces,
      immediates: this.#columns.places(),
    }
    this.views = new BatchViews<T, I>(this.#parts)
    this.#whole = { key: 'all', rows: heaps * this.#plan.packets, compile: () => this.#compile(this.#specs, 0) }
    this.#prefill(values, bytes)
    const own = [...external.keys()].map((name) => `'${name}'`).join(', ')
    for (const region of externalRegions) region.hold(this, () => `a batch of ${counted(heaps, 'heap')} (${own})`)
  }

  /** Writes values that items have at creation into every heap. */
  #prefill(values: ReadonlyMap<string, Uint8Array>, bytes: Uint8Array): void {
    for (const { name, offset, stride } of this.#layout.places) {
      const value = values.get(name)
      if (value) for (let j = 0; j < this.heaps; j++) bytes.set(value, offset + j * stride)
    }
    this.#columns.prefill(values)
  }

  /** Heap cnts of the next sends, one per heap: −1 (the default) takes the sequence's next. */
  get cnts(): Float64Array {
    this.#explicit = true
    return this.#columns.cnts
  }

  get explicitCnts(): boolean {
    return this.#explicit
  }

  /** @throws ERR_SPEADCAST_BATCH_STATE when it is closed */
  handle(): BatchHandle<T, I> {
    ensure(!this.#closed, 'ERR_SPEADCAST_BATCH_STATE', () => 'handle: the batch is closed; take a handle of an open one')
    if (!this.#loan) {
      this.#loan = new Loan((nonce) => digestOf(this.#parts, nonce))
      for (const region of this.#regions) region.lend(this.#loan)
    }
    return { ...this.#parts, loan: this.#loan.ticket }
  }

  /** Gives its memory back, which nobody uses until other threads have closed their views of it. */
  close(): void {
    this.#closed = true
    this.#loan?.close()
    for (const region of this.externalRegions) region.letGo(this)
    this.region.release()
  }

  /** Whether a file that items live in has become shorter: to read its bytes would end the process. */
  get shortened(): boolean {
    return this.externalRegions.some(({ file }) => file !== undefined && isShort(file))
  }

  immediate(name: I): ImmediateColumn {
    return this.views.immediate(name)
  }

  /** As StagedColumns.numbers. */
  numbers(name: string): StagedNumbers | undefined {
    return this.#columns.numbers(name)
  }

  payloadBytes(heaps: number): number {
    return heaps * itemBytes(this.#plan)
  }

  queuedBytes(heaps: number): number {
    return heaps * (this.#plan.headers.length + this.#plan.heapLengthBytes)
  }

  validate(heaps: number, first = 0, chosen?: ChosenHeaps): void {
    if (this.#explicit) validateCnts(this.#columns.cnts, heaps, first, this.flavour, chosen)
    if (chosen) this.#columns.validateChosen(chosen)
    else this.#columns.validate(heaps, first)
  }

  compilation(heaps: number, inBand?: ReadonlySet<number>, first = 0, chosen?: ChosenHeaps): Compilation {
    if (!inBand && heaps === this.heaps) return this.#whole
    const key = inBand ? `in-band ${[...inBand]}` : 'all'
    const rows = heaps * this.#plan.packets + (inBand ? inBand.size * this.#inBand!.morePackets(this.#plan.packets) : 0)
    const compile = (): CompiledBatch => {
      const specs = chosen
        ? Array.from(chosen.heaps, (heap) => this.#specs[heap]!)
        : first === 0
          ? this.#specs
          : this.#specs.slice(first, first + heaps)
      const all = inBand ? this.#inBand!.specs(specs, inBand, new Uint8Array(this.region.buffer)) : specs
      return this.#compile(all, chosen ? 0 : first, chosen?.heaps)
    }
    if (chosen) return { key: `${key} of ${chosen.key}`, rows, compile }
    if (first > 0) return { key: `${key} ${first}+${heaps}`, rows, compile }
    if (this.groupMode === 'serial' || heaps === this.heaps) return { key, rows, compile }
    // Except in serial order, the first n heaps are not the first rows of the whole, so each n is compiled by itself.
    return { key: `${key} ${heaps}`, rows, compile: () => firstHeaps(compile(), heaps) }
  }

  /** @param first the heap of the batch that is the first of `specs` */
  #compile(specs: readonly HeapSpec[], first: number, entries?: Uint32Array): CompiledBatch {
    return compileBatch({
      specs,
      regions: this.#regions,
      mode: this.groupMode,
      immediates: this.#columns.staged(this.flavour, first),
      cntColumnAt: this.#columns.cntColumnAt + first * 8,
      entries,
      // In-band heaps have descriptor entries before each item, so their plans number the items differently.
      itemIndex: (spec, index) => (spec.plan === this.#plan ? index : 2 * index + 1),
    })
  }

  /**
   * Debug mode, while no file is `shortened`: sums over the bytes that the user may write, payloads and staged columns; headers
   * change in flight by rights. Any overwritten byte shows unless another cancels it. About a nanosecond a byte.
   */
  checksum(): number {
    let sum = 0
    const add = (bytes: Uint8Array): void => {
      for (let i = 0; i < bytes.length; i++) sum = (Math.imul(sum, 31) + bytes[i]!) | 0
    }
    // Parts name regions of this list.
    for (const { parts } of this.#specs)
      for (const { region, offset, length } of parts) add(new Uint8Array(this.#regions[region]!.buffer, offset, length))
    add(new Uint8Array(this.region.buffer, this.#layout.columnsAt, this.#columns.byteLength))
    return sum
  }
}

/** @throws ERR_SPEADCAST_ITEM for a variable shape */
function planItem(item: Item, flavour: Flavour): PlanItem {
  ensure(
    item.byteLength !== undefined,
    'ERR_SPEADCAST_ITEM',
    () =>
      `item '${item.name}' has a variable shape; batches need fixed shapes, so send it with sendHeap or add it with a fixed one`,
  )
  const immediate = item.allowImmediate && item.byteLength <= flavour.heapAddressBits / 8
  return { id: item.id, immediate, lengthBytes: item.byteLength }
}

/** Describes an addressed item to the layout; region 0 is the batch's own, `externalRegions` follow it. */
function placeOf(item: Item, memory: ExternalMemory | undefined, externalRegions: readonly Region[]): AddressedItem {
  return {
    name: item.name,
    lengthBytes: item.byteLength!,
    alignment: item.dtype ? alignmentOf(item.dtype) : 1,
    ...(memory && {
      external: {
        region: 1 + externalRegions.indexOf(memory.region),
        offset: memory.offsetBytes ?? 0,
        stride: memory.strideBytes ?? item.byteLength!,
      },
    }),
  }
}

function viewPlaceOf({ name, region, offset, stride, lengthBytes }: ItemPlace, { dtype, elements }: Item): ItemViewPlace {
  return { name, region, offset, stride, dtype: dtype?.descr ?? '', elements: dtype ? elements! : lengthBytes }
}
