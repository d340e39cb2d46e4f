import { shown } from '../checks.js'
import { ensure, SpeadcastError } from '../errors.js'
import { BigEndianBigIntView, BigEndianView } from './big-endian.js'
import { bigEndianNumber, isBigIntNumber } from './big-endian-numbers.js'
import type { DtypeText } from './dtype-text.js'
import type { Dtype, DtypeKind } from './dtype-types.js'
import { StructView } from './struct-view.js'

export type { Dtype, DtypeField, DtypeKind } from './dtype-types.js'

export type NaturalView =
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array
  | Float32Array
  | Float64Array

/** The classes of views: what `createBatch({ views })` takes. */
export type ViewClass =
  | Int8ArrayConstructor
  | Uint8ArrayConstructor
  | Int16ArrayConstructor
  | Uint16ArrayConstructor
  | Int32ArrayConstructor
  | Uint32ArrayConstructor
  | BigInt64ArrayConstructor
  | BigUint64ArrayConstructor
  | Float32ArrayConstructor
  | Float64ArrayConstructor
  | typeof BigEndianView
  | typeof BigEndianBigIntView
  | typeof StructView

type NaturalConstructor = {
  readonly BYTES_PER_ELEMENT: number
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): NaturalView
}

/** numpy's one-letter codes and names on 64-bit Linux ('l' is 8 bytes), each by kind and size. */
// biome-ignore format: a table
const ALIASES: Readonly<Record<string, string>> = {
  '?': 'b1', b: 'i1', B: 'u1', h: 'i2', H: 'u2', i: 'i4', I: 'u4', l: 'i8', L: 'u8', q: 'i8', Q: 'u8', p: 'i8', P: 'u8', n: 'i8', N: 'u8',
  e: 'f2', f: 'f4', d: 'f8', g: 'f16', F: 'c8', D: 'c16', G: 'c32', c: 'S1',
}

// biome-ignore format: a table
const NAMES: Readonly<Record<string, string>> = {
  bool: 'b1', bool_: 'b1', int8: 'i1', int16: 'i2', int32: 'i4', int64: 'i8', uint8: 'u1', uint16: 'u2', uint32: 'u4', uint64: 'u8',
  byte: 'i1', short: 'i2', intc: 'i4', int: 'i8', int_: 'i8', long: 'i8', longlong: 'i8', intp: 'i8',
  ubyte: 'u1', ushort: 'u2', uintc: 'u4', uint: 'u8', ulong: 'u8', ulonglong: 'u8', uintp: 'u8',
  float16: 'f2', float32: 'f4', float64: 'f8', float128: 'f16', half: 'f2', single: 'f4', double: 'f8', float: 'f8', longdouble: 'f16',
  complex64: 'c8', complex128: 'c16', complex256: 'c32', csingle: 'c8', cdouble: 'c16', complex: 'c16', clongdouble: 'c32',
}

const SIZES: Readonly<Record<string, readonly number[]>> = {
  b: [1],
  i: [1, 2, 4, 8],
  u: [1, 2, 4, 8],
  f: [2, 4, 8, 16],
  c: [8, 16, 32],
}

const TIME = /^(?:([Mm])8|(datetime64|timedelta64))(?:\[(\d*)(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?$/

/**
 * Reads a scalar type as `numpy.dtype(text)` does: '<i2', 'u1', 'int16', 'complex64', 'S5', 'U3', 'V4', 'M8[ns]', '?'. Without a prefix, and
 * with '=' or '|', the byte order is little-endian, that of every host speadcast supports. Object and zero-size types throw
 * ERR_SPEADCAST_ITEM.
 */
export function parseScalar(text: string): Dtype {
  ensure(
    typeof text === 'string',
    'ERR_SPEADCAST_ITEM',
    () => `dtype must be a string such as '<i2' or 'float32', not ${shown(text)}`,
  )
  const [prefix = ''] = /^[<>=|]/.exec(text) ?? []
  const body = text.slice(prefix.length)
  const bigEndian = prefix === '>'

  const time = TIME.exec(body)
  if (time) return timeType(bigEndian, time)

  const code = ALIASES[body] ?? (prefix ? undefined : NAMES[body]) ?? body.replace(/^a(?=\d)/, 'S')
  const parts = /^([a-zA-Z])(\d{1,9})$/.exec(code)
  const kind = parts?.[1] ?? ''
  const size = Number(parts?.[2])
  if (SIZES[kind]?.includes(size)) return scalarType(kind as DtypeKind, size, size, bigEndian && size > 1)
  if ((kind === 'S' || kind === 'V') && size > 0) return scalarType(kind, size, size, false)
  if (kind === 'U' && size > 0) return scalarType('U', size, size * 4, bigEndian)

  const remedy = /^(S|U|V|a|str|str_|bytes|bytes_|void)0*$/.test(body)
    ? `it has no size: give one, such as 'S8'`
    : /^(O|object)$/.test(body)
      ? 'Python objects cannot be sent'
      : `use a numpy scalar type such as 'i1', '<u2', '>f4', 'complex64', 'S8'`
  throw new SpeadcastError('ERR_SPEADCAST_ITEM', `dtype '${text}' cannot be sent; ${remedy}`)
}

function scalarType(kind: DtypeKind, written: number, itemSizeBytes: number, bigEndian: boolean): Dtype {
  const ordered = kind === 'U' || (itemSizeBytes > 1 && kind !== 'S' && kind !== 'V')
  const descr = `${ordered ? (bigEndian ? '>' : '<') : '|'}${kind}${written}` as DtypeText
  return Object.freeze({ kind, itemSizeBytes, bigEndian, descr })
}

function timeType(bigEndian: boolean, [, letter, name, multiple, unit]: RegExpExecArray): Dtype {
  const kind = letter ? (letter as 'M' | 'm') : name === 'datetime64' ? 'M' : 'm'
  const count = Number(multiple || 1)
  ensure(count > 0, 'ERR_SPEADCAST_ITEM', () => `dtype unit [${multiple}${unit}] must be a positive multiple`)
  const suffix = unit ? `[${count === 1 ? '' : count}${unit}]` : ''
  const descr = `${bigEndian ? '>' : '<'}${kind}8${suffix}` as DtypeText
  return Object.freeze({ kind, itemSizeBytes: 8, bigEndian, descr })
}

/** Bytes of the parts whose order byte-swapping reverses: a complex is two floats, a unicode string a row of 4-byte units. */
export function componentBytes(dtype: Dtype): number {
  if (dtype.kind === 'S' || dtype.kind === 'V') return 1
  if (dtype.kind === 'U') return 4
  return dtype.kind === 'c' ? dtype.itemSizeBytes / 2 : dtype.itemSizeBytes
}

function naturalConstructor(dtype: Dtype): NaturalConstructor {
  if (dtype.bigEndian) return Uint8Array
  switch (`${dtype.kind}${componentBytes(dtype)}`) {
    case 'i1':
      return Int8Array
    case 'i2':
      return Int16Array
    case 'u2':
    case 'f2':
      return Uint16Array
    case 'i4':
      return Int32Array
    case 'u4':
      return Uint32Array
    case 'i8':
    case 'M8':
    case 'm8':
      return BigInt64Array
    case 'u8':
      return BigUint64Array
    case 'f4':
    case 'c4':
      return Float32Array
    case 'f8':
    case 'c8':
      return Float64Array
    default:
      return Uint8Array
  }
}

/** The kind of a view by its name, 'Int16Array' or 'DataView', also where another realm (node:vm) made it or a class extends it. */
export const viewKind = (view: ArrayBufferView): string => Object.prototype.toString.call(view).slice('[object '.length, -1)

/** The kind of `typedView`. */
export const naturalKind = (dtype: Dtype): string => naturalConstructor(dtype).name

/** Whether `view`'s memory, element for element, is what the dtype puts on the wire. Node 24 has a Float16Array. */
export function isNaturalView(dtype: Dtype, view: ArrayBufferView): boolean {
  const kind = viewKind(view)
  return (
    kind === naturalKind(dtype) || (kind === 'Float16Array' && dtype.kind === 'f' && dtype.itemSizeBytes === 2 && !dtype.bigEndian)
  )
}

/** Required alignment in bytes of `typedView`: its BYTES_PER_ELEMENT. */
export const alignmentOf = (dtype: Dtype): number => naturalConstructor(dtype).BYTES_PER_ELEMENT

/**
 * A view of `elements` values of the dtype in `buffer`, whose memory is the wire's: Int8Array … BigInt64Array for integers,
 * Float32Array/Float64Array for floats, twice as long (re, im, re, im …) for complex, Uint16Array of the raw bits for float16,
 * BigInt64Array for times; Uint8Array of the raw bytes for big-endian types of several bytes, bool, long double, S, U and V.
 * The view lives as long as the buffer. Throws ERR_SPEADCAST_VALUE if it does not fit the buffer or is not aligned.
 */
export function typedView(dtype: Dtype, buffer: ArrayBufferLike, byteOffset: number, elements: number): NaturalView {
  const Natural = naturalConstructor(dtype)
  const length = (elements * dtype.itemSizeBytes) / Natural.BYTES_PER_ELEMENT
  ensure(
    Number.isSafeInteger(elements) && elements >= 0 && byteOffset % Natural.BYTES_PER_ELEMENT === 0,
    'ERR_SPEADCAST_VALUE',
    () => `a view of ${elements} × ${dtype.descr} at byte ${byteOffset} must start at a multiple of ${Natural.BYTES_PER_ELEMENT}`,
  )
  ensure(
    byteOffset >= 0 && byteOffset + elements * dtype.itemSizeBytes <= buffer.byteLength,
    'ERR_SPEADCAST_VALUE',
    () => `a view of ${elements} × ${dtype.descr} at byte ${byteOffset} does not fit a buffer of ${buffer.byteLength} bytes`,
  )
  return new Natural(buffer, byteOffset, length)
}

const bigEndianNumberOf = (dtype: Dtype) => (dtype.bigEndian ? bigEndianNumber(dtype.kind, componentBytes(dtype)) : undefined)

/** The class of `itemView`. */
export function viewClassOf(dtype: Dtype): ViewClass {
  if (dtype.fields) return StructView
  const number = bigEndianNumberOf(dtype)
  if (!number) return naturalConstructor(dtype) as ViewClass
  return isBigIntNumber(number) ? BigEndianBigIntView : BigEndianView
}

/** The view that a user writes into: that of `typedView`, but of big-endian numbers one that swaps bytes, and of a structured type its fields. @param name the item's, for errors */
export function itemView(
  dtype: Dtype,
  buffer: ArrayBufferLike,
  byteOffset: number,
  elements: number,
  name: string,
): NaturalView | BigEndianView | BigEndianBigIntView | StructView {
  if (dtype.fields) return StructView.over(dtype, buffer, byteOffset, elements, name)
  const view = typedView(dtype, buffer, byteOffset, elements)
  const number = bigEndianNumberOf(dtype)
  if (!number) return view
  return isBigIntNumber(number)
    ? new BigEndianBigIntView(number, name, view as Uint8Array)
    : new BigEndianView(number, name, view as Uint8Array)
}
