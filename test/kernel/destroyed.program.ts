/**
 * Sends a batch of HEAPS heaps of BYTES bytes with OPTIONS, and destroys the stream 100 ms later. Prints what was under way then, how
 * long it took, and how the send ended.
 */
import { ItemGroup, openStream } from '#dist/src/index.js'
import { print } from '../support/print.js'

const [options, heaps, bytes] = process.argv.slice(2).map((text) => JSON.parse(text))
const stream = await openStream(options)
const items = new ItemGroup().add({ id: 0x3300, name: 'adc_samples', dtype: 'u1', shape: [bytes] })
const sending = stream.send(stream.createBatch({ items, heaps }))
await new Promise((resolve) => setTimeout(resolve, 100))
const { inFlight, zeroCopyMessages } = stream.stats()
const start = performance.now()
await stream.destroy()
const ms = performance.now() - start
const ended = await sending.then(
  (result) => ({ heaps: result.heaps }),
  (error: Error) => ({ error: error.message }),
)
print({ inFlight, zeroCopyMessages, ms, ...ended })
