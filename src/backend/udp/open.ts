/** Opens the way of the udp backend: finds and checks the paths, makes the socket and configures it. */
import { OPT } from '../../../ffi/layout.js'
import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import { UdpSocket } from '../../../ffi/socket/udp-socket.js'
import { SpeadcastError } from '../../errors.js'
import { familyRemedy, needsScope, parseAddress } from '../../net/address.js'
import { addressesSettle, type ResolvedInterface } from '../../net/interface.js'
import { type Path, waitForNeighbours } from '../../net/route.js'
import { Gates } from '../gates.js'
import { ensureFitsMtu, findPath, needsBroadcast, portTaken } from '../paths.js'
import { States } from '../states.js'
import { Bearings } from './bearings.js'
import { findFairQueue, KernelPace } from './pace.js'
import { overheadOf, type UdpOptions, UdpPath } from './path.js'

export type { UdpOptions } from './path.js'

/**
 * @throws ERR_SPEADCAST_UNREACHABLE without a route to any endpoint, ERR_SPEADCAST_PACKET_SIZE beyond an interface's MTU,
 * ERR_SPEADCAST_BACKEND when the socket cannot be made as asked, or the kernel has to keep the rate and cannot
 */
export async function openUdpPath(given: UdpOptions, counters: Float64Array): Promise<UdpPath> {
  const bearings = new Bearings(given)
  const { endpoints } = bearings
  const family = endpoints[0]!.family
  const paths = await settledPaths(bearings)
  const countedHeaderBytes = given.rateBasis === 'wire' ? overheadOf(family, paths) : 0
  const options = { ...given, endpoints, ...(given.pace && { pace: { ...given.pace, countedHeaderBytes } }) }
  if (!options.allowFragmentation) ensureFitsMtu(options.packetSizeBytes, paths, true)
  const queueBehind = (paths: readonly Path[]) =>
    findFairQueue({ paths, packetSizeBytes: options.packetSizeBytes, bound: options.interface !== undefined }, options.pace!)
  const queue = options.pace && queueBehind(paths)
  if (typeof queue === 'string' && options.pace!.required)
    throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `rateMethod 'kernel': ${queue}; or use rateMethod 'sw'`)
  const states = new States()
  const gates = new Gates({ paths, timeoutMs: options.neighbourTimeoutMs, find: (i) => bearings.find(i), states })
  const resolved = await waitForNeighbours(paths, options.neighbourTimeoutMs)
  for (const [i, state] of resolved.entries()) if (state === 'failed') gates.shut(i)

  let socket: UdpSocket | undefined
  try {
    const opened = new UdpSocket(family)
    socket = opened
    // Connected, one destination costs no route lookup per message. A gate may open later, so a dead endpoint is no reason not to.
    const paced = typeof queue === 'object'
    const connected = endpoints.length === 1 ? 'alone' : paced ? 'first' : 'no'
    let port = options.sourcePort
    const make = () => {
      configure(opened, options, bearings.interface)
      bind(opened, bearings.interface, port, options.sourcePort === 0)
      if (connected !== 'no') opened.connect(bearings.endpoints[0]!)
    }
    make()
    port = opened.localPort()
    const remake = () => opened.renew(make)
    const pace = paced ? new KernelPace(opened, options.pace!, queue, () => queueBehind(gates.paths), states) : queue
    return new UdpPath({ socket: opened, options, bearings, gates, connected, pace, states, counters, remake })
  } catch (cause) {
    socket?.close()
    if (!(cause instanceof NativeError)) throw cause
    // connect(2): an address that is broadcast, which the kernel sends to only if asked for.
    const broadcast = cause.call === 'connect' && cause.errnoName === 'EACCES'
    const taken = cause.errnoName === 'EADDRINUSE'
    const why = broadcast ? needsBroadcast(cause.message) : taken ? portTaken(options.sourcePort, cause.message) : cause.message
    throw new SpeadcastError(
      'ERR_SPEADCAST_BACKEND',
      `cannot open a UDP socket to ${endpoints[0]!.text}: ${why}${familyRemedy(family, cause)}`,
      { cause },
    )
  }
}

/**
 * The paths to all endpoints. While duplicate address detection holds back the only address that could be the source of IPv6 packets, the
 * kernel has none to choose, or one of another scope: waits for it.
 */
async function settledPaths({ endpoints, interface: iface }: Bearings): Promise<Path[]> {
  const find = () => endpoints.map((endpoint) => findPath(endpoint, iface))
  const paths = find()
  if (iface || endpoints[0]!.family === 4) return paths
  const poor = paths.filter(({ sourceAddress }, i) => {
    const source = parseAddress(sourceAddress)
    return !source || (needsScope(source) && !needsScope(endpoints[i]!.bytes))
  })
  if (poor.length === 0) return paths
  const held = await addressesSettle(({ family }, { index }) => family === 6 && poor.some(({ ifindex }) => ifindex === index))
  const settled = find()
  if (held && settled.some(({ sourceAddress }) => sourceAddress === '')) throw new SpeadcastError('ERR_SPEADCAST_INTERFACE', held)
  return settled
}

function configure(socket: UdpSocket, options: UdpOptions, iface: ResolvedInterface | undefined): void {
  const v6 = socket.family === 6
  socket.reportErrors(options.allowFragmentation)
  if (iface) {
    const index = new Uint8Array(4)
    new DataView(index.buffer).setUint32(0, iface.index)
    socket.setOption(v6 ? OPT.IPV6_UNICAST_IF : OPT.IP_UNICAST_IF, index)
    if (v6) socket.setOption(OPT.IPV6_MULTICAST_IF, iface.index)
    else socket.setOption(OPT.IP_MULTICAST_IF, ipMreqn(iface.index))
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
  if (options.broadcast) socket.setOption(OPT.SO_BROADCAST, 1)
  if (options.reusePort) socket.sharePort()
}

/** @param anyPort another port will do where this one is taken */
function bind(socket: UdpSocket, iface: ResolvedInterface | undefined, port: number, anyPort: boolean): void {
  const v6 = socket.family === 6
  const bytes = iface?.addressBytes ?? new Uint8Array(v6 ? 16 : 4)
  const linkLocal = v6 && bytes[0] === 0xfe && (bytes[1]! & 0xc0) === 0x80
  const address = { family: socket.family, bytes, scopeId: linkLocal ? iface!.index : 0 }
  try {
    socket.bind({ ...address, port })
  } catch (error) {
    if (!(anyPort && port !== 0 && error instanceof NativeError && error.errno === ERRNO.EADDRINUSE)) throw error
    socket.bind({ ...address, port: 0 })
  }
}

/** struct ip_mreqn { multiaddr, address, ifindex }, of which only the index counts here (ip(7), IP_MULTICAST_IF). */
function ipMreqn(ifindex: number): Uint8Array {
  const bytes = new Uint8Array(12)
  new DataView(bytes.buffer).setInt32(8, ifindex, true)
  return bytes
}
