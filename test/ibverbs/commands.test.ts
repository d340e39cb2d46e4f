/** `devices` and `doctor` on the software NIC, and all commands where there is no libibverbs. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, type Netns } from '../support/netns.js'
import { CLI, Nic, needNic } from '../support/nic.js'
import { NOTHING_LEAKED } from '../support/softnic.js'

const TO = '10.77.0.2:7148'
const UNPRIVILEGED = ['--bounding-set', '-all', '--inh-caps', '-all']
const NOBODY = ['setpriv', '--reuid', '65534', '--regid', '65534', '--clear-groups', ...UNPRIVILEGED]

/** Runs as the user nobody, or as root without any capability where that user cannot read the program. */
function ordinaryUser(): readonly string[] {
  const reads = spawnSync(NOBODY[0]!, [...NOBODY.slice(1), process.execPath, CLI, '--version'])
  return reads.status === 0 ? NOBODY : ['setpriv', ...UNPRIVILEGED]
}

async function speadcast(ns: Netns, under: readonly string[], ...args: string[]) {
  const from = performance.now()
  const { code, stdout, stderr } = await ns.exec('a', [...under, process.execPath, CLI, ...args], { check: false })
  return { code, stdout, stderr, milliseconds: performance.now() - from }
}

test('devices: what the NIC is, for root and for an ordinary user, in text and JSON', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: { mtu: 9000 }, sink: {} })
  const nic = new Nic({
    mode: 'null',
    netdevs: ['v0'],
    faults: ['limit max_qp_wr 4000', 'limit rate_min_kbps 800', 'limit rate_max_kbps 8000000'],
  })
  const { code, stdout, stderr, milliseconds } = await speadcast(ns, nic.prefix, 'devices', '--json')
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(milliseconds).toBeLessThan(2000)
  const expected = {
    name: 'softnic0',
    firmware: '1.0.0',
    vendorId: 0,
    partId: 1,
    numaNode: -1,
    rawPackets: true,
    refused: '',
    datagrams: true,
    datagramsRefused: '',
    checksumOffload: true,
    pacing: { minBytesPerSecond: 100_000, maxBytesPerSecond: 1e9 },
    maxSges: 30,
    maxQueueDepth: 4000,
    ports: [
      {
        port: 1,
        linkLayer: 'Ethernet',
        active: true,
        gigabitsPerSecond: 100,
        mtuBytes: 9000,
        datagramBytes: 4096,
        interfaces: ['v0'],
        gids: expect.arrayContaining(['10.77.0.1', 'fd77::1']),
      },
    ],
  }
  expect(JSON.parse(stdout)).toEqual({ devices: [expected] })
  expect(nic.cleanReport().made.contexts).toBeGreaterThan(0)

  const other = new Nic({ mode: 'null', netdevs: ['v0'], faults: ['limit checksum 0', 'limit pacing 0', 'port down'] })
  const text = await speadcast(ns, other.prefix, 'devices')
  expect(text.code).toBe(0)
  for (const line of [
    /^softnic0\s+firmware 1\.0\.0$/,
    /raw packets\s+yes/,
    /datagrams\s+yes$/,
    /not filled by the device/,
    /hardware pacing\s+none/,
    /port 1\s+Ethernet, down, 100 Gb\/s, MTU 9000, datagrams of 4096 bytes, interface v0/,
  ])
    expect(text.stdout.split('\n').filter((each) => line.test(each))).toHaveLength(1)
  other.cleanReport()

  // The ordinary user may not write to our folder, so there is no report.
  const environment = { ...nic.environment, SOFTNIC_REPORT: '', SOFTNIC_CONTROL: '' }
  const prefix = [...ordinaryUser(), 'env', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`)]
  const nobody = await speadcast(ns, prefix, 'devices', '--json')
  expect(nobody.code).toBe(0)
  expect(nobody.milliseconds).toBeLessThan(2000)
  const [device] = JSON.parse(nobody.stdout).devices
  expect(device).toEqual({
    ...expected,
    rawPackets: false,
    refused: expect.stringMatching(/need CAP_NET_RAW: ibv_create_qp failed: EPERM \(softnic0\)/),
  })
})

test('devices: none, and no library', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const nic = new Nic({ netdevs: [] })
  expect(await speadcast(ns, nic.prefix, 'devices', '--json')).toMatchObject({
    code: 0,
    stdout: '{"devices":[]}\n',
    stderr: 'speadcast devices: this machine has no RDMA devices; backends udp and dgram need none\n',
  })
  expect(await speadcast(ns, nic.prefix, 'devices')).toMatchObject({ code: 0, stdout: '' })
  const missing = await speadcast(ns, [], 'devices', '--json', '--verbs-library', '/nonexistent.so')
  expect([missing.code, JSON.parse(missing.stdout)]).toMatchObject([1, { error: { exitStatus: 1 } }])
  expect(missing.stderr).toMatch(
    /^speadcast devices: .*\/nonexistent\.so could not be loaded \(.*\); install it \(Debian: libibverbs1 and ibverbs-providers\) \(speadcast explain ERR_SPEADCAST_BACKEND\)\n$/,
  )
  expect(await speadcast(ns, [], 'devices', '--verbs-library')).toMatchObject({ code: 2 })
})

interface Verdicts {
  backend: string
  reason: string
  sends: boolean
  problem: string
  backends: { backend: string; works: boolean; reason: string }[]
}

test('doctor: which backend, and why not the others', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {}, sink: {} })
  const doctor = async (under: readonly string[], ...args: string[]): Promise<Verdicts> => {
    const { code, stdout, stderr, milliseconds } = await speadcast(ns, under, 'doctor', '--json', ...args)
    expect(milliseconds).toBeLessThan(2000)
    const told = JSON.parse(stdout) as Verdicts
    const none = { code: 1, stderr: `speadcast doctor: nothing can be sent: ${told.problem}\n` }
    expect({ code, stderr }).toEqual(told.sends ? { code: 0, stderr: '' } : none)
    expect(told.backends.map(({ backend }) => backend)).toEqual(['ibverbs', 'udp', 'dgram', 'rdma-ud'])
    expect(told.backends.find(({ works }) => works)!.backend).toBe(told.backend)
    return told
  }
  const nic = new Nic({ mode: 'null', netdevs: ['v0'] })
  const nics = () => new Nic({ mode: 'null', netdevs: ['v0'] }).prefix
  expect(await doctor(nic.prefix, TO)).toMatchObject({ backend: 'ibverbs', reason: expect.stringMatching(/RDMA device/) })
  expect(nic.cleanReport()).toMatchObject({ posted: 0, leaked: NOTHING_LEAKED })
  for (const [args, why] of [
    [['127.0.0.1:7148'], /no RDMA device is behind interface lo; there are: softnic0 \(v0\)/],
    [[TO, '--interface', 'ifb9'], /no RDMA device is behind interface ifb9; there are: softnic0 \(v0\)/],
    [[TO, '10.99.0.7:7148'], /a queue pair sends through one port, but 10\.77\.0\.2:7148 goes by v0 and 10\.99\.0\.7:7148 by ifb9/],
    [['10.200.0.1:7148'], /no route to 10\.200\.0\.1|there is no route/],
  ] as const) {
    const told = await doctor(nics(), ...args)
    expect(told).toMatchObject({ backend: 'udp', backends: [{ works: false }, { works: true }, { works: true }, { works: false }] })
    expect(told.backends[0]!.reason).toMatch(why)
    expect(told.backends[3]!.reason).toMatch(why)
    expect(told.reason).toMatch(why)
  }
  const missing = await doctor([], TO, '--verbs-library', '/nonexistent.so')
  expect(missing.backends[0]!.reason).toMatch(/could not be loaded.*libibverbs1/)
  const environment = { ...nic.environment, SOFTNIC_REPORT: '', SOFTNIC_CONTROL: '' }
  const nobody = await doctor(
    [...ordinaryUser(), 'env', ...Object.entries(environment).map(([name, value]) => `${name}=${value}`)],
    TO,
  )
  expect(nobody.backends[0]).toMatchObject({ works: false, reason: expect.stringMatching(/CAP_NET_RAW/) })
  expect(nobody.backends[3]).toMatchObject({ works: true, reason: expect.stringMatching(/so auto never takes it/) })

  const text = await speadcast(ns, nics(), 'doctor', TO)
  expect(text.stdout).toMatch(
    /^auto takes\s+ibverbs\nibverbs\s+what auto takes\nudp\s+works, slower.*\ndgram\s+works, slower.*\nrdma-ud\s+works towards/,
  )
  expect(await speadcast(ns, nics(), 'doctor', 'nonsense')).toMatchObject({ code: 2, stdout: '' })
  expect(await speadcast(ns, nics(), 'doctor')).toMatchObject({ code: 2, stdout: '' })
  expect(await speadcast(ns, nics(), 'doctor', TO, '--interface', 'nope')).toMatchObject({ code: 2, stdout: '' })
})

/** A prefix that hides the system's libibverbs from one command; empty where there is none, undefined where it cannot be hidden. */
function withoutLibrary(): readonly string[] | undefined {
  const found = spawnSync('sh', ['-c', 'PATH=$PATH:/sbin:/usr/sbin ldconfig -p | sed -n "s/.*libibverbs.so.1 .*=> //p"'], {
    encoding: 'utf8',
  })
  const [file] = found.stdout.trim().split('\n')
  if (!file) return []
  const probe = ['unshare', '-m', 'sh', '-c', `mount --bind /dev/null ${file} && exec "$0" "$@"`]
  return spawnSync(probe[0]!, [...probe.slice(1), 'true']).status === 0 ? probe : undefined
}

test('a machine without libibverbs: the package loads and sends by udp and dgram; ibverbs names the package', async (ctx) => {
  const hidden = withoutLibrary()
  need(ctx, hidden, 'needs root to hide libibverbs in a mount namespace')
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  const notLoaded = /ibverbs: .*could not be loaded.*libibverbs1/
  // Where the kernel has no device, the system's library is not looked for, because installing it would change nothing.
  const devices = existsSync('/sys/class/infiniband') && readdirSync('/sys/class/infiniband').length > 0
  const hiddenReason = devices ? notLoaded : /ibverbs: this machine has no RDMA devices/
  for (const [under, more, why] of [
    [hidden, [], hiddenReason],
    [[], ['--verbs-library', '/nonexistent.so'], notLoaded],
    [['env', 'SPEADCAST_VERBS_LIBRARY=/nonexistent.so'], [], notLoaded],
  ] as const) {
    const send = async (...args: string[]) => speadcast(ns, under, 'send', TO, '-n', '5', '-H', '1000', '--json', ...args)
    const auto = await send(...more)
    expect(auto).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(auto.stdout)).toMatchObject({
      backend: 'udp',
      heaps: 5,
      heapsFailed: 0,
      reason: expect.stringMatching(why),
    })
    const dgram = await send('--backend', 'dgram')
    expect(dgram).toMatchObject({ code: 0, stderr: '' })
    expect(JSON.parse(dgram.stdout)).toMatchObject({ backend: 'dgram', heaps: 5 })
    const ibverbs = await send('--backend', 'ibverbs', ...more)
    expect([ibverbs.code, JSON.parse(ibverbs.stdout)]).toMatchObject([1, { error: { code: 'ERR_SPEADCAST_BACKEND' } }])
    expect(ibverbs.stderr).toMatch(
      /^speadcast send: --backend ibverbs cannot work here: \S+ could not be loaded \(.*\); install it \(Debian: libibverbs1 and ibverbs-providers\); .*--backend dgram can send there.* \(speadcast explain ERR_SPEADCAST_BACKEND\)\n$/,
    )
    expect((await speadcast(ns, under, 'doctor', TO, '--json', ...more)).code).toBe(0)
  }
})

test('options that contradict one another are refused before anything is opened', async (ctx) => {
  needNic(ctx)
  await using ns = await makeNetns({ veth: {} })
  for (const [args, message] of [
    [['--rate-method', 'hw', '--rate', '1Gbps'], /--rate-method hw: pacing by the NIC needs --backend ibverbs/],
    [['--backend', 'udp', '--poll', 'busy'], /--poll is for --backend ibverbs/],
    [['--backend', 'ibverbs', '--poll', 'sometimes'], /adaptive/],
    [
      ['--backend', 'ibverbs', '-p', '1473', '--verbs-library', 'x'],
      /-p 1473 \+ 28 exceeds MTU 1500 of v0; pass -p 1472 or raise the MTU \(/,
    ],
  ] as const) {
    const { code, stdout, stderr } = await speadcast(ns, [], 'send', TO, ...args)
    expect({ code, stdout }, args.join(' ')).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
  }
})
