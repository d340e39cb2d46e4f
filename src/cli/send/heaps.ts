/** The two sources of heaps: the tutorial's pattern, and raw samples. Both have the same two items. */
import {
  type Batch,
  batchesFor,
  createBatchRing,
  type DtypeText,
  type GroupMode,
  type ImmediateColumn,
  Item,
  ItemGroup,
  SendError,
  type Stream,
  sampleWriter,
} from '../../index.js'
import { usageError } from '../common/exit.js'
import type { Tally } from '../common/tally.js'
import type { SendFlags } from './flags.js'
import type { Input } from './input.js'

export const TIMESTAMP_ID = 0x1600
export const SAMPLES_ID = 0x3300
const BATCH_BYTES = 512 * 1024
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

const timestampBits = (heapAddressBits: number): number => Math.min(48, heapAddressBits)

/** @throws ERR_SPEADCAST_ITEM for a dtype that is none, ERR_SPEADCAST_CONFIG for a heap that is no whole number of samples */
export function tutorialItems(heapSizeBytes: number, heapAddressBits = 48, dtype: DtypeText = 'i1'): ItemGroup {
  const sampleBytes = new Item({ id: SAMPLES_ID, name: 'adc_samples', dtype, shape: [] }).byteLength!
  if (heapSizeBytes % sampleBytes !== 0) {
    const nearest = Math.ceil(heapSizeBytes / sampleBytes) * sampleBytes
    throw usageError(`--heap-size ${heapSizeBytes} is no whole number of ${dtype} samples of ${sampleBytes} bytes; use ${nearest}`)
  }
  return new ItemGroup()
    .add({
      id: TIMESTAMP_ID,
      name: 'timestamp',
      description: 'Index of the first sample',
      format: [['u', timestampBits(heapAddressBits)]],
    })
    .add({
      id: SAMPLES_ID,
      name: 'adc_samples',
      description: 'ADC converter output',
      dtype,
      shape: [heapSizeBytes / sampleBytes],
    })
}

export interface PatternOptions {
  readonly heaps: number
  readonly heapSizeBytes: number
  readonly heapAddressBits: number
  readonly batchHeaps: number
  /** Default: see `batchesFor`. */
  readonly batches?: number | undefined
  readonly groupMode: GroupMode
  /** Called before each batch is sent, with its number of heaps, and waited for. */
  readonly beforeSend?: (heaps: number) => Promise<void>
  /** Withdraws the batches that have not begun: their heaps count neither as sent nor as failed. */
  readonly withdraw?: AbortSignal
}

export const batchHeapsOf = ({ batchHeaps, heapSize }: Pick<SendFlags, 'batchHeaps' | 'heapSize'>): number =>
  batchHeaps ?? Math.max(1, Math.floor(BATCH_BYTES / heapSize))

/** Makes heaps of the pattern: every byte of heap i is i, its timestamp the index of its first sample, modulo the item's width. */
export function patternSource(stream: Stream, items: ItemGroup, options: PatternOptions, tally: Tally): HeapSource {
  const { heaps, heapSizeBytes, heapAddressBits, groupMode, beforeSend, withdraw } = options
  const batchHeaps = Math.min(heaps, options.batchHeaps)
  const batches = Math.min(options.batches ?? batchesFor(stream, batchHeaps * heapSizeBytes), Math.ceil(heaps / batchHeaps))
  const ring = createBatchRing(stream, { items, heaps: batchHeaps, batches, groupMode })
  const fill = heapSizeBytes > heapAddressBits / 8 ? fillView : fillImmediate
  const modulo = 2 ** timestampBits(heapAddressBits)
  return {
    totalBytes: Number.isFinite(heaps) ? heaps * heapSizeBytes : undefined,
    batches: ring.length,
    async send(stopping) {
      let timestamp = 0
      for (let i = 0, b = 0; i < heaps; i += batchHeaps, b++) {
        // A ring has at least one batch.
        const batch = ring[b % ring.length]!
        await batch.free
        if (stopping.aborted) return
        const count = Math.min(batchHeaps, heaps - i)
        for (let j = 0; j < count; j++) fill(batch, j, (i + j) & 0xff, heapSizeBytes)
        timestamp = stamp(batch.immediate('timestamp'), count, timestamp, heapSizeBytes, modulo)
        if (beforeSend) await beforeSend(count)
        // If it was told to stop while it waited for credits, it has none for this batch.
        if (stopping.aborted) return
        stream.send(batch, { heaps: count, ...(withdraw && { signal: withdraw }) }).then(
          (result) => tally.settled({ heaps: count, failedHeaps: 0, sampleBytes: count * heapSizeBytes, result }),
          (error: unknown) => {
            if (withdraw?.aborted && error === withdraw.reason) return
            const failedHeaps = error instanceof SendError ? error.outcome.failedHeaps.length : count
            tally.settled({ heaps: count, failedHeaps, sampleBytes: (count - failedHeaps) * heapSizeBytes, error })
          },
        )
      }
    },
  }
}

/** Writes timestamps, and returns the one after the last. */
function stamp(timestamps: ImmediateColumn, count: number, first: number, step: number, modulo: number): number {
  const next = first + count * step
  if (next <= modulo) timestamps.setRamp(first, step)
  else for (let j = 0; j < count; j++) timestamps[j] = (first + j * step) % modulo
  return next % modulo
}

function fillView(batch: Batch, j: number, byte: number): void {
  batch.heap(j).adc_samples!.fill(byte)
}

/** Fills samples that stand in the item pointer: one is a signed number, several are their bytes read as one big-endian number. */
function fillImmediate(batch: Batch, j: number, byte: number, heapSize: number): void {
  let value = 0
  for (let k = 0; k < heapSize; k++) value = value * 256 + byte
  batch.immediate('adc_samples')[j] = heapSize === 1 ? (byte << 24) >> 24 : value
}

export function inputSource(stream: Stream, items: ItemGroup, flags: SendFlags, input: Input, tally: Tally): HeapSource {
  const { heapSize, heaps, batches, groupMode, samplesPerHeap } = flags
  const maxDelayMs = flags.maxDelay ?? (input.live ? LIVE_DELAY_MS : undefined)
  const writer = sampleWriter(stream, {
    items,
    item: 'adc_samples',
    timestamp: 'timestamp',
    heapsPerBatch: batchHeapsOf(flags),
    ...(batches !== undefined && { batches }),
    ...(samplesPerHeap !== undefined && { samplesPerHeap }),
    ...(maxDelayMs !== undefined && { maxDelayMs }),
    groupMode,
    onSettled: tally.settled,
  })
  const limit = !heaps ? Number.POSITIVE_INFINITY : heaps * heapSize
  return {
    batches: writer.batches,
    totalBytes: input.totalBytes === undefined ? (Number.isFinite(limit) ? limit : undefined) : Math.min(limit, input.totalBytes),
    async send(stopping) {
      let left = limit
      for await (const chunk of input.chunks(stopping)) {
        await writer.write(chunk.length > left ? chunk.subarray(0, left) : chunk)
        left -= chunk.length
        if (left <= 0) break
      }
      await writer.end({ dropPartialSample: stopping.aborted })
    },
  }
}
