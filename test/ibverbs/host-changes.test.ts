/** Routes, addresses and interfaces that change under a stream of backend ibverbs, as operators, DHCP and drivers change them. */
import { execFileSync } from 'node:child_process'
import { expect, test } from 'vitest'
import type { StreamOptions } from '#dist/src/index.js'
import { makeNetns, type Netns, waitForOutput } from '../support/netns.js'
import { Nic, type NicOptions, needNic, openOn, sleep } from '../support/nic.js'
import { programArgv } from '../support/program.js'
import { capture, packetsOfHeaps, type RemoteStream } from '../support/remote-stream.js'

/** Behind namespace b, which two pairs lead to: v0 and v1, w0 and w1. */
const FAR = '10.88.0.1'
const OPTIONS: StreamOptions = { to: `${FAR}:7148`, packetSizeBytes: 1048, neighbourTimeoutMs: 300 }
const PACKETS = 5

async function twoPairs(): Promise<Netns> {
  const ns = await makeNetns({ veth: { gsoMaxSegs: 1, a: ['10.77.0.1/24'], b: ['10.77.0.2/24'] } })
  ns.ip('a', `link add w0 gso_max_segs 1 type veth peer name w1 netns ${ns.name.b}`)
  ns.ip('a', 'link set w0 up')
  ns.ip('b', 'link set w1 up')
  ns.ip('a', 'address add 10.79.0.1/24 dev w0')
  ns.ip('b', 'address add 10.79.0.2/24 dev w1')
  ns.ip('b', `address add ${FAR}/32 dev lo`)
  ns.ip('a', `route add ${FAR} via 10.77.0.2`)
  return ns
}

async function open(ns: Netns, options: StreamOptions = OPTIONS, nicOptions: NicOptions = {}) {
  const nic = new Nic(nicOptions)
  const stream = await openOn(nic, ns, options)
  await stream.batch({ heaps: 4, bytes: 5000 })
  return { nic, stream }
}

/** The fate of a batch of four heaps of five packets, and of how many heaps all packets arrive at a device of namespace b. */
async function sendTo(ns: Netns, stream: RemoteStream, device: 'v1' | 'w1') {
  const wire = await capture(ns, 'b', { device })
  const { ok, error } = await stream.send()
  await sleep(50)
  const whole = [...packetsOfHeaps(await wire.stop()).values()].filter((packets) => packets === PACKETS).length
  return { suspect: ok?.suspect, causes: error?.outcome?.causes, whole }
}

const SENT = { suspect: false, causes: undefined, whole: 4 }

test('a route that goes by another interface is followed to its device, to a dead next hop, and back', async (ctx) => {
  needNic(ctx)
  await using ns = await twoPairs()
  const { nic, stream } = await open(ns)
  expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
  await sleep(50)
  ns.ip('a', `route replace ${FAR} via 10.79.0.2`)
  expect(await sendTo(ns, stream, 'w1')).toEqual(SENT)
  expect((await stream.stats()).states).toMatchObject({
    interface: 'w0',
    device: 'softnic1',
    sourceAddress: '10.79.0.1',
    trouble: 'packets go by w0 now',
  })
  await sleep(50)
  ns.ip('a', `route replace ${FAR} via 10.79.0.99`)
  const dead = await sendTo(ns, stream, 'w1')
  expect(dead).toEqual({
    suspect: undefined,
    whole: 0,
    causes: [expect.objectContaining({ errnoName: 'EHOSTUNREACH', packets: 20 })],
  })
  await sleep(50)
  ns.ip('a', `route replace ${FAR} via 10.77.0.2`)
  expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
  expect((await stream.stats()).states).toMatchObject({ interface: 'v0', device: 'softnic0', sourceAddress: '10.77.0.1' })
  await stream.close()
  nic.cleanReport()
})

test('a route that changes under a batch: what was under way is suspect, and the rest goes the new way', async (ctx) => {
  needNic(ctx)
  await using ns = await twoPairs()
  const { nic, stream } = await open(ns, { ...OPTIONS, rate: 1e6 })
  await stream.batch({ name: 'long', heaps: 40, bytes: 50_000 })
  const wire = await capture(ns, 'b', { device: 'w1' })
  const sending = stream.send({ name: 'long' })
  await sleep(700)
  ns.ip('a', `route replace ${FAR} via 10.79.0.2`)
  const { ok, error } = await sending
  expect(error).toBeUndefined()
  expect(ok).toMatchObject({ suspect: true })
  // Two seconds of packets, of which the last half has the new way for certain.
  expect((await wire.stop()).length).toBeGreaterThan(1000)
  await stream.close()
  nic.cleanReport()
})

test('a route that goes by an interface without a device: refused with the reason, until it comes back', async (ctx) => {
  needNic(ctx)
  await using ns = await twoPairs()
  const { nic, stream } = await open(ns, OPTIONS, { netdevs: ['v0'] })
  expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
  await sleep(50)
  ns.ip('a', `route replace ${FAR} via 10.79.0.2`)
  for (let i = 0; i < 2; i++) {
    const { causes, whole } = await sendTo(ns, stream, 'w1')
    expect(whole).toBe(0)
    expect(causes).toEqual([
      expect.objectContaining({
        errnoName: 'ENETUNREACH',
        packets: 20,
        message: expect.stringMatching(/packets go by w0 now, behind which there is no RDMA device/),
      }),
    ])
  }
  await sleep(50)
  ns.ip('a', `route replace ${FAR} via 10.77.0.2`)
  expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
  await stream.close()
  nic.cleanReport()
})

/** Changes in namespace a that move no packet of ours, some of them on the way that packets had. */
const UNRELATED = [
  'link add d0 type veth peer name d1',
  'link set d0 up',
  'address add 10.99.0.1/24 dev d0',
  'address add 10.77.0.66/24 dev v0',
  'link set v0 mtu 1400',
  'link set v0 mtu 1500',
  'route add 10.66.0.0/24 via 10.77.0.2',
  'neigh add 10.77.0.77 lladdr 02:00:00:00:00:09 dev v0',
  'link set v0 down',
  'link set v0 up',
  'rule add to 10.66.0.0/24 lookup main',
  'link del d0',
]

test('a route by an interface without a device: nothing leaves by the old one, whatever else changes', async (ctx) => {
  needNic(ctx)
  await using ns = await twoPairs()
  const { nic, stream } = await open(ns, OPTIONS, { netdevs: ['v0'] })
  expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
  await sleep(50)
  ns.ip('a', `route replace ${FAR} via 10.79.0.2`)
  const wire = await capture(ns, 'b')
  for (const change of ['', ...UNRELATED]) {
    if (change) ns.ip('a', change)
    await sleep(30)
    for (let i = 0; i < 2; i++) {
      const { error } = await stream.send()
      expect(error?.outcome?.causes, change).toEqual([expect.objectContaining({ errnoName: 'ENETUNREACH', packets: 20 })])
    }
  }
  expect(await wire.stop()).toEqual([])
  // Nothing was reset in vain.
  expect((await stream.stats()).states).toMatchObject({ interface: 'w0', device: 'softnic0', recoveries: 0, pathChanges: 1 })
  ns.ip('a', `route replace ${FAR} via 10.77.0.2`)
  await sleep(50)
  expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
  await stream.close()
  nic.cleanReport()
})

test('an interface gets its device after the route went there: packets go', async (ctx) => {
  needNic(ctx)
  await using ns = await twoPairs()
  const { nic, stream } = await open(ns)
  expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
  await nic.command('limit gids 0')
  ns.ip('a', `route replace ${FAR} via 10.79.0.2`)
  await sleep(50)
  const { causes } = await sendTo(ns, stream, 'v1')
  expect(causes).toEqual([expect.objectContaining({ errnoName: 'ENETUNREACH', packets: 20 })])
  await nic.command('limit gids 1')
  // No message tells of it.
  let last = await sendTo(ns, stream, 'w1')
  for (let i = 0; i < 20 && last.causes; i++) {
    await sleep(200)
    last = await sendTo(ns, stream, 'w1')
  }
  expect(await sendTo(ns, stream, 'w1')).toEqual(SENT)
  expect((await stream.stats()).states).toMatchObject({ interface: 'w0', device: 'softnic1' })
  await stream.close()
  nic.cleanReport()
})

test('all go by an interface without a device, and one comes back: the others stay refused', async (ctx) => {
  needNic(ctx)
  await using ns = await twoPairs()
  const OTHER = '10.88.0.2'
  ns.ip('b', `address add ${OTHER}/32 dev lo`)
  ns.ip('a', `route add ${OTHER} via 10.77.0.2`)
  const { nic, stream } = await open(ns, { ...OPTIONS, to: [`${FAR}:7148`, `${OTHER}:7148`] }, { netdevs: ['v0'] })
  expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
  await sleep(50)
  for (const to of [FAR, OTHER]) ns.ip('a', `route replace ${to} via 10.79.0.2`)
  await sleep(50)
  expect(await sendTo(ns, stream, 'v1')).toMatchObject({
    whole: 0,
    causes: [0, 1].map((substream) => ({ substream, errnoName: 'ENETUNREACH', packets: 10 })),
  })
  ns.ip('a', `route replace ${OTHER} via 10.77.0.2`)
  await sleep(50)
  const { causes, whole } = await sendTo(ns, stream, 'v1')
  expect(causes).toMatchObject([{ errnoName: 'ENETUNREACH', packets: 10 }])
  expect(whole).toBe(2)
  await stream.close()
  nic.cleanReport()
})

test('without a descriptor to ask the kernel with: what was known holds, suspect, and is asked again', async (ctx) => {
  needNic(ctx)
  await using ns = await twoPairs()
  const { nic, stream } = await open(ns)
  expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
  const limit = (most: number) => execFileSync('prlimit', ['--pid', `${nic.pid}`, `--nofile=${most}:`])
  limit(5)
  for (const change of ['link set v0 mtu 1400', 'address add 10.77.0.66/24 dev v0', 'link set v0 mtu 1500']) {
    ns.ip('a', change)
    await sleep(50)
    expect(await sendTo(ns, stream, 'v1'), change).toEqual({ ...SENT, suspect: true })
  }
  ns.ip('a', `route replace ${FAR} via 10.79.0.2`)
  await sleep(50)
  expect(await sendTo(ns, stream, 'v1')).toEqual({ ...SENT, suspect: true })
  limit(1024)
  await sleep(50)
  expect(await sendTo(ns, stream, 'w1')).toEqual(SENT)
  expect((await stream.stats()).states).toMatchObject({ interface: 'w0', device: 'softnic1', pathChanges: 1 })
  await stream.close()
  nic.cleanReport()
})

test('an idle stream follows a route to the other device, and tells it', async (ctx) => {
  needNic(ctx)
  await using ns = await twoPairs()
  const nic = new Nic()
  type Answer = Record<'calm' | 'busy' | 'changes' | 'later', number> & Record<'before' | 'after', string> & { told: object[] }
  const { stdout } = await ns.exec('a', programArgv('kernel/idle', 'ibverbs', `${FAR}:7148`, `${FAR}/32 via 10.79.0.2`), {
    env: nic.environment,
  })
  const got = JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as Answer
  console.log(`wake-ups of the I/O thread: ${JSON.stringify(got)}`)
  expect(got).toMatchObject({ before: 'v0', after: 'w0', changes: 1, device: 'softnic1' })
  expect(got.told).toEqual([{ changes: 1, what: expect.stringMatching(/ leaves by w0 .* instead of v0/), interface: 'w0' }])
  for (const wakeUps of [got.calm, got.busy, got.later]) expect(wakeUps).toBeLessThan(80)
  nic.cleanReport()
})

for (const [what, options] of [
  ['of the interface that was asked for', { ...OPTIONS, to: '10.77.0.2:7148', interface: 'v0' }],
  ['that the route chose', { ...OPTIONS, to: '10.77.0.2:7148' }],
  ['that multicast comes from', { ...OPTIONS, to: '239.10.0.1:7148', interface: 'v0' }],
] as const)
  test(`the address ${what} is replaced: packets come from the new one`, async (ctx) => {
    needNic(ctx)
    await using ns = await twoPairs()
    const { nic, stream } = await open(ns, options)
    expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
    await sleep(50)
    ns.ip('a', 'address del 10.77.0.1/24 dev v0')
    ns.ip('a', 'address add 10.77.0.9/24 dev v0')
    const watching = ns.spawn('b', ['tcpdump', '-nn', '-l', '-c', '20', '-i', 'v1', 'udp and src host 10.77.0.9'], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    await new Promise((resolve) => watching.stderr!.once('data', resolve))
    const seen = waitForOutput(watching, /IP 10\.77\.0\.9\.\d+ > /)
    expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
    await seen
    expect((await stream.stats()).states).toMatchObject({ sourceAddress: '10.77.0.9' })
    await stream.close()
    nic.cleanReport()
  })

test('the interface is deleted, and made anew with the same name and address: the stream goes on', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1, a: ['10.77.0.1/24'], b: ['10.77.0.2/24'] } })
  const { nic, stream } = await open(ns, { ...OPTIONS, to: '10.77.0.2:7148', interface: 'v0' })
  expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
  await sleep(50)
  ns.ip('a', 'link del v0')
  const { error } = await stream.send()
  expect(error!.outcome!.causes).toEqual([
    expect.objectContaining({
      packets: 20,
      message: expect.stringMatching(/interface v0 is gone \(ENODEV\); the stream goes on when it is back/),
    }),
  ])
  ns.ip('a', `link add v0 gso_max_segs 1 type veth peer name v1 netns ${ns.name.b}`)
  ns.ip('b', 'address add 10.77.0.2/24 dev v1')
  ns.ip('b', 'link set v1 up')
  ns.ip('a', 'address add 10.77.0.1/24 dev v0')
  ns.ip('a', 'link set v0 up')
  await sleep(100)
  expect(await sendTo(ns, stream, 'v1')).toEqual(SENT)
  await stream.close()
  nic.cleanReport()
})
