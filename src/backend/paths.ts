/** The paths of packets, for the backends that send on a network: found and checked when a stream opens. */
import { NativeError } from '../../ffi/native-error.js'
import { ensure, lackOf, SpeadcastError, withCode } from '../errors.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'
import type { ResolvedInterface } from '../net/interface.js'
import { type Flow, largestPacketSizeBytes, type Path, pathTo } from '../net/route.js'

/** @throws ERR_SPEADCAST_UNREACHABLE without a route */
export function findPath(endpoint: ResolvedEndpoint, iface: ResolvedInterface | undefined, flow?: Flow): Path {
  try {
    return pathTo(endpoint, iface, undefined, flow)
  } catch (cause) {
    if (!(cause instanceof NativeError)) throw cause
    if (lackOf(cause)) throw withCode(`the path to ${endpoint.text}`, cause)
    const via = iface ? ` through ${iface.name}` : ''
    throw new SpeadcastError(
      'ERR_SPEADCAST_UNREACHABLE',
      `no route to ${endpoint.text}${via} (${cause.errnoName}); check \`ip route get ${endpoint.address}\``,
      { cause },
    )
  }
}

/** @throws ERR_SPEADCAST_PACKET_SIZE when packets would not fit an interface's MTU */
export function ensureFitsMtu(packetSizeBytes: number, paths: readonly Path[], canFragment: boolean): void {
  for (const path of paths)
    ensure(packetSizeBytes <= largestPacketSizeBytes(path.mtu, path.family), 'ERR_SPEADCAST_PACKET_SIZE', () =>
      tooLarge(`packetSizeBytes ${packetSizeBytes}`, path, canFragment),
    )
}

/**
 * Says how much too large something is for a path, and the remedy.
 * @param router who told the path's MTU, if that is known
 */
export function tooLarge(
  what: string,
  { family, mtu, linkMtu, interfaceName }: Path,
  canFragment: boolean,
  router?: string,
): string {
  const overhead = family === 6 ? 48 : 28
  const whose =
    mtu === linkMtu
      ? `of ${interfaceName}`
      : `of the path${router ? `, as router ${router} told` : `, which is less than ${linkMtu} of ${interfaceName}: a route or a router says so`}`
  return (
    `${what} + ${overhead} exceeds MTU ${mtu} ${whose}; ` +
    `pass packetSizeBytes ≤ ${mtu - overhead}${canFragment ? ', raise the MTU, or allow fragmentation' : ' or raise the MTU'}`
  )
}

/** Why a broadcast address is refused. @param detail the failing call */
export const needsBroadcast = (detail: string): string =>
  `it is a broadcast address; set broadcast, or send to a multicast group instead (${detail})`

/** Why a source port cannot be had. @param detail the failing call @param shared what lets several sockets have one, where anything does */
export const portTaken = (port: number, detail: string, shared = ', or set reusePort for each stream that has it'): string =>
  `another socket has source port ${port}; take another sourcePort${shared} (${detail})`
