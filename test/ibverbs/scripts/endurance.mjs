// endurance.mjs OPTIONS BATCHES EVERY: sends BATCHES small batches, four at a time, and prints JSON: { sent, failed, states,
// samples: [[batches, rss bytes, fds]] every EVERY batches, after a garbage collection }. Run with --expose-gc.
import { readdirSync } from 'node:fs'
import { ItemGroup, openStream } from '#dist/src/index.js'

const [options, batchesToSend, every] = [JSON.parse(process.argv[2]), Number(process.argv[3]), Number(process.argv[4])]
const stream = await openStream({ descriptors: 'none', ...options })
const items = new ItemGroup().add({ id: 0x3300, name: 'samples', description: '', dtype: 'u1', shape: [1500] })
const batches = Array.from({ length: 4 }, () => stream.createBatch({ items, heaps: 2 }))
const out = { sent: 0, failed: 0, unexpected: [], samples: [] }
const failed = (error) => {
  out.failed++
  // Packets in the queue behind a failed one were never tried.
  if (!/IBV_WC_GENERAL_ERR|heaps were not sent whole: 2 never tried$/.test(error.message) && out.unexpected.length < 5)
    out.unexpected.push(error.message)
}
for (let i = 0; i < batchesToSend; i++) {
  const batch = batches[i % 4]
  await batch.free
  stream.send(batch).then(() => out.sent++, failed)
  if (i % every !== every - 1) continue
  await stream.flush()
  global.gc()
  out.samples.push([i + 1, process.memoryUsage.rss(), readdirSync('/proc/self/fd').length])
}
await stream.flush()
out.states = stream.stats().states
await stream.close()
console.log(JSON.stringify(out))
