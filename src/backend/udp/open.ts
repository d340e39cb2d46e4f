/** Opens the way of the udp backend: finds and checks the paths, makes the socket and configures it. */
import { OPT } from '../../../ffi/layout.js'
import { NativeError } from '../../../ffi/native-error.js'
import { UdpSocket } from '../../../ffi/socket/udp-socket.js'
import { SpeadcastError } from '../../errors.js'
import { familyRemedy, needsScope } from '../../net/address.js'
import type { ResolvedEndpoint } from '../../net/endpoint.js'
import type { ResolvedInterface } from '../../net/interface.js'
import { type Path, pathTo, waitForNeighbours } from '../../net/route.js'
import { Gates } from '../gates.js'
import { ensureFitsMtu, findPath } from '../paths.js'
import { States } from '../states.js'
import { findFairQueue, KernelPace } from './pace.js'
import { overheadOf, type UdpOptions, UdpPath } from './path.js'

export type { UdpOptions } from './path.js'

/**
 * @param counters the stream's
 * @throws ERR_SPEADCAST_UNREACHABLE without a route to any endpoint, ERR_SPEADCAST_PACKET_SIZE beyond an interface's MTU,
 * ERR_SPEADCAST_BACKEND when the socket cannot be made as asked, or the kernel has to keep the rate and cannot
 */
export async function openUdpPath(given: UdpOptions, counters: Float64Array): Promise<UdpPath> {
  const endpoints = given.endpoints.map((endpoint) => scoped(endpoint, given.interface))
  const family = endpoints[0]!.family
  const paths = endpoints.map((endpoint) => findPath(endpoint, given.interface))
  const countedHeaderBytes = given.rateBasis === 'wire' ? overheadOf(family, paths) : 0
  const options = { ...given, endpoints, ...(given.pace && { pace: { ...given.pace, countedHeaderBytes } }) }
  if (!options.allowFragmentation) ensureFitsMtu(options.packetSizeBytes, paths, true)
  const find = (i: number) => pathTo(endpoints[i]!, options.interface)
  const queueBehind = (paths: readonly Path[]) =>
    findFairQueue({ paths, packetSizeBytes: options.packetSizeBytes, bound: options.interface !== undefined }, options.pace!)
  const queue = options.pace && queueBehind(paths)
  if (typeof queue === 'string' && options.pace!.required)
    throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `rateMethod 'kernel': ${queue}; or use rateMethod 'sw'`)
  const states = new States()
  const gates = new Gates({ paths, timeoutMs: options.neighbourTimeoutMs, find, states })
  const resolved = await waitForNeighbours(paths, options.neighbourTimeoutMs)
  for (const [i, state] of resolved.entries()) if (state === 'failed') gates.shut(i)

  let socket: UdpSocket | undefined
  try {
    socket = new UdpSocket(family)
    configure(socket, options)
    // Connected, one destination costs no route lookup per message. A gate may open later, so a dead endpoint is no reason not to.
    const connected = endpoints.length === 1
    const paced = typeof queue === 'object'
    if (connected || paced) socket.connect(endpoints[0]!)
    const pace = paced ? new KernelPace(socket, options.pace!, queue, () => queueBehind(gates.paths), states) : queue
    return new UdpPath(socket, options, gates, connected, pace, states, counters)
  } catch (cause) {
    socket?.close()
    if (!(cause instanceof NativeError)) throw cause
    // connect(2): an address that is broadcast, which the kernel sends to only if asked for.
    const broadcast = cause.call === 'connect' && cause.errnoName === 'EACCES'
    const why = broadcast ? `it is a broadcast address; send to a multicast group instead (${cause.message})` : cause.message
    throw new SpeadcastError(
      'ERR_SPEADCAST_BACKEND',
      `cannot open a UDP socket to ${endpoints[0]!.text}: ${why}${familyRemedy(family, cause)}`,
      { cause },
    )
  }
}

/** A link-local destination needs its interface in the socket address too: IPV6_UNICAST_IF does not stand in for it. */
function scoped(endpoint: ResolvedEndpoint, iface: ResolvedInterface | undefined): ResolvedEndpoint {
  return iface && endpoint.scopeId === 0 && needsScope(endpoint.bytes) ? { ...endpoint, scopeId: iface.index } : endpoint
}

function configure(socket: UdpSocket, options: UdpOptions): void {
  const v6 = options.endpoints[0]!.family === 6
  socket.reportErrors(options.allowFragmentation)
  if (options.interface) {
    const index = new Uint8Array(4)
    new DataView(index.buffer).setUint32(0, options.interface.index)
    socket.setOption(v6 ? OPT.IPV6_UNICAST_IF : OPT.IP_UNICAST_IF, index)
    if (v6) socket.setOption(OPT.IPV6_MULTICAST_IF, options.interface.index)
    else socket.setOption(OPT.IP_MULTICAST_IF, ipMreqn(options.interface.index))
  }
  if (options.ttl !== undefined) {
    // 0 is for multicast alone (ip(7)).
    if (options.ttl > 0) socket.setOption(v6 ? OPT.IPV6_UNICAST_HOPS : OPT.IP_TTL, options.ttl)
    socket.setOption(v6 ? OPT.IPV6_MULTICAST_HOPS : OPT.IP_MULTICAST_TTL, options.ttl)
  }
  socket.setOption(v6 ? OPT.IPV6_MULTICAST_LOOP : OPT.IP_MULTICAST_LOOP, options.multicastLoop ? 1 : 0)
  if (options.dscp !== undefined) socket.setOption(v6 ? OPT.IPV6_TCLASS : OPT.IP_TOS, options.dscp << 2)
  if (options.sendBufferBytes > 0 && socket.tryOption(OPT.SO_SNDBUFFORCE, options.sendBufferBytes) !== 0)
    socket.setOption(OPT.SO_SNDBUF, options.sendBufferBytes)
  const source = options.interface?.addressBytes ?? new Uint8Array(v6 ? 16 : 4)
  const linkLocal = v6 && source[0] === 0xfe && (source[1]! & 0xc0) === 0x80
  socket.bind({ family: v6 ? 6 : 4, bytes: source, port: options.sourcePort, scopeId: linkLocal ? options.interface!.index : 0 })
}

/** struct ip_mreqn { multiaddr, address, ifindex }, of which only the index counts here (ip(7), IP_MULTICAST_IF). */
function ipMreqn(ifindex: number): Uint8Array {
  const bytes = new Uint8Array(12)
  new DataView(bytes.buffer).setInt32(8, ifindex, true)
  return bytes
}
