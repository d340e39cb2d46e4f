/**
 * Errors that come back after the kernel took a packet: ICMP answers of routers and hosts, from the sockets' error queues (ip(7),
 * IP_RECVERR). Each entry names the destination of its packet, so each is put down to its substreams:
 *
 * | comes back                              | means                                                                                 |
 * |-----------------------------------------|---------------------------------------------------------------------------------------|
 * | port unreachable, from the destination  | the packet arrived where nobody listens: it was sent; counted                         |
 * | port unreachable, from a router         | its firewall rejects the packet, which is lost (nft's and iptables' plain "reject")   |
 * | port unreachable, from this host itself | a firewall here rejected the packet, and the call that met it says so (EPERM)         |
 * | packet too big                          | it is lost. The kernel learns the path's MTU and refuses others as large (EMSGSIZE)   |
 * | unreachable, prohibited, hops used up   | it is lost, and so would others be: the gate is shut for a time                       |
 * | unreachable, from this host itself      | it is lost, because a next hop did not answer: the kernel is asked about that of now  |
 * | reassembly time exceeded, anything else | it is lost                                                                            |
 * | an error of this host's own (`LOCAL`)   | nothing: the call that met it returned it too                                         |
 */
import { ERRNO, errnoName, NativeError } from '../../../ffi/native-error.js'
import { addresses, type InterfaceAddress } from '../../../ffi/netlink/route.js'
import { ORIGIN_ICMP6, ORIGIN_LOCAL, QueuedError, type UdpSocket } from '../../../ffi/socket/udp-socket.js'
import { formatAddress } from '../../net/address.js'
import type { ResolvedEndpoint } from '../../net/endpoint.js'
import { COUNTER } from '../../stats.js'
import type { Gates, Known } from '../gates.js'
import type { States } from '../states.js'

const { ECONNREFUSED, EMSGSIZE, EHOSTUNREACH } = ERRNO

/** Endpoints that are named; thousands would make the states long. */
const MOST_TOLD = 16
/** The queue is read no further at a time. */
const MOST_ENTRIES = 1000

/** ICMP types (RFC 792; RFC 4443). */
const UNREACHABLE = { 4: 3, 6: 1 } as const
const TIME_EXCEEDED = { 4: 11, 6: 3 } as const
/** Codes of "destination unreachable" by which somebody forbids the packet (RFC 1812, 5.2.7.1; RFC 4443, 3.1). */
const PROHIBITED: Readonly<Record<4 | 6, readonly number[]>> = { 4: [9, 10, 13], 6: [1, 5, 6] }

export class ReturnedErrors {
  /** Rises with every entry that says that a packet is lost. */
  losses = 0
  readonly #sockets: readonly UdpSocket[]
  readonly #gates: Gates
  readonly #counters: Float64Array
  readonly #endpoints: readonly ResolvedEndpoint[]
  readonly #entry = new QueuedError()
  readonly #states: States
  /** By the first substream of an endpoint, how many packets came back from where nobody listens. */
  readonly #refusals = new Map<number, number>()
  /** More came back than the states say. */
  #untold = false
  /** The last error of each substream: who sent it, and what it says. */
  readonly #said: ({ readonly by: string; readonly mtu: number; readonly text: string } | undefined)[] = []
  #substreams: Map<string, number[]> | undefined
  #own: readonly InterfaceAddress[] | undefined
  /** Next hops that the kernel was asked about in this drain. */
  #known: Known = new Map()

  constructor(
    sockets: readonly UdpSocket[],
    endpoints: readonly ResolvedEndpoint[],
    gates: Gates,
    counters: Float64Array,
    states: States,
  ) {
    this.#sockets = sockets
    this.#endpoints = endpoints
    this.#gates = gates
    this.#counters = counters
    this.#states = states
    states.add(() => (this.#refusals.size === 0 ? {} : { portUnreachableAt: this.#refused() }))
  }

  /**
   * Reads the queues to their ends; returns how many entries may have been reported instead of sending a packet. One system call
   * for an empty one.
   */
  drain(): number {
    let foreign = 0
    if (this.#own) this.#known = new Map()
    this.#own = undefined
    for (let i = 0; i < this.#sockets.length; i++) foreign += this.#read(this.#sockets[i]!)
    return foreign
  }

  #read(socket: UdpSocket): number {
    let entries = 0
    let foreign = 0
    while (entries < MOST_ENTRIES && socket.readError(this.#entry)) {
      entries++
      if (this.#entry.origin === ORIGIN_LOCAL) continue
      foreign++
      this.#note(this.#entry)
    }
    if (entries > 0) this.#counters[COUNTER.queuedErrors]! += entries
    return foreign
  }

  /** The MTU that the last "packet too big" for a substream told, and who told it; undefined without one. */
  tooBig(substream: number): { readonly by: string; readonly mtu: number } | undefined {
    const said = this.#said[substream]
    return said && said.mtu > 0 ? said : undefined
  }

  /** The last error is about a path that packets take no more. */
  forget(substream: number): void {
    this.#said[substream] = undefined
  }

  /** The last error that came back for a substream, in words; undefined if none did. */
  explain(substream: number): string | undefined {
    return this.#said[substream]?.text
  }

  #note(entry: QueuedError): void {
    const { errno } = entry
    if (errno === ECONNREFUSED && isFromDestination(entry)) {
      this.#counters[COUNTER.portUnreachable]! += 1
      this.#refuse(this.#substreamsOf(entry)[0])
      return
    }
    this.losses++
    const mtu = errno === EMSGSIZE ? entry.info : 0
    const own = (errno === EHOSTUNREACH || errno === ECONNREFUSED) && this.#isOwn(entry.offender)
    if (own && errno === ECONNREFUSED) return
    for (const substream of this.#substreamsOf(entry)) {
      if (own) this.#gates.lose(substream, this.#known)
      else if (isFinal(entry)) this.#gates.reject(substream, errno)
      if (!own || this.#gates.rejects(substream))
        this.#said[substream] = { by: formatAddress(entry.offender), mtu, text: describe(entry) }
    }
  }

  #refuse(substream: number | undefined): void {
    if (substream === undefined) return
    const before = this.#refusals.get(substream) ?? 0
    this.#refusals.set(substream, before + 1)
    if (before === 0) this.#states.change()
    else this.#untold = true
  }

  /** Lets the states say how many packets came back. Every packet may, so this is for when nothing else is to be done. */
  tell(): void {
    if (!this.#untold) return
    this.#untold = false
    this.#states.change()
  }

  /** Those with the most first. */
  #refused(): string {
    const all = [...this.#refusals].toSorted(([, a], [, b]) => b - a)
    const told = all.slice(0, MOST_TOLD).map(([substream, packets]) => `${this.#endpoints[substream]!.text}: ${packets}`)
    return all.length > MOST_TOLD ? `${told.join(', ')} and ${all.length - MOST_TOLD} more endpoints` : told.join(', ')
  }

  /** Whether an address is one of this host's; asked for once a drain. */
  #isOwn(address: Uint8Array): boolean {
    try {
      this.#own ??= addresses()
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      this.#own = []
    }
    return this.#own.some(({ bytes }) => Buffer.compare(bytes, address) === 0)
  }

  #substreamsOf({ address, port }: QueuedError): readonly number[] {
    if (!this.#substreams) {
      this.#substreams = new Map()
      for (const [i, endpoint] of this.#endpoints.entries()) {
        const key = `${endpoint.port} ${endpoint.bytes.join()}`
        const known = this.#substreams.get(key)
        if (known) known.push(i)
        else this.#substreams.set(key, [i])
      }
    }
    return this.#substreams.get(`${port} ${address.join()}`) ?? []
  }
}

/** Also where the kernel does not tell who sent it. */
const isFromDestination = ({ offender, address }: QueuedError): boolean =>
  offender.length === 0 || Buffer.compare(offender, address) === 0

const familyOf = ({ origin }: QueuedError): 4 | 6 => (origin === ORIGIN_ICMP6 ? 6 : 4)

/** Whether the next packets would meet the same fate. */
function isFinal(entry: QueuedError): boolean {
  // A host that did not get all fragments of one datagram may get those of the next. What is too big, the kernel refuses from then on.
  const reassembly = entry.type === TIME_EXCEEDED[familyOf(entry)] && entry.code === 1
  return !reassembly && entry.errno !== EMSGSIZE
}

function describe(entry: QueuedError): string {
  const { type, code, errno, offender } = entry
  const family = familyOf(entry)
  const by = offender.length > 0 ? formatAddress(offender) : 'a host on the way'
  const icmp = `${family === 6 ? 'ICMPv6' : 'ICMP'} type ${type} code ${code}, ${errnoName(errno)}`
  if (type === UNREACHABLE[family] && PROHIBITED[family].includes(code))
    return `${by} answers that packets to it are administratively prohibited (${icmp}); look at the firewall there`
  if (errno === ECONNREFUSED)
    return `${by}, which is another host, answers that the port is unreachable (${icmp}): a firewall there rejects packets, or nobody listens where it passes them on; look at its \`nft list ruleset\``
  if (type === TIME_EXCEEDED[family] && code === 0)
    return `packets reach ${by} and no further, because their hops are used up (${icmp}); raise the ttl, or look for a loop with traceroute`
  if (type === UNREACHABLE[family])
    return `${by} answers that it cannot be reached (${icmp}); check that the host is up, and the routes of ${by}`
  return `${by} answers with ${icmp}`
}
