/** Reads foreign memory by address, and writes addresses into our own. Cold. */
import { koffi } from '../koffi.js'

export const readU8 = (address: number): number => koffi().decode(BigInt(address), 'uint8_t') as number
export const readU32 = (address: number): number => koffi().decode(BigInt(address), 'uint32_t') as number
export const readI32 = (address: number): number => koffi().decode(BigInt(address), 'int32_t') as number

/** Reads a pointer, or another 64-bit value below 2^53. */
export const readPointer = (address: number): number => Number(koffi().decode(BigInt(address), 'uint64_t'))

/** Writes an address into two words of a region, low half first. */
export function writePointer(words: Uint32Array, word: number, address: number): void {
  words[word] = address >>> 0
  words[word + 1] = Math.floor(address / 2 ** 32)
}

/** Reads a C string out of a field of `fieldBytes` bytes. */
export function readString(address: number, fieldBytes: number): string {
  const bytes = new Uint8Array(koffi().view(BigInt(address), fieldBytes) as ArrayBuffer)
  const end = bytes.indexOf(0)
  return Buffer.from(bytes.subarray(0, end < 0 ? fieldBytes : end)).toString('latin1')
}
