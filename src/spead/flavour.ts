import { isObject, readPlain, shown } from '../checks.js'
import { ensure } from '../errors.js'

/**
 * A SPEAD-64-N flavour: 64-bit item pointers with N = `heapAddressBits` (SPEAD protocol document, "Packet header"), and deviations kept for
 * PySPEAD's sake.
 */
export interface Flavour<Bits extends number = number> {
  /** Width of a heap address, a heap cnt and an immediate: 8, 16, … 56. Item ids have the other 63 − N bits. */
  readonly heapAddressBits: Bits
  /** Sum of `BUG_COMPAT` flags; 0 follows the specification. */
  readonly bugCompat: number
}

/** Encodings of PySPEAD that differ from the specification; the values are spead2's. */
export const BUG_COMPAT = {
  /** Descriptor format and shape fields have the widths they would have in PySPEAD's 64-40, whatever the flavour. */
  DESCRIPTOR_WIDTHS: 1,
  /** A variable dimension is tagged 2 instead of 1. */
  SHAPE_BIT_1: 2,
  /** The byte order named in a numpy header is the opposite of the data's. */
  SWAP_ENDIAN: 4,
  /** All that PySPEAD 0.5.2 does. */
  PYSPEAD_0_5_2: 7,
} as const

/** SPEAD-64-48, no deviations. */
export const DEFAULT_FLAVOUR: Flavour<48> = Object.freeze({ heapAddressBits: 48, bugCompat: 0 } as const)

/**
 * Makes a checked flavour; options left out are those of `DEFAULT_FLAVOUR`.
 * @throws ERR_SPEADCAST_CONFIG
 * @example const spead2sDefault = makeFlavour({ heapAddressBits: 40 })
 */
export function makeFlavour(options: { heapAddressBits?: number; bugCompat?: number } = {}): Flavour {
  ensure(
    isObject(options),
    'ERR_SPEADCAST_CONFIG',
    () => `the flavour is ${shown(options)}; give an object of { heapAddressBits, bugCompat }`,
  )
  const { heapAddressBits = DEFAULT_FLAVOUR.heapAddressBits, bugCompat = DEFAULT_FLAVOUR.bugCompat } = readPlain(
    'makeFlavour',
    options,
    ['heapAddressBits', 'bugCompat'],
  )
  ensure(
    Number.isInteger(heapAddressBits) && heapAddressBits >= 8 && heapAddressBits <= 56 && heapAddressBits % 8 === 0,
    'ERR_SPEADCAST_CONFIG',
    () => `heapAddressBits is ${shown(heapAddressBits)}; it must be one of 8, 16, 24, 32, 40, 48, 56`,
  )
  ensure(
    Number.isInteger(bugCompat) && bugCompat >= 0 && bugCompat <= BUG_COMPAT.PYSPEAD_0_5_2,
    'ERR_SPEADCAST_CONFIG',
    () => `bugCompat is ${shown(bugCompat)}; it must be a sum of BUG_COMPAT flags (0 to ${BUG_COMPAT.PYSPEAD_0_5_2})`,
  )
  return Object.freeze({ heapAddressBits, bugCompat })
}
