/**
 * Finds the UDP datagram in a captured frame: link types as pcap files name them (the list of LINKTYPE_ values of tcpdump.org), VLAN tags
 * (IEEE 802.1Q), IPv4 (RFC 791), IPv6 with extension headers (RFC 8200), UDP (RFC 768). Nothing here throws or allocates, because frames
 * come from anybody.
 */
import { AF_INET, AF_INET6 } from '../../ffi/layout.js'

export const DATAGRAM = 0
/** No UDP, or none that can be followed. */
const OTHER_FRAME = 1
/** A part of a datagram, which is not put together. */
export const FRAGMENT = 2
/** A datagram that is not there whole: cut behind its header by the capture, or longer than the packet that carries it. */
export const CUT_DATAGRAM = 3

const ETHERNET = 1
const LINUX_SLL = 113
const LINUX_SLL2 = 276
/** BSD loopback, of the host's byte order and of the network's: four bytes in front, which say no more than the IP version. */
const LOOPBACK: readonly number[] = [0, 108]
/** The frame is an IP packet; 12 and 14 are what some systems have in place of 101. */
const RAW: readonly number[] = [12, 14, 101, 228, 229]
export const isKnownLinkType = (linkType: number): boolean =>
  [ETHERNET, LINUX_SLL, LINUX_SLL2, ...LOOPBACK, ...RAW].includes(linkType)

const TYPE_IPV4 = 0x0800
const TYPE_IPV6 = 0x86dd
const isVlanType = (type: number): boolean => type === 0x8100 || type === 0x88a8 || type === 0x9100
const UDP = 17
const UDP_HEADER_BYTES = 8
const IPV4_BYTES = 20
const IPV6_BYTES = 40
/** Extension headers (RFC 8200, section 4; RFC 4302). */
const HOP_BY_HOP = 0
const ROUTING = 43
const FRAGMENT_HEADER = 44
const AUTHENTICATION = 51
const DESTINATION_OPTIONS = 60
const MOST_EXTENSIONS = 16

/** The findings of read(); one object, used again for every frame. */
export class Frame {
  /** Whether its addresses have 16 bytes. */
  v6 = false
  sourceAt = 0
  destinationAt = 0
  /** Source port, and behind it that of the destination. */
  portsAt = 0
  payloadAt = 0
  /** As many as are there. */
  payloadBytes = 0
  readonly #view: DataView
  readonly #linkType: number

  /** @param linkType one that is known */
  constructor(view: DataView, linkType: number) {
    this.#view = view
    this.#linkType = linkType
  }

  /** Looks at the frame at `at`, of which `captured` bytes are there and `original` were on the wire. */
  read(at: number, captured: number, original: number): number {
    const end = at + captured
    const ip = this.#afterLink(at, end)
    if (ip < 0 || ip >= end) return OTHER_FRAME
    const version = this.#view.getUint8(ip) >> 4
    if (version === 4) return this.#readV4(ip, end, at + original)
    return version === 6 ? this.#readV6(ip, end, at + original) : OTHER_FRAME
  }

  /** Returns where the IP packet begins, −1 where there is none. */
  #afterLink(at: number, end: number): number {
    const linkType = this.#linkType
    if (linkType === ETHERNET) return this.#afterTypes(at + 12, end, at + 14)
    if (linkType === LINUX_SLL) return this.#afterTypes(at + 14, end, at + 16)
    if (linkType === LINUX_SLL2) return this.#afterTypes(at, end, at + 20)
    return LOOPBACK.includes(linkType) ? at + 4 : at
  }

  /** Passes over VLAN tags. @param typeAt where the type stands @param next what the type is of */
  #afterTypes(typeAt: number, end: number, next: number): number {
    for (;;) {
      if (typeAt + 2 > end) return -1
      const type = this.#view.getUint16(typeAt)
      if (type === TYPE_IPV4 || type === TYPE_IPV6) return next
      if (!isVlanType(type)) return -1
      typeAt = next + 2
      next += 4
    }
  }

  #readV4(ip: number, end: number, originalEnd: number): number {
    const view = this.#view
    if (ip + IPV4_BYTES > end || view.getUint8(ip + 9) !== UDP) return OTHER_FRAME
    const headerBytes = (view.getUint8(ip) & 15) * 4
    if (headerBytes < IPV4_BYTES) return OTHER_FRAME
    // More fragments, or an offset.
    if ((view.getUint16(ip + 6) & 0x3fff) !== 0) return FRAGMENT
    this.v6 = false
    this.sourceAt = ip + 12
    this.destinationAt = ip + 16
    // Where the kernel gave a device more than fits the field, to be segmented there.
    const total = view.getUint16(ip + 2)
    return this.#readUdp(ip + headerBytes, end, total === 0 ? originalEnd : ip + total)
  }

  #readV6(ip: number, end: number, originalEnd: number): number {
    const view = this.#view
    if (ip + IPV6_BYTES > end) return OTHER_FRAME
    const length = view.getUint16(ip + 4)
    this.v6 = true
    this.sourceAt = ip + 8
    this.destinationAt = ip + 24
    let next = view.getUint8(ip + 6)
    let at = ip + IPV6_BYTES
    for (let n = 0; n < MOST_EXTENSIONS; n++) {
      if (next === UDP) return this.#readUdp(at, end, length === 0 ? originalEnd : ip + IPV6_BYTES + length)
      if (at + 8 > end) return OTHER_FRAME
      const after = view.getUint8(at)
      if (next === FRAGMENT_HEADER) {
        if ((view.getUint16(at + 2) & 0xfff9) !== 0) return after === UDP ? FRAGMENT : OTHER_FRAME
        at += 8
      } else if (next === AUTHENTICATION) at += (view.getUint8(at + 1) + 2) * 4
      else if (next === HOP_BY_HOP || next === ROUTING || next === DESTINATION_OPTIONS) at += (view.getUint8(at + 1) + 1) * 8
      else return OTHER_FRAME
      next = after
    }
    return OTHER_FRAME
  }

  /** @param end of what was captured @param packetEnd of the IP packet */
  #readUdp(udp: number, end: number, packetEnd: number): number {
    if (udp + UDP_HEADER_BYTES > end) return OTHER_FRAME
    const told = this.#view.getUint16(udp + 4)
    const length = told === 0 ? packetEnd - udp : told
    const datagramEnd = Math.min(udp + length, packetEnd, end)
    this.portsAt = udp
    this.payloadAt = udp + UDP_HEADER_BYTES
    this.payloadBytes = Math.max(0, datagramEnd - this.payloadAt)
    return length >= UDP_HEADER_BYTES && datagramEnd === udp + length ? DATAGRAM : CUT_DATAGRAM
  }

  /** Writes source or destination as SenderTable compares it: 7 words. */
  put(words: Uint32Array, which: 'source' | 'destination'): void {
    const view = this.#view
    const address = which === 'source' ? this.sourceAt : this.destinationAt
    const port = view.getUint16(which === 'source' ? this.portsAt : this.portsAt + 2)
    words[0] = (port << 16) | (this.v6 ? AF_INET6 : AF_INET)
    words[1] = this.v6 ? 0 : view.getUint32(address)
    if (this.v6) for (let k = 0; k < 4; k++) words[2 + k] = view.getUint32(address + 4 * k)
  }
}

/** The address and the port in words that put() wrote. Cold. */
export function addressIn(words: Uint32Array): { readonly bytes: Uint8Array; readonly port: number } {
  const v4 = (words[0]! & 0xffff) === AF_INET
  const bytes = new Uint8Array(v4 ? 4 : 16)
  const view = new DataView(bytes.buffer)
  for (let k = 0; k < bytes.length; k += 4) view.setUint32(k, words[v4 ? 1 : 2 + k / 4]!)
  return { bytes, port: words[0]! >>> 16 }
}
