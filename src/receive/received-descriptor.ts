/**
 * Decodes item descriptors, each a SPEAD packet inside a heap (SPEAD protocol document, section 9; spead2's numpy header). Nothing
 * here throws, because descriptors come from anybody: what is refused says why.
 */
import { BUG_COMPAT } from '../spead/flavour.js'
import { MAX_HEADER_BYTES, Refusal, refuseUnless } from '../spead/numpy/limits.js'
import { type DescriptorFields, readDescriptorFields } from './descriptors/descriptor-packet.js'
import { MAX_DESCRIPTION_BYTES, MAX_NAME_BYTES } from './descriptors/limits.js'
import { dtypeOf, readNumpyHeader } from './descriptors/numpy-header.js'
import { rememberBits } from './descriptors/shape.js'
import { checkValueBits, isPyspeadShape, readSpeadFormat } from './descriptors/spead-format.js'

export { resolveShape, valueBytes } from './descriptors/shape.js'

/** A descriptor as it was received: what a sender says of an item (SPEAD protocol document, "Item descriptors"). */
export interface ReceivedDescriptor {
  /** Id of the item. */
  readonly id: number
  /** Name of the item. */
  readonly name: string
  /** For a person. */
  readonly description: string
  /** A dimension that varies from heap to heap is null. */
  readonly shape: (number | null)[]
  /**
   * numpy's spelling ('<f4', '>u2', '|i1'), of a structured dtype what Python prints (`[('x', '<i2'), ('y', '>f8')]`). A `format`
   * of one field with a numpy equivalent gives that, big-endian; another gives null.
   */
  readonly dtype: string | null
  /** 'C': the last index is fastest; 'F': the first. */
  readonly order: 'C' | 'F'
  /** [code, bits] per field, where the descriptor has a format and no numpy header. */
  readonly format: [code: string, bits: number][]
}

/**
 * A descriptor, or the reason for which its bytes are none. Beside it whether the widths are PySPEAD's; undefined where nothing
 * tells.
 */
export type DescriptorReading = ({ readonly descriptor: ReceivedDescriptor } | { readonly refused: string }) & {
  readonly pyspead: boolean | undefined
}

/**
 * Decodes the descriptors of one heap, in their order. Allocates, because descriptors are rare.
 * @param bugCompat a sum of BUG_COMPAT flags. Undefined: widths and tags are inferred from each descriptor. Where one has PySPEAD's
 * widths, and none the specification's, all are taken for PySPEAD 0.5.2's, whose numpy headers name the wrong byte order.
 */
export function readDescriptors(items: readonly Uint8Array[], bugCompat?: number): DescriptorReading[] {
  const told = items.map((bytes) => read(bytes, bugCompat))
  const pyspead = told.some((one) => one.pyspead === true) && !told.some((one) => one.pyspead === false)
  if (bugCompat !== undefined || !pyspead) return told
  return told.map((one, i) => (one.pyspead === undefined && isNumpy(one) ? read(items[i]!, BUG_COMPAT.SWAP_ENDIAN) : one))
}

const isNumpy = (one: DescriptorReading): boolean =>
  'descriptor' in one && one.descriptor.dtype !== null && one.descriptor.format.length === 0

/** Decodes one descriptor by itself. @param bugCompat as in `readDescriptors` */
export function readDescriptor(bytes: Uint8Array, bugCompat?: number): DescriptorReading {
  return read(bytes, bugCompat)
}

/** Decodes a descriptor item's bytes; undefined if they are no descriptor. */
export function decodeDescriptor(bytes: Uint8Array, bugCompat?: number): ReceivedDescriptor | undefined {
  const reading = read(bytes, bugCompat)
  return 'descriptor' in reading ? reading.descriptor : undefined
}

/** Bytes of memory that a kept descriptor takes, a little more rather than less. */
export function descriptorBytes({ name, description, dtype, shape, format }: ReceivedDescriptor): number {
  return 1024 + 2 * (name.length + description.length + (dtype?.length ?? 0)) + 24 * shape.length + 96 * format.length
}

function read(bytes: Uint8Array, bugCompat: number | undefined): DescriptorReading {
  try {
    const fields = readDescriptorFields(bytes)
    checkLengths(fields)
    return fields.dtype.length > 0 ? readNumpy(fields, bugCompat) : readFormat(fields, bugCompat)
  } catch (error) {
    if (error instanceof Refusal) return { refused: error.message, pyspead: undefined }
    throw error
  }
}

function checkLengths({ name, description, dtype }: DescriptorFields): void {
  const check = (what: string, { length }: Uint8Array, most: number) =>
    refuseUnless(length <= most, () => `its ${what} has ${length} bytes; at most ${most}`)
  check('name', name, MAX_NAME_BYTES)
  check('description', description, MAX_DESCRIPTION_BYTES)
  check('numpy header', dtype, MAX_HEADER_BYTES)
}

function readNumpy(fields: DescriptorFields, bugCompat: number | undefined): DescriptorReading {
  const header = readNumpyHeader(text(fields.dtype))
  const pyspead = isPyspeadShape(fields.shape, fields.addressBytes, header.shape)
  const swap = bugCompat === undefined ? pyspead === true : (bugCompat & BUG_COMPAT.SWAP_ENDIAN) !== 0
  const dtype = dtypeOf(header, swap)
  const { shape, order } = header
  const descriptor = { ...labels(fields), shape, dtype: dtype.text, order, format: [] }
  return { descriptor: measured(descriptor, dtype.itemBytes * 8), pyspead }
}

function readFormat(fields: DescriptorFields, bugCompat: number | undefined): DescriptorReading {
  const { format, shape, pyspead } = readSpeadFormat(fields.format, fields.shape, fields.addressBytes, bugCompat)
  const descriptor = { ...labels(fields), shape, dtype: dtypeOfFormat(format), order: 'C' as const, format }
  const elementBits = format.reduce((sum, [, bits]) => sum + bits, 0)
  return { descriptor: measured(descriptor, elementBits), pyspead }
}

const labels = ({ id, name, description }: DescriptorFields) => ({ id, name: text(name), description: text(description) })

function measured(descriptor: ReceivedDescriptor, elementBits: number): ReceivedDescriptor {
  checkValueBits(descriptor.shape, elementBits)
  rememberBits(descriptor, elementBits)
  return descriptor
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')

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
