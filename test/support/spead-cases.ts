import {
  type Descriptor,
  type DtypeText,
  type FormatField,
  Heap,
  Item,
  type ItemInit,
  type ItemSource,
  type ItemValue,
  makeFlavour,
} from '#dist/src/spead/index.js'
import type { EncodeCase, PeerFlavour, PeerItem, PeerPart, PeerValue } from './python-peer.js'

/** One item in both vocabularies: the arguments of our `Item` and those of spead2's, derived from the same numbers. */
export interface ItemCase {
  init: Omit<ItemInit, 'value'> & { id: number }
  ours: ItemSource | null
  theirs: PeerValue | null
}

export type PartCase = { item: ItemCase } | { descriptor: ItemCase } | { start: true } | { end: true }

export interface HeapCase {
  flavour: PeerFlavour
  repeatPointers: boolean
  cnt: bigint
  parts: PartCase[]
}

export function peerItem(c: ItemCase): PeerItem {
  const { id, name, description = '', shape = [], dtype, format, order } = c.init
  return { id, name, description, shape: [...shape], dtype, format: format?.map(([f, b]) => [f, b]), order, value: c.theirs }
}

export function peerCase(c: HeapCase, packetSizes: number[]): EncodeCase {
  const parts = c.parts.map((p): PeerPart => {
    if ('item' in p) return { item: peerItem(p.item) }
    if ('descriptor' in p) return { descriptor: peerItem(p.descriptor) }
    return p
  })
  return { flavour: c.flavour, repeatPointers: c.repeatPointers, cnt: String(c.cnt), packetSizes, parts }
}

function ourItem(c: ItemCase): Item {
  return new Item(c.ours === null ? c.init : { ...c.init, value: c.ours })
}

export function ourHeap(c: HeapCase): Heap {
  const heap = new Heap(makeFlavour(c.flavour))
  heap.repeatPointers = c.repeatPointers
  for (const p of c.parts) {
    if ('item' in p) heap.addItem(ourItem(p.item))
    else if ('descriptor' in p) heap.addDescriptor(ourItem(p.descriptor) as Descriptor)
    else if ('start' in p) heap.addStart()
    else heap.addEnd()
  }
  return heap
}

export const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')
export const fromBase64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'))

/** Packets as text, eight bytes a line, so that a failed comparison shows which pointer differs. */
export function dump(packets: readonly Uint8Array[]): string {
  return packets
    .map(
      (p, k) =>
        `packet ${k}, ${p.length} bytes\n${(
          Buffer.from(p)
            .toString('hex')
            .match(/.{1,16}/g) ?? []
        ).join('\n')}`,
    )
    .join('\n')
}

/** `data` (C order, as the peer gets it) rearranged to Fortran order: the first index runs fastest. */
export function fortranBytes(data: Uint8Array, itemBytes: number, shape: readonly number[]): Uint8Array {
  const out = new Uint8Array(data.length)
  const index = shape.map(() => 0)
  for (let n = 0; n < data.length / itemBytes; n++) {
    let at = 0
    for (let d = shape.length - 1; d >= 0; d--) at = at * shape[d]! + index[d]!
    out.set(data.subarray(n * itemBytes, (n + 1) * itemBytes), at * itemBytes)
    for (let d = shape.length - 1; d >= 0 && ++index[d]! === shape[d]; d--) index[d] = 0
  }
  return out
}

/** A leaf of a `format` item: integers as bigint (they may exceed 2^53), floats as numbers that the width represents exactly. */
export type Leaf = bigint | number | boolean | string
/** The peer takes numbers as text (JSON has neither -0 nor infinities); our side takes integers as numbers where they are exact. */
const peerLeaf = (v: Leaf) => (Object.is(v, -0) ? '-0' : typeof v === 'boolean' ? v : String(v))
const ourLeaf = (v: Leaf) => (typeof v === 'bigint' && v >= -(2n ** 53n - 1n) && v <= 2n ** 53n - 1n ? Number(v) : v)

/** Elements (each a list of the format's fields) nested by `shape`; single-field elements are bare leaves. */
function nest(elements: readonly (readonly Leaf[])[], shape: readonly number[], leaf: (v: Leaf) => Leaf | string): ItemValue {
  let at = 0
  const build = (d: number): ItemValue => {
    if (d === shape.length) {
      const fields = elements[at++]!.map(leaf)
      return fields.length === 1 ? fields[0]! : fields
    }
    return Array.from({ length: shape[d]! }, () => build(d + 1))
  }
  return build(0)
}

export type Format = [string, number][]

/** A `format` item of these elements; `actual` is the value's shape where `init.shape` has a null. */
export function formatCase(
  init: Omit<ItemCase['init'], 'format'>,
  format: Format,
  actual: readonly number[],
  elements: Leaf[][],
): ItemCase {
  return {
    init: { ...init, format: format as unknown as FormatField[] },
    ours: nest(elements, actual, ourLeaf),
    theirs: { list: nest(elements, actual, peerLeaf) as never },
  }
}

/** A `dtype` item from its bytes in C order; ours holds the bytes as they go on the wire, unless `held` says otherwise. */
export function dtypeCase(init: Omit<ItemCase['init'], 'dtype'>, dtype: string, data: Uint8Array, held?: ItemSource): ItemCase {
  const shape = (init.shape ?? []) as number[]
  const elements = shape.reduce((a, b) => a * b, 1)
  const wire = init.order === 'F' ? fortranBytes(data, data.length / elements, shape) : data
  return { init: { ...init, dtype: dtype as DtypeText }, ours: held ?? wire, theirs: { raw: base64(data), dtype, shape } }
}
