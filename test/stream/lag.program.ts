/** Stands still for a while with heaps under way at a rate, sent from THREAD. Prints the events of its lag. */
import { spawn } from 'node:child_process'
import { ItemGroup, openStream, type StreamEvent } from 'speadcast'
import { print } from '../support/print.js'

const [thread] = process.argv.slice(2) as ['worker' | 'inline']
await using stream = await openStream({
  to: '127.0.0.1:9',
  thread,
  rate: '20MB/s',
  descriptors: 'none',
  burstRateRatio: 8,
  lagBoundSeconds: 0.05,
})
const events: StreamEvent[] = []
const reading = (async () => {
  for await (const event of stream.events({ kinds: ['lag'] })) if (events.push(event) === 2) break
})()
const items = new ItemGroup().add({ name: 'x', dtype: 'i1', shape: [20_000] })
const batches = Array.from({ length: 4 }, () => stream.createBatch({ items, heaps: 8 }))
let over = false
const sending = (async () => {
  for (let i = 0; !over; i++) {
    const batch = batches[i % batches.length]!
    await batch.free
    stream.send(batch).catch(() => {})
  }
})()
await new Promise((resolve) => setTimeout(resolve, 200))
spawn('sh', ['-c', `sleep 0.3; kill -CONT ${process.pid}`])
process.kill(process.pid, 'SIGSTOP')
await reading
over = true
await sending
print(events)
