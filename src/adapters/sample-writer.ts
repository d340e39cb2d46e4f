/**
 * Raw sample bytes in, heaps out: it stands between a file, a pipe or a socket and a stream. Memory is constant: samples are copied
 * once, straight into the views of a ring of batches, and writing waits while all of them are under way.
 *
 * | state  | legal                                        | leaves by                                                  |
 * |--------|----------------------------------------------|------------------------------------------------------------|
 * | open   | write, end, abort                            | end() → ended; abort(), the signal or a failure → failed   |
 * | ended  | end (the same promise), abort                | abort() before all has settled → failed                    |
 * | failed | nothing: write and end reject with the reason | never                                                      |
 *
 * One call at a time: await each before the next.
 */
import type { GroupMode } from '../batch/compile.js'
import { checkOptions, checkSignal, isObject, shown } from '../checks.js'
import { ensure, SpeadcastError } from '../errors.js'
import { type Item, ItemGroup } from '../spead/index.js'
import type { Batch } from '../stream/batch.js'
import { type BatchResult, SendError } from '../stream/result.js'
import type { Stream } from '../stream/stream.js'
import { createBatchRing } from './batch-ring.js'
import { checkStream } from './check-stream.js'
import { bytesOf, counter, numbered, samplesOf } from './sample-items.js'

export interface SampleWriterOptions {
  /** The items of every heap, which keep the values they have now but for `item` and `timestamp`. */
  items: ItemGroup
  /**
   * Name of the item that takes the samples: of fixed shape, and longer than an item pointer can hold. One step along its slowest
   * dimension (the first, or the last of order 'F') is a sample.
   */
  item: string
  /** Name of an unsigned integer item, sent as immediate, that gets the index of each heap's first sample, modulo its width. Default: none. */
  timestamp?: string
  /** Index of the first sample of all. Default 0. */
  firstSample?: number
  /** Heaps per batch, which are sent together when full. Default: as many as make 512 KiB, at least one. */
  heapsPerBatch?: number
  /** Batches under way at once; see createBatchRing, and batchesFor of the default. */
  batches?: number
  /** Order of the packets of a batch. Default 'serial'. */
  groupMode?: GroupMode
  /** Aborting is abort(signal.reason). */
  signal?: AbortSignal
  /** Called with the fate of each group of heaps. With it failures end nothing; without it the first one rejects the next write, or end. */
  onSettled?: (settled: SettledHeaps) => void
}

/** The fate of heaps that were sent together. */
export interface SettledHeaps {
  readonly heaps: number
  /** Heaps that were not sent whole. */
  readonly failedHeaps: number
  /** Sample bytes of the heaps that were sent whole. */
  readonly sampleBytes: number
  /** Set if all were sent. */
  readonly result?: BatchResult
  /** Set if not all were sent: a SendError, or the reason to withdraw them. */
  readonly error?: unknown
}

export interface SampleWriterSummary {
  /** Heaps that were sent whole, a short last one included. */
  readonly heaps: number
  readonly failedHeaps: number
  /** Sample bytes of the heaps that were sent whole. */
  readonly sampleBytes: number
  /** Bytes after the last whole sample, dropped because end was told to. */
  readonly droppedBytes: number
}

export interface SampleWriterEnd {
  /** Drop bytes after the last whole sample instead of throwing. Default false. */
  dropPartialSample?: boolean
}

type Views = Record<string, ArrayBufferView<ArrayBuffer>>

const DEFAULT_BATCH_BYTES = 512 * 1024

const KEYS: readonly string[] = [
  'items',
  'item',
  'timestamp',
  'firstSample',
  'heapsPerBatch',
  'batches',
  'groupMode',
  'signal',
  'onSettled',
] satisfies (keyof SampleWriterOptions)[]

/**
 * A writer of raw samples; heap i goes to substream i mod endpoints.
 * @throws ERR_SPEADCAST_CONFIG, ERR_SPEADCAST_ITEM, and what createBatch throws
 */
export function sampleWriter(stream: Stream, options: SampleWriterOptions): SampleWriter {
  return new SampleWriter(stream, options)
}

/** Made by `sampleWriter`. */
export class SampleWriter {
  readonly heapBytes: number
  readonly samplesPerHeap: number
  readonly sampleBytes: number
  readonly heapsPerBatch: number
  /** How many can be under way at once. */
  readonly batches: number
  readonly #stream: Stream
  readonly #items: ItemGroup
  readonly #item: Item
  readonly #timestamp: { readonly name: string; readonly modulo: number } | undefined
  readonly #ring: readonly Batch<Views>[]
  /** Byte views of the sample item, by batch and heap, made at first use. */
  readonly #views: Uint8Array<ArrayBuffer>[][]
  readonly #onSettled: SampleWriterOptions['onSettled']
  readonly #withdraw = new AbortController()
  readonly #unlisten: () => void
  #busy = false
  #ended: Promise<SampleWriterSummary> | undefined
  #failure: { readonly error: unknown } | undefined
  /** Index in the ring of the batch being filled, or of the next. */
  #turn = 0
  #filling: Batch<Views> | undefined
  /** Where the next byte goes. */
  #heap = 0
  #byte = 0
  #nextSample: number
  #underWay = 0
  #settledAll: (() => void) | undefined
  #sentHeaps = 0
  #failedHeaps = 0
  #sentBytes = 0

  /** @internal use sampleWriter */
  constructor(stream: Stream, options: SampleWriterOptions) {
    checkStream('sampleWriter', stream)
    checkOptions('sampleWriter', options, KEYS, 'there are')
    const { items, item, timestamp, firstSample = 0, batches, groupMode, signal, onSettled } = options
    ensure(
      items instanceof ItemGroup,
      'ERR_SPEADCAST_CONFIG',
      () => `sampleWriter: items is ${shown(items)}; it must be an ItemGroup, which says what a heap holds`,
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
    checkSignal('sampleWriter', signal)
    this.#stream = stream
    this.#items = items
    this.#item = items.get(item)
    const { heapAddressBits } = stream.flavour
    this.samplesPerHeap = samplesOf(this.#item, heapAddressBits)
    this.heapBytes = this.#item.byteLength!
    this.sampleBytes = this.heapBytes / this.samplesPerHeap
    this.heapsPerBatch = options.heapsPerBatch ?? Math.max(1, Math.floor(DEFAULT_BATCH_BYTES / this.heapBytes))
    this.#timestamp = timestamp === undefined ? undefined : counter(items.get(timestamp), heapAddressBits)
    this.#nextSample = this.#wrapped(firstSample)
    this.#ring = createBatchRing<Views>(stream, {
      items,
      heaps: this.heapsPerBatch,
      ...(batches !== undefined && { batches }),
      ...(groupMode !== undefined && { groupMode }),
    })
    this.batches = this.#ring.length
    this.#views = this.#ring.map(() => [])
    this.#onSettled = onSettled
    const onAbort = () => this.abort(signal!.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    this.#unlisten = () => signal?.removeEventListener('abort', onAbort)
  }

  /**
   * Takes samples: bytes as they stand on the wire, in pieces of any length, or a typed array whose memory is that. They are copied when
   * the promise resolves. Waits while all batches are under way.
   * @throws (rejects) ERR_SPEADCAST_CLOSED after end, ERR_SPEADCAST_BATCH_STATE if the last call was not awaited, ERR_SPEADCAST_VALUE for
   *   a detached array, the failure of an earlier send unless there is onSettled, the reason of an abort
   */
  async write(samples: ArrayBufferView | ArrayBufferLike): Promise<void> {
    ensure(!this.#ended, 'ERR_SPEADCAST_CLOSED', () => 'write: the writer has ended; make another one on the same stream')
    await this.#alone('write', async () => {
      if (this.#failure) throw this.#failure.error
      const bytes = bytesOf(samples)
      for (let at = 0; at < bytes.length; ) {
        if (!this.#filling) await this.#take()
        at += this.#copy(bytes, at)
        if (this.#heap === this.heapsPerBatch) this.#sendFilled()
      }
    })
  }

  /**
   * Sends the samples that are left and waits for all heaps to settle. A last heap that is not full goes with as many samples as there are and
   * with its own shape, which its descriptor tells first (unless the stream sends none). Then the batches' memory is given back. Idempotent.
   * @throws (rejects) ERR_SPEADCAST_INPUT if the last bytes are no whole sample (all samples before them are sent then), ERR_SPEADCAST_SPLIT if
   *   under an exact layout the last heap is so short that it would stand in an item pointer, and as write does
   */
  end(options: SampleWriterEnd = {}): Promise<SampleWriterSummary> {
    if (!isObject(options))
      return Promise.reject(new SpeadcastError('ERR_SPEADCAST_CONFIG', `end: the options are ${shown(options)}; give an object`))
    if (this.#ended) return this.#ended
    const premature = this.#busy
    const ended = this.#alone('end', () => this.#finish(options))
    if (!premature) this.#ended = ended
    return ended
  }

  /** Withdraws batches of which nothing was sent yet; every call from now on, and one that waits, rejects with the reason. */
  abort(reason: unknown = new SpeadcastError('ERR_SPEADCAST_ABORTED', 'the writer was aborted')): void {
    this.#failure ??= { error: reason }
    this.#withdraw.abort(reason)
    this.#unlisten()
  }

  async #alone<T>(call: string, body: () => Promise<T>): Promise<T> {
    ensure(
      !this.#busy,
      'ERR_SPEADCAST_BATCH_STATE',
      () => `${call}: the last write has not finished; await each before the next call`,
    )
    this.#busy = true
    try {
      return await body()
    } finally {
      this.#busy = false
    }
  }

  #wrapped(sample: number): number {
    return this.#timestamp ? sample % this.#timestamp.modulo : sample
  }

  async #take(): Promise<void> {
    const batch = this.#ring[this.#turn]!
    await batch.free
    if (this.#failure) throw this.#failure.error
    this.#filling = batch
  }

  /** Copies as much as the present batch takes: one subarray per heap touched. */
  #copy(bytes: Uint8Array, from: number): number {
    let at = from
    while (at < bytes.length && this.#heap < this.heapsPerBatch) {
      const count = Math.min(bytes.length - at, this.heapBytes - this.#byte)
      this.#view(this.#heap).set(count === bytes.length ? bytes : bytes.subarray(at, at + count), this.#byte)
      at += count
      this.#byte += count
      if (this.#byte < this.heapBytes) break
      this.#heap++
      this.#byte = 0
    }
    return at - from
  }

  #view(heap: number): Uint8Array<ArrayBuffer> {
    const views = this.#views[this.#turn]!
    let view = views[heap]
    if (!view) {
      const { buffer, byteOffset, byteLength } = this.#filling!.heap(heap)[this.#item.name]!
      view = new Uint8Array(buffer, byteOffset, byteLength)
      views[heap] = view
    }
    return view
  }

  /** Sends the full heaps of the present batch and turns to the next. */
  #sendFilled(): void {
    const batch = this.#filling!
    const heaps = this.#heap
    if (this.#timestamp) {
      const column = batch.immediate(this.#timestamp.name)
      for (let j = 0; j < heaps; j++) {
        column[j] = this.#nextSample
        this.#nextSample = this.#wrapped(this.#nextSample + this.samplesPerHeap)
      }
    }
    this.#send(batch, heaps, this.heapBytes)
    this.#filling = undefined
    this.#heap = 0
    this.#turn = (this.#turn + 1) % this.#ring.length
  }

  #send(batch: Batch<object>, heaps: number, heapBytes: number): void {
    const sent = this.#stream.send(batch, { heaps, signal: this.#withdraw.signal })
    this.#underWay++
    sent.then(
      (result) => this.#settle({ heaps, failedHeaps: 0, sampleBytes: heaps * heapBytes, result }),
      (error: unknown) => {
        const failedHeaps = error instanceof SendError ? error.outcome.failedHeaps.length : heaps
        this.#settle({ heaps, failedHeaps, sampleBytes: (heaps - failedHeaps) * heapBytes, error })
      },
    )
  }

  #settle(settled: SettledHeaps): void {
    this.#sentHeaps += settled.heaps - settled.failedHeaps
    this.#failedHeaps += settled.failedHeaps
    this.#sentBytes += settled.sampleBytes
    try {
      if (this.#onSettled) this.#onSettled(settled)
      else if (settled.failedHeaps > 0) this.#failure ??= { error: settled.error }
    } catch (error) {
      this.#failure ??= { error }
    }
    if (--this.#underWay === 0) this.#settledAll?.()
  }

  async #finish({ dropPartialSample = false }: SampleWriterEnd): Promise<SampleWriterSummary> {
    const left = this.#byte % this.sampleBytes
    try {
      if (!this.#failure) await this.#sendRest(this.#byte - left)
    } finally {
      if (this.#underWay > 0)
        await new Promise<void>((resolve) => {
          this.#settledAll = resolve
        })
      this.#unlisten()
      for (const batch of this.#ring) batch.close()
    }
    if (this.#failure) throw this.#failure.error
    ensure(
      left === 0 || dropPartialSample,
      'ERR_SPEADCAST_INPUT',
      () =>
        `${left} byte${left === 1 ? '' : 's'} left over at the end: a sample of item '${this.#item.name}' is ${this.sampleBytes} bytes; ` +
        'is the input cut off, or of another dtype or shape?',
    )
    return { heaps: this.#sentHeaps, failedHeaps: this.#failedHeaps, sampleBytes: this.#sentBytes, droppedBytes: left }
  }

  async #sendRest(shortBytes: number): Promise<void> {
    // In the ring, places follow the substreams.
    const place = this.#turn * this.heapsPerBatch + this.#heap
    const short = shortBytes > 0 ? this.#view(this.#heap).slice(0, shortBytes) : undefined
    if (this.#heap > 0) this.#sendFilled()
    if (short) await this.#sendShort(short, place % this.#stream.endpoints.length)
  }

  /** A batch of one heap whose sample item has fewer samples. */
  async #sendShort(bytes: Uint8Array, substream: number): Promise<void> {
    const { id, name, description, shape, dtype, format, order } = this.#item
    const samples = bytes.length / this.sampleBytes
    const short = new ItemGroup({ flavour: this.#items.flavour })
    for (const item of this.#items.items()) {
      if (item.name === this.#timestamp?.name) short.add(numbered(item, this.#nextSample))
      else if (item !== this.#item) short.add(item)
      else
        short.add({
          id,
          name,
          description,
          shape: order === 'F' ? [...shape.slice(0, -1), samples] : [samples, ...shape.slice(1)],
          ...(dtype ? { dtype: dtype.descr } : { format: format! }),
          order,
          value: bytes,
        })
    }
    const batch = this.#stream.createBatch<object>({ items: short, heaps: 1, substreams: substream })
    this.#send(batch, 1, bytes.length)
    await batch.free
    batch.close()
  }
}
