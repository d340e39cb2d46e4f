/// <reference types="node" preserve="true" />
/// <reference lib="esnext.disposable" preserve="true" />
/**
 * The package's entry `speadcast/devices`: a machine's RDMA devices, the backend that `auto` would take, and the service manager that has started the
 * process. Senders do not load it.
 *
 *     import { explainBackends, listRdmaDevices } from 'speadcast/devices'
 *
 * @module speadcast/devices
 */
import { NativeError } from '../../ffi/native-error.js'
import { netlinkRefused } from '../../ffi/netlink/refused.js'
import { VerbsContext } from '../../ffi/verbs/context.js'
import { IBV_PORT_ACTIVE } from '../../ffi/verbs/layout.js'
import type { VerbsLibrary } from '../../ffi/verbs/library.js'
import type { QueuePairType } from '../../ffi/verbs/queue-pair.js'
import { noDevices } from '../backend/select.js'
import { queuePairsRefused } from '../backend/verbs/open.js'
import { checkOptions, shown } from '../checks.js'
import { BackendRefused, ensure } from '../errors.js'
import { formatGid } from '../net/address.js'
import { type RdmaDevice, type RdmaPort, rdmaDevices } from '../rdma/devices.js'
import { explained, loadLibrary } from '../rdma/errors.js'
import { activeMtuBytes } from '../rdma/fabric.js'

export { type BackendReport, type BackendVerdict, type ExplainOptions, explainBackends } from './doctor.js'
export type { HostCheck } from './host.js'
export type { EndpointReport } from './reach.js'
export { type ServiceNotifier, type ServiceState, serviceNotifier } from './service.js'

/** A port of an RDMA device, as `listRdmaDevices` tells of it (ibv_query_port(3)). */
export interface RdmaPortReport {
  /** Its number, from 1 up. */
  readonly port: number
  /** 'Ethernet' is RoCE. */
  readonly linkLayer: 'Ethernet' | 'InfiniBand'
  /** Whether it can send. */
  readonly active: boolean
  /** Gigabits per second; 0 where the device does not tell. */
  readonly gigabitsPerSecond: number
  /** Bytes of IP datagram that its interface takes; 0 without an interface. */
  readonly mtuBytes: number
  /** Bytes that a datagram (UD) may carry: what packetSizeBytes may be with backend 'rdma-ud'. */
  readonly datagramBytes: number
  /** Names of its network interfaces. */
  readonly interfaces: readonly string[]
  /** Its addresses as IPv6 text, or the IPv4 addresses that they stand for. */
  readonly gids: readonly string[]
}

/** An RDMA device, as `listRdmaDevices` tells of it (ibv_query_device_ex(3)). */
export interface RdmaDeviceReport {
  /** Its name, such as 'mlx5_0'. */
  readonly name: string
  /** Version of its firmware. */
  readonly firmware: string
  /** The maker's number. */
  readonly vendorId: number
  /** The maker's number of the model. */
  readonly partId: number
  /** −1 where the system does not tell. */
  readonly numaNode: number
  /** Whether backend 'ibverbs' can send through it, by this process: raw packet queue pairs were tried. */
  readonly rawPackets: boolean
  /** Why not; empty if so. */
  readonly refused: string
  /** Whether backend 'rdma-ud' can send through it, by this process: datagram (UD) queue pairs were tried. */
  readonly datagrams: boolean
  /** Why not; empty if so. */
  readonly datagramsRefused: string
  /** Whether it computes UDP and IP checksums. */
  readonly checksumOffload: boolean
  /** Bounds of the hardware rate limit in bytes per second of frames; undefined without one. */
  readonly pacing:
    | {
        /** The least rate that it keeps. */
        readonly minBytesPerSecond: number
        /** The greatest. */
        readonly maxBytesPerSecond: number
      }
    | undefined
  /** Pieces of memory that a packet may be gathered from. */
  readonly maxSges: number
  /** Packets that may be under way in one queue. */
  readonly maxQueueDepth: number
  /** Its ports. */
  readonly ports: readonly RdmaPortReport[]
}

/**
 * Options of `listRdmaDevices`.
 * @example listRdmaDevices({ library: '/opt/mlnx/lib/libibverbs.so.1' })
 */
export interface ListOptions {
  /** Name or path of libibverbs. Default: the environment's SPEADCAST_VERBS_LIBRARY, then libibverbs.so.1. */
  readonly library?: string
}

/**
 * The RDMA devices of this machine and what each can do for backends 'ibverbs' and 'rdma-ud': an empty list where there are none. Opens each for
 * a moment; sends nothing.
 * @throws ERR_SPEADCAST_BACKEND when there are devices, or a library is named, and libibverbs is not there or cannot be used; ERR_SPEADCAST_CONFIG
 * @example for (const { name, rawPackets, refused } of listRdmaDevices()) console.log(name, rawPackets, refused)
 */
export function listRdmaDevices(options: ListOptions = {}): RdmaDeviceReport[] {
  checkOptions('listRdmaDevices', options, ['library'])
  const { library: path } = options
  ensure(
    path === undefined || typeof path === 'string',
    'ERR_SPEADCAST_CONFIG',
    () => `listRdmaDevices: library is ${shown(path)}; it must be a name or path`,
  )
  if (path === undefined && noDevices()) return []
  const library = loadLibrary('ibverbs', path)
  const refused = netlinkRefused()
  if (refused) throw new BackendRefused('ibverbs', refused)
  return devicesOf(library).map((device) => report(library, device))
}

function devicesOf(library: VerbsLibrary): RdmaDevice[] {
  try {
    return explained('ibverbs', () => rdmaDevices(library))
  } catch (error) {
    // libibverbs answers so where no module has made a device yet.
    if (((error as Error).cause as NativeError | undefined)?.errnoName === 'ENOSYS') return []
    throw error
  }
}

function report(library: VerbsLibrary, device: RdmaDevice): RdmaDeviceReport {
  const { name, facts, numaNode, ports } = device
  const ethernet = ports.find((port) => port.ethernet)
  const refused = ethernet ? refusedBy(library, name, ethernet.port, 'raw') : 'no port of it is Ethernet'
  const datagramsRefused = refusedBy(library, name, 1, 'datagram')
  const { pacing } = facts
  const bytes = (kbps: number) => (kbps * 1000) / 8
  return {
    name,
    firmware: facts.firmware,
    vendorId: facts.vendorId,
    partId: facts.partId,
    numaNode,
    rawPackets: refused === '',
    refused,
    datagrams: datagramsRefused === '',
    datagramsRefused,
    checksumOffload: facts.checksumOffload,
    pacing: pacing && { minBytesPerSecond: bytes(pacing.minKbps), maxBytesPerSecond: bytes(pacing.maxKbps) },
    maxSges: facts.maxSges,
    maxQueueDepth: facts.maxWorkRequests,
    ports: ports.map(portReport),
  }
}

function refusedBy(library: VerbsLibrary, name: string, port: number, type: QueuePairType): string {
  try {
    const context = VerbsContext.open(library, name)
    try {
      return queuePairsRefused(context, port, type) ?? ''
    } finally {
      context.close()
    }
  } catch (error) {
    if (!(error instanceof NativeError)) throw error
    return error.message
  }
}

/** Lanes by width and, below, Gb/s a lane by speed, as in ibv_query_port(3). RoCE devices tell them too. */
const LANES = new Map([
  [1, 1],
  [2, 4],
  [4, 8],
  [8, 12],
  [16, 2],
])
const LANE_GBPS = new Map([
  [1, 2.5],
  [2, 5],
  [4, 10],
  [8, 10],
  [16, 14],
  [32, 25],
  [64, 50],
  [128, 100],
])

function portReport(port: RdmaPort): RdmaPortReport {
  return {
    port: port.port,
    linkLayer: port.ethernet ? 'Ethernet' : 'InfiniBand',
    active: port.state === IBV_PORT_ACTIVE,
    gigabitsPerSecond: (LANES.get(port.width) ?? 0) * (LANE_GBPS.get(port.speed) ?? 0),
    mtuBytes: port.interfaces[0]?.mtu ?? 0,
    datagramBytes: activeMtuBytes(port),
    interfaces: port.interfaces.map(({ name }) => name),
    gids: port.gids.map(formatGid),
  }
}
