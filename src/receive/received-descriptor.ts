/** Decodes item descriptors, each a SPEAD packet inside a heap (SPEAD protocol document, section 9; spead2's numpy header). */
import {
  ITEM_DESCRIPTOR_DESCRIPTION,
  ITEM_DESCRIPTOR_DTYPE,
  ITEM_DESCRIPTOR_FORMAT,
  ITEM_DESCRIPTOR_ID,
  ITEM_DESCRIPTOR_NAME,
  ITEM_DESCRIPTOR_SHAPE,
} from '../spead/constants.js'
import { AssembledHeap } from './assembled-heap.js'
import { decodePacket, isPacketPointer, PACKET_OK, PacketHeader } from './decode.js'
import { ItemTable } from './items.js'

export interface ReceivedDescriptor {
  readonly id: number
  readonly name: string
  readonly description: string
  /** A dimension that varies from heap to heap is null. */
  readonly shape: (number | null)[]
  /** numpy's spelling ('<f4', '>u2', '|i1'). A `format` of one field with a numpy equivalent gives that, big-endian; another gives null. */
  readonly dtype: string | null
  readonly order: 'C' | 'F'
  /** [code, bits] per field, where the descriptor has a format and no numpy header. */
  readonly format: [code: string, bits: number][]
}

/** Decodes a descriptor item's bytes; undefined if they are no descriptor. Allocates, because descriptors are rare. */
export function decodeDescriptor(bytes: Uint8Array): ReceivedDescriptor | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const header = new PacketHeader()
  if (decodePacket(view, 0, bytes.length, header) !== PACKET_OK) return undefined
  const heap = new AssembledHeap()
  heap.addressBytes = header.addressBytes
  heap.length = header.payloadLength
  heap.pointers = new Uint32Array(header.pointers * 2)
  for (let k = 0; k < header.pointers; k++) {
    const hi = view.getUint32(header.pointersAt + 8 * k)
    const lo = view.getUint32(header.pointersAt + 8 * k + 4)
    if (isPacketPointer(hi, lo, header.addressBytes)) continue
    heap.pointers[heap.pointerCount++] = hi
    heap.pointers[heap.pointerCount++] = lo
  }
  const table = new ItemTable()
  table.load(heap)
  const field = (id: number): Uint8Array => {
    // Found: below table.count.
    const i = table.find(id)
    if (i < 0 || table.immediate[i]) return new Uint8Array(0)
    const at = header.payloadAt + table.offset[i]!
    return bytes.subarray(at, at + table.length[i]!)
  }
  const idAt = table.find(ITEM_DESCRIPTOR_ID)
  if (idAt < 0 || !table.immediate[idAt]) return undefined
  const numpy = parseNumpyHeader(ascii(field(ITEM_DESCRIPTOR_DTYPE)))
  const format = decodeFormat(field(ITEM_DESCRIPTOR_FORMAT), header.addressBytes)
  return {
    id: table.value(idAt),
    name: ascii(field(ITEM_DESCRIPTOR_NAME)),
    description: ascii(field(ITEM_DESCRIPTOR_DESCRIPTION)),
    shape: numpy?.shape ?? decodeShape(field(ITEM_DESCRIPTOR_SHAPE), header.addressBytes),
    dtype: numpy?.dtype ?? dtypeOfFormat(format),
    order: numpy?.order ?? 'C',
    format: numpy ? [] : format,
  }
}

const ascii = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')

/** Reads big-endian bytes as a number, exact to 2^53. */
function unsigned(bytes: Uint8Array): number {
  let value = 0
  for (const byte of bytes) value = value * 256 + byte
  return value
}

/** Reads fields of a letter and a width of 8 − N/8 bytes each. */
function decodeFormat(bytes: Uint8Array, addressBytes: number): [string, number][] {
  const size = 9 - addressBytes
  const fields: [string, number][] = []
  // `at` is always below bytes.length, here and in decodeShape.
  for (let at = 0; at + size <= bytes.length; at += size) {
    fields.push([String.fromCharCode(bytes[at]!), unsigned(bytes.subarray(at + 1, at + size))])
  }
  return fields
}

/** Reads dimensions of a tag and N/8 bytes each; tag 1 (2 from PySPEAD) means that the dimension varies. */
function decodeShape(bytes: Uint8Array, addressBytes: number): (number | null)[] {
  const size = 1 + addressBytes
  const shape: (number | null)[] = []
  for (let at = 0; at + size <= bytes.length; at += size) {
    shape.push(bytes[at]! & 3 ? null : unsigned(bytes.subarray(at + 1, at + size)))
  }
  return shape
}

function dtypeOfFormat(format: [string, number][]): string | null {
  const [only] = format
  if (!only || format.length !== 1) return null
  const [code, bits] = only
  if ((code === 'u' || code === 'i') && [8, 16, 32, 64].includes(bits)) return `${bits === 8 ? '|' : '>'}${code}${bits / 8}`
  if (code === 'f' && [32, 64].includes(bits)) return `>f${bits / 8}`
  if (code === 'b' && bits === 8) return '|b1'
  if (code === 'c' && bits === 8) return '|S1'
  return null
}

/** Reads the Python dict literal of a .npy header (numpy.lib.format), as numpy writes it and no other way. */
function parseNumpyHeader(text: string): { dtype: string; order: 'C' | 'F'; shape: number[] } | undefined {
  if (text.length > 4096) return undefined
  const descr = /'descr':\s*(?:'([^']*)'|(\[.*?\]))\s*,\s*'/.exec(text)
  const shape = /'shape':\s*\(([\d,\sL]*)\)/.exec(text)
  if (!descr || !shape) return undefined
  const [, scalar, structured = ''] = descr
  const [, dimensions = ''] = shape
  return {
    dtype: scalar ?? structured,
    order: /'fortran_order':\s*True/.test(text) ? 'F' : 'C',
    shape: dimensions
      .split(',')
      .map((part) => Number.parseInt(part, 10))
      .filter((n) => !Number.isNaN(n)),
  }
}

/** Returns the bytes of one value of the item, or undefined where they vary or are no whole number. */
export function valueBytes(descriptor: ReceivedDescriptor): number | undefined {
  let elements = 1
  for (const dimension of descriptor.shape) {
    if (dimension === null) return undefined
    elements *= dimension
  }
  if (descriptor.format.length > 0) {
    const bits = elements * descriptor.format.reduce((sum, [, width]) => sum + width, 0)
    return Math.ceil(bits / 8)
  }
  const width = /^[<>|=]?([a-zA-Z])(\d+)/.exec(descriptor.dtype ?? '')
  if (!width) return undefined
  // numpy counts unicode strings in characters of four bytes.
  return elements * Number(width[2]) * (width[1] === 'U' ? 4 : 1)
}

/** Returns the shape of an item of `bytes` bytes: the length tells the one dimension that may vary. */
export function resolveShape(descriptor: ReceivedDescriptor, bytes: number): (number | null)[] {
  const fixed = valueBytes({ ...descriptor, shape: descriptor.shape.map((dimension) => dimension ?? 1) })
  if (!fixed || descriptor.shape.filter((dimension) => dimension === null).length !== 1) return descriptor.shape
  return descriptor.shape.map((dimension) => dimension ?? Math.floor(bytes / fixed))
}
