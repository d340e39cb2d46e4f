/** The real spead2 over TCP, both ways. */
import { afterAll, expect, test } from 'vitest'
import { openReceiver, type ReceivedHeap } from '#dist/src/receive/index.js'
import { comparable, expectedOf, freePort, send } from '../receive/support.js'
import { need } from '../support/need.js'
import { makeNetns, netnsUnavailable } from '../support/netns.js'
import { spead2Python } from '../support/peer.js'
import { exchange, type InteropItem, type Scenario } from '../support/spead2-receiver.js'

const NO_PEER = 'needs the venv with spead2 (scripts/bootstrap.mjs makes it)'
const ADC: InteropItem = { name: 'adc', dtype: '|i1', shape: [10_000] }
let compared = 0

afterAll(() => console.log(`peer spead2 over TCP: ${compared} heaps compared`))

test.for([
  { flavour: 48, packetSize: 1472 },
  { flavour: 40, packetSize: 9000, repeatPointers: true },
  { flavour: 40, packetSize: 65000 },
  { flavour: 56, packetSize: 1472, descriptors: 'each' as const },
  { flavour: 24, packetSize: 128 },
])("we receive spead2's TcpStream, all kinds of items, %o", async (spec, ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const port = await freePort()
  await using receiver = await openReceiver({ endpoints: `tcp://127.0.0.1:${port}`, timeoutSeconds: 25 })
  expect(receiver.stats().backend).toBe('tcp')
  const heaps: ReceivedHeap[] = []
  const all = (async () => {
    for await (const heap of receiver) heaps.push(heap)
  })()
  const sent = await send({ to: [['127.0.0.1', port]], kind: 'types', heaps: 20, wire: 'tcp', ...spec })
  await all
  expect(await receiver.done).toMatchObject({ reason: 'stop', heapsIncomplete: 0, malformed: 0, droppedByKernel: 0 })
  const byCnt = new Map(heaps.map((heap) => [`${heap.cnt}`, heap]))
  expect([...byCnt.keys()].sort()).toEqual(sent.heaps.map(({ cnt }) => cnt).sort())
  for (const told of sent.heaps) {
    expect(comparable(byCnt.get(told.cnt)!, told)).toEqual(expectedOf(told))
    compared++
  }
})

const SCENARIOS: Record<string, Scenario> = {
  'IPv4 batches': { options: {}, endpoints: [['10.77.0.2', 7148]], how: 'batch', heaps: 60, items: [ADC], batchHeaps: 8 },
  'IPv6 batches, 40 address bits, large packets': {
    options: { packetSizeBytes: 60_000, flavour: { heapAddressBits: 40 } },
    endpoints: [['fd77::2', 7148]],
    how: 'batch',
    heaps: 41,
    items: [{ ...ADC, shape: [200_000] }],
    batchHeaps: 5,
    partial: 3,
  },
  'three receivers, round-robin': {
    options: {},
    endpoints: [7148, 7149, 7150].map((port) => ['10.77.0.2', port]),
    how: 'sendHeaps',
    groupMode: 'round-robin',
    maxHeaps: 16,
    heaps: 48,
    items: [ADC],
    batchHeaps: 12,
  },
  'heaps by name': { options: {}, endpoints: [['10.77.0.2', 7148]], how: 'sendHeap', heaps: 20, items: [ADC] },
}

test.for(Object.entries(SCENARIOS))('spead2 receives what we send over TCP: %s', async ([what, scenario], ctx) => {
  need(ctx, spead2Python(), NO_PEER)
  const unavailable = netnsUnavailable()
  need(ctx, !unavailable, unavailable)
  await using ns = await makeNetns({ veth: { mtu: 9000, b: ['10.77.0.2/24', 'fd77::2/64'] } })
  compared += await exchange(ns, what, { tcp: true, ...scenario, options: { rate: 0, ...scenario.options } })
})
