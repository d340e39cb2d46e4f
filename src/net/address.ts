/** IP and MAC addresses as bytes and as text. Pure. */
import { isIPv4, isIPv6 } from 'node:net'

export type Family = 4 | 6

/** 4 or 16 bytes of an address literal without zone; undefined when it is none. */
export function parseAddress(text: string): Uint8Array | undefined {
  if (isIPv4(text)) return Uint8Array.from(text.split('.'), Number)
  if (!isIPv6(text) || text.includes('%')) return undefined
  const [left = '', right] = text.split('::')
  const head = groups(left)
  const tail = right === undefined ? [] : groups(right)
  const bytes = new Uint8Array(16)
  bytes.set(head)
  bytes.set(tail, 16 - tail.length)
  return bytes
}

function groups(text: string): number[] {
  if (text === '') return []
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) return group.split('.').map(Number)
    const value = Number.parseInt(group, 16)
    return [value >> 8, value & 0xff]
  })
}

/** Dotted decimal, or RFC 5952 (lower case, longest run of two or more zero groups as `::`, the first of equals). */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.')
  const words = Array.from({ length: 8 }, (_, i) => (bytes[2 * i]! << 8) | bytes[2 * i + 1]!)
  let start = -1
  let length = 1
  for (let i = 0; i < 8; i++) {
    let n = 0
    while (i + n < 8 && words[i + n] === 0) n++
    if (n > length) {
      start = i
      length = n
    }
  }
  const hex = (part: number[]) => part.map((word) => word.toString(16)).join(':')
  return start < 0 ? hex(words) : `${hex(words.slice(0, start))}::${hex(words.slice(start + length))}`
}

export function formatMac(mac: Uint8Array): string {
  return Array.from(mac, (byte) => byte.toString(16).padStart(2, '0')).join(':')
}

/** 224.0.0.0/4 (RFC 5771) or ff00::/8 (RFC 4291 §2.7). */
export function isMulticast(bytes: Uint8Array): boolean {
  return bytes.length === 4 ? (bytes[0]! & 0xf0) === 0xe0 : bytes[0] === 0xff
}

/** IPv6 only: fe80::/10, and multicast of interface or link scope. Such an address means nothing without an interface. */
export function needsScope(bytes: Uint8Array): boolean {
  if (bytes.length === 4) return false
  if (bytes[0] === 0xff) return (bytes[1]! & 0xf) <= 2
  return bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0x80
}

/** ::ffff:0:0/96, an IPv4 address in IPv6 clothes (RFC 4291 §2.5.5.2). */
export function isV4Mapped(bytes: Uint8Array): boolean {
  return bytes.length === 16 && bytes.subarray(0, 10).every((byte) => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff
}

/** The address `n` behind this one (n < 2^31); undefined beyond the last address. */
export function addToAddress(bytes: Uint8Array, n: number): Uint8Array | undefined {
  const sum = bytes.slice()
  let carry = n
  for (let i = sum.length - 1; i >= 0 && carry > 0; i--) {
    carry += sum[i]!
    sum[i] = carry & 0xff
    carry = Math.floor(carry / 256)
  }
  return carry > 0 ? undefined : sum
}

/** A GID as text; RoCE's IPv4 ones, which are mapped addresses, as those. */
export function formatGid({ bytes }: { readonly bytes: Uint8Array }): string {
  return formatAddress(isV4Mapped(bytes) ? bytes.subarray(12) : bytes)
}
