/**
 * The cold half of the rdma-ud backend: opens the port that datagrams leave by, asks each receiver for its queue pair (or joins the
 * multicast group), and makes an address handle for each substream.
 *
 * Some devices drop a datagram that is too large for the path and report it sent (rxe, IBV_WC_SUCCESS). So its size is checked here
 * when a stream opens, and again whenever the interface changes.
 */

import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import { LinkWatch } from '../../../ffi/netlink/link-watch.js'
import { link } from '../../../ffi/netlink/route.js'
import type { AddressHandle, DatagramAddress, ProtectionDomain } from '../../../ffi/verbs/context.js'
import { IBV_PORT_ACTIVE } from '../../../ffi/verbs/layout.js'
import type { GroupMembership } from '../../../ffi/verbs/rdmacm.js'
import type { DatagramDestination } from '../../../ffi/verbs/work-requests.js'
import { debug } from '../../debug.js'
import { ensure, lackOf, SpeadcastError } from '../../errors.js'
import { formatGid, parseAddress } from '../../net/address.js'
import type { ResolvedEndpoint } from '../../net/endpoint.js'
import { type Path, waitForNeighbours } from '../../net/route.js'
import { interfacesBelow } from '../../rdma/devices.js'
import { explained, loadLibrary } from '../../rdma/errors.js'
import {
  activeMtuBytes,
  type FabricPort,
  gidOf,
  interfaceWith,
  openFabricPort,
  type PortChoice,
  parseGid,
  portChoice,
  sourceGid,
} from '../../rdma/fabric.js'
import { joinGroup, openGroups } from '../../rdma/groups.js'
import { askRendezvous, type DatagramPeer, DEFAULT_QKEY } from '../../rdma/rendezvous.js'
import { waysOf } from '../path-news.js'
import { findPath } from '../paths.js'
import { States } from '../states.js'
import { ensureLoopback, type OpenDevice, oneInterface, type QueueOptions } from './open.js'

/** A receiver's queue pair, as the user names it. */
interface PeerOption {
  /** Default: the endpoint's address as GID. */
  readonly gid?: string
  readonly qpn: number
  readonly qkey?: number
  readonly lid?: number
  readonly mtuBytes?: number | undefined
}

export interface RdmaUdOptions extends QueueOptions {
  /** `mlx5_0` or `mlx5_0:1`; default the one behind the interface. */
  readonly device?: string
  /** One per endpoint. By default each receiver is asked over TCP. */
  readonly peers?: readonly PeerOption[]
  /** Opening waits this long for receivers to answer, and for the fabric to let us join a group. */
  readonly connectTimeoutMs: number
}

/** How often to ask again what could not be asked for want of descriptors or memory. */
const LACK_RETRY_MS = 20
/** The two bits below the DSCP are ECN's. */
const trafficClass = (dscp: number): number => dscp << 2
/** For unicast. For a group, librdmacm gives both. */
const UNICAST = { hopLimit: 64, trafficClass: 0 }

export interface Destination extends DatagramDestination {
  readonly peer: DatagramPeer
  readonly ah: AddressHandle
}

export interface OpenFabric extends OpenDevice {
  readonly fabric: FabricPort
  readonly destinations: readonly Destination[]
  readonly groups: GroupMembership | undefined
  readonly watch: PortWatch
}

/**
 * @throws ERR_SPEADCAST_BACKEND: no library, no RDMA device, or it cannot be opened; _PACKET_SIZE, _UNREACHABLE, _INTERFACE
 */
export async function openFabric(options: RdmaUdOptions): Promise<OpenFabric> {
  const { endpoints, device, packetSizeBytes } = options
  const library = loadLibrary('rdma-ud', options.verbsLibrary)
  const paths = device === undefined ? endpoints.map((endpoint) => findPath(endpoint, options.interface)) : []
  if (paths.length > 0) debug(() => waysOf(paths))
  const choice = senderPort(options, paths)
  const fabric = openFabricPort(library, choice)
  const { context, gid, port } = fabric
  const opened: { close(): void }[] = [context]
  try {
    checkSize(packetSizeBytes, fabric.mtuBytes, describePort(fabric))
    ensureLoopback('rdma-ud', endpoints, interfacesBelow(gid.ifindex), options.multicastLoop)
    const facts = explained('rdma-ud', () => context.facts())
    let groups: GroupMembership | undefined
    if (endpoints.some(({ multicast }) => multicast)) {
      groups = openGroups(choice.address ?? ipv4Of(gid.bytes), choice.ifindex)
      opened.push(groups)
    }
    const peers = await Promise.all(
      endpoints.map((endpoint, i) => (endpoint.multicast ? undefined : findPeer(endpoint, options.peers?.[i], options))),
    )
    for (const [i, peer] of peers.entries())
      if (peer?.mtuBytes) checkSize(packetSizeBytes, peer.mtuBytes, `the receiver ${endpoints[i]!.text}`)
    // Making an address handle waits for the neighbour too, but it blocks this thread.
    const direct = paths.filter((_, i) => peers[i] && equal(peers[i].gid, gidOf(endpoints[i]!.bytes)))
    if (fabric.ethernet) await waitForNeighbours(direct, options.neighbourTimeoutMs)
    const domain = explained('rdma-ud', () => context.allocateDomain())
    opened.push({ close: () => domain.release() })
    const destinations: Destination[] = []
    opened.push({ close: () => closeDestinations(destinations) })
    for (const [i, endpoint] of endpoints.entries()) {
      const peer = peers[i]
      const where = peer
        ? {
            gid: peer.gid,
            lid: peer.lid,
            qpn: peer.qpn,
            qkey: peer.qkey,
            ...UNICAST,
            port,
            sourceGidIndex: sourceGid(fabric, peer.gid).index,
          }
        : await joinGroup(groups!, endpoint, options.connectTimeoutMs)
      const { ttl, dscp } = options
      const address = {
        ...where,
        ...(ttl !== undefined && { hopLimit: ttl }),
        ...(dscp !== undefined && { trafficClass: trafficClass(dscp) }),
      }
      const ah = makeHandle(domain, address, endpoint, fabric)
      destinations.push({ handle: ah.pointer, qpn: where.qpn, qkey: where.qkey, peer: where, ah })
    }
    const portActive = fabric.facts.state === IBV_PORT_ACTIVE
    const states = new States()
    const watch = explained('rdma-ud', () => new PortWatch(fabric, packetSizeBytes, states))
    return {
      context,
      domain,
      facts,
      rdma: { device: fabric.device, port, vlans: [], interfaces: [] },
      portActive,
      fabric,
      destinations,
      groups,
      watch,
      states,
    }
  } catch (error) {
    for (const each of opened.reverse()) each.close()
    throw error
  }
}

export function closeDestinations(destinations: readonly Destination[]): void {
  for (const { ah } of destinations) ah.release()
}

export function describePort({ device, port }: FabricPort): string {
  return `port ${port} of ${device}`
}

/** Chooses the port that sends: the device's, the one behind the interface, or the one behind the route. */
export function senderPort(
  { device, interface: iface, endpoints }: Pick<RdmaUdOptions, 'device' | 'interface' | 'endpoints'>,
  paths: readonly Path[],
): PortChoice {
  if (device !== undefined || iface) return portChoice(device, iface, undefined)
  const { ifindex, onLinkMulticastOrLoopback, sourceAddress } = oneInterface(paths)
  // The route to an address of this machine leads to lo, behind which no device is.
  const local = onLinkMulticastOrLoopback && !endpoints[0]!.multicast ? interfaceWith(endpoints[0]!.bytes) : 0
  return { device, ifindex: local || ifindex, address: parseAddress(sourceAddress) }
}

function checkSize(packetSizeBytes: number, mtuBytes: number, where: string): void {
  ensure(packetSizeBytes <= mtuBytes, 'ERR_SPEADCAST_PACKET_SIZE', () =>
    tooLarge(`packetSizeBytes ${packetSizeBytes}`, mtuBytes, where),
  )
}

export function tooLarge(what: string, mtuBytes: number, where: string): string {
  const remedy = mtuBytes < 4096 ? ' or raise the MTU of its interface, of which RDMA takes the next lower power of two' : ''
  return `${what} exceeds the ${mtuBytes} bytes that a datagram may carry through ${where}; pass packetSizeBytes ≤ ${mtuBytes}${remedy}`
}

async function findPeer(
  endpoint: ResolvedEndpoint,
  given: PeerOption | undefined,
  { connectTimeoutMs }: RdmaUdOptions,
): Promise<DatagramPeer> {
  if (!given) return askRendezvous(endpoint, connectTimeoutMs)
  const gid = given.gid === undefined ? gidOf(endpoint.bytes) : parseGid(given.gid)
  ensure(
    gid,
    'ERR_SPEADCAST_CONFIG',
    () => `gid '${given.gid}' of a peer is neither an IPv6 address, as GIDs are written, nor an IPv4 one`,
  )
  return { gid, lid: given.lid ?? 0, qpn: given.qpn, qkey: given.qkey ?? DEFAULT_QKEY, mtuBytes: given.mtuBytes }
}

function makeHandle(
  domain: ProtectionDomain,
  address: DatagramAddress,
  { text }: ResolvedEndpoint,
  fabric: FabricPort,
): AddressHandle {
  try {
    return domain.addressHandle(address)
  } catch (cause) {
    if (!(cause instanceof NativeError)) throw cause
    const from = `${formatGid(sourceGid(fabric, address.gid))} of ${describePort(fabric)}`
    throw new SpeadcastError(
      'ERR_SPEADCAST_UNREACHABLE',
      `${text}: no way from ${from} to GID ${formatGid({ bytes: address.gid })} (${cause.message}); check that its host is up and in the same subnet`,
      { cause },
    )
  }
}

/** The IPv4 address that a GID of RoCE stands for; undefined when it stands for none. */
function ipv4Of(gid: Uint8Array): Uint8Array | undefined {
  return equal(gid, gidOf(gid.subarray(12))) ? gid.slice(12) : undefined
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

/**
 * Keeps up with the port: its interface's link, and how much a datagram may carry. Without a link some devices (rxe) fail every
 * datagram, which is no reason to give up the queue.
 */
export class PortWatch {
  /** Datagrams of full size leave by the port as it is now. */
  passable = true
  /** The errno that refuses every datagram while the interface is down or gone; 0 while it is up. */
  shut = 0
  mtuBytes: number
  readonly #states: States
  readonly #fabric: FabricPort
  readonly #packetSizeBytes: number
  readonly #watch: LinkWatch | undefined
  #suspicion = 0
  /** When the kernel could not be asked: what was known holds, and is doubtful. 0 where it could. */
  #lackedAt = 0

  constructor(fabric: FabricPort, packetSizeBytes: number, states: States) {
    this.#states = states
    this.#fabric = fabric
    this.#packetSizeBytes = packetSizeBytes
    this.mtuBytes = fabric.mtuBytes
    const { ifindex } = fabric.gid
    this.#watch = ifindex > 0 ? new LinkWatch([ifindex]) : undefined
    states.add(() => ({ mtuBytes: this.mtuBytes }))
    this.look()
  }

  /** For poll(2): readable when the kernel has told of something; undefined where it tells nothing of the port. */
  get fd(): number | undefined {
    return this.#watch?.fd
  }

  look(): void {
    const { context, port, gid } = this.#fabric
    this.#lackedAt = 0
    try {
      const { up, carrier } = gid.ifindex > 0 ? link(gid.ifindex) : { up: true, carrier: true }
      this.shut = up && carrier ? 0 : ERRNO.ENETDOWN
      const mtuBytes = activeMtuBytes(context.port(port))
      if (mtuBytes !== this.mtuBytes) this.#states.change()
      this.mtuBytes = mtuBytes
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      if (lackOf(error)) this.#lackedAt = performance.now()
      else this.shut = ERRNO.ENODEV
    }
    this.passable = this.shut === 0 && this.#packetSizeBytes <= this.mtuBytes
  }

  suspicion(): number {
    const changed = this.#watch?.drain(this.#fabric.gid.ifindex)
    const again = this.#lackedAt > 0 && performance.now() - this.#lackedAt > LACK_RETRY_MS
    if (again || (changed && changed.changes > 0)) this.look()
    if (changed?.carrierLost || this.#lackedAt > 0) this.#suspicion++
    return this.#suspicion
  }

  close(): void {
    this.#watch?.close()
  }
}
