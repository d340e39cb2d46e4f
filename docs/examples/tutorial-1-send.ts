/**
 * Sends heaps one by one and measures the rate. Each heap is new memory, and the next one is made when this one has been sent.
 * Step 1 of docs/tutorial.md.
 *
 *     $ npx tsx docs/examples/tutorial-1-send.ts
 *     … MB/s
 */
import { parseArgs } from 'node:util'
import { ItemGroup, openStream } from 'speadcast'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    heaps: { type: 'string', short: 'n', default: '250' },
  },
})
const [to = '127.0.0.1:7148'] = positionals
const heaps = Number(values.heaps)
const heapSize = 1024 * 1024

await using stream = await openStream({ to })
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: 'i1', shape: [heapSize] })

const start = performance.now()
for (let i = 0; i < heaps; i++) {
  items.get('timestamp').value = i * heapSize
  items.get('adc_samples').value = new Int8Array(heapSize).fill(i)
  await stream.sendHeap(items.getHeap())
}
const seconds = (performance.now() - start) / 1000
console.log(`${((heapSize * heaps) / seconds / 1e6).toFixed(0)} MB/s`)
await stream.sendEnd()
