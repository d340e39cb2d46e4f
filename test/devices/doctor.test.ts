// `doctor` says what `send` would meet: routes, neighbours, the MTU; on a real kernel.
import { expect, test } from 'vitest'
import { inFlags } from '#dist/src/cli/common/wording.js'
import { DEFAULT_PACKET_SIZE_BYTES } from '#dist/src/devices/doctor.js'
import { explainBackends } from '#dist/src/devices/index.js'
import { DEFAULTS, SpeadcastError } from '#dist/src/index.js'
import { cage, cageUnavailable } from '../support/cage.js'
import { CLI } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'

function needNetns(ctx: Parameters<typeof need>[0]): void {
  const why = netnsUnavailable()
  need(ctx, !why, why)
}

const speadcast = (ns: Netns, args: readonly string[], under: readonly string[] = []) =>
  ns.exec('a', [...under, process.execPath, CLI, ...args], { check: false })

/** The kernel may take a second to notice a carrier, and drops what asks for a neighbour until then. */
async function veth(mtu: number): Promise<Netns> {
  const ns = await makeNetns({ veth: { mtu } })
  while (JSON.parse(ns.ip('a', '-json link show v0'))[0].operstate !== 'UP') await new Promise((resolve) => setTimeout(resolve, 10))
  return ns
}

const HOST_CHECKS = [
  'CPU governor',
  'isolated CPUs',
  'NUMA nodes',
  'huge pages',
  'net.core.wmem_max',
  'net.core.rmem_max',
  'clock',
  'TAI offset',
  'real-time priority',
  'locked memory',
]

interface Told {
  sends: boolean
  backends: { backend: string; works: boolean; reason: string }[]
  problem: string
  warnings: string[]
  backend: string
  host: { name: string; state: string; value: string; reason: string; remedy: string }[]
  endpoints: { endpoint: string; interface: string; mtuBytes: number; largestPacketSizeBytes: number; problem: string }[]
}

/** Runs doctor; its exit status and standard error must agree with what it tells. */
async function doctor(ns: Netns, args: readonly string[], under: readonly string[] = []): Promise<Told> {
  const { code, stdout, stderr } = await speadcast(ns, ['doctor', '--json', ...args], under)
  const told = JSON.parse(stdout) as Told
  const warned = told.warnings
    .map((warning) => `speadcast: warning: ${inFlags(warning)} (speadcast explain SPEADCAST_INTERFACE)\n`)
    .join('')
  expect({ code, stderr }).toEqual(
    told.sends
      ? { code: 0, stderr: warned }
      : { code: 1, stderr: `${warned}speadcast doctor: nothing can be sent: ${inFlags(told.problem)}\n` },
  )
  return told
}

test('the packet size that it assumes is that of openStream', () => {
  expect(DEFAULT_PACKET_SIZE_BYTES).toBe(DEFAULTS.packetSizeBytes)
})

test('of tcp:// it tells the way, connects to nobody, and refuses what a stream would', async (ctx) => {
  needNetns(ctx)
  await using ns = await veth(1500)
  const way = { endpoint: 'tcp://10.77.0.2:7148', interface: 'v0', mtuBytes: 1500, largestPacketSizeBytes: 65507, problem: '' }
  const told = await doctor(ns, ['tcp://10.77.0.2:7148', '-p', '9000'])
  expect(told).toMatchObject({ backend: 'tcp', sends: true, backends: [{ backend: 'tcp', works: true }], endpoints: [way] })
  const nobody = await doctor(ns, ['tcp://10.77.0.77:7148'])
  expect(nobody).toMatchObject({ backend: 'tcp', sends: false, problem: expect.stringContaining('nobody answers for its address') })
  expect(await doctor(ns, ['tcp://192.0.2.1:7148'])).toMatchObject({ sends: false, problem: expect.stringContaining('no route') })
  for (const [endpoints, message] of [
    [['tcp://10.77.0.2:7148', '10.77.0.2:7148'], 'endpoints mix TCP and UDP'],
    [['tcp://239.10.0.1:7148'], 'which no TCP connection leads to'],
  ] as const) {
    const { code, stderr } = await speadcast(ns, ['doctor', ...endpoints])
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringContaining(message) })
  }
})

test('where packets would leave: interface, MTU and the largest -p', async (ctx) => {
  needNetns(ctx)
  await using ns = await veth(9000)
  ns.ip('a', 'route add 10.200.0.0/16 via 10.77.0.2 mtu 4000')
  const good = { interface: 'v0', problem: '' }
  expect(await doctor(ns, ['10.77.0.2:7148', '10.200.0.1:7148', '239.10.0.1:7148', '--interface', 'v0'])).toMatchObject({
    sends: true,
    problem: '',
    backend: 'udp',
    endpoints: [
      { ...good, endpoint: '10.77.0.2:7148', mtuBytes: 9000, largestPacketSizeBytes: 8972 },
      { ...good, endpoint: '10.200.0.1:7148', mtuBytes: 4000, largestPacketSizeBytes: 3972 },
      { ...good, endpoint: '239.10.0.1:7148', mtuBytes: 9000, largestPacketSizeBytes: 8972 },
    ],
  })
  const [v6] = (await doctor(ns, ['[fd77::2]:7148'])).endpoints
  expect(v6).toEqual({ ...good, endpoint: '[fd77::2]:7148', mtuBytes: 9000, largestPacketSizeBytes: 8952 })
  const { stdout } = await speadcast(ns, ['doctor', '10.77.0.2:7148'])
  expect(stdout).toMatch(/^auto takes +udp\n(.*\n)*10\.77\.0\.2:7148 +by v0, MTU 9000: -p up to 8972\n$/)
})

test('a packet beyond the MTU: the largest is named, and with that it sends, as send itself', async (ctx) => {
  needNetns(ctx)
  await using ns = await veth(1400)
  for (const [to, largest] of [
    ['10.77.0.2:7148', 1372],
    ['[fd77::2]:7148', 1352],
    ['239.10.0.1:7148', 1372],
  ] as const) {
    const on = ['--interface', 'v0']
    const told = await doctor(ns, [to, ...on])
    expect(told).toMatchObject({ sends: false, endpoints: [{ interface: 'v0', mtuBytes: 1400, largestPacketSizeBytes: largest }] })
    expect(told.problem).toMatch(`exceeds MTU 1400 of v0; pass packetSizeBytes ≤ ${largest}`)
    expect((await speadcast(ns, ['send', to, ...on, '-n', '1'])).stderr).toContain(inFlags(told.problem))
    expect(await doctor(ns, [to, ...on, '-p', `${largest}`])).toMatchObject({ sends: true })
    expect((await doctor(ns, [to, ...on, '-p', `${largest + 1}`])).sends).toBe(false)
    expect((await speadcast(ns, ['send', to, ...on, '-n', '1', '-p', `${largest}`])).code).toBe(0)
  }
})

test('no route, a route that refuses, an interface without the way, a broadcast address: what send says', async (ctx) => {
  needNetns(ctx)
  await using ns = await veth(1500)
  ns.ip('a', 'route add prohibit 10.203.0.0/16')
  ns.ip('a', 'route add blackhole 10.204.0.0/16')
  ns.ip('a', '-6 route add unreachable fd88::/64')
  for (const args of [
    ['8.8.8.8:7148'],
    ['[2001:db8::1]:7148'],
    ['10.203.0.1:7148'],
    ['10.204.0.1:7148'],
    ['[fd88::1]:7148'],
    ['239.10.0.1:7148'],
    ['10.77.0.255:7148'],
    ['10.77.0.2:7148', '8.8.8.8:7148'],
  ]) {
    const told = await doctor(ns, args)
    const sent = await speadcast(ns, ['send', ...args, '-n', '1'])
    expect({ args, sends: told.sends, code: sent.code }).toEqual({ args, sends: false, code: 1 })
    expect(sent.stderr).toMatch(/ \(speadcast explain ERR_SPEADCAST_\w+\)\n$/)
    expect(sent.stderr.replace(/ \(speadcast explain \w+\)\n$/, '')).toBe(`speadcast send: ${inFlags(told.problem)}`)
  }
})

test('a link-local address without its interface is a mistake in the arguments, as of send; with it doctor tells the way', async (ctx) => {
  needNetns(ctx)
  await using ns = await veth(9000)
  for (const args of [['[fe80::9]:7148'], ['[fd77::2]:7148', '[fe80::9]:7148'], ['[ff02::77]:7148']]) {
    const [told, sent] = [await speadcast(ns, ['doctor', ...args]), await speadcast(ns, ['send', ...args, '-n', '1'])]
    expect({ args, code: told.code, stderr: told.stderr }).toEqual({
      args,
      code: sent.code,
      stderr: sent.stderr.replace('speadcast send:', 'speadcast doctor:'),
    })
    expect(told.code).toBe(2)
    const { error } = JSON.parse((await speadcast(ns, ['doctor', ...args, '--json'])).stdout)
    expect(error).toMatchObject({ code: 'ERR_SPEADCAST_INTERFACE', exitStatus: 2 })
  }
  // ip(8) prints an empty object for each interface and each address that it leaves out.
  const shown: { addr_info?: { local?: string }[] }[] = JSON.parse(ns.ip('b', '-json -6 address show dev v1 scope link'))
  const peer = shown.flatMap(({ addr_info = [] }) => addr_info).find(({ local }) => local !== undefined)!.local
  // The peer answers for its address once duplicate address detection is over, a second or two behind the link.
  for (const args of [[`[${peer}%v0]:7148`], [`[${peer}]:7148`, '--interface', 'v0']])
    await expect
      .poll(() => doctor(ns, args), { timeout: 15_000, interval: 200 })
      .toMatchObject({ sends: true, problem: '', endpoints: [{ interface: 'v0', mtuBytes: 9000 }] })
})

test('what the host is set to is told with a command for what is amiss, and fails nothing', async (ctx) => {
  needNetns(ctx)
  await using ns = await veth(1500)
  const { host, sends } = await doctor(ns, ['10.77.0.2:7148'])
  expect(sends).toBe(true)
  expect(host.map(({ name }) => name)).toEqual(HOST_CHECKS)
  for (const { state, remedy, value } of host) {
    expect(['ok', 'warn', 'unknown']).toContain(state)
    expect(value).not.toBe('')
    if (state === 'warn') expect(remedy).not.toBe('')
  }
  // Without rights there is more to mend.
  const under = ['prlimit', '--memlock=65536', 'setpriv', '--bounding-set=-sys_nice,-ipc_lock']
  const poor = (await doctor(ns, ['10.77.0.2:7148'], under)).host
  expect(poor).toContainEqual(
    expect.objectContaining({
      name: 'locked memory',
      state: 'warn',
      value: '65536 bytes',
      remedy: expect.stringMatching(/^ulimit -l/),
    }),
  )
  const { stdout } = await speadcast(ns, ['doctor', '10.77.0.2:7148'], under)
  expect(stdout).toMatch(/^locked memory +warn: 65536 bytes; .*--backend ibverbs.*\. To change it: ulimit -l unlimited/m)
})

test('a neighbour that does not answer, the router too; one of two is enough to send to', async (ctx) => {
  needNetns(ctx)
  await using ns = await veth(9000)
  ns.ip('a', 'route add 10.200.0.0/16 via 10.77.0.9')
  for (const [to, whom] of [
    ['10.77.0.7:7148', /nobody answers for its address on v0/],
    ['[fd77::7]:7148', /nobody answers for its address on v0/],
    ['10.200.0.1:7148', /nobody answers for 10\.77\.0\.9, the router on its way, on v0/],
  ] as const) {
    const told = await doctor(ns, [to])
    expect(told).toMatchObject({ sends: false, problem: expect.stringMatching(whom), endpoints: [{ problem: told.problem }] })
  }
  const both = await doctor(ns, ['10.77.0.2:7148', '10.77.0.7:7148'])
  expect(both).toMatchObject({
    sends: true,
    problem: '',
    endpoints: [{ problem: '' }, { problem: expect.stringMatching(/nobody/) }],
  })
  // Where a firewall forbids to ask, nobody knows whether somebody would answer: send opens too.
  await ns.exec('a', [
    'nft',
    'add table ip t; add chain ip t o { type filter hook output priority 0; }; add rule ip t o udp dport 9 drop',
  ])
  expect(await doctor(ns, ['10.77.0.8:7148'])).toMatchObject({ sends: true })
})

test('an interface that does not lead to the endpoint: the warning is that of send', { timeout: 60_000 }, async (ctx) => {
  needNetns(ctx)
  const why = cageUnavailable()
  need(ctx, !why, why)
  await using ns = await veth(9000)
  for (const under of [[], cage('AF_INET', 'AF_INET6', 'AF_UNIX')])
    for (const args of [
      ['10.77.0.2:7148', '--interface', 'lo'],
      ['10.77.0.2:7148', '--interface', '0.0.0.0'],
      ['[fd77::2]:7148', '--interface', '::'],
      ['0.0.0.0:7148'],
      ['10.77.0.2:7148', '--interface', 'v0'],
      ['127.0.0.1:7148', '--interface', 'lo'],
    ]) {
      const { warnings, sends } = await doctor(ns, args, under)
      const { stderr, code } = await speadcast(ns, ['send', '-n', '1', '-H', '100', ...args], under)
      const warned = stderr.match(/^speadcast: warning: .*\n/gm) ?? []
      expect({ args, warned, code }).toEqual({
        args,
        warned: warnings.map((text) => `speadcast: warning: ${text} (speadcast explain SPEADCAST_INTERFACE)\n`),
        code: sends ? 0 : 1,
      })
      expect(warnings.length).toBe(/v0|127/.test(args.join(' ')) ? 0 : 1)
    }
})

test('without AF_NETLINK, as dgram sends: a route is known by connecting', async (ctx) => {
  needNetns(ctx)
  const why = cageUnavailable()
  need(ctx, !why, why)
  await using ns = await veth(9000)
  const under = cage('AF_INET', 'AF_INET6', 'AF_UNIX')
  const unknown = { interface: '', mtuBytes: 0, largestPacketSizeBytes: 0, problem: '' }
  for (const endpoint of ['10.77.0.2:7148', '[fd77::2]:7148'])
    expect(await doctor(ns, [endpoint], under)).toMatchObject({
      backend: 'dgram',
      sends: true,
      endpoints: [{ endpoint, ...unknown }],
    })
  const named = await doctor(ns, ['239.10.0.1:7148', '--interface', 'v0'], under)
  expect(named).toMatchObject({ sends: true, endpoints: [{ interface: 'v0', mtuBytes: 9000, largestPacketSizeBytes: 8972 }] })
  for (const to of ['8.8.8.8:7148', '[2001:db8::1]:7148'])
    expect(await doctor(ns, [to], under)).toMatchObject({ sends: false, problem: expect.stringMatching(/ENETUNREACH/) })
})

test.for([
  [5, {}],
  [[], {}],
  [[5], {}],
  [undefined, {}],
  ['127.0.0.1:7148', 5],
  ['127.0.0.1:7148', null],
  ['127.0.0.1:7148', { interface: 5 }],
  ['127.0.0.1:7148', { library: 5 }],
  ['127.0.0.1:7148', { packetSizeBytes: '1472' }],
  ['127.0.0.1:7148', { nosuch: 1 }],
])('explainBackends(%j, %j) is refused with our code', async ([to, options]) => {
  const error = await explainBackends(to as string, options as object).catch((error: unknown) => error)
  expect(error).toBeInstanceOf(SpeadcastError)
  expect(error).toMatchObject({ code: 'ERR_SPEADCAST_CONFIG', message: expect.stringMatching(/^explainBackends: /) })
})
