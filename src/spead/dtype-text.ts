/** numpy's names of scalar types as types: which texts `dtype` takes, and which view and how many bytes each has. `parseDtype` reads them. */
import type { BigEndianBigIntView, BigEndianView } from './big-endian.js'

/** The typed arrays of numbers: what a view is typed as where the dtype is not known when the program is compiled. */
export type NumericView = Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float32Array | Float64Array

/** By kind and bytes: the view, the bytes (8 for 8 or more), and the view of the big-endian type. */
// biome-ignore format: a table
interface Elements {
  b1: [Uint8Array, 1, Uint8Array]; i1: [Int8Array, 1, Int8Array]; u1: [Uint8Array, 1, Uint8Array]
  i2: [Int16Array, 2, BigEndianView]; u2: [Uint16Array, 2, BigEndianView]; f2: [Uint16Array, 2, BigEndianView]
  i4: [Int32Array, 4, BigEndianView]; u4: [Uint32Array, 4, BigEndianView]; f4: [Float32Array, 4, BigEndianView]
  i8: [BigInt64Array, 8, BigEndianBigIntView]; u8: [BigUint64Array, 8, BigEndianBigIntView]; f8: [Float64Array, 8, BigEndianView]
  f16: [Uint8Array, 8, Uint8Array]; c8: [Float32Array, 8, BigEndianView]; c16: [Float64Array, 8, BigEndianView]; c32: [Uint8Array, 8, Uint8Array]
}

// biome-ignore format: a table
interface Aliases {
  '?': 'b1'; b: 'i1'; B: 'u1'; h: 'i2'; H: 'u2'; i: 'i4'; I: 'u4'; l: 'i8'; L: 'u8'; q: 'i8'; Q: 'u8'; p: 'i8'; P: 'u8'; n: 'i8'; N: 'u8'
  e: 'f2'; f: 'f4'; d: 'f8'; g: 'f16'; F: 'c8'; D: 'c16'; G: 'c32'
}

// biome-ignore format: a table
interface Names {
  bool: 'b1'; bool_: 'b1'; int8: 'i1'; int16: 'i2'; int32: 'i4'; int64: 'i8'; uint8: 'u1'; uint16: 'u2'; uint32: 'u4'; uint64: 'u8'
  byte: 'i1'; short: 'i2'; intc: 'i4'; int: 'i8'; int_: 'i8'; long: 'i8'; longlong: 'i8'; intp: 'i8'
  ubyte: 'u1'; ushort: 'u2'; uintc: 'u4'; uint: 'u8'; ulong: 'u8'; ulonglong: 'u8'; uintp: 'u8'
  float16: 'f2'; float32: 'f4'; float64: 'f8'; float128: 'f16'; half: 'f2'; single: 'f4'; double: 'f8'; float: 'f8'; longdouble: 'f16'
  complex64: 'c8'; complex128: 'c16'; complex256: 'c32'; csingle: 'c8'; cdouble: 'c16'; complex: 'c16'; clongdouble: 'c32'
}

type TimeUnit = 'Y' | 'M' | 'W' | 'D' | 'h' | 'm' | 's' | 'ms' | 'us' | 'ns' | 'ps' | 'fs' | 'as'
type TimeName = 'M8' | 'm8' | 'datetime64' | 'timedelta64'
type Time = TimeName | `${TimeName}[${TimeUnit}]` | `${TimeName}[${number}${TimeUnit}]`
type Code = keyof Elements | keyof Aliases | Time | 'c' | `${'S' | 'a' | 'U' | 'V'}${number}`

/**
 * A numpy scalar type by its name: '<i2', 'u1', '>f4', 'c8', 'int16', 'complex64', 'S5', 'U3', 'V4', 'M8[ns]', '?'; or a structured type as Python
 * prints its fields, `'[("re", "<i2"), ("im", "<i2")]'`. A text that is only known when the program runs goes in as `text as DtypeText`: it is
 * checked there, whatever its type says (ERR_SPEADCAST_ITEM).
 */
export type DtypeText = Code | `${'<' | '>' | '=' | '|'}${Code}` | keyof Names | StructuredText

/** Fields in brackets, each of a name, a type and, where it is an array, a shape. */
export type StructuredText = `[${string}]`

/** The bytes of something as far as it matters for immediates, which hold at most 7: 8 for 8 or more, `number` where they are not known. */
export type Capped<N> = N extends 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 ? N : number extends N ? number : 8

type Canonical<C> = C extends keyof Aliases ? Aliases[C] : C

type Element<C, Side extends 0 | 2> = C extends keyof Elements
  ? [Elements[C][Side], Elements[C][1]]
  : C extends Time
    ? [Side extends 2 ? BigEndianBigIntView : BigInt64Array, 8]
    : C extends 'c'
      ? [Uint8Array, 1]
      : C extends `U${infer N extends number}`
        ? [Uint8Array, N extends 1 ? 4 : 8]
        : C extends `${string}${infer N extends number}`
          ? [Uint8Array, Capped<N>]
          : [NumericView, number]

/** View and bytes of one element of a scalar dtype. */
export type ScalarOf<D> = DtypeText extends D
  ? [NumericView, number]
  : D extends keyof Names
    ? Element<Names[D], 0>
    : D extends `>${infer C}`
      ? Element<Canonical<C>, 2>
      : D extends `${'<' | '=' | '|'}${infer C}`
        ? Element<Canonical<C>, 0>
        : Element<Canonical<D>, 0>
