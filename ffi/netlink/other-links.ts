/**
 * Tells which changes of interfaces that no packet leaves by may give packets another path. The kernel tells of routes that come
 * and go, but not of those that it keeps and stops or begins to use with the state of an interface: a leg of a multipath route
 * (fib_sync_down_dev and fib_sync_up of net/ipv4/fib_semantics.c), or a route that is ignored without a carrier (sysctl
 * ignore_routes_with_linkdown). So a change of state matters where a route to a destination names the interface, and nothing else
 * does: neither an MTU nor an alias.
 *
 * Containers come and go with their veths, and a stream with thousands of endpoints takes a tenth of a second to look at all its
 * paths.
 */
import { NativeError } from '../native-error.js'
import { overlaps, type Prefix } from './prefix.js'
import { type Family, IFF_LOWER_UP, IFF_RUNNING, IFF_UP, routesBy } from './route.js'

const STATE = IFF_UP | IFF_RUNNING | IFF_LOWER_UP

interface Seen {
  readonly state: number
  /** No route to a destination names it. */
  readonly apart: boolean
}

export class OtherLinks {
  readonly #family: Family
  readonly #destinations: Prefix
  readonly #seen = new Map<number, Seen>()

  constructor(family: Family, destinations: Prefix) {
    this.#family = family
    this.#destinations = destinations
  }

  /** Whether packets may take another path because an interface has these flags now. */
  changed(ifindex: number, flags: number): boolean {
    const state = flags & STATE
    const seen = this.#seen.get(ifindex)
    if (seen?.state === state) return false
    // The last answer holds for one that is removed.
    const apart = this.#isApart(ifindex) ?? seen?.apart ?? false
    this.#seen.set(ifindex, { state, apart })
    return !apart
  }

  /** Whether packets may take another path because an interface is gone, whose routes nobody can ask for any more. */
  removed(ifindex: number): boolean {
    const seen = this.#seen.get(ifindex)
    this.#seen.delete(ifindex)
    return seen === undefined || !(seen.apart || (seen.state & IFF_UP) === 0)
  }

  /** Routes have changed, or messages were lost. */
  forget(): void {
    // Clearing a Map makes it a new table.
    if (this.#seen.size > 0) this.#seen.clear()
  }

  /** Undefined where it is gone, or nobody tells. */
  #isApart(ifindex: number): boolean | undefined {
    try {
      return !routesBy(this.#family, ifindex, (route) => overlaps(route, this.#destinations))
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      return undefined
    }
  }
}
