/**
 * OPTIONS HEAPS BATCH_HEAPS BATCHES: sends heaps of 64 bytes whose last 8 are their index, with BATCHES batches in flight. Every seventh
 * batch is sent in part. Prints { batches, mostInFlight, stats }.
 */
import { ItemGroup, openStream } from '#dist/src/index.js'
import { print } from '../support/print.js'

const [options, heaps, batchHeaps, inFlight] = process.argv.slice(2).map((text) => JSON.parse(text))
const stream = await openStream({ descriptors: 'none', ...options })
const items = new ItemGroup().add({ id: 0x3300, name: 'index', description: '', dtype: '<u4', shape: [16] })
const batches = Array.from({ length: inFlight }, () => stream.createBatch<{ index: Uint32Array }>({ items, heaps: batchHeaps }))
let sent = 0
let n = 0
let mostInFlight = 0
while (sent < heaps) {
  const batch = batches[n % inFlight]!
  await batch.free
  const count = Math.min(n++ % 7 === 6 ? batchHeaps >> 1 : batchHeaps, heaps - sent)
  for (let j = 0; j < count; j++) batch.heap(j).index[14] = sent + j
  stream.send(batch, { heaps: count })
  mostInFlight = Math.max(mostInFlight, stream.stats().inFlight)
  sent += count
}
await stream.flush()
print({ batches: n, mostInFlight, stats: stream.stats() })
await stream.close()
