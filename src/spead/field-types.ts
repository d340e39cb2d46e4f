/** How the values of a field are read, checked and written: numbers as big-endian views have them, single bytes, and bytes of strings. */
import { shown } from '../checks.js'
import { counted } from '../errors.js'
import { bigEndianNumber } from './big-endian-numbers.js'
import type { Dtype } from './dtype-types.js'
import { booleanCheck, type Check, fail, integerCheck } from './number-checks.js'

export interface FieldType<V extends number | bigint | Uint8Array> {
  /** numpy's kind and bytes of one value. */
  readonly code: string
  /** Bytes of one value; of a complex number, of each of its two. */
  readonly size: number
  get(data: DataView, at: number, little?: boolean): V
  put(data: DataView, at: number, value: V, little?: boolean): void
  /** Whether it can be written as it is. */
  fits(value: unknown): value is V
  /** @param name the field's, for the error */
  check(name: string): Check<V>
}

const BYTES: Readonly<Record<string, FieldType<number>>> = {
  i1: {
    code: 'i1',
    size: 1,
    get: (data, at) => data.getInt8(at),
    put: (data, at, value) => data.setInt8(at, value),
    fits: (x): x is number => typeof x === 'number' && x === (x << 24) >> 24,
    check: (name) => integerCheck(name, 'i', 8) as Check<number>,
  },
  u1: {
    code: 'u1',
    size: 1,
    get: (data, at) => data.getUint8(at),
    put: (data, at, value) => data.setUint8(at, value),
    fits: (x): x is number => typeof x === 'number' && x === (x & 0xff),
    check: (name) => integerCheck(name, 'u', 8) as Check<number>,
  },
  b1: {
    code: 'b1',
    size: 1,
    get: (data, at) => data.getUint8(at),
    put: (data, at, value) => data.setUint8(at, value),
    fits: (x): x is number => x === 0 || x === 1,
    check: booleanCheck,
  },
}

/** Values without a number are their bytes: strings, void, long doubles. A shorter string is filled with zeros. */
function bytesType({ kind, itemSizeBytes, descr }: Dtype): FieldType<Uint8Array> {
  const memory = (data: DataView, at: number) => new Uint8Array(data.buffer, data.byteOffset + at, itemSizeBytes)
  return {
    code: descr,
    size: itemSizeBytes,
    get: memory,
    put: (data, at, value) => {
      const bytes = memory(data, at)
      bytes.set(value)
      bytes.fill(0, value.length)
    },
    fits: (_): _ is Uint8Array => false,
    check: (name) => (value, where) => {
      if (value instanceof Uint8Array && (value.length === itemSizeBytes || (kind === 'S' && value.length < itemSizeBytes)))
        return value
      const size = `${kind === 'S' ? 'up to ' : ''}${counted(itemSizeBytes, 'byte')}`
      return fail(name, where, `${shown(value)} is not a Uint8Array of ${size}, which ${descr} needs`)
    },
  }
}

/** @param dtype a scalar */
export function fieldTypeOf(dtype: Dtype): FieldType<number | bigint | Uint8Array> {
  const { kind, itemSizeBytes } = dtype
  const size = kind === 'c' ? itemSizeBytes / 2 : itemSizeBytes
  const type = BYTES[`${kind}${size}`] ?? bigEndianNumber(kind, size) ?? bytesType(dtype)
  return type as FieldType<number | bigint | Uint8Array>
}
