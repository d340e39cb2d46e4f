/** Pcap files and their frames by hand: draft-ietf-opsawg-pcap, the LINKTYPE_ list of tcpdump.org, RFC 791, RFC 8200, RFC 768. */

export interface PcapForm {
  readonly bigEndian?: boolean
  readonly nanoseconds?: boolean
  readonly linkType?: number
}

export interface Captured {
  readonly frame: Uint8Array
  /** Seconds since 1970. */
  readonly at?: number
  /** Bytes on the wire, where fewer were captured. */
  readonly original?: number
}

export function pcapOf(
  frames: readonly Captured[],
  { bigEndian = false, nanoseconds = true, linkType = 1 }: PcapForm = {},
): Buffer {
  const words = (...values: number[]) => {
    const bytes = Buffer.alloc(4 * values.length)
    for (const [i, value] of values.entries())
      if (bigEndian) bytes.writeUInt32BE(value, 4 * i)
      else bytes.writeUInt32LE(value, 4 * i)
    return bytes
  }
  const version = bigEndian ? Buffer.from([0, 2, 0, 4]) : Buffer.from([2, 0, 4, 0])
  const parts: Uint8Array[] = [words(nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4), version, words(0, 0, 262144, linkType)]
  for (const { frame, at = 1, original = frame.length } of frames) {
    const fraction = Math.round((at - Math.floor(at)) * (nanoseconds ? 1e9 : 1e6))
    parts.push(words(Math.floor(at), fraction, frame.length, original), frame)
  }
  return Buffer.concat(parts)
}

export interface Datagram {
  readonly from?: string
  readonly to?: string
  readonly fromPort?: number
  readonly toPort?: number
}

function bytesOf(address: string): number[] {
  if (!address.includes(':')) return address.split('.').map(Number)
  const [head = [], tail = []] = address
    .split('::')
    .map((part) => part.split(':').flatMap((group) => (group === '' ? [] : u16(Number.parseInt(group, 16)))))
  return [...head, ...new Array<number>(16 - head.length - tail.length).fill(0), ...tail]
}

const u16 = (value: number): number[] => [(value >> 8) & 255, value & 255]

export function udp(payload: Uint8Array, { fromPort = 50_000, toPort = 7148 }: Datagram = {}, length = payload.length + 8): Buffer {
  return Buffer.concat([Buffer.from([...u16(fromPort), ...u16(toPort), ...u16(length), 0, 0]), payload])
}

export interface V4 extends Datagram {
  /** Bytes of options, a multiple of 4. */
  readonly options?: number
  readonly protocol?: number
  /** Flags and offset. */
  readonly fragment?: number
  readonly total?: number
}

export function ipv4(payload: Uint8Array, v4: V4 = {}): Buffer {
  const {
    from = '192.0.2.1',
    to = '10.0.0.5',
    options = 0,
    protocol = 17,
    fragment = 0x4000,
    total = 20 + options + payload.length,
  } = v4
  const head = [
    0x40 | (5 + options / 4),
    0,
    ...u16(total),
    0,
    1,
    ...u16(fragment),
    64,
    protocol,
    0,
    0,
    ...bytesOf(from),
    ...bytesOf(to),
  ]
  return Buffer.concat([Buffer.from([...head, ...new Array<number>(options).fill(1)]), payload])
}

export interface V6 extends Datagram {
  /** Extension headers, each with its number, and with its own first byte left out. */
  readonly extensions?: readonly (readonly [kind: number, rest: readonly number[]])[]
  readonly last?: number
  readonly length?: number
}

export function ipv6(
  payload: Uint8Array,
  { from = '2001:db8::1', to = 'fd77::2', extensions = [], last = 17, length }: V6 = {},
): Buffer {
  const kinds = [...extensions.map(([kind]) => kind), last]
  const chain = extensions.flatMap(([, rest], i) => [kinds[i + 1]!, ...rest])
  const head = [0x60, 0, 0, 0, ...u16(length ?? chain.length + payload.length), kinds[0]!, 64, ...bytesOf(from), ...bytesOf(to)]
  return Buffer.concat([Buffer.from([...head, ...chain]), payload])
}

const MACS = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]
export const ethernet = (
  packet: Uint8Array,
  type = packet[0]! >> 4 === 6 ? 0x86dd : 0x0800,
  tags: readonly number[] = [],
): Buffer => Buffer.concat([Buffer.from([...MACS, ...tags.flatMap((tag) => [...u16(tag), 0, 7]), ...u16(type)]), packet])
