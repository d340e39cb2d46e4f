import { SpeadcastError } from '../errors.js'

/** Returns zeroed bytes. @throws ERR_SPEADCAST_MEMORY, which names `what` */
export function allocate(bytes: number, what: string): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(bytes)
  } catch (cause) {
    throw new SpeadcastError('ERR_SPEADCAST_MEMORY', `${what} of ${bytes} bytes cannot be held in memory at once`, { cause })
  }
}

/** Encodes a text that is known to be ASCII, a byte per character. */
export function ascii(text: string): Uint8Array {
  const out = new Uint8Array(text.length)
  for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i)
  return out
}

/**
 * Writes the low `bits` ≤ 32 bits of the whole number `value` (0 ≤ value < 2^32) at bit `at` of `out`, most significant first. The
 * bits there must be zero.
 */
export function putBits(out: Uint8Array, at: number, value: number, bits: number): void {
  // From the byte of bit `at` to that of bit `at + bits − 1`, which are inside `out`.
  for (let left = bits, pos = at; left > 0; ) {
    const inByte = pos % 8
    const take = Math.min(8 - inByte, left)
    const part = (value >>> (left - take)) & ((1 << take) - 1)
    out[(pos - inByte) / 8]! |= part << (8 - inByte - take)
    left -= take
    pos += take
  }
}

/** Writes as `putBits` does, at any width, negative values in two's complement. `value` must fit. */
export function putWideBits(out: Uint8Array, at: number, value: number | bigint, bits: number): void {
  if (typeof value === 'number' && bits <= 53) {
    const unsigned = value < 0 ? value + 2 ** bits : value
    if (bits > 32) putBits(out, at, Math.floor(unsigned / 2 ** 32), bits - 32)
    putBits(out, at + Math.max(0, bits - 32), unsigned % 2 ** 32, Math.min(bits, 32))
    return
  }
  const unsigned = BigInt.asUintN(bits, BigInt(value))
  for (let done = 0; done < bits; ) {
    const take = (bits - done) % 32 || 32
    putBits(out, at + done, Number((unsigned >> BigInt(bits - done - take)) & 0xffffffffn), take)
    done += take
  }
}

/** The bits of the IEEE half nearest to `value` (ties to even); numbers beyond ±65504 give infinity. */
export function float16Bits(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const size = Math.abs(value)
  if (Number.isNaN(size)) return 0x7e00
  if (size >= 65_520) return sign | 0x7c00
  // The double's exponent stands in its high word. Below 2^-14 halves are spaced evenly.
  scratch.setFloat64(0, size)
  const exponent = Math.max((scratch.getUint32(0) >>> 20) - 1023, -14)
  const steps = size * 2 ** (10 - exponent)
  const floor = Math.floor(steps)
  const rest = steps - floor
  const rounded = rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor
  // A normal number's leading 1024 and a rounding up to 2048 both carry into the exponent field.
  return sign | ((exponent + 14) * 1024 + rounded)
}

const scratch = new DataView(new ArrayBuffer(8))

/** The value of IEEE half `bits`. */
export function float16Value(bits: number): number {
  const exponent = (bits >>> 10) & 0x1f
  const fraction = bits & 0x3ff
  const size =
    exponent === 0x1f
      ? fraction === 0
        ? Infinity
        : Number.NaN
      : exponent === 0
        ? fraction * 2 ** -24
        : (1024 + fraction) * 2 ** (exponent - 25)
  return bits & 0x8000 ? -size : size
}
