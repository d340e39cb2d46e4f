/**
 * Hosts as they are found: fork protection, rootless containers, limits of pinned memory, multicast that comes back, ports without GIDs.
 * Facts that the kernel or a driver tells by files are told by files here too, mounted where the kernel has none.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, onTestFinished, type TestContext, test } from 'vitest'
import type { StreamOptions } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns } from '../support/netns.js'
import { CLI, Nic, needNic, openOn, sleep } from '../support/nic.js'
import { programArgv } from '../support/program.js'
import { capture, packetsOfHeaps, RemoteStream } from '../support/remote-stream.js'

const TO = '10.77.0.2:7148'
const GROUP = '239.10.0.1:7148'
const OPTIONS: StreamOptions = { to: TO, packetSizeBytes: 1048 }
const GROUP_OPTIONS: StreamOptions = { to: GROUP, interface: 'v0', packetSizeBytes: 1048 }
const MIB = 1 << 20

/**
 * A command that runs another one where /sys/class has these files alone: paths below it, and their text or the file that they are.
 */
function withSysfs(files: Record<string, string>): string[] {
  const write = Object.entries(files).map(([file, text]) => {
    const path = `/sys/class/${file}`
    const folder = path.replace(/\/[^/]*$/, '')
    return text.startsWith('/')
      ? `mkdir -p ${folder}; ln -s ${text} ${path}`
      : `mkdir -p ${folder}; printf '%s\\n' '${text}' > ${path}`
  })
  const script = ['set -e', 'mount -t tmpfs none /sys/class', 'mkdir -p /sys/class/net', ...write, 'exec "$@"'].join('\n')
  return ['unshare', '--mount', 'sh', '-c', script, 'sh']
}

const SWITCH = 'net/v0/settings/force_local_lb_disable'

async function doctor(ns: Netns, under: readonly string[], ...args: string[]) {
  const { code, stdout } = await ns.exec('a', [...under, process.execPath, CLI, 'doctor', ...args, '--json'], { check: false })
  const { backend, reason, backends } = JSON.parse(stdout) as {
    backend: string
    reason: string
    backends: { backend: string; works: boolean; reason: string }[]
  }
  return { code, backend, reason, ibverbs: backends.find((each) => each.backend === 'ibverbs')! }
}

/** The value that `NAME.program.ts` of this folder prints when it runs on the NIC in namespace a. */
async function printed<T>(ns: Netns, nic: Nic, env: Record<string, string>, name: string, ...args: readonly unknown[]): Promise<T> {
  const { stdout } = await ns.exec('a', programArgv(`ibverbs/${name}`, ...args), { env: { ...nic.environment, ...env } })
  return JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as T
}

/** Reserves huge pages of the machine for the test. */
function reserveHugePages(ctx: TestContext, pages: number): void {
  const PAGES = '/proc/sys/vm/nr_hugepages'
  const had = Number(readFileSync(PAGES, 'utf8'))
  onTestFinished(() => writeFileSync(PAGES, String(had)))
  writeFileSync(PAGES, String(had + pages))
  need(ctx, Number(readFileSync(PAGES, 'utf8')) >= had + pages, 'memory is in too many pieces for huge pages')
}

for (const thread of ['worker', 'inline'] as const)
  test(`fork protection is asked for before anything is made, ${thread}`, async (ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: {} })
    const nic = new Nic({ mode: 'null', faults: ['limit copy_on_fork 0'] })
    const stream = await openOn(nic, ns, { ...OPTIONS, thread })
    await stream.batch({ heaps: 4, bytes: 50_000 })
    expect((await stream.send()).error).toBeUndefined()
    await stream.close()
    expect(nic.cleanReport()).toMatchObject({ forkInits: 1, forkInitsLate: 0 })
  })

test.for([
  ['by this package', {}],
  ['by IBV_FORK_SAFE too', { IBV_FORK_SAFE: '1' }],
] as const)(
  'fork protection, asked for %s: a part of somebody’s reserved huge page is registered, in any thread',
  async ([, env], ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: {} })
    reserveHugePages(ctx, 24)
    const nic = new Nic({ mode: 'null', netdevs: ['v0'], faults: ['limit copy_on_fork 0'] })
    for (const where of ['here', 'worker']) expect(await printed(ns, nic, env, 'huge-page-part', where)).toBe('registered')
  },
)

test('memory that cannot be kept from children: EINVAL of the registration names the variable', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const nic = new Nic({ mode: 'null' })
  const stream = await openOn(nic, ns, OPTIONS)
  await nic.command('reg-mr 1 EINVAL')
  await stream.batch({ heaps: 1, bytes: 5000 })
  const { error } = await stream.send()
  expect(error!.outcome!.causes).toEqual([
    expect.objectContaining({
      errnoName: 'EINVAL',
      message: expect.stringMatching(/ibv_reg_mr failed: EINVAL .*fork protection.*RDMAV_HUGEPAGES_SAFE=1 before node starts/),
    }),
  ])
  await stream.close()
  nic.cleanReport()
})

test('in a user namespace: CAP_NET_RAW does not count, and what helps is not --cap-add there', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const nic = new Nic({ mode: 'null' })
  const rootless = ['unshare', '--user', '--map-root-user', ...nic.prefix]
  const why =
    /raw packet queue pairs need CAP_NET_RAW of the host: ibv_create_qp failed: EPERM \(softnic0\); this process is in a user namespace, .*run it as root of the host/
  await expect(RemoteStream.open(ns, { ...OPTIONS, backend: 'ibverbs' }, rootless)).rejects.toMatchObject({
    code: 'ERR_SPEADCAST_BACKEND',
    message: expect.stringMatching(why),
  })
  const other = new Nic({ mode: 'null', faults: ['limit cap_net_raw 0', `limit memlock_bytes ${MIB}`] })
  const { backend, reason } = await doctor(ns, ['unshare', '--user', '--map-root-user', ...other.prefix], TO)
  expect(backend).toBe('udp')
  expect(reason).toMatch(
    /cannot be locked: ibv_reg_mr failed: ENOMEM.*CAP_IPC_LOCK does not help, because this process is in a user namespace/,
  )
})

test('lockable memory for a queue and not for a batch: auto and doctor take udp and say why', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const limited = (nic: Nic) => ['prlimit', `--memlock=${MIB}`, 'setpriv', '--bounding-set', '-ipc_lock', ...nic.prefix]
  const why = /ibverbs: the memory cannot be locked: ibv_reg_mr failed: ENOMEM \(\d+ bytes\); raise RLIMIT_MEMLOCK/
  const nic = new Nic({ mode: 'null' })
  const told = await doctor(ns, limited(nic), TO)
  expect(told).toMatchObject({ backend: 'udp', reason: expect.stringMatching(why), ibverbs: { works: false } })
  const other = new Nic({ mode: 'null' })
  const stream = await RemoteStream.open(ns, { ...OPTIONS, backend: 'auto' }, limited(other))
  const { backend, reason } = await stream.stats()
  expect({ backend, reason }).toEqual({ backend: 'udp', reason: expect.stringMatching(why) })
  await stream.batch({ heaps: 2, bytes: 3 * MIB })
  expect((await stream.send()).error).toBeUndefined()
  await stream.close()
  // With the capability the limit does not count, and nothing of the trial stays pinned.
  const third = new Nic({ mode: 'null' })
  const able = await RemoteStream.open(ns, { ...OPTIONS, backend: 'auto' }, ['prlimit', `--memlock=${MIB}`, ...third.prefix])
  expect((await able.stats()).backend).toBe('ibverbs')
  await able.close()
  third.cleanReport()
})

test('multicastLoop false: kept where the driver’s switch is on, refused with the remedy elsewhere, and auto takes udp', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  const never = { ...GROUP_OPTIONS, multicastLoop: false }
  const on = withSysfs({ [SWITCH]: 'Force local loopback disable is ON' })
  const off = withSysfs({ [SWITCH]: 'Force local loopback disable is OFF' })
  const open = (under: readonly string[], options: StreamOptions) => {
    const nic = new Nic()
    return RemoteStream.open(ns, { backend: 'ibverbs', ...options }, [...under, ...nic.prefix])
  }
  const wire = await capture(ns, 'b')
  const kept = await open(on, never)
  await kept.batch({ heaps: 2, bytes: 3000 })
  expect((await kept.send()).error).toBeUndefined()
  await kept.close()
  expect(packetsOfHeaps(await wire.stop()).size).toBe(2)
  for (const [under, remedy] of [
    [off, /multicastLoop is false.*`echo 1 > \/sys\/class\/net\/v0\/settings\/force_local_lb_disable` turns that off/],
    [[], /multicastLoop is false.*this driver has no switch.*leave multicastLoop out/],
  ] as const) {
    await expect(open(under, never)).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_BACKEND',
      message: expect.stringMatching(remedy),
    })
    await expect(open(under, { ...never, backend: 'rdma-ud', packetSizeBytes: 1024 })).rejects.toMatchObject({
      code: 'ERR_SPEADCAST_BACKEND',
      message: expect.stringMatching(remedy),
    })
    const stream = await open(under, { ...never, backend: 'auto' })
    const { backend, reason } = await stream.stats()
    expect({ backend, reason }).toEqual({ backend: 'udp', reason: expect.stringMatching(remedy) })
    await stream.close()
  }
  // Unicast does not come back.
  const unicast = await open(off, { ...OPTIONS, multicastLoop: false })
  expect((await unicast.stats()).backend).toBe('ibverbs')
  await unicast.close()
})

test('multicastLoop false, and the route goes by a device whose switch is off: refused, with the remedy', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  ns.ip('a', 'link add w0 gso_max_segs 1 type veth peer name w1')
  ns.ip('a', 'link set w0 up')
  ns.ip('a', 'link set w1 up')
  ns.ip('a', 'address add 10.79.0.1/24 dev w0')
  ns.ip('a', 'route add 239.10.0.0/16 dev v0')
  const sysfs = {
    [SWITCH]: 'Force local loopback disable is ON',
    [SWITCH.replace('v0', 'w0')]: 'Force local loopback disable is OFF',
  }
  const nic = new Nic()
  const options = { to: GROUP, packetSizeBytes: 1048, multicastLoop: false, backend: 'ibverbs' } as const
  const stream = await RemoteStream.open(ns, options, [...withSysfs(sysfs), ...nic.prefix])
  await stream.batch({ heaps: 2, bytes: 3000 })
  expect((await stream.send()).error).toBeUndefined()
  ns.ip('a', 'route replace 239.10.0.0/16 dev w0')
  await sleep(50)
  const { error } = await stream.send()
  expect(error?.outcome?.causes).toMatchObject([
    {
      errnoName: 'ENETUNREACH',
      message: expect.stringMatching(/go by w0 now, .*cannot be used \(multicastLoop is false.*`echo 1 > .*w0/),
    },
  ])
  ns.ip('a', 'route replace 239.10.0.0/16 dev v0')
  await sleep(50)
  expect((await stream.send()).error).toBeUndefined()
  await stream.close()
  nic.cleanReport()
})

test('doctor reads the driver’s switch for multicast that comes back, and says what it means', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  for (const [files, says] of [
    [{ [SWITCH]: 'Force local loopback disable is ON' }, /multicast is not looped back to this host \(\/sys\/class\/net\/v0\//],
    [{ [SWITCH]: 'Force local loopback disable is OFF' }, /may loop multicast back to receivers of this host.*`echo 1 > /],
    [{}, /may loop multicast back to receivers of this host.*that of MLNX_OFED has/],
  ] as const) {
    const nic = new Nic({ mode: 'null' })
    const told = await doctor(ns, [...withSysfs(files), ...nic.prefix], GROUP, '--interface', 'v0')
    expect(told.ibverbs).toEqual({ backend: 'ibverbs', works: true, reason: expect.stringMatching(says) })
    expect(told.backend).toBe('ibverbs')
  }
  const nic = new Nic({ mode: 'null' })
  expect((await doctor(ns, nic.prefix, TO)).ibverbs.reason).toBe('what auto takes')
})

test('ports without GIDs: the interface is the one with the port’s dev_port, not the first of the PCI function', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { gsoMaxSegs: 1 } })
  ns.ip('a', 'link add w0 type veth peer name w1')
  ns.ip('a', 'link set w0 up')
  ns.ip('a', 'address add 10.78.0.1/24 dev w0')
  const NET = 'infiniband/softnic0/device/net'
  // softnic0 has one port, and its function has the interfaces of two.
  const sysfs = withSysfs({ [`${NET}/w0/dev_port`]: '1', [`${NET}/v0/dev_port`]: '0' })
  const rejected = new Nic({ netdevs: ['v0'], faults: ['limit gids 0'] })
  const other: StreamOptions = { ...GROUP_OPTIONS, backend: 'ibverbs', interface: 'w0' }
  await expect(RemoteStream.open(ns, other, [...sysfs, ...rejected.prefix, 'env', 'SOFTNIC_RDMACM=off'])).rejects.toMatchObject({
    message: expect.stringMatching(/no RDMA device is behind interface w0; there are: softnic0 \(v0\)/),
  })
  const nic = new Nic({ netdevs: ['v0'], faults: ['limit gids 0'] })
  const wire = await capture(ns, 'b')
  const stream = await RemoteStream.open(ns, { ...GROUP_OPTIONS, backend: 'ibverbs' }, [...sysfs, ...nic.prefix])
  await stream.batch({ heaps: 2, bytes: 3000 })
  expect((await stream.send()).error).toBeUndefined()
  await stream.close()
  expect(packetsOfHeaps(await wire.stop()).size).toBe(2)
  nic.cleanReport()
})

test('a bridge is no bond: the device of one of its ports is not taken for it', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { a: [] } })
  ns.ip('a', 'link add br0 type bridge')
  ns.ip('a', 'link set br0 up')
  ns.ip('a', 'link set v0 master br0')
  ns.ip('a', 'address add 10.77.0.1/24 dev br0')
  const nic = new Nic({ mode: 'null', netdevs: ['v0'] })
  await expect(openOn(nic, ns, { ...GROUP_OPTIONS, interface: 'br0' })).rejects.toThrow(
    /no RDMA device is behind interface br0; there are: softnic0 \(v0\)/,
  )
})

const WAITS = 'infiniband/softnic0/ports/1/counters/port_xmit_wait'

/** A stream on a NIC whose port tells how long it could not send, as `tick` makes it tell. */
async function openHeld(ns: Netns, completionTimeoutMs: number) {
  const nic = new Nic({ mode: 'copy' })
  const file = join(nic.folder, 'waits')
  let waits = 7
  const tick = () => {
    writeFileSync(`${file}.new`, `${waits++}\n`)
    renameSync(`${file}.new`, file)
  }
  tick()
  const under = [...withSysfs({ [WAITS]: file }), ...nic.prefix]
  const stream = await RemoteStream.open(ns, { ...OPTIONS, backend: 'ibverbs', ibverbs: { completionTimeoutMs } }, under)
  await stream.batch({ heaps: 3, bytes: 5000 })
  return { nic, stream, tick }
}

function ticks(tick: () => void, everyMs: number): NodeJS.Timeout {
  const timer = setInterval(tick, everyMs)
  onTestFinished(() => clearInterval(timer))
  return timer
}

test('a port that pause frames hold up for longer than completionTimeoutMs: nothing fails, and the stall is told', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const { nic, stream, tick } = await openHeld(ns, 200)
  await nic.command('stall 8')
  const ticking = ticks(tick, 20)
  const sending = stream.send()
  await sleep(1000)
  await nic.command('resume')
  expect((await sending).error).toBeUndefined()
  clearInterval(ticking)
  const { states } = await stream.stats()
  expect(states).toMatchObject({ recoveries: 0, stalls: 1 })
  // The same silence of a port that does not wait is an end.
  await nic.command('stall 8')
  const { error } = await stream.send()
  expect(error!.outcome).toMatchObject({
    heaps: ['sent', 'partial', 'flushed'],
    causes: [
      { errnoName: 'ETIMEDOUT', message: expect.stringMatching(/no completion for 200 ms.*device answers and its port is up/) },
    ],
  })
  await stream.close()
  nic.cleanReport()
})

test('a port that is held up for ever: given up after a bound', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const { nic, stream, tick } = await openHeld(ns, 200)
  await nic.command('stall 8')
  const ticking = ticks(tick, 10)
  const { error } = await stream.send()
  clearInterval(ticking)
  expect(error!.outcome!.causes).toEqual([
    expect.objectContaining({ errnoName: 'ETIMEDOUT', message: expect.stringMatching(/no completion for 2600 ms/) }),
  ])
  await nic.command('resume')
  expect((await stream.send()).error).toBeUndefined()
  await stream.close()
  nic.cleanReport()
})

for (const thread of ['worker', 'inline'] as const) {
  test(`memory that takes long to be pinned does not hold up the other streams of the thread, ${thread}`, {
    timeout: 60_000,
  }, async (ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: {} })
    // Two seconds.
    const nic = new Nic({ mode: 'null', faults: ['limit pin_us_per_mib 50000'] })
    expect(await printed(ns, nic, {}, 'large-beside-small', TO, thread, 40 * MIB)).toEqual([...Array(20).fill('small'), 'large'])
    nic.cleanReport()
  })

  test(`large memory that cannot be pinned fails its batch with the remedy, ${thread}`, async (ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: {} })
    const nic = new Nic({ mode: 'null', faults: [`limit memlock_bytes ${20 * MIB}`] })
    const said = await printed<string[]>(ns, nic, {}, 'large-beside-small', TO, thread, 40 * MIB)
    expect(said.filter((word) => word !== 'small')).toEqual([
      expect.stringMatching(/the memory cannot be locked: ibv_reg_mr failed: ENOMEM \(\d+ bytes\); raise RLIMIT_MEMLOCK/),
    ])
    nic.cleanReport()
  })
}

test('a stream that is closed or dropped while its memory is being pinned: nothing is left', { timeout: 60_000 }, async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  for (const how of ['batch closed', 'destroyed', 'destroyed after send']) {
    const nic = new Nic({ mode: 'null', faults: ['limit pin_us_per_mib 20000'] })
    expect(await printed(ns, nic, {}, 'end-while-pinning', TO, how, 40 * MIB)).toBe('closed')
    nic.cleanReport()
  }
})

for (const thread of ['worker', 'inline'] as const)
  test(`a region of the user's is pinned once, as long as it lives, ${thread}`, async (ctx) => {
    needNic(ctx)
    await using ns = await makeNetns({ veth: {} })
    // Room for one of the two regions, and for the batches' own.
    const nic = new Nic({ mode: 'null', faults: [`limit memlock_bytes ${7 * MIB}`] })
    expect(await printed(ns, nic, {}, 'kept-region', TO, thread, 4 * MIB)).toEqual(Array(6).fill('sent'))
    const { made } = nic.cleanReport()
    // Two regions, and each batch's own.
    expect(made.mrs).toBe(2 + 6)
  })
