/**
 * The cold half of the UDP backend: opens and configures the socket, knows each substream's path (interface, MTU, next hop), keeps
 * unresolved neighbours from swallowing packets, watches for what makes "accepted" doubtful, and explains errors to a person.
 */

import { performance } from 'node:perf_hooks'
import { OPT } from '../../../ffi/layout.js'
import { errnoName, NativeError } from '../../../ffi/native-error.js'
import { LinkLosses } from '../../../ffi/netlink/link-losses.js'
import { LinkWatch } from '../../../ffi/netlink/link-watch.js'
import { encodeSocketAddress, probeMaxSegments, type QueuedError, UdpSocket } from '../../../ffi/socket/udp-socket.js'
import { SpeadcastError } from '../../errors.js'
import { needsScope } from '../../net/address.js'
import type { ResolvedEndpoint } from '../../net/endpoint.js'
import { wireOverheadBytes } from '../../net/frame.js'
import type { ResolvedInterface } from '../../net/interface.js'
import { type Path, pathTo, waitForNeighbours } from '../../net/route.js'
import { Gates } from '../gates.js'
import { checkPacketSize, findPath, tooLarge } from '../paths.js'
import { findFairQueue, KernelPace, type PaceOptions } from './pace.js'

export interface UdpOptions {
  /** One per substream, all of one family. */
  readonly endpoints: readonly ResolvedEndpoint[]
  readonly interface?: ResolvedInterface
  readonly sourcePort: number
  /** TTL or hop limit of unicast and multicast packets; undefined = the kernel's (64 and 1). */
  readonly ttl?: number
  readonly multicastLoop: boolean
  /** Differentiated services code point, 0–63 (RFC 2474). */
  readonly dscp?: number
  /** 0 leaves the kernel's default. */
  readonly sendBufferBytes: number
  readonly packetSizeBytes: number
  readonly allowFragmentation: boolean
  readonly segmentation: 'auto' | 'off'
  readonly udpPath: 'auto' | 'io_uring' | 'sendmmsg'
  /** How long opening waits for unicast neighbours to answer. */
  readonly neighbourTimeoutMs: number
  /** A rate that the kernel keeps, if it can. */
  readonly pace?: PaceOptions
  /** What the rate of `pace` counts: 'wire' adds what stands around each packet there. */
  readonly rateBasis?: 'udp' | 'wire'
}

export interface UdpPath {
  readonly options: UdpOptions
  readonly socket: UdpSocket
  readonly family: 4 | 6
  readonly substreams: number
  /** As of opening, of the substream that takes the most. */
  readonly wireOverheadBytes: number
  /** sockaddr per substream; empty when the socket is connected. */
  readonly names: readonly Uint8Array[]
  readonly maxSegments: number
  readonly segmentationReason: string
  readonly gates: Gates
  /** The kernel keeps the rate; what it cannot keep is held back by this. */
  readonly pace: KernelPace | undefined
  /** All it has open. */
  readonly descriptors: readonly number[]
  states(): Record<string, string | number | boolean>
  /** Rises when `states()` would answer differently. */
  readonly revision: number
  /** See Backend.suspicion. */
  suspicion(thorough: boolean): number
  noteError(error: QueuedError): void
  /** A message was refused with ENOBUFS: whoever counts drops below the socket has counted it. */
  noteRefused(): void
  /** A post failed because of the route or the link. */
  noteUnreachable(): void
  explain(errno: number, substream: number, udpBytes: number): string
  close(): void
}

/** Whether the kernel has told something costs a microsecond to ask. */
const DRAIN_MS = 0.2
/**
 * Asking it for drops costs 10 µs an interface, 100 until V8 has compiled that: how often in a busy stream, and when nothing is left to send.
 * What is lost after the last look shows at the next one, when it is too late to call the last batch suspect.
 */
const LOOK_MS = 20
const THOROUGH_LOOK_MS = 0.1

/**
 * @throws ERR_SPEADCAST_UNREACHABLE without a route to any endpoint, ERR_SPEADCAST_PACKET_SIZE beyond an interface's MTU,
 * ERR_SPEADCAST_BACKEND when the socket cannot be made as asked, or the kernel has to keep the rate and cannot
 */
export async function openUdpPath(given: UdpOptions): Promise<UdpPath> {
  const endpoints = given.endpoints.map((endpoint) => scoped(endpoint, given.interface))
  const family = endpoints[0]!.family
  const paths = endpoints.map((endpoint) => findPath(endpoint, given.interface))
  const countedHeaderBytes = given.rateBasis === 'wire' ? overheadOf(family, paths) : 0
  const options = { ...given, endpoints, ...(given.pace && { pace: { ...given.pace, countedHeaderBytes } }) }
  if (!options.allowFragmentation) checkPacketSize(options.packetSizeBytes, paths, true)
  const find = (i: number) => pathTo(endpoints[i]!, options.interface)
  const queueBehind = (paths: readonly Path[]) =>
    findFairQueue({ paths, packetSizeBytes: options.packetSizeBytes, bound: options.interface !== undefined }, options.pace!)
  const queue = options.pace && queueBehind(paths)
  if (typeof queue === 'string' && options.pace!.required)
    throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `rateMethod 'kernel': ${queue}; or use rateMethod 'sw'`)
  const gates = new Gates({ paths, timeoutMs: options.neighbourTimeoutMs, find })
  const resolved = await waitForNeighbours(paths, options.neighbourTimeoutMs)
  for (const [i, state] of resolved.entries()) if (state === 'failed') gates.shut(i)

  let socket: UdpSocket | undefined
  try {
    socket = new UdpSocket(family)
    configure(socket, options)
    // Connected, one destination costs no route lookup per message. A gate may open later, so a dead endpoint is no reason not to.
    const connected = endpoints.length === 1
    const paced = typeof queue === 'object'
    if (connected || paced) socket.connect(endpoints[0]!)
    const pace = paced ? new KernelPace(socket, options.pace!, queue, () => queueBehind(gates.paths)) : queue
    return new LinuxUdpPath(socket, options, gates, connected, pace)
  } catch (cause) {
    socket?.close()
    if (!(cause instanceof NativeError)) throw cause
    // connect(2): an address that is broadcast, which the kernel sends to only if asked for.
    const broadcast = cause.call === 'connect' && cause.errnoName === 'EACCES'
    const why = broadcast ? `it is a broadcast address; send to a multicast group instead (${cause.message})` : cause.message
    throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `cannot open a UDP socket to ${endpoints[0]!.text}: ${why}`, { cause })
  }
}

const overheadOf = (family: 4 | 6, paths: readonly Path[]): number =>
  wireOverheadBytes(family, Math.max(...paths.map(({ vlanTags }) => vlanTags)))

/** A link-local destination needs its interface in the socket address too: IPV6_UNICAST_IF does not stand in for it. */
function scoped(endpoint: ResolvedEndpoint, iface: ResolvedInterface | undefined): ResolvedEndpoint {
  return iface && endpoint.scopeId === 0 && needsScope(endpoint.bytes) ? { ...endpoint, scopeId: iface.index } : endpoint
}

function configure(socket: UdpSocket, options: UdpOptions): void {
  const v6 = options.endpoints[0]!.family === 6
  socket.reportErrors(options.allowFragmentation)
  if (options.interface) {
    const index = new Uint8Array(4)
    new DataView(index.buffer).setUint32(0, options.interface.index)
    socket.setOption(v6 ? OPT.IPV6_UNICAST_IF : OPT.IP_UNICAST_IF, index)
    if (v6) socket.setOption(OPT.IPV6_MULTICAST_IF, options.interface.index)
    else socket.setOption(OPT.IP_MULTICAST_IF, ipMreqn(options.interface.index))
  }
  if (options.ttl !== undefined) {
    // 0 is for multicast alone (ip(7)).
    if (options.ttl > 0) socket.setOption(v6 ? OPT.IPV6_UNICAST_HOPS : OPT.IP_TTL, options.ttl)
    socket.setOption(v6 ? OPT.IPV6_MULTICAST_HOPS : OPT.IP_MULTICAST_TTL, options.ttl)
  }
  socket.setOption(v6 ? OPT.IPV6_MULTICAST_LOOP : OPT.IP_MULTICAST_LOOP, options.multicastLoop ? 1 : 0)
  if (options.dscp !== undefined) socket.setOption(v6 ? OPT.IPV6_TCLASS : OPT.IP_TOS, options.dscp << 2)
  if (options.sendBufferBytes > 0 && socket.tryOption(OPT.SO_SNDBUFFORCE, options.sendBufferBytes) !== 0)
    socket.setOption(OPT.SO_SNDBUF, options.sendBufferBytes)
  const source = options.interface?.addressBytes ?? new Uint8Array(v6 ? 16 : 4)
  const linkLocal = v6 && source[0] === 0xfe && (source[1]! & 0xc0) === 0x80
  socket.bind({ family: v6 ? 6 : 4, bytes: source, port: options.sourcePort, scopeId: linkLocal ? options.interface!.index : 0 })
}

/** struct ip_mreqn { multiaddr, address, ifindex }, of which only the index counts here (ip(7), IP_MULTICAST_IF). */
function ipMreqn(ifindex: number): Uint8Array {
  const bytes = new Uint8Array(12)
  new DataView(bytes.buffer).setInt32(8, ifindex, true)
  return bytes
}

const interfacesOf = (gates: Gates): number[] => [...new Set(gates.paths.map((path) => path.ifindex))]

class LinuxUdpPath implements UdpPath {
  readonly pace: KernelPace | undefined
  readonly family: 4 | 6
  readonly substreams: number
  readonly wireOverheadBytes: number
  readonly names: readonly Uint8Array[]
  readonly maxSegments: number
  readonly segmentationReason: string
  readonly #watch: LinkWatch
  readonly #losses: LinkLosses
  readonly #sendBufferBytes: number
  readonly #unpaced: Record<string, string>
  #interfaces: readonly number[]
  #gatesRevision = 0
  #revision = 0
  #suspicion = 0
  #drops = 0
  #dropsSeen = 0
  #carrierLosses = 0
  #queueing = 0
  /** Drops that the kernel told us of by ENOBUFS, since the last look. */
  #refused = 0
  #carrier = true
  #drainedAt = 0
  #lookedAt = 0

  constructor(
    readonly socket: UdpSocket,
    readonly options: UdpOptions,
    readonly gates: Gates,
    connected: boolean,
    /** Or why the kernel does not keep the rate, if it was asked to. */
    pace: KernelPace | string | undefined,
  ) {
    this.pace = typeof pace === 'object' ? pace : undefined
    this.#unpaced = typeof pace === 'string' ? { rateMethod: 'sw', rateMethodReason: pace } : {}
    this.family = options.endpoints[0]!.family
    this.substreams = options.endpoints.length
    this.wireOverheadBytes = overheadOf(this.family, gates.paths)
    this.names = connected ? [] : options.endpoints.map(encodeSocketAddress)
    this.#sendBufferBytes = socket.getOption(OPT.SO_SNDBUF)
    const probed = options.segmentation === 'off' ? 1 : probeMaxSegments()
    this.maxSegments = Math.max(1, probed)
    this.segmentationReason =
      options.segmentation === 'off'
        ? 'switched off'
        : probed === 0
          ? 'this kernel has no UDP_SEGMENT (Linux 4.18)'
          : `up to ${probed} segments a message`
    this.#interfaces = interfacesOf(gates)
    this.#losses = new LinkLosses()
    try {
      this.#watch = new LinkWatch(this.#interfaces)
    } catch (error) {
      this.#losses.close()
      throw error
    }
    this.#look(performance.now())
    this.#suspicion = 0
    this.#dropsSeen = 0
  }

  get revision(): number {
    return this.#revision + this.gates.revision + (this.pace?.revision ?? 0)
  }

  states(): Record<string, string | number | boolean> {
    const { options } = this
    // The kernel reports twice what was asked for (socket(7), SO_SNDBUF).
    const granted = this.#sendBufferBytes / 2
    return {
      interface: [...new Set(this.gates.paths.map((path) => path.interfaceName))].join(','),
      sourcePort: this.socket.localPort(),
      sendBufferBytes: granted,
      ...(this.pace?.states() ?? this.#unpaced),
      ...(granted < options.sendBufferBytes &&
        !this.pace && {
          sendBufferClipped: `asked for ${options.sendBufferBytes}; raise it with sysctl net.core.wmem_max=${options.sendBufferBytes}`,
        }),
      substreamsWithoutNeighbour: this.gates.closedCount,
      carrier: this.#carrier,
      dropsBelowSocket: this.#dropsSeen,
    }
  }

  suspicion(thorough: boolean): number {
    const now = performance.now()
    const lost = (thorough || now - this.#drainedAt >= DRAIN_MS) && this.#drain(now)
    if (lost || now - this.#lookedAt > (thorough ? THOROUGH_LOOK_MS : LOOK_MS)) this.#look(now)
    // Without a carrier the kernel takes packets and drops them, or keeps some for a neighbour it cannot ask for.
    if (lost || !this.#carrier) this.#suspicion++
    return this.#suspicion
  }

  /** Whether the kernel told of a carrier lost since the last time, or of a neighbour that packets go to. */
  #drain(now: number): boolean {
    this.#drainedAt = now
    let lost = false
    for (let i = 0; i < this.#interfaces.length; i++) {
      const ifindex = this.#interfaces[i]!
      const { carrierLost, neighbourLost } = this.#changes(ifindex)
      if (carrierLost) lost = true
      if ((carrierLost || neighbourLost) && this.gates.doubt(ifindex)) lost = true
    }
    return lost
  }

  #changes(ifindex: number): { readonly carrierLost: boolean; readonly neighbourLost: boolean } {
    try {
      return this.#watch.drain(ifindex)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      return { carrierLost: true, neighbourLost: true } // it went away before it was watched
    }
  }

  get descriptors(): readonly number[] {
    return [this.socket.fd, this.#watch.fd, this.#losses.fd]
  }

  /** Compares the kernel's counters with those of the last look. LinkWatch alone may be a second late. */
  #look(now: number): void {
    this.#lookedAt = now
    if (this.#gatesRevision !== this.gates.revision) {
      this.#gatesRevision = this.gates.revision
      this.#interfaces = interfacesOf(this.gates)
      this.pace?.judge()
    }
    let drops = 0
    let queueing = 0
    let carrierLosses = 0
    let carrier = true
    try {
      for (const ifindex of this.#interfaces) {
        const losses = this.#losses
        losses.read(ifindex)
        drops += losses.txDropped + losses.queueDrops
        carrierLosses += losses.carrierDownCount
        carrier &&= losses.running
        queueing = (Math.imul(queueing, 31) + losses.queueing) | 0
      }
      if (this.pace && !this.#interfaces.includes(this.pace.ifindex)) {
        this.#losses.read(this.pace.ifindex)
        queueing = (Math.imul(queueing, 31) + this.#losses.queueing) | 0
      }
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      carrier = false // an interface went away
    }
    const unexplained = Math.max(0, drops - this.#drops - this.#refused)
    if (unexplained > 0) this.#suspicion++
    if (queueing !== this.#queueing) {
      // What waited in a queue that was replaced is lost, and nobody counts it.
      this.#suspicion++
      this.#queueing = queueing
      this.pace?.judge()
    }
    if (carrierLosses !== this.#carrierLosses) {
      this.#suspicion++
      this.gates.doubt()
    }
    if (carrier && !this.#carrier) this.gates.revive()
    if (unexplained > 0 || carrier !== this.#carrier) this.#revision++
    this.#dropsSeen += unexplained
    this.#drops = drops
    this.#refused = 0
    this.#carrierLosses = carrierLosses
    this.#carrier = carrier
  }

  noteRefused(): void {
    this.#refused++
  }

  noteUnreachable(): void {
    this.gates.doubt()
  }

  /**
   * ECONNREFUSED says that the packet arrived where nobody listens: it was sent. Anything else says that earlier packets did not get
   * there; EHOSTUNREACH, that the neighbour stopped answering and what was accepted for it meanwhile is lost.
   */
  noteError(error: QueuedError): void {
    const name = errnoName(error.errno)
    if (name !== 'ECONNREFUSED') this.#suspicion++
    if (name !== 'EHOSTUNREACH') return
    for (const [i, endpoint] of this.options.endpoints.entries())
      if (endpoint.port === error.port && !endpoint.multicast && Buffer.compare(endpoint.bytes, error.address) === 0)
        this.gates.shut(i)
  }

  explain(errno: number, substream: number, udpBytes: number): string {
    const endpoint = this.options.endpoints[substream]!
    const known = this.gates.paths[substream]!
    const name = errnoName(errno)
    switch (name) {
      case 'EMSGSIZE': {
        return tooLarge(`a packet of ${udpBytes}`, this.#pathNow(substream) ?? known, true)
      }
      case 'EPERM':
        return `${endpoint.text}: a firewall rule forbids it (EPERM); look at the output chain of \`nft list ruleset\``
      case 'EACCES':
      case 'EINVAL':
        return `${endpoint.text}: the kernel refuses it (${name}), as for a prohibit or blackhole route, or a broadcast address; see \`ip route get ${endpoint.address}\``
      case 'EHOSTUNREACH':
        return `${endpoint.text}: nobody answers for its address on ${known.interfaceName} (EHOSTUNREACH); check that the host is up and \`ip route get ${endpoint.address}\` is right`
      case 'ENOBUFS':
        return `${endpoint.text}: the queue of ${known.interfaceName} lets no packet of ${udpBytes} bytes through (ENOBUFS); see \`tc -s qdisc show dev ${known.interfaceName}\``
      case 'ENETUNREACH':
      case 'ENETDOWN':
        return `${endpoint.text}: no usable route (${name}); ${known.interfaceName} may be down, see \`ip route get ${endpoint.address}\``
      default:
        return `${endpoint.text}: ${name}`
    }
  }

  #pathNow(substream: number): Path | undefined {
    try {
      return pathTo(this.options.endpoints[substream]!, this.options.interface)
    } catch {
      return undefined
    }
  }

  close(): void {
    this.#watch.close()
    this.#losses.close()
    this.socket.close()
  }
}
