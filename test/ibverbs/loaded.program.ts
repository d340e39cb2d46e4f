/**
 * OPTIONS END: keeps six batches of a stream under way until a line comes on standard input, and then ends by END:
 *   close | destroy | exit | throw | end (nothing is closed, sending stops) | terminate (the stream is a worker's) |
 *   two (a second stream is on the device, with the other kind of thread; it sends on when the first is closed)
 * Prints 'loaded' when the first batches are under way, and a Report at the end.
 */
import { readdirSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { type Batch, ItemGroup, openStream, type SendError, type SpeadcastError, type StreamOptions } from '#dist/src/index.js'
import { print } from '../support/print.js'

export type End = 'close' | 'destroy' | 'exit' | 'throw' | 'end' | 'terminate' | 'two'

export interface Report {
  sent: number
  failed: number
  statuses: Record<string, number>
  closed?: unknown
  milliseconds: number
  fds: number
}

const [options, end] = (isMainThread ? [JSON.parse(process.argv[2]!), process.argv[3]] : [workerData, 'terminate']) as [
  StreamOptions,
  End,
]
const fds = () => readdirSync('/proc/self/fd').length
async function load(more: Partial<StreamOptions> = {}) {
  const stream = await openStream({ descriptors: 'none', ...options, ...more })
  const items = new ItemGroup().add({ id: 0x3300, name: 'samples', description: '', dtype: 'u1', shape: [5000] })
  const out = {
    sent: 0,
    failed: 0,
    statuses: {} as Record<string, number>,
    stop: false,
    pending: new Set<Promise<unknown>>(),
  }
  const batches = Array.from({ length: 6 }, () => stream.createBatch({ items, heaps: 3 }))
  const again = (batch: Batch): void => {
    let sending: ReturnType<typeof stream.send>
    try {
      sending = stream.send(batch)
    } catch (error) {
      if ((error as SpeadcastError).code !== 'ERR_SPEADCAST_CLOSED') throw error
      return
    }
    const settled = sending.then(
      () => out.sent++,
      (error: SpeadcastError & Partial<SendError>) => {
        out.failed++
        const heaps = error.outcome?.heaps ?? [error.code]
        for (const status of heaps) out.statuses[status] = (out.statuses[status] ?? 0) + 1
      },
    )
    out.pending.add(settled)
    settled.then(() => {
      out.pending.delete(settled)
      if (!out.stop) setImmediate(again, batch)
    })
  }
  for (const batch of batches) again(batch)
  return { stream, out }
}

// Standard input has descriptors of its own, so it is opened before they are counted.
const lines = isMainThread ? createInterface({ input: process.stdin }) : undefined
const told = () => new Promise((resolve) => lines!.once('line', resolve))

if (end === 'terminate' && isMainThread) {
  const worker = new Worker(new URL(import.meta.url), { workerData: options })
  await new Promise((resolve) => worker.once('message', resolve))
  console.log('loaded')
  await told()
  await worker.terminate()
  // The process goes on, and sends.
  const { stream, out } = await load()
  await new Promise((resolve) => setTimeout(resolve, 100))
  out.stop = true
  await stream.close()
  print({ sent: out.sent, failed: out.failed, statuses: out.statuses })
  process.stdin.destroy()
} else {
  // Descriptors that are opened once and kept are no leak, so they are opened before the count.
  const other: Partial<StreamOptions> = { thread: options.thread === 'worker' ? 'inline' : 'worker' }
  for (const more of end === 'two' ? [{}, other] : [{}]) {
    const first = await load(more)
    first.out.stop = true
    await first.stream.close()
  }
  const before = fds()
  const { stream, out } = await load()
  const second = end === 'two' ? await load(other) : undefined
  if (isMainThread) {
    console.log('loaded')
    await told()
  } else parentPort!.postMessage('loaded')
  const from = performance.now()
  if (end === 'exit') process.exit(7)
  if (end === 'throw') throw new Error('on purpose')
  if (end !== 'terminate') {
    out.stop = true
    let closed: unknown
    if (end === 'close') closed = await stream.close({ deadlineSeconds: 0.3 }).catch((error: SpeadcastError) => error.code)
    if (end === 'destroy') closed = await stream.destroy()
    if (second) {
      await stream.close()
      const sent = second.out.sent
      await new Promise((resolve) => setTimeout(resolve, 100))
      closed = { sentAfterwards: second.out.sent - sent, failed: second.out.failed }
      second.out.stop = true
      await second.stream.close()
    }
    const milliseconds = performance.now() - from
    await Promise.all(out.pending)
    if (end !== 'end') await new Promise((resolve) => setTimeout(resolve, 50))
    const report: Report = { sent: out.sent, failed: out.failed, statuses: out.statuses, closed, milliseconds, fds: fds() - before }
    print(report)
    process.stdin.destroy()
  }
}
