/**
 * A thread of worker-threads.ts: fills every second heap of a batch whenever it is told a batch's number. It is JavaScript, because with
 * Node 20 tsx loads no TypeScript in worker threads.
 */
import { parentPort, workerData } from 'node:worker_threads'
import { attachBatch } from 'speadcast'

export const heapSamples = 4096

/** @type {(polarisation: number, n: number) => number} */
export const sampleOf = (polarisation, n) => Math.round(8000 * Math.sin(n * 0.01 * (1 + polarisation)))

if (parentPort) {
  const { handles, polarisation } = workerData
  const batches = handles.map(attachBatch)
  parentPort.on('message', (number) => {
    const batch = batches[number % batches.length]
    for (let j = polarisation; j < batch.heaps; j += 2) {
      const first = batch.immediate('timestamp')[j]
      const samples = batch.heap(j).adc_samples
      for (let k = 0; k < heapSamples; k++) samples[k] = sampleOf(polarisation, first + k)
      batch.immediate('polarisation')[j] = polarisation
    }
    parentPort?.postMessage('filled')
  })
}
