/** Repeated descriptors between the heaps of batches, on the wire: of every backend, in a long batch and among many short ones. */
import { createHash, randomFillSync } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { StreamOptions } from 'speadcast'
import { expect, type TestContext, test } from 'vitest'
import { CLI, temporaryFolder } from '../support/cli.js'
import { need } from '../support/need.js'
import { makeNetns, type Netns, netnsUnavailable } from '../support/netns.js'
import { Nic, needNic, openOn } from '../support/nic.js'
import { spead2Python } from '../support/peer.js'
import { capture, packetsOfHeaps, RemoteStream } from '../support/remote-stream.js'
import { startSpead2 } from '../support/spead2-receiver.js'

const OWN = 1e6
const BACKENDS: readonly Partial<StreamOptions>[] = [
  { backend: 'udp', udpPath: 'sendmmsg' },
  { backend: 'udp', udpPath: 'sendmmsg', thread: 'inline' },
  { backend: 'udp', udpPath: 'io_uring' },
  { backend: 'dgram' },
  { backend: 'ibverbs', interface: 'v0' },
  { backend: 'ibverbs', interface: 'v0', thread: 'inline' },
]

async function opened(ctx: TestContext, ns: Netns, options: Partial<StreamOptions>): Promise<RemoteStream> {
  const all = { to: ['10.77.0.2:7148', '10.77.0.2:7149'], packetSizeBytes: 1048, ...options }
  if (options.backend !== 'ibverbs') return RemoteStream.open(ns, all)
  needNic(ctx)
  return openOn(new Nic(), ns, all)
}

async function namespaces(ctx: TestContext): Promise<Netns> {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  return makeNetns({ veth: { gsoMaxSegs: 1 } })
}

test.for(BACKENDS)('in a long batch: %j', async (options, ctx) => {
  await using ns = await namespaces(ctx)
  const wire = await capture(ns, 'b', { ports: '7148-7149' })
  const descriptors = { everySeconds: 0.01, firstCnt: OWN }
  const stream = await opened(ctx, ns, { ...options, descriptors, rate: 2e6, burstBytes: 2000 })
  await stream.batch({ heaps: 60, bytes: 5000 })
  expect((await stream.send()).ok).toMatchObject({ heaps: 60, firstCnt: 1, suspect: false })
  await stream.close()
  const packets = await wire.stop()
  const heaps = packetsOfHeaps(packets)
  const own = [...heaps.keys()].filter((cnt) => cnt >= OWN)
  // 300 kB take 0.15 s.
  expect(own.length).toBeGreaterThan(5)
  expect(own.toSorted((a, b) => a - b)).toEqual(own.map((_, i) => OWN + i))
  for (let cnt = 1; cnt <= 60; cnt++) expect(heaps.get(cnt), `heap ${cnt}`).toBe(5)
  // No heap is interrupted.
  const cnts = packets.map(({ cnt }) => cnt)
  expect(cnts.filter((cnt, i) => cnt !== cnts[i - 1]).length).toBe(heaps.size)
})

test.for(BACKENDS)('among short batches as fast as they go: %j', async (options, ctx) => {
  await using ns = await namespaces(ctx)
  const wire = await capture(ns, 'b', { ports: '7148-7149' })
  const descriptors = { everySeconds: 0.002, firstCnt: OWN }
  const stream = await opened(ctx, ns, { ...options, descriptors })
  await stream.batch({ heaps: 3, bytes: 5000 })
  const { sent, failed } = await stream.run({ seconds: 0.5, gapMs: 1 })
  expect(failed).toEqual([])
  await stream.close()
  const heaps = packetsOfHeaps(await wire.stop())
  expect([...heaps.keys()].filter((cnt) => cnt >= OWN).length).toBeGreaterThan(10)
  for (let cnt = 1; cnt <= 3 * sent; cnt++) expect(heaps.get(cnt), `heap ${cnt}`).toBe(5)
})

test('the real spead2, which may hold one heap, loses none, and gets the descriptors again', { timeout: 60_000 }, async (ctx) => {
  const why = netnsUnavailable()
  need(ctx, !why, why)
  need(ctx, spead2Python(), 'needs spead2 4.5.1, from the venv that npm test makes')
  await using ns = await makeNetns({ veth: { mtu: 9000 } })
  const input = randomFillSync(Buffer.alloc(100 * 10_000))
  const file = join(temporaryFolder(), 'in')
  writeFileSync(file, input)
  const request = { endpoints: [['10.77.0.2', 7148, null]] as [string, number, null][], file: 'adc_samples', maxHeaps: 1 }
  const receiver = await startSpead2(ns, request)
  const args = ['--input', file, '-H', '10000', '-p', '1472', '--rate', '4MB/s', '--descriptors', '0.02', '--json']
  const { stdout } = await ns.exec('a', ['node', CLI, 'send', '10.77.0.2:7148', ...args, '--descriptor-first-cnt', `${2 ** 47}`])
  const { done, version } = await receiver.received()
  expect(JSON.parse(stdout)).toMatchObject({ heaps: 100, heapsFailed: 0 })
  expect(done).toMatchObject({ ended: true, incomplete: 0, heaps: 100, sha256: createHash('sha256').update(input).digest('hex') })
  // 1 MB takes 0.25 s.
  expect(done.descriptorHeaps).toBeGreaterThan(4)
  console.log(`peer spead2 ${version}: ${done.heaps} heaps compared, ${done.descriptorHeaps} heaps of descriptors among them`)
})
