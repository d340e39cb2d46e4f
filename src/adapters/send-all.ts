/**
 * Streams of other kinds in front of a stream of heaps, all with back-pressure: nothing more is read while earlier heaps cannot
 * be sent.
 */
import type { GroupMode } from '../batch/compile.js'
import type { HeapReference } from '../batch/heaps.js'
import { checkOptions, checkSignal, isInstance, isObject, listOf, shown } from '../checks.js'
import { ensure, SpeadcastError } from '../errors.js'
import { Heap } from '../spead/index.js'
import type { BatchResult } from '../stream/result.js'
import type { Stream } from '../stream/stream.js'
import { checkStream } from './check-stream.js'
import { SampleWriter } from './sample-writer.js'

/** One send of sendAll: a heap, a heap with its substream, cnt or rate, or several that are sent as one group. */
export type HeapsToSend = Heap | HeapReference | readonly HeapReference[]

/**
 * Options of `sendAll`.
 * @example await sendAll(stream, heaps, { inFlight: 64 })
 */
export interface SendAllOptions {
  /** Order of the packets of a group. Default 'serial'. */
  groupMode?: GroupMode
  /** Sends under way at once on each stream, each a heap or a group. Default 16. */
  inFlight?: number
  /** Stops taking from the source, withdraws what is queued and not on its way, and rejects with signal.reason. */
  signal?: AbortSignal
}

/** The account of what `sendAll` has sent. */
export interface SendAllResult {
  /** Heaps that were sent. */
  readonly heaps: number
  /** Packets that were sent. */
  readonly packets: number
  /** Bytes of their item data, as in `BatchResult`. */
  readonly payloadBytes: number
}

/**
 * Sends all heaps of a source, in order, and resolves when all have settled. Each of several streams, such as one on each of two interfaces, sends
 * all of them, and the result counts what all have sent. A heap's values are copied when it is taken from the
 * source, so the source may give the same Heap again with new samples in the same memory. The first failure ends it: no more is
 * taken, what is under way settles, the promise rejects with that failure.
 * @throws (rejects) what stream.sendHeaps throws, what the source throws, signal.reason, ERR_SPEADCAST_CONFIG, ERR_SPEADCAST_VALUE
 * @example
 * async function* heaps() {
 *   for await (const samples of source) {
 *     items.get('adc_samples').value = samples
 *     yield items.getHeap()
 *   }
 * }
 * await sendAll(stream, heaps())
 */
export async function sendAll(
  stream: Stream | readonly Stream[],
  source: AsyncIterable<HeapsToSend> | Iterable<HeapsToSend>,
  options: SendAllOptions = {},
): Promise<SendAllResult> {
  const streams = listOf(stream as readonly Stream[]) ?? [stream as Stream]
  ensure(streams.length > 0, 'ERR_SPEADCAST_CONFIG', () => 'sendAll: the list of streams is empty; give at least one')
  for (const each of streams) checkStream('sendAll', each)
  checkOptions('sendAll', options, ['groupMode', 'inFlight', 'signal'])
  const { groupMode = 'serial', inFlight = 16, signal } = options
  ensure(
    Number.isInteger(inFlight) && inFlight >= 1,
    'ERR_SPEADCAST_CONFIG',
    () => `inFlight is ${shown(inFlight)}; it must be a whole number from 1 up`,
  )
  checkSignal('sendAll', signal)
  const withdraw = new AbortController()
  const total = { heaps: 0, packets: 0, payloadBytes: 0 }
  const underWay = new Set<Promise<void>>()
  let failure: { readonly error: unknown } | undefined
  let wake: (() => void) | undefined
  const fail = (error: unknown): void => {
    failure ??= { error }
    wake?.()
  }
  // A race with one promise for the whole run would keep a reaction of each heap until its end.
  const unlessFailed = <T>(awaited: T | Promise<T>): Promise<T | undefined> =>
    new Promise((resolve, reject) => {
      wake = () => resolve(undefined)
      Promise.resolve(awaited).then(resolve, reject)
    })
  const onAbort = () => {
    fail(signal!.reason)
    withdraw.abort(signal!.reason)
  }
  signal?.addEventListener('abort', onAbort, { once: true })
  const count = ({ heaps, packets, payloadBytes }: BatchResult): void => {
    total.heaps += heaps
    total.packets += packets
    total.payloadBytes += payloadBytes
  }

  const iterator = iterate(source)
  try {
    while (!failure) {
      const next = await unlessFailed(iterator.next())
      if (failure || !next || next.done) break
      for (let full = fullOf(streams); full && !failure; full = fullOf(streams)) await unlessFailed(full.ready)
      if (failure) break
      const references = referencesOf(next.value)
      for (const each of streams) {
        const sent = each.sendHeaps(references, groupMode, { signal: withdraw.signal })
        const settled: Promise<void> = sent.then(count, fail).then(() => void underWay.delete(settled))
        underWay.add(settled)
      }
      if (underWay.size >= inFlight * streams.length) await Promise.race(underWay)
    }
  } catch (error) {
    fail(error)
  } finally {
    signal?.removeEventListener('abort', onAbort)
  }
  // A source that hangs in next() would hang in return() too, so return() is called and not awaited.
  if (failure) void Promise.resolve(iterator.return?.()).catch(() => {})
  await Promise.all(underWay)
  if (failure) throw (failure as { error: unknown }).error
  return total
}

const fullOf = (streams: readonly Stream[]): Stream | undefined => streams.find(({ hasRoom }) => !hasRoom)

/** Returns the function that makes the source's iterator; undefined: it is not iterable. */
function iteratorOf(source: unknown): (() => AsyncIterator<HeapsToSend> | Iterator<HeapsToSend>) | undefined {
  try {
    const { [Symbol.asyncIterator]: later, [Symbol.iterator]: now } = (isObject(source) ? source : {}) as Partial<
      AsyncIterable<HeapsToSend> & Iterable<HeapsToSend>
    >
    return [later, now].find((start) => typeof start === 'function')
  } catch {
    return undefined
  }
}

function iterate(source: AsyncIterable<HeapsToSend> | Iterable<HeapsToSend>): AsyncIterator<HeapsToSend> | Iterator<HeapsToSend> {
  const start = iteratorOf(source)
  const iterator = start?.call(source as never)
  ensure(
    isObject(iterator) && typeof iterator.next === 'function',
    'ERR_SPEADCAST_VALUE',
    () =>
      `sendAll: the source is ${shown(source)}; it must be iterable, such as a list of heaps or an async generator${aboutSamples(source)}`,
  )
  return iterator
}

function referencesOf(value: HeapsToSend): readonly HeapReference[] {
  if (isInstance(value, Heap)) return [{ heap: value }]
  const references = listOf(value as readonly HeapReference[]) ?? [value as HeapReference]
  for (const reference of references)
    if (!holdsHeap(reference))
      throw new SpeadcastError(
        'ERR_SPEADCAST_VALUE',
        `sendAll: the source gave ${shown(reference)}, which is no Heap, no { heap, … } and no list of these${aboutSamples(reference)}`,
      )
  return references
}

/** Says how to send samples: byte streams, and typed arrays, which are iterable themselves, give no heaps. */
function aboutSamples(given: unknown): string {
  const samples =
    typeof given === 'number' ||
    typeof given === 'bigint' ||
    ArrayBuffer.isView(given) ||
    [ArrayBuffer, SharedArrayBuffer, Blob, Response].some((kind) => isInstance(given, kind as { prototype: unknown }))
  return samples
    ? '. Samples become heaps in a writer, const writer = sampleWriter(stream, { items, item }): source.pipeTo(toWritable(writer)) for a ' +
        'ReadableStream, for await (const chunk of source) await writer.write(chunk) for others'
    : ''
}

function holdsHeap(reference: HeapReference): boolean {
  try {
    return reference.heap instanceof Heap
  } catch {
    return false
  }
}

/**
 * The writer as a WHATWG stream, for pipeTo; `Writable.fromWeb` makes a node stream of it. Closing is end(), aborting is abort().
 * Each chunk is copied before the next is asked for.
 * @throws ERR_SPEADCAST_CONFIG
 * @example await response.body!.pipeTo(toWritable(writer))
 */
export function toWritable(writer: SampleWriter): WritableStream<ArrayBufferView | ArrayBufferLike> {
  ensure(
    isInstance(writer, SampleWriter),
    'ERR_SPEADCAST_CONFIG',
    () => `toWritable: the writer is ${shown(writer)}; give one from sampleWriter`,
  )
  return new WritableStream<ArrayBufferView | ArrayBufferLike>(
    {
      write: (samples) => writer.write(samples),
      close: async () => {
        await writer.end()
      },
      abort: (reason) => writer.abort(reason),
    },
    { highWaterMark: 1 },
  )
}
