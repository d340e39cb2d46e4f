/** Ports that senders share, broadcast addresses, and interfaces that do not lead to the receiver. */

import type { StreamOptions } from 'speadcast'
import { expect, onTestFinished, type TestContext, test } from 'vitest'
import { CLI } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import { Nic, needNic } from '../support/nic.js'
import { programArgv } from '../support/program.js'
import { NOTHING_LEAKED } from '../support/softnic.js'

async function namespaces(ctx: TestContext): Promise<Netns> {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  return makeNetns({ veth: {} })
}

/** Where each SPEAD packet that reaches port 7148 of namespace b came from. */
async function listening(ns: Netns): Promise<{ stop(): Promise<string[]> }> {
  const child = ns.spawn('b', programArgv('kernel/sources'), { stdio: ['pipe', 'pipe', 'inherit'] })
  onTestFinished(() => void child.kill('SIGKILL'))
  let text = ''
  const ready = new Promise<void>((resolve) =>
    child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      if (text.startsWith('ready')) resolve()
    }),
  )
  await ready
  return {
    async stop() {
      const closed = new Promise((resolve) => child.once('close', resolve))
      child.stdin!.end()
      await closed
      return JSON.parse(text.slice('ready\n'.length))
    },
  }
}

/** Opens streams in namespace a, one after the other, and sends a heap with each. The last one's error, if any. */
const sending = (ns: Netns, streams: readonly StreamOptions[]): Promise<{ error?: string; warnings: string[] }> =>
  ns.program('a', 'kernel/sending', streams)

const PATHS: readonly Partial<StreamOptions>[] = [
  { backend: 'udp' },
  { backend: 'udp', thread: 'inline' },
  { backend: 'udp', udpPath: 'io_uring' },
  { backend: 'dgram' },
]

test.for(PATHS)('two streams send from one source port if both ask: %j', async (options, ctx) => {
  await using ns = await namespaces(ctx)
  const to = '10.77.0.2:7148'
  const shared = { ...options, to, sourcePort: 5000, reusePort: true }
  const receiver = await listening(ns)
  expect(await sending(ns, [shared, shared])).toEqual({ warnings: [] })
  // To two endpoints a socket is not connected; dgram's never is.
  expect(
    await sending(ns, [
      { ...shared, to: [to, to] },
      { ...shared, backend: 'dgram', thread: 'inline', udpPath: 'auto' },
    ]),
  ).toEqual({ warnings: [] })
  expect(await receiver.stop()).toEqual(Array(4).fill('10.77.0.1:5000'))
  const alone = { ...shared, reusePort: false }
  expect((await sending(ns, [shared, alone])).error).toMatch(
    /^ERR_SPEADCAST_BACKEND .*another socket has source port 5000; take another sourcePort, or set reusePort.*EADDRINUSE/,
  )
  expect((await sending(ns, [alone, shared])).error).toMatch(/another socket has source port 5000/)
})

test('ibverbs: a source port is shared if all ask; a broadcast address is sent to', async (ctx) => {
  needNic(ctx)
  await using ns = await namespaces(ctx)
  const shared = { to: '10.77.0.2:7148', interface: 'v0', backend: 'ibverbs', sourcePort: 5000, reusePort: true } as const
  const receiver = await listening(ns)
  /** Each run has a report of its own. */
  const under = async (streams: readonly StreamOptions[]) => {
    const nic = new Nic()
    const { stdout } = await ns.exec('a', [...nic.prefix, ...programArgv('kernel/sending', streams)])
    expect(nic.report().leaked).toEqual(NOTHING_LEAKED)
    return (JSON.parse(stdout) as { error?: string }).error
  }
  expect(await under([shared, shared])).toBeUndefined()
  expect(await under([shared, { ...shared, reusePort: false }])).toMatch(/another socket has source port 5000/)
  for (const broadcast of [false, true]) expect(await under([{ ...shared, to: '10.77.0.255:7148', broadcast }])).toBeUndefined()
  expect(await receiver.stop()).toEqual(Array(4).fill('10.77.0.1:5000'))
})

test.for(PATHS)('broadcast addresses are sent to on request: %j', async (options, ctx) => {
  await using ns = await namespaces(ctx)
  const receiver = await listening(ns)
  for (const to of [['10.77.0.255:7148'], ['10.77.0.255:7148', '10.77.0.2:7148'], ['255.255.255.255:7148']]) {
    const stream = { ...options, to, interface: 'v0' }
    expect((await sending(ns, [stream])).error).toMatch(/10\.77\.0\.255:7148|255\.255\.255\.255:7148/)
    expect((await sending(ns, [stream])).error).toMatch(/broadcast/)
    expect(await sending(ns, [{ ...stream, broadcast: true }])).toEqual({ warnings: [] })
  }
  expect((await receiver.stop()).length).toBe(3)
})

test('an interface that does not lead to the receiver is told at opening', { timeout: 60_000 }, async (ctx) => {
  await using ns = await namespaces(ctx)
  ns.ip('a', 'address add 10.88.0.1/32 dev lo')
  for (const backend of ['udp', 'dgram'] as const) {
    const told = async (options: StreamOptions) => (await sending(ns, [{ backend, ...options }])).warnings
    const remote = '10.77.0.2:7148'
    for (const name of ['lo', '127.0.0.1', '10.88.0.1'])
      expect(await told({ to: remote, interface: name })).toEqual([
        `SPEADCAST_INTERFACE interface ${name} is the loopback interface lo, from which packets to ${remote} do not leave this host; name the interface that leads there`,
      ])
    expect(await told({ to: '[fd77::2]:7148', interface: '::1' })).toEqual([expect.stringMatching(/the loopback interface lo/)])
    expect(await told({ to: ['127.0.0.1:7148', remote], interface: 'lo' })).toEqual([expect.stringMatching(/10\.77\.0\.2:7148/)])
    expect(await told({ to: remote, interface: '0.0.0.0' })).toEqual([
      `SPEADCAST_INTERFACE interface 0.0.0.0 names none, so the route decides how packets to ${remote} leave; name an interface, or leave it out`,
    ])
    expect(await told({ to: '0.0.0.0:7148' })).toEqual([expect.stringMatching(/^SPEADCAST_INTERFACE 0\.0\.0\.0:7148 is this host/)])
    for (const fine of [
      { to: remote },
      { to: remote, interface: 'v0' },
      { to: '127.0.0.1:7148', interface: 'lo' },
      { to: '10.77.0.1:7148', interface: 'lo' },
      { to: '127.0.0.1:7148', interface: '0.0.0.0' },
      { to: '239.1.2.3:7148', interface: 'lo' },
    ])
      expect(await told(fine)).toEqual([])
  }
})

test('the command says it in one line, and sends all the same', async (ctx) => {
  await using ns = await namespaces(ctx)
  const send = (...args: string[]) =>
    ns.exec('a', ['node', CLI, 'send', '-n', '2', '-H', '100', '--json', ...args], { check: false })
  const lo = await send('10.77.0.2:7148', '--interface', 'lo')
  expect(lo.stderr).toMatch(
    /^speadcast: warning: interface lo is the loopback interface lo, from which packets to 10\.77\.0\.2:7148 .*\n$/,
  )
  expect(JSON.parse(lo.stdout)).toMatchObject({ heaps: 2 })
  const receiver = await listening(ns)
  const any = await send('10.77.0.2:7148', '--interface', '0.0.0.0', '--no-stop', '--descriptors', 'none', '--source-port', '5001')
  expect(any.stderr).toMatch(/^speadcast: warning: interface 0\.0\.0\.0 names none.*\n$/)
  await send('10.77.0.255:7148', '--broadcast', '--no-stop', '--descriptors', 'none', '--source-port', '5001', '--reuse-port')
  expect(await receiver.stop()).toEqual(Array(4).fill('10.77.0.1:5001'))
  expect(await send('10.77.0.2:7148', '--reuse-port')).toMatchObject({ code: 2, stderr: expect.stringMatching(/--source-port/) })
})

test('sends where the kernel has no room for a socket filter', async (ctx) => {
  await using ns = await namespaces(ctx)
  await ns.exec('a', ['sysctl', '-qw', 'net.core.optmem_max=1'])
  expect(await sending(ns, [{ to: '10.77.0.2:7148', backend: 'udp' }])).toEqual({ warnings: [] })
})
