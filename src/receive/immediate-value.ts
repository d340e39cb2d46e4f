import type { ReceivedDescriptor } from './received-descriptor.js'

const NUMPY = /^([<>|])([iuf])\d+$/

/**
 * Returns the number that a descriptor makes of an immediate's bytes. Where it is not one number, and without a descriptor: the bytes
 * as a whole number, big-endian. So senders stage immediates, a float16 as its 16 bits.
 */
export function immediateValue(bytes: Uint8Array, descriptor: ReceivedDescriptor | undefined): number | bigint {
  const [code, littleEndian] = descriptor ? formOf(descriptor) : []
  const ordered = littleEndian ? bytes.toReversed() : bytes
  if (code === 'f' && ordered.length === 4) return new DataView(ordered.buffer, ordered.byteOffset).getFloat32(0)
  const negative = code === 'i' && (ordered[0] ?? 0) >= 0x80
  if (ordered.length > 6) return wide(ordered, negative)
  let value = negative ? -1 : 0
  for (const byte of ordered) value = value * 256 + byte
  return value
}

/** Only SPEAD-64-56 has immediates of 7 bytes. */
function wide(bytes: Uint8Array, negative: boolean): number | bigint {
  let value = negative ? -1n : 0n
  for (const byte of bytes) value = value * 256n + BigInt(byte)
  return Number.isSafeInteger(Number(value)) ? Number(value) : value
}

function formOf({ dtype, format, shape }: ReceivedDescriptor): readonly [code?: string | undefined, littleEndian?: boolean] {
  if (!shape.every((size) => size === 1)) return []
  if (format.length > 0) return format.length === 1 ? [format[0]![0]] : []
  const [, order, code] = NUMPY.exec(dtype ?? '') ?? []
  return [code, order === '<']
}
