/** Attaches a batch in the thread that made it and in another. Prints what the other one says, and a sample that the first wrote. */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { attachBatch, ItemGroup, openStream } from 'speadcast'
import { print } from '../support/print.js'

async function main() {
  const stream = await openStream({ to: '127.0.0.1:9' })
  const items = new ItemGroup().add({ id: 0x3300, name: 'a', dtype: 'u1', shape: [100] })
  const batch = stream.createBatch({ items, heaps: 1 })
  attachBatch(batch.handle()).heap(0).a.fill(5)
  const worker = new Worker(new URL(import.meta.url), { workerData: batch.handle() })
  worker.once('message', async (message: string) => {
    print({ message, here: batch.heap(0).a[99] })
    await stream.close()
  })
}

function attached(): string {
  try {
    attachBatch(workerData)
    return 'attached'
  } catch (error) {
    return (error as Error).message
  }
}

if (isMainThread) await main()
else parentPort!.postMessage(attached())
