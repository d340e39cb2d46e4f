/**
 * Joins groups again when their interface was made anew (a driver was reloaded, a VLAN or USB adapter came back): the kernel drops a
 * membership with its interface, and nobody tells the socket. Without a named interface the route of the time decides, so a group follows it.
 */
import { NativeError } from '../../ffi/native-error.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'
import { pathTo } from '../net/route.js'

/** How often it looks, in a timer of the opening thread that keeps nothing alive. */
const LOOK_MS = 250

export interface Membership {
  readonly endpoint: string
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
  return { endpoint: endpoint.text, interfaceName: undefined, rejoin }
}

/**
 * | state of a membership | next                                              |
 * |-----------------------|---------------------------------------------------|
 * | joined                | lost, where it can no longer be joined             |
 * | lost                  | joined; both are told, and the second is counted   |
 */
export class Memberships {
  /** Groups that were joined again, ever. */
  rejoined = 0
  readonly #lost = new Set<Membership>()
  readonly #timer: NodeJS.Timeout | undefined

  /** @param tell is given a line for a person */
  constructor(
    readonly memberships: readonly Membership[],
    readonly tell: (message: string) => void,
  ) {
    if (memberships.length > 0) this.#timer = setInterval(() => this.#look(), LOOK_MS).unref()
  }

  #look(): void {
    for (const membership of this.memberships) {
      const { endpoint, interfaceName } = membership
      const where = interfaceName === undefined ? 'an interface by its route' : interfaceName
      try {
        const joined = membership.rejoin()
        this.#lost.delete(membership)
        if (!joined) continue
        this.rejoined++
        this.tell(`${endpoint}: joined again on ${where}, which was made anew; what was sent meanwhile is lost`)
      } catch (error) {
        if (this.#lost.has(membership)) continue
        this.#lost.add(membership)
        const why = error instanceof NativeError ? error.errnoName : (error as Error).message
        this.tell(`${endpoint}: cannot be received on ${where} (${why}); it is joined again when that is possible`)
      }
    }
  }

  close(): void {
    clearInterval(this.#timer)
  }
}
