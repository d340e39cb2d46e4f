/**
 * Ports that send and receive datagrams (UD) of InfiniBand or RoCE: chooses the port that the user means and the GID that an
 * address means, and tells how much a datagram may carry. Linux only, cold.
 *
 * A GID is 16 bytes. With RoCE a port has one for each IP address of its interface, and that of an IPv4 address is ::ffff:a.b.c.d.
 * With InfiniBand the first GID of a port's table names it, and within the subnet the local id (LID) leads there.
 */
import { type Gid, type PortFacts, VerbsContext } from '../../ffi/verbs/context.js'
import { IBV_LINK_LAYER_ETHERNET } from '../../ffi/verbs/layout.js'
import type { VerbsLibrary } from '../../ffi/verbs/library.js'
import { BackendRefused, ensure, SpeadcastError } from '../errors.js'
import { formatGid, isV4Mapped, needsScope, parseAddress } from '../net/address.js'
import { AROUND_FRAME_BYTES, ETHERNET_BYTES, VLAN_TAG_BYTES, wireOverheadBytes } from '../net/frame.js'
import { localInterfaces, type ResolvedInterface } from '../net/interface.js'
import { vlanTagsOf } from '../net/route.js'
import { rdmaPathOf } from './devices.js'
import { explained } from './errors.js'

const BACKEND = 'rdma-ud'
const ROCE_V2 = 2

/** The GID of an IP address of 4 or 16 bytes. */
export function gidOf(address: Uint8Array): Uint8Array {
  if (address.length === 16) return address
  const gid = new Uint8Array(16)
  gid.fill(0xff, 10, 12)
  gid.set(address, 12)
  return gid
}

/** Reads a GID, written as an IPv6 address or as the IPv4 address it stands for; undefined when the text is neither. */
export function parseGid(text: string): Uint8Array | undefined {
  const bytes = parseAddress(text)
  return bytes && gidOf(bytes)
}

export interface PortChoice {
  /** `mlx5_0` or `mlx5_0:1`; default the port behind the interface. */
  readonly device?: string | undefined
  readonly ifindex?: number | undefined
  /** An address of the port's interface. */
  readonly address?: Uint8Array | undefined
}

export interface FabricPort {
  readonly context: VerbsContext
  readonly device: string
  readonly port: number
  readonly facts: PortFacts
  /** Others reach the port by this GID, and it sends from it to GIDs of the same kind. */
  readonly gid: Gid
  readonly gids: readonly Gid[]
  readonly ethernet: boolean
  /** The most bytes that a datagram may carry, as of when the port was opened. */
  readonly mtuBytes: number
}

/** enum ibv_mtu: 1 is 256 bytes, each step doubles. */
export function activeMtuBytes({ activeMtu }: PortFacts): number {
  return 128 << activeMtu
}

/** Index of the interface that has an address; 0 if none of this machine has it, or only loopback. */
export function interfaceWith(address: Uint8Array): number {
  const has = (bytes: Uint8Array) => Buffer.compare(bytes, address) === 0
  return localInterfaces().find(({ loopback, addresses }) => !loopback && addresses.some(({ bytes }) => has(bytes)))?.index ?? 0
}

/** @throws ERR_SPEADCAST_BACKEND naming the devices or GIDs there are, ERR_SPEADCAST_INTERFACE */
export function openFabricPort(library: VerbsLibrary, choice: PortChoice): FabricPort {
  const { device, port } = choosePort(library, choice)
  const context = explained(BACKEND, () => VerbsContext.open(library, device))
  try {
    const facts = explained(BACKEND, () => context.port(port))
    const ethernet = facts.linkLayer === IBV_LINK_LAYER_ETHERNET
    const gids = (context.gids() ?? []).filter((gid) => gid.port === port).sort((a, b) => a.index - b.index)
    const gid = ownGid(gids, `port ${port} of ${device}`, ethernet, choice.address)
    return { context, device, port, facts, gid, gids, ethernet, mtuBytes: activeMtuBytes(facts) }
  } catch (error) {
    context.close()
    throw error
  }
}

/**
 * Bytes that a datagram takes on the wire beyond its payload. It always has a base header of 12, a datagram header of 8 and a
 * checksum of 4.
 *
 * | fabric         | in front of these                                          | behind        | IBTA specification  |
 * |----------------|------------------------------------------------------------|---------------|---------------------|
 * | RoCE version 2 | Ethernet, IP and UDP headers                               |               | annex A17           |
 * | RoCE version 1 | Ethernet header, global route header of 40                 |               | annex A16           |
 * | InfiniBand     | local route header of 8; to groups also a global one of 40 | checksum of 2 | volume 1, chapter 5 |
 */
export function datagramOverheadBytes({ ethernet, gid }: Pick<FabricPort, 'ethernet' | 'gid'>, toGroups: boolean): number {
  const transport = 12 + 8 + 4
  if (!ethernet) return 8 + (toGroups ? 40 : 0) + transport + 2
  const vlanTags = gid.ifindex > 0 ? vlanTagsOf(gid.ifindex) : 0
  if (gid.type === ROCE_V2) return wireOverheadBytes(isV4Mapped(gid.bytes) ? 4 : 6, vlanTags) + transport
  return AROUND_FRAME_BYTES + ETHERNET_BYTES + vlanTags * VLAN_TAG_BYTES + 40 + transport
}

function choosePort(library: VerbsLibrary, { device, ifindex, address }: PortChoice): { device: string; port: number } {
  if (device !== undefined) {
    const [, name = '', port = '1'] = /^([^:]+)(?::(\d{1,3}))?$/.exec(device) ?? []
    ensure(name !== '', 'ERR_SPEADCAST_CONFIG', () => `device is '${device}'; write its name, or name and port: mlx5_0:1`)
    return { device: name, port: Number(port) }
  }
  if (!ifindex)
    throw new SpeadcastError(
      'ERR_SPEADCAST_BACKEND',
      "backend 'rdma-ud' needs to know its port: give interface (or one of its addresses) or the RDMA device",
    )
  return explained(BACKEND, () => rdmaPathOf(library, ifindex, address, { ethernetOnly: false }))
}

/** Kinds of RoCE's GIDs: 0 IPv4, 1 IPv6, 2 link-local IPv6. Nothing can be sent from a GID of one kind to one of another. */
const kindOf = (gid: Uint8Array): number => (isV4Mapped(gid) ? 0 : needsScope(gid) ? 2 : 1)

/** The GID to send from, to reach another GID. */
export function sourceGid({ gid, gids, ethernet }: FabricPort, to: Uint8Array): Gid {
  if (!ethernet || kindOf(gid.bytes) === kindOf(to)) return gid
  return gids.find(({ bytes, type }) => type === ROCE_V2 && kindOf(bytes) === kindOf(to)) ?? gid
}

function ownGid(gids: readonly Gid[], where: string, ethernet: boolean, address: Uint8Array | undefined): Gid {
  if (gids.length === 0) throw new BackendRefused(BACKEND, `${where} tells no GIDs; that takes a link, rdma-core 32 and Linux 5.10`)
  if (!ethernet) return gids[0]!
  const wanted = address && gidOf(address)
  const fitting = gids.filter(({ bytes }) => !wanted || Buffer.compare(bytes, wanted) === 0)
  if (fitting.length === 0) {
    const there = [...new Set(gids.map(formatGid))].join(', ')
    throw new BackendRefused(BACKEND, `${formatGid({ bytes: wanted! })} is no GID of ${where}; there are: ${there}`)
  }
  const rank = ({ type, bytes }: Gid): number => (type === ROCE_V2 ? 0 : 10) + kindOf(bytes)
  return fitting.toSorted((a, b) => rank(a) - rank(b))[0]!
}

/** How to choose the port of a receiver that listens at the address `own`, or of a sender that sends from it. */
export function portChoice(
  device: string | undefined,
  chosen: ResolvedInterface | undefined,
  own: Uint8Array | undefined,
): PortChoice {
  const address = chosen?.addressBytes ?? (own?.every((byte) => byte === 0) ? undefined : own)
  return {
    device,
    ifindex: chosen?.index ?? (address && interfaceWith(address)),
    // A device that is given by name may use any of its GIDs, unless an address was given too.
    address: device === undefined ? address : chosen?.addressBytes,
  }
}
