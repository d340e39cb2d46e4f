/** Batches on the memory backend, and what their packets must be: by packetsOf, which plans each heap by itself, and by the real spead2. */
import { onTestFinished } from 'vitest'
import type { CompiledBatch } from '#dist/src/batch/compile.js'
import {
  type Batch,
  type DtypeText,
  type FormatField,
  type GroupMode,
  Heap,
  Item,
  ItemGroup,
  type ItemInit,
  type ItemValue,
  makeFlavour,
  openStream,
  packetsOf,
  type Stream,
  type StreamOptions,
} from '#dist/src/index.js'
import type { GroupsCase, GroupsResult, PeerItem, PeerPart, PeerValue, PythonPeer } from '../support/python-peer.js'
import { base64, fromBase64 } from '../support/spead-cases.js'

export type Mode = GroupMode

/** An item of a batch and the value that each heap has. */
export interface BatchItem {
  readonly init: ItemInit & { readonly id: number }
  /** Wire bytes of an addressed item, the number of a staged one. */
  value(heap: number): Uint8Array | number
}

let lastId = 0x1f
/** Within the seven bits that SPEAD-64-56 has for them; groups of up to 96 items have each once. */
const newId = (): number => {
  lastId = lastId === 0x7f ? 0x20 : lastId + 1
  return lastId
}

/** A dtype item whose bytes differ from heap to heap. */
export function samples(name: string, dtype: DtypeText, shape: readonly number[]): BatchItem {
  const id = newId()
  const bytes = new Item({ id, name, dtype, shape }).byteLength!
  return {
    init: { id, name, description: `${name} of the test`, dtype, shape },
    value: (heap) => Uint8Array.from({ length: bytes }, (_, i) => (id * 31 + heap * 67 + i * 13 + (i >> 8)) & 0xff),
  }
}

/** A scalar that is staged as a number: a dtype ('<i2') or a SPEAD format (['u', 48]). */
export function staged(name: string, type: string | [string, number], value: (heap: number) => number): BatchItem {
  const init = { id: newId(), name, description: `${name} of the test`, shape: [] }
  return {
    init: typeof type === 'string' ? { ...init, dtype: type as DtypeText } : { ...init, format: [type as FormatField] },
    value,
  }
}

export const timestamp = (first = 1000, step = 8192): BatchItem => staged('timestamp', ['u', 48], (j) => first + j * step)

/** A number in numpy's memory of that dtype. */
function numpyBytes(dtype: string, value: number): Uint8Array {
  const [, order, kind, digits] = /^([<>|])([biuf])(\d)$/.exec(dtype)!
  const bytes = new Uint8Array(Number(digits))
  const view = new DataView(bytes.buffer)
  if (kind === 'f') view.setFloat32(0, value, order === '<')
  else if (bytes.length === 1) view.setInt8(0, value)
  else if (bytes.length === 2) view.setInt16(0, value, order === '<')
  else view.setInt32(0, value, order === '<')
  return bytes
}

/** Destroyed when the test ends. Descriptors are off unless the options have them. */
export async function memoryStream(options: Partial<StreamOptions> = {}): Promise<Stream> {
  const stream = await openStream({ to: '10.0.0.1:7148', backend: 'memory', descriptors: 'none', ...options })
  onTestFinished(() => stream.destroy())
  return stream
}

export function groupOf(items: readonly BatchItem[]): ItemGroup {
  const group = new ItemGroup()
  for (const { init } of items) group.add(init)
  return group
}

export const rawBytes = (view: ArrayBufferView): Uint8Array => new Uint8Array(view.buffer, view.byteOffset, view.byteLength)

/** Writes every heap's values into the batch. Bytes that go into the pointer are staged as one big-endian number. */
export function fill(batch: Batch, items: readonly BatchItem[]): void {
  for (const item of items)
    for (let j = 0; j < batch.heaps; j++) {
      const value = item.value(j)
      const heap = batch.heap(j)
      const view = item.init.name in heap ? heap[item.init.name] : undefined
      if (typeof value !== 'number' && view) rawBytes(view).set(value)
      else batch.immediate(item.init.name)[j] = typeof value === 'number' ? value : value.reduce((sum, byte) => sum * 256 + byte, 0)
    }
}

export interface Sending {
  readonly items: readonly BatchItem[]
  /** How many heaps are sent. */
  readonly heaps: number
  readonly mode?: Mode
  readonly options?: Partial<StreamOptions>
  /** Cnt of heap j; default j + 1. */
  readonly cnt?: (heap: number) => number
  /** The substream of each heap, where the order depends on it; default: one for all. */
  readonly substreams?: readonly number[]
  /** Heaps whose items have their descriptors in front. */
  readonly described?: readonly number[]
}

/** Packets of heaps in sending order: all of one after the other, one of each in turn, or all of one substream after the other. */
export function inOrder<T>(heaps: readonly (readonly T[])[], mode: Mode, substreams: readonly number[] = []): T[] {
  if (mode === 'serial') return heaps.flat()
  if (mode === 'by-substream')
    return [...new Set(substreams)].flatMap((substream) => heaps.filter((_, j) => substreams[j] === substream)).flat()
  const turns = Math.max(...heaps.map(({ length }) => length))
  return Array.from({ length: turns }, (_, turn) => heaps.flatMap((packets) => packets.slice(turn, turn + 1))).flat()
}

/** The heap by itself, as sendHeap would take it. */
function heapOf({ items, options = {}, described = [] }: Sending, j: number): Heap {
  const heap = new Heap(makeFlavour(options.flavour))
  heap.repeatPointers = options.repeatPointers ?? false
  for (const item of items) {
    const filled = new Item({ ...item.init, value: item.value(j) as ItemValue })
    if (described.includes(j)) heap.addDescriptor(filled)
    heap.addItem(filled)
  }
  return heap
}

export function planned(sending: Sending): Uint8Array[] {
  const { heaps, mode = 'serial', options = {}, cnt = (j) => j + 1 } = sending
  const { packetSizeBytes = 1472, split = 'even' } = options
  const each = Array.from({ length: heaps }, (_, j) =>
    packetsOf(heapOf(sending, j), cnt(j), { maxPacketSizeBytes: packetSizeBytes, split }),
  )
  return inOrder(each, mode, sending.substreams?.slice(0, heaps) ?? each.map(() => 0))
}

function peerItem({ init, value }: BatchItem, j: number): PeerItem {
  const { id, name, description = '', shape = [], dtype, format, order } = init
  const v = value(j)
  const raw = (bytes: Uint8Array): PeerValue => ({ raw: base64(bytes), dtype: dtype!, shape: shape as number[] })
  const leaf = (n: number): PeerValue => ({ list: format![0]![0] === 'b' ? n !== 0 : Object.is(n, -0) ? '-0' : String(n) })
  return {
    ...{ id, name, description, shape: [...shape], dtype, order },
    format: format?.map(([code, bits]) => [code, bits]),
    value: typeof v !== 'number' ? raw(v) : dtype ? raw(numpyBytes(dtype, v)) : leaf(v),
  }
}

/** Heaps for the real spead2, group by group, by their cnts: −1 takes the sequence's next. Heap j of each group has the values of heap j. */
export function peerGroups(
  items: readonly BatchItem[],
  mode: 'serial' | 'round-robin',
  cnts: readonly (readonly number[])[],
  { options = {}, described = [] }: Pick<Sending, 'options' | 'described'> = {},
): GroupsCase {
  const partsOf = (j: number) =>
    items.flatMap((item): PeerPart[] => {
      const mine = peerItem(item, j)
      return described.includes(j) ? [{ descriptor: mine }, { item: mine }] : [{ item: mine }]
    })
  const { heapAddressBits = 48, bugCompat = 0 } = options.flavour ?? {}
  return {
    flavour: { heapAddressBits, bugCompat },
    repeatPointers: options.repeatPointers ?? false,
    packetSize: options.packetSizeBytes ?? 1472,
    groups: cnts.map((group) => ({ mode, heaps: group.map((cnt, j) => ({ cnt: String(cnt), parts: partsOf(j) })) })),
  }
}

export function peerPackets(answer: GroupsResult): Uint8Array[] {
  if ('error' in answer) throw new Error(`spead2 refused the heaps: ${answer.error}`)
  return answer.packets.map(fromBase64)
}

/**
 * The same group of heaps by the real spead2, in the order in which its stream writes the packets. By substream, which it has not: the heaps
 * in that order.
 */
export async function bySpead2(peer: PythonPeer, sending: Sending): Promise<Uint8Array[]> {
  const { heaps, mode = 'serial', substreams = [], described = [], cnt = (j) => j + 1 } = sending
  const each = Array.from({ length: heaps }, (_, j) => [j])
  const order = mode === 'by-substream' ? inOrder(each, mode, substreams.slice(0, heaps)) : each.flat()
  const items = sending.items.map(({ init, value }) => ({ init, value: (i: number) => value(order[i]!) }))
  const group = peerGroups(items, mode === 'round-robin' ? mode : 'serial', [order.map(cnt)], {
    ...sending,
    described: described.map((j) => order.indexOf(j)),
  })
  const [answer] = await peer.groups([group])
  return peerPackets(answer!)
}

/** A batch with every heap filled. */
export function filled(stream: Stream, items: readonly BatchItem[], heaps: number, groupMode: Mode = 'serial'): Batch {
  const batch = stream.createBatch({ items: groupOf(items), heaps, groupMode })
  fill(batch, items)
  return batch
}

/** Returns the packets sent since the last call. */
export const taken = (stream: Stream): Uint8Array[] => stream.packets.splice(0).map(({ bytes }) => bytes)

/** Where the packets of a compiled batch lie: per row its segments as [region, offset, length]. */
export function segmentsOf({ table }: CompiledBatch): [number, number, number][][] {
  return Array.from({ length: table.rows }, (_, r) =>
    Array.from({ length: table.segmentStart[r + 1]! - table.segmentStart[r]! }, (_, i): [number, number, number] => {
      const s = table.segmentStart[r]! + i
      return [table.segmentRegion[s]!, table.segmentOffset[s]!, table.segmentLength[s]!]
    }),
  )
}

export const compiledOf = (batch: Batch, heaps = batch.heaps): CompiledBatch => batch.template.compilation(heaps).compile()
