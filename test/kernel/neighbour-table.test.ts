/**
 * More next hops than the kernel's table of neighbours takes: 1024 (net.ipv4.neigh.default.gc_thresh3), unless somebody raised it. The table is one
 * for all namespaces, so nothing else that sends may run beside these: .ci/run has a stage for them.
 */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { capture, packetsOfHeaps, RemoteStream } from '../support/remote-stream.js'

const V4 = '10.77.0.2:7148'

test('more live neighbours than the kernel has room for: the table is named, and not their hosts', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  const room = Number(readFileSync('/proc/sys/net/ipv4/neigh/default/gc_thresh3', 'utf8'))
  need(ctx, room <= 1024, `the table of neighbours takes ${room}`)
  await using ns = await makeNetns({ veth: { a: ['10.77.0.1/16'], b: ['10.77.255.254/16'] } })
  // The answering host must not need room in that table itself.
  const mac = JSON.parse(ns.ip('a', '-json link show v0'))[0].address
  ns.ip('b', `neigh replace 10.77.0.1 lladdr ${mac} dev v1 nud permanent`)
  for (let i = 1; i <= 6; i++) ns.ip('b', `route add local 10.77.${i}.0/24 dev lo`)
  const to = Array.from({ length: 1500 }, (_, i) => `10.77.${1 + (i >> 8)}.${i & 255}:7148`)
  const stream = await RemoteStream.open(ns, { to, neighbourTimeoutMs: 1000, packetSizeBytes: 1472 })
  await stream.batch({ heaps: 1500, bytes: 64 })
  const outcomes = []
  for (let i = 0; i < 3; i++) outcomes.push((await stream.send()).error!.outcome!)
  const group = await RemoteStream.open(ns, { to: '239.10.0.1:7148', interface: 'v0', packetSizeBytes: 1472 })
  await group.batch({ heaps: 1, bytes: 64 })
  const [cause] = (await group.send()).error!.outcome!.causes
  expect(cause).toMatchObject({
    errnoName: 'ENOBUFS',
    message: expect.stringMatching(/table of neighbours is full.*net\.ipv4\.neigh\.default\.gc_thresh3/),
  })
  await group.close()
  await stream.close()
  for (const { causes, heaps } of outcomes) {
    console.log(`${heaps.filter((status) => status === 'failed').length} of 1500 failed: ${causes[0]!.message}`)
    expect(heaps.filter((status) => status === 'sent').length).toBeGreaterThan(500)
    for (const { errnoName, message } of causes) {
      expect(errnoName).toBe('ENOBUFS')
      expect(message).toMatch(/table of neighbours is full.*net\.ipv4\.neigh\.default\.gc_thresh3/)
    }
  }
})

test('more IPv6 neighbours than the kernel has room for: the table is named for those that it has none for', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  const room = Number(readFileSync('/proc/sys/net/ipv6/neigh/default/gc_thresh3', 'utf8'))
  need(ctx, room <= 1024, `the table of neighbours takes ${room}`)
  await using ns = await makeNetns({ veth: {} })
  const to = Array.from({ length: 1500 }, (_, i) => `[fd77::1:${i.toString(16)}]:7148`)
  const stream = await RemoteStream.open(ns, { to, neighbourTimeoutMs: 500, packetSizeBytes: 1452 })
  await stream.batch({ heaps: 1500, bytes: 64 })
  const { causes } = (await stream.send()).error!.outcome!
  await stream.close()
  const full = causes.filter(({ errnoName }) => errnoName === 'ENOBUFS')
  console.log(`${full.length} of 1500 without room: ${full[0]?.message}`)
  expect(full.length).toBeGreaterThanOrEqual(1500 - room)
  expect(full[0]!.message).toMatch(/table of neighbours is full.*net\.ipv6\.neigh\.default\.gc_thresh3/)
  expect(causes.filter(({ errnoName }) => errnoName !== 'ENOBUFS' && errnoName !== 'EHOSTUNREACH')).toEqual([])
})

test('two thousand dead endpoints cost a bounded time together, and the live one gets its heaps', async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  await using ns = await makeNetns({ veth: { a: ['10.77.0.1/16'], b: ['10.77.0.2/16'] } })
  const wire = await capture(ns, 'b')
  const dead = Array.from({ length: 2000 }, (_, i) => `10.77.${1 + (i >> 8)}.${i & 255}:7148`)
  const stream = await RemoteStream.open(ns, { to: [V4, ...dead], neighbourTimeoutMs: 500, packetSizeBytes: 1472 })
  await stream.batch({ heaps: 2001, bytes: 64 })
  const started = performance.now()
  for (let i = 0; i < 5; i++) {
    const { heaps } = (await stream.send()).error!.outcome!
    expect(heaps[0]).toBe('sent')
    expect(heaps.filter((status) => status === 'failed')).toHaveLength(2000)
  }
  console.log(`five batches to 2000 dead endpoints: ${((performance.now() - started) / 1000).toFixed(2)} s`)
  await stream.close()
  expect(packetsOfHeaps(await wire.stop()).size).toBe(5)
})
