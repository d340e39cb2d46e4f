// Drops of a queue below the interface that packets leave by, compared with tc, in namespaces made here.
import { expect, test } from 'vitest'
import { riseOf } from '#dist/src/backend/udp/drop-counts.js'
import { need } from '../../support/need.js'
import { makeNetns, netnsUnavailable } from '../../support/netns.js'
import { programArgv } from '../../support/program.js'

test.for([
  ['one interface above', ['m0']],
  ['two interfaces above', ['m0', 'm1']],
  ['one interface above, and the parent itself', ['m0', 'v0']],
  ['the parent itself', ['v0']],
] as const)('%s: a drop of the parent counts once', async ([, names], ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  // Nothing but the test's packets may leave by the queue.
  for (const [i, name] of ['m0', 'm1'].entries()) {
    ns.ip('a', `link add link v0 name ${name} type macvlan mode private`)
    await ns.exec('a', ['sh', '-c', `echo 1 > /proc/sys/net/ipv6/conf/${name}/disable_ipv6`])
    ns.ip('a', `link set ${name} up`)
    ns.ip('a', `address add 10.8${i}.0.1/24 dev ${name}`)
    ns.ip('a', `neighbour add 10.8${i}.0.2 lladdr 02:00:00:00:00:02 dev ${name} nud permanent`)
  }
  ns.ip('a', 'neighbour add 10.77.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent')
  ns.tc('a', 'qdisc add dev v0 root tbf rate 8kbit burst 2000 limit 4000')
  const hosts = { m0: '10.80.0.2', m1: '10.81.0.2', v0: '10.77.0.2' }
  const given = [names, names.map((name) => hosts[name]), 50]
  const { stdout } = await ns.exec('a', ['prlimit', '--nofile=200', ...programArgv('backend/udp/drop-counts', ...given)])
  const { rows, told } = JSON.parse(stdout) as { rows: [number, number][]; told: boolean[] }
  expect(told).toEqual([false, true, false, true])
  const least = 50 * names.length - 8
  for (const [ours, theirs] of rows) {
    expect(ours).toBe(theirs)
    expect(ours).toBeGreaterThan(least)
  }
})

test('a counter of 32 bits wraps; one that is begun anew is no rise', () => {
  expect(riseOf(5, 2)).toBe(3)
  expect(riseOf(4, 2 ** 32 - 6)).toBe(10)
  expect(riseOf(2 ** 31 + 1, 2 ** 31 - 1)).toBe(2)
  expect(riseOf(7, 7)).toBe(0)
  expect(riseOf(0, 1000)).toBe(0)
})
