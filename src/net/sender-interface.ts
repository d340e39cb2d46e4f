/**
 * The interface that packets are to leave by, or groups to be joined on, as its user names it, and what is odd about that. Cold.
 */
import { formatAddress, parseAddress } from './address.js'
import type { ResolvedEndpoint } from './endpoint.js'
import { localInterfaces, type ResolvedInterface, settledInterface } from './interface.js'

const isUnspecified = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0)

/** 0.0.0.0 and ::, which a socket that is bound to them takes for any address. */
function namesNone(asked: string): boolean {
  const bytes = parseAddress(asked)
  return bytes !== undefined && isUnspecified(bytes)
}

/** Undefined where the route decides: without one, and with 0.0.0.0 or ::, which name any. @throws (rejects) as settledInterface */
export async function askedInterface(
  asked: string | undefined,
  { family }: ResolvedEndpoint,
): Promise<ResolvedInterface | undefined> {
  return asked === undefined || namesNone(asked) ? undefined : await settledInterface(asked, family)
}

/** Why packets will probably not arrive, though every call of the system would take them; undefined if nothing is odd. */
export function oddInterface(
  asked: string | undefined,
  iface: ResolvedInterface | undefined,
  endpoints: readonly ResolvedEndpoint[],
): string | undefined {
  const anyAddress = endpoints.find(({ bytes }) => isUnspecified(bytes))
  if (anyAddress)
    return `${anyAddress.text} is this host: packets to ${anyAddress.address} go no further; give the receiver's address, or 127.0.0.1 or [::1] for this host`
  const none = asked !== undefined && namesNone(asked)
  if (!none && !iface?.loopback) return undefined
  const own = new Set(localInterfaces().flatMap(({ addresses }) => addresses.map(({ bytes }) => formatAddress(bytes))))
  const here = ({ family, bytes, address }: ResolvedEndpoint) => (family === 4 && bytes[0] === 127) || own.has(address)
  const remote = endpoints.find((endpoint) => !here(endpoint) && (none || !endpoint.multicast))
  if (!remote) return undefined
  return none
    ? `interface ${asked} names none, so the route decides how packets to ${remote.text} leave; name an interface, or leave it out`
    : `interface ${asked} is the loopback interface ${iface!.name}, from which packets to ${remote.text} do not leave this host; name the interface that leads there`
}
