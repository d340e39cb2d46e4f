import { shown } from '../checks.js'
import { counted } from '../errors.js'
import { float16Bits, putBits, putWideBits } from './bytes.js'
import type { Descriptor } from './descriptor.js'
import { componentBytes, type Dtype } from './dtype.js'
import type { FormatField } from './item-types.js'
import { booleanCheck, type Check, fail, floatCheck, integerCheck, type Where } from './number-checks.js'

/**
 * Writes the components of an item's elements into its wire bytes: the fields of a format, the two floats of a complex, else the
 * element itself. Component i belongs to element ⌊i / components⌋, elements counted as they lie on the wire.
 */
export interface Encoder {
  readonly components: number
  /** Throws ERR_SPEADCAST_VALUE if `value` is of the wrong type or out of range. */
  put(component: number, value: unknown, where: Where): void
}

export function encoderFor(descriptor: Descriptor, out: Uint8Array<ArrayBuffer>): Encoder {
  return descriptor.dtype
    ? dtypeEncoder(descriptor.name, descriptor.dtype, out)
    : formatEncoder(descriptor, descriptor.format!, out)
}

/** Makes a check for a format's character: one ASCII character, or its byte as a number. */
function characterCheck(name: string): Check<number> {
  return (value, where) => {
    if (typeof value === 'string' && value.length === 1 && value.charCodeAt(0) < 0x80) return value.charCodeAt(0)
    if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 255) return value
    return fail(name, where, `${shown(value)} is not one ASCII character`)
  }
}

/** An element is an array with a value for each field, and a field that is an array has nested ones. */
function structEncoder(name: string, { fields, itemSizeBytes }: Dtype, out: Uint8Array): Encoder {
  const writers = fields!.map(({ name: field, offsetBytes, dtype, shape }) => {
    const scratch = new Uint8Array(dtype.itemSizeBytes)
    const { components, put } = dtypeEncoder(name, dtype, scratch)
    const putOne = (at: number, value: unknown, where: Where): void => {
      scratch.fill(0)
      if (components === 1) put(0, value, where)
      else for (const [i, part] of partsOf(name, value, components, where).entries()) put(i, part, where)
      out.set(scratch, at)
    }
    const putArray = (at: number, value: unknown, dim: number, where: Where): void => {
      const size = shape[dim]
      if (size === undefined) {
        putOne(at, value, where)
        return
      }
      const bytes = shape.slice(dim + 1).reduce((product, each) => product * each, dtype.itemSizeBytes)
      for (const [i, part] of listOf(name, value, size, where).entries())
        putArray(at + i * bytes, part, dim + 1, () => `${where()}[${i}]`)
    }
    return (at: number, value: unknown, where: Where) => putArray(at + offsetBytes, value, 0, () => `${where()}.${field}`)
  })
  return {
    components: 1,
    put: (i, value, where) => {
      for (const [k, part] of listOf(name, value, writers.length, where).entries()) writers[k]!(i * itemSizeBytes, part, where)
    },
  }
}

function listOf(name: string, value: unknown, length: number, where: Where): readonly unknown[] {
  const list = Array.isArray(value)
    ? (value as readonly unknown[])
    : ArrayBuffer.isView(value) && !(value instanceof DataView)
      ? Array.from(value as unknown as ArrayLike<unknown>)
      : undefined
  return list?.length === length ? list : fail(name, where, `${shown(value)} is not an array of ${counted(length, 'value')}`)
}

/** A complex number: a plain one has no imaginary part. */
const partsOf = (name: string, value: unknown, components: number, where: Where): readonly unknown[] =>
  typeof value === 'number' ? [value] : listOf(name, value, components, where)

function dtypeEncoder(name: string, dtype: Dtype, out: Uint8Array<ArrayBuffer>): Encoder {
  if (dtype.fields) return structEncoder(name, dtype, out)
  const view = new DataView(out.buffer, out.byteOffset, out.byteLength)
  const little = !dtype.bigEndian
  const size = componentBytes(dtype)
  const one = (put: (at: number, value: unknown, where: Where) => void): Encoder => ({
    components: 1,
    put: (i, value, where) => put(i * dtype.itemSizeBytes, value, where),
  })
  switch (dtype.kind) {
    case 'b': {
      const boolean = booleanCheck(name)
      return one((at, value, where) => view.setUint8(at, boolean(value, where)))
    }
    case 'i':
    case 'u':
    case 'M':
    case 'm': {
      const integer = integerCheck(name, dtype.kind === 'u' ? 'u' : 'i', size * 8)
      if (size === 1) return one((at, value, where) => view.setUint8(at, Number(integer(value, where))))
      if (size === 2) return one((at, value, where) => view.setUint16(at, Number(integer(value, where)), little))
      if (size === 4) return one((at, value, where) => view.setUint32(at, Number(integer(value, where)), little))
      return one((at, value, where) => view.setBigUint64(at, BigInt.asUintN(64, BigInt(integer(value, where))), little))
    }
    case 'f':
    case 'c': {
      if (size === 16)
        return one((_at, _value, where) => fail(name, where, `values of ${dtype.descr} can only be given as raw bytes`))
      const float = floatCheck(name, size * 8)
      const set = (at: number, value: number): void => {
        if (size === 2) view.setUint16(at, float16Bits(value), little)
        else if (size === 4) view.setFloat32(at, value, little)
        else view.setFloat64(at, value, little)
      }
      return { components: dtype.itemSizeBytes / size, put: (i, value, where) => set(i * size, float(value, where)) }
    }
    case 'U':
      return one((at, value, where) => putUnicode(name, dtype, view, at, value, where))
    default:
      return one((at, value, where) => putRaw(name, dtype, out, at, value, where))
  }
}

function putUnicode(name: string, dtype: Dtype, view: DataView, at: number, value: unknown, where: Where): void {
  if (typeof value !== 'string') fail(name, where, `${shown(value)} is not a string, which ${dtype.descr} needs`)
  const characters = [...value]
  const limit = dtype.itemSizeBytes / 4
  if (characters.length > limit)
    fail(name, where, `${shown(value)} has ${counted(characters.length, 'character')}; ${dtype.descr} holds ${limit}`)
  characters.forEach((character, i) => {
    view.setUint32(at + 4 * i, character.codePointAt(0)!, !dtype.bigEndian)
  })
}

/** S takes strings and bytes up to its size and fills with zeros; V takes exactly its size in bytes. */
function putRaw(name: string, dtype: Dtype, out: Uint8Array, at: number, value: unknown, where: Where): void {
  const limit = dtype.itemSizeBytes
  if (dtype.kind === 'S' && typeof value === 'string') {
    if (value.length > limit)
      fail(name, where, `${shown(value)} has ${counted(value.length, 'character')}; ${dtype.descr} holds ${limit}`)
    for (let i = 0; i < value.length; i++) {
      if (value.charCodeAt(i) > 0x7f)
        fail(name, where, `'${value}' is not ASCII, which ${dtype.descr} needs; U<n> takes any characters`)
      out[at + i] = value.charCodeAt(i)
    }
    return
  }
  const wanted =
    dtype.kind === 'S' ? `a string or a Uint8Array of up to ${counted(limit, 'byte')}` : `a Uint8Array of ${counted(limit, 'byte')}`
  if (!(value instanceof Uint8Array) || value.length > limit || (dtype.kind === 'V' && value.length !== limit))
    fail(name, where, `${shown(value)} is not ${wanted}, which ${dtype.descr} needs`)
  out.set(value, at)
}

type PutField = (at: number, value: unknown, where: Where) => void

function formatEncoder(descriptor: Descriptor, format: readonly FormatField[], out: Uint8Array<ArrayBuffer>): Encoder {
  const fields: PutField[] = format.map((field) => fieldWriter(descriptor.name, field, out))
  const bits = descriptor.elementBits
  const offsets: number[] = []
  format.reduce((offset, [, width], i) => {
    offsets[i] = offset
    return offset + width
  }, 0)
  const [only] = fields
  if (only && fields.length === 1) return { components: 1, put: (i, value, where) => only(i * bits, value, where) }
  return {
    components: fields.length,
    put: (i, value, where) => {
      // Below fields.length, and each field has an offset.
      const field = i % fields.length
      fields[field]!(((i - field) / fields.length) * bits + offsets[field]!, value, where)
    },
  }
}

function fieldWriter(name: string, [code, bits]: FormatField, out: Uint8Array<ArrayBuffer>): PutField {
  switch (code) {
    case 'b': {
      const boolean = booleanCheck(name)
      return (at, value, where) => putBits(out, at + bits - 1, boolean(value, where), 1)
    }
    case 'c': {
      const character = characterCheck(name)
      return (at, value, where) => putBits(out, at, character(value, where), 8)
    }
    case 'f': {
      const float = floatCheck(name, bits)
      const scratch = new DataView(new ArrayBuffer(8))
      if (bits === 32)
        return (at, value, where) => {
          scratch.setFloat32(0, float(value, where))
          putBits(out, at, scratch.getUint32(0), 32)
        }
      return (at, value, where) => {
        scratch.setFloat64(0, float(value, where))
        putBits(out, at, scratch.getUint32(0), 32)
        putBits(out, at + 32, scratch.getUint32(4), 32)
      }
    }
    default: {
      const integer = integerCheck(name, code === 'i' ? 'i' : 'u', bits)
      return (at, value, where) => putWideBits(out, at, integer(value, where), bits)
    }
  }
}
