/**
 * Asks the kernel about routes, links, addresses and neighbours by rtnetlink(7). Linux only. About 20 µs a question (query.ts); failures
 * are NativeErrors that carry the kernel's errno. Not for hot paths: link-watch.ts and link-losses.ts may be called per step.
 */
import { ERRNO, NativeError } from '../native-error.js'
import { firstWord, type Prefix } from './prefix.js'
import { type Attributes, attributesOf, bytesOf, ENOUGH, query, textOf, u32, u32Of } from './query.js'

export type Family = 4 | 6

// linux/rtnetlink.h, linux/if.h, linux/if_link.h
export const RTM_NEWLINK = 16
export const RTM_DELLINK = 17
export const RTM_GETLINK = 18
export const RTM_NEWADDR = 20
const RTM_GETADDR = 22
export const RTM_NEWROUTE = 24
const RTM_GETROUTE = 26
export const RTM_NEWNEIGH = 28
export const RTM_DELNEIGH = 29
const RTM_GETNEIGH = 30
export const IFF_UP = 1
export const IFF_RUNNING = 0x40
export const IFF_LOWER_UP = 0x10000
export const IFLA_CARRIER_DOWN_COUNT = 48
/** Bytes of struct ifinfomsg. */
export const IFINFOMSG_LEN = 16

const addressFamily = (family: Family): number => (family === 4 ? 2 : 10)

const ROUTE_TYPES = [
  'unspec',
  'unicast',
  'local',
  'broadcast',
  'anycast',
  'multicast',
  'blackhole',
  'unreachable',
  'prohibit',
  'throw',
] as const
type RouteType = (typeof ROUTE_TYPES)[number]

export interface Route {
  readonly type: RouteType
  readonly ifindex: number
  /** Next hop, 4 or 16 bytes (an IPv4 route may have an IPv6 next hop, RFC 5549); absent when the destination is on the link. */
  readonly gateway?: Uint8Array
  /** The source address the kernel would choose. */
  readonly source?: Uint8Array
  /** Only when the route has a metric or a path MTU of its own; otherwise the link's applies. */
  readonly mtu?: number
}

export interface RouteOptions {
  readonly oif?: number | undefined
  /** The address that a socket is bound or connected from. */
  readonly source?: Uint8Array | undefined
  /** Ports of UDP packets; `from` is 0 where it is not known yet. */
  readonly udp?: { readonly from: number; readonly to: number } | undefined
  /** Type of service, or traffic class. */
  readonly tos?: number | undefined
}

/**
 * The route the kernel would take now (RTM_GETROUTE). No packet is sent.
 * @throws NativeError ENETUNREACH, EHOSTUNREACH, EACCES (prohibit route), EINVAL (blackhole route); a source that is not ours is
 *   ENETUNREACH or EINVAL by kernel version. Some IPv6 refusals come as a route of that type instead.
 */
export function routeTo(family: Family, address: Uint8Array, options: RouteOptions = {}): Route {
  // struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, u32 flags
  const bits = address.length * 8
  const header = Uint8Array.of(addressFamily(family), bits, options.source ? bits : 0, options.tos ?? 0, 0, 0, 0, 0, 0, 0, 0, 0)
  const attributes: [number, Uint8Array][] = [[1, address]]
  if (options.source) attributes.push([2, options.source])
  if (options.oif) attributes.push([4, u32(options.oif)])
  if (options.udp) {
    const { from, to } = options.udp
    // RTA_IP_PROTO, RTA_DPORT, RTA_SPORT, the ports in network order. Kernels before 4.19 ignore them, and have no rules by ports.
    attributes.push([27, Uint8Array.of(17)], [29, Uint8Array.of(to >> 8, to & 255)])
    if (from > 0) attributes.push([28, Uint8Array.of(from >> 8, from & 255)])
  }
  let route: Route | undefined
  const onMessage = (view: DataView, body: number, found: Attributes) => {
    const metrics = found.get(8)
    const mtu = metrics && u32Of(view, attributesOf(view, metrics.at, metrics.at + metrics.length), 2)
    // RTA_GATEWAY, or RTA_VIA: u16 family, then the address.
    const gateway = bytesOf(found, 5) ?? bytesOf(found, 18)?.subarray(2)
    const source = bytesOf(found, 7)
    route = {
      type: ROUTE_TYPES[view.getUint8(body + 7)] ?? 'unspec',
      ifindex: u32Of(view, found, 4) ?? 0,
      ...(gateway && { gateway }),
      ...(source && { source }),
      ...(mtu && { mtu }),
    }
  }
  query({ what: 'RTM_GETROUTE', type: RTM_GETROUTE, answer: RTM_NEWROUTE, header, attributes, onMessage })
  if (!route) throw new NativeError('RTM_GETROUTE', ERRNO.EPROTO, 'no route in the answer')
  return route
}

/** An interface with more routes than this is a router's, and the question not worth its time. */
const MOST_ROUTES = 256

/**
 * Whether a route of any table that names the interface, as one leg of several too, is one that is `wanted`; true as well where
 * it has more routes than anybody should read. @throws NativeError ENODEV when there is no such interface
 */
export function routesBy(family: Family, ifindex: number, wanted: (destination: Prefix) => boolean): boolean {
  const header = new Uint8Array(12)
  header[0] = addressFamily(family)
  let seen = 0
  let found = false
  const onMessage = (view: DataView, body: number, attributes: Attributes) => {
    found = ++seen > MOST_ROUTES || wanted({ bits: view.getUint8(body + 1), word: firstWord(bytesOf(attributes, 1) ?? NO_BYTES) })
    return found ? ENOUGH : undefined
  }
  query({
    what: 'RTM_GETROUTE',
    type: RTM_GETROUTE,
    answer: RTM_NEWROUTE,
    dump: true,
    strict: true,
    header,
    attributes: [[4, u32(ifindex)]],
    onMessage,
    restart: () => {
      seen = 0
    },
  })
  return found
}

const NO_BYTES = new Uint8Array(0)

const OPERSTATES = ['unknown', 'notpresent', 'down', 'lowerlayerdown', 'testing', 'dormant', 'up'] as const

export interface Link {
  readonly index: number
  readonly name: string
  readonly mtu: number
  /** Empty where the link layer has no addresses. */
  readonly mac: Uint8Array
  readonly up: boolean
  /** IFF_LOWER_UP: the driver has signal. */
  readonly carrier: boolean
  readonly loopback: boolean
  readonly pointToPoint: boolean
  /** IFF_NOARP: no neighbour resolution on this link. */
  readonly noArp: boolean
  readonly multicast: boolean
  readonly operstate: (typeof OPERSTATES)[number]
  /** 'veth', 'vlan', 'bond'…; absent for hardware. */
  readonly kind?: string
  /** The link below, if this one is a VLAN, MACVLAN or other link on top of another and both are in this network namespace. */
  readonly lower?: number
  /** The bond or bridge that this link is a port of. */
  readonly master?: number
  /** A VLAN's tag. */
  readonly vlanId?: number
  /** The EtherType of a VLAN's tag: 0x8100 (802.1Q) or 0x88a8 (802.1ad). */
  readonly vlanProtocol?: number
  /** The port that a bond sends by, where its mode has one (active-backup, balance-tlb, balance-alb) and a port is up. */
  readonly activePort?: number
  /** A port of a bond that the bond does not send by (IFLA_BOND_SLAVE_STATE). */
  readonly standby?: boolean
  readonly gsoMaxSegments: number
  readonly gsoMaxSizeBytes: number
  readonly txPackets: number
  readonly txDropped: number
  readonly txErrors: number
  /** Changes of carrier, both ways, since the interface was made. */
  readonly carrierChanges: number
  /** Losses of carrier; rises at once, where a LinkWatch message may be up to a second late (the kernel rate-limits them). */
  readonly carrierDownCount: number
}

function linkOf(view: DataView, body: number, found: Attributes): Link {
  const flags = view.getUint32(body + 8, true)
  const info = found.get(18)
  const about = info && attributesOf(view, info.at, info.at + info.length)
  const kind = about && textOf(about, 1)
  const nested = (type: number): Attributes | undefined => {
    const inner = about?.get(type)
    return inner && attributesOf(view, inner.at, inner.at + inner.length)
  }
  const data = kind === 'vlan' || kind === 'bond' ? nested(2) : undefined
  const vlan = kind === 'vlan' ? data?.get(1) : undefined
  const vlanProtocol = kind === 'vlan' ? data?.get(5) : undefined
  const activePort = kind === 'bond' && data && u32Of(view, data, 2)
  const portState = about && textOf(about, 4) === 'bond' ? nested(5)?.get(1) : undefined
  // IFLA_LINK is an index of the namespace that IFLA_LINK_NETNSID names.
  const lower = found.has(37) ? undefined : u32Of(view, found, 5)
  const master = u32Of(view, found, 10)
  // struct rtnl_link_stats64: rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped, …
  const stats = found.get(23)
  const counter = (i: number) => (stats && stats.length >= (i + 1) * 8 ? Number(view.getBigUint64(stats.at + i * 8, true)) : 0)
  const operstate = found.get(16)
  return {
    index: view.getInt32(body + 4, true),
    name: textOf(found, 3) ?? '',
    mtu: u32Of(view, found, 4) ?? 0,
    mac: bytesOf(found, 1) ?? new Uint8Array(0),
    up: (flags & IFF_UP) !== 0,
    carrier: (flags & IFF_LOWER_UP) !== 0,
    loopback: (flags & 8) !== 0,
    pointToPoint: (flags & 0x10) !== 0,
    noArp: (flags & 0x80) !== 0,
    multicast: (flags & 0x1000) !== 0,
    operstate: (operstate && OPERSTATES[view.getUint8(operstate.at)]) ?? 'unknown',
    ...(kind && { kind }),
    ...(lower && { lower }),
    ...(master && { master }),
    ...(vlan && { vlanId: view.getUint16(vlan.at, true) }),
    ...(vlanProtocol && { vlanProtocol: view.getUint16(vlanProtocol.at) }),
    ...(activePort && { activePort }),
    ...(portState && { standby: view.getUint8(portState.at) === 1 }),
    gsoMaxSegments: u32Of(view, found, 40) ?? 0,
    gsoMaxSizeBytes: u32Of(view, found, 41) ?? 0,
    txPackets: counter(1),
    txErrors: counter(5),
    txDropped: counter(7),
    carrierChanges: u32Of(view, found, 35) ?? 0,
    carrierDownCount: u32Of(view, found, IFLA_CARRIER_DOWN_COUNT) ?? 0,
  }
}

/** All interfaces of this network namespace, down ones included. */
export function links(): Link[] {
  const all: Link[] = []
  query({
    what: 'RTM_GETLINK',
    type: RTM_GETLINK,
    answer: RTM_NEWLINK,
    dump: true,
    header: new Uint8Array(IFINFOMSG_LEN),
    onMessage: (view, body, found) => all.push(linkOf(view, body, found)),
    restart: () => all.splice(0),
  })
  return all
}

/** One interface. @throws NativeError ENODEV when there is none of that index. */
export function link(index: number): Link {
  if (!(index > 0)) throw new NativeError('RTM_GETLINK', ERRNO.ENODEV, `interface ${index}`)
  const header = new Uint8Array(IFINFOMSG_LEN)
  new DataView(header.buffer).setInt32(4, index, true)
  let one: Link | undefined
  const onMessage = (view: DataView, body: number, found: Attributes) => {
    one = linkOf(view, body, found)
  }
  query({ what: 'RTM_GETLINK', type: RTM_GETLINK, answer: RTM_NEWLINK, header, onMessage })
  if (!one) throw new NativeError('RTM_GETLINK', ERRNO.ENODEV, `interface ${index}`)
  return one
}

/**
 * Whether packets may come from an address: `tentative`, duplicate address detection (RFC 4862) is not through, and no socket can be bound to
 * it; `dadfailed`, another host has it, and the kernel does not use it; `deprecated`, usable, but the kernel prefers others.
 */
export type AddressState = 'usable' | 'deprecated' | 'tentative' | 'dadfailed'

// linux/if_addr.h
const IFA_FLAGS = 8
const IFA_F_OPTIMISTIC = 0x04
const IFA_F_DADFAILED = 0x08
const IFA_F_DEPRECATED = 0x20
const IFA_F_TENTATIVE = 0x40

function stateOf(flags: number): AddressState {
  if (flags & IFA_F_DADFAILED) return 'dadfailed'
  if (flags & IFA_F_TENTATIVE && !(flags & IFA_F_OPTIMISTIC)) return 'tentative'
  return flags & IFA_F_DEPRECATED ? 'deprecated' : 'usable'
}

export interface InterfaceAddress {
  readonly ifindex: number
  readonly family: Family
  /** Our own address, 4 or 16 bytes. */
  readonly bytes: Uint8Array
  /** `link` scope: only valid on its link (IPv6 fe80::/10, IPv4 169.254/16 as configured). */
  readonly linkLocal: boolean
  readonly state: AddressState
}

/** All addresses of this network namespace, those of interfaces without carrier included (os.networkInterfaces leaves them out). */
export function addresses(): InterfaceAddress[] {
  const all: InterfaceAddress[] = []
  query({
    what: 'RTM_GETADDR',
    type: RTM_GETADDR,
    answer: RTM_NEWADDR,
    dump: true,
    // struct ifaddrmsg: family, prefixlen, flags, scope, u32 index
    header: new Uint8Array(8),
    onMessage: (view, body, found) => {
      // IFA_ADDRESS is the peer's on point-to-point links; IFA_LOCAL, where present, is ours.
      const bytes = bytesOf(found, 2) ?? bytesOf(found, 1)
      const family = bytes?.length === 4 ? 4 : 6
      if (!bytes) return
      all.push({
        ifindex: view.getUint32(body + 4, true),
        family,
        bytes,
        linkLocal: view.getUint8(body + 3) === 253,
        state: stateOf(u32Of(view, found, IFA_FLAGS) ?? view.getUint8(body + 2)),
      })
    },
    restart: () => all.splice(0),
  })
  return all
}

const NUD = new Map([
  [0, 'none'],
  [1, 'incomplete'],
  [2, 'reachable'],
  [4, 'stale'],
  [8, 'delay'],
  [0x10, 'probe'],
  [0x20, 'failed'],
  [0x40, 'noarp'],
  [0x80, 'permanent'],
] as const)
type NeighbourState = 'none' | 'incomplete' | 'reachable' | 'stale' | 'delay' | 'probe' | 'failed' | 'noarp' | 'permanent'

export interface Neighbour {
  /** NUD_* of linux/neighbour.h; `none`: the kernel has no entry. */
  readonly state: NeighbourState
  /** Absent unless known. It may be known and old (`stale`, `failed`). */
  readonly mac?: Uint8Array
}

/** The kernel's ARP or neighbour discovery entry. Needs Linux 5.0. @throws NativeError ENODEV when there is no such interface. */
export function neighbour(family: Family, ifindex: number, address: Uint8Array): Neighbour {
  // struct ndmsg: family, 3 pad, i32 ifindex, u16 state, u8 flags, u8 type
  const header = new Uint8Array(12)
  header[0] = addressFamily(family)
  new DataView(header.buffer).setInt32(4, ifindex, true)
  let entry: Neighbour = { state: 'none' }
  try {
    const onMessage = (view: DataView, body: number, found: Attributes) => {
      const mac = bytesOf(found, 2)
      entry = { state: NUD.get(view.getUint16(body + 8, true) as 0) ?? 'none', ...(mac && { mac }) }
    }
    query({ what: 'RTM_GETNEIGH', type: RTM_GETNEIGH, answer: RTM_NEWNEIGH, header, attributes: [[1, address]], onMessage })
  } catch (error) {
    if (!(error instanceof NativeError && error.errno === ERRNO.ENOENT)) throw error
  }
  return entry
}
