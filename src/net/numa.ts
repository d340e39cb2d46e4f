/** NUMA nodes as /sys tells of them: which there are, and which a network interface or an RDMA device is nearest to. Cold. */
import { readdirSync, readFileSync, realpathSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { ANY_NODE } from '../../ffi/memory/numa.js'

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
