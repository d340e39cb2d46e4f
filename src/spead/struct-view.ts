/**
 * Views of structured items: a StructView of the elements, and of each field a FieldView, which steps from element to element. Fields may stand at
 * any byte and have any byte order, so no typed array shows them.
 */
import { shown } from '../checks.js'
import { ensure, INSPECT, type Inspection, inspected, SpeadcastError } from '../errors.js'
import { noIndex } from './big-endian.js'
import type { Dtype, DtypeField } from './dtype-types.js'
import { type FieldType, fieldTypeOf } from './field-types.js'
import type { FieldValue } from './field-value.js'

/** Values side by side or spread: `count` of them, `stride` bytes apart. */
interface Level {
  readonly count: number
  readonly stride: number
}

/** Where the values of a view stand: the first byte, and levels from the outermost in. */
interface Places {
  readonly data: DataView
  readonly at: number
  readonly levels: readonly Level[]
}

const MADE = Symbol('made by a batch')

/** Levels with one more inside, or one less where both are one. */
function within(levels: readonly Level[], inner: Level): readonly Level[] {
  const outer = levels.at(-1)
  if (inner.count === 1) return levels
  if (outer && outer.stride === inner.count * inner.stride)
    return [...levels.slice(0, -1), { count: outer.count * inner.count, stride: inner.stride }]
  return [...levels, inner]
}

const lengthOf = (levels: readonly Level[]): number => levels.reduce((product, { count }) => product * count, 1)

function refuseIndex(view: unknown, key: string, call: string): never {
  const does = view instanceof StructView ? 'field(name) has the values of a field' : `call ${call}, or fill, or set with an array`
  const kind = view instanceof StructView ? 'StructView' : 'FieldView'
  throw new SpeadcastError('ERR_SPEADCAST_VALUE', `a ${kind} has no [${key}], because a store there would send nothing; ${does}`)
}

/**
 * The elements of a structured item, such as dtype `[("re", "<i2"), ("im", "<i2")]`. Made by a batch, and valid as long as that is open.
 * @example
 * const { voltage } = batch.heap(0)
 * voltage.field('re').fill(100)
 * voltage.field('im').set(Int16Array.of(1, 2, 3))
 */
export class StructView<D extends string = string> {
  /** How many elements it has. */
  readonly length: number
  readonly #dtype: Dtype
  /** The item's name, for errors. */
  readonly #name: string
  readonly #places: Places

  /** @internal made by a batch */
  constructor(made: symbol, dtype: Dtype, name: string, places: Places) {
    ensure(made === MADE, 'ERR_SPEADCAST_CONFIG', () => 'new StructView: a batch makes these views; take them from batch.heap(j)')
    this.#dtype = dtype
    this.#name = name
    this.#places = places
    this.length = lengthOf(places.levels)
  }

  /** @internal The view of an item that begins at a byte of a buffer. */
  static over(dtype: Dtype, buffer: ArrayBufferLike, byteOffset: number, elements: number, name: string): StructView {
    const data = new DataView(buffer, byteOffset, elements * dtype.itemSizeBytes)
    return new StructView(MADE, dtype, name, { data, at: 0, levels: [{ count: elements, stride: dtype.itemSizeBytes }] })
  }

  /** The names of the fields, in their order in memory. */
  get fields(): readonly string[] {
    return this.#dtype.fields!.map(({ name }) => name)
  }

  /** The memory that it is a part of. */
  get buffer(): ArrayBufferLike {
    return this.#places.data.buffer
  }

  /** Where in that memory the item begins, in bytes. */
  get byteOffset(): number {
    return this.#places.data.byteOffset
  }

  /** The item's length in bytes. */
  get byteLength(): number {
    return this.#places.data.byteLength
  }

  /** The item's memory, as the bytes of the wire. */
  get bytes(): Uint8Array {
    return new Uint8Array(this.buffer, this.byteOffset, this.byteLength)
  }

  /**
   * Returns the values of a field in all elements: numbers, bigints of 64-bit integers and times, 0 and 1 of booleans, bytes of strings. An array
   * in a field has as many values in each element, a complex number two (re, im).
   * @throws ERR_SPEADCAST_ITEM for a name that is none of the fields, or is one of fields
   * @example for (const re of batch.heap(0).voltage.field('re')) console.log(re)
   */
  field<N extends string>(name: N): FieldView<FieldValue<D, N>> {
    const { dtype, shape, offsetBytes } = this.#find('field', name)
    ensure(
      !dtype.fields,
      'ERR_SPEADCAST_ITEM',
      () => `field ${shown(name)} of item '${this.#name}' has fields itself; call struct(${shown(name)})`,
    )
    const type = fieldTypeOf(dtype)
    const { data, at, levels } = this.#inner(dtype, shape, offsetBytes)
    const places = { data, at, levels: within(levels, { count: dtype.itemSizeBytes / type.size, stride: type.size }) }
    return new FieldView(MADE, type, !dtype.bigEndian, `${this.#name}.${name}`, places) as FieldView<FieldValue<D, N>>
  }

  /**
   * Returns the view of a field that has fields itself. @throws ERR_SPEADCAST_ITEM for a name that is none of these
   * @example batch.heap(0).pulses.struct('position').field('x').fill(0)
   */
  struct(name: string): StructView {
    const { dtype, shape, offsetBytes } = this.#find('struct', name)
    ensure(
      dtype.fields,
      'ERR_SPEADCAST_ITEM',
      () => `field ${shown(name)} of item '${this.#name}' has no fields; call field(${shown(name)})`,
    )
    return new StructView(MADE, dtype, `${this.#name}.${name}`, this.#inner(dtype, shape, offsetBytes))
  }

  #find(call: string, name: string): DtypeField {
    const field = this.#dtype.fields!.find((each) => each.name === name)
    if (field) return field
    const known = this.fields.map(shown).join(', ')
    throw new SpeadcastError('ERR_SPEADCAST_ITEM', `${call}: item '${this.#name}' has no field ${shown(name)}; it has ${known}`)
  }

  #inner({ itemSizeBytes }: Dtype, shape: readonly number[], offsetBytes: number): Places {
    const { data, at, levels } = this.#places
    const count = shape.reduce((product, size) => product * size, 1)
    return { data, at: at + offsetBytes, levels: within(levels, { count, stride: itemSizeBytes }) }
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    if (!(#dtype in this)) return 'StructView'
    return inspected('StructView', how, () => ({ dtype: this.#dtype.descr, length: this.length }))
  }
}

Object.setPrototypeOf(StructView.prototype, noIndex(refuseIndex))

/** As many as inspect shows. */
const MOST_SHOWN = 8

/**
 * The values of one field of a structured item, in all its elements. Made by `StructView.field`.
 *
 * | call | does |
 * |---|---|
 * | `get(i)`, `set(i, value)` | one value |
 * | `set(array, at = 0)` | as many as the array has, from value `at` on |
 * | `fill(value, start, end)` | the same value everywhere, or from `start` to before `end` |
 * | `for (const value of view)`, `[...view]` | all values in turn |
 *
 * A value that the field cannot hold throws ERR_SPEADCAST_VALUE.
 * @example batch.heap(0).voltage.field('re').fill(100)
 */
export class FieldView<V extends number | bigint | Uint8Array = number> implements Iterable<V> {
  /** How many values it has. */
  readonly length: number
  readonly #type: FieldType<V>
  readonly #little: boolean
  readonly #name: string
  readonly #data: DataView
  readonly #first: number
  readonly #levels: readonly Level[]

  /** @internal made by StructView.field */
  constructor(made: symbol, type: FieldType<V>, little: boolean, name: string, places: Places) {
    ensure(made === MADE, 'ERR_SPEADCAST_CONFIG', () => 'new FieldView: StructView.field makes these views')
    this.#type = type
    this.#little = little
    this.#name = name
    this.#data = places.data
    this.#first = places.at
    this.#levels = places.levels
    this.length = lengthOf(places.levels)
  }

  /** The byte of value `i`. */
  #at(i: number): number {
    const levels = this.#levels
    let at = this.#first
    for (let k = levels.length - 1; k > 0; k--) {
      const { count, stride } = levels[k]!
      at += (i % count) * stride
      i = Math.floor(i / count)
    }
    return at + i * levels[0]!.stride
  }

  /**
   * Returns value `index`. @throws ERR_SPEADCAST_VALUE where there is none
   * @example const first = batch.heap(0).voltage.field('re').get(0)
   */
  get(index: number): V {
    this.#ensureIndex('get', index)
    return this.#type.get(this.#data, this.#at(index), this.#little)
  }

  /**
   * Writes one value at `index`. @throws ERR_SPEADCAST_VALUE where there is none, or for a value that the field cannot hold
   * @example batch.heap(0).voltage.field('re').set(0, 100)
   */
  set(index: number, value: V): void
  /** Writes the values of an array from value `at` on. @throws ERR_SPEADCAST_VALUE where they do not fit, in number or in value */
  set(values: ArrayLike<V> | FieldView<V>, at?: number): void
  set(first: number | ArrayLike<V> | FieldView<V>, second?: V | number): void {
    if (typeof first === 'number') {
      this.#ensureIndex('set', first)
      this.#put(first, second)
    } else this.#setAll(first, (second as number | undefined) ?? 0)
  }

  #setAll(given: ArrayLike<V> | FieldView<V>, at: number): void {
    let values: ArrayLike<V>
    try {
      values = given instanceof FieldView ? [...given] : given
      void values.length
    } catch (cause) {
      const message = `set: the values for '${this.#name}' cannot be read; give a list or a typed array`
      throw new SpeadcastError('ERR_SPEADCAST_VALUE', message, { cause })
    }
    const { length } = values
    ensure(
      Number.isInteger(at) && at >= 0 && Number.isInteger(length) && length >= 0 && at + length <= this.length,
      'ERR_SPEADCAST_VALUE',
      () => `set: ${shown(length)} values from ${shown(at)} on do not fit '${this.#name}', which has ${this.length}`,
    )
    for (let i = 0; i < length; i++) this.#put(at + i, values[i])
  }

  /**
   * Writes `value` everywhere, or from value `start` to before `end`, which count from the end where negative.
   * @example batch.heap(0).voltage.field('im').fill(0)
   */
  fill(value: V, start = 0, end = this.length): this {
    ensure(
      Number.isInteger(start) && Number.isInteger(end),
      'ERR_SPEADCAST_VALUE',
      () => `fill: start is ${shown(start)}, end is ${shown(end)}; both must be whole numbers`,
    )
    const place = (index: number): number => Math.max(0, Math.min(index < 0 ? this.length + index : index, this.length))
    const to = place(end)
    for (let i = place(start); i < to; i++) this.#put(i, value)
    return this
  }

  /** Yields all values in turn. */
  *[Symbol.iterator](): Generator<V, undefined> {
    for (let i = 0; i < this.length; i++) yield this.#type.get(this.#data, this.#at(i), this.#little)
  }

  #put(index: number, value: unknown): void {
    const type = this.#type
    const checked = type.fits(value) ? value : type.check(this.#name)(value, () => `[${index}]`)
    type.put(this.#data, this.#at(index), checked, this.#little)
  }

  #ensureIndex(call: string, index: number): void {
    if (!(Number.isInteger(index) && index >= 0 && index < this.length))
      throw new SpeadcastError(
        'ERR_SPEADCAST_VALUE',
        `${call}: '${this.#name}' has ${this.length} values, 0 to ${this.length - 1}, and none at ${shown(index)}`,
      )
  }

  /** @internal The first values, and how many more there are. */
  [INSPECT](...how: Inspection): string {
    if (!(#type in this)) return 'FieldView'
    return inspected(`FieldView ${this.#type.code}`, how, () => {
      const values = Array.from({ length: Math.min(MOST_SHOWN, this.length) }, (_, i) => this.get(i))
      values.length = this.length
      return values
    })
  }
}

Object.setPrototypeOf(FieldView.prototype, noIndex(refuseIndex))
