/** Opens the way of the udp backend: finds and checks the paths, makes the socket and configures it. */
import { NativeError } from '../../../ffi/native-error.js'
import { debug } from '../../debug.js'
import { descriptorRemedy, SpeadcastError } from '../../errors.js'
import { familyRemedy, needsScope, parseAddress } from '../../net/address.js'
import { addressesSettle } from '../../net/interface.js'
import { type Path, waitForNeighbours } from '../../net/route.js'
import { Gates } from '../gates.js'
import { waysOf } from '../path-news.js'
import { ensureFitsMtu, findPath, needsBroadcast, portTaken } from '../paths.js'
import { States } from '../states.js'
import { Bearings } from './bearings.js'
import type { UdpOptions } from './options.js'
import { findFairQueue, KernelPace } from './pace.js'
import { overheadOf, UdpPath } from './path.js'
import { flowOf, UdpSockets } from './sockets.js'

export type { UdpOptions } from './options.js'

/**
 * @throws ERR_SPEADCAST_UNREACHABLE without a route to any endpoint, ERR_SPEADCAST_PACKET_SIZE beyond an interface's MTU,
 * ERR_SPEADCAST_BACKEND when the socket cannot be made as asked, or the kernel has to keep the rate and cannot
 */
export async function openUdpPath(given: UdpOptions, counters: Float64Array): Promise<UdpPath> {
  const bearings = new Bearings(given)
  bearings.flow = flowOf(given, given.sourcePort)
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

  let sockets: UdpSockets | undefined
  try {
    // Connected, one destination costs no route lookup per message. A gate may open later, so a dead endpoint is no reason not to.
    const paced = typeof queue === 'object'
    sockets = new UdpSockets(options, bearings, endpoints.length === 1 ? 'alone' : paced ? 'first' : 'no')
    const gates = new Gates({
      paths: pathsOf(bearings, paths),
      timeoutMs: options.neighbourTimeoutMs,
      find: (i) => bearings.find(i),
      states,
    })
    debug(() => waysOf(gates.paths))
    const resolved = await waitForNeighbours(gates.paths, options.neighbourTimeoutMs)
    for (const [i, state] of resolved.entries()) if (state === 'failed') gates.shut(i)
    const pace = paced ? new KernelPace(sockets.main, options.pace!, queue, () => queueBehind(gates.paths), states) : queue
    return new UdpPath({ sockets, options, bearings, gates, pace, states, counters })
  } catch (cause) {
    sockets?.close()
    if (!(cause instanceof NativeError)) throw cause
    // connect(2): an address that is broadcast, which the kernel sends to only if asked for.
    const broadcast = cause.call === 'connect' && cause.errnoName === 'EACCES'
    const blocked = cause.call === 'connect' && cause.errnoName === 'EPERM'
    const taken = cause.errnoName === 'EADDRINUSE'
    const ipsec = `an IPsec policy blocks packets there; look at \`ip xfrm policy\` (${cause.message})`
    const why = blocked
      ? ipsec
      : broadcast
        ? needsBroadcast(cause.message)
        : taken
          ? portTaken(options.sourcePort, cause.message)
          : cause.message
    throw new SpeadcastError(
      'ERR_SPEADCAST_BACKEND',
      `cannot open a UDP socket to ${endpoints[0]!.text}: ${why}${familyRemedy(family, cause)}${descriptorRemedy(cause)}`,
      { cause },
    )
  }
}

/** The paths as of now, when the socket's source and port are known; as before where the kernel has none any more, which the first look tells. */
function pathsOf(bearings: Bearings, before: readonly Path[]): readonly Path[] {
  try {
    return before.map((_, i) => bearings.find(i))
  } catch (error) {
    if (!(error instanceof NativeError || error instanceof SpeadcastError)) throw error
    return before
  }
}

/**
 * The paths to all endpoints. While duplicate address detection holds back the only address that could be the source of IPv6 packets, the
 * kernel has none to choose, or one of another scope: waits for it.
 */
async function settledPaths({ endpoints, interface: iface, flow }: Bearings): Promise<Path[]> {
  const find = () => endpoints.map((endpoint) => findPath(endpoint, iface, flow))
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
