/** RDMA devices and their ports: a list of them with their facts, and the one behind a network interface. Linux only, cold. */
import { NativeError } from '../../ffi/native-error.js'
import { type Link, links } from '../../ffi/netlink/route.js'
import { type DeviceFacts, deviceNames, type Gid, type PortFacts, VerbsContext } from '../../ffi/verbs/context.js'
import { IBV_LINK_LAYER_ETHERNET } from '../../ffi/verbs/layout.js'
import type { VerbsLibrary } from '../../ffi/verbs/library.js'
import { deviceOfAddress } from '../../ffi/verbs/rdmacm.js'
import { lackOf, SpeadcastError } from '../errors.js'
import type { VlanTag } from '../net/frame.js'
import { nodeOfDevice } from '../net/numa.js'
import { interfacesOfPort } from './netdevs.js'

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

/** Lists every RDMA device that can be opened. One that cannot is left out, because it may have gone since. @throws NativeError */
export function rdmaDevices(library: VerbsLibrary): RdmaDevice[] {
  return inspectAll(library, links()).devices
}

/** The devices that can be opened, and the last failure for want of descriptors or memory, after which there may be more. */
function inspectAll(library: VerbsLibrary, all: readonly Link[]): { devices: RdmaDevice[]; lack: NativeError | undefined } {
  let lack: NativeError | undefined
  const devices = deviceNames(library).flatMap((name) => {
    try {
      return [inspect(library, name, all)]
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      lack = lackOf(error) ?? lack
      return []
    }
  })
  return { devices, lack }
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
    return { name, facts, ports, numaNode: nodeOfDevice(name) }
  } finally {
    context.close()
  }
}

/** The interfaces of a port by its GID table, where that tells any. */
function interfacesOf(device: string, port: number, gids: readonly Gid[], all: readonly Link[]): Link[] {
  const indexes = new Set(gids.map(({ ifindex }) => ifindex))
  const told = all.filter(({ index }) => indexes.has(index))
  const found = told.length > 0 ? told : interfacesOfPort(device, port, all)
  return found.sort((a, b) => Number(a.kind === 'vlan') - Number(b.kind === 'vlan'))
}

export interface RdmaPath {
  readonly device: string
  readonly port: number
  /** The tags of the interface and of those below it, if they are VLANs; the outermost first. */
  readonly vlans: readonly VlanTag[]
  /** Indexes of a bond that has no device of its own, and of its port that the device is behind. Packets go by no other port. */
  readonly bond?: { readonly index: number; readonly port: number }
  /** Names of the interface and of those below it, the bond's port included. */
  readonly interfaces: readonly string[]
}

/** More links on top of one another than this are a loop. */
const MOST_LINKS = 8

/**
 * The RDMA device and port behind an interface. A device is taken for what it is told to be: first that of the interface itself, then
 * that of the link below (VLAN), then the one that librdmacm knows at the address. A bond that the NIC does not offload has none of
 * these. Its ports have devices of their own, and the device of the port that the bond sends by is taken.
 * @param address one of the interface's addresses
 * @throws ERR_SPEADCAST_BACKEND naming the devices there are; NativeError where they cannot be asked
 */
export function rdmaPathOf(
  library: VerbsLibrary,
  ifindex: number,
  address?: Uint8Array,
  { ethernetOnly = true }: { ethernetOnly?: boolean } = {},
): RdmaPath {
  const all = links()
  const chain = chainOf(ifindex, all)
  const vlans = chain.flatMap(({ kind, vlanId, vlanProtocol }) =>
    kind === 'vlan' && vlanId !== undefined ? [{ id: vlanId, ...(vlanProtocol && { protocol: vlanProtocol }) }] : [],
  )
  vlans.reverse()
  const interfaces = chain.map(({ name }) => name)
  const { devices, lack } = inspectAll(library, all)
  const sending = portsOfBond(chain.at(-1), all)
  const isSending = (index: number) => sending.some((link) => link.index === index)
  const behind = (ifindex: number): Pick<RdmaPath, 'device' | 'port'> | undefined => {
    const fits = devices.flatMap(({ name, ports }) =>
      ports
        .filter(({ ethernet, interfaces }) => (ethernet || !ethernetOnly) && interfaces.some(({ index }) => index === ifindex))
        .map(({ port, interfaces }) => ({ device: name, port, sends: interfaces.some(({ index }) => isSending(index)) })),
    )
    // Devices of several ports of a bond may have the bond's addresses.
    const best = fits.find(({ sends }) => sends) ?? fits[0]
    return best && { device: best.device, port: best.port }
  }
  for (const { index } of chain) {
    const found = behind(index)
    if (found) return { ...found, vlans, interfaces }
  }
  const managed = address && deviceOfAddress(library, address, ifindex)
  if (managed) return { ...managed, vlans, interfaces }
  for (const { index, name } of sending) {
    const found = behind(index)
    if (found) return { ...found, vlans, interfaces: [...interfaces, name], bond: { index: chain.at(-1)!.index, port: index } }
  }
  if (lack) throw lack
  const name = chain[0]?.name ?? ifindex
  const by = sending.length > 0 ? ` (${chain.at(-1)!.name} sends by ${sending.map((link) => link.name).join(', ')})` : ''
  throw new SpeadcastError(
    'ERR_SPEADCAST_BACKEND',
    `no RDMA device is behind interface ${name}${by}; there are: ${describeDevices(devices)}`,
  )
}

/** Names of the interface and of those that its VLAN tags lead to. */
export function interfacesBelow(ifindex: number): string[] {
  return chainOf(ifindex, links()).map(({ name }) => name)
}

/** The interface, and below it the links that its VLAN tags lead to. */
function chainOf(ifindex: number, all: readonly Link[]): Link[] {
  const chain: Link[] = []
  let link = all.find(({ index }) => index === ifindex)
  while (link && chain.length < MOST_LINKS) {
    chain.push(link)
    const { kind, lower } = link
    link = kind === 'vlan' ? all.find(({ index }) => index === lower) : undefined
  }
  return chain
}

/** Whether a bond that has no device of its own may still send by the port. */
export function sendsBy({ index, port }: { readonly index: number; readonly port: number }): boolean {
  const all = links()
  const bond = all.find((link) => link.index === index)
  return portsOfBond(bond, all).some((link) => link.index === port)
}

/**
 * The ports of a bond or team that it may send by now: the active one if its mode has one, else each that is up and not on standby. The
 * ports of a bridge are none, because which of them a frame leaves by depends on its address.
 */
function portsOfBond(bond: Link | undefined, all: readonly Link[]): Link[] {
  if (!bond || (bond.kind !== 'bond' && bond.kind !== 'team')) return []
  return all.filter(
    ({ index, master, carrier, standby }) =>
      master === bond.index && carrier && !standby && (bond.activePort === undefined || bond.activePort === index),
  )
}

function describeDevices(devices: readonly RdmaDevice[]): string {
  return (
    devices
      .map(({ name, ports }) => {
        const where = ports.flatMap(({ interfaces }) => interfaces.map((link) => link.name))
        return `${name} (${where.join(', ') || 'no Ethernet interface'})`
      })
      .join(', ') || 'none'
  )
}
