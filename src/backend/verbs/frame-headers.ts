/**
 * The frame headers of a stream's substreams, as they are now: source and next hop MACs, addresses, ports, VLAN tags.
 *
 * The kernel does not see our packets, so they never confirm a neighbour, and its entry ages. Once a second we look at the entry,
 * and make the kernel ask the neighbour by an empty datagram when the entry is stale.
 */
import { NativeError } from '../../../ffi/native-error.js'
import { FrameTemplate, multicastMac, type VlanTag } from '../../net/frame.js'
import { kickNeighbour, neighbourOf, type Path } from '../../net/route.js'
import type { Gates } from '../gates.js'
import type { IbverbsOptions } from './raw-options.js'

const MAC_LOOK_MS = 1000
const BROADCAST_MAC = new Uint8Array(6).fill(0xff)
const NO_MAC = new Uint8Array(6)

export const equal = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0

/** The part of the headers that all frames of the stream have in common. */
export interface FrameSource {
  readonly mac: Uint8Array
  readonly address: Uint8Array
  readonly port: number
  readonly vlans: readonly VlanTag[]
}

export class FrameHeaders {
  readonly templates: FrameTemplate[]
  /** Rises when frame headers changed. */
  revision = 0
  source: FrameSource
  readonly #options: IbverbsOptions
  readonly #macs: Uint8Array[]
  #lookedAt = performance.now()
  /** The gates' moves at the last look. */
  #moves = 0

  /** @throws NativeError */
  constructor(options: IbverbsOptions, paths: readonly Path[], source: FrameSource) {
    this.#options = options
    this.source = source
    this.#macs = paths.map((path, i) => {
      const mac = this.#multicastMac(i) ?? neighbourOf(path)?.mac
      return mac ?? (path.onLinkMulticastOrLoopback ? BROADCAST_MAC : NO_MAC)
    })
    this.templates = paths.map((_, i) => this.#template(i))
  }

  #multicastMac(i: number): Uint8Array | undefined {
    return multicastMac(this.#options.endpoints[i]!.bytes)
  }

  /** Whether the MAC of a substream's next hop has been learnt. */
  knows(i: number): boolean {
    return this.#macs[i] !== NO_MAC
  }

  #template(i: number): FrameTemplate {
    const { endpoints, ttl, dscp } = this.#options
    const { mac, address, port, vlans } = this.source
    return new FrameTemplate({
      sourceMac: mac,
      destinationMac: this.#macs[i]!,
      source: address,
      destination: endpoints[i]!.bytes,
      sourcePort: port,
      destinationPort: endpoints[i]!.port,
      ...(ttl !== undefined && { ttl }),
      ...(dscp !== undefined && { dscp }),
      vlan: vlans,
    })
  }

  /** Frames come from elsewhere from now on. */
  take(source: FrameSource): void {
    this.source = source
    for (let i = 0; i < this.templates.length; i++) this.templates[i] = this.#template(i)
    this.revision++
  }

  /** Frames of a substream go to no neighbour from now on. */
  takeNoNeighbour(i: number): void {
    this.#take(i, this.#multicastMac(i) ?? BROADCAST_MAC)
  }

  #take(i: number, mac: Uint8Array): void {
    if (equal(mac, this.#macs[i]!)) return
    this.#macs[i] = mac
    this.templates[i] = this.#template(i)
    this.revision++
  }

  /** Called before a post: the event that moved a gate may have brought a MAC. */
  keepUp(gates: Gates): void {
    if (this.#moves !== gates.moves) this.look(gates)
  }

  /** Takes over changed MACs, once a second at most unless a gate moved. 20 µs for each next hop. */
  look(gates: Gates): void {
    const now = performance.now()
    if (now - this.#lookedAt < MAC_LOOK_MS && this.#moves === gates.moves) return
    this.#lookedAt = now
    this.#moves = gates.moves
    const known = new Map<string, Uint8Array | undefined>()
    for (const [i, path] of gates.paths.entries()) {
      if (!path.needsNeighbour) continue
      const key = path.nextHop!.text
      if (!known.has(key)) known.set(key, this.#macOf(path))
      const mac = known.get(key)
      if (mac) this.#take(i, mac)
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
      // A firewall forbids the datagram, and the entry ages on; the interface is gone, and the device will say so; or nothing can
      // be asked.
      if (!(error instanceof NativeError)) throw error
      return undefined
    }
  }
}
