// The receiving half of a soak, in a namespace of its own. It prints a line of JSON for each run of heaps that arrived one after the other with
// the samples that they should have, and its counters at the end.
import { openReceiver } from 'speadcast/receive'
import { Runs } from './ranges.mjs'
import { HEAP_BYTES, NUMBERS, STREAMS } from './streams.mjs'

const tell = (line) => process.stdout.write(`${JSON.stringify({ at: Date.now(), ...line })}\n`)

async function run(name, { to }) {
  const receiver = await openReceiver({ endpoints: to, receiveBufferBytes: 32 << 20 })
  const runs = new Runs(({ from, to, word }) => tell({ kind: 'got', stream: name, from, to, word }))
  const receiving = async () => {
    for await (const heap of receiver) {
      const timestamp = heap.items.get(0x1600)
      const samples = heap.items.get(0x3300)?.bytes
      // A heap that lost its first packet does not say which it is.
      if (timestamp === undefined) continue
      const n = Number(timestamp.value)
      const right = samples?.length === HEAP_BYTES && samples.every((value) => value === n % NUMBERS)
      runs.add(n, n + 1, heap.complete ? (right ? 'whole' : 'corrupt') : 'partial')
    }
    runs.flush()
    tell({ kind: 'end', stream: name, stats: receiver.stats() })
  }
  return { receiver, done: receiving() }
}

const all = []
for (const [name, settings] of Object.entries(STREAMS)) all.push(await run(name, settings))
tell({ kind: 'open' })
process.on('SIGTERM', () => {
  for (const { receiver } of all) void receiver.close()
})
await Promise.all(all.map(({ done }) => done))
