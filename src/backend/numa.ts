/** The NUMA node that a stream's memory lies on: the NIC's, where the machine has several nodes. */
import { ANY_NODE, bindingRefused } from '../../ffi/memory/numa.js'
import { SpeadcastError } from '../errors.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'
import type { ResolvedInterface } from '../net/interface.js'
import { agreed, nodeOfDevice, nodeOfInterface, numaNodes } from '../net/numa.js'
import type { BackendName } from './names.js'
import { findPath } from './paths.js'
import type { StateWords } from './states.js'

/** Where batches and rings are to be. */
export interface NumaPlace {
  /** ANY_NODE where they are not bound. */
  readonly node: number
  /** The states in which the stream tells of it; none on a machine of one node. */
  readonly states: Pick<StateWords, 'numaNode' | 'numaNodeReason'>
}

interface Wanted {
  readonly backend: BackendName
  readonly endpoints: readonly ResolvedEndpoint[]
  readonly interface: ResolvedInterface | undefined
  /** The RDMA device that the user has named, with its port or without. */
  readonly device: string | undefined
}

const UNBOUND: NumaPlace = { node: ANY_NODE, states: {} }

/** Backends without a NIC. */
const NOWHERE: readonly BackendName[] = ['pcap', 'memory']

/** @param sysfs where /sys is */
export function numaPlace({ backend, endpoints, interface: iface, device }: Wanted, sysfs?: string): NumaPlace {
  if (process.platform !== 'linux' || NOWHERE.includes(backend) || numaNodes(sysfs).length < 2) return UNBOUND
  const rdma = device?.split(':', 1)[0]
  const names = rdma === undefined ? interfacesTo(endpoints, iface) : [rdma]
  const node = agreed(names.map((name) => (rdma === undefined ? nodeOfInterface(name, sysfs) : nodeOfDevice(name, sysfs))))
  const nic = names.join(', ')
  return placeOn(node, nic, node === ANY_NODE ? undefined : bindingRefused(node))
}

/** @param refused why memory cannot be bound to that node; undefined if it can */
function placeOn(node: number, nic: string, refused: string | undefined): NumaPlace {
  if (node === ANY_NODE) return { node, states: { numaNodeReason: `nothing is bound: no node is told of ${nic || 'the NIC'}` } }
  if (refused !== undefined)
    return { node: ANY_NODE, states: { numaNodeReason: `nothing is bound to node ${node}, that of ${nic}: ${refused}` } }
  return { node, states: { numaNode: node, numaNodeReason: `that of ${nic}` } }
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
