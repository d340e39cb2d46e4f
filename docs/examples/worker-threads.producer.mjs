/**
 * A thread of worker-threads.ts: fills every second heap of a batch whenever it is told a batch's number. It is JavaScript, because with
 * Node 20 tsx loads no TypeScript in worker threads.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { attachBatch } from 'speadcast'

const { handles, polarisation } = workerData
const batches = handles.map((/** @type {any} */ handle) => attachBatch(handle))

parentPort?.on('message', (number) => {
  const batch = batches[number % batches.length]
  for (let j = polarisation; j < batch.heaps; j += 2) {
    const samples = batch.heap(j).adc_samples
    const first = batch.immediate('timestamp')[j]
    for (let k = 0; k < samples.length; k++) samples[k] = 8000 * Math.sin((first + k) * 0.01 * (1 + polarisation))
    batch.immediate('polarisation')[j] = polarisation
  }
  parentPort?.postMessage('filled')
})
