/**
 * The stream: validated options in, promises out. Everything native is behind the driver; this file is about its life.
 *
 * | state    | legal                                         | next                                             |
 * |----------|-----------------------------------------------|--------------------------------------------------|
 * | open     | all                                           | closing by close(), destroyed by destroy() or the I/O thread's death |
 * | closing  | close, destroy; sends are refused             | closed when drained, destroyed at the deadline    |
 * | closed   | close, destroy, stats                         | —                                                |
 *
 * Teardown: refuse sends → drain or abort → stop the driver → backend and descriptors closed → regions back to the pool.
 */
import type { MemoryPacket } from '../backend/memory.js'
import type { StateWords } from '../backend/states.js'
import type { GroupMode } from '../batch/compile.js'
import type { HeapReference } from '../batch/heaps.js'
import type { ByHand, ImmediatesOf, NoViews, ViewClasses, ViewsOf } from '../batch/view-types.js'
import { checkOptions, checkSignal } from '../checks.js'
import type { Driver } from '../engine/driver.js'
import { type Ring, STOP_ABORT, STOP_DRAIN } from '../engine/ring.js'
import { INSPECT, type Inspection, inspected, SpeadcastError } from '../errors.js'
import { type Flavour, Heap, makeFlavour } from '../spead/index.js'
import { readCounters } from '../stats.js'
import { listen } from './abort-listeners.js'
import {
  checkBatchOptions,
  checkGroupMode,
  checkRange,
  checkReferences,
  cntSequence,
  deadlineOf,
  type HeapPace,
  notOurs,
  ratesOf,
  substreamsOf,
} from './arguments.js'
import { Batch, type BatchOptions } from './batch.js'
import { Batches } from './batches.js'
import type { CloseOptions, CloseReport, SendOptions, StreamStats } from './calls.js'
import type { StreamConfig } from './config.js'
import { within } from './deadline.js'
import { Descriptors } from './descriptors.js'
import { Failures } from './failures.js'
import { checksumOf, Lane, Lanes, reportIfOverwritten } from './lanes.js'
import type { StreamParts } from './parts.js'
import { PreparedLists } from './prepared.js'
import type { BatchResult } from './result.js'
import { Send } from './send.js'
import { SendPromise } from './send-promise.js'
import { abortedByDestroy, Submissions } from './submissions.js'

const SEND_OPTIONS = ['heaps', 'signal', 'firstHeap']
const SEND_HEAP_OPTIONS = ['cnt', 'substream', 'rateBytesPerSecond', 'signal']
const SEND_HEAPS_OPTIONS = ['signal']

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
  readonly #prepared: PreparedLists
  readonly #descriptors: Descriptors
  readonly #batches: Batches
  readonly #ownStates: StateWords
  readonly #pace: HeapPace
  /** Set when sends were cut off by a deadline or destroy: unsent heaps before that. */
  #unsentBeforeCut: number | undefined
  #closing: Promise<CloseReport> | undefined
  #tornDown: Promise<void> | undefined
  #closed = false

  /** Backend 'memory' only: the packets sent so far, in order; empty it as you like. */
  readonly packets: MemoryPacket[]

  /** @internal use openStream */
  constructor({ config, endpoints, ring, driver, reason, states, packets, news }: StreamParts) {
    const { caps } = driver
    this.#config = config
    this.#ring = ring
    this.#driver = driver
    this.#submissions = new Submissions(ring, driver, news, this.#failures.note, (substream) => this.#descriptors.forget(substream))
    this.#lanes = new Lanes(driver)
    this.#batches = new Batches(this.#submissions, driver, this.#lanes)
    this.#prepared = new PreparedLists(config, caps, this.#lanes)
    this.#ownStates = states
    const keeper = caps.pacesItself ? (caps.name === 'udp' ? 'the kernel' : 'the device') : undefined
    this.#pace = { paced: config.rateBytesPerSecond > 0, keeper }
    this.packets = packets
    this.backend = caps.name
    this.rateBytesPerSecond = config.rateBytesPerSecond
    this.reason = reason
    this.flavour = makeFlavour(config.flavour) as Flavour<Bits>
    this.endpoints = endpoints.map(({ text }) => text)
    this.#descriptors = new Descriptors({
      when: config.descriptors,
      flavour: this.flavour,
      substreams: endpoints.length,
      send: (references, between) => this.#sendOwn(references, between),
      recall: () => this.#submissions.recallBetween(),
    })
    news.follow(this, driver, config.onPathChange)
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
    const { items, heaps, groupMode = 'serial', memory = {}, views } = options
    const { headroomBytes, mergesEqualPackets } = this.#driver.caps
    const batch = new Batch<ViewsOf<G, B, V>, ImmediatesOf<G, B>>(this.#batches, {
      items,
      heaps,
      flavour: this.flavour,
      packetSizeBytes: this.#config.packetSizeBytes,
      split: this.#config.split,
      repeatPointers: this.#config.repeatPointers,
      groupMode,
      substreams: substreamsOf(options.substreams, heaps, this.endpoints.length),
      rates: ratesOf(options.rates, heaps, this.#pace),
      memory,
      views,
      headroomBytes,
      mergesEqualPackets,
      inBandDescriptors: this.#config.descriptors === 'in-band',
    })
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
   *   ERR_SPEADCAST_SEND, _ABORTED by `destroy`, _WORKER when the I/O thread ended
   * @example await stream.send(batch, { firstHeap: 0, heaps: 32, signal: AbortSignal.timeout(1000) })
   */
  send(batch: Batch<object>, options?: SendOptions): SendPromise<BatchResult> {
    if (this.#closing || this.#submissions.dead) this.#refuseClosed('send')
    this.#failures.rethrow()
    const lane = this.#batches.laneOf(batch)
    if (!lane) throw notOurs(batch)
    if (options !== undefined) checkOptions('send', options, SEND_OPTIONS)
    if (batch.state !== 'free') this.#submissions.harvest()
    if (batch.state !== 'free')
      throw new SpeadcastError('ERR_SPEADCAST_BATCH_STATE', 'send: the batch is still in flight; await batch.free first')
    const first = options?.firstHeap ?? 0
    const heaps = options?.heaps ?? batch.heaps - first
    checkRange(first, heaps, batch.heaps)
    checkSignal('send', options?.signal)
    batch.template.validate(heaps, first)
    if (this.#config.debug) lane.checksum = checksumOf(batch.template)
    lane.telling = this.#descriptors.describe(batch.template, heaps, first)
    this.#lanes.aim(lane, heaps, lane.telling?.substreams, first)
    const promise = new SendPromise<BatchResult>(this.#submissions.watch)
    batch.setInFlight(promise)
    this.#submitAs(promise, lane, heaps, options?.signal, false)
    return promise
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
    checkReferences(references, this.endpoints.length, this.#pace)
    checkGroupMode('sendHeaps', mode)
    checkSignal('sendHeaps', options.signal)
    const lane = this.#prepared.fill(references, mode, this.#config.split)
    try {
      lane.telling = this.#descriptors.describeHeaps(references)
    } catch (error) {
      lane.onFree(lane)
      throw error
    }
    return this.#submit(lane, lane.sendable.heaps, options.signal)
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
    const heap = new Heap(this.flavour)
    add(heap)
    const references = this.endpoints.map((_, substream) => ({ heap, substream }))
    return this.#sendOwn(references, false)
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
   * Sends heaps of the stream's own. An exact layout lists the items of data heaps, and such heaps have others.
   * @param between the heaps of the sends under way, of which one such list may be sent at a time
   */
  #sendOwn(references: readonly HeapReference[], between: boolean): SendPromise<BatchResult> {
    const { split } = this.#config
    const lane = this.#prepared.fill(references, 'serial', typeof split === 'object' ? 'even' : split)
    return this.#submit(lane, lane.sendable.heaps, undefined, between && this.#submissions.inFlight > 0)
  }

  #submit(lane: Lane, heaps: number, signal: AbortSignal | undefined, between = false): SendPromise<BatchResult> {
    const promise = new SendPromise<BatchResult>(between ? () => {} : this.#submissions.watch)
    this.#submitAs(promise, lane, heaps, signal, between)
    return promise
  }

  #submitAs(promise: SendPromise<BatchResult>, lane: Lane, heaps: number, signal: AbortSignal | undefined, between: boolean): void {
    const { send, sendable } = lane
    send.heaps = heaps
    send.explicitCnts = sendable.explicitCnts
    send.payloadBytes = sendable.payloadBytes(heaps)
    send.promise = promise
    send.signal = signal
    if (lane.telling) this.#descriptors.follow(lane.telling, promise)
    if (between) this.#submissions.submitBetween(send)
    else this.#submissions.submit(send)
    if (signal) {
      send.onAbort = () => {
        if (!this.#submissions.abort(send, signal.reason)) return
        lane.telling?.withdraw()
        lane.renew()
      }
      listen(signal, send.onAbort)
    }
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
    const deadlineSeconds = deadlineOf(options)
    this.#closing ??= this.#close(deadlineSeconds)
    return this.#closing
  }

  async #close(deadlineSeconds: number | undefined): Promise<CloseReport> {
    const late = !(await within(deadlineSeconds, this.#submissions.drained()))
    if (late) this.#cutOff()
    await this.#shutDown(late ? STOP_ABORT : STOP_DRAIN)
    // The report counts the sends that were cut off; only failures before the cut surface.
    this.#failures.restore()
    this.#failures.rethrow()
    return { droppedHeaps: this.#droppedHeaps }
  }

  get #droppedHeaps(): number {
    return this.#unsentBeforeCut === undefined ? 0 : this.#submissions.unsentHeaps - this.#unsentBeforeCut
  }

  /** Sends that fail from here on are not failures but were dropped. */
  #cutOff(): void {
    this.#submissions.harvest()
    this.#unsentBeforeCut ??= this.#submissions.unsentHeaps
    this.#failures.setAside()
  }

  /**
   * Aborts: queued sends reject, posted ones settle as far as they got, everything is closed. Idempotent.
   * @example await stream.destroy() // what is queued rejects with ERR_SPEADCAST_ABORTED
   */
  async destroy(): Promise<void> {
    if (!this.#closed) this.#cutOff()
    const down = this.#shutDown(STOP_ABORT)
    this.#closing ??= down.then(() => ({ droppedHeaps: this.#droppedHeaps }))
    this.#driver.submitted()
    await this.#closing.catch(() => {})
  }

  /** A second call, with STOP_ABORT, cuts a drain short that might never end. */
  #shutDown(stop: number): Promise<void> {
    this.#descriptors.close()
    this.#ring.stop(stop)
    this.#tornDown ??= this.#tearDown()
    return this.#tornDown
  }

  async #tearDown(): Promise<void> {
    await this.#driver.stopped()
    this.#submissions.harvest()
    this.#submissions.die(abortedByDestroy())
    this.#closed = true
    this.#batches.close()
    this.#prepared.close()
    const { heapsSent, heapsFailed } = readCounters(this.#ring.counters)
    this.#submissions.news.closed(heapsSent, heapsFailed, this.#droppedHeaps)
  }

  /** Drains and closes; no error if it is closed or closing already. */
  async [Symbol.asyncDispose](): Promise<void> {
    // The caller of close() has the error.
    if (this.#closing) await this.#closing.catch(() => {})
    else await this.close()
  }

  /**
   * Returns counters and states of this moment, as a copy; also when the stream is closed. Costs microseconds.
   * @example const { heapsSent, heapsFailed, states } = stream.stats()
   */
  stats(): StreamStats {
    // Messages of the I/O thread may still be on their way, though the sends that it settled after them are settled here.
    this.#driver.drainMessages()
    const counters = readCounters(this.#ring.counters)
    return {
      ...counters,
      wireBytes: counters.udpBytes + counters.packets * this.#driver.caps.wireOverheadBytes,
      backend: this.backend,
      reason: this.reason,
      evidence: this.#driver.caps.evidence,
      inFlight: this.#submissions.inFlight,
      states: { ...this.#ownStates, ...this.#driver.states },
    }
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('Stream', how, () => {
      const { backend, reason, endpoints, flavour, rateBytesPerSecond } = this
      const { heapsSent, heapsFailed } = readCounters(this.#ring.counters)
      const { inFlight, dead } = this.#submissions
      const state = this.#closed ? 'closed' : this.#closing ? 'closing' : dead ? 'dead' : 'open'
      return { state, backend, reason, endpoints, flavour, rateBytesPerSecond, inFlight, heapsSent, heapsFailed }
    })
  }

  #refuseClosed(call: string): void {
    const { dead } = this.#submissions
    if (this.#closing)
      throw new SpeadcastError('ERR_SPEADCAST_CLOSED', `${call}: the stream is ${this.#closed ? 'closed' : 'closing'}`)
    if (dead) throw dead
  }
}
