/**
 * Sends heaps one by one, as fast as they go, and measures the rate. Step 1 of docs/tutorial.md: each heap is new memory, and nothing
 * is prepared while it is on its way.
 *
 *     $ npx tsx docs/examples/tutorial-1-send.ts
 *     … MB/s
 */
import { parseArgs } from 'node:util'
import { ItemGroup, openStream } from 'speadcast'

const { values, positionals } = parseArgs({
  options: { heaps: { type: 'string', short: 'n', default: '100' } },
  allowPositionals: true,
})
const { 0: to = '127.0.0.1:7148' } = positionals
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
