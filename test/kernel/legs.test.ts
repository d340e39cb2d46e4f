/**
 * Paths that hang on more than the destination: routes of several legs, of which the kernel takes one by addresses and ports, and rules by
 * source, ports and class. What the stream watches has to be what its packets take.
 */
import { expect } from 'vitest'
import type { StreamOptions } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import { capture, type RemoteStream } from '../support/remote-stream.js'
import { testOnPaths } from '../support/udp-paths.js'

const PACKET = 1452
const HOSTS = 8
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** v0 and w0 lead to namespace b, which has 10.99.0.1 to .8 and fd99::1 to ::8 behind both. */
async function twoLegs(): Promise<Netns> {
  const ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  ns.ip('a', `link add w0 type veth peer name w1 netns ${ns.name.b}`)
  for (const [where, device, host] of [
    ['a', 'w0', 1],
    ['b', 'w1', 2],
  ] as const) {
    await ns.exec(where, ['sh', '-c', `echo 0 > /proc/sys/net/ipv6/conf/${device}/accept_dad`])
    ns.ip(where, `link set ${device} gso_max_segs 1 up`)
    ns.ip(where, `address add 10.78.0.${host}/24 dev ${device}`)
    ns.ip(where, `address add fd78::${host}/64 dev ${device} nodad`)
  }
  for (let i = 1; i <= HOSTS; i++) {
    ns.ip('b', `address add 10.99.0.${i}/32 dev lo`)
    ns.ip('b', `address add fd99::${i}/128 dev lo nodad`)
  }
  return ns
}

const toHost = (family: 4 | 6, i: number) => (family === 4 ? `10.99.0.${i}:7148` : `[fd99::${i}]:7148`)

for (const { what, policy, routes } of [
  {
    what: 'a route of two legs, by addresses',
    policy: 0,
    routes: [
      'route add 10.99.0.0/24 nexthop via 10.77.0.2 nexthop via 10.78.0.2',
      '-6 route add fd99::/64 nexthop via fd77::2 nexthop via fd78::2',
    ],
  },
  {
    what: 'a group of next hops, by ports too',
    policy: 1,
    routes: [
      ...['id 1 via 10.77.0.2 dev v0', 'id 2 via 10.78.0.2 dev w0', 'id 3 group 1/2'].map((text) => `nexthop add ${text}`),
      ...['id 4 via fd77::2 dev v0', 'id 5 via fd78::2 dev w0', 'id 6 group 4/5'].map((text) => `nexthop add ${text}`),
      'route add 10.99.0.0/24 nhid 3',
      '-6 route add fd99::/64 nhid 6',
    ],
  },
])
  testOnPaths(`${what}: the stream knows the leg that its packets take`, async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await twoLegs()
    for (const family of [4, 6])
      await ns.exec('a', ['sh', '-c', `echo ${policy} > /proc/sys/net/ipv${family}/fib_multipath_hash_policy`])
    for (const route of routes) ns.ip('a', route)
    for (const family of [4, 6] as const) {
      const wires = { v0: await capture(ns, 'b'), w0: await capture(ns, 'b', { device: 'w1' }) }
      const told = new Map<string, unknown>()
      let stream: RemoteStream | undefined
      for (let i = 1; i <= HOSTS; i++) {
        // One endpoint has a connected socket; to two of them the kernel looks for the path of each message.
        const options = { to: Array(1 + (i % 2)).fill(toHost(family, i)), packetSizeBytes: PACKET }
        if (stream) await stream.reopen(options)
        else stream = await open(ns, options)
        await stream.batch({ heaps: 2, bytes: 1000 })
        for (let n = 0; n < 3; n++) await stream.send()
        const { states } = await stream.stats()
        told.set(toHost(family, i), states.interface)
        expect(states.pathChanges).toBe(0)
      }
      await stream!.close()
      const seen = new Map<string, string>()
      for (const [device, wire] of Object.entries(wires))
        for (const { address } of await wire.stop()) seen.set(family === 4 ? `${address}:7148` : `[${address}]:7148`, device)
      console.log(`${what}, IPv${family}: ${[...seen.values()]}`)
      expect(told).toEqual(new Map([...seen].toSorted(([a], [b]) => (a < b ? -1 : 1))))
    }
  })

for (const { what, rule, options } of [
  { what: 'the destination port', rule: 'ipproto udp dport 7148', options: {} },
  { what: 'the source port', rule: 'ipproto udp sport 7001', options: { sourcePort: 7001 } },
  { what: 'the source address', rule: 'from SOURCE', options: {} },
  { what: 'the class of traffic', rule: 'dsfield 0x08', options: { dscp: 2 } },
] satisfies { what: string; rule: string; options: Partial<StreamOptions> }[])
  testOnPaths(`a rule by ${what}: the stream follows it`, async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await twoLegs()
    for (const { family, from, net, gateway, other } of [
      { family: 4, from: '10.77.0.1', net: '10.99.0.0/24', gateway: '10.77.0.2', other: '10.78.0.2' },
      { family: 6, from: 'fd77::1', net: 'fd99::/64', gateway: 'fd77::2', other: 'fd78::2' },
    ] as const) {
      ns.ip('a', `-${family} route add ${net} via ${gateway}`)
      ns.ip('a', `-${family} route add ${net} via ${other} table 77`)
      const stream = await open(ns, { ...options, to: toHost(family, 1), packetSizeBytes: PACKET })
      await stream.batch({ heaps: 4, bytes: 7000 })
      await stream.send()
      expect((await stream.stats()).states).toMatchObject({ interface: 'v0', pathChanges: 0 })
      ns.ip('a', `-${family} rule add ${rule.replace('SOURCE', from)} lookup 77`)
      const follows = async () => (await stream.stats()).states.interface === 'w0'
      for (let i = 0; i < 100 && !(await follows()); i++) await sleep(20)
      const wire = await capture(ns, 'b', { device: 'w1' })
      expect((await stream.send()).error).toBeUndefined()
      const { states } = await stream.stats()
      await stream.close()
      console.log(`a rule by ${what}: ${states.lastPathChange}`)
      expect((await wire.stop()).length).toBeGreaterThan(0)
      expect(states).toMatchObject({ interface: 'w0', pathChanges: 1 })
    }
  })
