/** Options, the opened device and the explanation of failures, as both kinds of queue pair need them. */
import { Region } from '../../../ffi/memory/region.js'
import { errnoName, NativeError } from '../../../ffi/native-error.js'
import type { DeviceFacts, ProtectionDomain, VerbsContext } from '../../../ffi/verbs/context.js'
import { EVENT_TYPE, WC_STATUS } from '../../../ffi/verbs/layout.js'
import type { QueuePairType } from '../../../ffi/verbs/queue-pair.js'
import { SendQueue } from '../../../ffi/verbs/send-queue.js'
import { BackendRefused, SpeadcastError } from '../../errors.js'
import type { ResolvedEndpoint } from '../../net/endpoint.js'
import type { ResolvedInterface } from '../../net/interface.js'
import type { Path } from '../../net/route.js'
import type { RdmaPath } from '../../rdma/devices.js'
import { type VerbsBackendName, whyRefused } from '../../rdma/errors.js'
import { loopbackRefused } from '../../rdma/loopback.js'
import { CAUSE_EVENT, CAUSE_STATUS } from '../backend.js'
import type { States } from '../states.js'

export interface QueueOptions {
  /** One per substream, all of one family, all through one interface. */
  readonly endpoints: readonly ResolvedEndpoint[]
  readonly interface?: ResolvedInterface
  /** Default 1 for multicast, else 64. */
  readonly ttl?: number
  readonly dscp?: number
  readonly packetSizeBytes: number
  readonly neighbourTimeoutMs: number
  /** Work requests that may be under way; clamped to the device's limit. */
  readonly queueDepth: number
  readonly pollNanoseconds: number
  readonly completionVector: number
  /** Name or path of libibverbs; default by environment and system. */
  readonly verbsLibrary?: string
  /** The queue is reset when nothing completes for this long with work requests under way. */
  readonly completionTimeoutMs: number
  /** False: multicast must not come back to receivers of this host. */
  readonly multicastLoop?: boolean
}

/** A stream may move to another device, when the bond that it sends by has changed its port: then these are the other's. */
export interface OpenDevice {
  context: VerbsContext
  domain: ProtectionDomain
  facts: DeviceFacts
  rdma: RdmaPath
  /** As of when it was opened; events tell of changes. */
  portActive: boolean
  /** The states of the backend to be made on it. */
  readonly states: States
}

/** Any of the paths; all must lead through one interface. @throws ERR_SPEADCAST_BACKEND */
export function oneInterface(paths: readonly Path[]): Path {
  const other = paths.find(({ ifindex }) => ifindex !== paths[0]!.ifindex)
  if (other)
    throw new SpeadcastError(
      'ERR_SPEADCAST_BACKEND',
      `a queue pair sends through one port, but ${paths[0]!.to} goes by ${paths[0]!.interfaceName} and ${other.to} by ${other.interfaceName}; give interface, or open a stream for each`,
    )
  return paths[0]!
}

/**
 * Why this process cannot make queue pairs of a type on a port, or cannot pin `trialBytes` for their packets; undefined if it can.
 */
export function queuePairsRefused(context: VerbsContext, port: number, type: QueuePairType, trialBytes = 0): string | undefined {
  try {
    const domain = context.allocateDomain()
    try {
      const queue = new SendQueue(domain, { type, port, depth: 16, sges: 1, completionVector: 0 })
      try {
        if (trialBytes > 0) pinOnTrial(domain, trialBytes)
        return undefined
      } finally {
        queue.close()
      }
    } finally {
      domain.release()
    }
  } catch (error) {
    if (!(error instanceof NativeError)) throw error
    return whyRefused(type === 'raw' ? 'ibverbs' : 'rdma-ud', error)
  }
}

/** @throws NativeError; ENOMEM beyond RLIMIT_MEMLOCK */
function pinOnTrial(domain: ProtectionDomain, byteLength: number): void {
  const region = Region.allocate(byteLength)
  try {
    domain.register(region.address, byteLength).release()
  } finally {
    region.release()
  }
}

/** @throws ERR_SPEADCAST_BACKEND where the device may loop multicast back to this host, and `multicastLoop` is false */
export function ensureLoopback(
  backend: VerbsBackendName,
  endpoints: readonly ResolvedEndpoint[],
  interfaces: readonly string[],
  multicastLoop: boolean | undefined,
): void {
  if (multicastLoop !== false || !endpoints.some(({ multicast }) => multicast)) return
  const refused = loopbackRefused(interfaces)
  if (refused !== undefined) throw new BackendRefused(backend, refused)
}

/** The name of a cause: of an errno, a completion status or an event. */
export function causeName(cause: number): string {
  if (cause >= CAUSE_EVENT) return EVENT_TYPE[cause - CAUSE_EVENT] ?? `event ${cause - CAUSE_EVENT}`
  return cause >= CAUSE_STATUS ? (WC_STATUS[cause - CAUSE_STATUS] ?? `status ${cause - CAUSE_STATUS}`) : errnoName(cause)
}

/** A device's last failure, beside its cause. */
export interface LastFailure {
  /** The device's own code for the last work request that failed by itself. */
  readonly vendorError: number
  /** How long the device had said nothing when it was last given up on. */
  readonly silentMs: number
  /** The device's answer then, when it was asked something else. */
  readonly silence: string
}

/** Says what the failure of a packet means, for causes that both kinds of queue pair have. `where` is the device. */
export function explainCause(
  cause: number,
  to: string,
  where: string,
  udpBytes: number,
  { vendorError, silentMs, silence }: LastFailure,
): string {
  const name = causeName(cause)
  if (cause >= CAUSE_EVENT) return `${to}: the device stopped before a packet of ${udpBytes} bytes (${name}); its queue was reset`
  if (cause >= CAUSE_STATUS)
    return `${to}: the device could not send a packet of ${udpBytes} bytes (${name}, vendor code 0x${vendorError.toString(16)})`
  switch (name) {
    case 'ETIMEDOUT':
      return `${to}: no completion for ${silentMs} ms, the device stopped before a packet of ${udpBytes} bytes (ETIMEDOUT); its queue was reset; ${silence}`
    case 'EIO':
      return `${to}: ${where} is gone or broken (EIO); open another stream when it is back`
    default:
      return `${to}: the device refuses a packet of ${udpBytes} bytes (${name})`
  }
}
