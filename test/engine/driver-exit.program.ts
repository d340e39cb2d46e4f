/** A process with a stream of OPTIONS and two batches of 100 heaps that does DEED. Prints lines of JSON, at its end how many heaps are sent. */
import { ItemGroup, openStream } from '#dist/src/index.js'
import { print } from '../support/print.js'

export type Deed = keyof typeof DEEDS

const [options, deed] = process.argv.slice(2) as [string, Deed]
const stream = await openStream({ to: '127.0.0.1:9', descriptors: 'none', ...JSON.parse(options) })
const items = new ItemGroup().add({ id: 0x3300, name: 'adc', dtype: '|u1', shape: [1000] })
const createBatch = () => stream.createBatch({ items, heaps: 100 })
const batches = [createBatch(), createBatch()] as const
process.on('exit', (code) => print({ code, sent: stream.stats().heapsSent, inFlight: stream.stats().inFlight }))

function sendAll() {
  for (const batch of batches) stream.send(batch)
}

const DEEDS = {
  nothing() {},
  async sendOne() {
    await stream.send(batches[0])
    await batches[0].free
    await new Promise((resolve) => setTimeout(resolve, 100))
  },
  sendAll,
  async awaitEverything() {
    print({ heaps: (await stream.send(batches[0])).heaps })
    stream.send(batches[1])
    await batches[1].free
    stream.send(batches[1])
    await stream.flush()
    stream.send(batches[0])
    print(await stream.close())
  },
  async closeWithDeadline() {
    sendAll()
    const { droppedHeaps } = await stream.close({ deadlineSeconds: 0.05 })
    print({ total: droppedHeaps + stream.stats().heapsSent })
  },
  exit: () => process.exit(7),
  exitWhileSending() {
    sendAll()
    setTimeout(() => process.exit(8), 50)
  },
  throwWhileSending() {
    sendAll()
    setTimeout(() => {
      throw new Error('on purpose')
    }, 50)
  },
  async destroyWhileSending() {
    sendAll()
    await stream.destroy()
  },
}

await DEEDS[deed]()
