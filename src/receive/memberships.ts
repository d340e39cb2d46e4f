/**
 * Joins groups again when their interface was made anew (a driver was reloaded, a VLAN or USB adapter came back): the kernel drops a
 * membership with its interface, and nobody tells the socket. Without a named interface the route of the time decides, so a group follows it.
 * The message says which of the two it was.
 */
import { NativeError } from '../../ffi/native-error.js'
import { askInterfaceIndex } from '../../ffi/socket/interfaces.js'
import { printable } from '../errors.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'
import { interfaceName } from '../net/interface.js'
import { pathTo } from '../net/route.js'
import type { ReceiverEventFacts, TellReceiver } from './events.js'

/** How often it looks, in a timer of the opening thread that keeps nothing alive. Each look wakes a CPU that may be asleep. */
const LOOK_MS = 500

export interface Membership {
  readonly endpoint: ResolvedEndpoint
  /** The interface's name, if the caller named one. */
  readonly interfaceName: string | undefined
  /** Joins unless it is joined already; true if it did. @throws where the interface is gone, or has no address yet */
  rejoin(): boolean
}

/**
 * A membership of IPv6 without a named interface, which the kernel takes for joined as long as the socket has one on whatever interface
 * (__ipv6_sock_mc_join of net/ipv6/mcast.c): the route tells where it should be. Where nobody tells routes it stays as it is.
 * @param follow leaves the group and joins it by the route
 */
export function byRoute(endpoint: ResolvedEndpoint, follow: () => void): Membership {
  const indexNow = () => pathTo(endpoint).ifindex
  let joined: number | undefined
  try {
    joined = indexNow()
  } catch {
    // No route any more, or no netlink.
  }
  const rejoin = (): boolean => {
    if (joined === undefined || indexNow() === joined) return false
    const index = indexNow()
    follow()
    joined = index
    return true
  }
  return { endpoint, interfaceName: undefined, rejoin }
}

const BY_ROUTE = 'an interface by its route'

interface Place {
  readonly index: number
  readonly name: string
}

/**
 * Where packets of a group come in now: by the interface that the caller named, else by its route. Undefined where nobody tells.
 */
function placeNow({ endpoint, interfaceName: name }: Membership): Place | undefined {
  try {
    if (name !== undefined) return { index: askInterfaceIndex(name), name }
    const path = pathTo(endpoint)
    return { index: path.ifindex, name: path.interfaceName }
  } catch {
    return undefined // no route, no netlink, not Linux
  }
}

function whereAndWhy(before: Place | undefined, now: Place | undefined): string {
  if (!now) return BY_ROUTE
  if (!before || before.index === now.index) return now.name
  const gone = nameOf(before.index) === undefined
  if (before.name === now.name) return `${now.name}, ${gone ? 'which was made anew' : 'a name that another interface had'}`
  return `${now.name}, where its route leads now instead of ${before.name}${gone ? ', which is gone' : ''}`
}

const at = (place: Place | undefined): ReceiverEventFacts => (place ? { interface: place.name } : {})

function nameOf(index: number): string | undefined {
  try {
    return interfaceName(index)
  } catch {
    return undefined
  }
}

/**
 * | state of a membership | next                                              |
 * |-----------------------|---------------------------------------------------|
 * | joined                | lost, where it can no longer be joined              |
 * | lost                  | joined, again or still; both are told               |
 */
export class Memberships {
  /** Groups that were joined again, ever. */
  rejoined = 0
  readonly #lost = new Set<Membership>()
  /** Where each was joined last, as far as that is known. */
  readonly #places = new Map<Membership, Place | undefined>()
  readonly #timer: NodeJS.Timeout | undefined

  constructor(
    readonly memberships: readonly Membership[],
    readonly tell: TellReceiver,
  ) {
    for (const membership of memberships) this.#places.set(membership, placeNow(membership))
    if (memberships.length > 0) this.#timer = setInterval(() => this.#look(), LOOK_MS).unref()
  }

  #look(): void {
    for (const membership of this.memberships) {
      const { text } = membership.endpoint
      try {
        const joined = membership.rejoin()
        const lost = this.#lost.delete(membership)
        if (!joined && !lost) continue
        const before = this.#places.get(membership)
        const place = placeNow(membership)
        this.#places.set(membership, place)
        const on = whereAndWhy(before, place)
        if (joined) this.rejoined++
        const what = joined
          ? `joined again on ${on}; what was sent meanwhile is lost`
          : `received again on ${on}, where it is still joined`
        this.#say(text, what, { joined: !lost, ...at(before) }, { joined: true, ...at(place) })
      } catch (error) {
        if (this.#lost.has(membership)) continue
        this.#lost.add(membership)
        const why = error instanceof NativeError ? error.errnoName : (error as Error).message
        const where = membership.interfaceName ?? BY_ROUTE
        const place = at(this.#places.get(membership))
        const what = `cannot be received on ${where} (${why}); it is joined again when that is possible`
        this.#say(text, what, { joined: true, ...place }, { joined: false })
      }
    }
  }

  #say(endpoint: string, what: string, before: ReceiverEventFacts, after: ReceiverEventFacts): void {
    this.tell({ kind: 'membership', message: printable(`${endpoint}: ${what}`), endpoint, before, after })
  }

  close(): void {
    clearInterval(this.#timer)
  }
}
