/**
 * Prepares heaps once, and from then on writes samples into the memory that is sent. Each heap is a batch of one; 1 MiB of them is under
 * way. Step 5 of docs/tutorial.md.
 *
 *     $ npx tsx docs/examples/tutorial-5-reuse-heaps.ts -n 20000 -p 8972 -H 8192
 *     … MB/s
 */
import { parseArgs } from 'node:util'
import { ItemGroup, openStream } from 'speadcast'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    heaps: { type: 'string', short: 'n', default: '250' },
    'packet-size': { type: 'string', short: 'p', default: '1472' },
    'heap-size': { type: 'string', short: 'H', default: `${1024 * 1024}` },
  },
})
const [to = '127.0.0.1:7148'] = positionals
const heaps = Number(values.heaps)
const heapSize = Number(values['heap-size'])

await using stream = await openStream({ to, packetSizeBytes: Number(values['packet-size']) })
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: 'i1', shape: [heapSize] })
const inFlight = Math.max(2, Math.floor((1024 * 1024) / heapSize))
const batches = Array.from({ length: inFlight }, () => stream.createBatch({ items, heaps: 1 }))

const start = performance.now()
for (let i = 0; i < heaps; i++) {
  const batch = batches[i % inFlight]!
  await batch.free // its last send has settled
  batch.heap(0).adc_samples.fill(i)
  batch.immediate('timestamp')[0] = i * heapSize
  stream.send(batch)
}
await stream.flush()
const seconds = (performance.now() - start) / 1000
console.log(`${((heapSize * heaps) / seconds / 1e6).toFixed(0)} MB/s`)
await stream.sendEnd()
