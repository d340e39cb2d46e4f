/**
 * Raw sample bytes in, heaps out: it stands between a file, a pipe or a socket and a stream. Memory is constant: samples are copied
 * once, straight into the views of a ring of batches, and writing waits while all of them are under way.
 *
 * | state  | legal                                        | leaves by                                                  |
 * |--------|----------------------------------------------|------------------------------------------------------------|
 * | open   | write, flush, end, abort                     | end() → ended; abort(), the signal or a failure → failed   |
 * | ended  | end (the same promise), abort                | abort() before all has settled → failed                    |
 * | failed | nothing: the calls reject with the reason     | never                                                      |
 *
 * One call at a time: await each before the next. A batch goes when it is full, when its first heap has waited for `maxDelayMs`,
 * or by flush.
 */
import { counted, ensure, SpeadcastError } from '../errors.js'
import type { Item, ItemGroup } from '../spead/index.js'
import type { Batch } from '../stream/batch.js'
import { SendError } from '../stream/result.js'
import type { Stream } from '../stream/stream.js'
import { createBatchRing } from './batch-ring.js'
import { checkStream, refusedEnd, roomIn } from './check-stream.js'
import { bytesOf, counter, rowsOf, samplesOf, shortItems } from './sample-items.js'
import {
  checkSampleOptions,
  type SampleWriterEnd,
  type SampleWriterOptions,
  type SampleWriterSummary,
  type SettledHeaps,
} from './sample-options.js'
import { SampleRing } from './sample-ring.js'

const DEFAULT_BATCH_BYTES = 512 * 1024
/** Node takes longer timers for 1 ms. */
const MAX_TIMER_MS = 2 ** 31 - 1

/**
 * A writer of raw samples; heap i goes to substream i mod endpoints.
 * @throws ERR_SPEADCAST_CONFIG, ERR_SPEADCAST_ITEM, and what createBatch throws
 * @example
 * const writer = sampleWriter(stream, { items, item: 'adc_samples', timestamp: 'timestamp' })
 * for await (const chunk of process.stdin) await writer.write(chunk)
 * await writer.end()
 */
export function sampleWriter<G, B extends number>(stream: Stream<B>, options: SampleWriterOptions<G, B>): SampleWriter {
  return new SampleWriter(stream, options as SampleWriterOptions)
}

/**
 * Cuts samples into heaps and sends them; made by `sampleWriter`. One call at a time: await each before the next.
 * @example
 * await writer.write(samples)
 * const { heaps, failedHeaps } = await writer.end()
 */
export class SampleWriter {
  /** Bytes of samples that a heap takes. */
  readonly heapBytes: number
  /** By how much the timestamp rises from one heap to the next. */
  readonly samplesPerHeap: number
  /** Bytes of one step of the item's slowest dimension, of which a last heap has a whole number; of several items, those of a heap. */
  readonly sampleBytes: number
  /** Heaps that are sent together. */
  readonly heapsPerBatch: number
  /** How many can be under way at once. */
  readonly batches: number
  readonly #stream: Stream
  readonly #items: ItemGroup
  readonly #samples: readonly Item[]
  readonly #timestamp: { readonly name: string; readonly modulo: number } | undefined
  readonly #ring: SampleRing
  readonly #maxDelayMs: number
  /** Since when there has been a whole heap that was not sent; undefined: there is none. */
  #wholeSince: number | undefined
  #timer: NodeJS.Timeout | undefined
  readonly #onSettled: SampleWriterOptions['onSettled']
  readonly #withdraw = new AbortController()
  readonly #unlisten: () => void
  #busy = false
  #ended: Promise<SampleWriterSummary> | undefined
  #failure: { readonly error: unknown } | undefined
  #nextSample: number
  #underWay = 0
  #settledAll: (() => void) | undefined
  #sentHeaps = 0
  #failedHeaps = 0
  #skippedHeaps = 0
  #sentBytes = 0

  /** @internal use sampleWriter */
  constructor(stream: Stream, options: SampleWriterOptions) {
    checkStream('sampleWriter', stream)
    checkSampleOptions(options)
    const { items, item, timestamp, firstSample = 0, maxDelayMs, batches, groupMode, signal, onSettled } = options
    this.#stream = stream
    this.#items = items
    const names = typeof item === 'string' ? [item] : [...item]
    this.#samples = names.map((name) => items.get(name))
    const { heapAddressBits } = stream.flavour
    const [rows = 1] = this.#samples.map((samples) => rowsOf(samples, heapAddressBits))
    this.samplesPerHeap = options.samplesPerHeap ?? samplesOf(this.#samples[0]!, rows)
    this.heapBytes = this.#samples.reduce((sum, { byteLength }) => sum + byteLength!, 0)
    this.sampleBytes = names.length > 1 ? this.heapBytes : this.heapBytes / rows
    this.heapsPerBatch = options.heapsPerBatch ?? Math.max(1, Math.floor(DEFAULT_BATCH_BYTES / this.heapBytes))
    this.#timestamp = timestamp === undefined ? undefined : counter(items.get(timestamp), heapAddressBits)
    this.#nextSample = this.#wrapped(firstSample)
    this.#maxDelayMs = maxDelayMs ?? Number.POSITIVE_INFINITY
    const ring = createBatchRing(stream, {
      items,
      heaps: this.heapsPerBatch,
      ...(batches !== undefined && { batches }),
      ...(groupMode !== undefined && { groupMode }),
    })
    this.batches = ring.length
    this.#ring = new SampleRing(ring, names, stream.endpoints.length)
    this.#onSettled = onSettled
    const onAbort = () => this.abort(signal!.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    this.#unlisten = () => signal?.removeEventListener('abort', onAbort)
  }

  /**
   * Takes samples: bytes as they stand on the wire, in pieces of any length (Uint8Array, Buffer, ArrayBuffer, DataView), or a typed
   * array of the item's own numbers, such as Int16Array for '<i2'. They are copied when the promise resolves. Waits while all batches are
   * under way.
   * @throws (rejects) ERR_SPEADCAST_CLOSED after end, ERR_SPEADCAST_BATCH_STATE if the last call was not awaited, ERR_SPEADCAST_VALUE for
   *   a detached array and one of other numbers, the failure of an earlier send unless there is onSettled, the reason of an abort
   * @example await writer.write(new Int8Array(8192))
   */
  async write(samples: ArrayBufferView | ArrayBufferLike): Promise<void> {
    ensure(!this.#ended, 'ERR_SPEADCAST_CLOSED', () => 'write: the writer has ended; make another one on the same stream')
    await this.#alone('write', async () => {
      if (this.#failure) throw this.#failure.error
      const bytes = bytesOf(samples, this.#samples)
      const ring = this.#ring
      for (let at = 0; at < bytes.length; ) {
        if (!ring.filling) await this.#take()
        at += ring.copy(bytes, at)
        if (ring.full) this.#sendWhole()
      }
      if (ring.wholeHeaps > 0) this.#noteWhole()
    })
  }

  /**
   * Sends the whole heaps that wait for their batch to fill, and resolves when all heaps have settled. A heap that is not whole
   * stays.
   * @throws (rejects) as write does
   * @example await writer.flush() // whole heaps that were waiting for their batch have gone
   */
  async flush(): Promise<void> {
    ensure(!this.#ended, 'ERR_SPEADCAST_CLOSED', () => 'flush: the writer has ended, and end has sent what there was')
    await this.#alone('flush', async () => {
      if (this.#failure) throw this.#failure.error
      this.#stopWaiting()
      this.#sendWhole()
      await this.#allSettled()
      if (this.#failure) throw (this.#failure as { error: unknown }).error
    })
  }

  /**
   * Sends the samples that are left and waits for all heaps to settle. A last heap that is not full goes with as many samples as
   * there are, in its payload however few they are, and with its own shape, which its descriptor tells first (unless the stream
   * sends none). Then the batches' memory is given back. Idempotent.
   * @throws (rejects) ERR_SPEADCAST_INPUT if the last bytes are no whole sample, or of several items no whole heap (all before them is sent
   *   then), and as write does
   * @example const { heaps, sampleBytes } = await writer.end()
   */
  end(options: SampleWriterEnd = {}): Promise<SampleWriterSummary> {
    const refused = refusedEnd(options)
    if (refused) return Promise.reject(refused)
    if (this.#ended) return this.#ended
    const premature = this.#busy
    const ended = this.#alone('end', () => this.#finish(options))
    if (!premature) this.#ended = ended
    return ended
  }

  /**
   * Withdraws batches of which nothing was sent yet; every call from now on, and one that waits, rejects with the reason.
   * @example writer.abort(new Error('the digitiser was stopped'))
   */
  abort(reason: unknown = new SpeadcastError('ERR_SPEADCAST_ABORTED', 'the writer was aborted')): void {
    this.#failure ??= { error: reason }
    this.#withdraw.abort(reason)
    this.#stopWaiting()
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
    await this.#ring.batch.free
    if (!this.#stream.hasRoom) await roomIn(this.#stream)
    if (this.#failure) throw this.#failure.error
    this.#ring.take()
  }

  /** There is a whole heap that waits. One timer serves all batches: it looks how long the present one has waited. */
  #noteWhole(): void {
    if (this.#maxDelayMs === 0) this.#sendWhole()
    else if (this.#maxDelayMs < Number.POSITIVE_INFINITY) {
      this.#wholeSince ??= performance.now()
      this.#timer ??= setTimeout(this.#onTimer, Math.min(this.#maxDelayMs, MAX_TIMER_MS))
    }
  }

  readonly #onTimer = (): void => {
    this.#timer = undefined
    if (this.#wholeSince === undefined || this.#failure) return
    const leftMs = this.#wholeSince + this.#maxDelayMs - performance.now()
    if (leftMs > 0) {
      this.#timer = setTimeout(this.#onTimer, Math.min(Math.ceil(leftMs), MAX_TIMER_MS))
      return
    }
    try {
      this.#sendWhole()
    } catch (error) {
      this.#failure ??= { error }
    }
  }

  #stopWaiting(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#wholeSince = undefined
  }

  /** Sends the whole heaps of the present batch, if there are any, and turns to the next. */
  #sendWhole(): void {
    const ring = this.#ring
    const { batch, first, wholeHeaps: heaps } = ring
    if (heaps === 0) return
    let nextSample = this.#nextSample
    if (this.#timestamp) {
      const column = batch.immediate(this.#timestamp.name)
      for (let j = first; j < first + heaps; j++) {
        column[j] = nextSample
        nextSample = this.#wrapped(nextSample + this.samplesPerHeap)
      }
    }
    this.#wholeSince = undefined
    this.#send(batch, first, heaps, this.heapBytes)
    this.#nextSample = nextSample
    ring.passOn()
  }

  #send(batch: Batch<object>, firstHeap: number, heaps: number, heapBytes: number): void {
    const sent = this.#stream.sendFilled(batch, { firstHeap, heaps, signal: this.#withdraw.signal })
    this.#underWay++
    sent.then(
      (result) => {
        const { skippedHeaps } = result
        const sampleBytes = (heaps - skippedHeaps) * heapBytes
        this.#settle({ heaps, failedHeaps: 0, ...(skippedHeaps > 0 && { skippedHeaps }), sampleBytes, result })
      },
      (error: unknown) => {
        const outcome = error instanceof SendError ? error.outcome : undefined
        const failedHeaps = outcome ? outcome.failedHeaps.length : heaps
        const skippedHeaps = outcome ? outcome.heaps.filter((status) => status === 'skipped').length : 0
        const sampleBytes = (heaps - failedHeaps - skippedHeaps) * heapBytes
        this.#settle({ heaps, failedHeaps, ...(skippedHeaps > 0 && { skippedHeaps }), sampleBytes, error })
      },
    )
  }

  #settle(settled: SettledHeaps): void {
    const { skippedHeaps = 0 } = settled
    this.#sentHeaps += settled.heaps - settled.failedHeaps - skippedHeaps
    this.#failedHeaps += settled.failedHeaps
    this.#skippedHeaps += skippedHeaps
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
    const { partBytes } = this.#ring
    const left = partBytes % this.sampleBytes
    try {
      if (!this.#failure) await this.#sendRest(partBytes - left)
    } finally {
      this.#stopWaiting()
      await this.#allSettled()
      this.#unlisten()
      this.#ring.close()
    }
    if (this.#failure) throw this.#failure.error
    ensure(
      left === 0 || dropPartialSample,
      'ERR_SPEADCAST_INPUT',
      () =>
        `${counted(left, 'byte')} left over at the end: ${this.#unit()} ${counted(this.sampleBytes, 'byte')}; ` +
        'is the input cut off, or of another dtype or shape?',
    )
    return {
      heaps: this.#sentHeaps,
      failedHeaps: this.#failedHeaps,
      ...(this.#skippedHeaps > 0 && { skippedHeaps: this.#skippedHeaps }),
      sampleBytes: this.#sentBytes,
      droppedBytes: left,
    }
  }

  #unit(): string {
    const names = this.#samples.map(({ name }) => `'${name}'`)
    return names.length > 1 ? `items ${names.join(', ')} of a heap take` : `a sample of item ${names[0]} is`
  }

  async #allSettled(): Promise<void> {
    if (this.#underWay === 0) return
    await new Promise<void>((resolve) => {
      this.#settledAll = resolve
    })
  }

  async #sendRest(shortBytes: number): Promise<void> {
    const { substream } = this.#ring
    const short = shortBytes > 0 ? this.#ring.part(shortBytes) : undefined
    this.#sendWhole()
    if (short) await this.#sendShort(short, substream)
  }

  /** A batch of one heap whose sample item has fewer samples. */
  async #sendShort(bytes: Uint8Array, substream: number): Promise<void> {
    const timestamp = this.#timestamp && { name: this.#timestamp.name, value: this.#nextSample }
    // Heaps of several items are never short.
    const items = shortItems(this.#items, this.#samples[0]!, bytes.length / this.sampleBytes, bytes, timestamp)
    const batch = this.#stream.createBatch({ items, heaps: 1, substreams: substream })
    this.#send(batch, 0, 1, bytes.length)
    await batch.free
    batch.close()
  }
}
