/** RDMA devices and their ports: a list of them with their facts, and the one behind a network interface. Linux only, cold. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { NativeError } from '../../ffi/native-error.js'
import { type Link, links } from '../../ffi/netlink/route.js'
import { type DeviceFacts, deviceNames, type Gid, type PortFacts, VerbsContext } from '../../ffi/verbs/context.js'
import { IBV_LINK_LAYER_ETHERNET } from '../../ffi/verbs/layout.js'
import type { VerbsLibrary } from '../../ffi/verbs/library.js'
import { deviceOfAddress } from '../../ffi/verbs/rdmacm.js'
import { SpeadcastError } from '../errors.js'

export interface RdmaPort extends PortFacts {
  /** Counted from 1. */
  readonly port: number
  readonly ethernet: boolean
  readonly gids: readonly Gid[]
  /** Interfaces whose packets leave by this port, the one that is the port itself first. */
  readonly interfaces: readonly Link[]
}

export interface RdmaDevice {
  readonly name: string
  readonly facts: DeviceFacts
  readonly ports: readonly RdmaPort[]
  /** −1 where the system does not tell. */
  readonly numaNode: number
}

const SYSFS = '/sys/class/infiniband'

/** Lists every RDMA device that can be opened. One that cannot is left out, because it may have gone since. @throws NativeError */
export function rdmaDevices(library: VerbsLibrary): RdmaDevice[] {
  const all = links()
  return deviceNames(library).flatMap((name) => {
    try {
      return [inspect(library, name, all)]
    } catch (error) {
      if (error instanceof NativeError) return []
      throw error
    }
  })
}

function inspect(library: VerbsLibrary, name: string, all: readonly Link[]): RdmaDevice {
  const context = VerbsContext.open(library, name)
  try {
    const facts = context.facts()
    const gids = context.gids() ?? []
    const ports = Array.from({ length: facts.ports }, (_, i): RdmaPort => {
      const port = i + 1
      const own = gids.filter((gid) => gid.port === port)
      const port_ = context.port(port)
      return {
        ...port_,
        port,
        ethernet: port_.linkLayer === IBV_LINK_LAYER_ETHERNET,
        gids: own,
        interfaces: interfacesOf(name, port, own, all),
      }
    })
    return { name, facts, ports, numaNode: numaNodeOf(name) }
  } finally {
    context.close()
  }
}

/** The interfaces of a port by its GID table; by sysfs before Linux 5.10, which has no such table. */
function interfacesOf(device: string, port: number, gids: readonly Gid[], all: readonly Link[]): Link[] {
  const indexes = new Set(gids.map(({ ifindex }) => ifindex))
  let found = all.filter(({ index }) => indexes.has(index))
  if (found.length === 0) {
    const names = new Set(sysfsInterfaces(device, port))
    found = all.filter(({ name }) => names.has(name))
  }
  return found.sort((a, b) => Number(a.kind === 'vlan') - Number(b.kind === 'vlan'))
}

function sysfsInterfaces(device: string, port: number): string[] {
  const ndevs = `${SYSFS}/${device}/ports/${port}/gid_attrs/ndevs`
  if (existsSync(ndevs)) {
    const names = readdirSync(ndevs).flatMap((file) => {
      try {
        return [readFileSync(`${ndevs}/${file}`, 'utf8').trim()]
      } catch {
        return [] // an empty entry of the table cannot be read
      }
    })
    if (names.length > 0) return names
  }
  const net = `${SYSFS}/${device}/device/net`
  return existsSync(net) ? readdirSync(net) : []
}

function numaNodeOf(device: string): number {
  const path = `${SYSFS}/${device}/device/numa_node`
  return existsSync(path) ? Number(readFileSync(path, 'utf8')) : -1
}

export interface RdmaPath {
  readonly device: string
  readonly port: number
  /** 802.1Q tag of the interface, if it is a VLAN. */
  readonly vlanId: number | undefined
}

/**
 * The RDMA device and port behind an interface: its own, that of the link below it (VLAN), or that of a bond it is a port of.
 * @param address one of the interface's addresses, for librdmacm where nothing else knows
 * @throws ERR_SPEADCAST_BACKEND naming the devices there are
 */
export function rdmaPathOf(
  library: VerbsLibrary,
  ifindex: number,
  address?: Uint8Array,
  { ethernetOnly = true }: { ethernetOnly?: boolean } = {},
): RdmaPath {
  const all = links()
  const byIndex = new Map(all.map((link) => [link.index, link]))
  const own = byIndex.get(ifindex)
  const vlanId = own?.vlanId
  const below = own?.kind === 'vlan' && own.lower ? byIndex.get(own.lower) : own
  const candidates = new Set(
    [own, below, ...all.filter(({ master }) => master !== undefined && (master === own?.index || master === below?.index))].flatMap(
      (link) => link?.index ?? [],
    ),
  )
  const devices = rdmaDevices(library)
  for (const { name, ports } of devices)
    for (const { port, ethernet, interfaces } of ports)
      if ((ethernet || !ethernetOnly) && interfaces.some(({ index }) => candidates.has(index)))
        return { device: name, port, vlanId }
  const managed = address && deviceOfAddress(library, address, ifindex)
  if (managed) return { ...managed, vlanId }
  throw new SpeadcastError(
    'ERR_SPEADCAST_BACKEND',
    `no RDMA device is behind interface ${own?.name ?? ifindex}; there are: ${describeDevices(devices)}`,
  )
}

export function describeDevices(devices: readonly RdmaDevice[]): string {
  return (
    devices
      .map(({ name, ports }) => {
        const where = ports.flatMap(({ interfaces }) => interfaces.map((link) => link.name))
        return `${name} (${where.join(', ') || 'no Ethernet interface'})`
      })
      .join(', ') || 'none'
  )
}
