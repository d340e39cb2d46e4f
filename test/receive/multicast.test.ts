import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import { spead2Python } from '../support/peer.js'
import { parseSent, recvArgv, type SenderSpec, senderArgv, watch } from './support.js'

const TUTORIAL = { kind: 'tutorial', heaps: 40, heapSize: 30_000, packetSize: 1472, rate: 20e6, ttl: 2 } as const

type Addressing = Pick<SenderSpec, 'to' | 'interface' | 'interfaceIndex'> & { ttl?: undefined }

/** recv in namespace b, spead2 in namespace a. */
async function across(ns: Netns, args: string[], spec: Addressing) {
  const run = watch(
    ns.spawn('b', recvArgv('--timeout', '15', '--verify', '--json', ...args), { stdio: ['ignore', 'pipe', 'pipe'] }),
  )
  await run.said(/^listening on/m)
  const [python, argv] = senderArgv({ ...TUTORIAL, ...spec } as SenderSpec)
  const { stdout } = await ns.exec('a', [python, ...argv])
  const { code, stdout: json, stderr } = await run.ended
  return { code, stderr, result: JSON.parse(json), done: parseSent(stdout).done }
}

test('multicast, IPv4 and IPv6, by interface name, address, zone, and only the groups joined', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spead2Python(), 'needs the venv with spead2 (scripts/bootstrap.mjs makes it)')
  await using ns = await makeNetns({ veth: { mtu: 1500 } })
  const { a, b } = ns.addresses
  const index = Number(/^(\d+):/.exec(ns.ip('a', '-o link show v0'))![1])
  const v4 = { interface: a.v4 }
  const v6 = { interfaceIndex: index }
  const expected = { heaps: 40, heapsIncomplete: 0, heapsCorrupt: 0, reason: 'stop', droppedByKernel: 0 }
  const cases: [string, string[], Addressing][] = [
    ['IPv4, interface by name', ['239.10.0.1:7148', '--interface', 'v1'], { to: [['239.10.0.1', 7148]], ...v4 }],
    [
      'IPv4, interface by address, a range',
      ['239.10.0.4+1:7148', '--interface', b.v4],
      {
        to: [
          ['239.10.0.4', 7148],
          ['239.10.0.5', 7148],
        ],
        ...v4,
      },
    ],
    ['IPv6, interface by name', ['[ff15::1]:7148', '--interface', 'v1'], { to: [['ff15::1', 7148]], ...v6 }],
    ['IPv6, interface by address', ['[ff15::2]:7148', '--interface', b.v6], { to: [['ff15::2', 7148]], ...v6 }],
    ['IPv6 link-local by zone', ['[ff12::3%v1]:7148'], { to: [['ff12::3', 7148]], ...v6 }],
    ['IPv6 node:dgram', ['[ff15::4]:7148', '--interface', 'v1', '--backend', 'dgram'], { to: [['ff15::4', 7148]], ...v6 }],
    ['IPv4 node:dgram', ['239.10.0.7:7148', '--interface', 'v1', '--backend', 'dgram'], { to: [['239.10.0.7', 7148]], ...v4 }],
    ['IPv6 unicast', [`[${b.v6}]:7148`], { to: [[b.v6, 7148]], ttl: undefined }],
  ]
  for (const [name, args, spec] of cases) {
    const { result, done, code, stderr } = await across(ns, args, spec)
    const { droppedByKernel, ...rest } = expected
    const wanted = {
      ...rest,
      sha256: done.sha256,
      packets: done.packets,
      ...(result.backend === 'recvmmsg' && { droppedByKernel }),
    }
    expect({ name, code, stderr: stderr.replace(/^listening.*\n/, ''), result }).toMatchObject({
      name,
      code: 0,
      stderr: '',
      result: wanted,
    })
  }
  console.log(`multicast: ${cases.length} ways`)
  // Two substreams on one port, one of them joined: the other's heaps must not come, though another socket of the host joins its group.
  const other = ns.spawn('b', recvArgv('239.10.0.9:7148', '--interface', 'v1', '--timeout', '15'), {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const both = watch(other)
  await both.said(/^listening on/m)
  const { result } = await across(ns, ['239.10.0.8:7148', '--interface', 'v1'], {
    to: [
      ['239.10.0.8', 7148],
      ['239.10.0.9', 7148],
    ],
    ...v4,
  })
  expect(result).toMatchObject({ heaps: 20, heapsIncomplete: 0, verifyMissing: 0 })
  expect((await both.ended).stdout).toMatch(/^heaps +20$/m)
})

test('a group without a route names the remedy', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { a: [], b: [] } })
  const { code, stderr } = await ns.exec('b', recvArgv('239.10.0.1:7148'), { check: false })
  expect(code).toBe(2)
  expect(stderr).toMatch(/cannot receive on 239\.10\.0\.1:7148: .*ENODEV.*name one \(interface option, --interface\)/)
})
