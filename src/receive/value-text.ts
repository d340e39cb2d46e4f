/**
 * Values of items as text for a person: numbers as Python writes them, arrays in brackets, shortened as numpy shortens them, and on one
 * line. Values come from anybody, so a text has a bound, and nothing here throws.
 */

import { shown } from '../checks.js'
import { SpeadcastError } from '../errors.js'
import { type NumpyDtype, readNumpyDtype } from '../spead/numpy/dtype.js'
import { Refusal } from '../spead/numpy/limits.js'
import { parsePythonLiteral } from '../spead/numpy/literal.js'
import { pythonString } from '../spead/numpy/text.js'
import { bitsText, isText } from './format-text.js'
import { floatText, shortestText } from './number-text.js'
import type { ReceivedItem } from './received-heap.js'

/** numpy's `threshold` and `edgeitems`: a larger array shows that many at each end of a dimension. */
const THRESHOLD = 1000
const EDGE = 3
/** Characters of a text, and elements and brackets that are written for it. */
const MOST_CHARACTERS = 4000
const MOST_PARTS = 3000
const MOST_HEX_BYTES = 16

/**
 * Writes the value of an item: `[0 1 2 ... 7 8 9]`, `-2.5`, `(1, b'ab')`, `'text'`. An item without a descriptor, and one shorter than its
 * descriptor says, gives its first bytes. A text has 4000 characters at most; letters of a terminal's language are not escaped.
 * @throws ERR_SPEADCAST_CONFIG for what is no item of a heap; nothing, whatever bytes and descriptors an item has
 * @example for await (const heap of receiver) for (const item of heap.items.values()) console.log(item.name, valueText(item))
 */
export function valueText(item: ReceivedItem): string {
  const text = textOf(item)
  return text.length > MOST_CHARACTERS ? `${text.slice(0, MOST_CHARACTERS)}…` : text
}

function textOf(item: ReceivedItem): string {
  try {
    return new ValueWriter(item).text()
  } catch (cause) {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `valueText is given ${shown(item)}; it takes an item of a received heap`, {
      cause,
    })
  }
}

class ValueWriter {
  readonly #view: DataView
  readonly #bytes: Uint8Array
  #parts = 0
  #characters = 0

  constructor(private readonly item: ReceivedItem) {
    const { bytes } = item
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  text(): string {
    const { immediate, value, dtype, format, shape } = this.item
    if (shape === null || shape.includes(null)) return immediate && shape === null ? `${value}` : this.#hex()
    if (immediate && dtype === null && format.length === 1) return `${value}`
    const sizes = shape as number[]
    const count = sizes.reduce((product, size) => product * size, 1)
    if (format.length > 0) {
      const bits = format.reduce((sum, [, width]) => sum + width, 0)
      if (count * bits > 8 * this.#bytes.length) return this.#hex()
      if (sizes.length === 1 && isText(format))
        return pythonString(latin1(this.#bytes.subarray(0, Math.min(count, MOST_CHARACTERS))))
      return this.#array(sizes, (i) => bitsText(this.#bytes, i * bits, format), this.#stridesOf(sizes), 0)
    }
    const layout = dtype === null ? undefined : layoutOf(dtype)
    if (!layout || count * layout.itemBytes > this.#bytes.length) return this.#hex()
    return this.#array(sizes, (i) => this.#element(i * layout.itemBytes, layout), this.#stridesOf(sizes), 0)
  }

  /** Elements between neighbours of each dimension. */
  #stridesOf(sizes: readonly number[]): number[] {
    const strides = new Array<number>(sizes.length).fill(1)
    if (this.item.order === 'F') for (let d = 1; d < sizes.length; d++) strides[d] = strides[d - 1]! * sizes[d - 1]!
    else for (let d = sizes.length - 2; d >= 0; d--) strides[d] = strides[d + 1]! * sizes[d + 1]!
    return strides
  }

  #array(sizes: readonly number[], element: (index: number) => string, strides: readonly number[], first: number): string {
    const total = sizes.reduce((product, size) => product * size, 1)
    const edge = total > THRESHOLD ? EDGE : Number.POSITIVE_INFINITY
    const write = (d: number, at: number): string => {
      this.#parts++
      if (d === sizes.length) {
        const text = element(at)
        this.#characters += text.length
        return text
      }
      const size = sizes[d]!
      const parts: string[] = []
      for (let i = 0; i < size; i++) {
        if (this.#parts >= MOST_PARTS || this.#characters > MOST_CHARACTERS) {
          parts.push('...')
          break
        }
        if (i === edge && size > 2 * edge) {
          parts.push('...')
          i = size - edge
        }
        parts.push(write(d + 1, at + i * strides[d]!))
      }
      return `[${parts.join(' ')}]`
    }
    return write(0, first)
  }

  #element(at: number, dtype: NumpyDtype): string {
    const { kind, itemBytes, text, base, shape, fields, structured } = dtype
    if (base) {
      const sizes = [...shape]
      const strides = sizes.map((_, d) => sizes.slice(d + 1).reduce((product, size) => product * size, 1))
      return this.#array(sizes, (i) => this.#element(at + i * base.itemBytes, base), strides, 0)
    }
    if (structured) {
      const parts: string[] = []
      for (const { offset, dtype } of fields) {
        if (this.#characters > MOST_CHARACTERS) {
          parts.push('...')
          break
        }
        const part = this.#element(at + offset, dtype)
        this.#characters += part.length
        parts.push(part)
      }
      return parts.length === 1 ? `(${parts[0]},)` : `(${parts.join(', ')})`
    }
    const little = !text.startsWith('>')
    const bytes = this.#bytes.subarray(at, at + itemBytes)
    switch (kind) {
      case 'b':
        return bytes[0] === 0 ? 'False' : 'True'
      case 'i':
      case 'u':
      case 'M':
      case 'm':
        return this.#whole(at, itemBytes, little, kind !== 'u')
      case 'f':
        return this.#float(at, itemBytes, little) ?? this.#hex(bytes)
      case 'c': {
        const half = itemBytes / 2
        const re = this.#float(at, half, little)
        const im = this.#float(at + half, half, little)
        return re === undefined || im === undefined ? this.#hex(bytes) : `${re}${/^[-n]/.test(im) && im !== 'nan' ? '' : '+'}${im}j`
      }
      case 'S':
        return `b${pythonString(latin1(bytes.subarray(0, MOST_CHARACTERS)).replace(/\0+$/, ''))}`
      case 'U':
        return pythonString(this.#characterString(at, itemBytes, little))
      default:
        return this.#hex(bytes)
    }
  }

  #whole(at: number, bytes: number, little: boolean, signed: boolean): string {
    const view = this.#view
    if (bytes === 1) return `${signed ? view.getInt8(at) : view.getUint8(at)}`
    if (bytes === 2) return `${signed ? view.getInt16(at, little) : view.getUint16(at, little)}`
    if (bytes === 4) return `${signed ? view.getInt32(at, little) : view.getUint32(at, little)}`
    return `${signed ? view.getBigInt64(at, little) : view.getBigUint64(at, little)}`
  }

  /** Undefined for widths that JavaScript has no number for. */
  #float(at: number, bytes: number, little: boolean): string | undefined {
    const view = this.#view
    if (bytes === 8) return floatText(view.getFloat64(at, little))
    if (bytes === 4) return shortestText(view.getFloat32(at, little), 32)
    return bytes === 2 ? shortestText(halfOf(view.getUint16(at, little)), 16) : undefined
  }

  #characterString(at: number, itemBytes: number, little: boolean): string {
    let text = ''
    for (let k = 0; k < itemBytes && text.length < MOST_CHARACTERS; k += 4) {
      const code = this.#view.getUint32(at + k, little)
      text += code <= 0x10ffff ? String.fromCodePoint(code) : '\ufffd'
    }
    return text.replace(/\0+$/, '')
  }

  #hex(bytes = this.#bytes): string {
    const first = Buffer.from(bytes.subarray(0, MOST_HEX_BYTES)).toString('hex')
    const more = bytes.length > MOST_HEX_BYTES ? '…' : ''
    return `0x${first}${more} (${bytes.length === 1 ? '1 byte' : `${bytes.length} bytes`})`
  }
}

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')

/** binary16 of IEEE 754. */
function halfOf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1
  const exponent = (bits >> 10) & 31
  const fraction = bits & 1023
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15))
}

/** By the text of a dtype, because every heap has the same few. */
const layouts = new Map<string, NumpyDtype | undefined>()

function layoutOf(dtype: string): NumpyDtype | undefined {
  if (layouts.has(dtype)) return layouts.get(dtype)
  if (layouts.size >= 256) layouts.clear()
  const layout = readLayout(dtype)
  layouts.set(dtype, layout)
  return layout
}

function readLayout(dtype: string): NumpyDtype | undefined {
  try {
    return readNumpyDtype(/^[[({]/.test(dtype) ? parsePythonLiteral(dtype) : dtype, false)
  } catch (error) {
    if (error instanceof Refusal) return undefined
    throw error
  }
}
