/** Ways to say where datagrams go, on soft-RoCE: by IPv4 and IPv6 addresses, by queue pair, by device, to multicast groups. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { across, checkHeaps, collect, held, NOTHING, openSender, openTaker, RX0, RX1, sendHeaps, sh } from './datagrams.js'

test('from a device to itself, without naming an interface', () =>
  across([`${RX0}:7148`], { heaps: 20, bytes: 10_000 }, { interface: undefined as never }))

test('over IPv6, under a rate', async () => {
  // One host's own addresses: IPv6 would take them for its loopback's, whatever interface is named.
  sh(`ip -6 rule add pref 5 oif rx0 table 98; ip -6 route add fd98::/64 dev rx0 table 98
      ip -6 rule add pref 10 lookup local; ip -6 rule del pref 0`)
  await across(['[fd98::2]:7148'], { heaps: 12, bytes: 10_000 }, { rate: '1MB/s', burstBytes: 4096 })
})

test('the queue pair by name: nobody is asked', async () => {
  const receiver = await openTaker({ endpoints: `${RX1}:7148` })
  const got = collect(receiver)
  const [peer] = receiver.peers
  assert.deepEqual([peer!.gid, peer!.lid, peer!.mtuBytes], [RX1, 0, 4096])
  const sending = { heaps: 8, bytes: 5000 }
  // A port where nobody listens.
  const stream = await openSender({ to: `${RX1}:9`, rdmaUd: { peers: receiver.peers } })
  assert.equal(stream.stats().states.peer, `${RX1}/${peer!.qpn}/0x1234567`)
  await sendHeaps(stream, sending)
  await stream.sendEnd()
  await stream.close()
  checkHeaps(await got, sending)
})

test('the device by name', () =>
  across([`${RX1}:7148`], { heaps: 8, bytes: 5000 }, { interface: undefined as never, rdmaUd: { device: 'rxe0:1' } }))

test('a group: two receivers hear it, one of another group does not, whoever sends', async () => {
  const group = (name: string) => openTaker({ endpoints: name, interface: 'rx1' })
  const [one, two, other] = await Promise.all([group('239.98.0.1:7148'), group('239.98.0.1:7148'), group('239.98.0.2:7148')])
  const got = [one, two].map((receiver) => collect(receiver))
  const sending = { heaps: 16, bytes: 20_000 }
  const stream = await openSender({ to: '239.98.0.1:7148' })
  assert.match(String(stream.stats().states.peer), /^239\.98\.0\.1\/16777215\/0x1234567$/)
  assert.match(sh('ip maddress show dev rx1'), /239\.98\.0\.1|01:00:5e:62:00:01/)
  await sendHeaps(stream, sending)
  await stream.sendEnd()
  await stream.close()
  for (const heaps of got) checkHeaps(await heaps, sending)
  assert.equal((await other.close()).messages, 0)
})

test('groups as substreams; IPv6 groups are refused, for the kernel has none for RoCE', async () => {
  await across(['239.98.0.1:7148', '239.98.0.2:7148'], { heaps: 16, bytes: 9000 })
  const refused = {
    code: 'ERR_SPEADCAST_UNREACHABLE',
    message: /errno 524\); Linux joins no IPv6 groups for RoCE, use an IPv4 one/,
  }
  await assert.rejects(openSender({ to: '[ff15::98]:7148' }), refused)
  await assert.rejects(openTaker({ endpoints: '[ff15::98]:7148', interface: 'rx1' }), refused)
})

test('and the kernel holds nothing of ours', () => {
  assert.deepEqual(held(), NOTHING)
})
