/** A worker thread: writes a ramp for each substream into the column of the batch that it is told. */
import { parentPort, workerData } from 'node:worker_threads'
import { attachBatch } from '#dist/src/index.js'

const { handle, first, step } = workerData
using batch = attachBatch(handle)
batch.immediate('timestamp').setRamp(first, step, { per: 'substream' })
parentPort!.postMessage('done')
