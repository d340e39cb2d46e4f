/**
 * Sends one region of voltages over two interfaces, as F-engines with two cables do. Each stream has a batch over the same memory, so the voltages
 * are written once and copied nowhere. A receiver of each checks them. Both streams leave by the loopback interface here; give
 * two of yours, and the addresses behind them.
 *
 *     $ npx tsx docs/examples/two-interfaces.ts
 *     127.0.0.1:7231: 64 heaps, 524288 of 524288 bytes are what was written
 *     127.0.0.1:7232: 64 heaps, 524288 of 524288 bytes are what was written
 */
import { ItemGroup, openStream, Region } from 'speadcast'
import { openReceiver } from 'speadcast/receive'

const [toA = '127.0.0.1:7231', toB = '127.0.0.1:7232', interfaceA = 'lo', interfaceB = 'lo'] = process.argv.slice(2)
const heaps = 16
const heapBytes = 8192

const receivers = await Promise.all([toA, toB].map((endpoints) => openReceiver({ endpoints })))
await using a = await openStream({ to: toA, interface: interfaceA, packetSizeBytes: 8972 })
await using b = await openStream({ to: toB, interface: interfaceB, packetSizeBytes: 8972 })

const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
  .add({ id: 0x4300, name: 'voltage', dtype: 'u1', shape: [heapBytes] })
const region = Region.allocate(heaps * heapBytes)
const memory = { voltage: { region } }
const batches = [a, b].map((stream) => ({ stream, batch: stream.createBatch({ items, heaps, memory }) }))
const voltages = new Uint8Array(region.buffer, 0, heaps * heapBytes)

for (let round = 0; round < 4; round++) {
  // The memory may be written again when both streams are done with it.
  await Promise.all(batches.map(({ batch }) => batch.free))
  voltages.fill(round + 1)
  for (const { stream, batch } of batches) {
    batch.immediate('timestamp').setRamp(round * heaps, 1)
    stream.send(batch)
  }
}
await Promise.all([a.sendEnd(), b.sendEnd()])

for (const [i, receiver] of receivers.entries()) {
  let received = 0
  let right = 0
  for await (const heap of receiver) {
    const bytes = heap.items.get(0x4300)?.bytes
    if (!bytes) continue
    received++
    const round = Math.floor(Number(heap.items.get(0x1600)?.value) / heaps)
    for (const byte of bytes) if (byte === round + 1) right++
  }
  await receiver.close()
  console.log(`${[toA, toB][i]}: ${received} heaps, ${right} of ${4 * heaps * heapBytes} bytes are what was written`)
}
