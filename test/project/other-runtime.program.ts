/** Sends 8 heaps to a port of 127.0.0.1, by the package's name and under whatever runtime this is: PORT, options of openStream as JSON. */
import { ItemGroup, openStream, type StreamOptions } from 'speadcast'

const [port, options] = process.argv.slice(2) as [string, string]
const stream = await openStream({
  to: `127.0.0.1:${port}`,
  packetSizeBytes: 1472,
  ...(JSON.parse(options) as Partial<StreamOptions>),
})
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'samples', dtype: '<i2', shape: [1000] })
const batches = Array.from({ length: 2 }, () => stream.createBatch<{ samples: Int16Array }>({ items, heaps: 2 }))
let heaps = 0
for (let i = 0; i < 4; i++) {
  const batch = batches[i % 2]!
  await batch.free
  for (let j = 0; j < 2; j++) batch.heap(j).samples.fill(1000 + 2 * i + j)
  batch.immediate('timestamp').setRamp(2 * i * 1000, 1000)
  const result = await stream.send(batch)
  heaps += result.heaps
}
await stream.sendEnd()
const { backend, reason } = stream.stats()
console.log(JSON.stringify({ backend, reason, heaps }))
await stream.close()
