/** Finds out for `auto` and `doctor` whether libibverbs could send to some endpoints. All steps but sending are tried for real. */

import { VerbsContext } from '../../../ffi/verbs/context.js'
import type { VerbsLibrary } from '../../../ffi/verbs/library.js'
import type { QueuePairType } from '../../../ffi/verbs/queue-pair.js'
import { BackendRefused, SpeadcastError } from '../../errors.js'
import { parseAddress } from '../../net/address.js'
import type { ResolvedEndpoint } from '../../net/endpoint.js'
import type { ResolvedInterface } from '../../net/interface.js'
import { rdmaPathOf } from '../../rdma/devices.js'
import { explained, loadLibrary, type VerbsBackendName } from '../../rdma/errors.js'
import { openFabricPort } from '../../rdma/fabric.js'
import { describeLoopback, multicastLoopback } from '../../rdma/loopback.js'
import { findPath } from '../paths.js'
import { senderPort } from './datagrams-open.js'
import { ensureLoopback, oneInterface, queuePairsRefused } from './open.js'

/**
 * Memory that is registered on trial: some small batches. Batches come when `auto` has chosen, and one that cannot be pinned cannot be sent.
 * No more, because containers may lock 8 MiB by default, rings of a queue among them.
 */
const TRIAL_BYTES = 4 << 20

export interface Wanted {
  readonly endpoints: readonly ResolvedEndpoint[]
  readonly interface: ResolvedInterface | undefined
  readonly verbsLibrary: string | undefined
  readonly allowFragmentation?: boolean
  readonly ttl?: number | undefined
  readonly multicastLoop?: boolean | undefined
}

/** Returns why raw packets cannot be sent; undefined if they can. */
export function probeIbverbs({ endpoints, interface: iface, verbsLibrary, multicastLoop }: Wanted): string | undefined {
  return probe('ibverbs', 'raw', verbsLibrary, (library) => {
    const { ifindex, sourceAddress } = oneInterface(endpoints.map((endpoint) => findPath(endpoint, iface)))
    const rdma = explained('ibverbs', () => rdmaPathOf(library, ifindex, iface?.addressBytes ?? parseAddress(sourceAddress)))
    ensureLoopback('ibverbs', endpoints, rdma.interfaces, multicastLoop)
    return { context: explained('ibverbs', () => VerbsContext.open(library, rdma.device)), port: rdma.port }
  })
}

/** Says what becomes of multicast on this host, where `probeIbverbs` finds that it can be sent; undefined for unicast. */
export function loopbackOf({ endpoints, interface: iface, verbsLibrary }: Wanted): string | undefined {
  if (!endpoints.some(({ multicast }) => multicast)) return undefined
  const { ifindex, sourceAddress } = oneInterface(endpoints.map((endpoint) => findPath(endpoint, iface)))
  const source = iface?.addressBytes ?? parseAddress(sourceAddress)
  return describeLoopback(multicastLoopback(rdmaPathOf(loadLibrary('ibverbs', verbsLibrary), ifindex, source).interfaces))
}

/** Returns why datagrams cannot be sent; undefined if they can. Receivers are not asked. */
export function probeRdmaUd({ endpoints, interface: iface, verbsLibrary }: Wanted): string | undefined {
  return probe('rdma-ud', 'datagram', verbsLibrary, (library) => {
    const paths = endpoints.map((endpoint) => findPath(endpoint, iface))
    return openFabricPort(library, senderPort({ endpoints, ...(iface && { interface: iface }) }, paths))
  })
}

function probe(
  backend: VerbsBackendName,
  type: QueuePairType,
  verbsLibrary: string | undefined,
  open: (library: VerbsLibrary) => { readonly context: VerbsContext; readonly port: number },
): string | undefined {
  try {
    const { context, port } = open(loadLibrary(backend, verbsLibrary))
    try {
      return queuePairsRefused(context, port, type, TRIAL_BYTES)
    } finally {
      context.close()
    }
  } catch (error) {
    if (error instanceof BackendRefused) return error.why
    if (error instanceof SpeadcastError) return error.message
    throw error
  }
}
