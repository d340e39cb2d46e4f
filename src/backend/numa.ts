/** The NUMA node that a stream's memory lies on: the NIC's, where the machine has several nodes. */
import { SpeadcastError } from '../errors.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'
import type { ResolvedInterface } from '../net/interface.js'
import { type NumaPlace, placeNear, UNBOUND } from '../net/numa.js'
import type { BackendName } from './names.js'
import { findPath } from './paths.js'

interface Wanted {
  readonly backend: BackendName
  readonly endpoints: readonly ResolvedEndpoint[]
  readonly interface: ResolvedInterface | undefined
  /** The RDMA device that the user has named, with its port or without. */
  readonly device: string | undefined
}

/** Backends without a NIC. */
const NOWHERE: readonly BackendName[] = ['pcap', 'memory']

/** @param sysfs where /sys is */
export function numaPlace({ backend, endpoints, interface: iface, device }: Wanted, sysfs?: string): NumaPlace {
  if (NOWHERE.includes(backend)) return UNBOUND
  return placeNear(device, () => interfacesTo(endpoints, iface), sysfs)
}

/** Names of the interfaces that packets leave by; none where an endpoint has no way. */
function interfacesTo(endpoints: readonly ResolvedEndpoint[], iface: ResolvedInterface | undefined): string[] {
  if (iface) return [iface.name]
  try {
    return [...new Set(endpoints.map((endpoint) => findPath(endpoint, undefined).interfaceName))]
  } catch (error) {
    // Opening the backend says so.
    if (error instanceof SpeadcastError) return []
    throw error
  }
}
