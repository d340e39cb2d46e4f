/** A worker thread: fills its share of a batch whenever it is told to, through views of its own over the batch's memory. */
import { parentPort, workerData } from 'node:worker_threads'
import { attachBatch } from '#dist/src/index.js'

const { handle, share, shares } = workerData
const views = attachBatch(handle, { views: { adc: Int16Array } })
parentPort!.on('message', (round: number) => {
  for (let j = share; j < views.heaps; j += shares) {
    views.heap(j).adc.fill(round * 1000 + j)
    views.immediate('timestamp')[j] = round * 2 ** 40 + j
  }
  parentPort!.postMessage(round)
})
parentPort!.postMessage('ready')
