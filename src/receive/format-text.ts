/** Elements of items that are described by a format: fields of any number of bits, big-endian, packed one behind the other. */
import { pythonString } from '../spead/numpy/text.js'
import { floatText, shortestText } from './number-text.js'

export type Format = readonly (readonly [code: string, bits: number])[]

/** Whether an array of such elements is a text. */
export const isText = (format: Format): boolean => format.length === 1 && format[0]![0] === 'c' && format[0]![1] === 8

/** Fields that are shown; a format may have thousands. */
const MOST_FIELDS = 100

/** Writes the element at a bit; of several fields a tuple. */
export function bitsText(bytes: Uint8Array, at: number, format: Format): string {
  const parts: string[] = []
  let bit = at
  for (const [code, bits] of format) {
    if (parts.length === MOST_FIELDS) {
      parts.push('...')
      break
    }
    parts.push(fieldText(bytes, bit, code, bits))
    bit += bits
  }
  return format.length === 1 ? parts[0]! : `(${parts.join(', ')})`
}

function fieldText(bytes: Uint8Array, at: number, code: string, bits: number): string {
  if (bits > 64) return `${code}${bits}`
  const raw = bitsAt(bytes, at, bits)
  if (code === 'i') return `${BigInt.asIntN(bits, raw)}`
  if (code === 'b') return raw === 0n ? 'False' : 'True'
  if (code === 'c' && bits === 8) return pythonString(String.fromCharCode(Number(raw)))
  if (code === 'f' && (bits === 32 || bits === 64)) {
    const view = new DataView(new ArrayBuffer(8))
    view.setBigUint64(0, raw)
    return bits === 64 ? floatText(view.getFloat64(0)) : shortestText(view.getFloat32(4), 32)
  }
  return `${raw}`
}

/** Reads up to 64 bits, which are there. */
function bitsAt(bytes: Uint8Array, at: number, bits: number): bigint {
  let value = 0n
  const end = at + bits
  for (let byte = Math.floor(at / 8); byte * 8 < end; byte++) value = (value << 8n) | BigInt(bytes[byte] ?? 0)
  const behind = (8 - (end % 8)) % 8
  return BigInt.asUintN(bits, value >> BigInt(behind))
}
