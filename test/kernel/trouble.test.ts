/** A kernel's bad days, as a sender meets them. Behind each, the reports are compared with the packets on the wire. */
import { spawnSync } from 'node:child_process'
import { expect } from 'vitest'
import type { BatchOutcome, StreamOptions } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable, type VethOptions } from '../support/netns.js'
import { capture, packetsOfHeaps, type RemoteStream, type RunReport } from '../support/remote-stream.js'
import { testOnPaths } from '../support/udp-paths.js'

const V4 = '10.77.0.2:7148'
const V6 = '[fd77::2]:7148'
/** Fits an MTU of 1500 over both families. */
const PACKET = 1452
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** IPv6 chatter of the interfaces themselves would be counted by queueing disciplines too. */
const SEGMENTING: VethOptions = { mtu: 1500, a: ['10.77.0.1/24'], b: ['10.77.0.2/24'] }
const QUIET: VethOptions = { ...SEGMENTING, gsoMaxSegs: 1 }

async function quiet(ns: Netns): Promise<void> {
  for (const where of ['a', 'b'] as const) await ns.exec(where, ['sh', '-c', 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6'])
}

/**
 * Compares a run's reports with the wire, heap by heap: how many were reported sent and are not whole, in trusted and in suspect batches,
 * and how many were reported failed and have packets there. It is the only batch of its stream, so send n has heap cnts from 1 + n × heaps.
 */
function compare(report: RunReport, wire: Map<number, number>, heaps: number, packetsPerHeap: number) {
  const wrong = { trusted: 0, suspect: 0, failedYetSeen: 0 }
  for (const [n, firstCnt, suspect] of report.statuses) {
    if (firstCnt !== 1 + n * heaps) throw new Error(`send ${n} has heap cnt ${firstCnt}`)
    for (let j = 0; j < heaps; j++) if (wire.get(firstCnt + j) !== packetsPerHeap) wrong[suspect ? 'suspect' : 'trusted']++
  }
  for (const [n, { outcome }] of report.failed)
    for (const [j, status] of outcome!.heaps.entries()) {
      const seen = wire.get(1 + n * heaps + j) ?? 0
      if (status === 'sent' && seen !== packetsPerHeap) wrong[outcome!.suspect ? 'suspect' : 'trusted']++
      if ((status === 'failed' && seen > 0) || (status === 'partial' && seen >= packetsPerHeap)) wrong.failedYetSeen++
    }
  return wrong
}

/** Sends 8 batches of 16 heaps through a tbf of 80 Mb/s that takes bursts of 12000 bytes and holds 20000. */
async function throughSmallTbf(ns: Netns, open: typeof RemoteStream.open, options: Partial<StreamOptions>) {
  await quiet(ns)
  ns.tc('a', 'qdisc add dev v0 root tbf rate 80mbit burst 12000 limit 20000')
  const wire = await capture(ns, 'b')
  const stream = await open(ns, { to: V4, ...options })
  const { packetsPerHeap } = await stream.batch({ heaps: 16, bytes: 7000 })
  const results = []
  for (let i = 0; i < 8; i++) results.push((await stream.send()).ok!)
  const stats = await stream.stats()
  await stream.close()
  const seen = await wire.stop()
  // A super-packet that passes the burst arrives whole: its length tells the packets in it.
  const bytes = seen.reduce((sum, packet) => sum + packet.bytes, 0)
  console.log(
    `tbf: ${stats.packets} packets reported, ${stats.udpBytes} bytes; on the wire ${bytes} bytes; ` +
      `${stats.noBuffers} ENOBUFS, ${stats.states.dropsBelowSocket} drops unexplained, suspect: ${results.map(({ suspect }) => +suspect).join('')}`,
  )
  expect(stats.packets).toBe(8 * 16 * packetsPerHeap)
  return { results, stats, seen, bytes, packetsPerHeap }
}

for (const { what, options, veth } of [
  { what: 'packets', options: { segmentation: 'off' }, veth: QUIET },
  // Messages of at most 8000 bytes pass a burst of 12000 as they are.
  { what: 'segmented messages within the burst', options: { rate: '10GB/s', burstBytes: 8000 }, veth: SEGMENTING },
] as const)
  testOnPaths(`a small tbf has all ${what} wait: they arrive in order, and none is suspect`, async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth })
    const { results, stats, seen, bytes } = await throughSmallTbf(ns, open, options)
    expect(bytes).toBe(stats.udpBytes)
    const places = seen.map(({ cnt, payloadOffset }) => cnt * 2 ** 16 + payloadOffset)
    expect(places).toEqual(places.toSorted((a, b) => a - b))
    expect(stats.noBuffers).toBeGreaterThan(10)
    expect(stats.states.dropsBelowSocket).toBe(0)
    expect(results.some(({ suspect }) => suspect)).toBe(false)
  })

// tbf cuts such messages up and drops the packets that it has no room for, and the sender hears of success.
testOnPaths('a small tbf drops of segmented messages beyond the burst: batches that lost heaps are suspect', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: SEGMENTING })
  const { results, stats, seen, bytes, packetsPerHeap } = await throughSmallTbf(ns, open, {})
  expect(bytes).toBeLessThan(stats.udpBytes)
  expect(stats.states.dropsBelowSocket).toBeGreaterThan(0)
  const arrived = packetsOfHeaps(seen)
  for (const [i, { firstCnt, suspect }] of results.entries()) {
    const lost = Array.from({ length: 16 }, (_, j) => arrived.get(firstCnt + j) !== packetsPerHeap).filter(Boolean).length
    if (lost > 0) expect(suspect || results[i + 1]?.suspect, `batch ${i} lost ${lost} heaps`).toBe(true)
  }
})

testOnPaths('a queue that never lets a packet through fails the heaps with ENOBUFS instead of hanging', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: QUIET })
  const stream = await open(ns, { to: V4 })
  await stream.batch({ heaps: 4, bytes: 4000 })
  ns.tc('a', 'qdisc add dev v0 root tbf rate 80mbit burst 1000 limit 20000')
  const { error } = await stream.send()
  expect(error?.outcome).toMatchObject({
    heaps: ['failed', 'failed', 'failed', 'failed'],
    causes: [{ errnoName: 'ENOBUFS', packets: 12, message: expect.stringMatching(/tc -s qdisc/) }],
  })
  ns.tc('a', 'qdisc del dev v0 root')
  expect((await stream.send()).ok).toMatchObject({ heaps: 4 })
  const { segmentation, segmentationReason } = (await stream.stats()).states
  await stream.close()
  console.log(
    `tbf with a burst below the packet size: ${error!.message}; after it segmentation ${segmentation}: ${segmentationReason}`,
  )
})

testOnPaths('cold neighbour: the first packets are not lost, at open and after the entry was forgotten', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
  for (const to of [V4, V6]) {
    ns.ip('a', 'neigh flush dev v0')
    const wire = await capture(ns, 'b')
    const stream = await open(ns, { to, packetSizeBytes: PACKET })
    const { packetsPerHeap } = await stream.batch({ heaps: 500, bytes: 2 * (PACKET - 100) })
    const results = [await stream.send()]
    for (let i = 0; i < 3; i++) {
      ns.ip('a', 'neigh flush dev v0')
      results.push(await stream.send())
    }
    await stream.close()
    const heaps = packetsOfHeaps(await wire.stop())
    const whole = [...heaps.values()].filter((packets) => packets === packetsPerHeap).length
    console.log(
      `cold neighbour, ${to}: ${results.length} bursts of ${500 * packetsPerHeap} packets at once, ${whole} of 2000 heaps whole`,
    )
    expect(results.map(({ error }) => error)).toEqual([undefined, undefined, undefined, undefined])
    expect(whole).toBe(2000)
  }
})

testOnPaths('own link down and up while sending: nothing reported as sent is missing, and it heals', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  for (const to of [V4, V6]) {
    await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
    const wire = await capture(ns, 'b')
    const stream = await open(ns, { to, packetSizeBytes: PACKET, rate: '40MB/s' })
    const { packetsPerHeap } = await stream.batch({ heaps: 20, bytes: 7000 })
    const running = stream.run({ seconds: 10, gapMs: 1 })
    await sleep(250)
    ns.ip('a', 'link set v0 down')
    await sleep(150)
    ns.ip('a', 'link set v0 up')
    // The kernel drops IPv6 addresses with the link.
    if (to === V6) ns.ip('a', 'address add fd77::1/64 dev v0 nodad')
    await sleep(to === V6 ? 1800 : 400)
    await stream.stop()
    const report = await running
    await stream.close()
    const heaps = packetsOfHeaps(await wire.stop())
    const wrong = compare(report, heaps, 20, packetsPerHeap)
    const errnos = new Set(
      report.failed.flatMap(([, { outcome }]) => outcome?.causes.map(({ errnoName }) => errnoName) ?? ['none']),
    )
    console.log(
      `own link, ${to}: ${report.sent} batches sent (${report.suspect} suspect), ${report.failed.length} failed with ${[...errnos]}; ` +
        `heaps reported sent and not whole on the wire: ${wrong.trusted}, in suspect batches ${wrong.suspect}; reported failed and seen: ${wrong.failedYetSeen}`,
    )
    expect(wrong).toMatchObject({ trusted: 0, failedYetSeen: 0 })
    expect(report.failed.length).toBeGreaterThan(0)
    expect(errnos).toContain('ENETUNREACH')
    // It goes on after the link is back: the last batches are whole.
    expect(report.statuses.at(-1)![0]).toBeGreaterThan(report.sent)
  }
})

testOnPaths('peer link down: suspect, then refused, then it heals', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
  const wire = await capture(ns, 'b')
  const stream = await open(ns, { to: V4, neighbourTimeoutMs: 1100 })
  const { packetsPerHeap } = await stream.batch({ heaps: 2, bytes: 7000 })
  expect((await stream.send()).ok).toMatchObject({ suspect: false })
  ns.ip('b', 'link set v1 down')
  const down = []
  for (let i = 0; i < 4; i++) down.push(await stream.send())
  const states = (await stream.stats()).states
  ns.ip('b', 'link set v1 up')
  await sleep(20)
  const up = []
  for (let i = 0; i < 3; i++) up.push(await stream.send())
  await stream.close()
  const heaps = packetsOfHeaps(await wire.stop())
  console.log(
    `peer link down: ${down.map(({ ok, error }) => (ok ? `accepted, suspect ${ok.suspect}` : error!.outcome!.causes[0]!.errnoName)).join('; ')}; ` +
      `carrier ${states.carrier}; up again: ${up.map(({ ok, error }) => (ok ? `accepted, suspect ${ok.suspect}` : error!.message)).join('; ')}`,
  )
  // Packets that were taken without a carrier are doubtful, and only they.
  for (const { ok, error } of down) expect(ok?.suspect ?? error?.outcome?.suspect).toBe(true)
  expect(down.at(-1)!.error?.outcome).toMatchObject({ heaps: ['failed', 'failed'], causes: [{ errnoName: 'EHOSTUNREACH' }] })
  expect(states.carrier).toBe(false)
  expect(up.at(-1)!.ok).toMatchObject({ heaps: 2, suspect: false })
  for (const { ok } of up)
    if (ok && !ok.suspect) for (let j = 0; j < 2; j++) expect(heaps.get(ok.firstCnt + j)).toBe(packetsPerHeap)
})

testOnPaths(
  'peer link down behind a neighbour that is known for good: every batch is suspect while it lasts',
  async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: QUIET })
    await quiet(ns)
    const mac = JSON.parse(ns.ip('b', '-json link show v1'))[0].address
    ns.ip('a', `neigh replace 10.77.0.2 lladdr ${mac} dev v0 nud permanent`)
    const wire = await capture(ns, 'b')
    const stream = await open(ns, { to: V4 })
    const { packetsPerHeap } = await stream.batch({ heaps: 2, bytes: 7000 })
    const results = [await stream.send()]
    ns.ip('b', 'link set v1 down')
    for (let i = 0; i < 4; i++) results.push(await stream.send())
    ns.ip('b', 'link set v1 up')
    await sleep(30)
    for (let i = 0; i < 2; i++) results.push(await stream.send())
    await stream.close()
    const heaps = packetsOfHeaps(await wire.stop())
    const whole = results.map(({ ok }) => [0, 1].every((j) => heaps.get(ok!.firstCnt + j) === packetsPerHeap))
    const suspect = results.map(({ ok }) => ok!.suspect)
    console.log(`peer link down, permanent neighbour: whole on the wire ${whole.map(Number)}, suspect ${suspect.map(Number)}`)
    expect(whole).toEqual([true, false, false, false, false, true, true])
    expect(suspect).toEqual([false, true, true, true, true, false, false])
  },
)

testOnPaths('receiver absent: every datagram is on the wire exactly once', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
  // Port unreachables are limited per destination and in all (icmp(7)); without limits every datagram is answered by one.
  await ns.exec('b', [
    'sh',
    '-c',
    'cd /proc/sys/net; echo 0 > ipv4/icmp_ratemask; echo 100000 > ipv4/icmp_msgs_per_sec; echo 100000 > ipv4/icmp_msgs_burst; echo 0 > ipv6/icmp/ratelimit',
  ])
  for (const [to, segmentation] of [
    [V4, 'auto'],
    [V4, 'off'],
    [V6, 'auto'],
    [V6, 'off'],
    [[V4, '10.77.0.2:7149'], 'off'],
  ] as const) {
    const wire = await capture(ns, 'b', { ports: '7148-7149' })
    const stream = await open(ns, { to, segmentation, packetSizeBytes: PACKET })
    const { packetsPerHeap } = await stream.batch({ heaps: 10, bytes: 4000 })
    for (let i = 0; i < 60; i++) expect((await stream.send()).error).toBeUndefined()
    const stats = await stream.stats()
    await stream.close()
    const heaps = packetsOfHeaps(await wire.stop())
    console.log(
      `receiver absent, ${to}, segmentation ${segmentation}: ${stats.packets} packets reported, ${[...heaps.values()].reduce((a, b) => a + b, 0)} on the wire, ` +
        `${stats.reposts} posted again, ${stats.queuedErrors} ICMP errors read`,
    )
    expect(heaps.size).toBe(600)
    expect(new Set(heaps.values())).toEqual(new Set([packetsPerHeap]))
    if (typeof to === 'string') expect(stats.reposts + stats.portUnreachable).toBeGreaterThan(10)
  }
})

testOnPaths('a send buffer of 4 KiB waits for writability and loses nothing', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
  // A queue with room for all: only the socket's buffer is full.
  ns.tc('a', 'qdisc add dev v0 root tbf rate 50mbit burst 9000 limit 10000000')
  for (const segmentation of ['auto', 'off'] as const) {
    const wire = await capture(ns, 'b')
    const stream = await open(ns, { to: V4, segmentation, sendBufferBytes: 4096 })
    const { packetsPerHeap } = await stream.batch({ heaps: 20, bytes: 7000 })
    for (let i = 0; i < 5; i++) expect((await stream.send()).error).toBeUndefined()
    const stats = await stream.stats()
    await stream.close()
    const heaps = packetsOfHeaps(await wire.stop())
    console.log(
      `send buffer of ${stats.states.sendBufferBytes}, segmentation ${segmentation}: ${stats.packets} packets, ${stats.waits} waits, ` +
        `${[...heaps.values()].reduce((a, b) => a + b, 0)} on the wire`,
    )
    expect(stats.states.sendBufferBytes).toBe(4096)
    expect(stats.waits).toBeGreaterThan(5)
    expect(heaps.size).toBe(100)
    expect(new Set(heaps.values())).toEqual(new Set([packetsPerHeap]))
  }
})

testOnPaths('one dead endpoint among eight: the other seven complete, and the cause names the substream', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  const addresses = Array.from({ length: 8 }, (_, i) => `10.77.0.${2 + i}/24`)
  await using ns = await makeNetns({
    veth: { mtu: 1500, gsoMaxSegs: 1, a: ['10.77.0.1/24'], b: addresses.filter((_, i) => i !== 5) },
  })
  for (const groupMode of ['serial', 'round-robin'] as const) {
    ns.ip('a', 'neigh flush dev v0')
    const wire = await capture(ns, 'b')
    const to = addresses.map((address) => address.replace('/24', ':7148'))
    const stream = await open(ns, { to, neighbourTimeoutMs: 200 })
    await stream.batch({ heaps: 24, bytes: 5000, groupMode })
    const outcomes: BatchOutcome[] = []
    for (let i = 0; i < 5; i++) outcomes.push((await stream.send()).error!.outcome!)
    const stats = await stream.stats()
    // Somebody answers for the address after all.
    ns.ip('b', 'address add 10.77.0.7/24 dev v1')
    await sleep(1200)
    const healed = await stream.send()
    await stream.close()
    ns.ip('b', 'address del 10.77.0.7/24 dev v1')
    const heaps = packetsOfHeaps(await wire.stop())
    for (const [i, { failedHeaps, causes, heaps: statuses }] of outcomes.entries()) {
      expect(failedHeaps).toEqual([5, 13, 21])
      expect(causes).toMatchObject([{ substream: 5, errnoName: 'EHOSTUNREACH', packets: 12, message: /10\.77\.0\.7:7148.*v0/ }])
      for (const [j, status] of statuses.entries()) {
        expect(status).toBe(j % 8 === 5 ? 'failed' : 'sent')
        expect(heaps.get(1 + i * 24 + j)).toBe(status === 'sent' ? 4 : undefined)
      }
    }
    expect(stats.states.substreamsWithoutNeighbour).toBe(1)
    expect(healed.ok).toMatchObject({ heaps: 24 })
    console.log(
      `dead endpoint among eight, ${groupMode}: ${stats.heapsSent} heaps of 7 substreams on the wire, ${stats.heapsFailed} failed: ` +
        `${outcomes[0]!.causes[0]!.message}; healed when it answered`,
    )
  }
})

testOnPaths(
  'while a rule forbids packets or no route leads anywhere, a paced stream fails as many as it would have sent',
  async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    need(ctx, spawnSync('nft', ['--version']).status === 0, 'needs nft (package nftables)')
    const heaps = 8
    const bytes = 8192
    const rate = 12.5e6
    await using ns = await makeNetns({ veth: { mtu: 9000 } })
    const nft = (rule: string) => ns.exec('a', ['nft', ...rule.split(' ')])
    await nft('add table inet t')
    await nft('add chain inet t out { type filter hook output priority 0 ; }')
    for (const { backend, outage } of [
      { backend: 'udp', outage: 'rule' },
      { backend: 'udp', outage: 'route' },
      { backend: 'dgram', outage: 'rule' },
    ] as const) {
      const stream = await open(ns, { to: V4, backend, rate, packetSizeBytes: 8972 })
      await stream.batch({ heaps, bytes })
      const running = stream.run({ seconds: 30 })
      await sleep(300)
      const before = performance.now()
      if (outage === 'rule') await nft('add rule inet t out udp dport 7148 drop')
      else ns.ip('a', 'route flush dev v0')
      await sleep(500)
      if (outage === 'rule') await nft('flush chain inet t out')
      else ns.ip('a', 'route add 10.77.0.0/24 dev v0 src 10.77.0.1')
      const seconds = (performance.now() - before) / 1000
      await sleep(300)
      await stream.stop()
      const { failed } = await running
      const { heapsFailed, heapsSent, udpBytes } = await stream.stats()
      await stream.close()
      const heapBytes = udpBytes / heapsSent
      // A burst more, and what the burst rate makes up for. A machine that is busy sends less and fails less.
      const most = (1.05 * rate * seconds + 65536) / heapBytes + 1
      console.log(
        `${backend}, ${outage} for ${seconds.toFixed(2)} s: ${heapsFailed} heaps failed, ${most.toFixed(0)} at most, ${heapsSent} sent`,
      )
      expect(failed.length).toBeGreaterThan(0)
      expect(heapsFailed).toBeGreaterThan(most / 10)
      expect(heapsFailed).toBeLessThanOrEqual(most)
    }
  },
)

testOnPaths(
  'a firewall rule (EPERM) and a route deleted (ENETUNREACH) fail what they concern, until they are gone',
  async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    need(ctx, spawnSync('nft', ['--version']).status === 0, 'needs nft (package nftables)')
    for (const [first, second, family] of [
      [V4, '10.77.0.2:7149', '-4'],
      [V6, '[fd77::2]:7149', '-6'],
    ] as const) {
      await using ns = await makeNetns({ veth: { mtu: 1500, gsoMaxSegs: 1 } })
      const nft = (rule: string) => ns.exec('a', ['nft', ...rule.split(' ')])
      await nft('add table inet t')
      await nft('add chain inet t out { type filter hook output priority 0 ; }')
      const wire = await capture(ns, 'b', { ports: '7148-7149' })
      const stream = await open(ns, { to: [first, second], packetSizeBytes: PACKET })
      await stream.batch({ heaps: 6, bytes: 5000 })
      const before = await stream.send()
      await nft('add rule inet t out udp dport 7149 drop')
      const forbidden = await stream.send()
      await nft('flush chain inet t out')
      const allowed = await stream.send()
      const routes = ns
        .ip('a', `${family} route show dev v0`)
        .split('\n')
        .filter((line) => /^(10\.77|fd77)/.test(line))
      ns.ip('a', `${family} route flush dev v0`)
      const unreachable = await stream.send()
      for (const route of routes) ns.ip('a', `${family} route add ${route.replace(/ (linkdown|pref \w+)/g, '')} dev v0`)
      const reachable = await stream.send()
      await stream.close()
      const heaps = packetsOfHeaps(await wire.stop())
      for (const { ok } of [before, allowed, reachable]) expect(ok).toMatchObject({ heaps: 6, packets: 24 })
      expect(forbidden.error!.outcome).toMatchObject({
        heaps: ['sent', 'failed', 'sent', 'failed', 'sent', 'failed'],
        causes: [{ substream: 1, errnoName: 'EPERM', packets: 12, message: /7149: a firewall rule forbids it/ }],
      })
      expect(unreachable.error!.outcome).toMatchObject({
        heaps: Array(6).fill('failed'),
        causes: [
          { substream: 0, errnoName: 'ENETUNREACH', packets: 12 },
          { substream: 1, errnoName: 'ENETUNREACH', packets: 12 },
        ],
      })
      const seen = [...heaps.keys()].sort((a, b) => a - b)
      const all = [1, 2, 3, 4, 5, 6]
      expect(seen).toEqual([...all, 7, 9, 11, ...all.map((j) => 12 + j), ...all.map((j) => 24 + j)])
      expect(new Set(heaps.values())).toEqual(new Set([4]))
      console.log(
        `${first}: ${forbidden.error!.message} | ${unreachable.error!.message} | 21 heaps on the wire, those reported sent`,
      )
    }
  },
)
