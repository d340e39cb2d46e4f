/**
 * Backend rdma-ud and its receiver on soft-RoCE: every heap bit for bit, between two devices and through one, unicast and to
 * groups; the sizes that a real device drops silently. Tests that need no real device are in test/ibverbs/rdma-ud*.test.ts.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listRdmaDevices } from '#dist/src/devices/index.js'
import {
  across,
  checkHeaps,
  collect,
  held,
  NOTHING,
  numberOf,
  openSender,
  openTaker,
  RX0,
  RX1,
  sendHeaps,
  sh,
} from '../support/datagrams.js'
import { speadcast, started, until } from './support.js'

const datagramBytes = (device: string) => listRdmaDevices().find(({ name }) => name === device)!.ports[0]!.datagramBytes

test('from one device to the other by a thread, three substreams, heaps of 11 packets', () =>
  across([`${RX1}:7148`, `${RX1}:7149`, `${RX1}:7150`], { heaps: 42, perBatch: 6, bytes: 40_001 }, { thread: 'worker' }))

test('eight batches under way, completions noticed by event alone, from a device to itself', () =>
  across(
    [`${RX0}:7148`],
    { heaps: 96, perBatch: 6, inFlight: 8, bytes: 1000 },
    { interface: undefined as never, ibverbs: { poll: 'event' } },
  ))

test('over IPv6, under a rate', async () => {
  // Both addresses are this host's own, and IPv6 would send to them by the loopback, whatever interface is named.
  sh(`ip -6 rule add pref 5 oif rx0 table 98; ip -6 route add fd98::/64 dev rx0 table 98
      ip -6 rule add pref 10 lookup local; ip -6 rule del pref 0`)
  await across(['[fd98::2]:7148'], { heaps: 12, bytes: 10_000 }, { rate: '1MB/s', burstBytes: 4096 })
})

test('groups as substreams: each receiver hears those that it joined, and no others', async () => {
  const groups = ['239.98.0.1:7148', '239.98.0.2:7148']
  const [both, second] = await Promise.all([
    openTaker({ endpoints: groups, interface: 'rx1' }),
    openTaker({ endpoints: ['239.98.0.3:7148', groups[1]!], interface: 'rx1', stops: 1 }),
  ])
  const [heaps, ofSecond] = [collect(both), collect(second)]
  const sending = { heaps: 16, bytes: 20_000 }
  const stream = await openSender({ to: groups })
  assert.match(String(stream.stats().states.peer), /^239\.98\.0\.1\/16777215\/0x1234567 and 1 more$/)
  assert.match(sh('ip maddress show dev rx1'), /01:00:5e:62:00:01/)
  await sendHeaps(stream, sending)
  await stream.sendEnd()
  await stream.close()
  checkHeaps(await heaps, sending, 2)
  assert.deepEqual(
    (await ofSecond).map((heap) => [numberOf(heap), heap.endpoint]),
    [1, 3, 5, 7, 9, 11, 13, 15].map((i) => [i, 1]),
  )
  // The kernel has no multicast groups for RoCE.
  await assert.rejects(openSender({ to: '[ff15::98]:7148' }), {
    code: 'ERR_SPEADCAST_UNREACHABLE',
    message: /errno 524\); Linux joins no IPv6 groups for RoCE, use an IPv4 one/,
  })
})

test('what exceeds the MTU is refused with the largest size that fits, also where the MTU shrinks under a stream', async () => {
  await assert.rejects(openSender({ to: `${RX1}:7148`, packetSizeBytes: 4097 }), {
    code: 'ERR_SPEADCAST_PACKET_SIZE',
    message:
      'packetSizeBytes 4097 exceeds the 4096 bytes that a datagram may carry through port 1 of rxe0; pass packetSizeBytes ≤ 4096',
  })
  const receiver = await openTaker({ endpoints: `${RX1}:7148`, heaps: 12 })
  const got = collect(receiver)
  const stream = await openSender({ to: `${RX1}:7148` })
  assert.equal((await sendHeaps(stream, { heaps: 4, bytes: 9000 }))[0]!.status, 'fulfilled')
  sh('ip link set rx0 mtu 1500')
  try {
    assert.equal(datagramBytes('rxe0'), 1024)
    for (const result of await sendHeaps(stream, { first: 4, heaps: 8, bytes: 9000 })) {
      assert.equal(result.status, 'rejected')
      assert.match(`${(result as PromiseRejectedResult).reason}`, /exceeds the 1024 bytes .*pass packetSizeBytes ≤ 1024/)
    }
    await assert.rejects(openSender({ to: `${RX1}:7148`, packetSizeBytes: 1472 }), {
      code: 'ERR_SPEADCAST_PACKET_SIZE',
      message: /packetSizeBytes 1472 exceeds the 1024 bytes .* of rxe0; pass packetSizeBytes ≤ 1024 or raise the MTU/,
    })
    // A message that just fits is sent, to the last byte.
    const small = await openSender({ to: `${RX1}:7148`, packetSizeBytes: 1024 })
    await sendHeaps(small, { first: 12, heaps: 4, bytes: 9000 })
    await small.close()
  } finally {
    sh('ip link set rx0 mtu 4200')
  }
  assert.equal(datagramBytes('rxe0'), 4096)
  assert.equal((await sendHeaps(stream, { first: 16, heaps: 4, bytes: 9000 }))[0]!.status, 'fulfilled')
  await stream.close()
  assert.deepEqual((await got).map(numberOf), [0, 1, 2, 3, 12, 13, 14, 15, 16, 17, 18, 19])
  const { reason, heapsIncomplete } = await receiver.done
  assert.deepEqual([reason, heapsIncomplete], ['heaps', 0])
})

test('from the command line, the receiver in a process of its own', async () => {
  const run = [
    process.execPath,
    'lib/cli.js',
    'recv',
    `${RX1}:7148`,
    '--backend',
    'rdma-ud',
    '--verify',
    '--json',
    '--timeout',
    '120',
  ]
  const recv = started(run)
  await until(recv.text, (text) => /--peer 10\.98\.0\.2\/\d+\/0x1234567, datagrams of 4096 bytes/.test(text))
  const options = ['--backend', 'rdma-ud', '--interface', 'rx0', '-n', '30', '-H', '32KiB', '-p', '4096', '--json']
  const send = await speadcast('send', `${RX1}:7148`, ...options)
  assert.deepEqual([send.code, send.stderr], [0, ''])
  const sent = JSON.parse(send.stdout)
  assert.deepEqual([sent.backend, sent.evidence, sent.heaps, sent.stats.mtuBytes], ['rdma-ud', 'completed', 30, 4096])
  assert.equal(await recv.end, 0, recv.text())
  const { heaps, heapsIncomplete, heapsCorrupt, packets, reason } = JSON.parse(recv.text().slice(recv.text().indexOf('{')))
  assert.deepEqual([heaps, heapsIncomplete, heapsCorrupt, packets, reason], [30, 0, 0, sent.packets, 'stop'])
})

test('a GID that nobody has', async () => {
  await assert.rejects(openSender({ to: `${RX1}:7148`, rdmaUd: { peers: [{ gid: '10.98.0.77', qpn: 17 }] } }), {
    code: 'ERR_SPEADCAST_UNREACHABLE',
    message: /no way from 10\.98\.0\.1 of port 1 of rxe0 to GID 10\.98\.0\.77 \(ibv_create_ah failed: E\w+/,
  })
})

test('and the kernel holds nothing of ours', () => {
  assert.deepEqual(held(), NOTHING)
})
