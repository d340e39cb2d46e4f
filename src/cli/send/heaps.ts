/** The two sources of heaps: the tutorial's pattern, and raw samples. Both have the same items. */
import {
  type Batch,
  batchesFor,
  createBatchRing,
  type GroupMode,
  type ImmediateColumn,
  type Item,
  SendError,
  type Stream,
  sampleWriter,
} from '../../index.js'
import { usageError } from '../common/exit.js'
import type { Tally } from '../common/tally.js'
import type { SendFlags } from './flags.js'
import type { Input } from './input.js'
import type { SendItems } from './items.js'

const BATCH_BYTES = 512 * 1024
/** Smaller heaps count as this many bytes, because heaps of immediates alone would make batches with too many heaps. */
const LEAST_HEAP_BYTES = 64
/** A source that fills a batch of 512 KiB in this time gives 0.4 Gb/s: slower ones cost little CPU even with short batches. */
const LIVE_DELAY_MS = 10

export interface HeapSource {
  /** Undefined where the input does not tell. */
  readonly totalBytes: number | undefined
  /** The number of batches that can be under way at once. */
  readonly batches: number
  /** Sends all heaps. When `stopping` aborts, it returns early with the whole ones queued. Failures of heaps go to the tally. */
  send(stopping: AbortSignal): Promise<void>
}

export interface PatternOptions {
  readonly heaps: number
  readonly batchHeaps: number
  /** Default: see `batchesFor`. */
  readonly batches?: number | undefined
  readonly groupMode: GroupMode
  /** Called before each batch is sent, with its number of heaps, and waited for. */
  readonly beforeSend?: (heaps: number) => Promise<void>
  /** The first timestamp was asked for; else a clock says which it is. */
  readonly timestampGiven?: boolean
  /** Withdraws the batches that have not begun: their heaps count neither as sent nor as failed. */
  readonly withdraw?: AbortSignal
}

export const batchHeapsOf = (batchHeaps: number | undefined, heapBytes: number): number =>
  batchHeaps ?? Math.max(1, Math.floor(BATCH_BYTES / Math.max(heapBytes, LEAST_HEAP_BYTES)))

/**
 * Makes heaps of the pattern: every byte of heap i is i, its timestamp the index of its first sample, modulo the item's width.
 * @throws ERR_SPEADCAST_CONFIG for samples that stand in their item pointer and are no bytes
 */
export function patternSource(stream: Stream, items: SendItems, options: PatternOptions, tally: Tally): HeapSource {
  const { heaps, groupMode, beforeSend, withdraw } = options
  const { group, samples, timestamp: stamps, heapBytes: heapSizeBytes } = items
  const batchHeaps = Math.min(heaps, options.batchHeaps)
  const batches = Math.min(
    options.batches ?? batchesFor(stream, batchHeaps * Math.max(heapSizeBytes, LEAST_HEAP_BYTES)),
    Math.ceil(heaps / batchHeaps),
  )
  const ring = createBatchRing(stream, { items: group, heaps: batchHeaps, batches, groupMode })
  const fills = samples.map((item) => ({ item, fill: fillOf(item, stream.flavour.heapAddressBits) }))
  return {
    totalBytes: Number.isFinite(heaps) ? heaps * heapSizeBytes : undefined,
    batches: ring.length,
    async send(stopping) {
      tally.substreams?.begin()
      let timestamp = firstTimestamp(stream, stamps, options.timestampGiven)
      for (let i = 0, b = 0; i < heaps; i += batchHeaps, b++) {
        // A ring has at least one batch.
        const batch = ring[b % ring.length]!
        await batch.free
        if (stopping.aborted) return
        const count = Math.min(batchHeaps, heaps - i)
        for (const { item, fill } of fills) for (let j = 0; j < count; j++) fill(batch, j, (i + j) & 0xff, item)
        timestamp = stamp(batch.immediate(stamps.name), count, timestamp, stamps.step, stamps.modulo)
        if (beforeSend) await beforeSend(count)
        // If it was told to stop while it waited for credits, it has none for this batch.
        if (stopping.aborted) return
        stream.send(batch, { heaps: count, ...(withdraw && { signal: withdraw }) }).then(
          (result) => {
            const { heaps: sent, skippedHeaps } = result
            tally.settled({ heaps: count, failedHeaps: 0, skippedHeaps, sampleBytes: sent * heapSizeBytes, result })
          },
          (error: unknown) => {
            if (withdraw?.aborted && error === withdraw.reason) return
            const outcome = error instanceof SendError ? error.outcome : undefined
            const failedHeaps = outcome ? outcome.failedHeaps.length : count
            const sent = outcome ? outcome.heaps.filter((status) => status === 'sent').length : 0
            const skippedHeaps = count - failedHeaps - sent
            tally.settled({ heaps: count, failedHeaps, skippedHeaps, sampleBytes: sent * heapSizeBytes, error })
          },
        )
      }
    },
  }
}

/** A command without --start-at begins so long after it is ready. */
const LEAD_MS = 200

/** The timestamp of the first heap. */
export function firstTimestamp({ clock }: Stream, { first, modulo }: SendItems['timestamp'], given = false): number {
  if (!clock || given) return first % modulo
  const after = clock.startsAt ?? new Date(Date.now() + LEAD_MS)
  return clock.nextTimestamp({ after, bits: Math.round(Math.log2(modulo)) })
}

/** Writes timestamps, and returns the one after the last. */
export function stamp(timestamps: ImmediateColumn, count: number, first: number, step: number, modulo: number): number {
  const next = first + count * step
  if (next <= modulo) timestamps.setRamp(first, step)
  else for (let j = 0; j < count; j++) timestamps[j] = (first + j * step) % modulo
  return next % modulo
}

type Fill = (batch: Batch, j: number, byte: number, item: Item) => void

function fillOf({ name, dtype, byteLength, allowImmediate }: Item, heapAddressBits: number): Fill {
  const pointerBytes = heapAddressBits / 8
  if (!allowImmediate || byteLength! > pointerBytes) return dtype?.descr === '|i1' ? fillBytes : fillView
  if (dtype?.itemSizeBytes === 1) return fillImmediate
  throw usageError(
    `item ${name} has ${byteLength} bytes a heap, which stand in its item pointer; give it more than ${pointerBytes}, or a VALUE`,
  )
}

function fillBytes(batch: Batch, j: number, byte: number, { name }: Item): void {
  batch.heap(j)[name]!.fill(byte)
}

function fillView(batch: Batch, j: number, byte: number, { name }: Item): void {
  const { buffer, byteOffset, byteLength } = batch.heap(j)[name]!
  new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength).fill(byte)
}

/** Fills samples that stand in the item pointer: one is a signed number, several are their bytes read as one big-endian number. */
function fillImmediate(batch: Batch, j: number, byte: number, { name, dtype, byteLength }: Item): void {
  let value = 0
  for (let k = 0; k < byteLength!; k++) value = value * 256 + byte
  batch.immediate(name)[j] = byteLength === 1 && dtype!.kind === 'i' ? (byte << 24) >> 24 : value
}

export function inputSource(stream: Stream, items: SendItems, flags: SendFlags, input: Input, tally: Tally): HeapSource {
  const { heaps, batches, groupMode, padLast = false } = flags
  const { group, samples, timestamp, heapBytes } = items
  if (samples.length === 0) throw usageError('--input: no item takes the samples; one without a VALUE needs a SHAPE of more bytes')
  const maxDelayMs = flags.maxDelay ?? (input.live ? LIVE_DELAY_MS : undefined)
  const writer = sampleWriter(stream, {
    items: group,
    item: samples.map(({ name }) => name),
    timestamp: timestamp.name,
    firstSample: firstTimestamp(stream, timestamp, flags.firstTimestamp !== undefined),
    samplesPerHeap: timestamp.step,
    heapsPerBatch: batchHeapsOf(flags.batchHeaps, heapBytes),
    ...(batches !== undefined && { batches }),
    ...(maxDelayMs !== undefined && { maxDelayMs }),
    groupMode,
    onSettled: tally.settled,
  })
  const limit = !heaps ? Number.POSITIVE_INFINITY : heaps * heapBytes
  return {
    batches: writer.batches,
    totalBytes: input.totalBytes === undefined ? (Number.isFinite(limit) ? limit : undefined) : Math.min(limit, input.totalBytes),
    async send(stopping) {
      let left = limit
      let written = 0
      for await (const chunk of input.chunks(stopping)) {
        const bytes = chunk.length > left ? chunk.subarray(0, left) : chunk
        await writer.write(bytes)
        written += bytes.length
        left -= bytes.length
        if (left <= 0) break
      }
      const over = written % heapBytes
      if (padLast && over > 0) await writer.write(new Uint8Array(heapBytes - over))
      await writer.end({ dropPartialSample: stopping.aborted })
    },
  }
}
