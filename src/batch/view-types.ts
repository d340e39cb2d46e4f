/** Types of the views and columns that the heaps of a batch have, from the type of its item group. */
import type { Immediate, NumericView, Uncertain, ViewClass } from '../spead/index.js'

/** The views of a heap whose items are not known when the program is compiled. */
export type HeapViews = Record<string, NumericView>

/** The bytes that an item pointer holds, by the flavour's heap address bits. */
interface Room {
  8: 0 | 1
  16: 0 | 1 | 2
  24: 0 | 1 | 2 | 3
  32: 0 | 1 | 2 | 3 | 4
  40: 0 | 1 | 2 | 3 | 4 | 5
  48: 0 | 1 | 2 | 3 | 4 | 5 | 6
  56: 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7
}

/** Bytes of items that are immediates in every flavour that it may be, and in one of them. */
type Surely<Bits> = Bits extends keyof Room ? Room[Bits] : Room[8]
type Perhaps<Bits> = Bits extends keyof Room ? Room[Bits] : Room[56]

/** The bytes that make an item an immediate; never for one that cannot be. */
type BytesOf<E> = E extends Immediate<infer Bytes> ? Bytes : never
type IsImmediate<E, Bits> = [BytesOf<E>] extends [never] ? false : [BytesOf<E>] extends [Surely<Bits>] ? true : false
type MayBeImmediate<E, Bits> =
  number extends BytesOf<E> ? true : [Extract<BytesOf<E>, Perhaps<Bits>>] extends [never] ? false : true
type ViewIn<E> = E extends Uncertain<infer View> ? View : Exclude<E, Immediate>

/** The views of a heap of the items `G`, in a flavour with heap addresses of `Bits`: where the type cannot tell, an item has a view and a column. */
export type HeapOf<G, Bits = number> = [keyof G] extends [never]
  ? HeapViews
  : { readonly [K in keyof G as IsImmediate<G[K], Bits> extends true ? never : K]: ViewIn<G[K]> }

/** In the place of a flavour's bits: the items were named by hand, in a type argument, and its immediates need not be. */
export type ByHand = 0

/** The names of the immediates among the items `G`. */
export type ImmediatesOf<G, Bits = number> = [keyof G] extends [never]
  ? string
  : Bits extends ByHand
    ? string
    : { [K in keyof G & string]: MayBeImmediate<G[K], Bits> extends true ? K : never }[keyof G & string]

/** The option `views`: the class of each item's view, by name. */
export type ViewClasses = Readonly<Record<string, ViewClass>>

/** The views of heaps whose classes were given; loose ones where none were, or it is not known which. */
export type Instances<V> = [keyof V] extends [never]
  ? HeapViews
  : string extends keyof V
    ? HeapViews
    : { readonly [K in keyof V]: V[K] extends { readonly prototype: infer View } ? View : never }

/** The classes that the option `views` may name for the items `G`. */
export type ClassesFor<G, V> = [keyof G] extends [never]
  ? unknown
  : { readonly [K in keyof V]: K extends keyof HeapOf<G> ? { readonly prototype: HeapOf<G>[K] } : never }

/** The views of a heap as `createBatch` knows them: from the items, else from the option `views`, else nothing. */
export type ViewsOf<G, Bits, V> = [keyof G] extends [never] ? Instances<V> : HeapOf<G, Bits>

/** No option `views`. */
export type NoViews = Readonly<Record<never, never>>
