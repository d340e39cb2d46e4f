/**
 * The cold half of the ibverbs backend: finds and opens the RDMA device behind the interface, moves to another one, and explains failures.
 */

import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import { type DeviceFacts, VerbsContext } from '../../../ffi/verbs/context.js'
import { IBV_PORT_ACTIVE } from '../../../ffi/verbs/layout.js'
import { debug } from '../../debug.js'
import { SpeadcastError } from '../../errors.js'
import { parseAddress } from '../../net/address.js'
import { AROUND_FRAME_BYTES } from '../../net/frame.js'
import { type Path, waitForNeighbours } from '../../net/route.js'
import { type RdmaPath, rdmaPathOf } from '../../rdma/devices.js'
import { explained, loadLibrary, refused } from '../../rdma/errors.js'
import { waysOf } from '../path-news.js'
import { ensureFitsMtu, findPath, portTaken, tooLarge } from '../paths.js'
import { States } from '../states.js'
import { FramePaths, reservePort } from './frame-paths.js'
import { causeName, ensureLoopback, explainCause, type LastFailure, type OpenDevice, oneInterface } from './open.js'
import type { IbverbsOptions } from './raw-options.js'

export interface OpenRawDevice extends OpenDevice {
  readonly frames: FramePaths
}

/**
 * @throws ERR_SPEADCAST_BACKEND: no library, no RDMA device at the interface, or it cannot be opened; _UNREACHABLE, _PACKET_SIZE, _INTERFACE
 */
export async function openDevice(options: IbverbsOptions): Promise<OpenRawDevice> {
  const { endpoints } = options
  const paths = endpoints.map((endpoint) => findPath(endpoint, options.interface))
  const { ifindex, interfaceName } = oneInterface(paths)
  ensureFitsMtu(options.packetSizeBytes, paths, false)
  const library = loadLibrary('ibverbs', options.verbsLibrary)
  const source = options.interface?.addressBytes ?? parseAddress(paths[0]!.sourceAddress)
  if (!source)
    throw new SpeadcastError(
      'ERR_SPEADCAST_INTERFACE',
      `interface ${interfaceName} has no address for ${endpoints[0]!.text}; give one`,
    )
  const findDevice = (ifindex: number, address: Uint8Array | undefined): RdmaPath => {
    const found = rdmaPathOf(library, ifindex, address)
    ensureLoopback('ibverbs', endpoints, found.interfaces, options.multicastLoop)
    return found
  }
  const rdma = explained('ibverbs', () => findDevice(ifindex, source))
  debug(() => waysOf(paths))
  const neighbours = await waitForNeighbours(paths, options.neighbourTimeoutMs)
  const opened: { close(): void }[] = []
  try {
    const socket = reservePort(source, options.sourcePort, ifindex, options.reusePort)
    opened.push(socket)
    const context = explained('ibverbs', () => VerbsContext.open(library, rdma.device))
    opened.push(context)
    const facts = explained('ibverbs', () => context.facts())
    const portActive = explained('ibverbs', () => context.port(rdma.port).state === IBV_PORT_ACTIVE)
    const states = new States()
    const frames = new FramePaths({ options, paths, neighbours, source, socket, rdma, findDevice, states })
    opened.push(frames)
    checkPacing(facts, rdma, options, frames.headers.templates[0]!.headerBytes)
    const domain = explained('ibverbs', () => context.allocateDomain())
    return { context, domain, facts, rdma, portActive, states, frames }
  } catch (error) {
    for (const each of opened.reverse()) each.close()
    if (error instanceof NativeError && error.call === 'bind' && error.errnoName === 'EADDRINUSE')
      throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `backend 'ibverbs': ${portTaken(options.sourcePort, error.message)}`, {
        cause: error,
      })
    throw error instanceof NativeError ? refused('ibverbs', error) : error
  }
}

/**
 * Opens the device that frames are to leave by now, and closes the one that they left by. False: there is none, or it cannot be
 * used.
 * @param letGo takes everything from the device that is closed
 */
export function moveDevice(device: OpenRawDevice, letGo: () => void): boolean {
  const { frames } = device
  let other: OpenDevice
  try {
    other = openOther(device)
  } catch (error) {
    frames.stays(error)
    return false
  }
  letGo()
  device.domain.release()
  device.context.close()
  Object.assign(device, other)
  frames.moved(other.rdma)
  return true
}

/** @throws as FindDevice */
function openOther({ context: { library }, facts, rdma: { device, vlans }, states, frames }: OpenRawDevice): OpenDevice {
  const rdma = frames.findDevice()
  const context = VerbsContext.open(library, rdma.device)
  try {
    const others = context.facts()
    // Work requests were made for the one device: how many pieces of memory they have, how long their headers are, and who fills the checksums.
    const alike = others.checksumOffload === facts.checksumOffload && others.maxSges >= facts.maxSges
    if (!alike || rdma.vlans.length !== vlans.length)
      throw new NativeError('ibv_query_device', ERRNO.EOPNOTSUPP, `${rdma.device} is not like ${device}`)
    const portActive = context.port(rdma.port).state === IBV_PORT_ACTIVE
    return { context, domain: context.allocateDomain(), facts: others, rdma, portActive, states }
  } catch (error) {
    context.close()
    throw error
  }
}

/** The stream's rate as the device counts it: kilobits per second of frames, without preamble, checksum and gap. */
export function frameRateKbps(
  { hardwareRateBytesPerSecond = 0, hardwareRateBasis, packetSizeBytes }: IbverbsOptions,
  headerBytes: number,
): number {
  const frameBytes = packetSizeBytes + headerBytes
  const countedBytes = hardwareRateBasis === 'wire' ? frameBytes + AROUND_FRAME_BYTES : packetSizeBytes
  return Math.round((hardwareRateBytesPerSecond * 8 * frameBytes) / countedBytes / 1000)
}

function checkPacing({ pacing }: DeviceFacts, { device }: RdmaPath, options: IbverbsOptions, headerBytes: number): void {
  if (options.hardwareRateBytesPerSecond === undefined) return
  const remedy = "use rateMethod 'sw'"
  if (!pacing)
    throw new SpeadcastError('ERR_SPEADCAST_BACKEND', `rateMethod 'hw': device ${device} has no hardware rate limit; ${remedy}`)
  const kbps = frameRateKbps(options, headerBytes)
  if (kbps < pacing.minKbps || kbps > pacing.maxKbps)
    throw new SpeadcastError(
      'ERR_SPEADCAST_BACKEND',
      `rateMethod 'hw': device ${device} can keep ${pacing.minKbps} to ${pacing.maxKbps} kb/s, and the rate is ${kbps} kb/s of frames; ${remedy}`,
    )
}

/** Names of errnos that may come from what an interface or an address took with it. */
const GONE: readonly string[] = ['ENODEV', 'EADDRNOTAVAIL', 'ENETUNREACH']

/** Says what the failure of a packet means, and the remedy. */
export function explainRaw(cause: number, path: Path, udpBytes: number, frames: FramePaths, last: LastFailure): string {
  const name = causeName(cause)
  const why = (GONE.includes(name) || frames.refusesBy(cause)) && frames.trouble
  if (why) return `${path.to}: ${why} (${name}); the stream goes on when it is back`
  switch (name) {
    case 'EHOSTUNREACH':
      return `${path.to}: nobody answers for its address on ${path.interfaceName} (EHOSTUNREACH); check that the host is up and \`ip route get\` is right`
    case 'EMSGSIZE':
      return tooLarge(`a packet of ${udpBytes}`, path, false)
    case 'ENETUNREACH':
    case 'ENETDOWN':
    case 'ENODEV':
    case 'EACCES':
      return `${path.to}: no usable route through ${path.interfaceName} (${name}); see \`ip route get\``
    case 'EINVAL':
      return `${path.to}: the device, or a blackhole route, refuses a packet of ${udpBytes} bytes (EINVAL)`
    default:
      return explainCause(cause, path.to, `the device behind ${path.interfaceName}`, udpBytes, last)
  }
}
