/**
 * Streams in a process that has no descriptor left: opening refuses and leaves nothing open, and an open stream keeps what it
 * knew.
 */
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { programArgv } from '../support/program.js'

interface Got {
  codes: string[]
  enough: number
  leaked: number
  calm: string
  during: string[]
  substreamsRejected?: number
  healed: string[]
  states: Record<string, unknown>
}

const ROUTE = ['route replace 10.99.0.0/24 via 10.78.0.2']
const NEIGHBOUR = ['neigh del 10.77.0.2 dev v0']
const ADDRESS = ['address del 10.77.0.1/24 dev v0', 'address add 10.77.0.5/24 dev v0']

test.for([
  { options: { backend: 'udp', to: '10.99.0.1:7148' }, change: ROUTE, states: { interface: 'w0' } },
  { options: { backend: 'udp', to: '10.99.0.1:7148', udpPath: 'io_uring' }, change: ROUTE, states: { interface: 'w0' } },
  { options: { backend: 'udp', to: '10.99.0.1:7148', thread: 'inline' }, change: ROUTE, states: { interface: 'w0' } },
  { options: { backend: 'udp', to: ['10.99.0.1:7148', '10.99.0.1:7149'] }, change: ROUTE, states: { interface: 'w0' } },
  { options: { backend: 'udp', to: '10.77.0.2:7148' }, change: NEIGHBOUR, states: { substreamsWithoutNeighbour: 0 } },
  { options: { backend: 'udp', to: '10.77.0.2:7148', interface: 'v0' }, change: ADDRESS, states: { sourceAddress: '10.77.0.5' } },
  { options: { backend: 'dgram', to: '10.77.0.2:7148', interface: 'v0' }, change: ADDRESS, states: { sourceAddress: '10.77.0.5' } },
] as const)('no descriptor is left: $options', { timeout: 60_000 }, async ({ options, change, states }, ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: {} })
  ns.ip('a', `link add w0 type veth peer name w1 netns ${ns.name.b}`)
  for (const [where, device, host] of [
    ['a', 'w0', 1],
    ['b', 'w1', 2],
  ] as const) {
    ns.ip(where, `link set ${device} up`)
    ns.ip(where, `address add 10.78.0.${host}/24 dev ${device}`)
  }
  ns.ip('b', 'address add 10.99.0.1/32 dev lo')
  ns.ip('a', 'route add 10.99.0.0/24 via 10.77.0.2')
  const given = { options: { descriptors: 'none', packetSizeBytes: 1400, ...options }, change }
  const { stdout } = await ns.exec('a', ['prlimit', '--nofile=200', ...programArgv('kernel/descriptors', given)])
  const got = JSON.parse(stdout) as Got
  console.log(`${JSON.stringify(options)}: ${JSON.stringify(got)}`)
  for (const code of got.codes) expect(code).toMatch(/^ERR_SPEADCAST_\w+$/)
  expect(got.enough).toBeGreaterThan(0)
  expect(got.leaked).toBe(0)
  expect(got.calm).toBe('sent')
  expect(got.healed).toEqual(Array(5).fill('sent'))
  expect(got.states).toMatchObject(states)
  // Nobody knows of the new route or neighbour. A socket that is bound to an address that is gone is refused by the kernel.
  expect(got.during).toEqual([change === ADDRESS ? 'ENETUNREACH' : 'suspect'])
  // A next hop that cannot be asked about rejects nothing.
  expect(got.substreamsRejected ?? 0).toBe(0)
})
