/**
 * Views of big-endian items. A typed array has the host's byte order, little-endian on all hosts that speadcast supports, so
 * `fill(1000)` of an Int16Array over such an item would send 0xE803, and of its bytes 0xE8E8.
 *
 * `view[3] = 1` would make a property and send nothing. So the prototypes of the views lead to a proxy that refuses whole numbers as
 * keys: everything else is found before it, and costs nothing.
 */
import { isInstance, shown } from '../checks.js'
import { ensure, INSPECT, type Inspection, inspected, SpeadcastError } from '../errors.js'
import { type BigEndianNumber, type BigEndianType, isBigEndianNumber, isNative, swapBytes } from './big-endian-numbers.js'

/** A prototype that refuses indices. @param refuse is told the index, and the call that does it instead */
export const noIndex = (refuse: (view: unknown, key: string, call: string) => never): object =>
  new Proxy(
    {},
    {
      get: (target, key, view) => (isIndex(key) ? refuse(view, key, `get(${key})`) : Reflect.get(target, key, view)),
      set: (target, key, value, view) =>
        isIndex(key) ? refuse(view, key, `set(${key}, value)`) : Reflect.set(target, key, value, view),
    },
  )

const isIndex = (key: string | symbol): key is string => typeof key === 'string' && /^(0|-?[1-9]\d*)$/.test(key)

function refuseIndex(view: unknown, key: string, call: string): never {
  const kind = view instanceof WireView ? view.constructor.name : 'big-endian view'
  throw new SpeadcastError(
    'ERR_SPEADCAST_VALUE',
    `a ${kind} has no [${key}], because a store there would not swap the bytes; call ${call}, or fill, or set with an array`,
  )
}

/** As many as inspect shows. */
const MOST_SHOWN = 8

/**
 * The numbers of a big-endian item: what you read and write are values, and the memory has the wire's order. Made by a batch.
 *
 * | call | does |
 * |---|---|
 * | `get(i)`, `set(i, value)` | one number |
 * | `set(array, at = 0)` | as many as the array has, from number `at` on; fast for a typed array of the item's type (Int16Array for '>i2') |
 * | `fill(value, start, end)` | the same number everywhere, or from `start` to before `end` |
 * | `subarray(start, end)` | a view of a part, over the same memory |
 * | `for (const value of view)`, `[...view]` | all numbers in turn |
 * | `bytes` | the same memory as the bytes of the wire |
 *
 * Complex items have two numbers an element (re, im), and float16 items the values of the halves. A number that the item cannot hold
 * throws ERR_SPEADCAST_VALUE. A view is valid as long as the batch that made it is open.
 * @example batch.heap(0).power.fill(0.5)
 */
export abstract class WireView<N extends number | bigint> implements Iterable<N> {
  /** The memory of the view, as the bytes of the wire. */
  readonly bytes: Uint8Array
  /** How many numbers it has. */
  readonly length: number
  readonly #type: BigEndianType<N>
  /** The item's name, for errors. */
  readonly #name: string
  readonly #data: DataView

  /** @internal made by a batch */
  constructor(type: BigEndianNumber, name: string, bytes: Uint8Array) {
    ensure(
      isBigEndianNumber(type) && isInstance(bytes, Uint8Array),
      'ERR_SPEADCAST_CONFIG',
      () => `new ${new.target.name}: a batch makes these views; take them from batch.heap(j)`,
    )
    this.#type = type as unknown as BigEndianType<N>
    this.#name = name
    this.bytes = bytes
    this.length = bytes.length / type.size
    this.#data = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  /** The memory that it is a part of. */
  get buffer(): ArrayBufferLike {
    return this.bytes.buffer
  }

  /** Where in that memory it begins, in bytes. */
  get byteOffset(): number {
    return this.bytes.byteOffset
  }

  /** Its length in bytes. */
  get byteLength(): number {
    return this.bytes.byteLength
  }

  /**
   * Returns number `index`. @throws ERR_SPEADCAST_VALUE where there is none
   * @example const first = batch.heap(0).power.get(0)
   */
  get(index: number): N {
    this.#ensureIndex('get', index)
    return this.#type.get(this.#data, index * this.#type.size)
  }

  /**
   * Writes one number at `index`. @throws ERR_SPEADCAST_VALUE where there is none, or for a value that the item cannot hold
   * @example batch.heap(0).power.set(0, 0.5)
   */
  set(index: number, value: N): void
  /** Writes the numbers of an array from number `at` on. @throws ERR_SPEADCAST_VALUE where they do not fit, in number or in value */
  set(values: ArrayLike<N> | WireView<N>, at?: number): void
  set(first: number | ArrayLike<N> | WireView<N>, second?: N | number): void {
    if (typeof first === 'object' && first !== null) this.#setAll(first, (second as number | undefined) ?? 0)
    else {
      this.#ensureIndex('set', first)
      this.#type.put(this.#data, first * this.#type.size, this.#checked(second, first))
    }
  }

  #setAll(values: ArrayLike<N> | WireView<N>, at: number): void {
    try {
      this.#copy(
        isInstance(values, WireView) && values.#type !== (this.#type as unknown) ? [...(values as WireView<N>)] : values,
        at,
      )
    } catch (cause) {
      if (cause instanceof SpeadcastError) throw cause
      const message = `set: the numbers for item '${this.#name}' cannot be read; give a list or a typed array whose memory is still there`
      throw new SpeadcastError('ERR_SPEADCAST_VALUE', message, { cause })
    }
  }

  #copy(values: ArrayLike<N> | WireView<N>, at: number): void {
    const { length } = values
    ensure(
      Number.isInteger(at) && at >= 0 && Number.isInteger(length) && length >= 0 && at + length <= this.length,
      'ERR_SPEADCAST_VALUE',
      () => `set: ${shown(length)} numbers from ${shown(at)} on do not fit item '${this.#name}', whose view has ${this.length}`,
    )
    const { size } = this.#type
    if (isInstance(values, WireView)) {
      this.bytes.set(values.bytes, at * size)
      return
    }
    if (isNative(this.#type, values)) {
      const out = this.bytes.subarray(at * size, (at + length) * size)
      out.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))
      swapBytes(out, size)
      return
    }
    for (let i = 0; i < length; i++) this.#type.put(this.#data, (at + i) * size, this.#checked(values[i], at + i))
  }

  /**
   * Writes `value` everywhere, or from number `start` to before `end`, which count from the end where negative.
   * @example batch.heap(0).power.fill(0.5, 0, 16)
   */
  fill(value: N, start = 0, end = this.length): this {
    const { size } = this.#type
    const part = this.#part('fill', start, end)
    const checked = this.#checked(value, Math.max(0, start))
    if (part.length === 0) return this
    this.#type.put(this.#data, part.byteOffset - this.byteOffset, checked)
    for (let done: number = size; done < part.length; done *= 2) part.copyWithin(done, 0, Math.min(done, part.length - done))
    return this
  }

  /**
   * A view of the numbers from `start` to before `end`, over the same memory. Negative ones count from the end.
   * @example batch.heap(0).power.subarray(16, 32).fill(1)
   */
  subarray(start = 0, end = this.length): this {
    const Same = this.constructor as new (type: BigEndianType<N>, name: string, bytes: Uint8Array) => this
    return new Same(this.#type, this.#name, this.#part('subarray', start, end))
  }

  /** Yields all numbers in turn. */
  *[Symbol.iterator](): Generator<N, undefined> {
    const { size, get } = this.#type
    for (let i = 0; i < this.length; i++) yield get(this.#data, i * size)
  }

  /** The bytes of the numbers from `start` to before `end`. */
  #part(call: string, start: number, end: number): Uint8Array {
    const place = (index: number): number => Math.max(0, Math.min(index < 0 ? this.length + index : index, this.length))
    ensure(
      Number.isInteger(start) && Number.isInteger(end),
      'ERR_SPEADCAST_VALUE',
      () => `${call}: start is ${shown(start)}, end is ${shown(end)}; both must be whole numbers`,
    )
    const from = place(start)
    return this.bytes.subarray(from * this.#type.size, Math.max(from, place(end)) * this.#type.size)
  }

  #checked(value: unknown, index: number): N {
    return this.#type.fits(value) ? value : this.#type.check(this.#name)(value, () => `[${index}]`)
  }

  #ensureIndex(call: string, index: number): void {
    if (!(Number.isInteger(index) && index >= 0 && index < this.length))
      throw new SpeadcastError(
        'ERR_SPEADCAST_VALUE',
        `${call}: the view of item '${this.#name}' has ${this.length} numbers, 0 to ${this.length - 1}, and none at ${shown(index)}`,
      )
  }

  /** @internal As typed arrays show themselves: the first numbers, and how many more there are. */
  [INSPECT](...how: Inspection): string {
    const { name } = this.constructor
    // The prototype has none.
    const code = #type in this ? ` ${this.#type.code}` : ''
    return inspected(`${name}${code}`, how, () => {
      const numbers = [...this.subarray(0, MOST_SHOWN)]
      // inspect does not look at those behind them.
      numbers.length = this.length
      return numbers
    })
  }
}

Object.setPrototypeOf(WireView.prototype, noIndex(refuseIndex))

/**
 * The view of big-endian numbers: items '>i2', '>u2', '>i4', '>u4', '>f2', '>f4', '>f8', '>c8', '>c16'.
 * @example batch.heap(0).power.set(Float32Array.of(1, 2, 3), 100)
 */
export class BigEndianView extends WireView<number> {}

/**
 * The view of big-endian integers of 64 bits, which are bigints: items '>i8', '>u8', '>M8', '>m8'.
 * @example batch.heap(0).counts.set(0, 2n ** 63n - 1n)
 */
export class BigEndianBigIntView extends WireView<bigint> {}
