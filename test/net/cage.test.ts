// A service that may open sockets of a few address families only (systemd: RestrictAddressFamilies=), by a seccomp filter.
import { expect, test } from 'vitest'
import { cage, cageUnavailable } from '../support/cage.js'
import { CLI } from '../support/cli.js'
import { need } from '../support/need.js'
import { type ExecResult, makeNetns, type Netns, netnsUnavailable, waitForOutput } from '../support/netns.js'

const NO_NETLINK = ['AF_INET', 'AF_INET6', 'AF_UNIX']

function needCages(ctx: Parameters<typeof need>[0]): void {
  const why = netnsUnavailable() || cageUnavailable()
  need(ctx, !why, why)
}

const caged = (ns: Netns, families: readonly string[], ...args: string[]): Promise<ExecResult> =>
  ns.exec('a', [...cage(...families), process.execPath, CLI, ...args], { check: false })

test('interfaces without netlink are those that netlink tells, with all addresses, down ones too', async (ctx) => {
  needCages(ctx)
  await using ns = await makeNetns({ veth: { mtu: 9000 }, sink: { mtu: 4000, addresses: ['10.99.0.1/24'] } })
  ns.ip('a', 'address add 10.77.0.9/24 dev v0')
  ns.ip('a', 'address add 10.78.0.9/24 dev v0 label v0:1')
  ns.ip('a', 'link add dark type ifb')
  ns.ip('a', 'address add 10.88.0.1/24 dev dark')
  ns.ip('a', 'tuntap add dev t0 mode tun')
  const code = `
    import { localInterfaces } from '#dist/src/net/interface.js'
    const pick = ({ name, index, mtu, mac, up, loopback, addresses }) =>
      ({ name, index, mtu, mac: String(mac), up, loopback, addresses: addresses.map(({ bytes }) => String(bytes)).sort() })
    console.log(JSON.stringify(localInterfaces().map(pick).sort((a, b) => a.index - b.index)))`
  const told = async (before: readonly string[]) => {
    const { stdout } = await ns.exec('a', [...before, process.execPath, '--input-type=module', '-e', code])
    return JSON.parse(stdout) as { name: string }[]
  }
  const free = await told([])
  expect(free.map(({ name }) => name)).toEqual(['lo', 'v0', 'ifb9', 'dark', 't0'])
  expect(await told(cage(...NO_NETLINK))).toEqual(free)
  expect(await told(cage('AF_INET6'))).toEqual(free)
  expect(await told(cage('AF_UNIX'))).toEqual(free)
})

test('without AF_NETLINK auto sends by dgram, through the interface asked for too, and names what to allow', async (ctx) => {
  needCages(ctx)
  await using ns = await makeNetns({ veth: {} })
  const receive = async (endpoint: string): Promise<{ done: Promise<unknown> }> => {
    const on = /239|ff15/.test(endpoint) ? ['--interface', 'v1'] : []
    const argv = [...cage(...NO_NETLINK), process.execPath, CLI, 'recv', endpoint, ...on, '--json', '--verify', '--timeout', '15']
    const receiver = ns.spawn('b', ['sh', '-c', 'exec "$@" 2>&1', 'sh', ...argv], { stdio: ['ignore', 'pipe', 'inherit'] })
    await waitForOutput(receiver, /listening/)
    return { done: waitForOutput(receiver, /^\{.*\}$/m, 20_000).then(([json]) => JSON.parse(json)) }
  }
  const remedy = /^udp: .*EAFNOSUPPORT.*AF_NETLINK.*RestrictAddressFamilies=/
  for (const [to, ...options] of [
    ['10.77.0.2:7148'],
    ['10.77.0.2:7148', '--interface', 'v0'],
    ['10.77.0.2:7148', '--interface', '10.77.0.1'],
    ['[fd77::2]:7148', '--interface', 'v0'],
    ['239.10.0.1:7148', '--interface', 'v0'],
    ['[ff15::1]:7148', '--interface', 'v0'],
  ] as const) {
    const received = await receive(to)
    const sent = await caged(ns, NO_NETLINK, 'send', to, ...options, '-n', '3', '-H', '8KiB', '--json')
    expect({ to, code: sent.code, stderr: sent.stderr }).toEqual({ to, code: 0, stderr: '' })
    expect(JSON.parse(sent.stdout)).toMatchObject({
      backend: 'dgram',
      reason: expect.stringMatching(remedy),
      heaps: 3,
      heapsFailed: 0,
    })
    expect(await received.done).toMatchObject({ heaps: 3, heapsCorrupt: 0, reason: 'stop' })
  }
})

test('backend udp by name, devices and doctor: refused with what to allow', async (ctx) => {
  needCages(ctx)
  await using ns = await makeNetns({ veth: {} })
  const refusal = /netlink.*AF_NETLINK/
  const udp = await caged(ns, NO_NETLINK, 'send', '10.77.0.2:7148', '--backend', 'udp', '-n', '1')
  expect(udp).toMatchObject({ code: 1, stdout: '', stderr: expect.stringMatching(refusal) })
  expect(udp.stderr).toMatch(/^speadcast send: --backend udp cannot work here: .* \(speadcast explain ERR_SPEADCAST_BACKEND\)\n$/)
  const unknown = await caged(ns, NO_NETLINK, 'send', '10.77.0.2:7148', '--interface', 'eth9', '-n', '1')
  expect(unknown).toMatchObject({ code: 2, stdout: '' })
  expect(unknown.stderr).toMatch(/^speadcast send: no interface is named 'eth9'; there are: lo \(.*v0 \(10\.77\.0\.1, .*\n$/)
  const doctor = await caged(ns, NO_NETLINK, 'doctor', '10.77.0.2:7148', '--interface', 'v0', '--json')
  expect(doctor).toMatchObject({ code: 0, stderr: '' })
  const { backend, reason, backends } = JSON.parse(doctor.stdout)
  expect({ backend, reason }).toEqual({ backend: 'dgram', reason: expect.stringMatching(refusal) })
  for (const each of backends) expect(each.works).toBe(each.backend === 'dgram')
})

test.for([
  ['send', 'AF_INET6', '127.0.0.1:7148', 'AF_INET'],
  ['send', 'AF_INET', '[::1]:7148', 'AF_INET6'],
  ['recv', 'AF_INET6', '127.0.0.1:7148', 'AF_INET'],
  ['recv', 'AF_INET', '[::1]:7148', 'AF_INET6'],
] as const)('%s with %s alone to or on %s: told to allow %s', async ([command, allowed, to, missing], ctx) => {
  needCages(ctx)
  await using ns = await makeNetns()
  for (const families of [[allowed], [allowed, 'AF_NETLINK']])
    for (const backend of ['auto', 'dgram']) {
      const { code, stdout, stderr } = await caged(ns, families, command, to, '--backend', backend)
      expect({ code, stdout }).toEqual({ code: expect.toBeOneOf([1, 2]), stdout: '' })
      expect(stderr).toMatch(new RegExp(`^speadcast ${command}: cannot .*EAFNOSUPPORT.*; allow ${missing} in [^\n]*\n$`))
    }
})
