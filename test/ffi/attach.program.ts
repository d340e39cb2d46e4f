/** A worker thread: attaches a region and answers every byte it is told with what stood at both ends before it filled all with it. */
import { parentPort, workerData } from 'node:worker_threads'
import { attachRegion } from '#dist/ffi/memory/region.js'

const { handle } = workerData
const buffer = attachRegion(handle)
const view = new Uint8Array(buffer)
parentPort!.on('message', (byte: number) => {
  const before = [view[0], view.at(-1)]
  view.fill(byte)
  parentPort!.postMessage({ before, length: view.length, same: attachRegion(structuredClone(handle)) === buffer })
})
