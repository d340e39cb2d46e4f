/** Sends and closes 40 batches of 16 MiB, one after the other. Prints the bytes of array buffers that are left. Run with --expose-gc. */
import { ItemGroup, openStream } from 'speadcast'
import { print } from '../support/print.js'

const stream = await openStream({ to: '239.1.2.3:7148', backend: 'memory', memory: { keepPackets: false } })
const items = new ItemGroup().add({ id: 0x3300, name: 'a', dtype: 'u1', shape: [2 ** 24] })
for (let i = 0; i < 40; i++) {
  const batch = stream.createBatch({ items, heaps: 1 })
  batch.heap(0).a.fill(i)
  await stream.send(batch)
  batch.close()
}
await new Promise(setImmediate)
globalThis.gc!()
print(process.memoryUsage().arrayBuffers)
