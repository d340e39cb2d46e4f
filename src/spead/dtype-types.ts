import type { DtypeText } from './dtype-text.js'

/** numpy's kind letters: bool, signed, unsigned, float, complex, bytes, unicode (UCS-4), void, datetime64, timedelta64. */
export type DtypeKind = 'b' | 'i' | 'u' | 'f' | 'c' | 'S' | 'U' | 'V' | 'M' | 'm'

/** A numpy type: a scalar, or a structured one of fields. */
export interface Dtype {
  /** The kind of thing that it holds. */
  readonly kind: DtypeKind
  /** Bytes of one element. */
  readonly itemSizeBytes: number
  /** True only where byte order means something (more than one byte a unit). */
  readonly bigEndian: boolean
  /** numpy's own spelling, as it stands in a descriptor: '<i2', '|i1', '>f8', '|S5', '<M8[ns]', "[('re', '<i2'), ('im', '<i2')]". */
  readonly descr: DtypeText
  /** The fields of a structured type, in their order in memory. Padding is no field. Undefined for a scalar. */
  readonly fields?: readonly DtypeField[]
}

/** A field of a structured type. */
export interface DtypeField {
  /** Its name. */
  readonly name: string
  /** Where it begins, in bytes from the element's start. */
  readonly offsetBytes: number
  /** Its type, or that of its elements where it has a shape. */
  readonly dtype: Dtype
  /** The dimensions of a field that is an array; [] for one value. */
  readonly shape: readonly number[]
}
