/** Finds the network interface that a user means by a name or one of its addresses. Cold. */
import { networkInterfaces } from 'node:os'
import type { AddressState } from '../../ffi/netlink/route.js'
import * as netlink from '../../ffi/netlink/route.js'
import { askInterfaces } from '../../ffi/socket/interfaces.js'
import { ensure, SpeadcastError } from '../errors.js'
import { type Family, formatAddress, needsScope, parseAddress } from './address.js'

/** How long opening waits for duplicate address detection, which takes up to 2 s of an address (RFC 4862, sections 5.4 and 5.1). */
const SETTLE_MS = 3000
const SETTLE_LOOK_MS = 20

const pause = () => new Promise((resolve) => setTimeout(resolve, SETTLE_LOOK_MS))

export interface ResolvedInterface {
  /** The name or address by which the user means it. */
  readonly given: string
  readonly name: string
  /** 0 where the system does not tell (macOS, for interfaces without an IPv6 link-local address). */
  readonly index: number
  readonly family: Family
  /**
   * The address given, or the interface's first of the family that the kernel would rather use: with IPv6 one that is not link-local, if there
   * is one.
   */
  readonly address: string
  readonly addressBytes: Uint8Array
  readonly addressState: AddressState
  /** Bytes of IP datagram; undefined where the system does not tell (macOS). */
  readonly mtu: number | undefined
  /** Empty where the link layer has no addresses. */
  readonly mac: Uint8Array
  readonly loopback: boolean
}

export interface LocalAddress {
  readonly family: Family
  readonly bytes: Uint8Array
  /** 'usable', unless given. */
  readonly state?: AddressState
}

export interface LocalInterface {
  readonly name: string
  readonly index: number
  readonly mtu: number | undefined
  readonly mac: Uint8Array
  readonly up: boolean
  readonly loopback: boolean
  readonly addresses: readonly LocalAddress[]
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
  const { found, wanted } = meant(nameOrAddress, all)
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
  const chosen = wanted ? ofFamily.find(({ bytes }) => equal(bytes, wanted))! : preferred(ofFamily)
  ensure(chosen.state !== 'dadfailed', 'ERR_SPEADCAST_INTERFACE', () => {
    const address = formatAddress(chosen.bytes)
    return `address ${address} of ${found.name} is in state dadfailed: another host has it, and the kernel sends nothing from it; give ${found.name} another address`
  })
  return resolved(nameOrAddress, found, chosen)
}

function resolved(given: string, { name, index, mtu, mac, loopback }: LocalInterface, address: LocalAddress): ResolvedInterface {
  const { family, bytes, state = 'usable' } = address
  return { given, name, index, family, address: formatAddress(bytes), addressBytes: bytes, addressState: state, mtu, mac, loopback }
}

/** The interface that a name or an address stands for, and the address if it is one. */
function meant(nameOrAddress: string, all: readonly LocalInterface[]): { found?: LocalInterface; wanted?: Uint8Array } {
  const [literal = '', zone] = nameOrAddress.split('%')
  const wanted = parseAddress(literal)
  const has = (local: LocalInterface) => wanted && local.addresses.some(({ bytes }) => equal(bytes, wanted))
  const found = all.find((local) =>
    wanted ? has(local) && (!zone || zone === local.name || zone === `${local.index}`) : local.name === nameOrAddress,
  )
  return { ...(found && { found }), ...(wanted && { wanted }) }
}

const RANKS: Record<AddressState, number> = { usable: 0, deprecated: 1, tentative: 2, dadfailed: 8 }

/** The first of those that rank best: any other before a link-local one. */
function preferred(addresses: readonly LocalAddress[]): LocalAddress {
  const rank = ({ bytes, state = 'usable' }: LocalAddress) => RANKS[state] + (needsScope(bytes) ? 4 : 0)
  return addresses.reduce((best, address) => (rank(address) < rank(best) ? address : best))
}

/**
 * As resolveInterface, and waits for an address that duplicate address detection still holds back (RFC 4862, section 5.4), because no socket
 * can be bound to it.
 * @throws (rejects) SpeadcastError ERR_SPEADCAST_INTERFACE as resolveInterface, and when it is held back for long
 */
export async function settledInterface(nameOrAddress: string, family: Family): Promise<ResolvedInterface> {
  const deadline = performance.now() + SETTLE_MS
  for (;;) {
    const iface = resolveInterface(nameOrAddress, family)
    if (iface.addressState !== 'tentative') return iface
    ensure(performance.now() < deadline, 'ERR_SPEADCAST_INTERFACE', () => stillTentative(iface.address, iface.name))
    await pause()
  }
}

/**
 * Waits until duplicate address detection holds none of certain addresses of this machine back: until then the kernel chooses another source
 * address, or none, and no socket can be bound to one. Returns why one still is after a while.
 */
export async function addressesSettle(
  concerns: (address: LocalAddress, iface: LocalInterface) => boolean,
): Promise<string | undefined> {
  const deadline = performance.now() + SETTLE_MS
  for (;;) {
    const held = localInterfaces().flatMap((iface) =>
      iface.addresses
        .filter((address) => address.state === 'tentative' && concerns(address, iface))
        .map(({ bytes }) => stillTentative(formatAddress(bytes), iface.name)),
    )
    if (held.length === 0 || performance.now() >= deadline) return held[0]
    await pause()
  }
}

function stillTentative(address: string, name: string): string {
  return `address ${address} of ${name} is in state tentative: duplicate address detection has not ended within ${SETTLE_MS / 1000} s; check that ${name} has a carrier, or add the address with nodad`
}

/** Why packets cannot leave by an interface that the user chose. */
export interface InterfaceLost {
  /** The name of an errno. */
  readonly errno: 'ENODEV' | 'EADDRNOTAVAIL'
  readonly why: string
}

/** The interface that the user means as of now, with the address that it had if the kernel still takes that; else why packets cannot leave. */
export function findInterfaceAgain(
  known: ResolvedInterface,
  all: readonly LocalInterface[] = localInterfaces(),
): ResolvedInterface | InterfaceLost {
  const { found, wanted } = meant(known.given, all)
  if (!found)
    return wanted
      ? { errno: 'EADDRNOTAVAIL', why: `no interface has the address ${known.given} any more` }
      : { errno: 'ENODEV', why: `interface ${known.given} is gone` }
  const ofFamily = found.addresses.filter(({ family }) => family === known.family)
  const usable = ({ state = 'usable' }: LocalAddress) => state === 'usable' || state === 'deprecated'
  const named = wanted && ofFamily.find(({ bytes }) => equal(bytes, wanted))
  const best = named ?? (ofFamily.length > 0 ? preferred(ofFamily) : undefined)
  if (!best) return { errno: 'EADDRNOTAVAIL', why: `interface ${found.name} has no IPv${known.family} address any more` }
  const same = ofFamily.find((address) => equal(address.bytes, known.addressBytes) && usable(address))
  // A link-local address only stands in for another.
  if (same && (named || !usable(best) || needsScope(best.bytes) || !needsScope(same.bytes)))
    return resolved(known.given, found, same)
  const chosen = usable(best) ? best : ofFamily.find(usable)
  if (chosen) return resolved(known.given, found, chosen)
  return { errno: 'EADDRNOTAVAIL', why: `address ${formatAddress(best.bytes)} of ${found.name} is in state ${best.state}` }
}

/** As findInterfaceAgain; undefined where the system does not answer, because no descriptor is left. */
export function interfaceNow(known: ResolvedInterface): ResolvedInterface | InterfaceLost | undefined {
  try {
    return findInterfaceAgain(known)
  } catch (error) {
    if (!(error instanceof SpeadcastError)) throw error
    return undefined
  }
}

/** An interface by its name, or by its decimal index, as an IPv6 zone gives it. @throws ERR_SPEADCAST_INTERFACE */
export function interfaceOfZone(zone: string): LocalInterface {
  const all = localInterfaces()
  const found = all.find((local) => local.name === zone || `${local.index}` === zone)
  ensure(found && found.index > 0, 'ERR_SPEADCAST_INTERFACE', () => `no interface is named '${zone}'; there are: ${describe(all)}`)
  return found
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

export function equal(a: Uint8Array, b: Uint8Array): boolean {
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
  return links.map((link) => ({ addresses: addresses.filter(({ ifindex }) => ifindex === link.index), ...link }))
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
