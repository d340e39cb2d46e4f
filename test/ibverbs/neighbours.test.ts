/**
 * The MAC in a frame. The backend does what the kernel does for sockets, and the peer's kernel takes a packet only if its MAC is
 * right.
 */
import { expect, test } from 'vitest'
import type { StreamOptions } from '#dist/src/index.js'
import { makeNetns, type Netns, waitForOutput } from '../support/netns.js'
import { Nic, needNic, openOn, sleep, statusesOf } from '../support/nic.js'
import { peerScript } from '../support/peer.js'

const V4 = '10.77.0.2:7148'
const V6 = '[fd77::2]:7148'
const OPTIONS: StreamOptions = { to: V4, packetSizeBytes: 1048 }
const NEW_MAC = '02:00:00:00:77:02'

/** UDP sockets in namespace b, at ports 7148 and 7149, that count the packets of each heap cnt (SPEAD-64-48). */
async function startSockets(ns: Netns): Promise<() => Promise<Map<number, number>>> {
  const child = ns.spawn('b', ['python3', peerScript('heap_counts.py'), '7148', '7149'], { stdio: ['pipe', 'pipe', 'inherit'] })
  let text = ''
  child.stdout!.on('data', (piece) => {
    text += piece
  })
  const closed = new Promise<void>((resolve) => child.once('close', () => resolve()))
  await waitForOutput(child, /ready\n/)
  return async () => {
    child.stdin!.end()
    await closed
    return new Map(JSON.parse(text.trim().split('\n').at(-1)!) as [number, number][])
  }
}

const cntsOf = (seen: Map<number, number>, packets: number) => [...seen].filter(([, n]) => n === packets).map(([cnt]) => cnt)

test('nobody answers: refused, not sent to nowhere; and sent when somebody does', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { a: ['10.77.0.1/24'], b: ['10.77.0.2/24'] } })
  const nic = new Nic()
  const stop = await startSockets(ns)
  const stream = await openOn(nic, ns, { ...OPTIONS, to: [V4, '10.77.0.3:7148'], neighbourTimeoutMs: 200 })
  await stream.batch({ heaps: 4, bytes: 5000 })
  for (let i = 0; i < 2; i++) {
    const { error } = await stream.send()
    expect(error!.outcome).toMatchObject({
      heaps: ['sent', 'failed', 'sent', 'failed'],
      causes: [
        {
          substream: 1,
          errnoName: 'EHOSTUNREACH',
          packets: 10,
          message: expect.stringMatching(/10\.77\.0\.3:7148: nobody answers/),
        },
      ],
    })
  }
  expect((await stream.stats()).states.substreamsWithoutNeighbour).toBe(1)
  ns.ip('b', 'address add 10.77.0.3/24 dev v1')
  await sleep(1200)
  expect(statusesOf(await stream.send(), 4)).toEqual(Array(4).fill('sent'))
  await stream.close()
  expect(cntsOf(await stop(), 5).sort((a, b) => a - b)).toEqual([1, 3, 5, 7, 9, 10, 11, 12])
  nic.cleanReport()
})

test('a neighbour forgotten and found with another MAC while a batch is under way: its later packets have the new one', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const nic = new Nic()
  const stop = await startSockets(ns)
  const stream = await openOn(nic, ns, { ...OPTIONS, ibverbs: { queueDepth: 16 } })
  const small = Array.from({ length: 8 }, (_, i) => `small ${i}`)
  for (const name of small) await stream.batch({ name, heaps: 1, bytes: 100 })
  await stream.batch({ name: 'long', heaps: 20, bytes: 5000 })
  await nic.command('stall')
  // When the eighth small batch completes, the stream looks for changes. Part of the long batch is posted by then.
  const sending = [...small, 'long'].map((name) => stream.send({ name }))
  await sleep(50)
  ns.ip('b', `link set v1 address ${NEW_MAC}`)
  ns.ip('a', 'neigh flush dev v0')
  await nic.command('pace 500', 'resume')
  const results = await Promise.all(sending)
  expect(results.map(({ error }) => error)).toEqual(Array(9).fill(undefined))
  // Packets to the old MAC are lost.
  expect(results.at(-1)!.ok!.suspect || results[7]!.ok!.suspect).toBe(true)
  await nic.command('pace 0')
  expect((await stream.send({ name: 'small 0' })).ok).toMatchObject({ suspect: false })
  await stream.close()
  const whole = cntsOf(await stop(), 5)
  console.log(`ibverbs, MAC changed under way: of the 20 heaps of the batch ${whole.length} arrived`)
  // At most 16 packets were posted before the change.
  for (let cnt = 13; cnt <= 28; cnt++) expect(whole).toContain(cnt)
  nic.cleanReport()
})

for (const [to, family] of [
  [V4, 'ipv4'],
  [V6, 'ipv6'],
] as const)
  test(`${family}: our packets confirm no neighbour, so the kernel is made to ask: a new MAC is found though nobody announces it`, async (ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: {} })
    // An entry ages within seconds instead of half a minute.
    const neigh = `/proc/sys/net/${family}/neigh/v0`
    const settings = { base_reachable_time_ms: 500, delay_first_probe_time: 1, retrans_time_ms: 50 }
    const write = Object.entries(settings).map(([name, value]) => `echo ${value} > ${neigh}/${name}`)
    await ns.exec('a', ['sh', '-c', write.join('; ')])
    const nic = new Nic()
    const stop = await startSockets(ns)
    const stream = await openOn(nic, ns, { ...OPTIONS, to })
    await stream.batch({ heaps: 1, bytes: 100 })
    const running = stream.run({ seconds: 20, gapMs: 10 })
    await sleep(1500)
    ns.ip('b', `link set v1 address ${NEW_MAC}`)
    const states = new Set<string>()
    let found = false
    for (let waited = 0; waited < 10_000 && !found; waited += 100) {
      await sleep(100)
      const [entry] = JSON.parse(ns.ip('a', `-json neigh show ${to.match(/[\d.]{7,}|fd77::2/)![0]} dev v0`)) as {
        state: string[]
        lladdr?: string
      }[]
      states.add(entry?.state[0] ?? 'none')
      found = entry?.lladdr === NEW_MAC
    }
    await sleep(1500)
    await stream.stop()
    const report = await running
    await stream.close()
    const seen = await stop()
    console.log(
      `ibverbs, ${family}, MAC changed in silence: kernel went through ${[...states]}; ${seen.size} of ${report.sent} heaps arrived`,
    )
    expect(found).toBe(true)
    const [, last] = report.statuses.at(-1)!
    for (let cnt = last - 20; cnt < last; cnt++) expect(seen.get(cnt)).toBe(1)
    nic.cleanReport()
  })

test('through a gateway, to a broadcast address, and to multicast groups: the peer’s kernel takes them', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  ns.ip('b', 'address add 10.88.0.1/32 dev lo')
  ns.ip('b', 'address add fd88::1/128 dev lo')
  ns.ip('a', 'route add 10.88.0.0/16 via 10.77.0.2')
  ns.ip('a', '-6 route add fd88::/64 via fd77::2')
  await ns.exec('b', ['sh', '-c', 'echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/v1/rp_filter'])
  for (const to of ['10.88.0.1:7148', '[fd88::1]:7148', '10.77.0.255:7148', '[ff02::1]:7148']) {
    const nic = new Nic()
    const stop = await startSockets(ns)
    const options = { ...OPTIONS, to, interface: 'v0', backend: 'ibverbs' } as const
    const stream = await openOn(nic, ns, options)
    await stream.batch({ heaps: 3, bytes: 5000 })
    expect((await stream.send()).error, to).toBeUndefined()
    await stream.close()
    expect(await stop(), to).toEqual(
      new Map([
        [1, 5],
        [2, 5],
        [3, 5],
      ]),
    )
    nic.cleanReport()
  }
})

test('the interface is deleted under load: no heap is called sent that is not, and closing works', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const nic = new Nic()
  const stop = await startSockets(ns)
  const stream = await openOn(nic, ns, OPTIONS)
  await stream.batch({ heaps: 3, bytes: 5000 })
  const running = stream.run({ seconds: 20, gapMs: 2 })
  await sleep(200)
  ns.ip('a', 'link del v0')
  await sleep(300)
  await stream.stop()
  const report = await running
  await stream.close()
  const seen = await stop()
  for (const [, firstCnt, suspect] of report.statuses)
    if (!suspect) for (let j = 0; j < 3; j++) expect(seen.get(firstCnt + j)).toBe(5)
  for (const [, { outcome, message }] of report.failed) expect(outcome, message).toBeDefined()
  expect(report.statuses.some(([, , suspect]) => suspect) || report.failed.length > 0).toBe(true)
  console.log(
    `ibverbs, interface deleted: ${report.sent} batches sent (${report.suspect} suspect), ${report.failed.length} failed: ${report.failed[0]?.[1].message}`,
  )
  nic.cleanReport()
})
