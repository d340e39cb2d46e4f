/** Packets out of order, made by hand and sent over loopback: how many came behind a later one. */
import { createSocket } from 'node:dgram'
import { expect, test } from 'vitest'
import { openReceiver } from '#dist/src/receive/index.js'
import { freePort } from './support.js'
import { BACKENDS, data, type Pointer, packetOf, partOf, SAMPLES } from './wire.js'

const HEAP = new Uint8Array(40).fill(7)
/** A quarter of heap `cnt`. */
const quarter = (cnt: number, part: number) => partOf(cnt, 40, 10 * part, HEAP.subarray(0, 10), [[false, SAMPLES, 0]])
const inOrder = (cnt: number) => [0, 1, 2, 3].map((part) => quarter(cnt, part))

/** Packets in the order in which they are sent, and how many of them step back. */
const CASES: readonly (readonly [string, readonly Uint8Array[], { reordered: number; duplicates?: number; heaps: number }])[] = [
  ['in order', [1, 2, 3].flatMap(inOrder), { reordered: 0, heaps: 3 }],
  [
    'two packets of a heap swapped',
    [...inOrder(1), quarter(2, 0), quarter(2, 2), quarter(2, 1), quarter(2, 3)],
    { reordered: 1, heaps: 2 },
  ],
  [
    'a packet after three of the next heap',
    [...inOrder(1).slice(0, 3), ...inOrder(2).slice(0, 3), quarter(1, 3), quarter(2, 3)],
    { reordered: 1, heaps: 2 },
  ],
  ['backwards', inOrder(1).reverse(), { reordered: 3, heaps: 1 }],
  ['a copy is a duplicate', [...inOrder(1), quarter(1, 2), ...inOrder(2)], { reordered: 0, duplicates: 1, heaps: 2 }],
  ['whole heaps', [1, 3, 2, 4, 6, 5].map((cnt) => data(cnt)), { reordered: 2, heaps: 6 }],
  ['a lost packet', [...inOrder(1).toSpliced(2, 1), ...inOrder(2)], { reordered: 0, heaps: 1 }],
]

for (const backend of BACKENDS)
  test.for(CASES)(`${backend}: %s`, async ([, packets, { duplicates = 0, ...expected }]) => {
    const port = await freePort()
    await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, backend, deliver: false })
    const socket = createSocket('udp4')
    // One after the other, so that nothing but the test reorders them.
    for (const packet of packets) await new Promise<void>((resolve) => socket.send(packet, port, '127.0.0.1', () => resolve()))
    socket.close()
    const came = () => receiver.stats().packets + receiver.stats().duplicates
    while (came() < packets.length) await new Promise((resolve) => setTimeout(resolve, 5))
    expect(await receiver.close()).toMatchObject({ ...expected, duplicates, packets: packets.length - duplicates })
  })

test('a second sender, and heap cnts that wrap around, are no reordering', async () => {
  const port = await freePort()
  await using receiver = await openReceiver({ endpoints: `127.0.0.1:${port}`, deliver: false })
  const sockets = [createSocket('udp4'), createSocket('udp4')]
  const total = 600
  for (let i = 0; i < total; i++)
    for (const [n, socket] of sockets.entries()) {
      // SPEAD-64-8: the cnt has eight bits.
      const cnt = (i + 100 * n) & 255
      const pointers: Pointer[] = [
        [true, 1, cnt],
        [true, 2, 1],
        [true, 3, 0],
        [true, 4, 1],
        [false, SAMPLES, 0],
      ]
      const packet = packetOf(pointers, Uint8Array.of(5), 1)
      await new Promise<void>((resolve) => socket.send(packet, port, '127.0.0.1', () => resolve()))
    }
  for (const socket of sockets) socket.close()
  const came = () => receiver.stats().packets + receiver.stats().duplicates
  while (came() < 2 * total) await new Promise((resolve) => setTimeout(resolve, 5))
  expect(await receiver.close()).toMatchObject({ reordered: 0, duplicates: 0, packets: 2 * total })
})
