/** NUMA nodes as /sys tells of them: which there are, and which a network interface or an RDMA device is nearest to. Cold. */
import { readdirSync, readFileSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ANY_NODE, bindingRefused } from '../../ffi/memory/numa.js'

const SYSFS = '/sys'
/** More links on top of one another than this are a loop. */
const MOST_LINKS = 8
/** Levels between a device of a bus on PCI and PCI's own. */
const MOST_ABOVE = 4

/** Reads a list as the kernel writes it: 0-3,8. Empty where there is none. */
export function rangesOf(text: string): number[] {
  return text.split(',').flatMap((part) => {
    const [, first, last = first] = /^\s*(\d{1,6})(?:-(\d{1,6}))?\s*$/.exec(part) ?? []
    return first === undefined
      ? []
      : Array.from({ length: Math.max(0, Number(last) - Number(first) + 1) }, (_, i) => Number(first) + i)
  })
}

/** The nodes that are online; none where the kernel has no NUMA. */
export function numaNodes(sysfs = SYSFS): number[] {
  return rangesOf(textOf(`${sysfs}/devices/system/node/online`))
}

/** The CPUs of a node; none where nobody tells. */
export function cpusOfNode(node: number, sysfs = SYSFS): number[] {
  return rangesOf(textOf(`${sysfs}/devices/system/node/node${node}/cpulist`))
}

/**
 * The node of an interface: of its own device, or of those that it stands on (VLAN, bond, bridge, macvlan), where these agree. ANY_NODE where
 * nobody tells, as for loopback, tunnels and most virtual machines.
 */
export function nodeOfInterface(name: string, sysfs = SYSFS, depth = MOST_LINKS): number {
  const folder = `${sysfs}/class/net/${name}`
  const own = nodeOfDeviceAt(`${folder}/device`)
  if (own !== ANY_NODE || depth === 0) return own
  const below = namesIn(folder).flatMap((entry) => (entry.startsWith('lower_') ? [entry.slice('lower_'.length)] : []))
  return agreed(below.map((lower) => nodeOfInterface(lower, sysfs, depth - 1)))
}

/** The node of an RDMA device such as mlx5_0. */
export function nodeOfDevice(name: string, sysfs = SYSFS): number {
  return nodeOfDeviceAt(`${sysfs}/class/infiniband/${name}/device`)
}

/** The node that all of them are on; else ANY_NODE. */
export function agreed(nodes: readonly number[]): number {
  const [first = ANY_NODE] = nodes
  return nodes.every((node) => node === first) ? first : ANY_NODE
}

/** What is told of the node that memory is bound to. */
export interface NumaTold {
  /** Left out where nothing is bound. */
  readonly numaNode?: number
  /** Why that one, or why nothing is bound; left out on machines with one node. */
  readonly numaNodeReason?: string
}

/** Where the memory of a stream or a receiver is to be. */
export interface NumaPlace {
  /** ANY_NODE where it is not bound. */
  readonly node: number
  readonly states: NumaTold
}

export const UNBOUND: NumaPlace = { node: ANY_NODE, states: {} }

/**
 * The place near a NIC.
 * @param device the RDMA device that the user has named, with its port or without; undefined: none is
 * @param interfaces names those that packets go by; not called on a machine of one node
 * @param sysfs where /sys is
 */
export function placeNear(device: string | undefined, interfaces: () => readonly string[], sysfs?: string): NumaPlace {
  if (process.platform !== 'linux' || numaNodes(sysfs).length < 2) return UNBOUND
  const rdma = device?.split(':', 1)[0]
  const names = rdma === undefined ? interfaces() : [rdma]
  const node = agreed(names.map((name) => (rdma === undefined ? nodeOfInterface(name, sysfs) : nodeOfDevice(name, sysfs))))
  const nic = names.join(', ')
  if (node === ANY_NODE) return { node, states: { numaNodeReason: `nothing is bound: no node is told of ${nic || 'the NIC'}` } }
  const refused = bindingRefused(node)
  if (refused !== undefined)
    return { node: ANY_NODE, states: { numaNodeReason: `nothing is bound to node ${node}, that of ${nic}: ${refused}` } }
  return { node, states: { numaNode: node, numaNodeReason: `that of ${nic}` } }
}

/** The node of the PCI device that it is, or is on, as virtio's are: the nearest above that tells any. */
function nodeOfDeviceAt(link: string): number {
  let folder = pathOf(link)
  for (let up = 0; up < MOST_ABOVE && folder !== undefined; up++) {
    const text = textOf(join(folder, 'numa_node')).trim()
    if (text !== '') return /^\d{1,4}$/.test(text) ? Number(text) : ANY_NODE
    folder = dirname(folder)
  }
  return ANY_NODE
}

/** Without symbolic links; undefined where there is nothing. */
function pathOf(link: string): string | undefined {
  try {
    return realpathSync(link)
  } catch {
    return undefined
  }
}

/** Empty where it cannot be read. */
function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1')
  } catch {
    return ''
  }
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}
