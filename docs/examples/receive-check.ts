/**
 * Receives heaps, checks every byte of them, and says what came and what did not. The sender is here too; `npx speadcast send
 * 127.0.0.1:7201` in another terminal sends the same pattern: each sample of a heap is the heap's index.
 *
 *     $ npx tsx docs/examples/receive-check.ts
 *     sent 64 heaps
 *     ended by: stop
 *     received 64 heaps, 524288 bytes: 0 missing, 0 incomplete, 0 corrupt
 *     item 0x1600 timestamp: Index of the first sample
 *     item 0x3300 adc_samples: ADC converter output, |i1 (8192)
 */
import { ItemGroup, openStream } from 'speadcast'
import { openReceiver } from 'speadcast/receive'

const [endpoint = '127.0.0.1:7201'] = process.argv.slice(2)
// Open first: what is sent from now on is received. It ends at the stop heap, or after ten seconds.
await using receiver = await openReceiver({ endpoints: endpoint, verify: true, timeoutSeconds: 10 })

await using stream = await openStream({ to: endpoint, packetSizeBytes: 8972, rate: '20Mbps' })
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: 'i1', shape: [8192] })
const batch = stream.createBatch({ items, heaps: 64 })
for (let j = 0; j < 64; j++) batch.heap(j).adc_samples.fill(j)
batch.immediate('timestamp').setRamp(0, 8192)
const { heaps } = await stream.send(batch)
console.log(`sent ${heaps} heaps`)
await stream.sendEnd()

const summary = await receiver.done
console.log(`ended by: ${summary.reason}`)
console.log(
  `received ${summary.heaps} heaps, ${summary.payloadBytes} bytes: ${summary.heapsMissing} missing, ` +
    `${summary.heapsIncomplete} incomplete, ${summary.heapsCorrupt} corrupt`,
)
for (const { id, name, description, dtype, shape } of summary.items)
  console.log(`item 0x${id.toString(16)} ${name}: ${description}${dtype ? `, ${dtype} (${shape?.join(' × ')})` : ''}`)
process.exitCode = summary.verifyMissing + summary.heapsCorrupt === 0 ? 0 : 1
