/** The stream: validated options in, promises out. Everything native is behind the driver; `Ending` has the states of its life. */
import type { MemoryPacket } from '../backend/memory.js'
import type { StateWords } from '../backend/states.js'
import type { GroupMode } from '../batch/compile.js'
import type { HeapReference } from '../batch/heaps.js'
import type { ByHand, ImmediatesOf, NoViews, ViewClasses, ViewsOf } from '../batch/view-types.js'
import { checkOptions, checkSignal } from '../checks.js'
import type { Driver } from '../engine/driver.js'
import type { Ring } from '../engine/ring.js'
import { ensure, INSPECT, type Inspection, inspected, SpeadcastError } from '../errors.js'
import type { Cumulated } from '../histogram.js'
import { type Flavour, type Heap, makeFlavour } from '../spead/index.js'
import { readCounters, type StreamHistograms, sumOf } from '../stats.js'
import {
  checkBatchOptions,
  checkGroupMode,
  checkMask,
  checkRange,
  checkReferences,
  checkStatsOptions,
  cntSequence,
  deadlineOf,
  type HeapPace,
  notOurs,
} from './arguments.js'
import { Batch, type BatchOptions } from './batch.js'
import { batchConfig } from './batch-config.js'
import { Batches } from './batches.js'
import type { CloseOptions, CloseReport, SendOptions, StatsOptions, StreamStats } from './calls.js'
import type { StreamClock } from './clock.js'
import type { StreamConfig } from './config.js'
import { Descriptors } from './descriptors.js'
import { Ending } from './ending.js'
import type { EventOptions, StreamEvent } from './events.js'
import { Failures } from './failures.js'
import { checksumOf, Lane, Lanes, reportIfOverwritten } from './lanes.js'
import type { Loop } from './loop.js'
import type { LoopOptions } from './loop-types.js'
import { Loops } from './loops.js'
import type { StreamParts } from './parts.js'
import { PreparedLists } from './prepared.js'
import { QueueBound } from './queue-bound.js'
import type { BatchResult } from './result.js'
import { Send } from './send.js'
import { SendPromise } from './send-promise.js'
import { Sender } from './sender.js'
import { Submissions } from './submissions.js'

const NO_OPTIONS: SendOptions = {}
const AT_ONCE = Promise.resolve()
const SEND_OPTIONS = ['heaps', 'signal', 'firstHeap', 'mask']
const SEND_HEAP_OPTIONS = ['cnt', 'substream', 'rateBytesPerSecond', 'signal']
const SEND_HEAPS_OPTIONS = ['signal']
const WITHOUT_BATCH =
  'sendHeaps: the clock of this stream goes by the timestamps of batches; make one with createBatch, and send it'

/**
 * Sends heaps to endpoints, in order; made by `openStream`. `Bits` are the flavour's heap address bits, by which short items are immediates.
 * @example
 * await using stream = await openStream({ to: '239.10.0.1:7148', interface: 'eth0', rate: '10Gbps' })
 * const batch = stream.createBatch({ items, heaps: 64 })
 * await stream.send(batch)
 */
export class Stream<Bits extends number = number> implements AsyncDisposable {
  /** The backend that sends: 'ibverbs', 'rdma-ud', 'udp', 'dgram', 'memory' or 'pcap'. */
  readonly backend: string
  /** Why this backend. */
  readonly reason: string
  /** The flavour of its batches. */
  readonly flavour: Flavour<Bits>
  /** The endpoints as addresses and ports; the substream of each is its index. */
  readonly endpoints: readonly string[]
  /** Bytes per second, of what the option `rateBasis` counts; 0 = as fast as possible. */
  readonly rateBytesPerSecond: number
  readonly #config: StreamConfig
  readonly #ring: Ring
  readonly #driver: Driver
  readonly #failures = new Failures()
  readonly #submissions: Submissions
  readonly #lanes: Lanes
  readonly #descriptors: Descriptors
  readonly #batches: Batches
  readonly #ownStates: StateWords
  readonly #numaNode: number
  readonly #pace: HeapPace
  readonly #sender: Sender
  readonly #ending: Ending
  readonly #loops: Loops

  /** The observation clock, if the stream was opened with one. */
  readonly clock: StreamClock | undefined

  /** Backend 'memory' only: the packets sent so far, in order; empty it as you like. */
  readonly packets: MemoryPacket[]

  /** @internal use openStream */
  constructor({ config, endpoints, ring, driver, reason, states, numaNode, packets, news, clock }: StreamParts) {
    const { caps } = driver
    this.#config = config
    this.#ring = ring
    this.#driver = driver
    const bound = new QueueBound(config.maxQueuedBytes, config.queueFull === 'wait')
    const forget = (substream: number): void => this.#descriptors.forget(substream)
    this.#submissions = new Submissions(ring, driver, news, this.#failures.note, bound, forget)
    this.#lanes = new Lanes(driver)
    this.#batches = new Batches(this.#submissions, driver, this.#lanes)
    const prepared = new PreparedLists(config, caps, this.#lanes, numaNode)
    this.#ownStates = states
    this.#numaNode = numaNode
    const keeper = caps.pacesItself ? (caps.name === 'udp' ? 'the kernel' : 'the device') : undefined
    this.#pace = { paced: config.rateBytesPerSecond > 0, keeper }
    this.packets = packets
    this.clock = clock
    if (clock) clock.counters = () => readCounters(ring.counters)
    this.backend = caps.name
    this.rateBytesPerSecond = config.rateBytesPerSecond
    this.reason = reason
    this.flavour = makeFlavour(config.flavour) as Flavour<Bits>
    this.endpoints = endpoints.map(({ text }) => text)
    this.#descriptors = new Descriptors({
      when: config.descriptors,
      flavour: this.flavour,
      substreams: endpoints.length,
      send: (references, between) => this.#sender.sendOwn(references, between),
      recall: () => this.#submissions.recallBetween(),
    })
    this.#sender = new Sender(config, this.#submissions, this.#failures, prepared, this.#descriptors)
    const parts = {
      driver,
      submissions: this.#submissions,
      failures: this.#failures,
      descriptors: this.#descriptors,
      batches: this.#batches,
    }
    this.#loops = new Loops({ ...parts, lanes: this.#lanes })
    this.#ending = new Ending({ ...parts, ring, prepared, loops: this.#loops })
    const { onPathChange, lagBoundSeconds } = config
    news.follow({ stream: this, driver, onPathChange, submissions: this.#submissions, counters: ring.counters, lagBoundSeconds })
    driver.start(this.#submissions)
  }

  /**
   * Maps and compiles a batch of equal heaps. Cold: do it before the first send, a few per stream. It lives until it or the stream is closed.
   * The type of `items` says which views it has; where that says nothing, `views` does: `stream.createBatch({ items, heaps: 64, views: { adc_samples: Int8Array } })`.
   * @throws ERR_SPEADCAST_CONFIG, _ITEM, _SPLIT, _PACKET_SIZE, _SUBSTREAM, _MEMORY, _VALUE, _CLOSED
   * @example const batch = stream.createBatch({ items, heaps: 64 })
   */
  createBatch<G, B extends number = ByHand, V extends ViewClasses = NoViews>(
    this: Stream<B> | Stream,
    options: BatchOptions<G, V>,
  ): Batch<ViewsOf<G, B, V>, ImmediatesOf<G, B>> {
    this.#refuseClosed('createBatch')
    checkBatchOptions(options as BatchOptions)
    const { items, heaps } = options
    this.clock?.check(items)
    const place = { flavour: this.flavour, endpoints: this.endpoints.length, pace: this.#pace, numaNode: this.#numaNode }
    const config = batchConfig(options as BatchOptions, this.#config, this.#driver.caps, place)
    const batch = new Batch<ViewsOf<G, B, V>, ImmediatesOf<G, B>>(this.#batches, config)
    const lane = new Lane(batch.template, () => {
      batch.setInFlight(undefined)
      if (this.#config.debug) reportIfOverwritten(batch.template, lane.checksum)
    })
    this.#lanes.aim(lane, heaps, undefined, 0)
    this.#batches.add(batch as unknown as Batch<object>, lane)
    this.#descriptors.noteItems(items)
    return batch
  }

  /**
   * Queues a batch. Its promise resolves when all of it is sent, and rejects with a SendError that names every heap's fate, or with
   * signal.reason. A promise nobody looks at is safe to drop: the next send, flush or close throws its failure, or
   * the first of several.
   * @throws at once, nothing queued: ERR_SPEADCAST_CLOSED, _CONFIG, _BATCH_STATE, _VALUE, _HEAP_CNT, or an earlier unobserved failure; (rejects)
   *   ERR_SPEADCAST_SEND, _QUEUE_FULL at `maxQueuedBytes`, _ABORTED by `destroy`, _WORKER when the I/O thread ended
   * @example await stream.send(batch, { firstHeap: 0, heaps: 32, signal: AbortSignal.timeout(1000) })
   */
  send(batch: Batch<object>, options?: SendOptions): SendPromise<BatchResult> {
    return this.#send(batch, options, true)
  }

  /** @internal Sends a batch of one who has waited for room before it was filled, whatever others have queued since. */
  sendFilled(batch: Batch<object>, options: SendOptions): SendPromise<BatchResult> {
    return this.#send(batch, options, false)
  }

  #send(batch: Batch<object>, options: SendOptions | undefined, bounded: boolean): SendPromise<BatchResult> {
    if (this.#ending.state !== 'open' || this.#submissions.dead) this.#refuseClosed('send')
    this.#failures.rethrow()
    const lane = this.#batches.laneOf(batch)
    if (!lane) throw notOurs(batch)
    if (options !== undefined) checkOptions('send', options, SEND_OPTIONS)
    if (bounded && this.#submissions.refuses) return this.#sender.refused('send')
    if (batch.state !== 'free') this.#submissions.harvest()
    if (batch.state !== 'free')
      throw new SpeadcastError('ERR_SPEADCAST_BATCH_STATE', 'send: the batch is still in flight; await batch.free first')
    const first = options?.firstHeap ?? 0
    const most = checkRange(first, options?.heaps, batch.heaps)
    checkSignal('send', options?.signal)
    const { mask } = options ?? NO_OPTIONS
    if (mask !== undefined) checkMask(mask, batch.heaps)
    const chosen = mask && lane.choose(mask, first, most)
    const heaps = chosen ? chosen.heaps.length : most
    if (heaps === 0) return this.#sender.nothing()
    batch.template.validate(heaps, first, chosen)
    if (this.#config.debug) lane.checksum = checksumOf(batch.template)
    lane.telling = this.#descriptors.describe(batch.template, heaps, first, chosen)
    this.#lanes.aim(lane, heaps, lane.telling?.substreams, first, chosen)
    const promise = new SendPromise<BatchResult>(this.#submissions.watch)
    batch.setInFlight(promise)
    this.#sender.submit(promise, lane, heaps, options?.signal)
    return promise
  }

  /**
   * Sends batches over and over; only their heap cnts and timestamps advance, and nothing of it takes this thread's time. Sends that are queued
   * after it wait until it ends. The batches are in flight until then, or until they are swapped out: their views and columns must not be written
   * meanwhile, and `batch.free` waits. docs/replay.md says more.
   * @param batches free batches of this stream, at least one and each once, without heap cnts of their own; two to four keep the queue full
   * @throws ERR_SPEADCAST_CLOSED, _CONFIG, _BATCH_STATE, _VALUE, _ITEM, _HEAP_CNT, or an earlier unobserved failure
   * @example
   * const loop = stream.loop([first, second], { until: { heaps: 1e6 } })
   * const { rounds, failedHeaps } = await loop.done
   */
  loop(batches: readonly Batch<object>[], options: LoopOptions = {}): Loop {
    this.#refuseClosed('loop')
    this.#failures.rethrow()
    return this.#loops.begin(batches, options)
  }

  /**
   * Sends one heap by its Heap object (spead2's async_send_heap); its values are copied now.
   * @throws as `sendHeaps` does
   * @example await stream.sendHeap(items.getHeap())
   */
  sendHeap(heap: Heap, options: Omit<HeapReference, 'heap'> & { signal?: AbortSignal } = {}): SendPromise<BatchResult> {
    checkOptions('sendHeap', options, SEND_HEAP_OPTIONS)
    const { signal, ...reference } = options
    return this.sendHeaps([{ heap, ...reference }], 'serial', signal === undefined ? {} : { signal })
  }

  /**
   * Sends heaps as one group (spead2's async_send_heaps): all are queued or none, one promise for all. Their values are copied now, into
   * memory that is compiled at first use and reused while the list's shape stays the same.
   * @throws at once: what `send` throws, and ERR_SPEADCAST_SUBSTREAM, _SPLIT, _PACKET_SIZE, _ITEM, _MEMORY; (rejects) as `send` does
   * @example await stream.sendHeaps([{ heap: items.getHeap(), substream: 0 }, { heap: items.getHeap(), substream: 1 }], 'round-robin')
   */
  sendHeaps(
    references: readonly HeapReference[],
    mode: GroupMode,
    options: { signal?: AbortSignal } = {},
  ): SendPromise<BatchResult> {
    this.#refuseClosed('sendHeaps')
    this.#failures.rethrow()
    checkOptions('sendHeaps', options, SEND_HEAPS_OPTIONS)
    ensure(!this.clock, 'ERR_SPEADCAST_CONFIG', () => WITHOUT_BATCH)
    checkReferences(references, this.endpoints.length, this.#pace)
    checkGroupMode('sendHeaps', mode)
    checkSignal('sendHeaps', options.signal)
    return this.#sender.sendHeaps(references, mode, options.signal)
  }

  /**
   * Fulfils when a send would be taken: at once while fewer bytes than `maxQueuedBytes` are queued, else when some have been sent. It never
   * rejects; when the stream ends it fulfils, and the next send says so. Now and then it also lets the event loop turn, as `batch.free` does.
   * @example
   * await stream.ready
   * stream.sendHeap(heap)
   */
  get ready(): Promise<void> {
    return this.#submissions.room ?? this.#batches.breathe() ?? AT_ONCE
  }

  /** @internal Whether a send would be taken now. */
  get hasRoom(): boolean {
    return this.#submissions.hasRoom
  }

  /**
   * Sends a start-of-stream heap on every substream (SPEAD protocol document, "Stream control"). @throws as `send` does
   * @example await stream.sendStart()
   */
  sendStart(): SendPromise<BatchResult> {
    return this.#sendControl((heap) => heap.addStart())
  }

  /**
   * Sends an end-of-stream heap on every substream: receivers stop there. @throws as `send` does
   * @example await stream.sendEnd()
   */
  sendEnd(): SendPromise<BatchResult> {
    return this.#sendControl((heap) => heap.addEnd())
  }

  #sendControl(add: (heap: Heap) => void): SendPromise<BatchResult> {
    this.#refuseClosed('sendStart, sendEnd')
    this.#failures.rethrow()
    return this.#sender.sendControl(this.flavour, this.endpoints.length, add)
  }

  /**
   * From the next send on, heap cnts are next, next + step, … modulo the flavour's width. @throws ERR_SPEADCAST_HEAP_CNT
   * @example stream.setCntSequence(1, 4) // this sender is the first of four: 1, 5, 9, …
   */
  setCntSequence(next: number | bigint, step: number | bigint): void {
    this.#refuseClosed('setCntSequence')
    const send = new Send(() => {})
    send.sequence = cntSequence(this.flavour, next, step)
    this.#submissions.submit(send)
  }

  /**
   * Resolves when everything sent so far has settled. @throws (rejects) an unobserved failure of an earlier send
   * @example await stream.flush() // what was sent so far has settled
   */
  async flush(): Promise<void> {
    await this.#submissions.drained()
    this.#failures.rethrow()
  }

  /**
   * Refuses new sends, waits for what is queued, closes everything. With a deadline, what is left then is dropped and counted in the
   * report. Idempotent: later calls share the first's promise. @throws (rejects) an unobserved failure, after having closed
   * @example const { droppedHeaps } = await stream.close({ deadlineSeconds: 5 })
   */
  close(options: CloseOptions = {}): Promise<CloseReport> {
    return this.#ending.close(deadlineOf(options))
  }

  /**
   * Aborts: queued sends reject, posted ones settle as far as they got, everything is closed. Idempotent.
   * @example await stream.destroy() // what is queued rejects with ERR_SPEADCAST_ABORTED
   */
  destroy(): Promise<void> {
    return this.#ending.destroy()
  }

  /** Drains and closes; no error if it is closed or closing already. */
  async [Symbol.asyncDispose](): Promise<void> {
    // The caller of close() has the error.
    if (this.#ending.state !== 'open') await this.close().catch(() => {})
    else await this.close()
  }

  /**
   * Returns counters, distributions and states of this moment, as a copy; also when the stream is closed. Costs some microseconds, and with
   * `substreams` less than one more for each. @throws ERR_SPEADCAST_CONFIG
   * @example const { heapsSent, heapsFailed, states } = stream.stats()
   * @example for (const { endpoint, packets } of stream.stats({ substreams: true }).substreams) console.log(endpoint, packets)
   */
  stats(options: StatsOptions & { substreams: true }): StreamStats & Required<Pick<StreamStats, 'substreams'>>
  stats(options?: StatsOptions): StreamStats
  stats(options?: StatsOptions): StreamStats {
    if (options !== undefined) checkStatsOptions(options)
    // Messages of the I/O thread may still be on their way, though the sends that it settled after them are settled here.
    this.#driver.drainMessages()
    const { accounts, counters: memory } = this.#ring
    // Before the counters, which are then no less than their sums.
    const substreams = options?.substreams ? accounts.read(this.endpoints) : undefined
    const counters = readCounters(memory)
    // Spread into a literal, as many properties take ten times as long.
    return Object.assign(counters, substreams && sumOf(substreams), {
      wireBytes: counters.udpBytes + counters.packets * this.#driver.caps.wireOverheadBytes,
      backend: this.backend,
      reason: this.reason,
      evidence: this.#driver.caps.evidence,
      inFlight: this.#submissions.inFlight,
      queuedBytes: this.#submissions.bound.bytes,
      histograms: accounts.histograms(),
      states: { ...this.#ownStates, ...this.#driver.states },
      ...(substreams && { substreams }),
    })
  }

  /**
   * What happens to the stream from now on: links, routes, addresses and queues that change, delays, recoveries. The iteration ends with the
   * stream and does not keep the process alive. A reader who falls behind by 256 events loses the oldest; the next event says how many.
   * @throws ERR_SPEADCAST_CONFIG; the iteration throws signal.reason
   * @example for await (const { kind, message } of stream.events({ kinds: ['link', 'route'] })) console.warn(kind, message)
   */
  events(options: EventOptions = {}): AsyncIterableIterator<StreamEvent> {
    return this.#submissions.news.events.reader(options)
  }

  /** @internal How many values of a distribution are no greater than each of these bounds, which rise. */
  cumulated(name: keyof StreamHistograms, bounds: readonly number[]): Cumulated {
    return this.#ring.accounts.histogram(name).cumulative(bounds)
  }

  /** The state of its life: 'open'; 'dead' when its I/O thread ended by itself; 'closing' and 'closed' by `close` or `destroy`. */
  get state(): 'open' | 'dead' | 'closing' | 'closed' {
    const { state } = this.#ending
    return state === 'open' && this.#submissions.dead ? 'dead' : state
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('Stream', how, () => {
      const { state, backend, reason, endpoints, flavour, rateBytesPerSecond } = this
      const { heapsSent, heapsFailed } = readCounters(this.#ring.counters)
      const { inFlight } = this.#submissions
      return { state, backend, reason, endpoints, flavour, rateBytesPerSecond, inFlight, heapsSent, heapsFailed }
    })
  }

  #refuseClosed(call: string): void {
    const { state } = this.#ending
    if (state !== 'open') throw new SpeadcastError('ERR_SPEADCAST_CLOSED', `${call}: the stream is ${state}`)
    if (this.#submissions.dead) throw this.#submissions.dead
  }
}
