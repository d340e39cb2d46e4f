/** The type of an ItemGroup knows its items: by name the view of each, and whether it may be an immediate. */
import type { Capped, NumericView } from './dtype-text.js'
import type { ElementOf } from './element-of.js'

declare const BYTES: unique symbol
declare const VIEW: unique symbol

/**
 * In the type of an ItemGroup: the item stands in its item pointer where that has room for its `Bytes`, and then has a column
 * (`batch.immediate`) and no view. SPEAD-64-48 has room for 6.
 */
export interface Immediate<Bytes extends number = number> {
  /** @hidden In the type alone. */
  readonly [BYTES]: Bytes
}

/** In the type of an ItemGroup, beside a view: an item whose length is only known when the program runs. It may have a view or a column. */
export interface Uncertain<View> extends Immediate {
  /** @hidden In the type alone. */
  readonly [VIEW]: View
}

/**
 * One field of a SPEAD format: 'u' unsigned, 'i' signed, 'b' boolean, each of any width in bits; 'c' character, of 8; 'f' IEEE float, of 32 or 64.
 */
export type FormatField =
  | readonly [code: 'u' | 'i' | 'b', bits: number]
  | readonly [code: 'c', bits: 8]
  | readonly [code: 'f', bits: 32 | 64]

/** The dimensions of an item. null: any length, known from each value. */
export type Shape = readonly (number | null)[]

// biome-ignore format: a table
type Products = [
  [0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 2, 4, 6, 8, 8, 8, 8, 8], [0, 3, 6, 8, 8, 8, 8, 8, 8],
  [0, 4, 8, 8, 8, 8, 8, 8, 8], [0, 5, 8, 8, 8, 8, 8, 8, 8], [0, 6, 8, 8, 8, 8, 8, 8, 8], [0, 7, 8, 8, 8, 8, 8, 8, 8],
  [0, 8, 8, 8, 8, 8, 8, 8, 8],
]

type Small = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8

/** A × B, capped. 8 times an unknown number is 8: a dimension of 0 that only the running program knows is left out of account. */
type Times<A, B> = A extends 8
  ? B extends 0
    ? 0
    : 8
  : B extends 8
    ? A extends 0
      ? 0
      : 8
    : A extends Small
      ? B extends Small
        ? Products[A][B]
        : number
      : number

/** The elements of a shape, capped. A dimension of any length makes an item that is never immediate. */
type Count<S extends readonly unknown[], C = 1> = S extends readonly [infer D, ...infer R]
  ? Count<R, D extends null ? 8 : Times<C, Capped<D>>>
  : S extends readonly []
    ? C
    : number

interface FieldBytes {
  8: 1
  16: 2
  24: 3
  32: 4
  40: 5
  48: 6
  56: 7
}

/** The bytes of an element: of one field alone, because records are rare. Broken bytes are never immediate. */
type FormatBytes<F> = F extends readonly [readonly [unknown, infer Bits]]
  ? Bits extends keyof FieldBytes
    ? FieldBytes[Bits]
    : number extends Bits
      ? number
      : 8
  : number

/** A type of several dtypes has several lengths, of which 8 says that the item may be no immediate. */
type Entry<View, Bytes, MayBe> = [MayBe] extends [false]
  ? View
  : number extends Bytes
    ? View & Uncertain<View>
    : [Bytes] extends [8]
      ? View
      : boolean extends MayBe
        ? View & Uncertain<View>
        : View | (Bytes extends number ? Immediate<Bytes> : never)

/** An item in the type of a group. */
export type EntryOf<D, F, S extends Shape, MayBe> = [D] extends [never]
  ? [F] extends [never]
    ? NumericView & Uncertain<NumericView>
    : Entry<Uint8Array, Times<FormatBytes<F>, Count<S>>, MayBe>
  : ElementOf<D> extends infer E extends [unknown, unknown]
    ? Entry<E[0], Times<E[1], Count<S>>, MayBe>
    : never

type IsUnion<T, U = T> = T extends unknown ? ([U] extends [T] ? false : true) : never

/**
 * The items `G` and one more, or in the place of the one of that name; unknown where its name is. The constraint makes the compiler
 * look at each property at once: left for later, they would nest as deep as there are items.
 */
export type WithItem<G, N extends string, E> = unknown extends G
  ? unknown
  : true extends IsUnion<N> | (string extends N ? true : false)
    ? unknown
    : { [K in keyof G | N]: K extends N ? E : K extends keyof G ? G[K] : never } extends infer O extends Record<string, object>
      ? O
      : never

/** Names of items: any where the group's items are not known. */
export type NameIn<G> = [keyof G] extends [never] ? string : keyof G & string
