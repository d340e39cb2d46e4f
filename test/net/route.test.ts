/** Paths and neighbours against a real kernel in namespaces made here. */
import { expect, test } from 'vitest'
import { largestPacketSizeBytes } from '#dist/src/net/route.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import type { Question } from './route.program.js'

const ask = <T>(ns: Netns, question: Question, ...args: string[]) => ns.program<T>('a', 'net/route', question, ...args)

test('largestPacketSizeBytes: 28 bytes of headers over IPv4, 48 over IPv6, within 16-bit lengths', () => {
  expect([1500, 9000, 65535, 65536].map((mtu) => largestPacketSizeBytes(mtu, 4))).toEqual([1472, 8972, 65507, 65507])
  expect([1500, 9000, 65575, 65576].map((mtu) => largestPacketSizeBytes(mtu, 6))).toEqual([1452, 8952, 65527, 65527])
})

test('the path is the kernel’s: interface, MTU, next hop, source', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 9000 }, sink: { mtu: 4000, addresses: ['10.99.0.1/24'] } })
  ns.ip('a', 'route add 10.200.0.0/16 via 10.77.0.2 mtu 1280')
  ns.ip('a', 'route add 10.201.0.0/16 via inet6 fd77::2 dev v0')
  ns.ip('a', 'route add prohibit 10.203.0.0/16')
  ns.ip('a', 'route add unreachable 10.204.0.0/16')
  ns.ip('a', '-6 route add fd78::/64 via fd77::2')
  const r = await ask<Record<string, unknown>>(ns, 'paths')
  type Indexed = { ifname: string; ifindex: number }[]
  const index = Object.fromEntries((JSON.parse(ns.ip('a', '-json link show')) as Indexed).map((l) => [l.ifname, l.ifindex]))
  const v0 = {
    interfaceName: 'v0',
    ifindex: index.v0,
    mtu: 9000,
    linkMtu: 9000,
    onLinkMulticastOrLoopback: false,
    copiedBy: 'veth',
    vlanTags: 0,
    needsNeighbour: true,
  }
  const v4 = { ...v0, family: 4, sourceAddress: '10.77.0.1' }
  const v6 = { ...v0, family: 6, sourceAddress: 'fd77::1' }
  const hop4 = { nextHop: { bytes: '0a4d0002', text: '10.77.0.2' } }
  const hop6 = { nextHop: { bytes: 'fd770000000000000000000000000002', text: 'fd77::2' } }
  const direct = { onLinkMulticastOrLoopback: true, needsNeighbour: false, vlanTags: 0 }
  const lo = { interfaceName: 'lo', ifindex: 1, mtu: 65536, linkMtu: 65536, copiedBy: 'loopback', ...direct }
  expect(r).toEqual({
    link: { to: '10.77.0.2:7148', ...v4, ...hop4 },
    gateway: { to: '10.200.1.1:7148', ...v4, ...hop4, mtu: 1280 },
    via6: { to: '10.201.1.1:7148', ...v4, ...hop6 },
    link6: { to: '[fd77::2]:7148', ...v6, ...hop6 },
    gateway6: { to: '[fd78::9]:7148', ...v6, ...hop6 },
    zone: expect.objectContaining({
      interfaceName: 'v0',
      nextHop: expect.objectContaining({ text: 'fe80::9' }),
      sourceAddress: expect.stringMatching(/^(fe80::|fd77::1)/),
    }),
    scopeByInterface: 'v0',
    noScope: expect.stringMatching(
      /^ERR_SPEADCAST_INTERFACE: \[fe80::9\]:7148 is link-local, it needs an interface: .*\[fe80::9%eth0\]:7148$/,
    ),
    noScopeMulticast: expect.stringContaining('is link-local, it needs an interface'),
    multicast: { to: '239.1.2.3:7148', ...v4, ...direct },
    multicastSink: 'ifb9',
    multicast6: { to: '[ff15::1]:7148', ...v6, ...direct },
    noMulticastRoute: expect.stringMatching(
      /^ERR_SPEADCAST_UNREACHABLE: there is no route to 239\.1\.2\.3:7148; give the interface .* ip route add 224\.0\.0\.0\/4 dev INTERFACE$/,
    ),
    sink: {
      to: '10.99.0.2:7148',
      family: 4,
      interfaceName: 'ifb9',
      ifindex: index.ifb9,
      mtu: 4000,
      linkMtu: 4000,
      nextHop: { bytes: '0a630002', text: '10.99.0.2' },
      onLinkMulticastOrLoopback: false,
      vlanTags: 0,
      needsNeighbour: false, // NOARP
      sourceAddress: '10.99.0.1',
    },
    loopback: { to: '127.0.0.1:7148', family: 4, ...lo, sourceAddress: '127.0.0.1' },
    loopback6: { to: '[::1]:7148', family: 6, ...lo, sourceAddress: '::1' },
    self: { to: '10.77.0.1:7148', family: 4, ...lo, sourceAddress: '10.77.0.1' },
    broadcast: { to: '10.77.0.255:7148', ...v4, ...direct },
    none: 'ERR_SPEADCAST_UNREACHABLE: there is no route to 8.8.8.8:7148; see: ip route get 8.8.8.8',
    none6: 'ERR_SPEADCAST_UNREACHABLE: there is no route to [2001:db8::1]:7148; see: ip route get 2001:db8::1',
    prohibit: 'ERR_SPEADCAST_UNREACHABLE: a route prohibits packets to 10.203.0.1:7148; see: ip route get 10.203.0.1',
    unreachable: expect.stringContaining('the kernel answers EHOSTUNREACH to a route to 10.204.0.1:7148'),
  })
})

test('neighbours are resolved before the first packet, by an unprivileged process', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {}, sink: { addresses: ['10.99.0.1/24'] } })
  ns.ip('a', 'route add 10.200.0.0/16 via 10.77.0.2')
  ns.ip('b', 'address add 10.77.0.3/24 dev v1')
  const r = await ask<{ before: string[]; outcomes: string[]; after: string[]; uid: number }>(ns, 'neighbours')
  expect(r.uid).toBe(65534)
  expect(r.before).toEqual(['unasked', 'unasked', 'unasked', 'unasked', 'not-needed', 'not-needed', 'not-needed'])
  expect(r.outcomes).toEqual(['reachable', 'reachable', 'reachable', 'reachable', 'not-needed', 'not-needed', 'not-needed'])
  expect(r.after).toEqual(r.outcomes)
  const mac = JSON.parse(ns.ip('b', '-json link show v1'))[0].address
  type Entry = { dst: string; lladdr?: string }[]
  const entries = JSON.parse(ns.ip('a', '-json neighbour show dev v0')) as Entry
  for (const dst of ['10.77.0.2', '10.77.0.3', 'fd77::2']) expect(entries.find((entry) => entry.dst === dst)?.lladdr).toBe(mac)
  expect(entries.some((entry) => entry.dst === '10.200.0.1')).toBe(false) // the gateway was asked for, not the host behind it
})

test('a neighbour that does not answer fails: by the kernel’s verdict, by time, by a dead link; and may come back', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  await ns.exec('a', [
    'sh',
    '-c',
    'echo 1 > /proc/sys/net/ipv4/neigh/v0/mcast_solicit; echo 50 > /proc/sys/net/ipv4/neigh/v0/retrans_time_ms',
  ])
  const r = await ask<Record<string, unknown>>(ns, 'silence', ns.name.b)
  expect(r).toEqual({
    kernelGaveUp: ['failed', 'reachable'],
    state: 'failed',
    timedOut: ['failed'],
    stillAsking: 'unresolved',
    cameBack: ['reachable'],
    linkDown: ['failed', 'failed'],
    gone: 'ENODEV',
  })
})

test('the datagram that asks for a neighbour is empty and goes to its discard port', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  const receiver = ns.program<Record<string, number | string>>('b', 'net/discard', '10.77.0.2')
  // The receiver may not be bound yet, so ask until it has heard.
  let heard = false
  const result = receiver.then((value) => {
    heard = true
    return value
  })
  while (!heard) await Promise.race([result, ask(ns, 'kick')])
  expect(await result).toEqual({ length: 0, from: '10.77.0.1' })
})
