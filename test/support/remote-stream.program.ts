/**
 * A stream under remote control: one JSON request per line on stdin, one JSON answer per line on stdout.
 *   open {options}                     → { states, backend }; closes the stream before it
 *   batch {name, heaps, bytes, items, …createBatch options} → { packetsPerHeap }
 *   send {name, heaps, cnt}            → { ok: BatchResult } | { error: PlainError }
 *   run {name, seconds, gapMs}         → sends until the time is over or `stop` comes; RunReport
 *   burst {heaps, bytes, batches, sends} → as run: that many sends, `batches` of them under way at a time
 *   stats {}                           → stream.stats()
 *   close {}                           → { report }
 * A failed request answers { error }. Heap j of send number n is filled with (n × 16 + j) modulo 251.
 */
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type Batch,
  type BatchResult,
  ItemGroup,
  type ItemInit,
  openStream,
  type SendError,
  type Stream,
  type StreamOptions,
} from '#dist/src/index.js'
import type { BatchRequest, BurstRequest, PlainError, RunReport, RunRequest, SendRequest } from './remote-stream.js'

type Samples = { adc_samples: Uint8Array }

let stream: Stream | undefined
let sends = 0
let stopped = false
const batches = new Map<string, Batch<Samples>>()

function plain(error: unknown): PlainError {
  const { code, message, outcome, cause, stack } = error as Partial<SendError> & Error
  return {
    code: code as string,
    message,
    ...(outcome && { outcome }),
    ...(cause ? { cause: `${(cause as Error).stack}` } : {}),
    ...(code === undefined && { stack: stack! }),
  }
}

async function send({ name = 'main', heaps, cnt }: SendRequest) {
  const batch = batches.get(name)!
  await batch.free
  const n = sends++
  for (let j = 0; j < batch.heaps; j++) batch.heap(j).adc_samples?.fill((n * 16 + j) % 251)
  if (cnt !== undefined) for (let j = 0; j < batch.heaps; j++) batch.cnts[j] = cnt + j
  return stream!.send(batch, heaps === undefined ? {} : { heaps })
}

const REQUESTS = {
  async open({ options }: { options: StreamOptions }) {
    await stream?.close()
    batches.clear()
    sends = 0
    stream = await openStream(options)
    return { backend: stream.backend, states: stream.stats().states }
  },
  async batch({ name = 'main', bytes, items, ...options }: BatchRequest) {
    const group = new ItemGroup()
    const samples: ItemInit = { id: 0x3300, name: 'adc_samples', description: '', dtype: 'u1', shape: [bytes!] }
    for (const item of items ?? [samples]) group.add(item)
    const batch = stream!.createBatch({ items: group, ...options })
    batches.set(name, batch as unknown as Batch<Samples>)
    return { packetsPerHeap: batch.packetsPerHeap }
  },
  async send(request: SendRequest) {
    return { ok: await send(request) }
  },
  async run({ name = 'main', seconds, gapMs = 0 }: RunRequest) {
    stopped = false
    const out: RunReport = { sent: 0, suspect: 0, failed: [], statuses: [] }
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
  async burst({ heaps, bytes, batches: count, sends: total }: BurstRequest) {
    const items = new ItemGroup().add({ id: 0x3300, name: 'adc_samples', description: '', dtype: 'u1', shape: [bytes] })
    const all = Array.from({ length: count }, () => stream!.createBatch({ items, heaps }))
    const out: RunReport = { sent: 0, suspect: 0, failed: [], statuses: [] }
    const settled: Promise<unknown>[] = []
    for (let n = 0; n < total; n++) {
      const batch = all[n % count]!
      await batch.free
      const note = ({ firstCnt, suspect }: BatchResult) => {
        out.sent++
        if (suspect) out.suspect++
        out.statuses.push([n, firstCnt, suspect])
      }
      settled.push(stream!.send(batch).then(note, (error) => out.failed.push([n, plain(error)])))
    }
    await Promise.all(settled)
    return out
  },
  async stop() {
    stopped = true
    return {}
  },
  async stats() {
    return stream!.stats()
  },
  async packets() {
    return stream!.packets.map(({ bytes, substream }) => [substream, Buffer.from(bytes).toString('base64')])
  },
  async close() {
    return { report: await stream!.close() }
  },
}

createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const { id, op, ...request } = JSON.parse(line)
    let answer: object
    try {
      answer = await REQUESTS[op as keyof typeof REQUESTS](request)
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
