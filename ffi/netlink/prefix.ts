/** Prefixes of IP addresses, as far as their first 32 bits. */

export interface Prefix {
  readonly bits: number
  /** The first 32 bits, the first of them the highest. */
  readonly word: number
}

/** Up to four bytes of an address as a word. */
export function firstWord(bytes: Uint8Array): number {
  return ((bytes[0] ?? 0) << 24) | ((bytes[1] ?? 0) << 16) | ((bytes[2] ?? 0) << 8) | (bytes[3] ?? 0)
}

/** The bits that all of some addresses begin with. */
export function commonPrefix(addresses: readonly Uint8Array[]): Prefix {
  const words = addresses.map(firstWord)
  const word = words[0] ?? 0
  const differ = words.reduce((sum, each) => sum | (each ^ word), 0)
  return { bits: words.length === 0 ? 0 : Math.clz32(differ), word }
}

/** Whether two prefixes begin with the same bits, as many as the shorter of them has. */
export function overlaps(a: Prefix, b: Prefix): boolean {
  return Math.clz32(a.word ^ b.word) >= Math.min(a.bits, b.bits, 32)
}
