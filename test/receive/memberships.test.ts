// Groups and interfaces: a receiver hears its own interface alone, and again when that was made anew.
import type { ReceiverEvent } from 'speadcast/receive'
import { expect, test } from 'vitest'
import { CLI } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import { programArgv } from '../support/program.js'
import { recvArgv, watch } from './support.js'

const GROUPS = ['239.10.0.1:7148', '[ff15::1]:7148']
const UNPRIVILEGED = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups', '--inh-caps=-all', '--bounding-set=-all']

interface Told {
  heaps: number
  heapsCorrupt: number
  reason: string
  packets: number
  groupsRejoined: number
}

async function receiver(ns: Netns, args: readonly string[], under: readonly string[] = []) {
  const run = watch(ns.spawn('b', [...under, ...recvArgv('--json', ...args)], { stdio: ['ignore', 'pipe', 'pipe'] }))
  await run.said(/^listening on/m)
  return run
}

const send = (ns: Netns, to: string, on: string, ...more: string[]) =>
  ns.exec('a', ['node', CLI, 'send', to, '--interface', on, '-n', '3', '-H', '8KiB', '--ttl', '2', '-p', '1400', ...more])

async function twoNetworks(): Promise<Netns> {
  const ns = await makeNetns({ veth: {} })
  ns.ip('a', `link add w0 type veth peer name w1 netns ${ns.name.b}`)
  for (const [where, link, address] of [
    ['a', 'w0', 1],
    ['b', 'w1', 2],
  ] as const) {
    ns.ip(where, `link set ${link} up`)
    ns.ip(where, `address add 10.78.0.${address}/24 dev ${link}`)
    ns.ip(where, `address add fd78::${address}/64 dev ${link} nodad`)
  }
  return ns
}

test.for(['native', 'dgram'])('%s: --interface keeps out what the other network sends to the same group', async (backend, ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await twoNetworks()
  for (const group of GROUPS)
    for (const under of [[], UNPRIVILEGED]) {
      const args = [group, '--backend', backend, '--timeout', '15']
      const first = await receiver(ns, [...args, '--interface', 'v1'], under)
      const second = await receiver(ns, [...args, '--interface', 'w1'], under)
      // The stop heap of the other network must not end it.
      await send(ns, group, 'w0')
      await second.ended
      await send(ns, group, 'v0', '-n', '5')
      const [one, two] = [await first.ended, await second.ended].map(({ stdout }) => JSON.parse(stdout) as Told)
      expect({ group, one, two }).toMatchObject({ group, one: { heaps: 5, reason: 'stop' }, two: { heaps: 3, reason: 'stop' } })
    }
})

/** Takes the pair of links away and makes it anew, with the same names and addresses. */
function renew(ns: Netns): void {
  ns.ip('b', 'link del v1')
  ns.ip('a', `link add v0 type veth peer name v1 netns ${ns.name.b}`)
  for (const [where, link, address] of [
    ['b', 'v1', 2],
    ['a', 'v0', 1],
  ] as const) {
    ns.ip(where, `link set ${link} up`)
    ns.ip(where, `address add 10.77.0.${address}/24 dev ${link}`)
    ns.ip(where, `address add fd77::${address}/64 dev ${link} nodad`)
    ns.ip(where, `route replace 224.0.0.0/4 dev ${link}`)
  }
}

test.for([
  ['native', ['--interface', 'v1'], []],
  ['native', ['--interface', 'v1'], UNPRIVILEGED],
  ['native', [], []],
  ['dgram', ['--interface', 'v1'], []],
  ['dgram', [], []],
] as const)('%s %j under %j: an interface made anew is joined again, and that is told', async ([backend, on, under], ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  ns.ip('b', 'route add 224.0.0.0/4 dev v1')
  for (const group of GROUPS) {
    const run = await receiver(ns, [group, ...on, '--backend', backend, '--timeout', '20'], under)
    await send(ns, group, 'v0', '--no-stop')
    renew(ns)
    await run.said(/joined again on/)
    await send(ns, group, 'v0')
    const { code, stdout, stderr } = await run.ended
    expect({ code, stderr }).toMatchObject({ code: 0, stderr: expect.stringMatching(/: joined again on v1, which was made anew;/) })
    expect(stderr).not.toMatch(/Warning/)
    expect({ group, ...(JSON.parse(stdout) as Told) }).toMatchObject({ group, heaps: 6, reason: 'stop', groupsRejoined: 1 })
  }
})

test('an interface made anew is an event, for those who iterate and on a channel of node:diagnostics_channel', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  // Without its interface for longer than the time between two looks.
  const run = watch(ns.spawn('b', programArgv('receive/changes', GROUPS[0]!, '2', 'v1'), { stdio: ['ignore', 'pipe', 'pipe'] }))
  await run.said(/^listening/m)
  ns.ip('b', 'link set v1 name v9')
  await run.said(/cannot be received/)
  ns.ip('b', 'link set v9 down')
  ns.ip('b', 'link set v9 name v1')
  renew(ns)
  const { told, same } = JSON.parse((await run.ended).stdout) as { told: ReceiverEvent[]; same: boolean }
  expect(same).toBe(true)
  expect(told).toEqual([
    {
      ...{ kind: 'membership', endpoint: GROUPS[0], time: expect.any(Number), heaps: 0, waitingHeaps: 0 },
      message: `${GROUPS[0]}: cannot be received on v1 (ENODEV); it is joined again when that is possible`,
      ...{ before: { joined: true, interface: 'v1' }, after: { joined: false } },
    },
    {
      ...{ kind: 'membership', endpoint: GROUPS[0], time: expect.any(Number), heaps: 0, waitingHeaps: 0 },
      message: expect.stringMatching(/: (joined|received) again on v1, /),
      ...{ before: { joined: false, interface: 'v1' }, after: { joined: true, interface: 'v1' } },
    },
  ])
  expect(told[0]!.time).toBeLessThanOrEqual(told[1]!.time)
})

test('a group that is still joined when its route is back is said to be received again', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  const routes = ['ff00::/8 dev v1 table local', 'ff15::/16 dev v1 table local']
  ns.ip('b', `-6 route add multicast ${routes[1]} metric 1`)
  const run = watch(ns.spawn('b', programArgv('receive/changes', GROUPS[1]!, '2'), { stdio: ['ignore', 'pipe', 'pipe'] }))
  await run.said(/^listening/m)
  for (const route of routes) ns.ip('b', `-6 route del multicast ${route}`)
  await run.said(/cannot be received/)
  ns.ip('b', `-6 route add multicast ${routes[1]} metric 1`)
  const { told } = JSON.parse((await run.ended).stdout) as { told: ReceiverEvent[] }
  expect(told.map(({ message }) => message)).toEqual([
    expect.stringMatching(/cannot be received on an interface by its route \(there is no route to /),
    `${GROUPS[1]}: received again on v1, where it is still joined`,
  ])
})

/** Has groups of both families come in by an interface. */
function routeGroups(ns: Netns, device: string): void {
  ns.ip('b', `route replace 224.0.0.0/4 dev ${device}`)
  ns.ip('b', `-6 route replace multicast ff15::/16 dev ${device} table local metric 1`)
}

test.for(['native', 'dgram'])(
  '%s: a group whose route leads elsewhere is followed, and nothing is said to be made anew',
  async (backend, ctx) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await twoNetworks()
    for (const group of GROUPS) {
      routeGroups(ns, 'v1')
      const run = await receiver(ns, [group, '--backend', backend, '--timeout', '20'])
      await send(ns, group, 'v0', '--no-stop')
      if (group.startsWith('[')) ns.ip('b', '-6 route del multicast ff15::/16 dev v1 table local')
      routeGroups(ns, 'w1')
      await run.said(/joined again on/)
      await send(ns, group, 'w0')
      const { code, stdout, stderr } = await run.ended
      expect({ code, stderr }).toMatchObject({
        code: 0,
        stderr: expect.stringMatching(
          /: joined again on w1, where its route leads now instead of v1; what was sent meanwhile is lost$/m,
        ),
      })
      expect({ group, ...(JSON.parse(stdout) as Told) }).toMatchObject({ group, heaps: 6, reason: 'stop', groupsRejoined: 1 })
      if (group.startsWith('[')) ns.ip('b', '-6 route del multicast ff15::/16 dev w1 table local')
    }
  },
)

test.for(['native', 'dgram'])('%s: --interface 0.0.0.0 and :: name any, as no interface does', async (backend, ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  ns.ip('b', 'route add 224.0.0.0/4 dev v1')
  for (const [group, any] of [
    [GROUPS[0]!, '0.0.0.0'],
    [GROUPS[1]!, '::'],
    ['10.77.0.2:7148', '0.0.0.0'],
    ['0.0.0.0:7148', '0.0.0.0'],
  ] as const) {
    const run = await receiver(ns, [group, '--interface', any, '--backend', backend, '--timeout', '15'])
    await send(ns, group.replace('0.0.0.0', '10.77.0.2'), 'v0')
    const { stdout } = await run.ended
    expect({ group, ...(JSON.parse(stdout) as Told) }).toMatchObject({ group, heaps: 3, reason: 'stop' })
  }
})
