/** Backend rdma-ud and its receiver on soft-RoCE: every heap bit for bit from one device to another. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { across, checkHeaps, collect, held, NOTHING, openSender, openTaker, RX1, sendHeaps } from './datagrams.js'

test('from one device to the other by a thread, three substreams, heaps of 11 packets', () =>
  across([`${RX1}:7148`, `${RX1}:7149`, `${RX1}:7150`], { heaps: 42, perBatch: 6, bytes: 40_001 }, { thread: 'worker' }))

test('eight batches under way, small heaps of one packet, completions noticed by event alone', () =>
  across([`${RX1}:7148`], { heaps: 240, perBatch: 6, inFlight: 8, bytes: 1000 }, { ibverbs: { poll: 'event' } }))

test('more packets than the send queue has room for, in datagrams of 256 bytes', () =>
  across([`${RX1}:7148`], { heaps: 16, bytes: 20_000 }, { packetSizeBytes: 256, ibverbs: { queueDepth: 32 } }))

test('round trips of the ring: the receives are given back, many times over', async () => {
  const receiver = await openTaker({ endpoints: `${RX1}:7148`, receiveBufferBytes: 64 * 4160 })
  assert.equal(receiver.stats().receiveBufferBytes, 64 * 4160)
  const got = collect(receiver)
  // Slowly, for what finds no receive posted is lost.
  const stream = await openSender({ to: `${RX1}:7148`, rate: '200kB/s', burstBytes: 2048, packetSizeBytes: 1024 })
  const sending = { heaps: 80, perBatch: 4, bytes: 5000 }
  await sendHeaps(stream, sending)
  await stream.sendEnd()
  await stream.close()
  checkHeaps(await got, sending)
  assert.ok((await receiver.done).packets > 6 * 64)
})

test('and the kernel holds nothing of ours', () => {
  assert.deepEqual(held(), NOTHING)
})
