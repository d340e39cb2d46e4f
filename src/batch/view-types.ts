/** What views and columns the heaps of a batch have, from the type of its item group. */
import type { Immediate, NumericView, ViewClass } from '../spead/index.js'

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

/** Bytes of items that are immediates in each flavour that it may be, and in one of them. */
type Surely<Bits> = Bits extends keyof Room ? Room[Bits] : Room[8]
type Perhaps<Bits> = Bits extends keyof Room ? Room[Bits] : number

/** Whether an item has a view, and whether it has a column: both, where the type cannot tell. */
type HasView<E, Bits> = [Extract<E, Immediate>] extends [Immediate<infer Bytes>]
  ? [Extract<E, Immediate>] extends [never]
    ? true
    : [Bytes] extends [Surely<Bits>]
      ? false
      : true
  : true
type HasColumn<E, Bits> = [Extract<E, Immediate>] extends [never]
  ? false
  : Extract<E, Immediate> extends Immediate<infer Bytes>
    ? number extends Bytes
      ? true
      : [Extract<Bytes, Perhaps<Bits>>] extends [never]
        ? false
        : true
    : false

/** The views of a heap of the items `G`, in a flavour with heap addresses of `Bits`. */
export type HeapOf<G, Bits = number> = [keyof G] extends [never]
  ? HeapViews
  : { readonly [K in keyof G as HasView<G[K], Bits> extends false ? never : K]: Exclude<G[K], Immediate> }

/** The names of the immediates among the items `G`. */
export type ImmediatesOf<G, Bits = number> = [keyof G] extends [never]
  ? string
  : { [K in keyof G & string]: HasColumn<G[K], Bits> extends false ? never : K }[keyof G & string]

/** The option `views`: the class of each item's view, by name. */
export type ViewClasses = Readonly<Record<string, ViewClass>>

/** The views of heaps whose classes were given. */
export type Instances<V> = { readonly [K in keyof V]: V[K] extends { readonly prototype: infer View } ? View : never }

/** The classes that the option `views` may name for the items `G`. */
export type ClassesFor<G, V> = [keyof G] extends [never]
  ? unknown
  : { readonly [K in keyof V]: K extends keyof HeapOf<G> ? { readonly prototype: HeapOf<G>[K] } : never }

/** What `createBatch` knows of a heap's views: from the items, else from the option `views`, else nothing. */
export type ViewsOf<G, Bits, V> = [keyof G] extends [never]
  ? [keyof V] extends [never]
    ? HeapViews
    : Instances<V>
  : HeapOf<G, Bits>

/** No option `views`. */
export type NoViews = Readonly<Record<never, never>>
