/** The way that packets of the udp backend take: socket, interfaces and next hops, and an explanation of errors for a person. */

import { OPT } from '../../../ffi/layout.js'
import { errnoName } from '../../../ffi/native-error.js'
import { encodeSocketAddress } from '../../../ffi/socket/inet-socket.js'
import { probeMaxSegments, type UdpSocket } from '../../../ffi/socket/udp-socket.js'
import { counted } from '../../errors.js'
import { formatAddress } from '../../net/address.js'
import { wireOverheadBytes } from '../../net/frame.js'
import type { Path } from '../../net/route.js'
import type { Gates } from '../gates.js'
import { tooLarge } from '../paths.js'
import { Recent } from '../recent.js'
import type { States, StateWords } from '../states.js'
import type { Bearings } from './bearings.js'
import { LossWatch } from './loss-watch.js'
import type { UdpOptions } from './options.js'
import type { KernelPace } from './pace.js'
import type { UdpPosting } from './posting.js'
import { Renewal } from './renewal.js'
import { ReturnedErrors } from './returned-errors.js'
import type { UdpSockets } from './sockets.js'

/** How often refused packets make the next hops doubtful. */
const DOUBT_MS = 20
/** The kernel's words for what an interface or an address takes with it. */
const GONE: readonly string[] = ['ENODEV', 'ENXIO', 'EADDRNOTAVAIL', 'ENETUNREACH', 'EINVAL']

/** The bytes around each packet on the wire, of the path that takes the most. */
export const overheadOf = (family: 4 | 6, paths: readonly Path[]): number =>
  wireOverheadBytes(family, Math.max(...paths.map(({ vlanTags }) => vlanTags)))

/** Whom the kernel asks for a MAC: the endpoint, or a router. */
const whoseMac = ({ to, nextHop }: Path): string =>
  nextHop && !to.includes(nextHop.text) ? `${nextHop.text}, the router on its way,` : 'its address'

export interface UdpPathParts {
  readonly sockets: UdpSockets
  readonly options: UdpOptions
  readonly bearings: Bearings
  readonly gates: Gates
  /** Or why the kernel does not keep the rate, if it was asked to. */
  readonly pace: KernelPace | string | undefined
  readonly states: States
  /** The stream's. */
  readonly counters: Float64Array
}

export class UdpPath {
  readonly socket: UdpSocket
  readonly options: UdpOptions
  readonly gates: Gates
  /** The whole backend's, with the path's words among them. */
  readonly states: States
  /** The kernel keeps the rate; this holds back what the kernel cannot keep. */
  readonly pace: KernelPace | undefined
  readonly family: 4 | 6
  readonly substreams: number
  /** As of opening, of the substream that takes the most. */
  readonly wireOverheadBytes: number
  /** sockaddr per substream; empty when the socket is connected to the only one. */
  names: readonly Uint8Array[]
  /** Their messages carry the names. */
  readonly postings = new Set<UdpPosting>()
  readonly maxSegments: number
  readonly segmentationReason: string
  readonly returned: ReturnedErrors
  readonly #sockets: UdpSockets
  readonly #bearings: Bearings
  readonly #losses: LossWatch
  readonly #renewal: Renewal
  #doubtedAt = Number.NEGATIVE_INFINITY
  readonly #troubleNow = new Recent<string>()
  /** By substream. */
  readonly #pathsNow: Recent<Path | undefined>[] = []
  readonly #sendBufferBytes: number
  readonly #unpaced: Record<string, string>

  constructor({ sockets, options, bearings, gates, pace, states, counters }: UdpPathParts) {
    const { connected } = sockets
    this.#sockets = sockets
    this.socket = sockets.main
    this.options = options
    this.gates = gates
    this.states = states
    this.pace = typeof pace === 'object' ? pace : undefined
    this.#unpaced = typeof pace === 'string' ? { rateMethod: 'sw', rateMethodReason: pace } : {}
    this.family = options.endpoints[0]!.family
    this.substreams = options.endpoints.length
    this.wireOverheadBytes = overheadOf(this.family, gates.paths)
    const names = () => (connected === 'alone' ? [] : bearings.endpoints.map(encodeSocketAddress))
    this.names = names()
    this.#bearings = bearings
    this.#sendBufferBytes = this.socket.getOption(OPT.SO_SNDBUF)
    const probed = options.segmentation === 'off' ? 1 : probeMaxSegments()
    this.maxSegments = Math.max(1, probed)
    this.segmentationReason =
      options.segmentation === 'off'
        ? 'switched off'
        : probed === 0
          ? 'this kernel has no UDP_SEGMENT (Linux 4.18)'
          : `up to ${counted(probed, 'segment')} a message`
    states.add(() => this.#words())
    this.returned = new ReturnedErrors(sockets.all, options.endpoints, gates, counters, states)
    const destinations = bearings.endpoints.map(({ bytes }) => bytes)
    this.#losses = new LossWatch(gates, this.pace, this.returned, states, destinations, counters)
    const rename = () => {
      this.names = names()
      for (const posting of this.postings) posting.rename(this.names)
    }
    const remake = () => sockets.remake()
    this.#renewal = new Renewal({ bearings, gates, returned: this.returned, connected: connected !== 'no', remake, rename, states })
  }

  #words(): StateWords {
    const { options } = this
    // The kernel reports twice what was asked for (socket(7), SO_SNDBUF).
    const granted = this.#sendBufferBytes / 2
    return {
      interface: [...new Set(this.gates.paths.map((path) => path.interfaceName))].join(','),
      sourceAddress: this.#sourceAddress(),
      sourcePort: this.socket.localPort(),
      // With a pace that is the pace's to say.
      ...(!this.pace && { sendBufferBytes: granted }),
      ...this.#unpaced,
      ...(granted < options.sendBufferBytes &&
        !this.pace && {
          sendBufferClipped: `asked for ${options.sendBufferBytes}; raise it with sysctl net.core.wmem_max=${options.sendBufferBytes}`,
        }),
      substreamsWithoutNeighbour: this.gates.closedCount,
      substreamsRejected: this.gates.rejectedCount,
    }
  }

  /** As the socket has it, or as the routes have it if it has none. */
  #sourceAddress(): string {
    const own = this.socket.localAddress()
    if (own.some((byte) => byte !== 0)) return formatAddress(own)
    return [...new Set(this.gates.paths.map((path) => path.sourceAddress))].join(',')
  }

  /** For poll(2): readable when the kernel has told of a change. */
  get watchFd(): number {
    return this.#losses.fd
  }

  /** All descriptors that are open. */
  get descriptors(): readonly number[] {
    return [...this.#sockets.all.map(({ fd }) => fd), ...this.#losses.descriptors]
  }

  /** See Backend.suspicion. */
  suspicion(thorough: boolean): number {
    const suspicion = this.#losses.suspicion(thorough)
    return this.#follows() ? this.#losses.suspected : suspicion
  }

  /** Between posts: takes what the kernel has told, and follows it. Cheap, and nothing at all a moment after the last time. */
  glance(): void {
    this.#losses.glance()
    this.#follows()
  }

  /** Follows what has changed below. False if nothing has. */
  #follows(): boolean {
    const renewal = this.#renewal
    if (this.#losses.takeDoubt()) renewal.doubt()
    if (renewal.state === 'current') return false
    if (renewal.look()) this.#losses.rebase()
    else if (renewal.state === 'doubtful') this.#losses.suspect()
    return true
  }

  /** A message was refused with ENOBUFS, and counted as a drop below the socket. */
  noteRefused(): void {
    this.#losses.noteRefused()
  }

  /** A post failed because of the route or the link. True if it may be tried again at once, another way. */
  noteUnreachable(): boolean {
    // Asking for all next hops costs 30 µs each, and refused packets are many.
    const now = performance.now()
    if (now - this.#doubtedAt > DOUBT_MS) {
      this.#doubtedAt = now
      this.gates.doubt()
    }
    if (!this.#renewal.refused()) return false
    this.#losses.rebase()
    return true
  }

  /** Whether the queue that a substream's packets go through holds none: what it refuses is not for want of room. */
  queueIsEmpty(substream: number): boolean {
    return this.#losses.queueIsEmpty(this.gates.paths[substream]!.ifindex)
  }

  explain(errno: number, substream: number, udpBytes: number): string {
    const endpoint = this.options.endpoints[substream]!
    const known = this.gates.paths[substream]!
    const name = errnoName(errno)
    const told = this.gates.rejects(substream) && this.returned.explain(substream)
    if (told) return `${endpoint.text}: ${told}`
    const trouble = GONE.includes(name) && this.#troubleNow.get(() => this.#bearings.troubleNow())
    if (trouble) return `${endpoint.text}: ${trouble} (${name}); the stream goes on when it is back`
    switch (name) {
      case 'ENODEV':
        return `${endpoint.text}: ${endpoint.zone ?? known.interfaceName} is gone (ENODEV); the stream goes on when it is back`
      case 'EADDRNOTAVAIL':
        return `${endpoint.text}: the address that packets come from is gone (EADDRNOTAVAIL); the stream goes on when it is back`
      case 'EMSGSIZE':
        return `${endpoint.text}: ${tooLarge(`a packet of ${udpBytes}`, this.#pathNow(substream) ?? known, true, this.returned.tooBig(substream)?.by)}`
      case 'EPERM':
        return this.#losses.ipsecBlocks()
          ? `${endpoint.text}: an IPsec policy blocks it (EPERM); look at \`ip xfrm policy\``
          : `${endpoint.text}: a firewall rule forbids it (EPERM); look at the output chain of \`nft list ruleset\`, and at \`ip xfrm policy\``
      case 'EACCES':
      case 'EINVAL':
        return `${endpoint.text}: the kernel refuses it (${name}), as for a route or rule of type prohibit or blackhole${endpoint.family === 4 ? ', or a broadcast address without the option broadcast' : ''}; see \`ip route get ${endpoint.address}\` and \`ip${endpoint.family === 6 ? ' -6' : ''} rule\``
      case 'EHOSTUNREACH':
        if (this.gates.cutBy(substream) === errno)
          return `${endpoint.text}: a route of type unreachable leads there (EHOSTUNREACH); see \`ip route get ${endpoint.address}\``
        return `${endpoint.text}: nobody answers for ${whoseMac(known)} on ${known.interfaceName} (EHOSTUNREACH); check that the host is up and \`ip route get ${endpoint.address}\` is right`
      case 'ENOBUFS':
        return this.gates.lacksRoom(substream)
          ? `${endpoint.text}: the kernel's table of neighbours is full (ENOBUFS), so it cannot ask for ${known.nextHop!.text} on ${known.interfaceName}; raise net.${endpoint.family === 6 ? 'ipv6' : 'ipv4'}.neigh.default.gc_thresh3 (and gc_thresh2) above the number of hosts on its links`
          : `${endpoint.text}: ${known.interfaceName} lets no packet of ${udpBytes} bytes through (ENOBUFS), because its queue never has room, or a tc filter or an nft chain of its egress drops them; see \`tc -s qdisc show dev ${known.interfaceName}\`, \`tc -s filter show dev ${known.interfaceName} egress\` and \`nft list ruleset netdev\`${endpoint.multicast ? `; or the kernel's table of neighbours is full, in which a group has an entry too: see net.${endpoint.family === 6 ? 'ipv6' : 'ipv4'}.neigh.default.gc_thresh3` : ''}`
      case 'EAGAIN':
        return `${endpoint.text}: the socket has had no room (EAGAIN) for as long as onError.forSeconds allows; look whether packets leave ${known.interfaceName ?? 'the interface'} with \`tc -s qdisc\``
      case 'EFAULT':
        return `${endpoint.text}: memory of the batch is not there (EFAULT); was the file behind Region.fromFd made shorter, or memory unmapped? Packets whose memory is there go on`
      case 'ENETUNREACH':
      case 'ENETDOWN':
        return `${endpoint.text}: no usable route (${name}); ${known.interfaceName} may be down, see \`ip route get ${endpoint.address}\``
      default:
        return `${endpoint.text}: ${name}`
    }
  }

  #pathNow(substream: number): Path | undefined {
    this.#pathsNow[substream] ??= new Recent()
    return this.#pathsNow[substream].get(() => {
      try {
        return this.#bearings.find(substream)
      } catch {
        return undefined
      }
    })
  }

  close(): void {
    this.#losses.close()
    this.#sockets.close()
  }
}
