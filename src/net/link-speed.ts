/** The speed of the link that leads to some endpoints, as its driver tells it. Cold. */
import { type Link, link, links } from '../../ffi/netlink/route.js'
import { SpeadcastError } from '../errors.js'
import type { ResolvedEndpoint } from './endpoint.js'
import type { ResolvedInterface } from './interface.js'
import { pathTo } from './route.js'

/** Links that have the speed of the one below them. */
const ON_TOP: readonly unknown[] = ['vlan', 'macvlan', 'macvtap', 'ipvlan']
/** Links that have the speed of their ports together. */
const OF_PORTS: readonly unknown[] = ['bond', 'team']
/** More links on top of one another than this are a loop. */
const MOST_LINKS = 8

/**
 * Bytes a second that the link carries, headers and gaps included.
 * @param asked what the speed is for, in an error
 * @throws ERR_SPEADCAST_CONFIG where endpoints leave by several links, or nobody knows the speed; ERR_SPEADCAST_UNREACHABLE
 */
export function linkBytesPerSecond(
  asked: string,
  endpoints: readonly ResolvedEndpoint[],
  iface: ResolvedInterface | undefined,
): number {
  const refuse = (why: string): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `${asked}: ${why}; give a rate such as 10Gbps instead`)
  }
  if (process.platform !== 'linux') return refuse(`the speed of a link is known on Linux only, this is ${process.platform}`)
  const indexes = [...new Set(iface ? [iface.index] : endpoints.map((endpoint) => pathTo(endpoint).ifindex))]
  const all = indexes.map(link)
  const [one] = all as [Link]
  if (all.length > 1) return refuse(`the endpoints are reached by several links, ${all.map(({ name }) => name).join(' and ')}`)
  if (one.loopback) return refuse(`${one.name} is the loopback interface, which has no speed`)
  const made = madeUp(one)
  if (made) return refuse(`${one.name} has no speed, because ${made.name} is virtual (${made.kind})`)
  const megabits = megabitsOf(one)
  if (megabits === undefined) return refuse(`the driver of ${one.name} does not tell the link's speed`)
  return (megabits * 1e6) / 8
}

/** The virtual link whose speed stands for nothing: veth tells 10 Gb/s, and tun 10 Mb/s, of no wire. Undefined where there is none. */
function madeUp(found: Link, depth = 0): Link | undefined {
  if (found.kind === undefined && depth < MOST_LINKS) return undefined
  if (ON_TOP.includes(found.kind) && found.lower !== undefined && depth < MOST_LINKS) return madeUp(link(found.lower), depth + 1)
  if (!OF_PORTS.includes(found.kind)) return found
  const ports = links().filter(({ master }) => master === found.index)
  return ports.map((port) => madeUp(port, depth + 1)).find((made) => made !== undefined)
}

/** Undefined where the driver does not know, and where sysfs shows another network namespace than this one. */
function megabitsOf({ name, index }: Link): number | undefined {
  const { readFileSync } = process.getBuiltinModule('node:fs')
  try {
    if (Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8')) !== index) return undefined
    const megabits = Number(readFileSync(`/sys/class/net/${name}/speed`, 'utf8'))
    return megabits > 0 ? megabits : undefined
  } catch {
    // EINVAL where the driver tells none, or the link is down.
    return undefined
  }
}
