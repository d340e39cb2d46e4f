import { isInstance, shown } from '../checks.js'
import { counted, SpeadcastError } from '../errors.js'
import { allocate } from './bytes.js'
import type { Descriptor } from './descriptor.js'
import { componentBytes, isNaturalView } from './dtype.js'
import type { FormatField } from './item-types.js'
import { fail, type Where } from './number-checks.js'
import { type Encoder, encoderFor } from './value-encoder.js'

/** Anything that can be sent. Nested arrays are for small items, because they are walked value by value. */
export type ItemValue = number | bigint | boolean | string | ArrayBufferLike | ArrayBufferView | readonly ItemValue[]

type NumericArray = Exclude<ReturnType<typeof asNumericArray>, undefined>

/**
 * Returns the value as the item's wire bytes.
 *
 * Without a copy, as a view of the caller's memory: a typed array whose memory is the wire's (Int16Array for '<i2', Float32Array
 * re, im, … for 'c8', see `typedView`), and raw bytes — Uint8Array, Buffer, ArrayBuffer, SharedArrayBuffer, DataView — of exactly the
 * item's length on the wire. Typed arrays are in the item's order ('C' or 'F') already.
 *
 * By conversion, with every value checked against type and range: other typed arrays, one number per element (two for complex, one per
 * field for a format); a Uint8Array too if it is not of the wire's length but has a number per element. For a variable item a Uint8Array is
 * always raw bytes. So big-endian dtypes and formats wider than 8 bits take native typed arrays, and byte-swap them.
 *
 * Numbers, bigints, booleans and strings for scalars; arrays nested as deep as the shape, whose elements are numbers, [re, im] for complex,
 * [field, …] for a format of several fields or a structured dtype, and whose innermost dimension may be a string for characters (c8, S, U) or a typed array.
 *
 * Throws ERR_SPEADCAST_VALUE for a wrong shape or type, a number out of range, a fraction or NaN for an integer, detached memory.
 */
export function encodeValue(descriptor: Descriptor, value: ItemValue): Uint8Array {
  if (isInstance(value, ArrayBuffer) || isInstance(value, SharedArrayBuffer) || ArrayBuffer.isView(value)) {
    return encodeMemory(descriptor, value, memoryOf(descriptor, value))
  }
  try {
    return encodeNested(descriptor, value)
  } catch (cause) {
    if (cause instanceof SpeadcastError) throw cause
    const message = `item '${descriptor.name}': its value cannot be read, because an accessor or a proxy throws; give a plain one`
    throw new SpeadcastError('ERR_SPEADCAST_VALUE', message, { cause })
  }
}

function memoryOf(descriptor: Descriptor, value: ArrayBufferLike | ArrayBufferView): Uint8Array {
  try {
    return ArrayBuffer.isView(value) ? new Uint8Array(value.buffer, value.byteOffset, value.byteLength) : new Uint8Array(value)
  } catch (cause) {
    const problem = 'its memory is detached (transferred to a worker, or resized away): give the item memory that is still there'
    throw new SpeadcastError('ERR_SPEADCAST_VALUE', `item '${descriptor.name}': ${problem}`, { cause })
  }
}

function asNumericArray(value: unknown) {
  return ArrayBuffer.isView(value) && !(value instanceof DataView)
    ? (value as Int8Array | Uint32Array | Float64Array | BigInt64Array | BigUint64Array)
    : undefined
}

/** Elements of the known dimensions: for a variable item, those of one row along the null dimension. */
const knownElements = (descriptor: Descriptor): number => descriptor.shape.reduce<number>((product, dim) => product * (dim ?? 1), 1)

/** The field of a format that has no other. */
const onlyField = (format: readonly FormatField[] | undefined): FormatField | undefined =>
  format?.length === 1 ? format[0] : undefined

function encodeMemory(descriptor: Descriptor, value: ArrayBufferLike | ArrayBufferView, bytes: Uint8Array): Uint8Array {
  const { dtype, format } = descriptor
  const [code, bits] = onlyField(format) ?? []
  const isRaw =
    !ArrayBuffer.isView(value) || value instanceof DataView || value instanceof Uint8Array || value instanceof Uint8ClampedArray
  const isNatural = dtype
    ? ArrayBuffer.isView(value) && isNaturalView(dtype, value)
    : value instanceof Int8Array && code === 'i' && bits === 8
  if ((isRaw || isNatural) && wireLengthFits(descriptor, bytes.length)) return bytes

  const numbers = asNumericArray(value)
  if (numbers && !(isRaw && descriptor.variable) && convertible(descriptor)) {
    const components = format?.length ?? (dtype?.kind === 'c' ? 2 : 1)
    const row = knownElements(descriptor) * components
    if (descriptor.variable ? row > 0 && numbers.length % row === 0 : numbers.length === row)
      return convert(descriptor, numbers, numbers.length / components)
  }
  const wanted = descriptor.variable
    ? `rows of ${counted((knownElements(descriptor) * descriptor.elementBits) / 8, 'byte')}`
    : `${counted(descriptor.elements!, 'element')}, ${counted(descriptor.byteLength!, 'byte')}`
  return fail(descriptor.name, () => '', `shape (${shapeText(descriptor)}) takes ${wanted}; got ${described(value, bytes)}`)
}

const described = (value: object, bytes: Uint8Array): string => {
  const length = asNumericArray(value)?.length
  return `${value.constructor.name} of ${length === undefined ? '' : `${counted(length, 'element')}, `}${counted(bytes.length, 'byte')}`
}

const shapeText = (descriptor: Descriptor): string => descriptor.shape.map((dim) => dim ?? 'any').join(', ')

/** Whether an element is made of single numbers. */
const convertible = ({ dtype }: Descriptor): boolean => !dtype || (componentBytes(dtype) <= 8 && !'SUV'.includes(dtype.kind))

function wireLengthFits(descriptor: Descriptor, length: number): boolean {
  if (!descriptor.variable) return length === descriptor.byteLength
  const rowBits = knownElements(descriptor) * descriptor.elementBits
  if (rowBits === 0) return length === 0
  return Math.ceil((Math.floor((length * 8) / rowBits) * rowBits) / 8) === length
}

function convert(descriptor: Descriptor, numbers: NumericArray, elements: number): Uint8Array {
  const out = outputFor(descriptor, elements)
  const encoder = encoderFor(descriptor, out)
  let i = 0
  const where: Where = () => `[${i}]`
  for (; i < numbers.length; i++) encoder.put(i, numbers[i], where)
  return out
}

const outputFor = (descriptor: Descriptor, elements: number): Uint8Array<ArrayBuffer> =>
  allocate(Math.ceil((elements * descriptor.elementBits) / 8), `the value of item '${descriptor.name}'`)

function encodeNested(descriptor: Descriptor, value: ItemValue): Uint8Array {
  const shape = measure(descriptor, value)
  const out = outputFor(
    descriptor,
    shape.reduce((product, dim) => product * dim, 1),
  )
  const encoder = encoderFor(descriptor, out)
  const strides = stridesOf(shape, descriptor.order)
  const path: number[] = []
  const where: Where = () => path.map((i) => `[${i}]`).join('')
  const walk = (part: unknown, dim: number, element: number): void => {
    if (dim === shape.length) {
      putElement(descriptor, encoder, element, part, where)
      return
    }
    const row = rowOf(descriptor, part, dim)!
    // There is a stride for each dimension, and this is one.
    const stride = strides[dim]!
    for (let i = 0; i < row.length; i++) {
      path[dim] = i
      path.length = dim + 1
      walk(row[i], dim + 1, element + i * stride)
    }
  }
  walk(value, 0, 0)
  return out
}

/** Returns, for each dimension, how far apart on the wire elements are whose index differs by one. */
function stridesOf(shape: readonly number[], order: 'C' | 'F'): number[] {
  const strides = new Array<number>(shape.length)
  let stride = 1
  // `dim` takes every value from 0 to shape.length − 1.
  for (let k = 0; k < shape.length; k++) {
    const dim = order === 'F' ? k : shape.length - 1 - k
    strides[dim] = stride
    stride *= shape[dim]!
  }
  return strides
}

/** Returns the entries along a dimension, or undefined if the value has none. A string in the last dimension is a row of characters. */
function rowOf(descriptor: Descriptor, value: unknown, dim: number): ArrayLike<unknown> | undefined {
  if (Array.isArray(value)) return value
  if (typeof value === 'string' && dim === descriptor.shape.length - 1 && holdsCharacters(descriptor)) return [...value]
  return asNumericArray(value)
}

const holdsCharacters = ({ dtype, format }: Descriptor): boolean =>
  dtype ? dtype.kind === 'S' || dtype.kind === 'U' : onlyField(format)?.[0] === 'c'

/** Returns the shape of a nested value, which it checks in full before memory is taken for it. */
function measure(descriptor: Descriptor, value: ItemValue): number[] {
  const shape = [...descriptor.shape]
  const walk = (part: unknown, dim: number, where: Where): void => {
    if (dim === shape.length) return
    const row = rowOf(descriptor, part, dim)
    if (!row) fail(descriptor.name, where, `shape (${shapeText(descriptor)}) needs an array here; got ${shown(part)}`)
    shape[dim] ??= row.length
    const length = shape[dim]
    if (row.length !== length)
      fail(
        descriptor.name,
        where,
        `shape (${shapeText(descriptor)}) needs ${length} values along dimension ${dim}; got ${row.length}`,
      )
    for (let i = 0; i < length && dim + 1 < shape.length; i++) walk(row[i], dim + 1, () => `${where()}[${i}]`)
  }
  walk(value, 0, () => '')
  return shape.map((dim) => dim ?? 0)
}

function putElement(descriptor: Descriptor, encoder: Encoder, element: number, value: unknown, where: Where): void {
  const { components } = encoder
  const parts = Array.isArray(value) ? value : asNumericArray(value)
  if (components === 1 || (descriptor.dtype && !parts)) {
    // The imaginary part of a plain number is the zero that is there.
    encoder.put(element * components, value, where)
  } else if (parts?.length === components) {
    for (let i = 0; i < components; i++) encoder.put(element * components + i, parts[i], where)
  } else {
    const wanted = descriptor.dtype ? 'a number or [re, im]' : `an array of ${components} fields`
    fail(descriptor.name, where, `${shown(value)} is not ${wanted}`)
  }
}
