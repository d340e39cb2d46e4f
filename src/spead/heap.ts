import { isInstance, isObject, readPlain, shown } from '../checks.js'
import { counted, ensure, INSPECT, type Inspection, inspected, words } from '../errors.js'
import { allocate } from './bytes.js'
import {
  ITEM_DESCRIPTOR,
  ITEM_NULL,
  ITEM_PAYLOAD_LENGTH,
  ITEM_STREAM_CTRL,
  STREAM_CTRL_START,
  STREAM_CTRL_STOP,
} from './constants.js'
import { Descriptor } from './descriptor.js'
import { DEFAULT_FLAVOUR, type Flavour, makeFlavour } from './flavour.js'
import { Item } from './item.js'
import { type PacketPlan, planPackets, type Split } from './plan.js'
import { checkItemId, hex, putPointer, splitHeapCnt } from './pointer.js'
import { encodeValue } from './value.js'

/** One item pointer of a heap, with its bytes. */
export interface HeapEntry {
  /** Item id; 5 of a descriptor, 6 of stream control. */
  readonly id: number
  /** The item's name, or the id in hexadecimal. */
  readonly name: string
  /** The kind of thing that it carries. */
  readonly kind: 'item' | 'descriptor' | 'control'
  /** True: the value stands in the item pointer, right-aligned. False: it stands in the heap payload. */
  readonly immediate: boolean
  /** Bytes of the value. */
  readonly lengthBytes: number
  /** Describes the item. Raw items (`addRaw`) and stream control have none. */
  readonly descriptor?: Descriptor
  /**
   * The value as wire bytes, read afresh from where it comes: a view of the caller's memory where that holds wire bytes already, so
   * valid only until that changes.
   * @throws ERR_SPEADCAST_VALUE if it no longer fits the item or has another length
   * @example const bytes = heap.entries[0]!.bytes()
   */
  bytes(): Uint8Array
}

/**
 * An item by its bytes, without a descriptor.
 * @example heap.addRaw({ id: 0x4000, bytes: Uint8Array.of(1, 2, 3), allowImmediate: true })
 */
export interface RawItem {
  /** 0 (a padding pointer) to 2^(63−N) − 1, but not 1–4, which every packet has already. */
  id: number
  /** For errors. Default: the id in hexadecimal. */
  name?: string
  /** Wire bytes, by reference: read at every send. A function is called at every send and must keep to one length. */
  bytes: Uint8Array | (() => Uint8Array)
  /** Put the bytes into the item pointer if there are at most N/8 of them. */
  allowImmediate: boolean
}

/**
 * Options of `packetsOf`.
 * @example packetsOf(heap, 1, { maxPacketSizeBytes: 1472, split: 'greedy' })
 */
export interface PacketOptions {
  /** Largest UDP payload in bytes. */
  maxPacketSizeBytes: number
  /** How the heap is cut. Default 'even'. */
  split?: Split
  /** As if the heap's own `repeatPointers` were set. Default false. */
  repeatPointers?: boolean
  /** Cut 'even' as streams of backend `udp` with segmentation offload do: one packet more if that makes all equal. Default false. */
  mergesEqualPackets?: boolean
}

/**
 * Items and descriptors that travel together. A heap refers to the values its items have when they are added, without copying:
 * typed arrays and buffers are read again at every send, so a heap can be sent many times with new samples in the same memory.
 * @example await stream.sendHeap(new Heap(stream.flavour).addDescriptor(item).addItem(item))
 */
export class Heap {
  /** The flavour of its packets. */
  readonly flavour: Flavour
  /** Every packet carries all item pointers, so that each can be understood without the others. Default false. */
  repeatPointers = false
  readonly #entries: HeapEntry[] = []

  /**
   * @param flavour default SPEAD-64-48
   * @throws ERR_SPEADCAST_CONFIG
   */
  constructor(flavour: Flavour = DEFAULT_FLAVOUR) {
    this.flavour = makeFlavour(flavour)
  }

  /** The items and descriptors that it carries, in the order of its item pointers. */
  get entries(): readonly HeapEntry[] {
    return this.#entries
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('Heap', how, () => {
      const { flavour, repeatPointers } = this
      const entries = this.#entries.map(({ kind, name, id, descriptor, lengthBytes, immediate }) =>
        words(`${kind} '${name}' (${hex(descriptor?.id ?? id)}), ${immediate ? 'immediate' : counted(lengthBytes, 'byte')}`),
      )
      return { flavour, ...(repeatPointers && { repeatPointers }), entries }
    })
  }

  #add(entry: Omit<HeapEntry, 'immediate'>, allowImmediate: boolean): this {
    const immediate = allowImmediate && entry.lengthBytes <= this.flavour.heapAddressBits / 8
    const read = entry.bytes
    const bytes = (): Uint8Array => {
      const value = read()
      ensure(
        value.length === entry.lengthBytes,
        'ERR_SPEADCAST_VALUE',
        () =>
          `item '${entry.name}' was added with ${counted(entry.lengthBytes, 'byte')} and now has ${value.length}: add it to a new heap`,
      )
      return value
    }
    this.#entries.push(Object.freeze({ ...entry, immediate, bytes }))
    return this
  }

  /**
   * Adds the item with the value it has now. A value given as a function is called now only if the item's length depends on it.
   * @throws ERR_SPEADCAST_VALUE if it has none or it does not fit; ERR_SPEADCAST_ITEM if the id does not fit the flavour
   * @example heap.addItem(items.get('adc_samples'))
   */
  addItem(item: Item): this {
    ensure(
      isInstance(item, Item),
      'ERR_SPEADCAST_ITEM',
      () => `addItem: the item is ${shown(item)}; give one of an ItemGroup, or a new Item`,
    )
    checkItemId(this.flavour, item.id)
    const { value, name, id } = item
    ensure(value !== undefined, 'ERR_SPEADCAST_VALUE', () => `item '${name}' has no value to send: assign one`)
    const read = typeof value === 'function' ? () => encodeValue(item, value()) : () => encodeValue(item, value)
    const lengthBytes = typeof value === 'function' && item.byteLength !== undefined ? item.byteLength : read().length
    return this.#add({ id, name, kind: 'item', lengthBytes, descriptor: item, bytes: read }, item.allowImmediate)
  }

  /**
   * Adds bytes under an id.
   * @throws ERR_SPEADCAST_ITEM for an id that is out of range or one of the packet's own (1–4); ERR_SPEADCAST_VALUE for what is no Uint8Array
   * @example heap.addRaw({ id: 0x3300, bytes: new Uint8Array(8192), allowImmediate: false })
   */
  addRaw(raw: RawItem): this {
    ensure(
      isObject(raw),
      'ERR_SPEADCAST_ITEM',
      () => `addRaw: the item is ${shown(raw)}; give an object of { id, bytes, allowImmediate }`,
    )
    const plain = readPlain('addRaw', raw, ['id', 'name', 'bytes', 'allowImmediate'], 'ERR_SPEADCAST_ITEM')
    const { id, bytes, allowImmediate } = plain
    checkItemId(this.flavour, id)
    const { name = hex(id) } = plain
    ensure(
      typeof name === 'string' && typeof allowImmediate === 'boolean',
      'ERR_SPEADCAST_ITEM',
      () => `addRaw: name is ${shown(name)}, allowImmediate is ${shown(allowImmediate)}; they must be a text, and true or false`,
    )
    ensure(
      id === ITEM_NULL || id > ITEM_PAYLOAD_LENGTH,
      'ERR_SPEADCAST_ITEM',
      () => `item id ${hex(id)} stands in every packet already (heap cnt, heap length, payload offset and length): use another`,
    )
    const read = typeof bytes === 'function' ? bytes : () => bytes
    const checked = (): Uint8Array => {
      const value: unknown = read()
      ensure(
        isInstance(value, Uint8Array),
        'ERR_SPEADCAST_VALUE',
        () => `raw item '${name}' gave ${typeof value}; it must give a Uint8Array`,
      )
      return value
    }
    return this.#add({ id, name, kind: 'item', lengthBytes: checked().length, bytes: checked }, allowImmediate)
  }

  /**
   * Adds what describes an item; its value need not be in the same heap.
   * @throws ERR_SPEADCAST_ITEM if it does not fit the flavour
   * @example heap.addDescriptor(items.get('adc_samples'))
   */
  addDescriptor(descriptor: Descriptor): this {
    ensure(
      isInstance(descriptor, Descriptor),
      'ERR_SPEADCAST_ITEM',
      () => `addDescriptor: it is ${shown(descriptor)}; give an Item or a Descriptor`,
    )
    const encoded = descriptor.encode(this.flavour)
    const { name } = descriptor
    return this.#add(
      { id: ITEM_DESCRIPTOR, name, kind: 'descriptor', lengthBytes: encoded.length, descriptor, bytes: () => encoded },
      false,
    )
  }

  /**
   * Adds the start-of-stream item.
   * @example await stream.sendHeap(new Heap().addStart())
   */
  addStart(): this {
    return this.#control(STREAM_CTRL_START, 'stream start')
  }

  /**
   * Adds the end-of-stream item. Receivers stop at it and take nothing else from its heap, so it belongs in a heap of its own.
   * @example await stream.sendHeap(new Heap().addEnd())
   */
  addEnd(): this {
    return this.#control(STREAM_CTRL_STOP, 'stream end')
  }

  #control(value: number, name: string): this {
    const encoded = Uint8Array.of(value)
    return this.#add({ id: ITEM_STREAM_CTRL, name, kind: 'control', lengthBytes: 1, bytes: () => encoded }, true)
  }

  /**
   * Heaps with equal keys have the same packets but for heap cnt, immediates and payload.
   * @example if (heap.shapeKey() === other.shapeKey()) console.log('cut into packets alike')
   */
  shapeKey(): string {
    const entries = this.#entries.map(
      ({ id, immediate, lengthBytes }) => `${id.toString(36)}${immediate ? '' : `:${lengthBytes.toString(36)}`}`,
    )
    return `${this.flavour.heapAddressBits},${this.flavour.bugCompat},${this.repeatPointers ? 'r' : 's'} ${entries.join(' ')}`
  }
}

/** Plans the heap's packets; see `planPackets` for the errors. */
export function planOf(heap: Heap, options: PacketOptions): PacketPlan {
  return planPackets({
    flavour: heap.flavour,
    items: heap.entries,
    maxPacketSizeBytes: options.maxPacketSizeBytes,
    split: options.split ?? 'even',
    repeatPointers: heap.repeatPointers || (options.repeatPointers ?? false),
    mergesEqualPackets: options.mergesEqualPackets ?? false,
  })
}

const PACKET_OPTIONS = ['maxPacketSizeBytes', 'split', 'repeatPointers', 'mergesEqualPackets'] as const

/**
 * Returns every packet of the heap as its bytes: UDP payload. This is the plain way, for tests, captures and reference.
 * @param cnt heap cnt
 * @throws ERR_SPEADCAST_HEAP_CNT for a cnt beyond the flavour's width; ERR_SPEADCAST_PACKET_SIZE, ERR_SPEADCAST_SPLIT, ERR_SPEADCAST_ITEM,
 *   ERR_SPEADCAST_VALUE, ERR_SPEADCAST_CONFIG
 * @example for (const packet of packetsOf(heap, 1, { maxPacketSizeBytes: 1472 })) socket.send(packet, 7148, '10.0.0.5')
 */
export function packetsOf(heap: Heap, cnt: number | bigint, options: PacketOptions): Uint8Array[] {
  ensure(isInstance(heap, Heap), 'ERR_SPEADCAST_VALUE', () => `packetsOf: the heap is ${shown(heap)}; give a Heap`)
  ensure(
    isObject(options),
    'ERR_SPEADCAST_CONFIG',
    () => `packetsOf: the options are ${shown(options)}; give an object with maxPacketSizeBytes`,
  )
  const { repeatPointers = false, mergesEqualPackets = false, ...rest } = readPlain('packetsOf', options, PACKET_OPTIONS)
  for (const [name, value] of Object.entries({ repeatPointers, mergesEqualPackets }))
    ensure(
      typeof value === 'boolean',
      'ERR_SPEADCAST_CONFIG',
      () => `packetsOf: ${name} is ${shown(value)}; it must be true or false`,
    )
  const plan = planOf(heap, { ...rest, repeatPointers, mergesEqualPackets })
  const { hi, lo } = splitHeapCnt(plan.flavour, cnt)
  const headers = plan.headers.slice()
  const view = new DataView(headers.buffer)
  // `headerStart` has an entry for each packet and one more.
  for (const [p, cntAt] of plan.cntAt.entries()) {
    if (cntAt < 0) continue
    const at = plan.headerStart[p]! + cntAt
    putPointer(view, at, view.getUint32(at) + hi, view.getUint32(at + 4) + lo)
  }

  const values = heap.entries.map((entry) => ({ value: entry.bytes(), immediate: entry.immediate }))
  // The three arrays have an entry for each immediate; the plan was made of these entries and these packets.
  for (let i = 0; i < plan.immediateItem.length; i++) {
    const { value } = values[plan.immediateItem[i]!]!
    headers.set(value, plan.headerStart[plan.immediatePacket[i]!]! + plan.immediateAt[i]! + 8 - value.length)
  }
  const payload = allocate(plan.heapLengthBytes, 'the heap payload')
  let address = 0
  for (const { value, immediate } of values) {
    if (immediate) continue
    payload.set(value, address)
    address += value.length
  }

  return Array.from({ length: plan.packets }, (_, p) => {
    const header = headers.subarray(plan.headerStart[p], plan.headerStart[p + 1])
    const part = payload.subarray(plan.payloadStart[p], plan.payloadStart[p + 1])
    const packet = new Uint8Array(header.length + part.length)
    packet.set(header)
    packet.set(part, header.length)
    return packet
  })
}
