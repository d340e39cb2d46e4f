/**
 * Where the kernel would send an endpoint's packets: interface, MTU, next hop, and whether the next hop's MAC is known. Linux
 * only (rtnetlink). Some 30 µs a question: asked when a stream opens, when the kernel tells of a change below it, and while a
 * next hop does not answer; never for each packet.
 */

import { ERRNO, NativeError } from '../../ffi/native-error.js'
import { type Link, link, type Neighbour, neighbour, type Route, routeTo } from '../../ffi/netlink/route.js'
import { sendEmptyDatagram } from '../../ffi/socket/empty-datagram.js'
import { lackOf, SpeadcastError, withCode } from '../errors.js'
import { type Family, formatAddress, needsScope } from './address.js'
import { needsInterface, type ResolvedEndpoint } from './endpoint.js'
import type { ResolvedInterface } from './interface.js'

export interface Path {
  /** The endpoint's text. */
  readonly to: string
  readonly family: Family
  readonly interfaceName: string
  readonly ifindex: number
  /** Largest IP datagram: the route's own MTU (a metric, or a learnt path MTU) or the interface's, whichever is less. */
  readonly mtu: number
  /** The interface's own. */
  readonly linkMtu: number
  /** Gateway, or the endpoint itself when it is on the link; absent where there is none to resolve (see onLinkMulticastOrLoopback). */
  readonly nextHop?: { readonly bytes: Uint8Array; readonly text: string }
  /** Multicast, broadcast, or an address of this machine: the MAC follows from the address, or there is none. */
  readonly onLinkMulticastOrLoopback: boolean
  /** The link that hands packets to a socket of this host, for which the kernel copies even what is lent: 'loopback', 'veth'… */
  readonly copiedBy?: string
  /** 802.1Q tags that the interface, a VLAN or something on top of one, puts into every frame. */
  readonly vlanTags: number
  /** The next hop's MAC has to be resolved: false also for interfaces without ARP and point-to-point links. */
  readonly needsNeighbour: boolean
  /** The source address the kernel chooses; empty when it tells none. */
  readonly sourceAddress: string
}

/** RFC 791: 20 bytes without options; RFC 8200: 40; RFC 768: 8. */
const HEADER_BYTES = { 4: 28, 6: 48 } as const
/** Total length (IPv4) and payload length (IPv6) are 16-bit fields. */
const LARGEST = { 4: 65535 - 28, 6: 65535 - 8 } as const

/** Kinds of link whose drivers copy the memory that a packet borrows from its sender (skb_orphan_frags_rx in veth.c, tun.c, netkit.c). */
const COPYING_KINDS: readonly (string | undefined)[] = ['veth', 'tun', 'netkit']

/** UDP payload bytes that fit an MTU without fragmentation. */
export function largestPacketSizeBytes(mtu: number, family: Family): number {
  return Math.min(mtu - HEADER_BYTES[family], LARGEST[family])
}

/** Links by their index, so that many paths ask about each once. */
export type Devices = Map<number, { readonly device: Link; readonly vlanTags: number }>

/** By what a packet's path is chosen besides its destination: rules (ip-rule(8)) go by it, and so do routes of several legs. */
export interface Flow {
  /** 0 while it is not known. */
  readonly sourcePort: number
  /** The address that the socket is bound to, if it is to one. */
  readonly source?: Uint8Array | undefined
  /** Type of service, or traffic class. */
  readonly tos: number
}

/**
 * Asks the kernel for the path to an endpoint as of now; with `iface`, out of that interface. No packet is sent.
 * @param flow of the packets; without it, whatever the kernel says of their destination
 * @throws SpeadcastError ERR_SPEADCAST_UNREACHABLE: no route, or one that refuses; _INTERFACE: a link-local address without one.
 */
export function pathTo(endpoint: ResolvedEndpoint, iface?: ResolvedInterface, devices?: Devices, flow?: Flow): Path {
  const oif = endpoint.scopeId || iface?.index || 0
  if (needsScope(endpoint.bytes) && oif === 0) throw needsInterface(endpoint)
  const route = askRoute(endpoint, oif, iface, flow)
  const { device, vlanTags } = deviceOf(route.ifindex, devices)
  const direct = route.type !== 'unicast'
  const nextHop = route.gateway ?? endpoint.bytes
  const copiedBy = device.loopback ? 'loopback' : COPYING_KINDS.find((kind) => kind === device.kind)
  return {
    to: endpoint.text,
    family: endpoint.family,
    interfaceName: device.name,
    ifindex: device.index,
    mtu: Math.min(route.mtu ?? Number.POSITIVE_INFINITY, device.mtu),
    linkMtu: device.mtu,
    ...(!direct && { nextHop: { bytes: nextHop, text: formatAddress(nextHop) } }),
    onLinkMulticastOrLoopback: direct || device.loopback,
    ...(copiedBy && { copiedBy }),
    vlanTags,
    needsNeighbour: !direct && !device.loopback && !device.noArp && !device.pointToPoint,
    sourceAddress: route.source ? formatAddress(route.source) : '',
  }
}

function deviceOf(ifindex: number, devices: Devices | undefined): { readonly device: Link; readonly vlanTags: number } {
  const known = devices?.get(ifindex)
  if (known) return known
  const found = { device: link(ifindex), vlanTags: vlanTagsOf(ifindex) }
  devices?.set(ifindex, found)
  return found
}

/** More links on top of one another than this are a loop. */
const MOST_LINKS = 8

/** 802.1Q tags that an interface and those below it put into every frame. Interfaces in another network namespace are not seen. */
export function vlanTagsOf(ifindex: number): number {
  let tags = 0
  let index: number | undefined = ifindex
  try {
    for (let depth = 0; index && depth < MOST_LINKS; depth++) {
      const { kind, lower } = link(index)
      if (kind === 'vlan') tags++
      // The peer of a veth is no link below it.
      index = kind === 'veth' ? undefined : lower
    }
  } catch (error) {
    if (!(error instanceof NativeError)) throw error
  }
  return tags
}

/** The answer says nothing of a source that was given. @throws NativeError */
function routeOf(endpoint: ResolvedEndpoint, oif: number, flow: Flow | undefined): Route {
  const { family, bytes, port } = endpoint
  const by = (source: Uint8Array | undefined) =>
    routeTo(family, bytes, { oif, source, tos: flow?.tos, udp: flow && { from: flow.sourcePort, to: port } })
  const source = flow?.source
  if (!source) return by(undefined)
  try {
    return { source, ...by(source) }
  } catch (error) {
    // The address is gone (by version of the kernel EINVAL or ENETUNREACH), which its owner finds out by the source that the kernel would choose
    // now; or a rule refuses packets from there, and the kernel will refuse each.
    if (!(error instanceof NativeError && (error.errno === ERRNO.EINVAL || error.errno === ERRNO.ENETUNREACH))) throw error
    return by(undefined)
  }
}

function askRoute(endpoint: ResolvedEndpoint, oif: number, iface: ResolvedInterface | undefined, flow: Flow | undefined): Route {
  const out = iface ? ` out of ${iface.name}` : ''
  const remedy = endpoint.multicast
    ? `give the interface to send multicast from, or add a route: ip route add ${endpoint.family === 4 ? '224.0.0.0/4' : 'ff00::/8 table local type multicast'} dev INTERFACE`
    : `see: ip route get ${endpoint.address}`
  let route: Route
  try {
    route = routeOf(endpoint, oif, flow)
  } catch (cause) {
    if (!(cause instanceof NativeError)) throw cause
    if (lackOf(cause)) throw withCode(`the route to ${endpoint.text}`, cause)
    const why =
      cause.errno === ERRNO.EACCES
        ? 'a route prohibits packets'
        : cause.errno === ERRNO.ENETUNREACH
          ? 'there is no route'
          : `the kernel answers ${cause.errnoName} to a route`
    throw new SpeadcastError('ERR_SPEADCAST_UNREACHABLE', `${why} to ${endpoint.text}${out}; ${remedy}`, { cause })
  }
  switch (route.type) {
    case 'unicast':
    case 'local':
    case 'broadcast':
    case 'anycast':
    case 'multicast':
      return route
    default:
      throw new SpeadcastError(
        'ERR_SPEADCAST_UNREACHABLE',
        `the route to ${endpoint.text}${out} is of type '${route.type}'; ${remedy}`,
      )
  }
}

/** The kernel's entry for the path's next hop; undefined where none is needed. */
export function neighbourOf(path: Path): Neighbour | undefined {
  if (!path.needsNeighbour) return undefined
  const { bytes } = path.nextHop!
  return neighbour(bytes.length === 4 ? 4 : 6, path.ifindex, bytes)
}

export type NeighbourOutcome = 'reachable' | 'failed' | 'not-needed'

/** Whether packets to the path's next hop would leave now; `unasked`: the kernel does not even look for its MAC. Old entries (stale, delay, probe) have a MAC and carry traffic. */
export function neighbourState(path: Path): NeighbourOutcome | 'unresolved' | 'unasked' {
  const entry = neighbourOf(path)
  if (!entry) return 'not-needed'
  switch (entry.state) {
    case 'failed':
      return 'failed'
    case 'none':
      return 'unasked'
    case 'incomplete':
      return 'unresolved'
    default:
      return 'reachable'
  }
}

/** RFC 863. */
const DISCARD_PORT = 9

/**
 * Makes the kernel start resolving the next hop, by an empty UDP datagram to its discard port. The alternatives are worse: netlink's
 * NTF_USE needs CAP_NET_ADMIN; an empty datagram to the endpoint's own port would reach the receiver as a malformed packet; and the
 * kernel queues only a few packets (unres_qlen_bytes) while it resolves, dropping the rest of a burst with every send reported as
 * accepted. The receiver's host may answer the datagram with an ICMP port unreachable; it reaches a socket that is closed by then.
 * @throws NativeError, such as EPERM when a firewall forbids the datagram
 */
export function kickNeighbour(path: Path): void {
  if (!path.needsNeighbour) return
  const { bytes } = path.nextHop!
  sendEmptyDatagram(bytes.length === 4 ? 4 : 6, bytes, DISCARD_PORT, path.ifindex)
}

/**
 * Resolves the next hops of all paths, so that the first packet of a stream is not lost to an unresolved neighbour. Each distinct
 * next hop is asked for once. `failed`: the kernel gave up (three unanswered requests, about 3 s) or `timeoutMs` passed.
 * Rejects only with a NativeError when netlink itself fails.
 */
export async function waitForNeighbours(paths: readonly Path[], timeoutMs: number): Promise<NeighbourOutcome[]> {
  const outcomes = new Map<string, NeighbourOutcome>()
  const keyOf = (path: Path) => `${path.ifindex} ${path.nextHop?.text ?? ''} ${path.needsNeighbour}`
  const open = new Map<string, Path>()
  for (const path of paths) {
    const key = keyOf(path)
    if (outcomes.has(key) || open.has(key)) continue
    const state = neighbourState(path)
    if (state === 'reachable' || state === 'not-needed') {
      outcomes.set(key, state)
      continue
    }
    open.set(key, path)
    try {
      // An entry that failed earlier becomes incomplete again by this, at once.
      kickNeighbour(path)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      outcomes.set(key, 'failed')
      open.delete(key)
    }
  }
  const deadline = performance.now() + timeoutMs
  for (let pauseMs = 1; open.size > 0; pauseMs = Math.min(pauseMs + 1, 10)) {
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
    for (const [key, path] of open) {
      const state = neighbourState(path)
      if (state === 'unresolved' || state === 'unasked') continue
      outcomes.set(key, state)
      open.delete(key)
    }
    if (performance.now() < deadline) continue
    for (const key of open.keys()) outcomes.set(key, 'failed')
    break
  }
  return paths.map((path) => outcomes.get(keyOf(path))!)
}
