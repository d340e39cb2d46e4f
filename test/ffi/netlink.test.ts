/** Compares the results of ffi/netlink/route.ts with iproute2's for the same kernel objects, in namespaces made here. */
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import type { Question } from './netlink.program.js'

const ask = <T>(ns: Netns, question: Question, ...args: string[]) => ns.program<T>('a', 'ffi/netlink', question, ...args)

const mac = (text: string) => text.replaceAll(':', '')

test('links agree with ip -d -s link, field by field', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 9000, gsoMaxSegs: 7 }, sink: { mtu: 4000 } })
  // 60 more interfaces, so that the dump takes several messages a read and several reads.
  for (let i = 0; i < 60; i++) ns.ip('a', `link add x${i} type ifb`)
  type Row = Record<string, number | string | boolean>
  /** The fields of iproute2's JSON that are compared. */
  type LinkRow = {
    readonly [name: string]: unknown
    readonly address: string
    readonly flags: string[]
    readonly linkinfo?: { info_kind: string }
  }
  const ours = await ask<Row[]>(ns, 'links', ns.addresses.b.v4)
  const theirs = JSON.parse(ns.ip('a', '-d -s -json link show')) as LinkRow[]
  expect(ours.length).toBe(63)
  expect(
    ours.map((l) => ({
      ifindex: l.index,
      ifname: l.name,
      mtu: l.mtu,
      address: l.mac,
      operstate: String(l.operstate).toUpperCase(),
      kind: l.kind,
      segs: l.gsoMaxSegments,
      size: l.gsoMaxSizeBytes,
      up: l.up,
      carrier: l.carrier,
      noArp: l.noArp,
      loopback: l.loopback,
      multicast: l.multicast,
      pointToPoint: l.pointToPoint,
    })),
  ).toEqual(
    theirs.map((l) => ({
      ifindex: l.ifindex,
      ifname: l.ifname,
      mtu: l.mtu,
      address: mac(l.address),
      operstate: l.operstate,
      kind: l.linkinfo?.info_kind,
      segs: l.gso_max_segs,
      size: l.gso_max_size,
      up: l.flags.includes('UP'),
      carrier: l.flags.includes('LOWER_UP'),
      noArp: l.flags.includes('NOARP'),
      loopback: l.flags.includes('LOOPBACK'),
      multicast: l.flags.includes('MULTICAST'),
      pointToPoint: l.flags.includes('POINTOPOINT'),
    })),
  )
  const v0 = ours.find((l) => l.name === 'v0')!
  expect(v0).toMatchObject({ mtu: 9000, gsoMaxSegments: 7, kind: 'veth', up: true, carrier: true })
  expect(v0.txPackets).toBeGreaterThan(0)
  expect(await ask(ns, 'oneLink')).toEqual(['NativeError ENODEV', 'NativeError ENODEV', 'v0'])
})

test('txDropped counts what the interface dropped at transmit', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 1500 } })
  ns.ip('b', 'link set v1 mtu 600') // veth drops at transmit what the peer could not take
  ns.ip('a', 'neighbour add 10.77.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent')
  const [before, first, theirs, second] = await ask<number[]>(ns, 'txDropped', ns.addresses.b.v4)
  // IPv6 may send a report of its own in between, hence a range.
  expect(first! - before!).toBeGreaterThanOrEqual(25)
  expect(theirs).toBeGreaterThanOrEqual(first!)
  expect(theirs).toBeLessThanOrEqual(second!)
})

test('addresses agree with ip address, those of a down interface included', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  ns.ip('a', 'link add dark type ifb')
  ns.ip('a', 'address add 10.1.2.3/24 dev dark')
  ns.ip('a', 'address add 10.5.0.1 peer 10.5.0.2 dev dark')
  const ours = await ask<{ ifindex: number; bytes: string; linkLocal: boolean }[]>(ns, 'addresses')
  type Theirs = { ifindex: number; addr_info: { local: string; scope: string }[] }[]
  const theirs = (JSON.parse(ns.ip('a', '-json address show')) as Theirs).flatMap((l) =>
    l.addr_info.map((a) => `${l.ifindex} ${a.scope === 'link'}`),
  )
  expect(ours.map((a) => `${a.ifindex} ${a.linkLocal}`).sort()).toEqual(theirs.sort())
  const have = ours.map((a) => a.bytes)
  expect(have).toContain('0a010203')
  expect(have).toContain('0a050001') // ours, not the peer's
  expect(have).toContain('fd770000000000000000000000000001')
})

test('routes: on the link, through a gateway, local, multicast, with an MTU, refused', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  ns.ip('a', 'route add 10.200.0.0/16 via 10.77.0.2 mtu 1280')
  ns.ip('a', 'route add 10.201.0.0/16 via inet6 fd77::2 dev v0')
  ns.ip('a', 'route add unreachable 10.202.0.0/16')
  ns.ip('a', 'route add prohibit 10.203.0.0/16')
  ns.ip('a', 'route add blackhole 10.204.0.0/16')
  ns.ip('a', '-6 route add fd78::/64 via fd77::2')
  ns.ip('a', '-6 route add unreachable fd79::/64')
  const r = await ask<Record<string, unknown>>(ns, 'routes')
  const ifindex = r.v0
  expect(r).toEqual({
    v0: ifindex,
    link: { type: 'unicast', ifindex, source: '0a4d0001' },
    gateway: { type: 'unicast', ifindex, gateway: '0a4d0002', source: '0a4d0001', mtu: 1280 },
    via6: { type: 'unicast', ifindex, gateway: 'fd770000000000000000000000000002', source: '0a4d0001' },
    local: { type: 'local', ifindex: 1, source: '0a4d0001' },
    multicast: { type: 'multicast', ifindex, source: '0a4d0001' },
    withSource: { type: 'unicast', ifindex },
    foreignSource: expect.stringMatching(/ENETUNREACH|EINVAL/), // EINVAL on older kernels
    none: 'NativeError ENETUNREACH',
    unreachable: 'NativeError EHOSTUNREACH',
    prohibit: 'NativeError EACCES',
    blackhole: 'NativeError EINVAL',
    link6: { type: 'unicast', ifindex, source: 'fd770000000000000000000000000001' },
    gateway6: {
      type: 'unicast',
      ifindex,
      gateway: 'fd770000000000000000000000000002',
      source: 'fd770000000000000000000000000001',
    },
    none6: 'NativeError ENETUNREACH',
    unreachable6: expect.stringMatching(/^(unreachable|NativeError EHOSTUNREACH)$/),
  })
})

test('neighbours: none, reachable with the peer’s MAC, permanent, failed, of both families', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  const peer = mac(JSON.parse(ns.ip('b', '-json link show v1'))[0].address)
  ns.ip('a', 'neighbour add 10.77.0.9 lladdr 02:00:00:00:00:09 dev v0 nud permanent')
  ns.ip('a', 'neighbour add 10.77.0.10 dev v0 nud failed')
  const before = await ask<string>(ns, 'unasked')
  const after = await ask<Record<string, unknown>>(ns, 'neighbours', ns.addresses.b.v4, ns.addresses.b.v6)
  expect(before).toBe('none')
  expect(after).toEqual({
    v4: { state: expect.stringMatching(/^(reachable|delay|stale)$/), mac: peer },
    v6: { state: expect.stringMatching(/^(reachable|delay|stale)$/), mac: peer },
    permanent: { state: 'permanent', mac: '020000000009' },
    failed: { state: 'failed' },
    badInterface: 'NativeError ENODEV',
  })
})

test('LinkLosses: queue drops are what tc says of the root, not of its children again; the rest is what link says', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  ns.tc('a', 'qdisc add dev v0 root handle 1: tbf rate 1mbit burst 2000 limit 4000')
  ns.tc('a', 'qdisc add dev v0 parent 1:1 handle 10: bfifo limit 4000')
  ns.ip('a', 'neighbour add 10.77.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent')
  for (let i = 0; i < 60; i++) ns.ip('a', `link add x${i} numtxqueues 8 type ifb`)
  const [ours, lo, link] = await ask<Record<string, number | boolean>[]>(ns, 'linkLosses', ns.addresses.b.v4)
  type Theirs = { kind: string; root?: boolean; drops: number }[]
  const theirs = JSON.parse(ns.tc('a', '-s -json qdisc show dev v0')) as Theirs
  const root = theirs.find((q) => q.root)!
  expect(theirs.map((q) => q.kind)).toEqual(['tbf', 'bfifo'])
  expect(ours!.queueDrops).toBe(root.drops)
  expect(ours!.queueDrops).toBeGreaterThan(20)
  expect(ours!.queueDrops).toBeLessThan(60)
  const { txDropped, carrierDownCount } = link!
  expect(ours).toMatchObject({ running: true, txDropped, carrierDownCount })
  expect(lo).toEqual({
    running: true,
    carrierDownCount: 0,
    txDropped: 0,
    queueDrops: 0,
    none: 'NativeError ENODEV',
  })
})

test('qdiscs are those that tc shows, and LinkLosses notices when they are replaced', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  for (let i = 0; i < 60; i++) ns.ip('a', `link add x${i} numtxqueues 8 type ifb`)
  ns.ip('a', 'link set x59 up')
  ns.tc('a', 'qdisc replace dev x59 root handle 7: mq')
  ns.tc('a', 'qdisc add dev v0 root handle 1: tbf rate 1mbit burst 2000 limit 4000')
  ns.tc('a', 'qdisc add dev v0 parent 1:1 handle 10: bfifo limit 4000')
  const { ours, queueing } = await ask<{ ours: Record<string, unknown[]>; queueing: number[] }>(ns, 'queueing', ns.addresses.b.v4)
  const theirs = JSON.parse(ns.tc('a', '-json qdisc show dev x59')) as Record<string, unknown>[]
  expect(ours.x59).toEqual(theirs.map(({ kind, handle, root, parent }) => ({ kind, handle, ...(root ? { root } : { parent }) })))
  expect(ours.v0).toEqual([
    { kind: 'tbf', handle: '1:', root: true },
    { kind: 'bfifo', handle: '10:', parent: '1:1' },
  ])
  expect(ours.lo).toEqual([{ kind: 'noqueue', handle: '0:', root: true }])
  expect(ours.x59!.length).toBe(9)
  const [first, ...others] = queueing
  expect(others[0]).toBe(first)
  expect(new Set(others.slice(0, 3)).size).toBe(3)
  expect(others[3]).toBe(others[2])
})

test('LinkWatch sees own link down, peer link down, removal; not what does not touch the carrier', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {}, sink: {} })
  const got = await ask<Record<string, unknown>>(ns, 'linkWatch', ns.name.b)
  expect(got).toEqual({
    quiet: { carrierLost: false, changes: 0, neighbourLost: false },
    mtu: { carrierLost: false, changes: expect.any(Number), neighbourLost: false },
    neighbourKnown: false,
    neighbourLost: true,
    lossCountedAtOnce: 1,
    peerDown: true,
    back: true,
    ownDown: true,
    drained: { carrierLost: false, changes: 0, neighbourLost: false },
    up: true,
    flap: true,
    other: { carrierLost: false, changes: 0, neighbourLost: false },
    otherKept: true,
    removed: true,
    closed: { carrierLost: false, changes: 0, neighbourLost: false },
    noInterface: 'NativeError ENODEV',
  })
})

test('LinkWatch doubts everything when the kernel dropped messages, and leaves no descriptor behind', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {}, sink: {} })
  const got = await ask<Record<string, unknown>>(ns, 'overrun')
  expect(got).toEqual({
    leaked: 0,
    overrun: { carrierLost: true, changes: expect.any(Number), neighbourLost: true },
    after: { carrierLost: false, changes: 0, neighbourLost: false },
  })
})

test('LinkWatch tells of what may change the path to its destinations, and the kernel keeps back the rest', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {}, sink: {} })
  ns.ip('a', 'address add 10.88.0.1/24 dev ifb9')
  ns.ip('a', 'address add fd88::1/64 dev ifb9 nodad')
  const got = await ask<[string, boolean, boolean][]>(ns, 'pathWatch')
  const told = got.filter(([, , doubtful]) => doubtful).map(([what]) => what)
  const woke = got.filter(([, readable]) => readable).map(([what]) => what)
  expect(told).toEqual([
    '4: route add 10.99.0.0/16 via 10.77.0.2',
    '4: route del 10.99.0.0/16',
    '4: route add 10.99.7.128/25 via 10.77.0.2',
    '4: route add default via 10.77.0.2',
    '4: route add default via 10.77.0.2 table 77 metric 9',
    '4: rule add to 10.99.0.0/16 table 77',
    '4: address add 10.88.0.2/24 dev ifb9',
    '4: nexthop add id 7 via 10.77.0.2 dev v0',
    '6: route add fd77::/120 via fd88::9',
    '6: route add default via fd88::9',
    '6: -6 rule add to fd77::/16 table 77',
  ])
  // A neighbour that is gone wakes too.
  expect(woke.filter((what) => !told.includes(what))).toEqual([
    '4: neigh del 10.77.0.99 dev v0',
    '4: link add x0 type ifb',
    '4: link del x0',
  ])
})

test('LinkWatch doubts no path because of an interface that no route to its destinations names', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {}, sink: { addresses: ['10.88.0.1/24'] } })
  const got = await ask<[string, boolean, boolean][]>(ns, 'otherLinks')
  const both = (commands: string[]) => commands.map((command) => `${command}: both`)
  expect(got.flatMap(([what, v4, v6]) => (v4 || v6 ? [`${what}: ${v4 && v6 ? 'both' : v4 ? 'IPv4' : 'IPv6'}`] : []))).toEqual([
    'address add 10.88.7.1/24 dev foo: IPv4',
    'link del foo: IPv4', // its address goes
    ...both(['link set v0 mtu 1400', 'link set v0 alias ours']),
    'route add 10.99.0.0/16 nexthop via 10.77.0.2 dev v0 nexthop via 10.88.0.9 dev ifb9: IPv4',
    // Its first message: nobody knows what it was before.
    'link set ifb9 mtu 1400: IPv4',
    'link set ifb9 down: IPv4',
    'link set ifb9 up: IPv4',
    'link del ifb9: IPv4',
    ...both(['link del v0', 'link add v0 type ifb', 'link set v0 up']),
  ])
})
