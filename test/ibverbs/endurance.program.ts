/**
 * OPTIONS BATCHES EVERY: sends BATCHES small batches, four at a time. Prints what became of them, with a sample of the process every EVERY
 * batches, after a garbage collection. Run with --expose-gc.
 */
import { readdirSync } from 'node:fs'
import { ItemGroup, openStream } from '#dist/src/index.js'
import { print } from '../support/print.js'

export interface Report {
  sent: number
  failed: number
  unexpected: string[]
  samples: [batches: number, rssBytes: number, descriptors: number][]
  states: Readonly<Record<string, string | number | boolean>>
}

const [options, batchesToSend, every] = process.argv.slice(2).map((text) => JSON.parse(text))
const stream = await openStream({ descriptors: 'none', ...options })
const items = new ItemGroup().add({ id: 0x3300, name: 'samples', description: '', dtype: 'u1', shape: [1500] })
const batches = Array.from({ length: 4 }, () => stream.createBatch({ items, heaps: 2 }))
const out: Report = { sent: 0, failed: 0, unexpected: [], samples: [], states: {} }
const failed = (error: Error) => {
  out.failed++
  // Packets in the queue behind a failed one were never tried.
  if (!/IBV_WC_GENERAL_ERR|heaps? (was|were) not sent whole: 2 never tried$/.test(error.message) && out.unexpected.length < 5)
    out.unexpected.push(error.message)
}
for (let i = 0; i < batchesToSend; i++) {
  const batch = batches[i % 4]!
  await batch.free
  stream.send(batch).then(() => out.sent++, failed)
  if (i % every !== every - 1) continue
  await stream.flush()
  globalThis.gc!()
  out.samples.push([i + 1, process.memoryUsage.rss(), readdirSync('/proc/self/fd').length])
}
await stream.flush()
out.states = stream.stats().states
await stream.close()
print(out)
