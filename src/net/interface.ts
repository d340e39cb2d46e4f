/** Finds the network interface that a user means by a name or one of its addresses. Cold. */
import { networkInterfaces } from 'node:os'
import * as netlink from '../../ffi/netlink/route.js'
import { askInterfaces } from '../../ffi/socket/interfaces.js'
import { ensure, SpeadcastError } from '../errors.js'
import { type Family, formatAddress, needsScope, parseAddress } from './address.js'

export interface ResolvedInterface {
  readonly name: string
  /** 0 where the system does not tell (macOS, for interfaces without an IPv6 link-local address). */
  readonly index: number
  readonly family: Family
  /** The address given, or the interface's first of the family; with IPv6 the first that is not link-local, if there is one. */
  readonly address: string
  readonly addressBytes: Uint8Array
  /** Bytes of IP datagram; undefined where the system does not tell (macOS). */
  readonly mtu: number | undefined
  /** Empty where the link layer has no addresses. */
  readonly mac: Uint8Array
  readonly loopback: boolean
}

export interface LocalInterface {
  readonly name: string
  readonly index: number
  readonly mtu: number | undefined
  readonly mac: Uint8Array
  readonly up: boolean
  readonly loopback: boolean
  readonly addresses: readonly { readonly family: Family; readonly bytes: Uint8Array }[]
}

/**
 * @param nameOrAddress `eth0`, `10.0.0.5`, `fd00::5`, `fe80::5%eth0`
 * @param all the interfaces to choose from; this machine's, unless given
 * @throws SpeadcastError ERR_SPEADCAST_INTERFACE when there is no such interface (the message lists those there are), when it is
 *   down, or when it has no address of the family.
 */
export function resolveInterface(
  nameOrAddress: string,
  family: Family,
  all: readonly LocalInterface[] = localInterfaces(),
): ResolvedInterface {
  const [literal = '', zone] = nameOrAddress.split('%')
  const wanted = parseAddress(literal)
  const has = (local: LocalInterface) => wanted && local.addresses.some(({ bytes }) => equal(bytes, wanted))
  const found = all.find((local) =>
    wanted ? has(local) && (!zone || zone === local.name || zone === `${local.index}`) : local.name === nameOrAddress,
  )
  ensure(found, 'ERR_SPEADCAST_INTERFACE', () => {
    const what = wanted ? `no interface has the address ${nameOrAddress}` : `no interface is named '${nameOrAddress}'`
    return `${what}; there are: ${describe(all)}`
  })
  ensure(
    found.up,
    'ERR_SPEADCAST_INTERFACE',
    () => `interface ${found.name} is down; bring it up with: ip link set ${found.name} up`,
  )
  const ofFamily = found.addresses.filter((address) => address.family === family)
  if (wanted && (wanted.length === 4 ? 4 : 6) !== family) {
    const instead =
      ofFamily.length > 0
        ? `give '${found.name}' or ${formatAddress(ofFamily[0]!.bytes)}`
        : `${found.name} has no IPv${family} address`
    throw new SpeadcastError(
      'ERR_SPEADCAST_INTERFACE',
      `interface ${nameOrAddress} is an IPv${wanted.length === 4 ? 4 : 6} address but the endpoints are IPv${family}; ${instead}`,
    )
  }
  ensure(ofFamily.length > 0, 'ERR_SPEADCAST_INTERFACE', () => {
    const have = found.addresses.map(({ bytes }) => formatAddress(bytes)).join(', ') || 'none at all'
    return `interface ${found.name} has no IPv${family} address, which IPv${family} endpoints need; its addresses: ${have}`
  })
  const bytes = wanted ?? (ofFamily.find((address) => !needsScope(address.bytes)) ?? ofFamily[0]!).bytes
  const { name, index, mtu, mac, loopback } = found
  return { name, index, family, address: formatAddress(bytes), addressBytes: bytes, mtu, mac, loopback }
}

/** Index of an interface by its name, or by its decimal index, as an IPv6 zone gives it. @throws ERR_SPEADCAST_INTERFACE */
export function interfaceIndex(zone: string): number {
  const all = localInterfaces()
  const found = all.find((local) => local.name === zone || `${local.index}` === zone)
  ensure(found && found.index > 0, 'ERR_SPEADCAST_INTERFACE', () => `no interface is named '${zone}'; there are: ${describe(all)}`)
  return found.index
}

/** Name of an interface by its index; undefined where there is none. */
export function interfaceName(index: number): string | undefined {
  return index === 0 ? undefined : localInterfaces().find((local) => local.index === index)?.name
}

function describe(all: readonly LocalInterface[]): string {
  const one = ({ name, up, addresses }: LocalInterface) =>
    `${name} (${[...addresses.map(({ bytes }) => formatAddress(bytes)), ...(up ? [] : ['down'])].join(', ') || 'no address'})`
  return all.map(one).join(', ') || 'none'
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i])
}

export function localInterfaces(): LocalInterface[] {
  if (process.platform !== 'linux') return portableInterfaces()
  let refusal: unknown
  // The next way is for a cage without netlink, and the last for a machine where koffi cannot be loaded.
  for (const list of [netlinkInterfaces, askInterfaces, portableInterfaces]) {
    try {
      return list()
    } catch (error) {
      refusal ??= error
    }
  }
  throw new SpeadcastError(
    'ERR_SPEADCAST_NATIVE',
    `the network interfaces of this machine cannot be listed: ${(refusal as Error).message}; allow AF_NETLINK, or AF_INET and /proc`,
    { cause: refusal },
  )
}

function netlinkInterfaces(): LocalInterface[] {
  const links = netlink.links()
  const addresses = netlink.addresses()
  return links.map((link) => ({ ...link, addresses: addresses.filter(({ ifindex }) => ifindex === link.index) }))
}

/** Interfaces as Node knows them on any system: those that are up and have an address. Index and MTU only where /sys or a scope id tells. */
export function portableInterfaces(): LocalInterface[] {
  return Object.entries(networkInterfaces()).map(([name, infos = []]) => {
    const addresses = infos.flatMap(({ address }) => {
      const bytes = parseAddress(address.replace(/%.*/, ''))
      return bytes ? [{ family: bytes.length === 4 ? (4 as const) : (6 as const), bytes }] : []
    })
    const scopeId = infos.reduce((id, info) => id || (info.family === 'IPv6' ? info.scopeid : 0), 0)
    return {
      name,
      index: sysNumber(name, 'ifindex') ?? scopeId,
      mtu: sysNumber(name, 'mtu'),
      mac: Uint8Array.from((infos[0]?.mac ?? '').split(':').filter(Boolean), (byte) => Number.parseInt(byte, 16)),
      up: true,
      loopback: infos.some((info) => info.internal),
      addresses,
    }
  })
}

function sysNumber(name: string, file: string): number | undefined {
  const { existsSync, readFileSync } = process.getBuiltinModule('node:fs')
  const path = `/sys/class/net/${name}/${file}`
  return existsSync(path) ? Number(readFileSync(path, 'utf8')) : undefined
}
