/**
 * A batch: `heaps` heaps of the same items in preallocated memory, compiled once, sent many times.
 */
import { Region } from '../../ffi/memory/region.js'
import { ensure, SpeadcastError } from '../errors.js'
import { ITEM_DESCRIPTOR } from '../spead/constants.js'
import {
  alignmentOf,
  encodeValue,
  type Flavour,
  type Item,
  type ItemGroup,
  type PlanItem,
  planPackets,
  type Split,
} from '../spead/index.js'
import { pointerBase } from '../spead/pointer.js'
import {
  type CompiledBatch,
  compileBatch,
  firstHeaps,
  type GroupMode,
  type HeapSpec,
  heapsBySubstream,
  type PayloadPart,
  type StagedImmediate,
  writeHeaders,
} from './compile.js'
import { type SpacedPlan, withHeadroom } from './headroom.js'
import { type AddressedItem, type BatchLayout, checkBatchBytes, layoutBatch } from './layout.js'
import { allocateRegion, itemBytes, type Sendable, type VariantRequest, validateCnts } from './sendable.js'
import type { ImmediateEncoding } from './table.js'
import { type BatchHandle, BatchViews, type HeapViews, type ImmediateColumn, type ItemViewPlace } from './views.js'

/** Where an item's samples live when they are not in the batch's own memory: heap j's at offsetBytes + j × strideBytes of the region. */
export interface ExternalMemory {
  readonly region: Region
  readonly offsetBytes?: number
  /** Default: the item's length, heaps back to back. */
  readonly strideBytes?: number
}

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
  readonly memory: Readonly<Record<string, ExternalMemory>>
  /** What the backend wants in front of every packet. */
  readonly headroomBytes: number
  /** The backend merges equal packets, so that one more is worth being equal. */
  readonly mergesEqualPackets: boolean
  /** Reserve room for a variant whose first heap of each substream carries the descriptors. */
  readonly inBandDescriptors: boolean
}

interface Immediate {
  readonly item: Item
  readonly index: number
  readonly column: number
  readonly encoding: ImmediateEncoding
  readonly littleEndian: boolean
  /** Whole numbers from low to high − 1; low > high allows anything (floats). */
  readonly low: number
  readonly high: number
  /** The column as a plain Float64Array: one hidden class in the loops that read it. */
  values?: Float64Array
  /** What validate() found: the first value and the step, or NaN. */
  ramp?: Float64Array
}

/**
 * What each of `n` values is above the one before it, or NaN when they are not so evenly spaced, or not all whole numbers in
 * low … high − 1. Additions are exact within ±2^53. 0.7 ns a value, and little for values at random.
 */
function stepOf(values: Float64Array, n: number, low: number, high: number): number {
  const first = values[0]!
  const step = n > 1 ? values[1]! - first : 0
  let expected = first
  for (let j = 0; j < n; j++) {
    if (values[j] !== expected) return Number.NaN
    expected += step
  }
  return Math.floor(step) === step && isWithin(first, low, high) && isWithin(values[n - 1]!, low, high) ? step : Number.NaN
}

function isWithin(value: number, low: number, high: number): boolean {
  return value >= low && value < high && Math.floor(value) === value
}

/** Index of the first of `n` values that is not a whole number in low … high−1, or −1. About 1 ns a value; NaN is outside. */
function firstOutside(values: Float64Array, n: number, low: number, high: number): number {
  for (let j = 0; j < n; j++) if (!isWithin(values[j]!, low, high)) return j
  return -1
}

export class BatchTemplate<T extends object = HeapViews> implements Sendable {
  readonly heaps: number
  readonly items: ItemGroup
  /** Substream of each heap. */
  readonly substreams: Uint16Array
  readonly flavour: Flavour
  readonly region: Region
  readonly rates: Float64Array | undefined
  /** 'serial' where the heaps of each substream follow one another as they are. */
  readonly groupMode: GroupMode
  readonly views: BatchViews<T>
  /** How the heaps are laid out: interleaved single packets, or headers and payloads apart. */
  readonly interleaved: boolean
  readonly packetsPerHeap: number
  readonly #plan: SpacedPlan
  readonly #layout: BatchLayout
  readonly #specs: readonly HeapSpec[]
  readonly #regions: readonly Region[]
  readonly #immediates: readonly Immediate[]
  readonly #handle: BatchHandle
  readonly #config: BatchConfig
  readonly #aux: Aux | undefined
  /** The request of an ordinary send, made once. */
  readonly #whole: VariantRequest
  readonly #cnts: Float64Array
  #explicit = false

  /** @throws ERR_SPEADCAST_ITEM, _SPLIT, _PACKET_SIZE, _MEMORY, _VALUE, _SUBSTREAM */
  constructor(config: BatchConfig) {
    const { flavour, heaps } = config
    this.#config = config
    this.items = config.items
    this.substreams = config.substreams
    this.flavour = flavour
    this.heaps = heaps
    this.rates = config.rates
    const order = config.groupMode === 'by-substream' ? heapsBySubstream(config.substreams) : undefined
    this.groupMode = config.groupMode === 'by-substream' && !order ? 'serial' : config.groupMode
    const items = config.items.items()
    ensure(items.length > 0, 'ERR_SPEADCAST_ITEM', () => 'the item group is empty; add() at least one item before createBatch')
    const planItems = items.map((item) => planItem(item, flavour))
    const plan = planPackets({
      flavour,
      items: planItems,
      maxPacketSizeBytes: config.packetSizeBytes,
      split: config.split,
      repeatPointers: config.repeatPointers,
      mergesEqualPackets: config.mergesEqualPackets,
    })
    this.#plan = withHeadroom(plan, config.headroomBytes)
    this.packetsPerHeap = this.#plan.packets
    const external = new Map(Object.entries(config.memory))
    for (const [name, memory] of external) {
      const item = config.items.get(name)
      ensure(
        !planItems[items.indexOf(item)]!.immediate,
        'ERR_SPEADCAST_MEMORY',
        () => `memory of item '${name}': '${name}' is sent as an immediate, which has a column instead; leave it out`,
      )
      checkExternal(item, memory, heaps)
    }
    const externalRegions = [...new Set([...external.values()].map(({ region }) => region))]
    const addressed = items.filter((_, i) => !planItems[i]!.immediate)
    const places = addressed.map((item): AddressedItem => {
      const memory = external.get(item.name)
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
    })
    let column = 1
    this.#immediates = items.flatMap((item, index) =>
      planItems[index]!.immediate ? [describeImmediate(item, index, column++)] : [],
    )
    this.#layout = layoutBatch(this.#plan, places, heaps, column, order)
    this.interleaved = this.#layout.interleaved
    this.#aux = config.inBandDescriptors ? planAux(config, items, planItems, this.#layout.byteLength) : undefined
    const auxBytes = this.#aux?.byteLength ?? 0
    checkBatchBytes(this.#layout.byteLength, auxBytes, heaps, this.#plan.heapLengthBytes)
    // Before memory is taken, for a value may not fit its item.
    const values = new Map<string, Uint8Array>()
    for (const item of items) {
      const { value, name } = item
      if (value === undefined || external.has(name)) continue
      values.set(name, encodeValue(item, typeof value === 'function' ? value() : value))
    }
    this.region = allocateRegion(this.#layout.byteLength + auxBytes)
    this.#regions = [this.region, ...externalRegions]
    const { substreams } = config
    this.#specs = Array.from({ length: heaps }, (_, j) => ({
      plan: this.#plan,
      substream: substreams[j]!,
      headerOffset: this.#layout.headerOffset(j),
      parts: this.#layout.parts(j),
    }))
    const bytes = new Uint8Array(this.region.buffer)
    for (const spec of this.#specs) writeHeaders(bytes, spec)
    this.#handle = {
      heaps,
      regions: this.#regions.map((region) => region.handle()),
      ...(this.#layout.slots && { slots: this.#layout.slots }),
      items: this.#layout.places.map((place, i): ItemViewPlace => {
        const item = addressed[i]!
        return {
          name: place.name,
          region: place.region,
          offset: place.offset,
          stride: place.stride,
          dtype: item.dtype?.descr ?? '',
          elements: item.dtype ? item.elements! : place.lengthBytes,
        }
      }),
      immediates: this.#immediates.map(({ item, column }) => ({ name: item.name, columnAt: this.#columnAt(column) })),
    }
    this.views = new BatchViews<T>(this.#handle)
    this.#cnts = new Float64Array(this.region.buffer, this.#columnAt(0), heaps).fill(-1)
    this.#whole = { key: 'all', rows: heaps * this.#plan.packets, compile: () => this.#compile(this.#specs) }
    for (const immediate of this.#immediates) {
      immediate.values = new Float64Array(this.region.buffer, this.#columnAt(immediate.column), heaps)
      immediate.ramp = new Float64Array(this.region.buffer, this.#rampAt(immediate.column), 2).fill(Number.NaN)
    }
    this.#prefill(values, bytes)
  }

  #columnAt(column: number): number {
    return this.#layout.columnsAt + column * this.heaps * 8
  }

  /** Behind all columns, so that those of a batch are in one cache line. */
  #rampAt(column: number): number {
    return this.#columnAt(1 + this.#immediates.length) + column * 16
  }

  /** Values that items have at creation are in every heap from the start. */
  #prefill(values: ReadonlyMap<string, Uint8Array>, bytes: Uint8Array): void {
    for (const { name, offset, stride } of this.#layout.places) {
      const value = values.get(name)
      if (value) for (let j = 0; j < this.heaps; j++) bytes.set(value, offset + j * stride)
    }
    for (const { item, encoding, littleEndian } of this.#immediates) {
      const value = values.get(item.name)
      if (value) this.views.immediate(item.name).fill(decodeImmediate(value, encoding, littleEndian))
    }
  }

  /** Heap cnts of the next sends, one per heap: −1 (the default) takes the sequence's next. */
  get cnts(): Float64Array {
    this.#explicit = true
    return this.#cnts
  }

  get explicitCnts(): boolean {
    return this.#explicit
  }

  handle(): BatchHandle {
    return this.#handle
  }

  immediate(name: string): ImmediateColumn {
    return this.views.immediate(name)
  }

  payloadBytes(heaps: number): number {
    return heaps * itemBytes(this.#plan)
  }

  validate(heaps: number): void {
    if (this.#explicit) validateCnts(this.#cnts, heaps, this.flavour)
    for (let i = 0; i < this.#immediates.length; i++) {
      const { item, low, high, values, ramp } = this.#immediates[i]!
      if (low > high) continue
      const step = stepOf(values!, heaps, low, high)
      ramp![0] = values![0]!
      ramp![1] = step
      if (!Number.isNaN(step)) continue
      const j = firstOutside(values!, heaps, low, high)
      if (j < 0) continue
      throw new SpeadcastError(
        'ERR_SPEADCAST_VALUE',
        `immediate '${item.name}' of heap ${j} is ${values![j]}; it must be a whole number from ${low} to ${high - 1}`,
      )
    }
  }

  variant(heaps: number, inBand: boolean): VariantRequest {
    if (!inBand && heaps === this.heaps) return this.#whole
    const key = inBand ? 'in-band' : 'all'
    const rows = inBand ? this.#inBandRows(heaps) : heaps * this.#plan.packets
    const compile = (): CompiledBatch => this.#compile(inBand ? this.#inBandSpecs(this.#aux!) : this.#specs)
    if (this.groupMode === 'serial' || heaps === this.heaps) return { key, rows, compile }
    // The other orders of fewer heaps are orders of their own, no prefixes.
    return { key: `${key} ${heaps}`, rows, compile: () => firstHeaps(compile(), heaps) }
  }

  #compile(specs: readonly HeapSpec[]): CompiledBatch {
    const staged = this.#immediates.map(({ item, index, column, encoding, littleEndian }): StagedImmediate => {
      const base = pointerBase(this.flavour, item.id, true)
      return {
        name: item.name,
        item: index,
        baseHi: base.hi,
        baseLo: base.lo,
        encoding,
        bytes: item.byteLength!,
        littleEndian,
        columnAt: this.#columnAt(column),
        rampAt: this.#rampAt(column),
      }
    })
    // In-band heaps have descriptor entries before each item, so their plans number the items differently.
    return compileBatch({
      specs,
      regions: this.#regions,
      mode: this.groupMode,
      immediates: staged,
      cntColumnAt: this.#columnAt(0),
      itemIndex: (spec, index) => (spec.plan === this.#plan ? index : 2 * index + 1),
    })
  }

  #inBandRows(heaps: number): number {
    const first = new Set<number>()
    let rows = 0
    for (let j = 0; j < heaps; j++) {
      const substream = this.#config.substreams[j]!
      rows += first.has(substream) ? this.#plan.packets : this.#aux!.plan.packets
      first.add(substream)
    }
    return rows
  }

  #inBandSpecs(aux: Aux): HeapSpec[] {
    const bytes = new Uint8Array(this.region.buffer)
    for (const { at, encoded } of aux.descriptors) bytes.set(encoded, at)
    const first = new Map<number, number>()
    return this.#specs.map((spec) => {
      if (first.has(spec.substream)) return spec
      first.set(spec.substream, first.size)
      const own: HeapSpec = {
        plan: aux.plan,
        substream: spec.substream,
        headerOffset: aux.headersAt + (first.size - 1) * aux.headerStride,
        parts: this.#inBandParts(aux, spec.parts),
      }
      writeHeaders(bytes, own)
      return own
    })
  }

  /** Wire order: each item's descriptor, then the item; the heap's own parts are cut at the items' ends. */
  #inBandParts(aux: Aux, parts: readonly PayloadPart[]): PayloadPart[] {
    const out: PayloadPart[] = []
    const rest = [...parts]
    const take = (length: number): void => {
      while (length > 0 && rest.length > 0) {
        const part = rest[0]!
        const n = Math.min(length, part.length)
        out.push({ ...part, length: n })
        if (n === part.length) rest.shift()
        else rest[0] = { ...part, offset: part.offset + n, length: part.length - n }
        length -= n
      }
    }
    for (const { at, encoded, addressedBytes } of aux.descriptors) {
      out.push({ region: 0, offset: at, length: encoded.length })
      take(addressedBytes)
    }
    out.push({ region: 0, offset: aux.paddingAt, length: aux.plan.paddingBytes })
    return out
  }

  /**
   * Debug mode: over the bytes the user may write, payloads and staged columns; headers change in flight by rights. Any overwritten byte
   * shows unless another cancels it. About a nanosecond a byte.
   */
  checksum(): number {
    let sum = 0
    const add = (bytes: Uint8Array): void => {
      for (let i = 0; i < bytes.length; i++) sum = (Math.imul(sum, 31) + bytes[i]!) | 0
    }
    for (const { parts } of this.#specs)
      for (const { region, offset, length } of parts) add(new Uint8Array(this.#regions[region]!.buffer, offset, length))
    add(new Uint8Array(this.region.buffer, this.#layout.columnsAt, (1 + this.#immediates.length) * this.heaps * 8))
    return sum
  }
}

/** Room behind the batch's own memory for descriptors and the headers of heaps that carry them. */
interface Aux {
  readonly plan: SpacedPlan
  readonly descriptors: readonly { readonly at: number; readonly encoded: Uint8Array; readonly addressedBytes: number }[]
  /** plan.paddingBytes zeros. */
  readonly paddingAt: number
  readonly headersAt: number
  readonly headerStride: number
  readonly byteLength: number
}

function planAux(config: BatchConfig, items: readonly Item[], planItems: readonly PlanItem[], from: number): Aux {
  const start = Math.ceil(from / 64) * 64
  let at = start
  const descriptors = items.map((item, i) => {
    const encoded = item.encode(config.flavour)
    const descriptor = { at, encoded, addressedBytes: planItems[i]!.immediate ? 0 : planItems[i]!.lengthBytes }
    at += encoded.length
    return descriptor
  })
  const plain = planPackets({
    flavour: config.flavour,
    items: planItems.flatMap((item, i) => [
      { id: ITEM_DESCRIPTOR, immediate: false, lengthBytes: descriptors[i]!.encoded.length },
      item,
    ]),
    maxPacketSizeBytes: config.packetSizeBytes,
    split: typeof config.split === 'string' ? config.split : 'even',
    repeatPointers: config.repeatPointers,
    mergesEqualPackets: config.mergesEqualPackets,
  })
  const plan = withHeadroom(plain, config.headroomBytes)
  const paddingAt = at
  const headersAt = Math.ceil((at + plan.paddingBytes) / 64) * 64
  const headerStride = Math.ceil(plan.headers.length / 64) * 64
  const substreams = new Set(config.substreams).size
  return { plan, descriptors, paddingAt, headersAt, headerStride, byteLength: headersAt + substreams * headerStride - from }
}

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

function checkExternal(item: Item, memory: ExternalMemory, heaps: number): void {
  const { region, offsetBytes = 0, strideBytes = item.byteLength! } = memory ?? {}
  ensure(
    region instanceof Region,
    'ERR_SPEADCAST_MEMORY',
    () => `memory of item '${item.name}': region is ${region}; it must be a Region, from Region.fromFd or Region.allocate`,
  )
  ensure(
    !region.released,
    'ERR_SPEADCAST_MEMORY',
    () => `memory of item '${item.name}': its region was released and may be another's by now; allocate it anew`,
  )
  ensure(
    Number.isSafeInteger(offsetBytes) && Number.isSafeInteger(strideBytes) && offsetBytes >= 0 && strideBytes >= item.byteLength!,
    'ERR_SPEADCAST_MEMORY',
    () =>
      `memory of item '${item.name}': offsetBytes ${offsetBytes}, strideBytes ${strideBytes}; the stride must be at least its ${item.byteLength} bytes`,
  )
  const end = offsetBytes + (heaps - 1) * strideBytes + item.byteLength!
  ensure(
    end <= region.byteLength,
    'ERR_SPEADCAST_MEMORY',
    () =>
      `memory of item '${item.name}' ends at byte ${end} of a region of ${region.byteLength}; map a larger one or send fewer heaps`,
  )
  const alignment = item.dtype ? alignmentOf(item.dtype) : 1
  ensure(
    offsetBytes % alignment === 0 && strideBytes % alignment === 0,
    'ERR_SPEADCAST_MEMORY',
    () => `memory of item '${item.name}': offsetBytes and strideBytes must be multiples of ${alignment} for its views`,
  )
}

/**
 * How a number staged for the item becomes its bytes. Anything but one number (arrays, strings) is staged as its bytes read as one
 * big-endian integer, a float16 as its 16 bits.
 */
function describeImmediate(item: Item, index: number, column: number): Immediate {
  const kind = item.dtype?.kind ?? (item.format!.length === 1 ? item.format![0]![0] : 'raw')
  const single = item.elements === 1
  const littleEndian =
    single && item.dtype !== undefined && 'iuf'.includes(kind) && !item.dtype.bigEndian && item.dtype.itemSizeBytes > 1
  const span = 256 ** item.byteLength!
  const base = { item, index, column, littleEndian }
  if (single && kind === 'i')
    return { ...base, encoding: 'int', low: Math.max(-span / 2, 1 - 2 ** 53), high: Math.min(span / 2, 2 ** 53) }
  if (single && kind === 'f' && item.byteLength === 4) return { ...base, encoding: 'float', low: 1, high: 0 }
  return { ...base, encoding: 'uint', low: 0, high: Math.min(span, 2 ** 53) }
}

function decodeImmediate(bytes: Uint8Array, encoding: ImmediateEncoding, littleEndian: boolean): number {
  const ordered = littleEndian ? [...bytes].reverse() : bytes
  // From the sign down: 2^56 − 1 is no double, −1 is.
  let value = encoding === 'int' && ordered[0]! >= 0x80 ? -1 : 0
  for (const byte of ordered) value = value * 256 + byte
  if (encoding === 'float') {
    const view = new DataView(new ArrayBuffer(4))
    view.setUint32(0, value)
    return view.getFloat32(0)
  }
  return value
}
