export type DtypeKind = 'b' | 'i' | 'u' | 'f' | 'c' | 'S' | 'U' | 'V' | 'M' | 'm'
export interface Dtype {
  readonly kind: DtypeKind
  readonly itemSizeBytes: number
  readonly bigEndian: boolean
  readonly descr: string
}
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
export function parseDtype(text: string): Dtype {
  throw new Error(text)
}
export function typedView(dtype: Dtype, buffer: ArrayBufferLike, byteOffset: number, elements: number): NaturalView {
  throw new Error(`${dtype}${buffer}${byteOffset}${elements}`)
}
export function alignmentOf(dtype: Dtype): number {
  throw new Error(`${dtype}`)
}
