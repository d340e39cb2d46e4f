/** Sizes of an item's values by its descriptor. */

import { readNumpyDtype } from '../../spead/numpy/dtype.js'
import { Refusal } from '../../spead/numpy/limits.js'
import { parsePythonLiteral } from '../../spead/numpy/literal.js'

/** The part of a descriptor that tells sizes. */
interface Described {
  readonly shape: (number | null)[]
  readonly dtype: string | null
  readonly format: [code: string, bits: number][]
}

/** Bits of an element, by descriptor: numpy's text of a dtype does not tell the padding of an aligned one within another. */
const known = new WeakMap<Described, number>()

export function rememberBits(descriptor: Described, elementBits: number): void {
  known.set(descriptor, elementBits)
}

/** Returns the bits of an element, 0 where the descriptor does not tell. */
function elementBits(descriptor: Described): number {
  let bits = known.get(descriptor)
  if (bits === undefined) {
    bits = bitsOf(descriptor)
    known.set(descriptor, bits)
  }
  return bits
}

/** The bits of a copy, which a thread has handed on. */
function bitsOf({ format, dtype }: Described): number {
  if (format.length > 0) return format.reduce((sum, [, bits]) => sum + bits, 0)
  if (dtype === null) return 0
  try {
    return readNumpyDtype(/^[[({]/.test(dtype) ? parsePythonLiteral(dtype) : dtype, false).itemBytes * 8
  } catch (error) {
    if (error instanceof Refusal) return 0
    throw error
  }
}

/** Returns the bits of a value with a varying dimension counted as 1. */
function rowBits(descriptor: Described): number {
  let bits = elementBits(descriptor)
  for (const size of descriptor.shape) {
    // Zero times infinity is no number, and other dimensions do not matter then.
    if (size === 0) return 0
    bits *= size ?? 1
  }
  return bits
}

/** Returns the bytes of one value of the item, or undefined where they vary or the descriptor does not tell. */
export function valueBytes(descriptor: Described): number | undefined {
  if (descriptor.shape.includes(null) || elementBits(descriptor) === 0) return undefined
  return Math.ceil(rowBits(descriptor) / 8)
}

/** Returns the shape of an item of `bytes` bytes: the length tells the one dimension that may vary. */
export function resolveShape(descriptor: Described, bytes: number): (number | null)[] {
  const { shape } = descriptor
  const at = shape.indexOf(null)
  if (at < 0 || shape.indexOf(null, at + 1) >= 0 || elementBits(descriptor) === 0) return shape
  const row = rowBits(descriptor)
  return shape.with(at, row === 0 ? 0 : Math.floor((8 * bytes) / row))
}
