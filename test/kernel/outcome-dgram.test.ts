/** node:dgram reports what the kernel tells it; where the kernel is silent, the batch is suspect. */
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { compareOutcome, HEAPS } from '../support/outcome.js'
import { capture, listen, packetsOfHeaps, RemoteStream } from '../support/remote-stream.js'

const BYTES = 5000
const PACKET = 1048
const ADDRESSES = ['10.77.0.11', '10.77.0.12', '10.77.0.13']
const veth = { mtu: 1500, b: ['10.77.0.2/24', 'fd77::2/64', ...ADDRESSES.map((address) => `${address}/32`)] }

const ROUTES = [
  ['unreachable', 'EHOSTUNREACH'],
  ['prohibit', 'EACCES'],
  ['blackhole', 'EINVAL'],
] as const

test('each of the 3 heaps has an endpoint whose route refuses it, the others go', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth })
  await listen(ns, 7148)
  const wire = await capture(ns, 'b')
  const to = ADDRESSES.map((address) => `${address}:7148`)
  const stream = await RemoteStream.open(ns, { to, backend: 'dgram', packetSizeBytes: PACKET })
  await stream.batch({ heaps: HEAPS, bytes: BYTES })
  const before = await stream.send()
  const refused = []
  for (const [type, errnoName] of ROUTES)
    for (const [j, address] of ADDRESSES.entries()) {
      ns.ip('a', `route add ${type} ${address}`)
      refused.push({ type, errnoName, j, result: await stream.send() })
      ns.ip('a', `route del ${type} ${address}`)
    }
  const after = await stream.send()
  await stream.close()
  const seen = packetsOfHeaps((await wire.stop()).map((packet) => ({ ...packet, address: '' })))
  const statusesOf = ({ error }: typeof before, n: number) => compareOutcome(error?.outcome, 1 + n * HEAPS, seen)
  expect(statusesOf(before, 0)).toEqual(['sent', 'sent', 'sent'])
  for (const [n, { type, errnoName, j, result }] of refused.entries()) {
    expect(statusesOf(result, 1 + n), type).toEqual([0, 1, 2].map((i) => (i === j ? 'failed' : 'sent')))
    expect(result.error!.message).toMatch(new RegExp(`^1 of 3 heaps .*${ADDRESSES[j]}:7148: ${errnoName} `))
  }
  expect(statusesOf(after, 1 + refused.length)).toEqual(['sent', 'sent', 'sent'])
  console.log(`outcome, dgram, routes: ${(refused.length + 2) * HEAPS} heaps compared with the wire`)
})

test.for(['10.77.0.2:7148', '[fd77::2]:7148'])(
  'what a full queue dropped in silence makes its batch suspect: %s',
  async (to, ctx) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    await using ns = await makeNetns({ veth })
    await listen(ns, 7148)
    const stream = await RemoteStream.open(ns, { to, backend: 'dgram', packetSizeBytes: PACKET })
    await stream.batch({ heaps: HEAPS, bytes: BYTES })
    // Otherwise its first packets wait for the neighbour, which is asked through the same queue.
    expect((await stream.send()).ok).toMatchObject({ suspect: false })
    const wire = await capture(ns, 'b')
    ns.tc('a', 'qdisc add dev v0 root tbf rate 8mbit burst 4000 limit 60000')
    const { sent, failed, statuses } = await stream.run({ seconds: 0.4, gapMs: 3 })
    // Packets that wait in the queue would be lost with it.
    await new Promise((resolve) => setTimeout(resolve, 100))
    ns.tc('a', 'qdisc del dev v0 root')
    const after = await stream.send()
    const { droppedBelow, states, heapsSuspect } = await stream.stats()
    const { dropsBelowSocket } = states
    await stream.close()
    const seen = packetsOfHeaps(await wire.stop())
    expect(failed).toEqual([])
    let lost = 0
    let whole = 0
    for (const [, firstCnt, suspect] of statuses) {
      const there = [0, 1, 2].reduce((sum, j) => sum + (seen.get(firstCnt + j) ?? 0), 0)
      lost += 15 - there
      if (there === 15) whole++
      expect(suspect).toBe(there < 15)
    }
    expect(after.ok).toMatchObject({ suspect: false })
    expect(lost).toBeGreaterThan(0)
    // The queue took the first ones.
    expect(whole).toBeGreaterThan(0)
    expect(dropsBelowSocket).toBe(lost)
    expect(droppedBelow).toBe(lost)
    expect(heapsSuspect).toBe(HEAPS * statuses.filter(([, , suspect]) => suspect).length)
    console.log(
      `outcome, dgram, tbf: ${lost} packets lost in ${sent - whole} batches, all suspect; ${whole} whole ones, none suspect`,
    )
  },
)
