/**
 * A host that changes under a stream: routes, interfaces and addresses. Behind each change, the reports are compared with the packets on the
 * wires, and the stream goes on.
 */
import { expect, test } from 'vitest'
import type { StreamOptions } from '#dist/src/index.js'
import { CLI } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import { capture, packetsOfHeaps, RemoteStream, type RunReport } from '../support/remote-stream.js'
import { testOnPaths } from '../support/udp-paths.js'
import { claims } from '../support/wire-claims.js'

const PACKET = 1452
const HEAPS = 20
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** v0 and w0 lead to namespace b, which has 10.99.0.1 and fd99::1 behind both. */
async function twoWays(): Promise<Netns> {
  const ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  await secondLink(ns)
  ns.ip('b', 'address add 10.99.0.1/32 dev lo')
  ns.ip('b', 'address add fd99::1/128 dev lo nodad')
  ns.ip('a', 'route add 10.99.0.0/24 via 10.77.0.2')
  ns.ip('a', 'route add fd99::/64 via fd77::2')
  return ns
}

async function secondLink(ns: Netns): Promise<void> {
  ns.ip('a', `link add w0 type veth peer name w1 netns ${ns.name.b}`)
  // While the link-local address is tentative, the kernel asks for no neighbour on account of a packet with another interface's source.
  await ns.exec('a', ['sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/w0/accept_dad'])
  for (const [where, device, host] of [
    ['a', 'w0', 1],
    ['b', 'w1', 2],
  ] as const) {
    ns.ip(where, `link set ${device} gso_max_segs 1 up`)
    ns.ip(where, `address add 10.78.0.${host}/24 dev ${device}`)
    ns.ip(where, `address add fd78::${host}/64 dev ${device} nodad`)
  }
}

/** Until 30 more batches are sent, or some seconds passed. */
async function more(stream: RemoteStream): Promise<void> {
  const goal = (await stream.stats()).heapsSent + 30 * HEAPS
  for (let i = 0; i < 400 && (await stream.stats()).heapsSent < goal; i++) await sleep(20)
}

/** Until heaps fail, or some seconds passed. */
async function refused(stream: RemoteStream): Promise<void> {
  const before = (await stream.stats()).heapsFailed
  for (let i = 0; i < 400 && (await stream.stats()).heapsFailed === before; i++) await sleep(20)
}

interface Run {
  report: RunReport
  packetsPerHeap: number
  wrong: ReturnType<typeof claims>
  /** Packets on each device of namespace b. */
  packets: Record<string, number>
  errnos: string[]
  messages: string[]
  states: Record<string, unknown>
}

/** Sends while `change` happens and for a while before and behind it. */
async function runThrough(
  ns: Netns,
  stream: RemoteStream,
  devices: readonly string[],
  change: () => Promise<void>,
  firstCnt = 1,
): Promise<Run> {
  const wires = await Promise.all(devices.map((device) => capture(ns, 'b', { device, ports: '7148-7149' })))
  const { packetsPerHeap } = await stream.batch({ heaps: HEAPS, bytes: 7000 })
  const running = stream.run({ seconds: 30, gapMs: 1 })
  await more(stream)
  await change()
  await more(stream)
  await stream.stop()
  const report = await running
  const states = (await stream.stats()).states
  await sleep(50)
  const seen = await Promise.all(wires.map((wire) => wire.stop()))
  const wrong = claims(report, packetsOfHeaps(seen.flat()), { heaps: HEAPS, packetsPerHeap, firstCnt })
  const causes = report.failed.flatMap(([, { outcome }]) => outcome?.causes ?? [])
  const run = {
    report,
    packetsPerHeap,
    wrong,
    packets: Object.fromEntries(devices.map((device, i) => [device, seen[i]!.length])),
    errnos: [...new Set(causes.map(({ errnoName }) => errnoName))],
    messages: [...new Set(causes.map(({ message }) => message))],
    states,
  }
  console.log(
    `${report.sent} batches sent (${report.suspect} suspect), ${report.failed.length} failed with ${run.errnos}; packets ${JSON.stringify(run.packets)}; ` +
      `heaps sent and not whole: ${wrong.trusted}, in suspect batches ${wrong.suspect}; failed and seen: ${wrong.failedYetSeen}; ` +
      `${states.pathChanges} path changes: ${states.lastPathChange}; ${run.messages[0] ?? ''}`,
  )
  expect(wrong).toMatchObject({ trusted: 0, failedYetSeen: 0 })
  return run
}

/** The last batches of a run went out whole and are trusted. */
function healed({ report }: Run): void {
  const last = report.statuses.slice(-5)
  expect(last.map(([, , suspect]) => suspect)).toEqual(Array(5).fill(false))
  expect(last[0]![0]).toBeGreaterThan(report.failed.at(-1)?.[0] ?? -1)
}

const SENDING = { packetSizeBytes: PACKET, rate: '40MB/s' } as const

for (const { what, to, before, change } of [
  { what: 'a route', to: '10.99.0.1:7148', before: [], change: ['route replace 10.99.0.0/24 via 10.78.0.2'] },
  { what: 'an IPv6 route', to: '[fd99::1]:7148', before: [], change: ['route replace fd99::/64 via fd78::2'] },
  {
    what: 'a route of several endpoints',
    to: ['10.99.0.1:7148', '10.99.0.1:7149'],
    before: [],
    change: ['route replace 10.99.0.0/24 via 10.78.0.2'],
  },
  {
    what: 'a more specific route',
    to: '10.99.0.1:7148',
    before: [],
    change: ['route add 10.99.0.1/32 via 10.78.0.2'],
  },
  {
    what: 'a policy rule',
    to: '10.99.0.1:7148',
    before: ['route add 10.99.0.0/24 via 10.78.0.2 table 77'],
    change: ['rule add to 10.99.0.0/24 table 77'],
  },
  {
    what: 'a next hop object',
    to: '10.99.0.1:7148',
    before: ['nexthop add id 7 via 10.77.0.2 dev v0', 'route replace 10.99.0.0/24 nhid 7'],
    change: ['nexthop replace id 7 via 10.78.0.2 dev w0'],
  },
  {
    what: 'a multicast route',
    to: '239.1.2.3:7148',
    before: ['route add 239.0.0.0/8 dev v0'],
    change: ['route replace 239.0.0.0/8 dev w0'],
  },
] as const)
  testOnPaths(`${what} that leads elsewhere: the stream follows, and what was under way is suspect`, async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await twoWays()
    for (const command of before) ns.ip('a', command)
    const stream = await open(ns, { ...SENDING, to: typeof to === 'string' ? to : [...to] } as StreamOptions)
    expect((await stream.stats()).states).toMatchObject({ interface: 'v0', pathChanges: 0 })
    const run = await runThrough(ns, stream, ['v1', 'w1'], async () => {
      for (const command of change) ns.ip('a', command)
    })
    await stream.close()
    expect(run.packets.v1).toBeGreaterThan(50)
    expect(run.packets.w1).toBeGreaterThan(50)
    expect(run.report.failed).toEqual([])
    expect(run.states).toMatchObject({ interface: 'w0', pathChanges: 1, lastPathChange: /leaves by w0 .* instead of v0/ })
    healed(run)
  })

for (const [to, dead, alive] of [
  ['10.99.0.1:7148', '10.99.0.0/24 via 10.78.0.77', '10.99.0.0/24 via 10.77.0.2'],
  ['[fd99::1]:7148', 'fd99::/64 via fd78::77', 'fd99::/64 via fd77::2'],
  [['10.99.0.1:7148', '10.99.0.1:7149'], '10.99.0.0/24 via 10.78.0.77', '10.99.0.0/24 via 10.77.0.2'],
] as const)
  testOnPaths(`a route to a next hop that is dead, to ${to}: heaps fail until it leads back`, async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await twoWays()
    const stream = await open(ns, { ...SENDING, to: typeof to === 'string' ? to : [...to], neighbourTimeoutMs: 100 })
    const run = await runThrough(ns, stream, ['v1', 'w1'], async () => {
      ns.ip('a', `route replace ${dead}`)
      await refused(stream)
      ns.ip('a', `route replace ${alive}`)
    })
    await stream.close()
    expect(run.packets.w1).toBe(0)
    expect(run.report.failed.length).toBeGreaterThan(0)
    expect(run.errnos).toEqual(['EHOSTUNREACH'])
    expect(run.messages[0]).toMatch(/nobody answers for \S+, the router on its way, on w0/)
    expect(run.states).toMatchObject({ interface: 'v0', pathChanges: 2 })
    healed(run)
  })

testOnPaths('a batch that was under way while its route changed is suspect, and goes on by the new one', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await twoWays()
  const wires = await Promise.all(['v1', 'w1'].map((device) => capture(ns, 'b', { device })))
  const stream = await open(ns, { to: '10.99.0.1:7148', packetSizeBytes: PACKET, rate: '5MB/s' })
  const { packetsPerHeap } = await stream.batch({ heaps: 700, bytes: 7000 })
  const sending = stream.send()
  await sleep(300)
  ns.ip('a', 'route replace 10.99.0.0/24 via 10.78.0.2')
  const { ok } = await sending
  const next = await stream.send()
  await stream.close()
  const [first, second] = await Promise.all(wires.map((wire) => wire.stop()))
  const heaps = packetsOfHeaps([...first!, ...second!])
  expect(ok).toMatchObject({ suspect: true })
  expect(next.ok).toMatchObject({ suspect: false })
  for (let cnt = 1; cnt <= 1400; cnt++) expect(heaps.get(cnt)).toBe(packetsPerHeap)
  expect(first!.length).toBeLessThan(700 * packetsPerHeap)
  expect(second!.length).toBeGreaterThan(700 * packetsPerHeap)
})

testOnPaths('a thousand endpoints follow one route, and nothing but a few batches is suspect', async (ctx, open) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await twoWays()
  ns.ip('b', 'address add 10.99.0.0/16 dev lo')
  ns.ip('a', 'route replace 10.99.0.0/16 via 10.77.0.2')
  ns.ip('a', 'route del 10.99.0.0/24')
  const wires = await Promise.all(['v1', 'w1'].map((device) => capture(ns, 'b', { device })))
  const stream = await open(ns, { ...SENDING, to: '10.99.0.1+999:7148' })
  const { packetsPerHeap } = await stream.batch({ heaps: 1000, bytes: 1000 })
  const results = [await stream.send()]
  ns.ip('a', 'route replace 10.99.0.0/16 via 10.78.0.2')
  for (let i = 0; i < 6; i++) results.push(await stream.send())
  const { states } = await stream.stats()
  await stream.close()
  const [first, second] = await Promise.all(wires.map((wire) => wire.stop()))
  const heaps = packetsOfHeaps([...first!, ...second!])
  console.log(`a thousand endpoints: suspect ${results.map(({ ok }) => Number(ok!.suspect))}; ${states.lastPathChange}`)
  for (let cnt = 1; cnt <= 7000; cnt++) expect(heaps.get(cnt)).toBe(packetsPerHeap)
  expect(states).toMatchObject({ interface: 'w0', pathChanges: 1, lastPathChange: /and 999 more endpoints$/ })
  expect(results.slice(-3).map(({ ok }) => ok?.suspect)).toEqual([false, false, false])
})

/** Deletes v0, or makes it anew: the same name and addresses, another index. */
function remake(ns: Netns): void {
  ns.ip('a', `link add v0 type veth peer name v1 netns ${ns.name.b}`)
  for (const [where, device, host] of [
    ['a', 'v0', 1],
    ['b', 'v1', 2],
  ] as const) {
    ns.ip(where, `link set ${device} gso_max_segs 1 up`)
    ns.ip(where, `address add 10.77.0.${host}/24 dev ${device}`)
    ns.ip(where, `address add fd77::${host}/64 dev ${device} nodad`)
    ns.ip(where, `address add fe80::${host}/64 dev ${device} nodad`)
  }
  // The kernel may take a second to see the signal, and until then it drops multicast in silence.
  const end = performance.now() + 5000
  while (JSON.parse(ns.ip('a', '-json link show v0'))[0].operstate !== 'UP' && performance.now() < end);
}

const REMADE = [
  { to: '10.77.0.2:7148', interface: 'v0' },
  { to: '10.77.0.2:7148', interface: '10.77.0.1' },
  { to: '10.77.0.2:7148' },
  { to: ['10.77.0.2:7148', '10.77.0.2:7149'], interface: 'v0' },
  { to: '239.1.2.3:7148', interface: 'v0' },
  { to: ['239.1.2.3:7148', '239.1.2.4:7149'], interface: 'v0' },
  { to: '[fd77::2]:7148', interface: 'v0' },
  { to: '[ff15::1]:7148', interface: 'v0' },
  { to: '[fe80::2%v0]:7148' },
  { to: ['[fe80::2%v0]:7148', '[fe80::2%v0]:7149'] },
  { to: ['[ff12::1%v0]:7148', '[ff12::2%v0]:7149'] },
  { to: '[fe80::2]:7148', interface: 'v0' },
] as const

for (const options of REMADE)
  testOnPaths(`an interface that is made anew: ${JSON.stringify(options)}`, async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: {} })
    // The captures end with the interface that they listen at.
    ns.ip('a', 'link del v0')
    remake(ns)
    const stream = await open(ns, { ...SENDING, ...options, to: typeof options.to === 'string' ? options.to : [...options.to] })
    const { packetsPerHeap } = await stream.batch({ heaps: HEAPS, bytes: 7000 })
    expect((await stream.send()).ok).toMatchObject({ heaps: HEAPS })
    const { sourcePort } = (await stream.stats()).states
    ns.ip('a', 'link del v0')
    const gone = await stream.send()
    expect(gone.error?.outcome).toMatchObject({ heaps: Array(HEAPS).fill('failed') })
    const [cause] = gone.error!.outcome!.causes
    console.log(`${JSON.stringify(options)}: ${cause!.message}`)
    expect(cause!.errnoName).toMatch(/^(ENODEV|EADDRNOTAVAIL|ENETUNREACH)$/)
    if (JSON.stringify(options).match(/interface|%/)) expect(cause!.message).toMatch(/; the stream goes on when it is back$/)
    remake(ns)
    const wire = await capture(ns, 'b', { ports: '7148-7149' })
    const run = { ok: 0, suspect: 0, firstCnts: [] as number[] }
    for (let i = 0; i < 10; i++) {
      const { ok, error } = await stream.send()
      expect(error).toBeUndefined()
      run.firstCnts.push(ok!.firstCnt)
      if (ok!.suspect) run.suspect++
    }
    const { states } = await stream.stats()
    await stream.close()
    const heaps = packetsOfHeaps(await wire.stop())
    expect(run.firstCnts.flatMap((cnt) => Array.from({ length: HEAPS }, (_, j) => heaps.get(cnt + j)))).toEqual(
      Array(10 * HEAPS).fill(packetsPerHeap),
    )
    expect(run.suspect).toBeLessThan(3)
    expect(states).toMatchObject({ interface: 'v0', sourcePort })
    expect(states.pathChanges).toBeGreaterThan(0)
  })

for (const { what, options, del, add, from } of [
  {
    what: 'by name',
    options: { to: '10.77.0.2:7148', interface: 'v0' },
    del: '10.77.0.1/24',
    add: '10.77.0.5/24',
    from: '10.77.0.5',
  },
  { what: 'by route', options: { to: '10.77.0.2:7148' }, del: '10.77.0.1/24', add: '10.77.0.5/24', from: '10.77.0.5' },
  {
    what: 'by route, of several endpoints',
    options: { to: ['10.77.0.2:7148', '10.77.0.2:7149'] },
    del: '10.77.0.1/24',
    add: '10.77.0.5/24',
    from: '10.77.0.5',
  },
  {
    what: 'of a group',
    options: { to: '239.1.2.3:7148', interface: 'v0' },
    del: '10.77.0.1/24',
    add: '10.77.0.5/24',
    from: '10.77.0.5',
  },
  {
    what: 'of IPv6 by name',
    options: { to: '[fd77::2]:7148', interface: 'v0' },
    del: 'fd77::1/64',
    add: 'fd77::5/64 nodad',
    from: 'fd77::5',
  },
  { what: 'of IPv6 by route', options: { to: '[fd77::2]:7148' }, del: 'fd77::1/64', add: 'fd77::5/64 nodad', from: 'fd77::5' },
  {
    what: 'of IPv6 with detection',
    options: { to: '[fd77::2]:7148', interface: 'v0' },
    del: 'fd77::1/64',
    add: 'fd77::5/64',
    from: 'fd77::5',
  },
] as const)
  testOnPaths(`a source address that is replaced, ${what}: the stream goes on from the new one`, async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
    const stream = await open(ns, { ...SENDING, ...options, to: typeof options.to === 'string' ? options.to : [...options.to] })
    const { sourcePort } = (await stream.stats()).states
    const run = await runThrough(ns, stream, ['v1'], async () => {
      ns.ip('a', `address del ${del} dev v0`)
      await sleep(30)
      ns.ip('a', `address add ${add} dev v0`)
      if (what === 'of a group') return
      const found = async () => (await stream.stats()).states.sourceAddress === from
      for (let i = 0; i < 400 && !(await found()); i++) await sleep(20)
    })
    await stream.close()
    expect(run.states).toMatchObject({ sourceAddress: from, sourcePort })
    healed(run)
  })

test('an idle stream sleeps while nothing that concerns it changes, and learns at once of what does', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await twoWays()
  type Answer = Record<'calm' | 'busy' | 'changes' | 'later', number> & Record<'before' | 'after', string>
  const got = await ns.program<Answer & { told: object[]; warnings: string[] }>(
    'a',
    'kernel/idle',
    'udp',
    '10.99.0.1:7148',
    '10.99.0.0/24 via 10.78.0.2',
  )
  console.log(`wake-ups of the I/O thread: ${JSON.stringify(got)}`)
  expect(got).toMatchObject({ before: 'v0', after: 'w0', changes: 1 })
  expect(got.told).toEqual([{ changes: 1, what: expect.stringMatching(/ leaves by w0 .* instead of v0/), interface: 'w0' }])
  expect(got.warnings).toEqual(['onPathChange threw: thrown by the listener'])
  // Every wait ends within 50 ms: 40 in 2 s. A descriptor that stays ready would end each at once.
  for (const wakeUps of [got.calm, got.busy, got.later]) expect(wakeUps).toBeLessThan(80)
})

test('the command says on standard error that its packets take another way', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await twoWays()
  const wire = await capture(ns, 'b', { device: 'w1' })
  const args = ['10.99.0.1:7148', '--rate', '1MB/s', '-H', '8KiB', '-n', '100000', '--descriptors', 'none']
  const child = ns.spawn('a', ['node', CLI, 'send', ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
  let stderr = ''
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  await sleep(1000)
  ns.ip('a', 'route replace 10.99.0.0/24 via 10.78.0.2')
  for (let i = 0; i < 400 && !stderr.includes('leaves by'); i++) await sleep(20)
  child.kill('SIGINT')
  await new Promise((resolve) => child.once('close', resolve))
  expect(stderr).toMatch(
    /^speadcast send: \S+Z 10\.99\.0\.1:7148 leaves by w0 \(index \d+\) from 10\.78\.0\.1 via 10\.78\.0\.2 instead of v0 /m,
  )
  expect((await wire.stop()).length).toBeGreaterThan(0)
})

test('an inline stream learns of a change at its next send', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await twoWays()
  for (const udpPath of ['auto', 'io_uring'] as const) {
    ns.ip('a', 'route replace 10.99.0.0/24 via 10.77.0.2')
    const stream = await RemoteStream.open(ns, { ...SENDING, to: '10.99.0.1:7148', thread: 'inline', udpPath })
    const run = await runThrough(ns, stream, ['v1', 'w1'], async () => {
      ns.ip('a', 'route replace 10.99.0.0/24 via 10.78.0.2')
    })
    await stream.close()
    expect(run.packets.w1).toBeGreaterThan(50)
    expect(run.states).toMatchObject({ interface: 'w0', pathChanges: 1 })
    healed(run)
  }
})

for (const to of ['10.77.0.2:7148', '239.1.2.3:7148', '[fd77::2]:7148'] as const)
  testOnPaths(`an interface made anew while packets go to ${to}: heaps fail until it is back`, async (ctx, open) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth: { gsoMaxSegs: 1, a: [] } })
    const make = () => {
      ns.ip('a', 'link add link v0 name m0 type macvlan')
      ns.ip('a', 'link set m0 up')
      ns.ip('a', 'address add 10.77.0.1/24 dev m0')
      ns.ip('a', 'address add fd77::1/64 dev m0 nodad')
    }
    make()
    const stream = await open(ns, { ...SENDING, to, interface: 'm0' })
    const { sourcePort } = (await stream.stats()).states
    const run = await runThrough(ns, stream, ['v1'], async () => {
      ns.ip('a', 'link del m0')
      await refused(stream)
      make()
    })
    await stream.close()
    expect(run.report.failed.length).toBeGreaterThan(0)
    expect(run.messages[0]).toMatch(
      /interface m0 is gone \((ENODEV|ENETUNREACH|EADDRNOTAVAIL)\); the stream goes on when it is back/,
    )
    expect(run.states).toMatchObject({ interface: 'm0', sourcePort })
    healed(run)
  })

/** Sends until a batch goes; returns what failed before. */
async function untilSent(stream: RemoteStream): Promise<{ firstCnt: number; messages: string[] }> {
  const messages: string[] = []
  for (let i = 0; i < 200; i++) {
    const { ok, error } = await stream.send()
    if (ok) return { firstCnt: ok.firstCnt, messages }
    messages.push(...error!.outcome!.causes.map(({ message }) => message))
    await sleep(20)
  }
  throw new Error(`no batch went: ${messages.at(-1)}`)
}

test.for([
  { to: '10.77.0.2:7148', interface: 'v0' },
  { to: '239.1.2.3:7148', interface: 'v0' },
  { to: ['239.1.2.3:7148', '10.77.0.2:7149'], interface: 'v0' },
  { to: '[ff15::1]:7148', interface: 'v0' },
  { to: '[fd77::2]:7148', interface: 'v0' },
  { to: '[fe80::2%v0]:7148' },
])('dgram goes on by an interface that is made anew, and from another address: %o', async (options, ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  ns.ip('a', 'link del v0')
  remake(ns)
  const stream = await RemoteStream.open(ns, { ...options, backend: 'dgram', packetSizeBytes: PACKET })
  const { packetsPerHeap } = await stream.batch({ heaps: HEAPS, bytes: 7000 })
  await untilSent(stream)
  const { sourcePort } = (await stream.stats()).states
  ns.ip('a', 'link del v0')
  const gone = await stream.send()
  expect(gone.error?.outcome?.heaps.includes('sent')).toBe(false)
  if (options.interface) expect(gone.error!.message).toMatch(/interface v0 is gone \(\w+\); the stream goes on when it is back/)
  remake(ns)
  const wire = await capture(ns, 'b', { ports: '7148-7149' })
  // The first packets wait for the neighbour, which the kernel asks for, and has room for a few.
  await untilSent(stream)
  await sleep(100)
  const remade = await untilSent(stream)
  // IPv6 lets a socket that is bound to an address go on sending from it when it is gone.
  const replaced = options.interface && !String(options.to).includes('::')
  if (replaced) {
    ns.ip('a', 'address del 10.77.0.1/24 dev v0')
    ns.ip('a', 'address add 10.77.0.5/24 dev v0')
    await untilSent(stream)
    await sleep(100)
  }
  const moved = await untilSent(stream)
  const { states } = await stream.stats()
  await stream.close()
  const heaps = packetsOfHeaps(await wire.stop())
  console.log(`dgram, ${JSON.stringify(options)}: ${gone.error!.message}; ${states.lastPathChange}`)
  for (const { firstCnt } of [remade, moved]) for (let j = 0; j < HEAPS; j++) expect(heaps.get(firstCnt + j)).toBe(packetsPerHeap)
  expect(states).toMatchObject({ sourcePort })
  if (replaced) expect(states).toMatchObject({ interface: 'v0', sourceAddress: '10.77.0.5' })
})
