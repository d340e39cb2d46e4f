import { isObject, listOf, readPlain, shown } from '../checks.js'
import { counted, ensure, INSPECT, type Inspection, inspected, printable, SpeadcastError, words } from '../errors.js'
import { ascii } from './bytes.js'
import {
  HEADER_BYTES,
  ITEM_DESCRIPTOR_DESCRIPTION,
  ITEM_DESCRIPTOR_DTYPE,
  ITEM_DESCRIPTOR_FORMAT,
  ITEM_DESCRIPTOR_ID,
  ITEM_DESCRIPTOR_NAME,
  ITEM_DESCRIPTOR_SHAPE,
  ITEM_HEAP_CNT,
  ITEM_HEAP_LENGTH,
  ITEM_PAYLOAD_LENGTH,
  ITEM_PAYLOAD_OFFSET,
  ITEM_STREAM_CTRL,
  POINTER_BYTES,
} from './constants.js'
import type { Dtype } from './dtype.js'
import type { DtypeText } from './dtype-text.js'
import { BUG_COMPAT, type Flavour } from './flavour.js'
import { putPacketHeader } from './header.js'
import type { FormatField, Shape } from './item-types.js'
import { checkItemId, flavourName, hex, maxAddress, pointerBase, putPointer, splitUnsigned } from './pointer.js'
import { headerDescr, parseDtype } from './structured.js'

/**
 * Describes an item (SPEAD protocol document, "Item descriptors"). Give exactly one of `dtype` and `format`. The type parameters are what
 * an ItemGroup learns of it: name, dtype, format, shape, and whether it may be an immediate.
 * @example new Descriptor({ id: 0x3300, name: 'adc_samples', dtype: '<i2', shape: [4096] })
 */
export interface ItemOptions<
  N extends string = string,
  D extends DtypeText = DtypeText,
  F extends readonly FormatField[] = readonly FormatField[],
  S extends Shape = Shape,
  A extends boolean = boolean,
> {
  /** 1 to 2^(63−N) − 1 for SPEAD-64-N, but not 1–6, which are SPEAD's own. Default, in an ItemGroup alone: the next free from 0x1000 up. */
  id?: number
  /** The name, by which receivers look items up. ASCII. */
  name: N
  /** For a person. ASCII; default ''. */
  description?: string
  /** Dimensions. Default [], a scalar. One dimension of a `format` item may be null: any length, known from each value. */
  shape?: S
  /**
   * A numpy type: '<i2', 'float32', 'c8', or a structured one as numpy writes its fields, `'[("re", "<i2"), ("im", "<i2")]'`. A text that comes
   * from elsewhere goes in `as DtypeText`; it is checked here in any case. Default: `format`.
   */
  dtype?: D
  /** Fields of one element, packed without gaps, most significant bit first: u, i, b of any width, c of 8 bits, f of 32 or 64. Default: `dtype`. */
  format?: F
  /** Order of the elements in memory and on the wire; 'F' (first index fastest) only with `dtype`. Default 'C'. */
  order?: 'C' | 'F'
  /**
   * False: the value always stands in the heap payload, where the item pointer tells its length, however short it is. Default true: a short value
   * stands in the item pointer.
   */
  allowImmediate?: A
}

/** The options there are. */
export const ITEM_OPTIONS = [
  'id',
  'name',
  'description',
  'shape',
  'dtype',
  'format',
  'order',
  'allowImmediate',
] as const satisfies readonly (keyof ItemOptions)[]

/** The remedy for an id that is a text with a number in it. */
const asNumber = (id: unknown): string =>
  typeof id === 'string' && /^\s*(0x[\da-f]+|\d+)\s*$/i.test(id) ? `: write ${id.trim()}, without quotes` : ''

/**
 * Name, type and shape of an item: what a receiver needs to read it. Immutable.
 * @example const bytes = new Descriptor({ id: 0x1600, name: 'timestamp', format: [['u', 48]] }).byteLength
 */
export class Descriptor {
  /** Item id. */
  readonly id: number
  /** Its name. */
  readonly name: string
  /** For a person; '' if there is none. */
  readonly description: string
  /** Its dimensions; null is one of any length. */
  readonly shape: readonly (number | null)[]
  /** Its numpy type; undefined for a `format`. */
  readonly dtype: Dtype | undefined
  /** Fields of an element; undefined for a `dtype`. */
  readonly format: readonly FormatField[] | undefined
  /** 'C': the last index is fastest; 'F': the first. */
  readonly order: 'C' | 'F'
  /** Whether a dimension is null, so that every value has its own length. */
  readonly variable: boolean
  /** Bits of one element. */
  readonly elementBits: number
  /** Elements of one value; undefined if variable. */
  readonly elements: number | undefined
  /** Bytes of one value on the wire; undefined if variable. */
  readonly byteLength: number | undefined
  /**
   * Whether a value short enough goes into the item pointer itself. A variable item's does not, because its length would be lost. Nor do
   * elements of broken bytes, because SPEAD does not say where their padding goes; nor does one that was told not to.
   */
  readonly allowImmediate: boolean

  /** @throws ERR_SPEADCAST_ITEM if the options do not describe an item */
  constructor(options: ItemOptions) {
    ensure(
      isObject(options),
      'ERR_SPEADCAST_ITEM',
      () => `an item is described by an object such as { name, dtype, shape }, not by ${shown(options)}`,
    )
    const plain = readPlain('an item', options, ITEM_OPTIONS, 'ERR_SPEADCAST_ITEM')
    const { id, name, description = '', dtype, format, order = 'C', allowImmediate = true } = plain
    const named = typeof name === 'string' ? `'${printable(name)}'` : shown(name)
    const bad = (problem: string) => new SpeadcastError('ERR_SPEADCAST_ITEM', `item ${named}: ${problem}`)
    if (id === undefined) throw bad('it needs an id (only an ItemGroup chooses one)')
    if (!Number.isSafeInteger(id) || id <= 0) throw bad(`id is ${shown(id)}; it must be a whole number above 0${asNumber(id)}`)
    if (id <= ITEM_STREAM_CTRL) throw bad(`id ${hex(id)} is one of SPEAD's own (0x1 to 0x6); take one from 0x400 up`)
    checkAscii(name, `name of item ${hex(id)}`)
    checkAscii(description, `description of item '${name}'`)
    const shape = listOf(plain.shape ?? [])
    if (!shape || plain.shape === null) throw bad(`shape is ${shown(plain.shape)}; it must be a list of dimensions`)
    if (order !== 'C' && order !== 'F') throw bad(`order is ${shown(order)}; it must be 'C' or 'F'`)
    for (const dim of shape)
      if (dim !== null && !(Number.isSafeInteger(dim) && dim >= 0))
        throw bad(`shape has a dimension of ${shown(dim)}; each must be a whole number from 0 up, or null`)

    const nulls = shape.filter((dim) => dim === null).length
    if (nulls > 1) throw bad(`shape has ${nulls} null dimensions; the length of a value tells only one`)
    if ((dtype === undefined) === (format === undefined)) throw bad('exactly one of dtype and format must be given')
    if (typeof allowImmediate !== 'boolean')
      throw bad(
        `allowImmediate is ${typeof allowImmediate === 'string' ? printable(allowImmediate) : shown(allowImmediate)}; it must be true or false`,
      )
    if (dtype !== undefined && nulls > 0) throw bad('a dtype item cannot have a null dimension; use a format, such as [["u", 16]]')
    if (format !== undefined && order !== 'C') throw bad(`a format item has order 'C'; order 'F' needs a dtype`)

    this.id = id
    this.name = name
    this.description = description
    this.shape = Object.freeze([...shape])
    this.order = order
    this.dtype = dtype === undefined ? undefined : parseDtype(dtype)
    this.format = format === undefined ? undefined : checkFormat(format, bad)
    this.variable = nulls > 0
    this.elementBits = this.dtype ? this.dtype.itemSizeBytes * 8 : this.format!.reduce((sum, [, bits]) => sum + bits, 0)
    const elements = shape.reduce<number>((product, dim) => product * (dim ?? 1), 1)
    if (!Number.isSafeInteger(elements * this.elementBits)) throw bad(`shape (${shape}) makes a value too large to count its bits`)
    this.elements = this.variable ? undefined : elements
    this.byteLength = this.variable ? undefined : Math.ceil((elements * this.elementBits) / 8)
    this.allowImmediate = allowImmediate && !this.variable && (this.dtype !== undefined || this.elementBits % 8 === 0)
  }

  /**
   * Whether another says the same of the same id.
   * @example const known = items.get('adc_samples').describesAs(new Descriptor({ id: 0x3300, name: 'adc_samples', dtype: 'i1', shape: [8192] }))
   */
  describesAs(other: Descriptor): boolean {
    return other === this || this.descriptionKey() === other.descriptionKey()
  }

  /** @internal Equal for descriptors that say the same of the same id. */
  descriptionKey(): string {
    const { id, name, description, shape, dtype, format, order } = this
    return JSON.stringify([id, name, description, shape, dtype?.descr, format, order])
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('Descriptor', how, () => properties(this))
  }

  /**
   * Returns the value of a descriptor item (id 5): a SPEAD packet of its own, with heap cnt 1 (as spead2 sends it), in the flavour's
   * widths. With a dtype the numpy header comes last and overrides format and shape; the format is then empty.
   * @throws ERR_SPEADCAST_ITEM if id, a dimension, a field width or the whole does not fit the flavour
   * @example const bytes = item.encode(makeFlavour({ heapAddressBits: 48, bugCompat: 0 }))
   */
  encode(flavour: Flavour): Uint8Array {
    const parts: [id: number, bytes: Uint8Array][] = [
      [ITEM_DESCRIPTOR_NAME, ascii(this.name)],
      [ITEM_DESCRIPTOR_DESCRIPTION, ascii(this.description)],
      [ITEM_DESCRIPTOR_FORMAT, this.#formatBytes(flavour)],
      [ITEM_DESCRIPTOR_SHAPE, this.#shapeBytes(flavour)],
    ]
    if (this.dtype) parts.push([ITEM_DESCRIPTOR_DTYPE, ascii(this.#numpyHeader(this.dtype, flavour))])

    const payloadBytes = parts.reduce((sum, [, bytes]) => sum + bytes.length, 0)
    ensure(
      payloadBytes <= maxAddress(flavour),
      'ERR_SPEADCAST_ITEM',
      () =>
        `descriptor of item '${this.name}' is ${payloadBytes} bytes, more than ${flavourName(flavour)} can address ` +
        `(${maxAddress(flavour)}): shorten name and description, or use more heap address bits`,
    )
    checkItemId(flavour, this.id)
    const pointers = 5 + parts.length
    const headerBytes = HEADER_BYTES + pointers * POINTER_BYTES
    const out = new Uint8Array(headerBytes + payloadBytes)
    const view = new DataView(out.buffer)
    let at = putPacketHeader(view, 0, flavour, pointers)
    const put = (id: number, immediate: boolean, value: number, field: string): void => {
      const base = pointerBase(flavour, id, immediate)
      const half = splitUnsigned(value, flavour.heapAddressBits, `${field} of item '${this.name}'`, 'ERR_SPEADCAST_ITEM')
      putPointer(view, at, base.hi + half.hi, base.lo + half.lo)
      at += POINTER_BYTES
    }
    put(ITEM_HEAP_CNT, true, 1, 'descriptor heap cnt')
    put(ITEM_HEAP_LENGTH, true, payloadBytes, 'descriptor length')
    put(ITEM_PAYLOAD_OFFSET, true, 0, 'descriptor offset')
    put(ITEM_PAYLOAD_LENGTH, true, payloadBytes, 'descriptor length')
    put(ITEM_DESCRIPTOR_ID, true, this.id, 'id in the descriptor')
    let address = 0
    for (const [id, bytes] of parts) {
      put(id, false, address, 'descriptor address')
      out.set(bytes, headerBytes + address)
      address += bytes.length
    }
    return out
  }

  /** Per field a character and the width, together 9 − N/8 bytes, in PySPEAD 4 (SPEAD, item descriptors). */
  #formatBytes(flavour: Flavour): Uint8Array {
    const fieldBytes = flavour.bugCompat & BUG_COMPAT.DESCRIPTOR_WIDTHS ? 4 : 9 - flavour.heapAddressBits / 8
    const fields = this.format ?? []
    const out = new Uint8Array(fields.length * fieldBytes)
    fields.forEach(([code, bits], i) => {
      out[i * fieldBytes] = code.charCodeAt(0)
      putUnsigned(out, i * fieldBytes + 1, fieldBytes - 1, bits, `width of field ${i} of item '${this.name}'`)
    })
    return out
  }

  /** Per dimension a tag byte (1 if variable, in PySPEAD 2) and N/8 bytes of length, in PySPEAD 7 (SPEAD, item descriptors). */
  #shapeBytes(flavour: Flavour): Uint8Array {
    const dimBytes = 1 + (flavour.bugCompat & BUG_COMPAT.DESCRIPTOR_WIDTHS ? 7 : flavour.heapAddressBits / 8)
    const out = new Uint8Array(this.shape.length * dimBytes)
    this.shape.forEach((dim, i) => {
      if (dim === null) out[i * dimBytes] = flavour.bugCompat & BUG_COMPAT.SHAPE_BIT_1 ? 2 : 1
      else putUnsigned(out, i * dimBytes + 1, dimBytes - 1, dim, `dimension ${i} of item '${this.name}'`)
    })
    return out
  }

  /** The header dict of numpy's .npy format as Python prints it. */
  #numpyHeader(dtype: Dtype, flavour: Flavour): string {
    const descr = headerDescr(dtype, (flavour.bugCompat & BUG_COMPAT.SWAP_ENDIAN) !== 0)
    const dims = this.shape.length === 1 ? `${this.shape[0]},` : this.shape.join(', ')
    return `{'descr': ${descr}, 'fortran_order': ${this.order === 'F' ? 'True' : 'False'}, 'shape': (${dims})}`
  }
}

/** The properties of a descriptor that util.inspect shows. */
export function properties({ id, name, description, shape, dtype, format, order }: Descriptor): object {
  return {
    id: words(hex(id)),
    name,
    ...(description !== '' && { description }),
    ...(dtype ? { dtype: dtype.descr } : { format: words(JSON.stringify(format)) }),
    shape: words(JSON.stringify(shape)),
    ...(order === 'F' && { order }),
  }
}

const FIELD_WIDTHS: Readonly<Record<string, readonly number[] | undefined>> = { c: [8], f: [32, 64] }

function checkFormat(format: readonly FormatField[], bad: (problem: string) => Error): readonly FormatField[] {
  const fields = listOf(format)
  if (!fields) throw bad(`format is ${shown(format)}; it must be a list of fields, such as [['u', 16]]`)
  if (fields.length === 0) throw bad('format has no fields')
  return Object.freeze(
    fields.map((each): FormatField => {
      const field = listOf(each as readonly unknown[])
      if (!field) throw bad(`format field is ${shown(each)}; it must be a code and a width, such as ['u', 16]`)
      const [code, bits] = field as unknown as FormatField
      if (typeof code !== 'string' || !/^[uibcf]$/.test(code))
        throw bad(`format code ${shown(code)} is unknown; it must be one of u, i, b, c, f`)
      if (!Number.isSafeInteger(bits) || bits <= 0)
        throw bad(`format field '${code}' has a width of ${shown(bits)}; it needs a whole number of bits from 1 up`)
      const widths = FIELD_WIDTHS[code]
      if (widths && !widths.includes(bits))
        throw bad(`format field '${code}' has ${counted(bits, 'bit')}; it must have ${widths.join(' or ')}`)
      return Object.freeze([code, bits] as const) as FormatField
    }),
  )
}

function checkAscii(text: string, field: string): void {
  ensure(typeof text === 'string', 'ERR_SPEADCAST_ITEM', () => `${field} must be a string, not ${shown(text)}`)
  for (let i = 0; i < text.length; i++)
    ensure(
      text.charCodeAt(i) < 0x80,
      'ERR_SPEADCAST_ITEM',
      () => `${field} is '${text}'; SPEAD descriptors are ASCII, and '${text[i]}' is not`,
    )
}

function putUnsigned(out: Uint8Array, at: number, bytes: number, value: number, field: string): void {
  splitUnsigned(value, bytes * 8, field, 'ERR_SPEADCAST_ITEM')
  for (let i = at + bytes - 1, rest = value; rest > 0; i--, rest = Math.floor(rest / 256)) out[i] = rest % 256
}
