/** IP and MAC addresses as bytes and as text. Pure. */

export type Family = 4 | 6

/** 4 or 16 bytes of an address literal without zone, such as node:net's isIP takes; undefined when it is none. */
export function parseAddress(text: string): Uint8Array | undefined {
  if (!text.includes(':')) return parseV4(text)
  const [left = '', right, ...more] = text.split('::')
  const head = groups(left, right === undefined)
  const tail = groups(right ?? '', true)
  if (!head || !tail || more.length > 0) return undefined
  const length = head.length + tail.length
  // `::` stands for one group of zeroes at least.
  if (right === undefined ? length !== 16 : length > 14) return undefined
  const bytes = new Uint8Array(16)
  bytes.set(head)
  bytes.set(tail, 16 - tail.length)
  return bytes
}

function parseV4(text: string): Uint8Array | undefined {
  const parts = text.split('.')
  const good = parts.length === 4 && parts.every((part) => /^(?:0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256)
  return good ? Uint8Array.from(parts, Number) : undefined
}

/** Bytes of colon-separated groups; the last of an address may be four decimal numbers. Undefined when one is none. */
function groups(text: string, last: boolean): number[] | undefined {
  if (text === '') return []
  const parts = text.split(':')
  const bytes: number[] = []
  for (const [i, part] of parts.entries()) {
    const v4 = last && i === parts.length - 1 && part.includes('.') && parseV4(part)
    if (v4) bytes.push(...v4)
    else if (/^[\da-f]{1,4}$/i.test(part)) bytes.push(Number.parseInt(part, 16) >> 8, Number.parseInt(part, 16) & 0xff)
    else return undefined
  }
  return bytes
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

/** Says what helps where the system has no sockets of a family; empty where `cause` is something else. */
export function familyRemedy(family: Family, cause: unknown): string {
  const { code, errnoName } = cause as { code?: unknown; errnoName?: unknown }
  if (code !== 'EAFNOSUPPORT' && errnoName !== 'EAFNOSUPPORT') return ''
  const name = family === 6 ? 'AF_INET6' : 'AF_INET'
  return `; allow ${name} in RestrictAddressFamilies= of the systemd unit or in the seccomp profile${family === 6 ? ', or boot a kernel with IPv6' : ''}`
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
