/** Losses that become known late: packets that queues, routers, filters and IPsec dropped after the kernel had taken them. */
import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { FAR, forward } from '../support/forward.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable, waitForOutput } from '../support/netns.js'
import { capture, listen, packetsOfHeaps, RemoteStream, type RunReport } from '../support/remote-stream.js'
import { testOnPaths } from '../support/udp-paths.js'

const V4 = '10.77.0.2:7148'
const V6 = '[fd77::2]:7148'
/** A classic BPF program for a tc filter: TC_ACT_SHOT for unfragmented UDP over IPv4 to port 7148, TC_ACT_UNSPEC for others. */
const DROP_7148 =
  '11,40 0 0 12,21 0 8 2048,48 0 0 23,21 0 6 17,40 0 0 20,69 4 0 8191,177 0 0 14,72 0 0 16,21 0 1 7148,6 0 0 2,6 0 0 4294967295'

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** Heaps of sends that were reported sent, and not suspect, though they are not whole on the wire. */
function wronglySent({ statuses, failed }: RunReport, wire: Map<number, number>, heaps: number, packetsPerHeap: number): number {
  let wrong = 0
  for (const [, firstCnt, suspect] of statuses)
    for (let j = 0; j < heaps && !suspect; j++) if (wire.get(firstCnt + j) !== packetsPerHeap) wrong++
  for (const [n, { outcome }] of failed)
    for (const [j, status] of outcome!.heaps.entries())
      if (status === 'sent' && !outcome!.suspect && wire.get(1 + n * heaps + j) !== packetsPerHeap) wrong++
  return wrong
}

const packetsIn = (wire: Map<number, number>) => [...wire.values()].reduce((sum, packets) => sum + packets, 0)

testOnPaths('a queue that drops in silence from the first batch on: no batch that lost packets is trusted', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  ns.tc('a', 'qdisc add dev v0 root tbf rate 800mbit burst 12000 limit 20000')
  const wire = await capture(ns, 'b')
  const stream = await open(ns, { to: V4, packetSizeBytes: 8972 })
  const report = await stream.burst({ heaps: 10, bytes: 100 << 10, batches: 4, sends: 40 })
  const stats = await stream.stats()
  await stream.close()
  const arrived = packetsOfHeaps(await wire.stop())
  const packetsPerHeap = stats.packets / 400
  const wrong = wronglySent(report, arrived, 10, packetsPerHeap)
  console.log(
    `tbf: ${packetsIn(arrived)} of ${stats.packets} packets arrived, ${stats.states.dropsBelowSocket} drops seen, ` +
      `${report.suspect} of ${report.sent} batches suspect, ${wrong} heaps wrongly said to be sent`,
  )
  expect(packetsIn(arrived)).toBeLessThan(stats.packets)
  expect(wrong).toBe(0)
  expect(stats).toMatchObject({ droppedBelow: stats.states.dropsBelowSocket, heapsSent: 400, heapsSuspect: 10 * report.suspect })
})

testOnPaths('a queue that drops in silence below a bridge: no batch that lost packets is trusted', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 9000, a: [], b: ['10.77.0.2/24'] } })
  ns.ip('a', 'link add br0 type bridge')
  ns.ip('a', 'link set v0 master br0')
  ns.ip('a', 'link set br0 mtu 9000 up')
  ns.ip('a', 'address add 10.77.0.1/24 dev br0')
  ns.tc('a', 'qdisc add dev v0 root tbf rate 800mbit burst 12000 limit 20000')
  const wire = await capture(ns, 'b')
  const stream = await open(ns, { to: V4, packetSizeBytes: 8972 })
  const report = await stream.burst({ heaps: 10, bytes: 100 << 10, batches: 4, sends: 20 })
  const stats = await stream.stats()
  await stream.close()
  const arrived = packetsOfHeaps(await wire.stop())
  expect(stats.states.interface).toBe('br0')
  expect(packetsIn(arrived)).toBeLessThan(stats.packets)
  expect(wronglySent(report, arrived, 10, stats.packets / 200)).toBe(0)
})

testOnPaths('a tun that nobody reads: every batch is suspect once its queue is full', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ sink: {} })
  const holder = ns.spawn(
    'a',
    [
      'python3',
      '-c',
      'import fcntl, struct, time; f = open("/dev/net/tun", "r+b", 0); fcntl.ioctl(f, 0x400454ca, struct.pack("16sH", b"tun0", 0x1001)); print("ready", flush=True); time.sleep(1000)',
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  await waitForOutput(holder, /ready/)
  ns.ip('a', 'link set tun0 mtu 1500 up')
  ns.ip('a', 'address add 10.66.0.1/24 dev tun0')
  const stream = await open(ns, { to: '10.66.0.2:7148', packetSizeBytes: 1472 })
  const report = await stream.burst({ heaps: 4, bytes: 26_000, batches: 4, sends: 1000 })
  const { packets, states } = await stream.stats()
  await stream.close()
  const trusted = report.statuses.filter(([, , suspect]) => !suspect).length
  console.log(`tun: ${states.dropsBelowSocket} of ${packets} packets dropped, ${trusted} of ${report.sent} batches trusted`)
  // The queue of a tun takes 500 packets (txqueuelen): no more can still be on their way.
  expect(trusted * (packets / 1000)).toBeLessThanOrEqual(500)
})

for (const [family, second, reject] of [
  ['IPv4', V4, 'ip daddr 10.77.0.3 udp dport 7148 reject with icmp type admin-prohibited'],
  ['IPv6', V6, 'ip6 daddr fd77::3 udp dport 7148 reject with icmpv6 type admin-prohibited'],
] as const)
  testOnPaths(`a host that rejects packets (${family}) fails its heaps with the cause, and no others`, async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    need(ctx, spawnSync('nft', ['--version']).status === 0, 'needs nft (package nftables)')
    await using ns = await makeNetns({ veth: { gsoMaxSegs: 1, b: ['10.77.0.2/24', 'fd77::2/64', '10.77.0.3/24', 'fd77::3/64'] } })
    await listen(ns, 7148)
    await ns.exec('b', ['nft', ...'add table inet t'.split(' ')])
    await ns.exec('b', ['nft', ...'add chain inet t in { type filter hook input priority 0 ; }'.split(' ')])
    await ns.exec('b', ['nft', ...`add rule inet t in ${reject}`.split(' ')])
    const rejected = family === 'IPv4' ? '10.77.0.3:7148' : '[fd77::3]:7148'
    const stream = await open(ns, { to: [second, rejected], packetSizeBytes: 1452, rate: '20MB/s' })
    await stream.batch({ heaps: 10, bytes: 7000 })
    const results = []
    for (let i = 0; i < 40; i++) results.push(await stream.send())
    const stats = await stream.stats()
    await stream.close()
    const outcomes = results.map(({ ok, error }) => error?.outcome ?? ok!)
    const failed = results.filter(({ error }) => error).map(({ error }) => error!.outcome!)
    console.log(
      `${family} admin-prohibited: ${stats.queuedErrors} ICMP answers, ${failed.length} of 40 batches failed in part, ` +
        `${outcomes.filter(({ suspect }) => suspect).length} suspect: ${failed.at(-1)?.causes[0]?.message}`,
    )
    expect(stats.queuedErrors).toBeGreaterThan(0)
    // Only packets to the second endpoint fail, and they do so for the whole time but for the trials.
    for (const { heaps, causes } of failed) {
      for (const [j, status] of heaps.entries()) if (j % 2 === 0) expect(status).toBe('sent')
      expect(causes).toHaveLength(1)
      expect(causes[0]).toMatchObject({ substream: 1, message: expect.stringMatching(/prohibit/) })
    }
    expect(failed.at(-1)!.heaps.filter((status) => status === 'failed')).toHaveLength(5)
    // No batch that had packets rejected is trusted: those before the answer could be known are suspect, those after it fail.
    const trusted = results.filter(({ ok }) => ok && !ok.suspect).length
    expect(trusted).toBeLessThanOrEqual(1)
  })

testOnPaths('datagrams to the source port, which nobody reads, do not keep answers away', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  await ns.exec('b', ['sh', '-c', 'cd /proc/sys/net; echo 0 > ipv4/icmp_ratemask; echo 0 > ipv6/icmp/ratelimit'])
  for (const [to, own] of [
    [V4, '10.77.0.1'],
    [V6, 'fd77::1'],
    [[V4, '10.77.0.2:7149'], '10.77.0.1'],
  ] as const) {
    const stream = await open(ns, { to: typeof to === 'string' ? to : [...to], packetSizeBytes: 1452, segmentation: 'off' })
    await stream.batch({ heaps: 10, bytes: 1000 })
    const { sourcePort } = (await stream.stats()).states
    // From the endpoint's own address and port, as a receiver that acknowledges would send them.
    const flood = `
import socket
s = socket.socket(socket.AF_INET6 if ':' in '${own}' else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 7148))
for i in range(2000): s.sendto(bytes(1000), ('${own}', ${sourcePort}))`
    await ns.exec('b', ['python3', '-c', flood])
    for (let i = 0; i < 5; i++) expect((await stream.send()).error).toBeUndefined()
    const { portUnreachable } = await stream.stats()
    await stream.close()
    expect(portUnreachable).toBeGreaterThan(10)
  }
})

testOnPaths('a closed port is counted: the packets arrived where nobody listens', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  await ns.exec('b', ['sh', '-c', 'cd /proc/sys/net; echo 0 > ipv4/icmp_ratemask; echo 0 > ipv6/icmp/ratelimit'])
  for (const to of [V4, V6, [V4, '10.77.0.2:7149']]) {
    const stream = await open(ns, { to, packetSizeBytes: 1452, segmentation: 'off' })
    await stream.batch({ heaps: 10, bytes: 7000 })
    for (let i = 0; i < 20; i++) expect((await stream.send()).error).toBeUndefined()
    const { portUnreachable, queuedErrors } = await stream.stats()
    await stream.close()
    console.log(`closed port, ${to}: port unreachable came back ${portUnreachable} times, of ${queuedErrors} errors`)
    expect(portUnreachable).toBeGreaterThan(10)
    expect(portUnreachable).toBe(queuedErrors)
  }
})

testOnPaths('a router that rejects with "port unreachable": it is not the host that answers so', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spawnSync('nft', ['--version']).status === 0, 'needs nft (package nftables)')
  await using ns = await makeNetns({ veth: {} })
  await forward(ns, 1500)
  for (const rule of [
    'table inet t',
    'chain inet t forward { type filter hook forward priority 0 ; }',
    'rule inet t forward reject',
  ])
    await ns.exec('b', ['nft', 'add', ...rule.split(' ')])
  for (const [to, router] of [
    [`${FAR.v4}:7148`, '10.77.0.2'],
    [`[${FAR.v6}]:7148`, 'fd77::2'],
  ] as const) {
    const stream = await open(ns, { to, packetSizeBytes: 1452, rate: '20MB/s' })
    await stream.batch({ heaps: 10, bytes: 7000 })
    const results = []
    for (let i = 0; i < 30; i++) results.push(await stream.send())
    const { portUnreachable } = await stream.stats()
    await stream.close()
    console.log(`plain reject: ${results.at(-1)!.error?.message}`)
    // The first batch may have settled before the router's answer came.
    expect(results.slice(1).filter(({ ok }) => ok && !ok.suspect)).toEqual([])
    const causes = results.at(-1)!.error!.outcome!.causes
    expect(causes).toMatchObject([
      { errnoName: 'ECONNREFUSED', message: expect.stringContaining(`${router}, which is another host`) },
    ])
    expect(portUnreachable).toBe(0)
  }
})

testOnPaths('a router with a smaller MTU: heaps fail with its MTU, and segmentation stays', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  for (const { far, near, router, fits } of [
    { far: `${FAR.v4}:7148`, near: V4, router: '10.77.0.2', fits: 1472 },
    { far: `[${FAR.v6}]:7148`, near: V6, router: 'fd77::2', fits: 1452 },
  ])
    for (const to of [far, [near, far]]) {
      await using ns = await makeNetns({ veth: { mtu: 9000 } })
      await forward(ns, 1500)
      await listen(ns, 7148)
      const stream = await open(ns, { to, packetSizeBytes: 8900 })
      await stream.batch({ heaps: 8, bytes: 40_000 })
      const results = []
      for (let i = 0; i < 20; i++) {
        results.push(await stream.send())
        await sleep(1)
      }
      const { states } = await stream.stats()
      await stream.close()
      const last = results.at(-1)!.error!.outcome!
      console.log(`path MTU, ${to}: ${results.filter(({ ok }) => ok && !ok.suspect).length} trusted; ${last.causes[0]!.message}`)
      const farOnly = typeof to === 'string'
      expect(last.heaps).toEqual(Array.from({ length: 8 }, (_, j) => (farOnly || j % 2 === 1 ? 'failed' : 'sent')))
      expect(last.causes).toMatchObject([{ substream: farOnly ? 0 : 1, errnoName: 'EMSGSIZE' }])
      for (const part of [router, '1500', `${fits}`]) expect(last.causes[0]!.message).toContain(part)
      expect(states.segmentation).toBe('on')
      // The first batch may have settled before the router's answer came.
      expect(results.slice(1).filter(({ ok }) => ok && !ok.suspect)).toEqual([])
    }
})

testOnPaths('a path MTU that falls in mid-stream', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  await forward(ns, 9000)
  await listen(ns, 7148)
  const stream = await open(ns, { to: [V4, `${FAR.v4}:7148`], packetSizeBytes: 8900 })
  await stream.batch({ heaps: 8, bytes: 40_000 })
  for (let i = 0; i < 5; i++) expect((await stream.send()).ok).toMatchObject({ suspect: false })
  ns.ip('b', 'link set far mtu 4000')
  const results = []
  for (let i = 0; i < 20; i++) {
    results.push(await stream.send())
    await sleep(1)
  }
  ns.ip('b', 'link set far mtu 9000')
  ns.ip('a', 'route flush cache')
  await sleep(50)
  const healed = await stream.send()
  await stream.close()
  expect(results.slice(1).filter(({ ok }) => ok && !ok.suspect)).toEqual([])
  expect(results.at(-1)!.error!.outcome!.causes).toMatchObject([
    { substream: 1, errnoName: 'EMSGSIZE', message: expect.stringMatching(/MTU 4000 .*10\.77\.0\.2.*3972/) },
  ])
  expect(healed.ok).toMatchObject({ heaps: 8 })
})

testOnPaths('a filter that drops one endpoint below the socket does not hold up the others', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  ns.tc('a', 'qdisc add dev v0 clsact')
  await ns.exec('a', ['tc', 'filter', 'add', 'dev', 'v0', 'egress', 'protocol', 'ip', 'bpf', 'da', 'bytecode', DROP_7148])
  const wire = await capture(ns, 'b', { ports: '7148-7149' })
  const stream = await open(ns, { to: [V4, '10.77.0.2:7149'] })
  const { packetsPerHeap } = await stream.batch({ heaps: 10, bytes: 7000 })
  const started = performance.now()
  const results = []
  for (let i = 0; i < 10; i++) results.push(await stream.send())
  const seconds = (performance.now() - started) / 1000
  ns.tc('a', 'qdisc del dev v0 clsact')
  await sleep(1100)
  const healed = [await stream.send(), await stream.send()]
  await stream.close()
  const arrived = packetsOfHeaps(await wire.stop())
  const outcome = results.at(-1)!.error!.outcome!
  console.log(`filtered endpoint: ten batches took ${seconds.toFixed(2)} s; ${outcome.causes[0]!.message}`)
  for (const { error } of results) {
    expect(error!.outcome!.heaps).toEqual(Array.from({ length: 10 }, (_, j) => (j % 2 === 0 ? 'failed' : 'sent')))
    expect(error!.outcome!.causes).toMatchObject([{ substream: 0, errnoName: 'ENOBUFS', message: /tc filter/ }])
  }
  for (let n = 0; n < 10; n++) for (let j = 1; j < 10; j += 2) expect(arrived.get(1 + n * 10 + j)).toBe(packetsPerHeap)
  // A deadlock of its neighbours would be 3 s for each packet: 75 s and more.
  expect(seconds).toBeLessThan(15)
  expect(healed.at(-1)!.ok).toMatchObject({ heaps: 10, suspect: false })
})

test('IPsec: a policy without a state makes batches suspect, and one that blocks is named', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const policy = 'xfrm policy add src 10.77.0.1 dst 10.77.0.2 proto udp dport 7148 dir out'
  try {
    ns.ip('a', 'xfrm policy flush')
  } catch (error) {
    need(ctx, false, `no IPsec here: ${error}`)
  }
  const stream = await RemoteStream.open(ns, { to: V4 })
  await stream.batch({ heaps: 4, bytes: 7000 })
  expect((await stream.send()).ok).toMatchObject({ suspect: false })
  ns.ip('a', `${policy} tmpl src 10.77.0.1 dst 10.77.0.2 proto esp mode transport reqid 1`)
  const lost = []
  for (let i = 0; i < 10; i++) lost.push(await stream.send())
  ns.ip('a', 'xfrm policy flush')
  ns.ip('a', `${policy} action block`)
  const blocked = await stream.send()
  const opening = RemoteStream.open(ns, { to: V4 })
  await expect(opening).rejects.toThrow(/an IPsec policy blocks packets there; look at `ip xfrm policy` \(connect failed: EPERM/)
  ns.ip('a', 'xfrm policy flush')
  const healed = [await stream.send(), await stream.send()]
  await stream.close()
  console.log(
    `IPsec: ${lost.map(({ ok, error }) => (ok ? `suspect ${ok.suspect}` : error!.outcome!.causes[0]!.errnoName)).join(', ')}; ${blocked.error?.message}`,
  )
  expect(lost.map(({ ok }) => ok?.suspect ?? true)).not.toContain(false)
  expect(blocked.error!.outcome!.causes).toMatchObject([{ errnoName: 'EPERM', message: expect.stringMatching(/ip xfrm policy/) }])
  expect(healed.at(-1)!.ok).toMatchObject({ suspect: false })
})
