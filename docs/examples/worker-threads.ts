/**
 * Sends samples that two worker threads make, each for every second heap of the same batches. The main thread alone sends: it asks both for
 * their heaps of a batch that is free, and sends the batch when both have answered. Meanwhile the batch before is on its way.
 *
 *     $ npx tsx docs/examples/worker-threads.ts
 *     polarisation 0: 640 heaps, 2621440 of 2621440 samples are right
 *     polarisation 1: 640 heaps, 2621440 of 2621440 samples are right
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { ItemGroup, openStream } from 'speadcast'
import { openReceiver } from 'speadcast/receive'

const [to = '127.0.0.1:7225'] = process.argv.slice(2)
const heaps = 64
const heapSamples = 4096
await using receiver = await openReceiver({ endpoints: to })
await using stream = await openStream({ to, packetSizeBytes: 8972, rate: '100Mbps' })
const items = new ItemGroup()
  .add({ id: 0x1600, name: 'timestamp', description: 'Index of the first sample', format: [['u', 48]] })
  .add({ id: 0x3101, name: 'polarisation', description: '0 or 1', format: [['u', 48]] })
  .add({ id: 0x3300, name: 'adc_samples', description: 'ADC converter output', dtype: '<i2', shape: [heapSamples] })
const batches = [0, 1].map(() => stream.createBatch({ items, heaps }))

// A handle is plain data, from which a thread of this process makes views of the same memory. Heaps 0, 2, 4 … are one's, 1, 3, 5 … the other's.
const handles = batches.map((batch) => batch.handle())
const file = new URL('worker-threads.producer.mjs', import.meta.url)
const workers = [0, 1].map((polarisation) => new Worker(file, { workerData: { handles, polarisation } }))

const checked = check()
for (let i = 0; i < 20; i++) {
  const batch = batches[i % batches.length]!
  await batch.free
  for (let j = 0; j < heaps; j++) batch.immediate('timestamp')[j] = ((i * heaps) / 2 + Math.floor(j / 2)) * heapSamples
  const filled = workers.map((worker) => once(worker, 'message')) // rejects where a worker throws
  for (const worker of workers) worker.postMessage(i)
  await Promise.all(filled)
  stream.send(batch)
}
await stream.sendEnd()
for (const worker of workers) await worker.terminate()
for (const [polarisation, { heaps, right }] of (await checked).entries())
  console.log(`polarisation ${polarisation}: ${heaps} heaps, ${right} of ${heaps * heapSamples} samples are right`)

async function check() {
  const found = [0, 1].map(() => ({ heaps: 0, right: 0 }))
  for await (const { items } of receiver) {
    const samples = items.get(0x3300)?.bytes
    if (!samples) continue
    const [first, polarisation] = [Number(items.get(0x1600)?.value), Number(items.get(0x3101)?.value)]
    const view = new DataView(samples.buffer, samples.byteOffset, samples.length)
    const count = found[polarisation]!
    count.heaps++
    for (let k = 0; k < heapSamples; k++) {
      const sample = Math.trunc(8000 * Math.sin((first + k) * 0.01 * (1 + polarisation))) // as an Int16Array takes it
      if (view.getInt16(2 * k, true) === sample) count.right++
    }
  }
  return found
}
