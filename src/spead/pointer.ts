import { shown } from '../checks.js'
import { type ErrorCode, ensure, SpeadcastError } from '../errors.js'
import type { Flavour } from './flavour.js'

/** A 64-bit big-endian word as two uint32 halves: no BigInt on the way to the wire. */
export interface Halves {
  readonly hi: number
  readonly lo: number
}

const TWO_32 = 2 ** 32

/** Largest heap address, heap length, heap cnt and immediate of the flavour (2^N − 1), as far as a JS number is exact. */
export const maxAddress = (flavour: Flavour): number => Math.min(2 ** flavour.heapAddressBits - 1, Number.MAX_SAFE_INTEGER)

/** Largest item id of the flavour (2^(63−N) − 1), as far as a JS number is exact. */
const maxItemId = (flavour: Flavour): number => Math.min(2 ** (63 - flavour.heapAddressBits) - 1, Number.MAX_SAFE_INTEGER)

export const hex = (value: number | bigint): string => `0x${value.toString(16)}`

export const flavourName = (flavour: Flavour): string => `SPEAD-64-${flavour.heapAddressBits}`

/** `id` fits the flavour's item pointer (0 is the NULL item) or ERR_SPEADCAST_ITEM is thrown. */
export function checkItemId(flavour: Flavour, id: number): void {
  ensure(
    Number.isInteger(id) && id >= 0 && id <= maxItemId(flavour),
    'ERR_SPEADCAST_ITEM',
    () =>
      `item id ${Number.isInteger(id) ? hex(id) : shown(id)} does not fit ${flavourName(flavour)}, ` +
      `whose item ids are whole numbers up to ${hex(maxItemId(flavour))}: choose a smaller id or fewer heap address bits`,
  )
}

/**
 * The item pointer with value 0 (SPEAD section 8): bit 63 says immediate, then the id, then N bits of value or address. A value
 * below 2^N is added to it, half by half, without a carry. Throws ERR_SPEADCAST_ITEM if the id does not fit.
 */
export function pointerBase(flavour: Flavour, id: number, immediate: boolean): Halves {
  checkItemId(flavour, id)
  const bits = flavour.heapAddressBits
  const mode = immediate ? 0x80000000 : 0
  if (bits >= 32) return { hi: mode + id * 2 ** (bits - 32), lo: 0 }
  const low = 2 ** (32 - bits)
  return { hi: mode + Math.floor(id / low), lo: (id % low) * 2 ** bits }
}

/** Writes a pointer at byte `at`, big-endian. */
export function putPointer(view: DataView, at: number, hi: number, lo: number): void {
  view.setUint32(at, hi)
  view.setUint32(at + 4, lo)
}

/**
 * `value` as halves, after the check that it is a whole number of at most `bits` bits; the error names `field` and the limit.
 * Numbers are taken up to 2^53 − 1, bigints beyond.
 */
export function splitUnsigned(value: number | bigint, bits: number, field: string, code: ErrorCode): Halves {
  if (typeof value === 'bigint') {
    if (value >= 0n && value < 1n << BigInt(bits)) return { hi: Number(value >> 32n), lo: Number(value & 0xffffffffn) }
  } else if (Number.isSafeInteger(value) && value >= 0 && value < 2 ** bits) {
    return { hi: Math.floor(value / TWO_32), lo: value % TWO_32 }
  }
  const large = typeof value === 'number' && value > Number.MAX_SAFE_INTEGER && value < 2 ** bits
  throw new SpeadcastError(
    code,
    `${field} is ${shown(value)}; it must be a whole number from 0 to 2^${bits} − 1 (${hex((1n << BigInt(bits)) - 1n)})` +
      `${large ? ', above 2^53 − 1 as a bigint' : ''}`,
  )
}

/** A heap cnt as halves; ERR_SPEADCAST_HEAP_CNT if it is not a whole number below 2^N. */
export const splitHeapCnt = (flavour: Flavour, cnt: number | bigint): Halves =>
  splitUnsigned(cnt, flavour.heapAddressBits, `heap cnt of ${flavourName(flavour)}`, 'ERR_SPEADCAST_HEAP_CNT')
