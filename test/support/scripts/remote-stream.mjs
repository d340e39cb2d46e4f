// A stream under remote control: one JSON request per line on stdin, one JSON answer per line on stdout.
//   open {options}                     → { states, backend }; closes the stream before it
//   batch {name, heaps, bytes, items, …createBatch options} → { packetsPerHeap }
//   send {name, heaps, cnt}            → { ok: BatchResult } | { error: { code, message, outcome } }
//   run {name, seconds, gapMs}         → sends until the time is over or `stop` comes; { sent, failed: [[number of the send, error]], suspect, statuses }
//   burst {heaps, bytes, batches, sends} → as run: that many sends, all but `batches` of which need not wait for one another
//   stats {}                           → stream.stats()
//   close {}                           → { report }
// A failed request answers { error }. Heap j of send number n is filled with (n × 16 + j) modulo 251.
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { ItemGroup, openStream } from '#dist/src/index.js'

let stream
let sends = 0
let stopped = false
const batches = new Map()

const plain = (error) => ({
  code: error.code,
  message: error.message,
  ...(error.outcome && { outcome: error.outcome }),
  ...(error.cause && { cause: `${error.cause.stack}` }),
  ...(error.code === undefined && { stack: error.stack }),
})

async function send({ name = 'main', heaps, cnt }) {
  const batch = batches.get(name)
  await batch.free
  const n = sends++
  for (let j = 0; j < batch.heaps; j++) batch.heap(j).adc_samples?.fill((n * 16 + j) % 251)
  if (cnt !== undefined) for (let j = 0; j < batch.heaps; j++) batch.cnts[j] = cnt + j
  return stream.send(batch, heaps === undefined ? {} : { heaps })
}

const requests = {
  async open({ options }) {
    await stream?.close()
    batches.clear()
    sends = 0
    stream = await openStream(options)
    return { backend: stream.backend, states: stream.stats().states }
  },
  async batch({ name = 'main', bytes, items, ...options }) {
    const group = new ItemGroup()
    for (const item of items ?? [{ id: 0x3300, name: 'adc_samples', description: '', dtype: 'u1', shape: [bytes] }]) group.add(item)
    batches.set(name, stream.createBatch({ items: group, ...options }))
    return { packetsPerHeap: batches.get(name).packetsPerHeap }
  },
  async send(request) {
    return { ok: await send(request) }
  },
  async run({ name = 'main', seconds, gapMs = 0 }) {
    stopped = false
    const out = { sent: 0, suspect: 0, failed: [], statuses: [] }
    for (const end = performance.now() + seconds * 1000; !stopped && performance.now() < end; ) {
      const from = sends
      try {
        const result = await send({ name })
        out.sent++
        if (result.suspect) out.suspect++
        out.statuses.push([from, result.firstCnt, result.suspect])
      } catch (error) {
        out.failed.push([from, plain(error)])
      }
      if (gapMs > 0) await sleep(gapMs)
    }
    return out
  },
  async burst({ heaps, bytes, batches, sends: count }) {
    const group = new ItemGroup().add({ id: 0x3300, name: 'adc_samples', description: '', dtype: 'u1', shape: [bytes] })
    const all = Array.from({ length: batches }, () => stream.createBatch({ items: group, heaps }))
    const out = { sent: 0, suspect: 0, failed: [], statuses: [] }
    const sent = []
    for (let n = 0; n < count; n++) {
      const batch = all[n % batches]
      await batch.free
      const promise = stream.send(batch)
      sent.push(
        promise.then(
          (result) => {
            out.sent++
            if (result.suspect) out.suspect++
            out.statuses.push([n, result.firstCnt, result.suspect])
          },
          (error) => out.failed.push([n, plain(error)]),
        ),
      )
    }
    await Promise.all(sent)
    return out
  },
  async stop() {
    stopped = true
    return {}
  },
  async stats() {
    return stream.stats()
  },
  async packets() {
    return stream.packets.map(({ bytes, substream }) => [substream, Buffer.from(bytes).toString('base64')])
  },
  async close() {
    return { report: await stream.close() }
  },
}

createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const { id, op, ...request } = JSON.parse(line)
    let answer
    try {
      answer = await requests[op](request)
    } catch (error) {
      answer = { error: plain(error) }
    }
    console.log(JSON.stringify({ id, ...answer }))
  })
  .on('close', async () => {
    await stream?.destroy()
    process.exit(0)
  })
console.log('ready')
