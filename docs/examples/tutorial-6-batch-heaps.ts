/**
 * Sends heaps by the batch: one call and one answer for 512 KiB of them. Two batches take turns: one is filled while the other is sent.
 * Step 6 of docs/tutorial.md.
 *
 *     $ npx tsx docs/examples/tutorial-6-batch-heaps.ts -n 100000 -p 8972 -H 8192
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
const batchHeaps = Math.max(1, Math.floor((512 * 1024) / heapSize))
const batches = Array.from({ length: 2 }, () => stream.createBatch({ items, heaps: batchHeaps }))

const start = performance.now()
for (let i = 0; i < heaps; i += batchHeaps) {
  const batch = batches[(i / batchHeaps) % batches.length]!
  const n = Math.min(batchHeaps, heaps - i) // the last batch may have fewer
  await batch.free
  for (let j = 0; j < n; j++) batch.heap(j).adc_samples.fill(i + j)
  batch.immediate('timestamp').setRamp(i * heapSize, heapSize)
  stream.send(batch, { heaps: n })
}
await stream.flush()
const seconds = (performance.now() - start) / 1000
console.log(`${((heapSize * heaps) / seconds / 1e6).toFixed(0)} MB/s`)
await stream.sendEnd()
