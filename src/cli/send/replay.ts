/** The source of `send --loop`: the samples of a file, as heaps that are sent over and over. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { counted, SpeadcastError } from '../../errors.js'
import type { Batch, Stream, StreamMessages } from '../../index.js'
import { usageError } from '../common/exit.js'
import type { Tally } from '../common/tally.js'
import type { SendFlags } from './flags.js'
import { batchHeapsOf, firstTimestamp, type HeapSource, stamp } from './heaps.js'
import type { Input } from './input.js'
import type { SendItems } from './items.js'

/** With fewer batches the sender would wait for one to be done with before it sends it again. */
const LEAST_BATCHES = 4
const COUNT_EVERY_MS = 50
const FAILURES = 'speadcast:send:error'

/** @throws ERR_SPEADCAST_CONFIG, ERR_SPEADCAST_INPUT */
export function loopSource(
  stream: Stream,
  { group, samples, timestamp, heapBytes }: SendItems,
  flags: SendFlags,
  input: Input,
  heaps: number,
  tally: Tally,
): HeapSource {
  if (samples.length === 0) throw usageError('--loop: no item takes the samples; one without a VALUE needs a SHAPE of more bytes')
  const { totalBytes } = input
  if (totalBytes === undefined) throw usageError('--loop: a window has an end, so it comes from a file, not a pipe or a device')
  const { loop: name, padLast = false, groupMode } = flags
  if (totalBytes === 0) throw new SpeadcastError('ERR_SPEADCAST_INPUT', `--loop: ${name} is empty`)
  if (totalBytes % heapBytes > 0 && !padLast)
    throw new SpeadcastError(
      'ERR_SPEADCAST_INPUT',
      `--loop: ${name} has ${counted(totalBytes, 'byte')}, which are not whole heaps of ${heapBytes}; --pad-last fills the last one with zeros`,
    )
  const inFile = Math.ceil(totalBytes / heapBytes)
  const batchHeaps = batchHeapsOf(flags.batchHeaps, heapBytes)
  // A short file stands in the window several times, because batches of few heaps take a call each.
  const inWindow = inFile * Math.max(1, Math.ceil((batchHeaps * LEAST_BATCHES) / inFile))
  const substreams = stream.endpoints.length
  const batches: Batch[] = []
  for (let from = 0; from < inWindow; from += batchHeaps) {
    const count = Math.min(batchHeaps, inWindow - from)
    const substreamOf = (j: number): number => ((from + j) % inFile) % substreams
    batches.push(stream.createBatch({ items: group, heaps: count, groupMode, substreams: substreamOf }) as unknown as Batch)
  }
  const viewsOf = (heap: number): Uint8Array[] =>
    samples.map((item) => {
      const { buffer, byteOffset, byteLength } = batches[Math.floor(heap / batchHeaps)]!.heap(heap % batchHeaps)[item.name]!
      return new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength)
    })
  return {
    totalBytes: Number.isFinite(heaps) ? heaps * heapBytes : undefined,
    batches: batches.length,
    async send(stopping) {
      await fill(viewsOf, inFile, input, stopping)
      if (stopping.aborted) return
      for (let heap = inFile; heap < inWindow; heap++) {
        const views = viewsOf(heap % inFile)
        for (const [i, view] of viewsOf(heap).entries()) view.set(views[i]!)
      }
      // Not before: a long file takes long to read, and its first heap would be late by the clock.
      let next = firstTimestamp(stream, timestamp, flags.firstTimestamp !== undefined)
      for (const batch of batches)
        next = stamp(batch.immediate(timestamp.name), batch.heaps, next, timestamp.step, timestamp.modulo)
      await replay(stream, batches, timestamp.name, heaps, heapBytes, stopping, tally)
    },
  }
}

/** Copies the file into the first heaps. @throws ERR_SPEADCAST_INPUT */
async function fill(viewsOf: (heap: number) => Uint8Array[], heaps: number, input: Input, stopping: AbortSignal): Promise<void> {
  let heap = 0
  let views = viewsOf(0)
  let item = 0
  let at = 0
  for await (const chunk of input.chunks(stopping))
    for (let used = 0; used < chunk.length && heap < heaps; ) {
      const view = views[item]!
      const n = Math.min(view.length - at, chunk.length - used)
      view.set(chunk.subarray(used, used + n), at)
      used += n
      at += n
      if (at < view.length) continue
      at = 0
      if (++item < views.length) continue
      item = 0
      if (++heap < heaps) views = viewsOf(heap)
    }
}

/** Sends the loop until it ends or `stopping` aborts, and counts meanwhile. */
async function replay(
  stream: Stream,
  batches: readonly Batch[],
  timestamp: string,
  heaps: number,
  heapBytes: number,
  stopping: AbortSignal,
  tally: Tally,
): Promise<void> {
  const onFailure = (message: unknown): void => {
    const { stream: whose, error } = message as StreamMessages['speadcast:send:error']
    if (whose === stream && !tally.cut) tally.tellCauses(error)
  }
  subscribe(FAILURES, onFailure)
  const loop = stream.loop(batches, { timestamp, ...(Number.isFinite(heaps) && { until: { heaps } }) })
  const stop = (): void => loop.stop()
  stopping.addEventListener('abort', stop)
  const counted = { settledHeaps: 0, failedHeaps: 0, skippedHeaps: 0, suspectHeaps: 0 }
  const count = (): void => {
    const { settledHeaps, failedHeaps, skippedHeaps, suspectHeaps } = loop.position
    const heaps = settledHeaps - counted.settledHeaps
    const failed = failedHeaps - counted.failedHeaps
    const skipped = skippedHeaps - counted.skippedHeaps
    tally.suspect += suspectHeaps - counted.suspectHeaps
    const sampleBytes = (heaps - failed - skipped) * heapBytes
    if (heaps > 0) tally.settled({ heaps, failedHeaps: failed, skippedHeaps: skipped, sampleBytes })
    Object.assign(counted, { settledHeaps, failedHeaps, skippedHeaps, suspectHeaps })
  }
  const timer = setInterval(count, COUNT_EVERY_MS)
  try {
    await loop.done
  } finally {
    clearInterval(timer)
    stopping.removeEventListener('abort', stop)
    unsubscribe(FAILURES, onFailure)
    count()
  }
}
