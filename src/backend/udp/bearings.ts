/**
 * Where the packets of a stream are to go, as of now: its interface and its endpoints with their zones. Both are kept as the user means them,
 * by name or by address, because an interface that is deleted and made anew has another index.
 */
import { isDeepStrictEqual } from 'node:util'
import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import { SpeadcastError } from '../../errors.js'
import { needsScope } from '../../net/address.js'
import type { ResolvedEndpoint } from '../../net/endpoint.js'
import {
  findInterfaceAgain,
  interfaceNow,
  type LocalInterface,
  localInterfaces,
  type ResolvedInterface,
} from '../../net/interface.js'
import { type Devices, type Flow, type Path, pathTo } from '../../net/route.js'

/** Paths that an endpoint's packets may take in turn: by one route and another, with an MTU and another. */
const MOST_KNOWN = 4

export interface Destinations {
  readonly endpoints: readonly ResolvedEndpoint[]
  readonly interface?: ResolvedInterface
}

/** A link-local destination needs its interface in the socket address too: IPV6_UNICAST_IF does not stand in for it. */
function scoped(endpoint: ResolvedEndpoint, iface: ResolvedInterface | undefined): ResolvedEndpoint {
  return iface && !endpoint.zone && needsScope(endpoint.bytes) ? { ...endpoint, scopeId: iface.index } : endpoint
}

export class Bearings {
  endpoints: readonly ResolvedEndpoint[]
  interface: ResolvedInterface | undefined
  /** Why no packet can leave, in words, and as an errno; '' and 0 while packets can. */
  trouble = ''
  errno = 0
  /** The kernel looks for the paths of our packets by these too; undefined where it does not. */
  flow: Omit<Flow, 'source'> | undefined
  /** The address that the kernel chose when it connected the socket. */
  pinned: Uint8Array | undefined
  /** The last paths of each endpoint. */
  readonly #found: Path[][] = []
  /** Zones by name, for which there is no interface. */
  readonly #lost = new Set<string>()

  constructor({ endpoints, interface: iface }: Destinations) {
    this.interface = iface
    this.endpoints = endpoints.map((endpoint) => scoped(endpoint, iface))
  }

  /**
   * The path to an endpoint.
   * @param devices links that were asked about a moment ago
   * @throws NativeError, or SpeadcastError ERR_SPEADCAST_UNREACHABLE, where there is none
   */
  find(i: number, devices?: Devices): Path {
    if (this.errno !== 0) throw new NativeError('RTM_GETLINK', this.errno, this.trouble)
    const endpoint = this.endpoints[i]!
    if (endpoint.zone && this.#lost.has(endpoint.zone)) throw new NativeError('RTM_GETLINK', ERRNO.ENODEV, endpoint.zone)
    return this.#known(i, this.#pathTo(endpoint, devices))
  }

  /** A path that was found before is the same object, because those kept for long are freed by major collections only, which stop a thread. */
  #known(i: number, found: Path): Path {
    this.#found[i] ??= []
    const all = this.#found[i]
    const known = all.find((path) => isDeepStrictEqual(path, found))
    if (known) return known
    all.unshift(found)
    all.length = Math.min(all.length, MOST_KNOWN)
    return found
  }

  #pathTo(endpoint: ResolvedEndpoint, devices: Devices | undefined): Path {
    const { interface: iface, flow, pinned } = this
    const from = (source: Uint8Array | undefined) =>
      pathTo(endpoint, iface, devices, flow && { sourcePort: flow.sourcePort, tos: flow.tos, source })
    if (iface || !pinned) return from(iface?.addressBytes)
    // The path is that from the address of the socket; the source, the one that another socket would get.
    const { sourceAddress } = from(undefined)
    return Object.assign({ sourceAddress: '' }, from(pinned), { sourceAddress })
  }

  /** Why no packet can leave at this moment, in words; '' where the interface is not to blame. Cold. */
  troubleNow(): string {
    if (this.trouble || !this.interface) return this.trouble
    const found = interfaceNow(this.interface)
    return found && 'why' in found ? found.why : ''
  }

  /** Finds interface and zones again. True when they are others than before; undefined when the kernel did not answer. */
  take(): boolean | undefined {
    const zoned = this.endpoints.some(({ zone }) => zone)
    if (!this.interface && !zoned) {
      this.#settle()
      return false
    }
    let all: readonly LocalInterface[]
    try {
      all = localInterfaces()
    } catch (error) {
      if (!(error instanceof SpeadcastError)) throw error
      return undefined // no descriptor left to ask with: what is known holds
    }
    this.#settle()
    const before = this.interface
    const found = before && findInterfaceAgain(before, all)
    if (found && 'why' in found) {
      this.trouble = found.why
      this.errno = ERRNO[found.errno]!
      return false
    }
    this.interface = found
    const sameInterface = found?.index === before?.index && found?.address === before?.address
    return this.#takeZones(all) || !sameInterface
  }

  #settle(): void {
    this.trouble = ''
    this.errno = 0
  }

  #takeZones(all: readonly LocalInterface[]): boolean {
    this.#lost.clear()
    const endpoints = this.endpoints.map((endpoint) => {
      if (!endpoint.zone) return scoped(endpoint, this.interface)
      const index = all.find(({ name }) => name === endpoint.zone)?.index
      if (index === undefined) this.#lost.add(endpoint.zone)
      return index === undefined || index === endpoint.scopeId ? endpoint : { ...endpoint, scopeId: index }
    })
    const moved = endpoints.some(({ scopeId }, i) => scopeId !== this.endpoints[i]!.scopeId)
    this.endpoints = endpoints
    return moved
  }
}
