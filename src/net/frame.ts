/**
 * Ethernet II (with VLAN tags if need be), IPv4 or IPv6, and UDP headers as a template: everything that depends on the stream is
 * written once, lengths and checksums are patched per packet. Pure.
 *
 * Sources: IEEE 802.3 and 802.1Q, RFC 791, RFC 8200, RFC 768, RFC 1071 (checksum), RFC 1112 §6.4 and RFC 2464 §7 (multicast MACs),
 * RFC 6864 (identification 0 with DF). Left out: IP options and extension headers, fragments.
 */
import { ensure } from '../errors.js'
import { isMulticast } from './address.js'

/** Without frame check sequence; shorter frames are padded by the NIC. */
export const MIN_FRAME_BYTES = 60

/** Around every Ethernet frame: preamble and start 8, frame check sequence 4, gap 12 (IEEE 802.3). */
export const AROUND_FRAME_BYTES = 8 + 4 + 12
export const ETHERNET_BYTES = 14
export const VLAN_TAG_BYTES = 4
const IP_BYTES = { 4: 20, 6: 40 } as const
const UDP_BYTES = 8

/** Bytes that a UDP packet takes on the wire beyond its payload, from preamble to gap. IP headers have no options, and nothing is fragmented. */
export function wireOverheadBytes(family: 4 | 6, vlanTags = 0): number {
  return AROUND_FRAME_BYTES + ETHERNET_BYTES + vlanTags * VLAN_TAG_BYTES + IP_BYTES[family] + UDP_BYTES
}

export interface VlanTag {
  /** 1–4094. */
  readonly id: number
  /** PCP, 0–7, default 0. */
  readonly priority?: number
  /** The tag's EtherType. Default 0x8100 (802.1Q); 0x88a8 is 802.1ad's. */
  readonly protocol?: number
}

export interface FrameOptions {
  readonly sourceMac: Uint8Array
  readonly destinationMac: Uint8Array
  /** 4 or 16 bytes, of one family with `destination`. */
  readonly source: Uint8Array
  readonly destination: Uint8Array
  readonly sourcePort: number
  readonly destinationPort: number
  /** TTL or hop limit, 0–255. Default 1 for multicast, else 64, as sockets have it. */
  readonly ttl?: number
  /** 0–63, default 0. */
  readonly dscp?: number
  /** The outermost first, if there are several. */
  readonly vlan?: VlanTag | readonly VlanTag[]
}

/** The MAC a multicast or the limited broadcast address maps to; undefined for unicast, whose MAC is the neighbour's. */
export function multicastMac(address: Uint8Array): Uint8Array | undefined {
  if (address.length === 4 && address.every((byte) => byte === 255)) return new Uint8Array(6).fill(255)
  if (!isMulticast(address)) return undefined
  if (address.length === 4) return Uint8Array.of(0x01, 0x00, 0x5e, address[1]! & 0x7f, address[2]!, address[3]!)
  return Uint8Array.of(0x33, 0x33, address[12]!, address[13]!, address[14]!, address[15]!)
}

/** A made-up unicast MAC for frames that never meet a wire: locally administered (second bit of the first byte), from the address. */
export function placeholderMac(address: Uint8Array): Uint8Array {
  const mac = Uint8Array.of(0x02, 0, 0, 0, 0, 0)
  const tail = address.subarray(Math.max(0, address.length - 5))
  mac.set(tail, 6 - tail.length)
  return mac
}

/**
 * Adds bytes from … end−1 of `bytes` to a running one's complement sum (RFC 1071), as big-endian words from an even position;
 * `odd` says that an odd number of bytes was summed before. Sums stay below 2^32 for 64 KiB; `fold` them once at the end.
 */
export function addToSum(sum: number, bytes: Uint8Array, from: number, end: number, odd = false): number {
  let i = from
  if (odd && i < end) sum += bytes[i++]!
  for (; i + 1 < end; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!
  if (i < end) sum += bytes[i]! << 8
  return sum
}

/** addToSum, and copies the bytes to `target` at `at` on the way. Nothing is allocated; one to two nanoseconds a byte. */
export function copyAndSum(
  sum: number,
  bytes: Uint8Array,
  from: number,
  end: number,
  odd: boolean,
  target: Uint8Array,
  at: number,
): number {
  let i = from
  let o = at
  if (odd && i < end) {
    sum += bytes[i]!
    target[o++] = bytes[i++]!
  }
  for (; i + 1 < end; i += 2) {
    const high = bytes[i]!
    const low = bytes[i + 1]!
    sum += (high << 8) | low
    target[o++] = high
    target[o++] = low
  }
  if (i < end) {
    sum += bytes[i]! << 8
    target[o] = bytes[i]!
  }
  return sum
}

/** Carries added back in, to 16 bits. The checksum is the complement of this. `sum` below 2^32. */
export function fold(sum: number): number {
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16)
  return sum
}

const ETHERTYPE = { vlan: 0x8100, ipv4: 0x0800, ipv6: 0x86dd }
const UDP = 17
const DONT_FRAGMENT = 0x4000

export class FrameTemplate {
  /** Ethernet, IP and UDP header; lengths and checksums are zero. */
  readonly header: Uint8Array
  readonly headerBytes: number
  /** Offset of the IP header in the frame. */
  readonly ipAt: number
  readonly udpAt: number
  readonly ipv6: boolean
  readonly #v4: boolean
  /** The IPv4 header's sum without its length. */
  readonly #ipSum: number
  /** Pseudo header and UDP header's sum without their lengths. */
  readonly #udpSum: number

  /** @throws SpeadcastError ERR_SPEADCAST_CONFIG when a field does not fit its bits, or the families differ. */
  constructor(options: FrameOptions) {
    const { sourceMac, destinationMac, source, destination, sourcePort, destinationPort, vlan = [] } = options
    const tags = 'id' in vlan ? [vlan] : vlan
    const ttl = options.ttl ?? (isMulticast(destination) ? 1 : 64)
    const dscp = options.dscp ?? 0
    for (const mac of [sourceMac, destinationMac])
      ensure(mac.length === 6, 'ERR_SPEADCAST_CONFIG', () => `a MAC has 6 bytes, not ${mac.length}`)
    ensure(
      source.length === destination.length,
      'ERR_SPEADCAST_CONFIG',
      () => `source and destination of ${source.length} and ${destination.length} bytes`,
    )
    within('source port', sourcePort, 0, 65535)
    within('destination port', destinationPort, 1, 65535)
    within('ttl', ttl, 0, 255)
    within('dscp', dscp, 0, 63)
    for (const { id, priority = 0 } of tags) {
      within('vlan id', id, 1, 4094)
      within('vlan priority', priority, 0, 7)
    }
    this.#v4 = source.length === 4
    this.ipv6 = !this.#v4
    this.ipAt = ETHERNET_BYTES + tags.length * VLAN_TAG_BYTES
    this.udpAt = this.ipAt + IP_BYTES[this.#v4 ? 4 : 6]
    this.headerBytes = this.udpAt + UDP_BYTES
    const header = new Uint8Array(this.headerBytes)
    this.header = header
    const view = new DataView(header.buffer)
    header.set(destinationMac, 0)
    header.set(sourceMac, 6)
    for (const [i, { id, priority = 0, protocol = ETHERTYPE.vlan }] of tags.entries()) {
      view.setUint16(12 + i * VLAN_TAG_BYTES, protocol)
      view.setUint16(14 + i * VLAN_TAG_BYTES, (priority << 13) | id)
    }
    view.setUint16(this.ipAt - 2, this.#v4 ? ETHERTYPE.ipv4 : ETHERTYPE.ipv6)
    const ip = this.ipAt
    if (this.#v4) {
      view.setUint8(ip, 0x45)
      view.setUint8(ip + 1, dscp << 2)
      view.setUint16(ip + 6, DONT_FRAGMENT)
      view.setUint8(ip + 8, ttl)
      view.setUint8(ip + 9, UDP)
      header.set(source, ip + 12)
      header.set(destination, ip + 16)
    } else {
      view.setUint32(ip, ((6 << 28) | (dscp << 22)) >>> 0)
      view.setUint8(ip + 6, UDP)
      view.setUint8(ip + 7, ttl)
      header.set(source, ip + 8)
      header.set(destination, ip + 24)
    }
    view.setUint16(this.udpAt, sourcePort)
    view.setUint16(this.udpAt + 2, destinationPort)
    this.#ipSum = this.#v4 ? addToSum(0, header, ip, ip + 20) : 0
    this.#udpSum =
      addToSum(addToSum(UDP, source, 0, source.length), destination, 0, destination.length) + sourcePort + destinationPort
  }

  /**
   * Writes the headers of a packet of `payloadBytes` UDP payload into `out` at `at` and returns the header's length. `payloadSum`
   * is the unfolded sum of the payload (addToSum from 0); −1 leaves the UDP checksum zero, for a NIC that fills it (without one,
   * zero means "none" over IPv4 and is forbidden over IPv6, RFC 8200 §8.1). Nothing is allocated.
   */
  write(out: Uint8Array, at: number, payloadBytes: number, payloadSum: number): number {
    const { header, headerBytes } = this
    for (let i = 0; i < headerBytes; i++) out[at + i] = header[i]!
    const udpLength = payloadBytes + 8
    const ip = at + this.ipAt
    if (this.#v4) {
      put16(out, ip + 2, udpLength + 20)
      put16(out, ip + 10, ~fold(this.#ipSum + udpLength + 20))
    } else {
      put16(out, ip + 4, udpLength)
    }
    const udp = at + this.udpAt
    put16(out, udp + 4, udpLength)
    if (payloadSum >= 0) {
      // The length counts twice: in the pseudo header and in the header. A result of zero is sent as all ones (RFC 768).
      put16(out, udp + 6, ~fold(this.#udpSum + 2 * udpLength + payloadSum) & 0xffff || 0xffff)
    }
    return headerBytes
  }
}

function put16(out: Uint8Array, at: number, value: number): void {
  out[at] = value >> 8
  out[at + 1] = value
}

function within(what: string, value: number, low: number, high: number): void {
  ensure(
    Number.isInteger(value) && value >= low && value <= high,
    'ERR_SPEADCAST_CONFIG',
    () => `${what} ${value} is not in ${low}–${high}`,
  )
}
