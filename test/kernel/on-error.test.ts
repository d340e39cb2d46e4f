/**
 * Packets that the kernel refuses for a while, under each policy of onError: compared with the wire, where none may be missing or there twice.
 * docs/outcomes.md has a row for each.
 */
import { spawnSync } from 'node:child_process'
import { expect, type TestContext, test } from 'vitest'
import type { StreamOptions } from '#dist/src/index.js'
import { CLI } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable, type VethOptions } from '../support/netns.js'
import { capture, listen, packetsOfHeaps, RemoteStream, type RunReport } from '../support/remote-stream.js'
import { testOnPaths } from '../support/udp-paths.js'

const V4 = '10.77.0.2'
const V6 = '[fd77::2]'
const PACKET = 1048
const HEAPS = 4
const SENDS = 6
const VETH: VethOptions = { mtu: 1500, gsoMaxSegs: 1, a: ['10.77.0.1/24', 'fd77::1/64'], b: [`${V4}/24`, 'fd77::2/64'] }
const PATIENT = { policy: 'retry', forSeconds: 30 } as const
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

async function namespaces(ctx: TestContext): Promise<Netns> {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spawnSync('nft', ['--version']).status === 0, 'needs nft (package nftables)')
  const ns = await makeNetns({ veth: VETH })
  for (const where of ['a', 'b'] as const)
    await ns.exec(where, [
      'sh',
      '-c',
      'echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad; echo 1 > /proc/sys/net/ipv6/conf/all/keep_addr_on_down',
    ])
  await listen(ns, 7148)
  return ns
}

const nft = (ns: Netns, input: string) => ns.exec('a', ['nft', '-f', '-'], { input })
const forbid = (ns: Netns, port: number) =>
  nft(
    ns,
    `add table inet t\nadd chain inet t out { type filter hook output priority 0 ; }\nadd rule inet t out udp dport ${port} drop\n`,
  )
const allow = (ns: Netns) => nft(ns, 'delete table inet t\n')

/** Sends that are under way together, each of its own memory. */
const burst = (stream: RemoteStream, sends = SENDS, heaps = HEAPS) => stream.burst({ heaps, bytes: 5000, batches: sends, sends })

/** All heaps from `firstCnt` on are on the wire, whole and once. */
function expectWhole(report: RunReport, seen: Map<number, number>, packetsPerHeap: number, heaps = SENDS * HEAPS): void {
  expect(report.failed.map(([, { message }]) => message)).toEqual([])
  const firstCnt = Math.min(...report.statuses.map(([, cnt]) => cnt))
  const missing = Array.from({ length: heaps }, (_, j) => firstCnt + j).filter((cnt) => seen.get(cnt) !== packetsPerHeap)
  expect(missing).toEqual([])
}

interface Trouble {
  readonly what: string
  readonly to: string
  readonly begin: (ns: Netns) => unknown
  readonly end: (ns: Netns) => unknown
  /** Its errno, where the time of the policy is over. */
  readonly errno: string
  /** On each path to the kernel. */
  readonly onPaths?: true
}

const TROUBLES: readonly Trouble[] = [
  {
    what: 'a firewall forbids packets (EPERM)',
    to: V4,
    begin: (ns) => forbid(ns, 7148),
    end: allow,
    errno: 'EPERM',
    onPaths: true,
  },
  { what: 'a firewall forbids packets (EPERM), IPv6', to: V6, begin: (ns) => forbid(ns, 7148), end: allow, errno: 'EPERM' },
  {
    what: 'the link is set down',
    to: V4,
    begin: (ns) => ns.ip('a', 'link set v0 down'),
    end: (ns) => ns.ip('a', 'link set v0 up'),
    errno: 'ENETUNREACH',
  },
  {
    what: 'the link is set down, IPv6',
    to: V6,
    begin: (ns) => ns.ip('a', 'link set v0 down'),
    end: (ns) => ns.ip('a', 'link set v0 up'),
    errno: 'ENETUNREACH',
  },
  {
    what: 'the link loses its signal',
    to: V4,
    begin: (ns) => {
      ns.ip('b', 'link set v1 down')
      ns.ip('a', 'neigh flush dev v0')
    },
    end: (ns) => ns.ip('b', 'link set v1 up'),
    errno: 'EHOSTUNREACH',
  },
  {
    what: 'the neighbour does not answer',
    to: V4,
    begin: (ns) => {
      ns.ip('b', `address del ${V4}/24 dev v1`)
      ns.ip('a', 'neigh flush dev v0')
    },
    end: (ns) => ns.ip('b', `address add ${V4}/24 dev v1`),
    errno: 'EHOSTUNREACH',
  },
  {
    what: 'the neighbour does not answer, IPv6',
    to: V6,
    begin: (ns) => {
      ns.ip('b', 'address del fd77::2/64 dev v1')
      ns.ip('a', 'neigh flush dev v0')
    },
    end: (ns) => ns.ip('b', 'address add fd77::2/64 dev v1 nodad'),
    errno: 'EHOSTUNREACH',
  },
  {
    what: 'the route leads nowhere',
    to: V4,
    begin: (ns) => ns.ip('a', `route add unreachable ${V4}/32`),
    end: (ns) => ns.ip('a', `route del unreachable ${V4}/32`),
    errno: 'EHOSTUNREACH',
  },
  {
    what: 'the source address is deleted',
    to: V4,
    begin: (ns) => ns.ip('a', 'address del 10.77.0.1/24 dev v0'),
    end: (ns) => ns.ip('a', 'address add 10.77.0.1/24 dev v0'),
    errno: 'ENETUNREACH',
  },
  {
    what: 'the source address is deleted, IPv6',
    to: V6,
    begin: (ns) => ns.ip('a', 'address del fd77::1/64 dev v0'),
    end: (ns) => ns.ip('a', 'address add fd77::1/64 dev v0 nodad'),
    errno: 'ENETUNREACH|EADDRNOTAVAIL',
  },
  {
    what: 'a queue lets no packet through (ENOBUFS)',
    to: V4,
    begin: (ns) => ns.tc('a', 'qdisc add dev v0 root tbf rate 80mbit burst 500 limit 20000'),
    end: (ns) => ns.tc('a', 'qdisc del dev v0 root'),
    errno: 'ENOBUFS',
  },
]

for (const { what, to, begin, end, errno, onPaths } of TROUBLES) {
  const title = `${what} for a while: with 'retry' all heaps go, whole, once, in order; then the time is over`
  const body = async (ctx: TestContext, open = RemoteStream.open) => {
    await using ns = await namespaces(ctx)
    const wire = await capture(ns, 'b')
    const stream = await open(ns, { to: `${to}:7148`, packetSizeBytes: PACKET, onError: PATIENT })
    const { packetsPerHeap } = await stream.batch({ heaps: HEAPS, bytes: 5000 })
    expect((await stream.send()).error).toBeUndefined()
    await begin(ns)
    // What was taken before the kernel noticed may be lost, and is suspect.
    await sleep(100)
    const sent = burst(stream)
    await sleep(400)
    await end(ns)
    const report = await sent
    const { heapsFailed, heapsRetried, packetsRetried } = await stream.stats()

    // Nobody mends it this time.
    await stream.reopen({ to: `${to}:7148`, packetSizeBytes: PACKET, onError: { policy: 'retry', forSeconds: 0.3 } })
    await stream.batch({ heaps: HEAPS, bytes: 5000 })
    const packets = await wire.stop()
    await begin(ns)
    await sleep(100)
    const { error } = await stream.send()
    await end(ns)
    await stream.close()

    expectWhole(report, packetsOfHeaps(packets), packetsPerHeap)
    const places = packets.map(({ cnt, payloadOffset }) => cnt * 2 ** 16 + payloadOffset)
    expect(places).toEqual(places.toSorted((a, b) => a - b))
    expect(heapsFailed).toBe(0)
    expect(error!.outcome).toMatchObject({ heaps: ['failed', 'failed', 'failed', 'failed'] })
    expect(error!.outcome!.causes.map(({ errnoName }) => errnoName).join()).toMatch(new RegExp(errno))
    console.log(
      `onError, ${what}: ${report.sent} sends whole, ${heapsRetried} heaps and ${packetsRetried} packets again; ${error!.message}`,
    )
  }
  if (onPaths) testOnPaths(title, body)
  else test(title, (ctx) => body(ctx))
}

const BACKENDS: readonly { readonly what: string; readonly options: Partial<StreamOptions> }[] = [
  { what: 'udp, worker', options: {} },
  { what: 'udp, inline', options: { thread: 'inline' } },
  { what: 'udp, packet by packet', options: { segmentation: 'off' } },
  { what: 'udp, paced', options: { rate: '100MB/s', rateMethod: 'sw' } },
  { what: 'dgram', options: { backend: 'dgram' } },
]

test.for(BACKENDS)(
  "one of 8 endpoints is refused: with 'retry' the other 7 go on meanwhile, $what",
  async ({ what, options }, ctx) => {
    await using ns = await namespaces(ctx)
    const ports = Array.from({ length: 8 }, (_, i) => 7148 + i)
    for (const port of ports.slice(1)) await listen(ns, port)
    const to = ports.map((port) => `${V4}:${port}`)
    const stream = await RemoteStream.open(ns, { to, packetSizeBytes: PACKET, onError: PATIENT, ...options })
    const { packetsPerHeap } = await stream.batch({ heaps: 8, bytes: 5000 })
    await forbid(ns, 7150)
    const wire = await capture(ns, 'b', { ports: '7148-7155' })
    const sent = burst(stream, 40, 8)
    await sleep(700)
    const before = await wire.stop()
    const after = await capture(ns, 'b', { ports: '7148-7155' })
    await allow(ns)
    const report = await sent
    const { heapsSent, heapsFailed, heapsRetried, packetsFailed } = await stream.stats()
    await stream.close()
    const rest = await after.stop()
    // Whole and once, to each endpoint, though only one of them has been heard of since.
    expect(before.filter(({ port }) => port === 7150)).toEqual([])
    expect(before.length).toBe(7 * 40 * packetsPerHeap)
    expect(rest.every(({ port }) => port === 7150)).toBe(true)
    expectWhole(report, packetsOfHeaps([...before, ...rest]), packetsPerHeap, 40 * 8)
    if (options.backend !== 'dgram')
      for (const port of ports) {
        const cnts = [...before, ...rest].filter((packet) => packet.port === port).map(({ cnt }) => cnt)
        expect(cnts).toEqual(cnts.toSorted((a, b) => a - b))
      }
    expect([heapsSent, heapsFailed, packetsFailed]).toEqual([320, 0, 0])
    expect(heapsRetried).toBeGreaterThan(0)
    console.log(
      `onError, ${what}: ${before.length} packets to 7 endpoints while the eighth was refused, ${heapsRetried} heaps retried`,
    )
  },
)

test.for(BACKENDS.filter(({ options }) => !('rate' in options || 'segmentation' in options)))(
  "one of 2 endpoints is refused: with 'skip' no send fails, and the result tells, $what",
  async ({ options }, ctx) => {
    await using ns = await namespaces(ctx)
    await listen(ns, 7149)
    await forbid(ns, 7149)
    const to = [`${V4}:7148`, `${V4}:7149`]
    const stream = await RemoteStream.open(ns, { to, packetSizeBytes: PACKET, onError: ['fail', 'skip'], ...options })
    const { packetsPerHeap } = await stream.batch({ heaps: 4, bytes: 5000 })
    const { ok } = await stream.send()
    expect(ok).toMatchObject({
      heaps: 2,
      skippedHeaps: 2,
      packets: 2 * packetsPerHeap,
      payloadBytes: 10000,
      skipped: { heaps: [1, 3] },
    })
    expect(ok!.skipped!.causes).toMatchObject([{ substream: 1, errnoName: 'EPERM', packets: 2 * packetsPerHeap }])
    await forbid(ns, 7148)
    const { error } = await stream.send()
    expect(error!.outcome!.heaps).toEqual(['failed', 'skipped', 'failed', 'skipped'])
    expect(error!.message).toMatch(/^2 of 2 heaps were not sent whole: /)
    const { heapsSent, heapsFailed, heapsSkipped } = await stream.stats()
    await stream.close()
    expect({ heapsSent, heapsFailed, heapsSkipped }).toEqual({ heapsSent: 2, heapsFailed: 2, heapsSkipped: 4 })
  },
)

test('the command: --on-error skip and retry for a time', async (ctx) => {
  await using ns = await namespaces(ctx)
  await listen(ns, 7149)
  await forbid(ns, 7149)
  const send = async (...args: string[]) => {
    const argv = [
      process.execPath,
      CLI,
      'send',
      `${V4}:7148`,
      `${V4}:7149`,
      '-n',
      '10',
      '-H',
      '2KiB',
      '--descriptors',
      'none',
      '--no-stop',
      '--json',
      ...args,
    ]
    const { code, stdout, stderr } = await ns.exec('a', argv, { check: false })
    const { heaps, heapsFailed, heapsSkipped } = JSON.parse(stdout) as Record<string, number>
    return { code, heaps, heapsFailed, heapsSkipped, stderr }
  }
  expect(await send('--on-error', 'skip')).toMatchObject({
    code: 0,
    heaps: 5,
    heapsFailed: 0,
    heapsSkipped: 5,
    stderr: expect.stringMatching(/EPERM/),
  })
  expect(await send('--on-error', 'retry:200ms')).toMatchObject({ code: 1, heaps: 5, heapsFailed: 5, heapsSkipped: 0 })
  expect(await send()).toMatchObject({ code: 1, heaps: 5, heapsFailed: 5, heapsSkipped: 0 })
  const sent = send('--on-error', 'retry:inf')
  await sleep(1500)
  await allow(ns)
  expect(await sent).toMatchObject({ code: 0, heaps: 10, heapsFailed: 0, heapsSkipped: 0 })
})
