/**
 * The paths of a stream's frames. This file does what the kernel does for a socket: the route comes from rtnetlink, and a bound
 * UDP socket keeps the source port from others. When the kernel tells of a change, interface, addresses and routes are found
 * again.
 */
import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import { type LinkChanges, LinkWatch } from '../../../ffi/netlink/link-watch.js'
import { link } from '../../../ffi/netlink/route.js'
import { UdpSocket } from '../../../ffi/socket/udp-socket.js'
import { lackOf, SpeadcastError } from '../../errors.js'
import { formatAddress, needsScope, parseAddress } from '../../net/address.js'
import type { VlanTag } from '../../net/frame.js'
import { type Devices, largestPacketSizeBytes, type NeighbourOutcome, type Path } from '../../net/route.js'
import type { RdmaPath } from '../../rdma/devices.js'
import { Gates, type Known } from '../gates.js'
import { PathNews } from '../path-news.js'
import type { States } from '../states.js'
import { Bearings } from '../udp/bearings.js'
import { equal, FrameHeaders } from './frame-headers.js'
import type { IbverbsOptions } from './raw-options.js'
import { WayOut } from './way-out.js'

/** A device that comes to an interface is told by no event: how often to look while there is none. */
const RETRY_MS = 1000
/** How often to ask again what could not be asked for want of descriptors or memory. */
const LACK_RETRY_MS = 20

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
  /** The device behind an interface, as of now. @throws as FindDevice */
  readonly findDevice: (ifindex: number, address: Uint8Array | undefined) => RdmaPath
  readonly states: States
}

export class FramePaths {
  readonly headers: FrameHeaders
  readonly gates: Gates
  /** False: there is no carrier, or the MTU is too small. A device may then drop packets and say that they were sent. */
  passable = true
  readonly #options: IbverbsOptions
  readonly #bearings: Bearings
  readonly #states: States
  readonly #watch: LinkWatch
  readonly #way: WayOut
  readonly #news: PathNews
  #socket: UdpSocket
  #suspicion = 0
  #followedAt = 0
  /** The kernel could not be asked: what was known before holds, and is doubtful. */
  #lacking = false

  /** Owns the socket if it does not throw. @throws NativeError */
  constructor({ options, paths, neighbours, source, socket, rdma, findDevice, states }: FramePathsParts) {
    this.#options = options
    this.#bearings = new Bearings(options)
    this.#states = states
    this.#way = new WayOut(paths[0]!, rdma, ({ ifindex }) => findDevice(ifindex, this.homeAddress))
    this.#socket = socket
    const { mac } = link(this.home.ifindex)
    this.headers = new FrameHeaders(options, paths, { mac, address: source, port: socket.localPort(), vlans: this.#tags() })
    this.gates = new Gates({
      paths,
      timeoutMs: options.neighbourTimeoutMs,
      find: (i) => this.#find(i),
      states,
    })
    for (const [i, { needsNeighbour }] of paths.entries())
      if (needsNeighbour && (!this.headers.knows(i) || neighbours[i] === 'failed')) this.gates.shut(i)
    this.#news = new PathNews(states)
    const destinations = options.endpoints.map(({ bytes }) => bytes)
    this.#watch = new LinkWatch(this.#watched, destinations)
    this.passable = this.#ask(() => this.#looksPassable()) ?? true
  }

  /** The path of packets that leave by the device, or that should once it has moved. */
  get home(): Path {
    return this.#way.home
  }

  /** Why packets would leave by the wrong device; empty as long as they would not. */
  get displaced(): string {
    return this.#way.state === 'displaced' ? this.#way.reason : ''
  }

  /** For poll(2): readable when the kernel has told of something. */
  get fd(): number {
    return this.#watch.fd
  }

  /** Whether packets are refused by this errno because there is no device for them. */
  refusesBy(errno: number): boolean {
    return this.#way.errno !== 0 && this.#way.errno === errno
  }

  /** Why no packet can leave by the interface at this moment; empty where the interface is not to blame. Cold. */
  get trouble(): string {
    return this.#way.state === 'deviceless' ? this.#way.reason : this.#bearings.troubleNow()
  }

  #tags(): readonly VlanTag[] {
    const { vlans } = this.#way.rdma
    const { vlan } = this.#options
    return vlan ? [...vlans.slice(0, -1), { ...vlans.at(-1), ...vlan }] : vlans
  }

  /** The interface, and where its frames leave by a bond's port, bond and port. */
  get #watched(): number[] {
    const { bond } = this.#way.rdma
    return bond ? [this.home.ifindex, bond.index, bond.port] : [this.home.ifindex]
  }

  /**
   * The path of a substream as of now. The queue pair is at one port, so a route through another interface is no path.
   * @throws NativeError, SpeadcastError
   */
  #find(i: number, devices?: Devices): Path {
    const path = this.#bearings.find(i, devices)
    if (path.ifindex === this.home.ifindex && this.#way.errno === 0) return path
    throw new NativeError(
      'RTM_GETROUTE',
      this.#way.errno || ERRNO.ENETUNREACH,
      `${path.to} goes by ${path.interfaceName}, not ${this.home.interfaceName}`,
    )
  }

  /** Asks the kernel; undefined, and what was known holds, where it cannot be asked. */
  #ask<T>(question: () => T): T | undefined {
    try {
      return question()
    } catch (error) {
      if (!lackOf(error)) throw error
      this.#lacking = true
      return undefined
    }
  }

  /** Packets of full size leave by the interface as it is now. */
  #looksPassable(): boolean {
    const { ifindex, family } = this.home
    try {
      const { up, carrier, mtu } = link(ifindex)
      const { bond } = this.#way.rdma
      if (bond && !link(bond.port).carrier) return false
      return up && carrier && this.#options.packetSizeBytes <= largestPacketSizeBytes(mtu, family)
    } catch (error) {
      if (!(error instanceof NativeError) || lackOf(error)) throw error
      return false // the interface is gone
    }
  }

  suspicion(): number {
    let carrierLost = false
    let neighbourLost = false
    let changes = 0
    for (const index of this.#watched) {
      const seen = this.#changesOf(index)
      carrierLost ||= seen.carrierLost
      neighbourLost ||= seen.neighbourLost
      changes += seen.changes
    }
    const again = this.#retries
    if (this.#watch.pathsDoubtful || again) {
      this.#watch.pathsDoubtful = false
      this.#follow()
    }
    if (changes > 0 || again) {
      const passable = this.#ask(() => this.#looksPassable()) ?? this.passable
      if (passable && !this.passable) this.gates.revive()
      this.passable = passable
      if (this.#ask(() => this.#way.lookAtBond())) this.#leaves()
    }
    if (carrierLost || this.#lacking) this.#suspicion++
    if ((carrierLost || neighbourLost) && this.gates.doubt(this.home.ifindex)) this.#suspicion++
    this.headers.look(this.gates)
    return this.#suspicion
  }

  #changesOf(ifindex: number): Readonly<LinkChanges> {
    try {
      return this.#watch.drain(ifindex)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      // It went away before it was watched, or could not be asked about.
      if (lackOf(error)) this.#lacking = true
      return { carrierLost: true, neighbourLost: true, changes: 1 }
    }
  }

  /** It is time to ask again what no event will tell. */
  get #retries(): boolean {
    if (!this.#lacking && !(this.#way.state === 'deviceless' && this.#way.passing)) return false
    return performance.now() - this.#followedAt > (this.#lacking ? LACK_RETRY_MS : RETRY_MS)
  }

  /** Finds interface, addresses and routes again. Packets that left by other ones a moment ago are doubtful. */
  #follow(): void {
    this.#followedAt = performance.now()
    this.#lacking = false
    if (this.#bearings.take() === undefined) this.#lacking = true
    const devices: Devices = new Map()
    const known: Known = new Map()
    const before = [...this.gates.paths]
    const found = this.#options.endpoints.map((_, i) => this.#ask(() => this.#lookFor(i, devices)) ?? this.gates.cutBy(i))
    const paths = found.flatMap((path, i) => (path === 0 ? before[i]! : typeof path === 'number' ? [] : path))
    const home = paths.length > 0 ? this.#way.choose(paths) : undefined
    if (home && this.#way.turnTo(home)) this.#suspicion++
    const changed = found.flatMap((path, i) => (this.#followPath(i, path || before[i]!, known) ? [i] : []))
    if (home && this.#way.state === 'there' && this.#readdress()) this.#suspicion++
    this.#news.tell(changed, before, this.gates, () => this.trouble)
  }

  /** The path, or the errno that tells why there is none. @throws NativeError where the kernel cannot be asked */
  #lookFor(i: number, devices: Devices): Path | number {
    try {
      return this.#bearings.find(i, devices)
    } catch (error) {
      if (lackOf(error)) throw error
      const cause = error instanceof SpeadcastError ? error.cause : error
      if (cause instanceof NativeError) return cause.errno
      if (error instanceof SpeadcastError) return ERRNO.ENETUNREACH
      throw error
    }
  }

  /** Packets cannot leave by the device where the queue is. */
  #leaves(): void {
    const { errno, reason } = this.#way
    this.#suspicion++
    if (errno !== 0) for (const i of this.gates.paths.keys()) this.#cut(i, errno)
    this.#news.note(reason)
  }

  /** True when packets of the substream take another path, or one again, or none any more. */
  #followPath(i: number, found: Path | number, known: Known): boolean {
    const errno = typeof found === 'number' ? found : found.ifindex === this.home.ifindex ? this.#way.errno : ERRNO.ENETUNREACH
    return errno === 0 ? this.#take(i, found as Path, known) : this.#cut(i, errno)
  }

  #take(i: number, path: Path, known: Known): boolean {
    const before = this.gates.paths[i]!
    const same = before.ifindex === path.ifindex && before.nextHop?.text === path.nextHop?.text
    if (same && this.gates.cutBy(i) === 0) {
      this.gates.paths[i] = path
      return before.sourceAddress !== path.sourceAddress
    }
    if (!same) this.#suspicion++
    this.gates.follow(i, path, known)
    if (!path.needsNeighbour) this.headers.takeNoNeighbour(i)
    return true
  }

  #cut(i: number, errno: number): boolean {
    if (this.gates.cutBy(i) === errno) return false
    this.gates.cut(i, errno)
    this.#suspicion++
    return true
  }

  /**
   * Takes the interface's MAC, its tags and the address that packets are to come from, as they are now. True if they are others.
   * @param moved the headers are those of another interface
   */
  #readdress(moved = false): boolean {
    const before = this.headers.source
    const address = this.homeAddress ?? before.address
    const mac = this.#macOfHome() ?? before.mac
    const sameAddress = equal(address, before.address)
    if (!moved && sameAddress && equal(mac, before.mac)) return false
    if (!sameAddress) this.#reserve(address)
    this.headers.take({ mac, address, port: before.port, vlans: this.#tags() })
    this.#states.change()
    return true
  }

  /** Undefined where it cannot be asked about, or is gone again: the kernel tells of that. */
  #macOfHome(): Uint8Array | undefined {
    try {
      return this.#ask(() => link(this.home.ifindex).mac)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      return undefined
    }
  }

  #reserve(address: Uint8Array): void {
    try {
      const socket = reservePort(address, this.headers.source.port, this.home.ifindex, this.#options.reusePort)
      this.#socket.close()
      this.#socket = socket
    } catch (error) {
      // Somebody else has the port at that address. Packets may carry it all the same, because nobody answers them.
      if (!(error instanceof NativeError)) throw error
    }
  }

  /** The stream has moved to another device: frames have the addresses of its interface. */
  moved(rdma: RdmaPath): void {
    this.#way.moved(rdma)
    this.#readdress(true)
    this.passable = this.#ask(() => this.#looksPassable()) ?? this.passable
  }

  /** The device that packets are to leave by. @throws as FindDevice */
  findDevice(): RdmaPath {
    return this.#way.find(this.home)
  }

  /** There is no device to move to, as the error tells: packets that go by that interface are refused until something changes. */
  stays(error: unknown): void {
    this.#way.stays(error)
    this.#leaves()
  }

  /** The address that packets of the interface are to come from. */
  get homeAddress(): Uint8Array | undefined {
    return this.#bearings.interface?.addressBytes ?? parseAddress(this.home.sourceAddress)
  }

  /** In words. */
  get sourceAddress(): string {
    return formatAddress(this.headers.source.address)
  }

  close(): void {
    this.#watch.close()
    this.#socket.close()
  }
}
