/**
 * The cold half of the ibverbs backend: finds and opens the RDMA device behind the interface, and keeps each substream's frame
 * header (source and next hop MACs, addresses, ports, VLAN).
 *
 * This file does what the kernel does for a socket: the route and the next hop's MAC come from rtnetlink, the MTU is checked here,
 * and a bound UDP socket keeps the source port from others. The kernel does not see our packets, so they never confirm a neighbour,
 * and its entry ages. Once a second we look at the entry, and make the kernel ask the neighbour by an empty datagram when the entry
 * is stale.
 */

import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import { LinkWatch } from '../../../ffi/netlink/link-watch.js'
import { link } from '../../../ffi/netlink/route.js'
import { UdpSocket } from '../../../ffi/socket/udp-socket.js'
import { type DeviceFacts, VerbsContext } from '../../../ffi/verbs/context.js'
import { IBV_PORT_ACTIVE } from '../../../ffi/verbs/layout.js'
import { SpeadcastError } from '../../errors.js'
import { needsScope, parseAddress } from '../../net/address.js'
import { AROUND_FRAME_BYTES, FrameTemplate, multicastMac, type VlanTag } from '../../net/frame.js'
import {
  kickNeighbour,
  largestPacketSizeBytes,
  type NeighbourOutcome,
  neighbourOf,
  type Path,
  pathTo,
  waitForNeighbours,
} from '../../net/route.js'
import { type RdmaPath, rdmaPathOf, sendsBy } from '../../rdma/devices.js'
import { explained, loadLibrary, refused } from '../../rdma/errors.js'
import { Gates } from '../gates.js'
import { ensureFitsMtu, findPath, tooLarge } from '../paths.js'
import { States } from '../states.js'
import {
  causeName,
  ensureLoopback,
  explainCause,
  type LastFailure,
  type OpenDevice,
  oneInterface,
  type QueueOptions,
} from './open.js'

export interface IbverbsOptions extends QueueOptions {
  readonly sourcePort: number
  /** Tag of frames, in place of the innermost of the interface; default that of the interface, if it is a VLAN. */
  readonly vlan?: VlanTag
  /** The rate at which the device paces; undefined when it does not. */
  readonly hardwareRateBytesPerSecond?: number
  /** The rate counts UDP payload, or everything from preamble to gap. */
  readonly hardwareRateBasis?: 'udp' | 'wire'
  /** Bytes that the device may send back to back; at least one frame. */
  readonly hardwareBurstBytes?: number
}

const MAC_LOOK_MS = 1000
const BROADCAST_MAC = new Uint8Array(6).fill(0xff)
const NO_MAC = new Uint8Array(6)

/** The frame headers of a stream's substreams, kept up with neighbours, routes and the link. */
export class FramePaths {
  readonly templates: FrameTemplate[]
  readonly gates: Gates
  /** Rises when the MAC of a next hop changed. */
  macRevision = 0
  readonly vlans: readonly VlanTag[]
  readonly #watch: LinkWatch
  readonly #macs: Uint8Array[]
  #lookedAt = performance.now()
  /** The gates' moves at the last look. */
  #moves = 0
  #suspicion = 0
  /** False: there is no carrier, or the MTU is too small. A device may then drop packets and say that they were sent. */
  passable = true
  /** Why packets would leave by the wrong device; empty as long as they would not. */
  displaced = ''
  #rdma: RdmaPath

  constructor(
    readonly options: IbverbsOptions,
    readonly paths: readonly Path[],
    neighbours: readonly NeighbourOutcome[],
    public mac: Uint8Array,
    readonly source: Uint8Array,
    readonly port: number,
    rdma: RdmaPath,
    states: States,
  ) {
    const { endpoints } = options
    this.#rdma = rdma
    this.vlans = options.vlan ? [...rdma.vlans.slice(0, -1), { ...rdma.vlans.at(-1), ...options.vlan }] : rdma.vlans
    this.gates = new Gates({
      paths,
      timeoutMs: options.neighbourTimeoutMs,
      find: (i) => this.#find(i),
      states,
    })
    this.#macs = endpoints.map((endpoint, i) => {
      const path = paths[i]!
      const mac = multicastMac(endpoint.bytes) ?? neighbourOf(path)?.mac
      if (path.needsNeighbour && (!mac || neighbours[i] === 'failed')) this.gates.shut(i)
      return mac ?? (path.onLinkMulticastOrLoopback ? BROADCAST_MAC : NO_MAC)
    })
    this.templates = endpoints.map((_, i) => this.#template(i))
    this.#watch = new LinkWatch(this.#watched)
    this.passable = this.#looksPassable()
  }

  /** The interface, and where its frames leave by a bond's port, bond and port. */
  get #watched(): number[] {
    const { bond } = this.#rdma
    return bond ? [this.paths[0]!.ifindex, bond.index, bond.port] : [this.paths[0]!.ifindex]
  }

  /** The stream has moved to the device of another port of its bond, which may have changed the interface's MAC. */
  moved(rdma: RdmaPath): void {
    this.#rdma = rdma
    this.displaced = ''
    this.#takeMac()
    this.passable = this.#looksPassable()
  }

  #takeMac(): void {
    const { mac } = link(this.paths[0]!.ifindex)
    if (Buffer.compare(mac, this.mac) === 0) return
    this.mac = mac
    for (let i = 0; i < this.templates.length; i++) this.templates[i] = this.#template(i)
    this.macRevision++
  }

  /** The path of a substream as of now. The queue pair stays at its port, so a route through another interface is no path. */
  #find(i: number): Path {
    const path = pathTo(this.options.endpoints[i]!, this.options.interface)
    const { ifindex, interfaceName } = this.paths[0]!
    if (path.ifindex === ifindex) return path
    throw new NativeError('RTM_GETROUTE', ERRNO.ENETUNREACH, `${path.to} goes by ${path.interfaceName}, not ${interfaceName}`)
  }

  #template(i: number): FrameTemplate {
    const { endpoints, ttl, dscp } = this.options
    const { bytes, port } = endpoints[i]!
    return new FrameTemplate({
      sourceMac: this.mac,
      destinationMac: this.#macs[i]!,
      source: this.source,
      destination: bytes,
      sourcePort: this.port,
      destinationPort: port,
      ...(ttl !== undefined && { ttl }),
      ...(dscp !== undefined && { dscp }),
      vlan: this.vlans,
    })
  }

  /** Called before a post: the event that moved a gate may have brought a MAC. */
  keepUp(): void {
    if (this.#moves !== this.gates.moves) this.look()
  }

  /** Takes over changed MACs, once a second at most unless a gate moved. 20 µs for each next hop. */
  look(): void {
    const now = performance.now()
    if (now - this.#lookedAt < MAC_LOOK_MS && this.#moves === this.gates.moves) return
    this.#lookedAt = now
    this.#moves = this.gates.moves
    const known = new Map<string, Uint8Array | undefined>()
    for (const [i, path] of this.gates.paths.entries()) {
      if (!path.needsNeighbour) continue
      const key = path.nextHop!.text
      if (!known.has(key)) known.set(key, this.#macOf(path))
      const mac = known.get(key)
      if (!mac || Buffer.compare(mac, this.#macs[i]!) === 0) continue
      this.#macs[i] = mac
      this.templates[i] = this.#template(i)
      this.macRevision++
    }
  }

  /**
   * The MAC of a path's next hop. A stale one gets an empty datagram, because the kernel asks a neighbour only when it sends there.
   */
  #macOf(path: Path): Uint8Array | undefined {
    try {
      const { state, mac } = neighbourOf(path) ?? {}
      if (state === 'stale') kickNeighbour(path)
      return mac
    } catch (error) {
      // A firewall forbids the datagram, and the entry ages on; or the interface is gone, and the device will say so.
      if (!(error instanceof NativeError)) throw error
      return undefined
    }
  }

  /** Packets of full size leave by the interface as it is now. */
  #looksPassable(): boolean {
    const { ifindex, family } = this.paths[0]!
    try {
      const { up, carrier, mtu } = link(ifindex)
      const { bond } = this.#rdma
      if (bond && !link(bond.port).carrier) return false
      return up && carrier && this.options.packetSizeBytes <= largestPacketSizeBytes(mtu, family)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      return false // the interface is gone
    }
  }

  suspicion(): number {
    const { ifindex } = this.paths[0]!
    let carrierLost = false
    let neighbourLost = false
    let changes = 0
    for (const index of this.#watched) {
      const seen = this.#watch.drain(index)
      carrierLost ||= seen.carrierLost
      neighbourLost ||= seen.neighbourLost
      changes += seen.changes
    }
    if (changes > 0) {
      const passable = this.#looksPassable()
      if (passable && !this.passable) this.gates.revive()
      this.passable = passable
      this.#lookAtBond()
    }
    if (carrierLost) this.#suspicion++
    if ((carrierLost || neighbourLost) && this.gates.doubt(ifindex)) this.#suspicion++
    this.look()
    return this.#suspicion
  }

  /** Frames that left by a port that the bond does not send by any more may be lost. */
  #lookAtBond(): void {
    const { bond } = this.#rdma
    if (!bond || this.displaced || sendsBy(bond)) return
    this.displaced = 'the bond sends by another port'
    this.#suspicion++
  }

  close(): void {
    this.#watch.close()
  }
}

export interface OpenRawDevice extends OpenDevice {
  readonly frames: FramePaths
  readonly interfaceName: string
  /** Bound, so that nobody else gets the source port. */
  readonly socket: UdpSocket
}

/**
 * @throws ERR_SPEADCAST_BACKEND: no library, no RDMA device at the interface, or it cannot be opened; _UNREACHABLE, _PACKET_SIZE, _INTERFACE
 */
export async function openDevice(options: IbverbsOptions): Promise<OpenRawDevice> {
  const { endpoints } = options
  const paths = endpoints.map((endpoint) => findPath(endpoint, options.interface))
  const { ifindex, interfaceName } = oneInterface(paths)
  ensureFitsMtu(options.packetSizeBytes, paths, false)
  const library = loadLibrary('ibverbs', options.verbsLibrary)
  const source = options.interface?.addressBytes ?? parseAddress(paths[0]!.sourceAddress)
  if (!source)
    throw new SpeadcastError(
      'ERR_SPEADCAST_INTERFACE',
      `interface ${interfaceName} has no address for ${endpoints[0]!.text}; give one`,
    )
  const rdma = explained('ibverbs', () => rdmaPathOf(library, ifindex, source))
  ensureLoopback('ibverbs', endpoints, rdma.interfaces, options.multicastLoop)
  const neighbours = await waitForNeighbours(paths, options.neighbourTimeoutMs)
  const opened: { close(): void }[] = []
  try {
    const socket = new UdpSocket(endpoints[0]!.family)
    opened.push(socket)
    socket.bind({
      family: endpoints[0]!.family,
      bytes: source,
      port: options.sourcePort,
      scopeId: needsScope(source) ? ifindex : 0,
    })
    const context = explained('ibverbs', () => VerbsContext.open(library, rdma.device))
    opened.push(context)
    const facts = explained('ibverbs', () => context.facts())
    const portActive = explained('ibverbs', () => context.port(rdma.port).state === IBV_PORT_ACTIVE)
    const states = new States()
    const frames = new FramePaths(options, paths, neighbours, link(ifindex).mac, source, socket.localPort(), rdma, states)
    opened.push(frames)
    checkPacing(facts, rdma, options, frames.templates[0]!.headerBytes)
    const domain = explained('ibverbs', () => context.allocateDomain())
    return { context, domain, facts, rdma, portActive, states, frames, interfaceName, socket }
  } catch (error) {
    for (const each of opened.reverse()) each.close()
    throw error instanceof NativeError ? refused('ibverbs', error) : error
  }
}

/**
 * Opens the device that frames are to leave by now, and closes the one that they left by. Nothing of that may be in use.
 * @throws SpeadcastError, NativeError; then the device is the one it was
 */
export function moveDevice(options: IbverbsOptions, device: OpenRawDevice): void {
  const { frames, facts } = device
  const { library } = device.context
  const rdma = rdmaPathOf(library, frames.paths[0]!.ifindex, frames.source)
  const context = VerbsContext.open(library, rdma.device)
  try {
    const others = context.facts()
    // Work requests were made for the one device: how many pieces of memory they have, and who fills the checksums.
    if (others.checksumOffload !== facts.checksumOffload || others.maxSges < facts.maxSges)
      throw new NativeError('ibv_query_device', ERRNO.EOPNOTSUPP, `${rdma.device} can do less than ${device.rdma.device}`)
    checkPacing(others, rdma, options, frames.templates[0]!.headerBytes)
    const domain = context.allocateDomain()
    const portActive = context.port(rdma.port).state === IBV_PORT_ACTIVE
    device.domain.release()
    device.context.close()
    Object.assign(device, { context, domain, facts: others, rdma, portActive } satisfies Partial<OpenDevice>)
    frames.moved(rdma)
  } catch (error) {
    context.close()
    throw error
  }
}

/** The stream's rate as the device counts it: kilobits per second of frames, without preamble, checksum and gap. */
export function frameRateKbps(
  { hardwareRateBytesPerSecond = 0, hardwareRateBasis, packetSizeBytes }: IbverbsOptions,
  headerBytes: number,
): number {
  const frameBytes = packetSizeBytes + headerBytes
  const countedBytes = hardwareRateBasis === 'wire' ? frameBytes + AROUND_FRAME_BYTES : packetSizeBytes
  return Math.round((hardwareRateBytesPerSecond * 8 * frameBytes) / countedBytes / 1000)
}

function checkPacing({ pacing }: DeviceFacts, { device }: RdmaPath, options: IbverbsOptions, headerBytes: number): void {
  if (options.hardwareRateBytesPerSecond === undefined) return
  const remedy = "use rateMethod 'sw'"
  if (!pacing)
    throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `rateMethod 'hw': device ${device} has no hardware rate limit; ${remedy}`)
  const kbps = frameRateKbps(options, headerBytes)
  if (kbps < pacing.minKbps || kbps > pacing.maxKbps)
    throw new SpeadcastError(
      'ERR_SPEADCAST_BACKEND',
      `rateMethod 'hw': device ${device} can keep ${pacing.minKbps} to ${pacing.maxKbps} kb/s, and the rate is ${kbps} kb/s of frames; ${remedy}`,
    )
}

/** Says what the failure of a packet means, and the remedy. */
export function explainRaw(cause: number, path: Path, udpBytes: number, last: LastFailure): string {
  const name = causeName(cause)
  switch (name) {
    case 'EHOSTUNREACH':
      return `${path.to}: nobody answers for its address on ${path.interfaceName} (EHOSTUNREACH); check that the host is up and \`ip route get\` is right`
    case 'EMSGSIZE':
      return tooLarge(`a packet of ${udpBytes}`, path, false)
    case 'ENETUNREACH':
    case 'ENETDOWN':
    case 'ENODEV':
    case 'EACCES':
      return `${path.to}: no usable route through ${path.interfaceName} (${name}); see \`ip route get\``
    case 'EINVAL':
      return `${path.to}: the device, or a blackhole route, refuses a packet of ${udpBytes} bytes (EINVAL)`
    default:
      return explainCause(cause, path.to, `the device behind ${path.interfaceName}`, udpBytes, last)
  }
}
