/** A router on the way, for tests in namespaces. */
import type { Netns } from './netns.js'

/** Behind the host at the other end of the pair, which forwards. */
export const FAR = { v4: '10.78.0.2', v6: 'fd78::2' }

/** Namespace b forwards from v1 to a device `far` of its own, on which nobody needs to answer. */
export async function forward(ns: Netns, mtu: number): Promise<void> {
  ns.ip('b', 'link add far type ifb')
  ns.ip('b', `link set far mtu ${mtu} up`)
  ns.ip('b', 'address add 10.78.0.1/24 dev far')
  ns.ip('b', 'address add fd78::1/64 dev far nodad')
  ns.ip('b', `neigh replace ${FAR.v4} lladdr 02:00:00:00:00:02 dev far nud permanent`)
  ns.ip('b', `neigh replace ${FAR.v6} lladdr 02:00:00:00:00:02 dev far nud permanent`)
  await ns.exec('b', ['sh', '-c', 'cd /proc/sys/net; echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding'])
  ns.ip('a', 'route add 10.78.0.0/24 via 10.77.0.2')
  ns.ip('a', 'route add fd78::/64 via fd77::2')
}
