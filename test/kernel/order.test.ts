/** A million small heaps, batch behind batch: nothing is lost, doubled or overtaken. */
import { expect, test } from 'vitest'
import type { StreamStats } from '#dist/src/index.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable, waitForOutput } from '../support/netns.js'
import { peerScript, spead2Python } from '../support/peer.js'
import { programArgv } from '../support/program.js'

for (const { heaps, inFlight, options, what } of [
  { heaps: 1_000_000, inFlight: 2, options: {}, what: 'I/O thread' },
  { heaps: 1_000_000, inFlight: 8, options: {}, what: 'I/O thread' },
  { heaps: 300_000, inFlight: 8, options: { udpPath: 'io_uring' }, what: 'io_uring' },
  {
    heaps: 100_000,
    inFlight: 8,
    options: { udpPath: 'io_uring', thread: 'inline', segmentation: 'off' },
    what: 'io_uring, event loop, packet by packet',
  },
  { heaps: 100_000, inFlight: 8, options: { thread: 'inline', segmentation: 'off' }, what: 'event loop, packet by packet' },
])
  test(`${heaps} heaps arrive in order with ${inFlight} batches in flight (${what})`, { timeout: 60_000 }, async (ctx) => {
    const why = netnsUnavailable()
    need(ctx, !why, why)
    const python = spead2Python()
    need(ctx, python, 'needs numpy, from the venv that npm test makes')
    await using ns = await makeNetns({ veth: { mtu: 1500 } })
    const receiver = ns.spawn('b', [python, '-u', peerScript('order.py'), '7148', `${heaps}`], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await waitForOutput(receiver, /ready/)
    const told = waitForOutput(receiver, /\{.*\}/, 50_000)
    // About 0.4 Gb/s, which the receiver keeps up with.
    const argv = programArgv('kernel/order', { to: '10.77.0.2:7148', rate: '60MB/s', ...options }, heaps, 1000, inFlight)
    const { stdout } = await ns.exec('a', argv, { timeoutMs: 50_000 })
    const { batches, mostInFlight, stats } = JSON.parse(stdout) as { batches: number; mostInFlight: number; stats: StreamStats }
    const report = JSON.parse((await told)[0])
    expect(report).toEqual({ heaps, inOrder: heaps, reads: expect.any(Number), rcvbufErrors: 0 })
    expect(stats).toMatchObject({ heapsSent: heaps, packets: heaps, heapsFailed: 0 })
    expect(mostInFlight).toBe(inFlight)
    console.log(
      `order: ${report.inOrder} of ${heaps} heaps in order, of ${batches} batches, ${mostInFlight} in flight, ${stats.posts} calls, ${stats.segmentedMessages} messages, ` +
        `${report.reads} reads, RcvbufErrors +${report.rcvbufErrors}`,
    )
  })
