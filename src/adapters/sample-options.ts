/** The options of a writer of samples and their checks, and what it tells. */
import type { GroupMode } from '../batch/compile.js'
import type { HeapOf, ImmediatesOf } from '../batch/view-types.js'
import { checkOptions, checkSignal, isInstance, listOf, shown } from '../checks.js'
import { ensure } from '../errors.js'
import { ItemGroup } from '../spead/index.js'
import type { BatchResult } from '../stream/result.js'

/**
 * Options of `sampleWriter`.
 * @example sampleWriter(stream, { items, item: 'adc_samples', timestamp: 'timestamp', maxDelayMs: 5 })
 */
export interface SampleWriterOptions<G = unknown, Bits extends number = number> {
  /** The items of every heap, which keep the values they have now but for `item` and `timestamp`. */
  items: ItemGroup<G>
  /**
   * Name of the item that takes the samples: of fixed shape, and longer than an item pointer can hold. One step along its slowest
   * dimension (the first, or the last of order 'F') is a sample; of elements of broken bytes, such as 10 bits, each element is. A list of
   * names lets each heap take the samples of the first item, then those of the next; such heaps are always full.
   */
  item: (keyof HeapOf<G, Bits> & string) | readonly (keyof HeapOf<G, Bits> & string)[]
  /**
   * Name of an unsigned integer item, sent as immediate, that gets the index of each heap's first sample, modulo its width.
   * Default: none.
   */
  timestamp?: ImmediatesOf<G, Bits>
  /** Index of the first sample of all. Default 0. */
  firstSample?: number
  /**
   * By how much the timestamp rises from one heap to the next. Default: the number of samples that the (first) item's shape tells.
   */
  samplesPerHeap?: number
  /** Heaps per batch, which are sent together when full. Default: as many as make 512 KiB, at least one. */
  heapsPerBatch?: number
  /**
   * How long a heap that is whole may wait for its batch to fill; then the batch goes with the heaps that it has. 0: every write
   * sends the whole heaps that there are. A heap that is not whole waits for its samples. Default: no bound, as fits a source
   * that ends.
   */
  maxDelayMs?: number
  /** Batches under way at once; see createBatchRing, and batchesFor of the default. */
  batches?: number
  /** Order of the packets of a batch. Default 'serial'. */
  groupMode?: GroupMode
  /** Aborting is abort(signal.reason). */
  signal?: AbortSignal
  /**
   * Called with the fate of each group of heaps. With it failures end nothing; without it the first one rejects the next write,
   * or end.
   */
  onSettled?: (settled: SettledHeaps) => void
}

/** The fate of heaps that were sent together. */
export interface SettledHeaps {
  /** Heaps in this send. */
  readonly heaps: number
  /** Heaps that were not sent whole. */
  readonly failedHeaps: number
  /** Heaps that were left out, because they were late by the observation clock, or as `StreamOptions.onError` of their substream says; absent if none were. */
  readonly skippedHeaps?: number
  /** Sample bytes of the heaps that were sent whole. */
  readonly sampleBytes: number
  /** Set if all were sent that were not left out. */
  readonly result?: BatchResult
  /** Set if not all were sent: a SendError, or the reason to withdraw them. */
  readonly error?: unknown
}

/** The account of what a writer has sent, as `end` tells it. */
export interface SampleWriterSummary {
  /** Heaps that were sent whole, a short last one included. */
  readonly heaps: number
  /** Heaps that were not sent whole. */
  readonly failedHeaps: number
  /** Heaps that were left out, because `StreamOptions.onError` of their substream says so; absent if none were. */
  readonly skippedHeaps?: number
  /** Sample bytes of the heaps that were sent whole. */
  readonly sampleBytes: number
  /** Bytes after the last whole sample, dropped because end was told to. */
  readonly droppedBytes: number
}

/**
 * Options of a writer's `end`.
 * @example await writer.end({ dropPartialSample: true })
 */
export interface SampleWriterEnd {
  /** Drop bytes after the last whole sample instead of throwing. Default false. */
  dropPartialSample?: boolean
}

const KEYS: readonly string[] = [
  'items',
  'item',
  'timestamp',
  'firstSample',
  'samplesPerHeap',
  'heapsPerBatch',
  'maxDelayMs',
  'batches',
  'groupMode',
  'signal',
  'onSettled',
] satisfies (keyof SampleWriterOptions)[]

/** @throws ERR_SPEADCAST_CONFIG. Options that depend on the items and the stream are checked where they are used. */
export function checkSampleOptions(options: SampleWriterOptions): void {
  checkOptions('sampleWriter', options, KEYS, 'there are')
  const { items, item, firstSample = 0, samplesPerHeap, maxDelayMs, signal, onSettled } = options
  ensure(
    isInstance(items, ItemGroup),
    'ERR_SPEADCAST_CONFIG',
    () => `sampleWriter: items is ${shown(items)}; it must be an ItemGroup, which says what a heap holds`,
  )
  const names: readonly string[] | undefined = typeof item === 'string' ? [item] : listOf(item)
  ensure(
    names && names.length > 0 && new Set(names).size === names.length,
    'ERR_SPEADCAST_CONFIG',
    () => `sampleWriter: item is ${shown(item)}; it must be the name of an item, or a list of different ones`,
  )
  ensure(
    onSettled === undefined || typeof onSettled === 'function',
    'ERR_SPEADCAST_CONFIG',
    () => `sampleWriter: onSettled is ${shown(onSettled)}; it must be a function`,
  )
  ensure(
    Number.isSafeInteger(firstSample) && firstSample >= 0,
    'ERR_SPEADCAST_CONFIG',
    () => `firstSample is ${shown(firstSample)}; it must be a whole number from 0 up`,
  )
  ensure(
    maxDelayMs === undefined || (typeof maxDelayMs === 'number' && maxDelayMs >= 0),
    'ERR_SPEADCAST_CONFIG',
    () => `maxDelayMs is ${shown(maxDelayMs)}; it must be a number of milliseconds from 0 up`,
  )
  ensure(
    samplesPerHeap === undefined || (Number.isSafeInteger(samplesPerHeap) && samplesPerHeap > 0),
    'ERR_SPEADCAST_CONFIG',
    () => `samplesPerHeap is ${shown(samplesPerHeap)}; it must be a whole number from 1 up`,
  )
  checkSignal('sampleWriter', signal)
}
