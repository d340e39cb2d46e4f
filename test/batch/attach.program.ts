/** A worker thread: attaches the handle that it is told, fills all heaps with the byte that it is told, closes its views. */
import { parentPort } from 'node:worker_threads'
import { type AttachedBatch, attachBatch, type BatchHandle } from '#dist/src/index.js'

type Samples = { adc: Uint8Array }
let views: AttachedBatch<Samples> | undefined

function answer(told: unknown): string {
  if (told === 'close') {
    views!.close()
    return 'closed'
  }
  if (typeof told === 'number') {
    for (let j = 0; j < views!.heaps; j++) views!.heap(j).adc.fill(told)
    return 'filled'
  }
  const attached = attachBatch(told as BatchHandle<Samples>)
  views ??= attached
  return 'attached'
}

parentPort!.on('message', (told) => {
  try {
    parentPort!.postMessage(answer(told))
  } catch (error) {
    const { code, message } = error as { code?: string; message: string }
    parentPort!.postMessage(`${code}: ${message}`)
  }
})
