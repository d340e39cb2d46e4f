/** Messages lent to the kernel instead of copied: when a stream lends, when it copies because lending is of no use, and when memory is free. */
import { spawnSync } from 'node:child_process'
import { expect, type TestContext, test } from 'vitest'
import type { StreamOptions, StreamStats } from '#dist/src/index.js'
import { CLI } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable, waitForOutput } from '../support/netns.js'
import { RemoteStream } from '../support/remote-stream.js'

/** The black hole (test/support/netns.ts), which frees a message at once and copies nothing. */
const SINK = '10.99.0.2:7148'
/** 16 heaps, each of 32 KiB in 4 packets, are 8 messages or a little more, in huge pages where there are any. */
const BATCH = { heaps: 16, bytes: 32 << 10 }
const JUMBO = { packetSizeBytes: 8972, udpPath: 'auto' } as const

async function sink(ctx: TestContext): Promise<Netns> {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  return makeNetns({ sink: {} })
}

async function lending(ctx: TestContext, ns: Netns, options: Partial<StreamOptions> = {}, prefix: string[] = []) {
  const stream = await RemoteStream.open(ns, { to: SINK, ...JUMBO, ...options }, prefix)
  await stream.batch(BATCH)
  const { states } = await stream.stats()
  need(ctx, !`${states.udpPathReason}`.startsWith('io_uring: '), `no io_uring here: ${states.udpPathReason}`)
  return stream
}

const pathOf = ({ states, zeroCopyMessages, copiedMessages, segmentedMessages }: StreamStats) => ({
  path: states.udpPath,
  reason: states.udpPathReason,
  zeroCopyMessages,
  copiedMessages,
  segmentedMessages,
})

test('large messages are lent to the kernel, small ones are not', async (ctx) => {
  await using ns = await sink(ctx)
  const stream = await lending(ctx, ns)
  for (let i = 0; i < 10; i++) expect((await stream.send()).ok).toMatchObject({ heaps: 16 })
  const large = pathOf(await stream.stats())
  await stream.reopen({ to: SINK, ...JUMBO })
  await stream.batch({ heaps: 16, bytes: 1000 })
  for (let i = 0; i < 10; i++) expect((await stream.send()).ok).toMatchObject({ heaps: 16 })
  const small = pathOf(await stream.stats())
  await stream.close()
  console.log(`zero copy: ${JSON.stringify(large)}; ${JSON.stringify(small)}`)
  need(ctx, large.zeroCopyMessages > 0, `nothing is lent here (no huge pages?): ${large.reason}`)
  expect(large).toMatchObject({ path: 'io_uring', copiedMessages: 0, zeroCopyMessages: large.segmentedMessages })
  expect(small).toMatchObject({ path: 'sendmmsg', copiedMessages: 0, zeroCopyMessages: 0 })
  expect(small.reason).toMatch(/faster with a copy$/)
})

test('where the kernel copies all the same, as on loopback, it is asked to copy', async (ctx) => {
  await using ns = await sink(ctx)
  const receiver = ns.spawn('a', ['node', CLI, 'recv', '127.0.0.1:7148', '--heaps', '100000'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  await new Promise((resolve) => receiver.stderr!.once('data', resolve))
  const stream = await lending(ctx, ns, { to: '127.0.0.1:7148', udpPath: 'io_uring' })
  for (let i = 0; i < 10; i++) expect((await stream.send()).ok).toMatchObject({ heaps: 16 })
  const said = pathOf(await stream.stats())
  const { zeroCopy } = (await stream.stats()).states
  await stream.close()
  console.log(`zero copy over loopback: ${JSON.stringify(said)}`)
  expect(said.path).toBe('io_uring')
  expect(said.reason).toMatch(/^the kernel copied .*; tried again after 256 posts$/)
  expect(zeroCopy).toBe(false)
  expect(said.copiedMessages).toBeGreaterThan(0)
  expect(said.zeroCopyMessages).toBeLessThan(said.segmentedMessages / 2)
})

test('over loopback and veth nothing is lent unless asked for', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  for (const [to, link] of [
    ['127.0.0.1:7148', 'loopback'],
    ['10.77.0.2:7148', 'veth'],
  ] as const) {
    const stream = await RemoteStream.open(ns, { ...JUMBO, to })
    await stream.batch(BATCH)
    expect((await stream.send()).ok).toMatchObject({ heaps: 16 })
    const said = pathOf(await stream.stats())
    await stream.close()
    expect(said).toMatchObject({ path: 'sendmmsg', zeroCopyMessages: 0, reason: `io_uring: ${link} copies all the same` })
  }
})

test('a socket of this host that multicast is looped back to gets everything, and the stream copies from then on', async (ctx) => {
  await using ns = await sink(ctx)
  const to = '239.5.5.5:7148'
  const recv = ['recv', to, '--interface', 'ifb9', '--buffer', '262144', '--json', '--heaps', '80', '--timeout', '20']
  const receiver = ns.spawn('a', ['node', CLI, ...recv], { stdio: ['ignore', 'pipe', 'pipe'] })
  await new Promise((resolve) => receiver.stderr!.once('data', resolve))
  const told = waitForOutput(receiver, /\{.*\}/, 25_000)
  const stream = await RemoteStream.open(ns, { ...JUMBO, to, interface: 'ifb9', multicastLoop: true })
  // Four heaps wait in the socket's buffer. It has room for them if it is charged with their bytes, and not with huge pages.
  await stream.batch({ heaps: 4, bytes: 32 << 10 })
  receiver.kill('SIGSTOP')
  expect((await stream.send()).ok).toMatchObject({ heaps: 4 })
  receiver.kill('SIGCONT')
  for (let i = 0; i < 19; i++) expect((await stream.send()).ok).toMatchObject({ heaps: 4 })
  const said = pathOf(await stream.stats())
  await stream.close()
  const report = JSON.parse((await told)[0])
  console.log(`zero copy looped back: ${report.heaps} heaps; ${JSON.stringify(said)}`)
  need(ctx, said.zeroCopyMessages > 0, `nothing is lent here: ${said.reason}`)
  expect(report).toMatchObject({ heaps: 80, heapsIncomplete: 0 })
  expect(said.copiedMessages).toBeGreaterThan(0)
  expect(said.path).toBe('sendmmsg')
})

test('memory is free when the kernel has let go of it: a queue holds packets, and none carries bytes that were written later', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  // Messages pass whole: the sender's own memory waits in the queue, until it is copied on its way to the other end.
  ns.tc('a', 'qdisc add dev v0 root tbf rate 100mbit burst 140000 limit 20000000')
  for (const thread of ['worker', 'inline']) {
    const receiver = ns.spawn('b', ['node', CLI, 'recv', '10.77.0.2:7148', '--verify', '--json', '--timeout', '20'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    await new Promise((resolve) => receiver.stderr!.once('data', resolve))
    const told = waitForOutput(receiver, /\{.*\}/, 25_000)
    const send = ['send', '10.77.0.2:7148', '-H', '64KiB', '-n', '120', '-p', '8972', '--batches', '2', '--thread', thread]
    const { stdout } = await ns.exec('a', ['node', CLI, ...send, '--udp-path', 'io_uring', '--json'])
    const { heaps, stats } = JSON.parse(stdout)
    const report = JSON.parse((await told)[0])
    console.log(
      `zero copy through a tbf, ${thread}: ${report.heaps} heaps, ${report.heapsCorrupt} corrupt, ${stats.zeroCopyMessages} messages lent`,
    )
    need(ctx, stats.zeroCopyMessages > 0, `nothing is lent here: ${stats.udpPathReason}`)
    expect(heaps).toBe(120)
    expect(report).toMatchObject({ heaps: 120, heapsIncomplete: 0, heapsCorrupt: 0 })
  }
})

test('a queue that holds packets long: the batch waits, and the next ones are copied', async (ctx) => {
  await using ns = await sink(ctx)
  const stream = await lending(ctx, ns)
  // A message in 130 ms.
  ns.tc('a', 'qdisc add dev ifb9 root tbf rate 4mbit burst 70000 limit 20000000')
  const start = performance.now()
  expect((await stream.send()).ok).toMatchObject({ heaps: 16 })
  const held = performance.now() - start
  const first = pathOf(await stream.stats())
  need(ctx, first.zeroCopyMessages > 0, `nothing is lent here: ${first.reason}`)
  ns.tc('a', 'qdisc del dev ifb9 root')
  expect((await stream.send()).ok).toMatchObject({ heaps: 16 })
  const second = pathOf(await stream.stats())
  await stream.close()
  console.log(`zero copy behind a slow tbf: first batch after ${held.toFixed(0)} ms; ${JSON.stringify(second)}`)
  // All but the first message waited for the one before it.
  expect(held).toBeGreaterThan(100 * (first.zeroCopyMessages - 2))
  expect(second).toMatchObject({ path: 'sendmmsg', zeroCopyMessages: first.zeroCopyMessages })
  expect(second.reason).toMatch(/^a queue below the socket held packets for more than 100 ms; tried again after 256 posts$/)
})

test('destroyed while a queue holds its packets, a stream reports them sent, for the kernel took them, and leaves at once', async (ctx) => {
  await using ns = await sink(ctx)
  await (await lending(ctx, ns)).close()
  ns.tc('a', 'qdisc add dev ifb9 root tbf rate 100kbit burst 70000 limit 20000000')
  type Told = { inFlight: number; zeroCopyMessages: number; ms: number; heaps?: number }
  const options = { to: SINK, backend: 'udp', descriptors: 'none', ...JUMBO }
  const told = await ns.program<Told>('a', 'kernel/destroyed', options, BATCH.heaps, BATCH.bytes)
  console.log(`destroyed with packets in a queue: ${JSON.stringify(told)}`)
  need(ctx, told.zeroCopyMessages > 0, 'nothing is lent here')
  expect(told).toMatchObject({ inFlight: 1, heaps: BATCH.heaps })
  expect(told.ms).toBeLessThan(5000)
})

for (const [errno, why] of [
  ['ENOSYS', /^io_uring: this kernel has none \(ENOSYS\)$/],
  ['EPERM', /^io_uring: it is forbidden here \(EPERM\)/],
  ['EACCES', /^io_uring: it is forbidden here \(EACCES\)/],
  ['ENOMEM', /^io_uring: its rings need more memory/],
] as const)
  test(`without io_uring (${errno}) sendmmsg sends, and stats say why`, async (ctx) => {
    await using ns = await sink(ctx)
    need(ctx, spawnSync('strace', ['-V']).status === 0, 'needs strace')
    const prefix = [
      'strace',
      '-qq',
      '-f',
      '-o',
      '/dev/null',
      '-e',
      'trace=io_uring_setup',
      '-e',
      `inject=io_uring_setup:error=${errno}`,
    ]
    for (const udpPath of ['auto', 'io_uring'] as const) {
      const stream = await RemoteStream.open(ns, { to: SINK, ...JUMBO, udpPath }, prefix)
      await stream.batch(BATCH)
      expect((await stream.send()).ok).toMatchObject({ heaps: 16 })
      const said = pathOf(await stream.stats())
      await stream.close()
      expect(said).toMatchObject({ path: 'sendmmsg', zeroCopyMessages: 0 })
      expect(said.reason).toMatch(why)
    }
  })
