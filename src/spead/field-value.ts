/** Finds the types of a structured dtype's fields from the dtype's text. */
import type { BigEndianBigIntView } from './big-endian.js'
import type { DtypeText, ScalarOf } from './dtype-text.js'

/** The text of a field's type, where the text of the fields is known and in numpy's own spelling or without spaces. */
type FieldText<D, N extends string> = D extends `${string}("${N}", "${infer C}"${string}`
  ? C
  : D extends `${string}("${N}","${infer C}"${string}`
    ? C
    : D extends `${string}('${N}', '${infer C}'${string}`
      ? C
      : D extends `${string}('${N}','${infer C}'${string}`
        ? C
        : never

/** The type of the values of a structured type's field; `number` where the text does not tell. */
export type FieldValue<D, N extends string> = [FieldText<D, N>] extends [never]
  ? number
  : FieldText<D, N> extends `${'' | '<' | '>' | '=' | '|'}${'S' | 'a' | 'U' | 'V'}${number}`
    ? Uint8Array
    : FieldText<D, N> extends DtypeText
      ? ScalarOf<FieldText<D, N>> extends [BigInt64Array | BigUint64Array | BigEndianBigIntView, unknown]
        ? bigint
        : number
      : number
