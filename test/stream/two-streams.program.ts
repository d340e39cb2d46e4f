/** Sends two rounds of one region over v0 and w0, and then heaps by sendAll over both, to 10.77.0.2:7148 and 10.78.0.2:7148. Prints the counts. */
import { Heap, Item, ItemGroup, openStream, Region, sendAll } from 'speadcast'
import { print } from '../support/print.js'

const THREAD = process.argv[2] as 'worker' | 'inline'
const streams = await Promise.all([
  openStream({ to: '10.77.0.2:7148', interface: 'v0', backend: 'udp', thread: THREAD }),
  openStream({ to: '10.78.0.2:7148', interface: 'w0', backend: 'udp', thread: THREAD }),
])
const region = Region.allocate(8 * 4096)
const items = new ItemGroup().add({ id: 0x4300, name: 'voltage', dtype: 'u1', shape: [4096] })
const batches = streams.map((stream) => stream.createBatch({ items, heaps: 8, memory: { voltage: { region } } }))
const voltages = new Uint8Array(region.buffer, 0, 8 * 4096)
let heaps = 0
for (let round = 0; round < 2; round++) {
  for (const i of voltages.keys()) voltages[i] = round * 101 + i * 7 + (i >> 8)
  const sent = await Promise.all(streams.map((stream, k) => stream.send(batches[k]!)))
  heaps += sent.reduce((sum, result) => sum + result.heaps, 0)
}
function* more() {
  for (let i = 0; i < 50; i++)
    yield new Heap().addItem(
      new Item({ id: 0x4300, name: 'voltage', dtype: 'u1', shape: [100], value: new Uint8Array(100).fill(i) }),
    )
}
const all = await sendAll(streams, more(), { inFlight: 4 })
for (const stream of streams) {
  await stream.sendEnd()
  await stream.close()
}
print({ heaps, all: all.heaps, payloadBytes: all.payloadBytes })
