/**
 * The frame headers of a stream's substreams: source and next hop MACs, addresses, ports, VLAN tags.
 *
 * This file does what the kernel does for a socket: the route and the next hop's MAC come from rtnetlink, and a bound UDP socket keeps the
 * source port from others. When the kernel tells of a change, interface, addresses and routes are found again. The kernel does not see our
 * packets, so they never confirm a neighbour, and its entry ages. Once a second we look at the entry, and make the kernel ask the
 * neighbour by an empty datagram when the entry is stale.
 */
import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import { LinkWatch } from '../../../ffi/netlink/link-watch.js'
import { link } from '../../../ffi/netlink/route.js'
import { UdpSocket } from '../../../ffi/socket/udp-socket.js'
import { SpeadcastError } from '../../errors.js'
import { formatAddress, needsScope, parseAddress } from '../../net/address.js'
import { FrameTemplate, multicastMac, type VlanTag } from '../../net/frame.js'
import {
  type Devices,
  kickNeighbour,
  largestPacketSizeBytes,
  type NeighbourOutcome,
  neighbourOf,
  type Path,
} from '../../net/route.js'
import { type RdmaPath, sendsBy } from '../../rdma/devices.js'
import { Gates, type Known } from '../gates.js'
import type { States } from '../states.js'
import { Bearings } from '../udp/bearings.js'
import type { IbverbsOptions } from './raw-options.js'

const MAC_LOOK_MS = 1000
const BROADCAST_MAC = new Uint8Array(6).fill(0xff)
const NO_MAC = new Uint8Array(6)

const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

/** A socket bound to an address, so that nobody else gets the port, unless it is shared. @throws NativeError */
export function reservePort(source: Uint8Array, port: number, ifindex: number, shared = false): UdpSocket {
  const family = source.length === 4 ? 4 : 6
  const socket = new UdpSocket(family)
  try {
    if (shared) socket.sharePort()
    socket.bind({ family, bytes: source, port, scopeId: needsScope(source) ? ifindex : 0 })
    return socket
  } catch (error) {
    socket.close()
    throw error
  }
}

export interface FramePathsParts {
  readonly options: IbverbsOptions
  readonly paths: readonly Path[]
  readonly neighbours: readonly NeighbourOutcome[]
  readonly source: Uint8Array
  /** Bound to `source`; closed with the paths. */
  readonly socket: UdpSocket
  readonly rdma: RdmaPath
  readonly states: States
}

export class FramePaths {
  readonly templates: FrameTemplate[]
  readonly gates: Gates
  /** Rises when frame headers changed: a MAC, or the source address. */
  macRevision = 0
  /** False: there is no carrier, or the MTU is too small. A device may then drop packets and say that they were sent. */
  passable = true
  /** Why packets would leave by the wrong device; empty as long as they would not. */
  displaced = ''
  /** The path of packets that leave by the device, or that should once it has moved. */
  home: Path
  source: Uint8Array
  readonly port: number
  vlans: readonly VlanTag[]
  readonly #options: IbverbsOptions
  readonly #bearings: Bearings
  readonly #states: States
  readonly #watch: LinkWatch
  readonly #macs: Uint8Array[]
  #rdma: RdmaPath
  #mac: Uint8Array
  #socket: UdpSocket
  #lookedAt = performance.now()
  /** The gates' moves at the last look. */
  #moves = 0
  #suspicion = 0
  /** Interfaces that have no device to move to: packets that go by them are refused. */
  readonly #deviceless = new Set<number>()

  /** @throws NativeError */
  constructor({ options, paths, neighbours, source, socket, rdma, states }: FramePathsParts) {
    const { endpoints } = options
    this.#options = options
    this.#bearings = new Bearings(options)
    this.#states = states
    this.#rdma = rdma
    this.#socket = socket
    this.home = paths[0]!
    this.source = source
    this.port = socket.localPort()
    this.vlans = this.#tags()
    this.#mac = link(this.home.ifindex).mac
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
    const destinations = endpoints.map(({ bytes }) => bytes)
    this.#watch = new LinkWatch(this.#watched, destinations)
    this.passable = this.#looksPassable()
  }

  /** Why no packet can leave by the interface at this moment; empty where the interface is not to blame. Cold. */
  get trouble(): string {
    const { interfaceName, ifindex } = this.home
    return this.#deviceless.has(ifindex)
      ? `packets go by ${interfaceName} now, behind which there is no RDMA device`
      : this.#bearings.troubleNow()
  }

  #tags(): readonly VlanTag[] {
    const { vlans } = this.#rdma
    const { vlan } = this.#options
    return vlan ? [...vlans.slice(0, -1), { ...vlans.at(-1), ...vlan }] : vlans
  }

  /** The interface, and where its frames leave by a bond's port, bond and port. */
  get #watched(): number[] {
    const { bond } = this.#rdma
    return bond ? [this.home.ifindex, bond.index, bond.port] : [this.home.ifindex]
  }

  /**
   * The path of a substream as of now. The queue pair is at one port, so a route through another interface is no path.
   * @throws NativeError, SpeadcastError
   */
  #find(i: number, devices?: Devices): Path {
    const path = this.#bearings.find(i, devices)
    if (path.ifindex === this.home.ifindex && !this.#deviceless.has(path.ifindex)) return path
    throw new NativeError(
      'RTM_GETROUTE',
      ERRNO.ENETUNREACH,
      `${path.to} goes by ${path.interfaceName}, not ${this.home.interfaceName}`,
    )
  }

  #template(i: number): FrameTemplate {
    const { endpoints, ttl, dscp } = this.#options
    const { bytes, port } = endpoints[i]!
    return new FrameTemplate({
      sourceMac: this.#mac,
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

  #newTemplates(): void {
    for (let i = 0; i < this.templates.length; i++) this.templates[i] = this.#template(i)
    this.macRevision++
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
      if (!mac || equal(mac, this.#macs[i]!)) continue
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
    const { ifindex, family } = this.home
    try {
      const { up, carrier, mtu } = link(ifindex)
      const { bond } = this.#rdma
      if (bond && !link(bond.port).carrier) return false
      return up && carrier && this.#options.packetSizeBytes <= largestPacketSizeBytes(mtu, family)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      return false // the interface is gone
    }
  }

  suspicion(): number {
    let carrierLost = false
    let neighbourLost = false
    let changes = 0
    for (const index of this.#watched) {
      const seen = this.#watch.drain(index)
      carrierLost ||= seen.carrierLost
      neighbourLost ||= seen.neighbourLost
      changes += seen.changes
    }
    if (this.#watch.pathsDoubtful) {
      this.#watch.pathsDoubtful = false
      this.#follow()
    }
    if (changes > 0) {
      const passable = this.#looksPassable()
      if (passable && !this.passable) this.gates.revive()
      this.passable = passable
      this.#lookAtBond()
    }
    if (carrierLost) this.#suspicion++
    if ((carrierLost || neighbourLost) && this.gates.doubt(this.home.ifindex)) this.#suspicion++
    this.look()
    return this.#suspicion
  }

  /** Finds interface, addresses and routes again. Packets that left by other ones a moment ago are doubtful. */
  #follow(): void {
    this.#bearings.take()
    this.#deviceless.clear()
    const devices: Devices = new Map()
    const known: Known = new Map()
    const found = this.#options.endpoints.map((_, i) => this.#lookFor(i, devices))
    const paths = found.filter((path) => typeof path !== 'number')
    const elsewhere = paths[0]
    if (elsewhere && paths.every(({ ifindex }) => ifindex === elsewhere.ifindex)) this.#goTo(elsewhere)
    for (const [i, path] of found.entries()) {
      const errno = typeof path === 'number' ? path : path.ifindex === this.home.ifindex ? 0 : ERRNO.ENETUNREACH
      if (errno === 0) this.#take(i, path as Path, known)
      else this.#cut(i, errno)
    }
    if (elsewhere && !this.displaced && this.#readdress()) this.#suspicion++
  }

  #lookFor(i: number, devices: Devices): Path | number {
    try {
      return this.#bearings.find(i, devices)
    } catch (error) {
      const cause = error instanceof SpeadcastError ? error.cause : error
      if (cause instanceof NativeError) return cause.errno
      if (error instanceof SpeadcastError) return ERRNO.ENETUNREACH
      throw error
    }
  }

  /** Packets go by another interface now, or by one that was made anew. */
  #goTo(path: Path): void {
    const same = path.ifindex === this.home.ifindex
    this.home = path
    if (same) return
    this.displaced = `packets go by ${path.interfaceName} now`
    this.#suspicion++
  }

  #take(i: number, path: Path, known: Known): void {
    const before = this.gates.paths[i]!
    const same = before.ifindex === path.ifindex && before.nextHop?.text === path.nextHop?.text
    if (same && this.gates.cutBy(i) === 0) {
      this.gates.paths[i] = path
      return
    }
    if (!same) this.#suspicion++
    this.gates.follow(i, path, known)
    if (!path.needsNeighbour) this.#macs[i] = multicastMac(this.#options.endpoints[i]!.bytes) ?? BROADCAST_MAC
  }

  #cut(i: number, errno: number): void {
    if (this.gates.cutBy(i) === errno) return
    this.gates.cut(i, errno)
    this.#suspicion++
  }

  /** Takes the interface's MAC, and the address that packets are to come from, as they are now. False if they are the same. */
  #readdress(): boolean {
    const source = this.homeAddress
    const { mac } = link(this.home.ifindex)
    const moved = source !== undefined && !equal(source, this.source)
    if (!moved && equal(mac, this.#mac)) return false
    this.#mac = mac
    if (moved) this.#takeSource(source)
    this.#newTemplates()
    this.#states.change()
    return true
  }

  #takeSource(source: Uint8Array): void {
    this.source = source
    try {
      const socket = reservePort(source, this.port, this.home.ifindex, this.#options.reusePort)
      this.#socket.close()
      this.#socket = socket
    } catch (error) {
      // Somebody else has the port at that address. Packets may carry it all the same, because nobody answers them.
      if (!(error instanceof NativeError)) throw error
    }
  }

  /** Frames that left by a port that the bond does not send by any more may be lost. */
  #lookAtBond(): void {
    const { bond } = this.#rdma
    if (!bond || this.displaced || sendsBy(bond)) return
    this.displaced = 'the bond sends by another port'
    this.#suspicion++
  }

  /** The stream has moved to another device: frames have the addresses of its interface. */
  moved(rdma: RdmaPath): void {
    this.#rdma = rdma
    this.displaced = ''
    this.vlans = this.#tags()
    this.#readdress()
    this.#newTemplates()
    this.passable = this.#looksPassable()
    this.#states.change()
  }

  /** There is no device to move to: packets that go by that interface are refused until something changes. */
  stays(): void {
    this.displaced = ''
    this.#deviceless.add(this.home.ifindex)
    for (const i of this.gates.paths.keys()) this.#cut(i, ERRNO.ENETUNREACH)
  }

  /** The address that packets of the interface are to come from. */
  get homeAddress(): Uint8Array | undefined {
    return this.#bearings.interface?.addressBytes ?? parseAddress(this.home.sourceAddress)
  }

  /** In words. */
  get sourceAddress(): string {
    return formatAddress(this.source)
  }

  close(): void {
    this.#watch.close()
    this.#socket.close()
  }
}
