/**
 * Reads the format and the shape of a descriptor in the widths of SPEAD's specification, or in those of PySPEAD 0.5.2, which writes
 * 4 bytes a field and 8 a dimension whatever the flavour, and tags a variable dimension 2 instead of 1 (BUG_COMPAT). Only lengths and contents tell which.
 */
import { BUG_COMPAT } from '../../spead/flavour.js'
import { MAX_DIMENSIONS, MAX_FIELDS, quoted, Refusal, refuseUnless } from '../../spead/numpy/limits.js'

type FormatField = [code: string, bits: number]
export type Shape = (number | null)[]

export interface SpeadFormat {
  readonly format: FormatField[]
  readonly shape: Shape
  /** Whether the widths are PySPEAD's; undefined where nothing tells. */
  readonly pyspead: boolean | undefined
}

interface Widths {
  readonly pyspead: boolean
  readonly field: number
  readonly dimension: number
}

interface Reading {
  readonly format: FormatField[]
  readonly shape: Shape
  readonly elementBits: number
  /** Whether no bytes are left over, the codes are SPEAD's and the widths are usual. */
  readonly clean: boolean
  /** Whether the shape has an element. */
  readonly some: boolean
}

const specified = (addressBytes: number): Widths => ({ pyspead: false, field: 9 - addressBytes, dimension: 1 + addressBytes })
const PYSPEAD: Widths = { pyspead: true, field: 4, dimension: 8 }
/** Bits that no field has: a width read from a byte too many is at least so large. */
const WIDE = 256
/** Either tag of a variable dimension. */
const EITHER_TAG = 3

/** @param bugCompat a sum of BUG_COMPAT flags; undefined: what the bytes suggest @throws Refusal */
export function readSpeadFormat(
  format: Uint8Array,
  shape: Uint8Array,
  addressBytes: number,
  bugCompat: number | undefined,
): SpeadFormat {
  const spec = specified(addressBytes)
  if (bugCompat !== undefined) {
    const widths = bugCompat & BUG_COMPAT.DESCRIPTOR_WIDTHS ? PYSPEAD : spec
    const tag = bugCompat & BUG_COMPAT.SHAPE_BIT_1 ? 2 : 1
    const { format: fields, shape: dimensions } = read(format, shape, widths, tag, `bugCompat ${bugCompat} was given`)
    return { format: fields, shape: dimensions, pyspead: widths.pyspead }
  }
  const bySpec = attempt(format, shape, spec)
  const byPyspead = attempt(format, shape, PYSPEAD)
  const pyspead = isPyspead(bySpec, byPyspead)
  const chosen = pyspead ? byPyspead : bySpec
  if (chosen instanceof Refusal) throw chosen
  const told = !(format.length === 0 && shape.length === 0) && !same(bySpec, byPyspead)
  return { format: chosen.format, shape: chosen.shape, pyspead: told ? pyspead : undefined }
}

/** Whether the shape field is in PySPEAD's widths where a numpy header tells what it says; undefined where nothing tells. */
export function isPyspeadShape(bytes: Uint8Array, addressBytes: number, shape: readonly number[]): boolean | undefined {
  const { dimension } = specified(addressBytes)
  if (shape.length === 0 || dimension === PYSPEAD.dimension) return undefined
  if (bytes.length === shape.length * dimension) return false
  return bytes.length === shape.length * PYSPEAD.dimension ? true : undefined
}

/** The specification holds unless only PySPEAD's widths make sense, or only they describe an element. */
function isPyspead(bySpec: Reading | Refusal, byPyspead: Reading | Refusal): boolean {
  if (byPyspead instanceof Refusal || !byPyspead.clean) return false
  return bySpec instanceof Refusal || !bySpec.clean || (byPyspead.some && !bySpec.some)
}

function same(a: Reading | Refusal, b: Reading | Refusal): boolean {
  if (a instanceof Refusal || b instanceof Refusal) return false
  return JSON.stringify([a.format, a.shape]) === JSON.stringify([b.format, b.shape])
}

function attempt(format: Uint8Array, shape: Uint8Array, widths: Widths): Reading | Refusal {
  try {
    return read(format, shape, widths, EITHER_TAG, "try bugCompat 7, PySPEAD's")
  } catch (error) {
    if (error instanceof Refusal) return error
    throw error
  }
}

function read(format: Uint8Array, shape: Uint8Array, widths: Widths, tag: number, hint: string): Reading {
  const fields = readFormat(format, widths.field, hint)
  const dimensions = readShape(shape, widths.dimension, tag)
  const elementBits = fields.reduce((sum, [, bits]) => sum + bits, 0)
  checkValueBits(dimensions, elementBits)
  return {
    format: fields,
    shape: dimensions,
    elementBits,
    clean:
      format.length % widths.field === 0 &&
      shape.length % widths.dimension === 0 &&
      fields.every(([code, bits]) => 'uibcf'.includes(code) && bits < WIDE),
    some: !dimensions.includes(0),
  }
}

/** Refuses a shape whose value has more bits than can be counted; a variable dimension counts as 1, and so does 0. */
export function checkValueBits(shape: Shape, elementBits: number): void {
  let bits = elementBits
  for (const size of shape) bits *= size || 1
  refuseUnless(Number.isSafeInteger(bits), () => 'a value of it has more than 2^53 − 1 bits')
}

function readFormat(bytes: Uint8Array, width: number, hint: string): FormatField[] {
  const count = Math.floor(bytes.length / width)
  refuseUnless(count <= MAX_FIELDS, () => `its format has ${count} fields; at most ${MAX_FIELDS}`)
  return Array.from({ length: count }, (_, i): FormatField => {
    const code = String.fromCharCode(bytes[i * width]!)
    const bits = unsigned(bytes, i * width + 1, width - 1)
    refuseUnless(
      bits > 0,
      () => `field ${i} of its format, ${quoted(code)}, has 0 bits: the widths may be another implementation's (${hint})`,
    )
    refuseUnless(Number.isSafeInteger(bits), () => `field ${i} of its format, ${quoted(code)}, has more than 2^53 − 1 bits`)
    return [code, bits]
  })
}

function readShape(bytes: Uint8Array, width: number, tag: number): Shape {
  const count = Math.floor(bytes.length / width)
  refuseUnless(count <= MAX_DIMENSIONS, () => `its shape has ${count} dimensions; at most ${MAX_DIMENSIONS}`)
  return Array.from({ length: count }, (_, i) => {
    if (bytes[i * width]! & tag) return null
    const size = unsigned(bytes, i * width + 1, width - 1)
    refuseUnless(Number.isSafeInteger(size), () => `dimension ${i} of its shape is above 2^53 − 1`)
    return size
  })
}

/** Reads big-endian bytes as a number, exact to 2^53. */
function unsigned(bytes: Uint8Array, at: number, length: number): number {
  let value = 0
  for (let i = at; i < at + length; i++) value = value * 256 + bytes[i]!
  return value
}
