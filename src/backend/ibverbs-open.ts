/**
 * The cold half of the ibverbs backend: finds the RDMA device behind the interface, opens it, knows each substream's frame header (source
 * and next hop MACs, addresses, ports, VLAN), and explains errors to a person.
 *
 * What the kernel does for a socket we do ourselves: the route and the next hop's MAC come from rtnetlink, the MTU is checked here, and a
 * bound UDP socket keeps the source port from others. Our packets never confirm a neighbour, so the kernel's entry ages: it is asked about
 * every second and woken by an empty datagram when it is stale.
 */
import { LinkWatch } from '../../ffi/link-watch.js'
import { ERRNO, errnoName, NativeError } from '../../ffi/native-error.js'
import { link } from '../../ffi/netlink.js'
import { SendQueue } from '../../ffi/send-queue.js'
import { UdpSocket } from '../../ffi/udp-socket.js'
import { type DeviceFacts, type ProtectionDomain, VerbsContext } from '../../ffi/verbs.js'
import { EVENT_TYPE, IBV_PORT_ACTIVE, WC_STATUS } from '../../ffi/verbs-layout.js'
import { VerbsLibrary, VerbsUnavailable } from '../../ffi/verbs-library.js'
import { SpeadcastError } from '../errors.js'
import { needsScope, parseAddress } from '../net/address.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'
import { FrameTemplate, multicastMac, type VlanTag } from '../net/frame.js'
import type { ResolvedInterface } from '../net/interface.js'
import { type RdmaPath, rdmaPathOf } from '../net/rdma.js'
import {
  kickNeighbour,
  largestPacketSizeBytes,
  type NeighbourOutcome,
  neighbourOf,
  type Path,
  pathTo,
  waitForNeighbours,
} from '../net/route.js'
import { CAUSE_EVENT, CAUSE_STATUS } from './backend.js'
import { Gates } from './gates.js'
import { checkPacketSize, findPath, tooLarge } from './paths.js'

export interface IbverbsOptions {
  /** One per substream, all of one family, all through one interface. */
  readonly endpoints: readonly ResolvedEndpoint[]
  readonly interface?: ResolvedInterface
  readonly sourcePort: number
  /** Default 1 for multicast, else 64. */
  readonly ttl?: number
  readonly dscp?: number
  /** Tag of frames; default that of the interface, if it is a VLAN. */
  readonly vlan?: VlanTag
  readonly packetSizeBytes: number
  readonly neighbourTimeoutMs: number
  /** Work requests that may be under way; clamped to the device's limit. */
  readonly queueDepth: number
  readonly pollNanoseconds: number
  readonly completionVector: number
  /** Name or path of libibverbs; default by environment and system. */
  readonly verbsLibrary?: string
  /** Hardware pacing, UDP payload bytes per second. */
  readonly hardwareRateBytesPerSecond?: number
  /** Nothing completed for so long, with work requests under way: the queue is reset. */
  readonly completionTimeoutMs: number
}

/** How every refusal to work here begins. */
export const CANNOT = "backend 'ibverbs' cannot work here: "

const MAC_LOOK_MS = 1000
const BROADCAST_MAC = new Uint8Array(6).fill(0xff)
const NO_MAC = new Uint8Array(6)

/** The frame headers of a stream's substreams, and what may change them. */
export class FramePaths {
  readonly templates: FrameTemplate[]
  readonly gates: Gates
  /** Rises when a next hop's MAC changed. */
  macRevision = 0
  readonly #watch: LinkWatch
  readonly #macs: Uint8Array[]
  #lookedAt = performance.now()
  #gatesRevision = 0
  #suspicion = 0
  /** False: without a carrier, or by an MTU too small, a device may drop packets and say that they were sent. */
  passable = true

  constructor(
    readonly options: IbverbsOptions,
    readonly paths: readonly Path[],
    neighbours: readonly NeighbourOutcome[],
    readonly mac: Uint8Array,
    readonly source: Uint8Array,
    readonly port: number,
    readonly vlan: VlanTag | undefined,
  ) {
    const { endpoints } = options
    this.gates = new Gates({
      paths,
      timeoutMs: options.neighbourTimeoutMs,
      find: (i) => this.#find(i),
    })
    this.#macs = endpoints.map((endpoint, i) => {
      const path = paths[i]!
      const mac = multicastMac(endpoint.bytes) ?? neighbourOf(path)?.mac
      if (path.needsNeighbour && (!mac || neighbours[i] === 'failed')) this.gates.shut(i)
      return mac ?? (path.onLinkMulticastOrLoopback ? BROADCAST_MAC : NO_MAC)
    })
    this.templates = endpoints.map((_, i) => this.#template(i))
    this.#watch = new LinkWatch([paths[0]!.ifindex])
    this.passable = this.#looksPassable()
  }

  /** The queue pair stays at its port, wherever routes go meanwhile. */
  #find(i: number): Path {
    const path = pathTo(this.options.endpoints[i]!, this.options.interface)
    const { ifindex, interfaceName } = this.paths[0]!
    if (path.ifindex === ifindex) return path
    throw new NativeError('RTM_GETROUTE', ERRNO.ENETUNREACH!, `${path.to} goes by ${path.interfaceName}, not ${interfaceName}`)
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
      ...(this.vlan && { vlan: this.vlan }),
    })
  }

  /** Before a post: whatever moved a gate may have brought a MAC. */
  keepUp(): void {
    if (this.#gatesRevision !== this.gates.revision) this.look()
  }

  /** What changed at the neighbours, at most once a second unless a gate moved. 20 µs for each next hop. */
  look(): void {
    const now = performance.now()
    if (now - this.#lookedAt < MAC_LOOK_MS && this.#gatesRevision === this.gates.revision) return
    this.#lookedAt = now
    this.#gatesRevision = this.gates.revision
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

  /** The kernel asks a stale neighbour only when a datagram of its own goes there. */
  #macOf(path: Path): Uint8Array | undefined {
    try {
      const { state, mac } = neighbourOf(path) ?? {}
      if (state === 'stale') kickNeighbour(path)
      return mac
    } catch (error) {
      // A firewall forbids it, and the entry ages on; or the interface is gone, of which the device will tell.
      if (!(error instanceof NativeError)) throw error
      return undefined
    }
  }

  /** Packets of full size leave by the interface as it is now. */
  #looksPassable(): boolean {
    const { ifindex, family } = this.paths[0]!
    try {
      const { up, carrier, mtu } = link(ifindex)
      return up && carrier && this.options.packetSizeBytes <= largestPacketSizeBytes(mtu, family)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      return false // the interface is gone
    }
  }

  suspicion(): number {
    const { ifindex } = this.paths[0]!
    const { carrierLost, neighbourLost, changes } = this.#watch.drain(ifindex)
    if (changes > 0) {
      const passable = this.#looksPassable()
      if (passable && !this.passable) this.gates.revive()
      this.passable = passable
    }
    if (carrierLost) this.#suspicion++
    if ((carrierLost || neighbourLost) && this.gates.doubt(ifindex)) this.#suspicion++
    this.look()
    return this.#suspicion
  }

  close(): void {
    this.#watch.close()
  }
}

export interface OpenDevice {
  readonly context: VerbsContext
  readonly domain: ProtectionDomain
  readonly facts: DeviceFacts
  readonly rdma: RdmaPath
  /** When it was opened; events tell of changes. */
  readonly portActive: boolean
  readonly frames: FramePaths
  readonly interfaceName: string
  /** Keeps the source port ours. */
  readonly socket: UdpSocket
}

/**
 * @throws ERR_SPEADCAST_BACKEND: no library, no RDMA device at the interface, or it cannot be opened; _UNREACHABLE, _PACKET_SIZE, _INTERFACE
 */
export async function openDevice(options: IbverbsOptions): Promise<OpenDevice> {
  const { endpoints } = options
  const paths = endpoints.map((endpoint) => findPath(endpoint, options.interface))
  const { ifindex, interfaceName } = oneInterface(paths)
  checkPacketSize(options.packetSizeBytes, paths, false)
  const library = loadLibrary(options.verbsLibrary)
  const source = options.interface?.addressBytes ?? parseAddress(paths[0]!.sourceAddress)
  if (!source)
    throw new SpeadcastError(
      'ERR_SPEADCAST_INTERFACE',
      `interface ${interfaceName} has no address for ${endpoints[0]!.text}; give one`,
    )
  const rdma = explained(() => rdmaPathOf(library, ifindex, source))
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
    const context = explained(() => VerbsContext.open(library, rdma.device))
    opened.push(context)
    const facts = explained(() => context.facts())
    const portActive = explained(() => context.port(rdma.port).state === IBV_PORT_ACTIVE)
    const vlan = options.vlan ?? (rdma.vlanId === undefined ? undefined : { id: rdma.vlanId })
    const frames = new FramePaths(options, paths, neighbours, link(ifindex).mac, source, socket.localPort(), vlan)
    opened.push(frames)
    checkPacing(facts, rdma, options, frames.templates[0]!.headerBytes)
    const domain = explained(() => context.allocateDomain())
    return { context, domain, facts, rdma, portActive, frames, interfaceName, socket }
  } catch (error) {
    for (const each of opened.reverse()) each.close()
    throw error instanceof NativeError ? refused(error) : error
  }
}

/** The device counts frames, and our rate UDP payload. Kilobits per second. */
export function frameRateKbps(bytesPerSecond: number, packetSizeBytes: number, headerBytes: number): number {
  return Math.round((bytesPerSecond * 8 * (packetSizeBytes + headerBytes)) / packetSizeBytes / 1000)
}

function checkPacing({ pacing }: DeviceFacts, { device }: RdmaPath, options: IbverbsOptions, headerBytes: number): void {
  const { hardwareRateBytesPerSecond: rate } = options
  if (rate === undefined) return
  const remedy = "use rateMethod 'sw'"
  if (!pacing)
    throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `rateMethod 'hw': device ${device} has no hardware rate limit; ${remedy}`)
  const kbps = frameRateKbps(rate, options.packetSizeBytes, headerBytes)
  if (kbps < pacing.minKbps || kbps > pacing.maxKbps)
    throw new SpeadcastError(
      'ERR_SPEADCAST_BACKEND',
      `rateMethod 'hw': device ${device} can keep ${pacing.minKbps} to ${pacing.maxKbps} kb/s, and the rate is ${kbps} kb/s of frames; ${remedy}`,
    )
}

export function oneInterface(paths: readonly Path[]): Path {
  const other = paths.find(({ ifindex }) => ifindex !== paths[0]!.ifindex)
  if (other)
    throw new SpeadcastError(
      'ERR_SPEADCAST_BACKEND',
      `a queue pair sends through one port, but ${paths[0]!.to} goes by ${paths[0]!.interfaceName} and ${other.to} by ${other.interfaceName}; give interface, or open a stream for each`,
    )
  return paths[0]!
}

export function loadLibrary(path: string | undefined): VerbsLibrary {
  try {
    return VerbsLibrary.load(path)
  } catch (cause) {
    if (!(cause instanceof VerbsUnavailable)) throw cause
    throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `${CANNOT}${cause.message}`, { cause })
  }
}

export function explained<T>(call: () => T): T {
  try {
    return call()
  } catch (error) {
    throw error instanceof NativeError ? refused(error) : error
  }
}

/** Why this process cannot make raw packet queue pairs on a port; undefined if it can. */
export function rawPacketsRefused(context: VerbsContext, port: number): string | undefined {
  try {
    const domain = context.allocateDomain()
    try {
      new SendQueue(domain, { port, depth: 16, sges: 1, completionVector: 0 }).close()
      return undefined
    } finally {
      domain.release()
    }
  } catch (error) {
    if (!(error instanceof NativeError)) throw error
    return why(error)
  }
}

const CAPABILITIES =
  'give node the capability by `setpriv --ambient-caps +net_raw --inh-caps +net_raw node …`, by AmbientCapabilities=CAP_NET_RAW in a systemd unit, or by --cap-add=NET_RAW of docker (setcap on node itself makes the loader ignore LD_LIBRARY_PATH)'

function refused(cause: NativeError): SpeadcastError {
  return new SpeadcastError('ERR_SPEADCAST_BACKEND', `${CANNOT}${why(cause)}`, { cause })
}

function why(cause: NativeError): string {
  const { call } = cause
  if (call === 'ibv_create_qp' && ['EPERM', 'EINVAL', 'EACCES'].includes(cause.errnoName))
    return `raw packet queue pairs need CAP_NET_RAW: ${cause.message}; ${CAPABILITIES}`
  if (call === 'ibv_create_qp' && cause.errnoName === 'EOPNOTSUPP')
    return `the device has no raw packet queue pairs: ${cause.message}, errno ${cause.errno}; soft-RoCE and InfiniBand links have none, use backend 'udp'`
  if (['ibv_reg_mr', 'ibv_create_cq', 'ibv_create_qp'].includes(call) && cause.errnoName === 'ENOMEM')
    return `the memory cannot be locked: ${cause.message}; raise RLIMIT_MEMLOCK: \`ulimit -l unlimited\`, LimitMEMLOCK=infinity in a systemd unit, or --ulimit memlock=-1 of docker`
  if (call === 'ibv_get_device_list' && cause.errnoName === 'ENOSYS')
    return 'this kernel has no RDMA devices (no ib_uverbs module loaded)'
  if (call === 'ibv_get_device_list' || call === 'ibv_open_device')
    return `${cause.message}; /dev/infiniband must be there and open to you (docker: --device=/dev/infiniband)`
  return cause.message
}

/** Names of causes: errnos, and completion statuses and events beyond them. */
export function causeName(cause: number): string {
  if (cause >= CAUSE_EVENT) return EVENT_TYPE[cause - CAUSE_EVENT] ?? `event ${cause - CAUSE_EVENT}`
  return cause >= CAUSE_STATUS ? (WC_STATUS[cause - CAUSE_STATUS] ?? `status ${cause - CAUSE_STATUS}`) : errnoName(cause)
}

export function explainCause(
  cause: number,
  path: Path,
  udpBytes: number,
  { vendorError, completionTimeoutMs }: { vendorError: number; completionTimeoutMs: number },
): string {
  const name = causeName(cause)
  if (cause >= CAUSE_EVENT)
    return `${path.to}: the device stopped before a packet of ${udpBytes} bytes (${name}); its queue was reset`
  if (cause >= CAUSE_STATUS)
    return `${path.to}: the device could not send a packet of ${udpBytes} bytes (${name}, vendor code 0x${vendorError.toString(16)})`
  switch (name) {
    case 'ETIMEDOUT':
      return `${path.to}: no completion for ${completionTimeoutMs} ms, the device stopped before a packet of ${udpBytes} bytes (ETIMEDOUT); its queue was reset`
    case 'EHOSTUNREACH':
      return `${path.to}: nobody answers for its address on ${path.interfaceName} (EHOSTUNREACH); check that the host is up and \`ip route get\` is right`
    case 'EMSGSIZE':
      return tooLarge(`a packet of ${udpBytes}`, path, false)
    case 'EIO':
      return `${path.to}: the device behind ${path.interfaceName} is gone or broken (EIO); open another stream when it is back`
    case 'ENETUNREACH':
    case 'ENETDOWN':
    case 'ENODEV':
    case 'EACCES':
      return `${path.to}: no usable route through ${path.interfaceName} (${name}); see \`ip route get\``
    case 'EINVAL':
      return `${path.to}: the device, or a blackhole route, refuses a packet of ${udpBytes} bytes (EINVAL)`
    default:
      return `${path.to}: the device refuses a packet of ${udpBytes} bytes (${name})`
  }
}
