/** The prints of a receiver and of what it received, whose names come from the wire. */
import { inspect } from 'node:util'
import { ItemGroup, openStream } from 'speadcast'
import { openReceiver } from 'speadcast/receive'
import { expect, test } from 'vitest'
import { need } from '../support/need.js'
import { freePort } from './support.js'

test.for(['native', 'dgram'] as const)('backend %s: a receiver and its heaps', async (backend, ctx) => {
  const port = await freePort()
  need(ctx, process.platform === 'linux' || backend === 'dgram', 'recvmmsg is Linux only')
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, backend, heaps: 1 })
  expect(inspect(receiver)).toBe(`Receiver {
  state: 'receiving',
  endpoints: [ '127.0.0.1:${port}' ],
  backend: '${backend === 'native' ? 'recvmmsg' : 'dgram'}',
  packets: 0,
  heaps: 0,
  heapsIncomplete: 0,
  droppedByKernel: ${backend === 'native' ? 0 : 'NaN'}
}`)
  await using stream = await openStream({ to: `127.0.0.1:${port}`, descriptors: 'none' })
  const items = new ItemGroup()
    .add({ id: 0x1600, name: 'when', format: [['u', 48]], value: 42 })
    .add({ id: 0x3300, name: '\x1b[2Jsamples\x7f', dtype: 'i1', shape: [100], value: new Int8Array(100).fill(1) })
  await stream.sendHeap(items.getHeap())
  const prints: string[] = []
  for await (const heap of receiver) prints.push(inspect(heap))
  expect(prints).toEqual([
    `ReceivedHeap {
  cnt: 1,
  flavour: { heapAddressBits: 48 },
  sender: 0,
  endpoint: 0,
  complete: true,
  payloadBytes: 100,
  packets: 1,
  items: [
    'when' (0x1600) immediate: 00 00 00 00 00 2a,
    '\\x1b[2Jsamples\\x7f' (0x3300) |i1 [100]: 01 01 01 01 01 01 01 01 … of 100 bytes
  ],
  descriptors: [ 'when' (0x1600), '\\x1b[2Jsamples\\x7f' (0x3300) ]
}`,
  ])
  await receiver.close()
  expect(inspect(receiver)).toContain("state: 'ended'")
})
