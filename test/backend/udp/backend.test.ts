/** How the udp backend counts messages that its pace cuts up, on real sockets and under a clock that stands still. */
import { expect, onTestFinished, test } from 'vitest'
import { nativeCallsWork } from '#dist/ffi/libc.js'
import { POST_AGAIN, POST_OK, type PostResult } from '#dist/src/backend/backend.js'
import { UdpBackend } from '#dist/src/backend/udp/backend.js'
import { openUdpPath } from '#dist/src/backend/udp/open.js'
import { KernelPace } from '#dist/src/backend/udp/pace.js'
import { COUNTER } from '#dist/src/stats.js'
import { environment, handTable, pattern } from '../../support/hand-table.js'
import { need } from '../../support/need.js'
import { openReceivers } from '../../support/receivers.js'

test('a part of a message that the pace cuts down to one packet counts as a plain message', async (ctx) => {
  need(ctx, process.platform === 'linux' && nativeCallsWork(), 'native calls are made on Linux only')
  const receivers = await openReceivers(1)
  onTestFinished(() => receivers.close())
  const { counters, wake } = environment()
  const given = {
    endpoints: receivers.endpoints,
    sourcePort: 0,
    multicastLoop: true,
    sendBufferBytes: 0,
    packetSizeBytes: 1472,
    allowFragmentation: false,
    segmentation: 'auto',
    udpPath: 'sendmmsg',
    neighbourTimeoutMs: 100,
  } as const
  const path = await openUdpPath(given, counters)
  // Without fq the pace is a bucket of one burst, and under this clock it never leaks.
  const fq = {
    ifindex: 1,
    interfaceName: 'lo',
    flowLimit: 100,
    maxRateBytesPerSecond: Number.POSITIVE_INFINITY,
    linkHeaderBytes: 14,
  }
  const pace = new KernelPace(
    path.socket,
    { rateBytesPerSecond: 1e6, burstBytes: 4000, countedHeaderBytes: 0, required: false },
    fq,
    () => 'no fq here',
    path.states,
    () => 0,
  )
  pace.judge()
  const backend = new UdpBackend(Object.assign(path, { pace }), { counters, wake })
  onTestFinished(() => backend.close())
  const { table, expected } = handTable(Array.from({ length: 8 }, (_, i) => ({ substream: 0, segments: [pattern(i, 1000)] })))
  const posting = backend.compile(table, { maxMessageBytes: 65507 })
  need(ctx, posting.edge[0] === 4, 'this kernel segments no messages')
  expect([...posting.edge]).toEqual([4, 4, 4, 4, 8, 8, 8, 8])

  const out: PostResult = { kind: POST_OK, accepted: 0, skipped: 0, errno: 0, substream: 0, waitFor: 'writable' }
  const counted = () => [counters[COUNTER.posts], counters[COUNTER.segmentedMessages], counters[COUNTER.plainMessages]]
  backend.post(posting, 0, 3, out)
  expect([out.kind, out.accepted, ...counted()]).toEqual([POST_OK, 3, 1, 1, 0])
  // 1000 bytes of the burst are left.
  backend.post(posting, 4, 7, out)
  expect([out.kind, out.accepted, ...counted()]).toEqual([POST_AGAIN, 1, 2, 1, 1])
  const arrived = await receivers.arrived(4)
  expect(arrived.map(({ bytes }) => Buffer.from(bytes))).toEqual([0, 1, 2, 4].map((row) => Buffer.from(expected[row]!)))
})
