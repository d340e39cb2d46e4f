/** Compares the results of ffi/netlink/route.ts with iproute2's for the same kernel objects, in namespaces made here. */
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'

const HEAD = `
  import { execFileSync } from 'node:child_process'
  import dgram from 'node:dgram'
  import { setTimeout as sleep } from 'node:timers/promises'
  import * as nl from '#dist/ffi/netlink/route.js'
  import { LinkLosses } from '#dist/ffi/netlink/link-losses.js'
  import { LinkWatch } from '#dist/ffi/netlink/link-watch.js'
  import { qdiscs } from '#dist/ffi/netlink/qdisc.js'
  const ip = (...args) => execFileSync('ip', args, { encoding: 'utf8' })
  const b = (...bytes) => Uint8Array.from(bytes)
  const index = (name) => nl.links().find((l) => l.name === name).index
  const poke = async (host, waitMs = 100, size = 1) => {
    const s = dgram.createSocket(host.includes(':') ? 'udp6' : 'udp4')
    await new Promise((done) => s.send(Buffer.alloc(size), 9, host, done))
    s.close()
    await sleep(waitMs)
  }
  const errno = (f) => { try { return f() } catch (e) { return e.name + ' ' + e.errnoName } }
`

const inside = <T>(ns: Netns, code: string) => ns.script<T>('a', HEAD + code)

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
  const ours = await inside<Row[]>(ns, `await poke('${ns.addresses.b.v4}'); out(nl.links())`)
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
  expect(await inside(ns, 'out([errno(() => nl.link(9999)), errno(() => nl.link(0)), nl.link(index("v0")).name])')).toEqual([
    'NativeError ENODEV',
    'NativeError ENODEV',
    'v0',
  ])
})

test('txDropped counts what the interface dropped at transmit', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 1500 } })
  ns.ip('b', 'link set v1 mtu 600') // veth drops at transmit what the peer could not take
  ns.ip('a', 'neighbour add 10.77.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent')
  const [before, first, theirs, second] = await inside<number[]>(
    ns,
    `const dropped = () => nl.link(index('v0')).txDropped
     const before = dropped()
     for (let i = 0; i < 25; i++) await poke('10.77.0.2', 0, 1000)
     await sleep(50)
     const first = dropped()
     const theirs = JSON.parse(ip('-s', '-json', 'link', 'show', 'v0'))[0].stats64.tx.dropped
     out([before, first, theirs, dropped()])`,
  )
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
  const ours = await inside<{ ifindex: number; bytes: string; linkLocal: boolean }[]>(ns, 'out(nl.addresses())')
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
  const r = await inside<Record<string, unknown>>(
    ns,
    `const v0 = index('v0')
     const v6 = (a, last) => { const x = new Uint8Array(16); x[0] = 0xfd; x[1] = a; x[15] = last; return x }
     out({
       v0,
       link: nl.routeTo(4, b(10, 77, 0, 2)),
       gateway: nl.routeTo(4, b(10, 200, 1, 1)),
       via6: nl.routeTo(4, b(10, 201, 1, 1)),
       local: nl.routeTo(4, b(10, 77, 0, 1)),
       multicast: nl.routeTo(4, b(239, 1, 2, 3), { oif: v0 }),
       withSource: nl.routeTo(4, b(10, 77, 0, 2), { source: b(10, 77, 0, 1) }),
       foreignSource: errno(() => nl.routeTo(4, b(10, 77, 0, 2), { source: b(10, 99, 99, 99) })),
       none: errno(() => nl.routeTo(4, b(8, 8, 8, 8))),
       unreachable: errno(() => nl.routeTo(4, b(10, 202, 0, 1))),
       prohibit: errno(() => nl.routeTo(4, b(10, 203, 0, 1))),
       blackhole: errno(() => nl.routeTo(4, b(10, 204, 0, 1))),
       link6: nl.routeTo(6, v6(0x77, 2)),
       gateway6: nl.routeTo(6, v6(0x78, 9)),
       none6: errno(() => nl.routeTo(6, v6(0x80, 1))),
       unreachable6: errno(() => nl.routeTo(6, v6(0x79, 1)).type),
     })`,
  )
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
  const before = await inside<string>(ns, `out(nl.neighbour(4, index('v0'), b(10, 77, 0, 2)).state)`)
  const after = await inside<Record<string, unknown>>(
    ns,
    `const v0 = index('v0'), v6 = new Uint8Array(16)
     v6[0] = 0xfd; v6[1] = 0x77; v6[15] = 2
     await poke('${ns.addresses.b.v4}')
     await poke('${ns.addresses.b.v6}')
     out({
       v4: nl.neighbour(4, v0, b(10, 77, 0, 2)),
       v6: nl.neighbour(6, v0, v6),
       permanent: nl.neighbour(4, v0, b(10, 77, 0, 9)),
       failed: nl.neighbour(4, v0, b(10, 77, 0, 10)),
       badInterface: errno(() => nl.neighbour(4, 9999, b(10, 77, 0, 2))),
     })`,
  )
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
  const [ours, lo, link] = await inside<Record<string, number | boolean>[]>(
    ns,
    `const s = dgram.createSocket('udp4')
     for (let i = 0; i < 60; i++) await new Promise((done) => s.send(Buffer.alloc(1000), 9, '10.77.0.2', done))
     s.close()
     await sleep(100)
     const losses = new LinkLosses()
     const read = (ifindex) => { losses.read(ifindex); const { running, carrierDownCount, txDropped, queueDrops } = losses; return { running, carrierDownCount, txDropped, queueDrops } }
     const none = errno(() => read(9999))
     const lo = read(index('lo'))
     const v0 = read(index('v0'))
     losses.close()
     losses.close()
     out([v0, { ...lo, none }, nl.link(index('v0'))])`,
  )
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
  const { ours, queueing } = await inside<{ ours: Record<string, unknown[]>; queueing: number[] }>(
    ns,
    `const tc = (...args) => execFileSync('tc', ['qdisc', ...args])
     const hex = (n) => (n >>> 16).toString(16) + ':' + ((n & 0xffff) || '').toString(16)
     const told = ({ kind, handle, parent }) => ({ kind, handle: hex(handle), ...(parent === 0xffffffff ? { root: true } : { parent: hex(parent) }) })
     const ours = Object.fromEntries(['lo', 'v0', 'x59'].map((name) => [name, qdiscs(index(name)).map(told)]))
     const losses = new LinkLosses()
     const read = () => { losses.read(index('v0')); return losses.queueing }
     const queueing = [read()]
     await poke('10.77.0.2')
     queueing.push(read())
     tc('replace', 'dev', 'v0', 'parent', '1:1', 'handle', '11:', 'pfifo')
     queueing.push(read())
     tc('del', 'dev', 'v0', 'root')
     queueing.push(read())
     tc('replace', 'dev', 'lo', 'root', 'pfifo')
     queueing.push(read())
     losses.close()
     out({ ours, queueing, none: qdiscs(9999) })`,
  )
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
  const got = await inside<Record<string, unknown>>(
    ns,
    `const v0 = index('v0'), ifb = index('ifb9')
     const watch = new LinkWatch([v0, ifb])
     const until = async (test) => { for (let i = 0; i < 300; i++) { const d = { ...watch.drain(v0) }; if (test(d)) return d; await sleep(10) } return 'nothing came' }
     const r = {}
     r.quiet = { ...watch.drain(v0) }
     ip('link', 'set', 'v0', 'mtu', '1400')
     r.mtu = await until((d) => d.changes > 0)
     ip('neigh', 'add', '10.77.0.9', 'lladdr', '02:00:00:00:00:09', 'dev', 'v0')
     r.neighbourKnown = watch.drain(v0).neighbourLost
     ip('neigh', 'del', '10.77.0.9', 'dev', 'v0')
     r.neighbourLost = (await until((d) => d.neighbourLost)).neighbourLost
     const lossesBefore = nl.link(v0).carrierDownCount
     ip('-n', '${ns.name.b}', 'link', 'set', 'v1', 'down')
     r.lossCountedAtOnce = nl.link(v0).carrierDownCount - lossesBefore
     r.peerDown = (await until((d) => d.carrierLost)).carrierLost
     ip('-n', '${ns.name.b}', 'link', 'set', 'v1', 'up')
     r.back = (await until((d) => d.changes > 0 && nl.link(v0).carrier)).changes > 0
     await sleep(1100)
     watch.drain(v0)
     ip('link', 'set', 'v0', 'down')
     r.ownDown = (await until((d) => d.carrierLost)).carrierLost
     r.drained = { ...watch.drain(v0) }
     ip('link', 'set', 'v0', 'up')
     r.up = (await until((d) => d.changes > 0)).changes > 0
     // a flap so short that the kernel may make one message of it
     await sleep(1100)
     watch.drain(v0)
     ip('-n', '${ns.name.b}', 'link', 'set', 'v1', 'down')
     ip('-n', '${ns.name.b}', 'link', 'set', 'v1', 'up')
     r.flap = (await until((d) => d.carrierLost)).carrierLost
     await sleep(1100)
     watch.drain(v0)
     r.other = { ...watch.drain(ifb) }
     ip('link', 'set', 'ifb9', 'down')
     watch.drain(v0)
     r.otherKept = watch.drain(ifb).carrierLost
     ip('link', 'del', 'v0')
     r.removed = (await until((d) => d.carrierLost)).carrierLost
     watch.close()
     watch.close()
     r.closed = { ...watch.drain(v0) }
     r.noInterface = errno(() => new LinkWatch([9999]))
     out(r)`,
  )
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
  const got = await inside<Record<string, unknown>>(
    ns,
    `import { readdirSync, writeFileSync } from 'node:fs'
     const v0 = index('v0'), fds = () => readdirSync('/proc/self/fd').length
     const before = fds()
     for (let i = 0; i < 20; i++) new LinkWatch([v0]).close()
     for (let i = 0; i < 20; i++) errno(() => nl.link(9999))
     const leaked = fds() - before
     const watch = new LinkWatch([v0])
     // 600 messages of about 1.4 KiB, more than the socket's buffer of 208 KiB takes
     writeFileSync('/tmp/spc-batch-' + process.pid, Array.from({ length: 600 }, (_, i) => 'link set ifb9 alias n' + i).join('\\n') + '\\n')
     ip('-batch', '/tmp/spc-batch-' + process.pid)
     const overrun = { ...watch.drain(v0) }
     const after = { ...watch.drain(v0) }
     watch.close()
     out({ leaked, overrun, after })
     process.on('exit', () => execFileSync('rm', ['-f', '/tmp/spc-batch-' + process.pid]))`,
  )
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
  const got = await inside<[string, boolean, boolean][]>(
    ns,
    `import { PollSet } from '#dist/ffi/wait.js'
     const watches = { 4: new LinkWatch([index('v0')], [b(10, 99, 7, 1), b(10, 99, 7, 200)]), 6: new LinkWatch([], [b(0xfd, 0x77, ...Array(13).fill(0), 2)]) }
     const none = new LinkWatch([index('v0')])
     const poll = new PollSet(1)
     const told = (watch) => {
       poll.reset(); poll.add(watch.fd, 1); poll.wait(0)
       const readable = poll.revents(0) !== 0
       watch.drain(index('v0'))
       const { pathsDoubtful } = watch
       watch.pathsDoubtful = false
       return [readable, pathsDoubtful]
     }
     const rows = []
     for (const w of [...Object.values(watches), none]) told(w)
     for (const [family, command] of [
       [4, 'route add 10.99.0.0/16 via 10.77.0.2'],
       [4, 'route del 10.99.0.0/16'],
       [4, 'route add 10.99.7.128/25 via 10.77.0.2'],
       [4, 'route add 10.99.8.0/24 via 10.77.0.2'],
       [4, 'route add 192.168.0.0/16 via 10.77.0.2'],
       [4, 'route add default via 10.77.0.2'],
       [4, 'route add default via 10.77.0.2 table 77 metric 9'],
       [4, 'rule add to 10.99.0.0/16 table 77'],
       [4, 'neigh add 10.77.0.99 lladdr 02:00:00:00:00:09 dev v0'],
       [4, 'neigh del 10.77.0.99 dev v0'],
       [4, 'address add 10.88.0.2/24 dev ifb9'],
       [4, 'address add fd88::2/64 dev ifb9 nodad'],
       [4, 'nexthop add id 7 via 10.77.0.2 dev v0'],
       [4, 'link add x0 type ifb'],
       [4, 'link del x0'],
       [6, 'route add fd77::/120 via fd88::9'],
       [6, 'route add fd99:1::/32 via fd88::9'],
       [6, 'route add 2000::/3 via fd88::9'],
       [6, 'route add default via fd88::9'],
       [6, 'address add 10.88.0.3/24 dev ifb9'],
       [6, '-6 rule add to fd77::/16 table 77'],
     ]) {
       ip(...command.split(' '))
       rows.push([family + ': ' + command, ...told(watches[family])])
     }
     ip('route', 'add', '10.99.0.0/17', 'via', '10.77.0.2')
     rows.push(['without destinations', ...told(none).slice(1)])
     out(rows)`,
  )
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
    '4: link add x0 type ifb',
    '4: link del x0',
    '6: route add fd77::/120 via fd88::9',
    '6: route add default via fd88::9',
    '6: -6 rule add to fd77::/16 table 77',
  ])
  // A neighbour that is gone wakes too.
  expect(woke.filter((what) => !told.includes(what))).toEqual(['4: neigh del 10.77.0.99 dev v0', 'without destinations'])
})
