/**
 * Fills the same memory for every heap, because `sendHeap` has copied the samples when it returns. Step 4 of docs/tutorial.md.
 *
 *     $ npx tsx docs/examples/tutorial-4-reuse-memory.ts -p 8972
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
const samples = new Int8Array(heapSize)

const start = performance.now()
let previous: Promise<unknown> | undefined
for (let i = 0; i < heaps; i++) {
  items.get('timestamp').value = i * heapSize
  items.get('adc_samples').value = samples.fill(i)
  const sent = stream.sendHeap(items.getHeap())
  await previous
  previous = sent
}
await previous
const seconds = (performance.now() - start) / 1000
console.log(`${((heapSize * heaps) / seconds / 1e6).toFixed(0)} MB/s`)
await stream.sendEnd()
