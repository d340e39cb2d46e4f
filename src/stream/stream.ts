/**
 * The stream: validated options in, promises out. Everything native is behind the driver; this file only keeps the books.
 *
 * | state    | legal                                         | next                                             |
 * |----------|-----------------------------------------------|--------------------------------------------------|
 * | open     | all                                           | closing by close(), destroyed by destroy() or the I/O thread's death |
 * | closing  | close, destroy; sends are refused             | closed when drained, destroyed at the deadline    |
 * | closed   | close, destroy, stats                         | —                                                |
 *
 * Teardown: refuse sends → drain or abort → stop the driver → backend and descriptors closed → regions back to the pool.
 */
import { performance } from 'node:perf_hooks'
import type { MemoryPacket } from '../backend/memory.js'
import type { GroupMode } from '../batch/compile.js'
import { type HeapReference, PreparedHeaps, preparedKey } from '../batch/heaps.js'
import type { BatchTemplate } from '../batch/template.js'
import type { HeapViews } from '../batch/views.js'
import type { Driver } from '../engine/driver.js'
import { C_STOP, OP_SET_CNT, type Ring, STOP_ABORT, STOP_DRAIN } from '../engine/ring.js'
import { ensure, SpeadcastError } from '../errors.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'
import { type Flavour, Heap, makeFlavour, type Split } from '../spead/index.js'
import { splitHeapCnt, splitUnsigned } from '../spead/pointer.js'
import { shown } from '../spead/value-encoder.js'
import { type CounterName, readCounters } from '../stats.js'
import { listen } from './abort-listeners.js'
import {
  checkGroupMode,
  checkHeapRate,
  checkOptions,
  checkReferences,
  checkSignal,
  checkSubstream,
  type HeapPace,
} from './arguments.js'
import { Batch, type BatchOptions, type BatchOwner } from './batch.js'
import type { StreamConfig } from './config.js'
import { Descriptions } from './descriptors.js'
import { Lane, Lanes } from './lanes.js'
import { type BatchResult, SendError } from './result.js'
import { SendPromise } from './send-promise.js'
import { abortedByDestroy, Pending, type Submissions } from './submissions.js'

export interface SendOptions {
  /** Send only the first so many heaps of the batch. Default: all. */
  heaps?: number
  /** Withdraws the send while its turn has not come: its promise rejects with signal.reason and no heap cnt is used up. */
  signal?: AbortSignal
}

export interface CloseOptions {
  /** Give up and drop what is left after this long. Default: wait for ever. */
  deadlineSeconds?: number
}

export interface CloseReport {
  /** Heaps that were queued and not sent whole because the deadline passed or the stream was destroyed. */
  readonly droppedHeaps: number
}

export interface StreamStats extends Record<CounterName, number> {
  readonly backend: string
  readonly reason: string
  readonly evidence: BatchResult['evidence']
  /** Sends submitted and not settled. */
  readonly inFlight: number
  /** Bytes of all packets on the wire, from preamble to gap: headers, VLAN tags and frame check sequence included. */
  readonly wireBytes: number
  /** What the backend says of itself: segmentation and why, interface, buffer sizes … */
  readonly states: Readonly<Record<string, string | number | boolean>>
}

/** Compiled heap lists kept for reuse by sendHeaps. */
const MAX_PREPARED = 64
const BREATH_MS = 0.5
/** Node takes longer timers for 1 ms. */
const MAX_TIMER_MS = 2 ** 31 - 1
const SEND_OPTIONS = ['heaps', 'signal']
const SEND_HEAP_OPTIONS = ['cnt', 'substream', 'rateBytesPerSecond', 'signal']
const SEND_HEAPS_OPTIONS = ['signal']
const BATCH_OPTIONS = ['items', 'heaps', 'groupMode', 'substreams', 'rates', 'memory']
const CLOSE_OPTIONS = ['deadlineSeconds']

type PreparedLane = Lane & { readonly sendable: PreparedHeaps }

type Describable = Pick<BatchTemplate, 'items' | 'substreams'>

interface Failure {
  readonly promise: SendPromise<BatchResult>
  readonly error: unknown
}

export interface StreamParts {
  readonly config: StreamConfig
  readonly endpoints: readonly ResolvedEndpoint[]
  readonly ring: Ring
  readonly submissions: Submissions
  readonly driver: Driver
  readonly reason: string
  /** What the memory backend keeps. */
  readonly packets: MemoryPacket[]
}

export class Stream implements BatchOwner, AsyncDisposable {
  readonly backend: string
  /** Why this backend. */
  readonly reason: string
  readonly flavour: Flavour
  readonly endpoints: readonly string[]
  /** Bytes per second, of what the option `rateBasis` counts; 0 = as fast as possible. */
  readonly rateBytesPerSecond: number
  readonly #config: StreamConfig
  readonly #ring: Ring
  readonly #submissions: Submissions
  readonly #driver: Driver
  readonly #lanes: Lanes
  readonly #prepared = new Map<string, PreparedLane[]>()
  #preparedFree = 0
  readonly #descriptions: Descriptions
  readonly #batches = new Map<Batch<object>, Lane>()
  #failures: Failure[] = []
  #states: Record<string, string | number | boolean> = {}
  #lastTurn = performance.now()
  /** Set when sends were cut off by a deadline or destroy: how things stood then. */
  #cut: { readonly unsentHeaps: number; readonly failures: Failure[] } | undefined
  #closing: Promise<CloseReport> | undefined
  #tornDown: Promise<void> | undefined
  #closed = false

  /** Backend 'memory' only: the packets sent so far, in order; empty it as you like. */
  readonly packets: MemoryPacket[]

  /** @internal use openStream */
  constructor({ config, endpoints, ring, submissions, driver, reason, packets }: StreamParts) {
    this.#config = config
    this.#ring = ring
    this.#submissions = submissions
    this.#driver = driver
    this.#lanes = new Lanes(driver)
    this.packets = packets
    this.backend = driver.caps.name
    this.rateBytesPerSecond = config.rateBytesPerSecond
    this.reason = reason
    this.flavour = makeFlavour(config.flavour)
    this.endpoints = endpoints.map(({ text }) => text)
    this.#descriptions = new Descriptions(config.descriptors)
  }

  /** @internal */
  setStates(states: Record<string, string | number | boolean>): void {
    this.#states = states
  }

  /** @internal */
  noteFailure(promise: SendPromise<BatchResult>, error: unknown): void {
    if (!promise.observed) this.#failures.push({ promise, error })
  }

  /**
   * Maps and compiles a batch of equal heaps. Cold: do it before the first send, a few per stream.
   * @throws ERR_SPEADCAST_CONFIG, _ITEM, _SPLIT, _PACKET_SIZE, _SUBSTREAM, _MEMORY
   */
  createBatch<T extends object = HeapViews>(options: BatchOptions): Batch<T> {
    this.#refuseClosed('createBatch')
    checkOptions('createBatch', options, BATCH_OPTIONS)
    const { items, heaps, groupMode = 'serial', rates, memory = {} } = options
    ensure(
      typeof items?.items === 'function',
      'ERR_SPEADCAST_CONFIG',
      () => `createBatch: items is ${shown(items)}; it must be an ItemGroup, which says what a heap holds`,
    )
    ensure(
      Number.isInteger(heaps) && heaps >= 1 && heaps < 2 ** 24,
      'ERR_SPEADCAST_CONFIG',
      () => `createBatch: heaps is ${shown(heaps)}; it must be a whole number from 1 to 2^24 − 1`,
    )
    checkGroupMode('createBatch', groupMode)
    ensure(
      typeof memory === 'object' && memory !== null,
      'ERR_SPEADCAST_CONFIG',
      () => `createBatch: memory is ${shown(memory)}; it must be an object of { region, offsetBytes, strideBytes } by item name`,
    )
    const batch = new Batch<T>(this, {
      items,
      heaps,
      flavour: this.flavour,
      packetSizeBytes: this.#config.packetSizeBytes,
      split: this.#config.split,
      repeatPointers: this.#config.repeatPointers,
      groupMode,
      substreams: this.#substreamsOf(options.substreams, heaps),
      rates: this.#ratesOf(rates, heaps),
      memory,
      headroomBytes: this.#driver.caps.headroomBytes,
      mergesEqualPackets: this.#driver.caps.mergesEqualPackets,
      inBandDescriptors: this.#config.descriptors === 'in-band',
    })
    const lane = new Lane(batch.template, () => {
      batch.setInFlight(undefined)
      if (this.#config.debug && batch.template.checksum() !== lane.checksum) reportOverwrite()
    })
    this.#lanes.aim(lane, heaps, false)
    this.#batches.set(batch as unknown as Batch<object>, lane)
    this.#descriptions.noteItems(items)
    return batch
  }

  #substreamsOf(option: BatchOptions['substreams'], heaps: number): Uint16Array {
    const n = this.endpoints.length
    const of =
      typeof option === 'function'
        ? option
        : typeof option === 'number'
          ? () => option
          : option
            ? (j: number) => option[j]!
            : (j: number) => j % n
    return Uint16Array.from({ length: heaps }, (_, j) => checkSubstream(of(j), n))
  }

  get #pace(): HeapPace {
    const { pacesItself, name } = this.#driver.caps
    const keeper = pacesItself ? (name === 'udp' ? 'the kernel' : 'the device') : undefined
    return { paced: this.#config.rateBytesPerSecond > 0, keeper }
  }

  #ratesOf(rates: readonly number[] | undefined, heaps: number): Float64Array | undefined {
    if (!rates) return undefined
    ensure(
      this.#config.rateBytesPerSecond > 0,
      'ERR_SPEADCAST_CONFIG',
      () => 'rates per heap need a stream with a rate; give openStream a rate',
    )
    ensure(
      rates.length === heaps,
      'ERR_SPEADCAST_CONFIG',
      () =>
        `createBatch: ${rates.length === undefined ? `rates is ${shown(rates)}` : `rates has ${rates.length} entries`} for ${heaps} heaps; ` +
        'give a list of one for each',
    )
    for (const rate of rates) checkHeapRate(rate, this.#pace)
    return Float64Array.from(rates)
  }

  /**
   * Queues a batch. Its promise resolves when all of it is sent, and rejects with a SendError that names every heap's fate, or with
   * signal.reason. A promise nobody looks at is safe to drop: its failure, of several the first, is thrown by the next send,
   * flush or close.
   * @throws at once, nothing queued: ERR_SPEADCAST_CLOSED, _CONFIG, _BATCH_STATE, _VALUE, _HEAP_CNT, or an earlier unobserved failure
   */
  send<T extends object>(batch: Batch<T>, options?: SendOptions): SendPromise<BatchResult> {
    if (this.#closing || this.#submissions.dead) this.#refuseClosed('send')
    if (this.#failures.length > 0) this.#rethrow()
    const lane = this.#batches.get(batch as unknown as Batch<object>)
    if (!lane) throw notOurs(batch)
    if (options !== undefined) checkOptions('send', options, SEND_OPTIONS)
    if (batch.state !== 'free') this.#submissions.harvest()
    if (batch.state !== 'free')
      throw new SpeadcastError('ERR_SPEADCAST_BATCH_STATE', 'send: the batch is still in flight; await batch.free first')
    const heaps = options?.heaps ?? batch.heaps
    if (!(Number.isInteger(heaps) && heaps >= 1 && heaps <= batch.heaps))
      throw new SpeadcastError('ERR_SPEADCAST_VALUE', `send: heaps is ${shown(heaps)}; the batch has 1 to ${batch.heaps}`)
    checkSignal('send', options?.signal)
    batch.template.validate(heaps)
    const ifDescriptorsFail = this.#describe(batch.template, heaps, lane)
    if (this.#config.debug) lane.checksum = batch.template.checksum()
    this.#lanes.aim(lane, heaps, ifDescriptorsFail !== undefined)
    const promise = new SendPromise<BatchResult>(this.#submissions.watch)
    if (ifDescriptorsFail) promise.onFailure(ifDescriptorsFail)
    batch.setInFlight(promise)
    this.#submit(lane, heaps, promise, options?.signal)
    return promise
  }

  /** One heap by its Heap object (spead2's async_send_heap); its values are copied now. */
  sendHeap(heap: Heap, options: Omit<HeapReference, 'heap'> & { signal?: AbortSignal } = {}): SendPromise<BatchResult> {
    checkOptions('sendHeap', options, SEND_HEAP_OPTIONS)
    const { signal, ...reference } = options
    return this.sendHeaps([{ heap, ...reference }], 'serial', signal === undefined ? {} : { signal })
  }

  /**
   * Heaps as one group (spead2's async_send_heaps): all are queued or none, one promise for all. Their values are copied now, into
   * memory that is compiled at first use and reused while the list's shape stays the same.
   */
  sendHeaps(
    references: readonly HeapReference[],
    mode: GroupMode,
    options: { signal?: AbortSignal } = {},
  ): SendPromise<BatchResult> {
    this.#refuseClosed('sendHeaps')
    this.#rethrow()
    checkOptions('sendHeaps', options, SEND_HEAPS_OPTIONS)
    checkReferences(references, this.endpoints.length, this.#pace)
    checkGroupMode('sendHeaps', mode)
    checkSignal('sendHeaps', options.signal)
    return this.#sendPrepared(references, mode, this.#config.split, options.signal)
  }

  #sendPrepared(
    references: readonly HeapReference[],
    mode: GroupMode,
    split: Split,
    signal?: AbortSignal,
  ): SendPromise<BatchResult> {
    const key = `${typeof split === 'string' ? split : 'exact'} ${preparedKey(references, mode)}`
    let prepared = this.#takePrepared(key)
    if (!prepared) {
      const { packetSizeBytes, repeatPointers } = this.#config
      const { headroomBytes, mergesEqualPackets } = this.#driver.caps
      const cut = { packetSizeBytes, split, repeatPointers, headroomBytes, mergesEqualPackets }
      const heaps = new PreparedHeaps(references, mode, cut)
      prepared = new Lane(heaps, () => this.#keepPrepared(key, made)) as PreparedLane
      const made = prepared
    }
    const lane = prepared
    const { sendable } = lane
    try {
      sendable.fill(references)
      sendable.validate(references.length)
      this.#lanes.aim(lane, sendable.heaps, false)
    } catch (error) {
      lane.onFree(lane)
      throw error
    }
    const promise = new SendPromise<BatchResult>(this.#submissions.watch)
    this.#submit(lane, sendable.heaps, promise, signal)
    return promise
  }

  #takePrepared(key: string): PreparedLane | undefined {
    const pool = this.#prepared.get(key)
    if (!pool) return undefined
    this.#preparedFree--
    if (pool.length === 1) this.#prepared.delete(key)
    return pool.pop()
  }

  /** Keeps the lists used last: a key goes to the map's end whenever one of its lists comes back. */
  #keepPrepared(key: string, lane: PreparedLane): void {
    if (this.#closed) {
      lane.sendable.region.release()
      return
    }
    const pool = this.#prepared.get(key) ?? []
    pool.push(lane)
    this.#prepared.delete(key)
    this.#prepared.set(key, pool)
    if (++this.#preparedFree <= MAX_PREPARED) return
    const [oldest] = this.#prepared.keys()
    const dropped = this.#takePrepared(oldest!)!
    this.#lanes.drop(dropped)
    dropped.sendable.region.release()
  }

  /** A start-of-stream heap on every substream. */
  sendStart(): SendPromise<BatchResult> {
    return this.#sendControl((heap) => heap.addStart())
  }

  /** An end-of-stream heap on every substream: receivers stop there. */
  sendEnd(): SendPromise<BatchResult> {
    return this.#sendControl((heap) => heap.addEnd())
  }

  #sendControl(add: (heap: Heap) => void): SendPromise<BatchResult> {
    const heap = new Heap(this.flavour)
    add(heap)
    this.#refuseClosed('sendStart, sendEnd')
    this.#rethrow()
    return this.#sendTo([...this.endpoints.keys()], heap)
  }

  /** From the next send on, heap cnts are next, next + step, … modulo the flavour's width. @throws ERR_SPEADCAST_HEAP_CNT */
  setCntSequence(next: number | bigint, step: number | bigint): void {
    this.#refuseClosed('setCntSequence')
    const pending = new Pending(() => {})
    pending.op = OP_SET_CNT
    pending.sequence = cntSequence(this.flavour, next, step)
    this.#submissions.submit(pending)
  }

  /**
   * Sends descriptors to the substreams without. Where they travel inside the first heaps of the batch instead: what to do when some of
   * those fail.
   */
  #describe(batch: Describable, heaps: number, lane: Lane): ((error: unknown) => void) | undefined {
    lane.onWithdrawn = undefined
    if (this.#config.descriptors === 'none') return undefined
    const told = this.#descriptions.told(batch.items)
    if (told.size === this.endpoints.length) return undefined
    if (this.#config.descriptors === 'in-band') return this.#describeInBand(batch, heaps, lane, told)
    const without = [...this.endpoints.keys()].filter((k) => !told.has(k))
    const heap = new Heap(this.flavour)
    for (const item of batch.items.items()) heap.addDescriptor(item)
    const promise = this.#sendTo(without, heap)
    const takeBack = this.#descriptions.tell(batch.items, without)
    // No failure of the user's send: those substreams get them again, before the next batch.
    promise.observed = true
    promise.onFailure((error) => takeBack(failedHeaps(error).map((j) => without[j]!)))
    return undefined
  }

  #describeInBand(
    batch: Describable,
    heaps: number,
    lane: Lane,
    told: ReadonlySet<number>,
  ): ((error: unknown) => void) | undefined {
    let carriers: Map<number, number> | undefined
    for (let j = 0; j < heaps; j++) {
      const substream = batch.substreams[j]!
      if (told.has(substream) || carriers?.has(substream)) continue
      carriers ??= new Map()
      carriers.set(substream, j)
    }
    if (!carriers) return undefined
    const fresh = [...carriers]
    const takeBack = this.#descriptions.tell(batch.items, carriers.keys())
    lane.onWithdrawn = () => takeBack(carriers.keys())
    return (error) => {
      const failed = new Set(failedHeaps(error))
      takeBack(fresh.flatMap(([substream, j]) => (failed.has(j) ? [substream] : [])))
    }
  }

  /** A heap of the stream's own. An exact layout lists the items of data heaps; this one has others. */
  #sendTo(substreams: readonly number[], heap: Heap): SendPromise<BatchResult> {
    const { split } = this.#config
    const references = substreams.map((substream) => ({ heap, substream }))
    return this.#sendPrepared(references, 'serial', typeof split === 'object' ? 'even' : split)
  }

  #submit(lane: Lane, heaps: number, promise: SendPromise<BatchResult>, signal: AbortSignal | undefined): void {
    const { pending, sendable } = lane
    pending.heaps = heaps
    pending.explicitCnts = sendable.explicitCnts
    pending.payloadBytes = sendable.payloadBytes(heaps)
    pending.promise = promise
    pending.signal = signal
    this.#submissions.submit(pending)
    if (signal) {
      pending.onAbort = () => {
        if (!this.#submissions.abort(pending, signal.reason)) return
        lane.onWithdrawn?.()
        lane.renew()
      }
      listen(signal, pending.onAbort)
    }
  }

  /** @internal */
  closeBatch(batch: Batch<object>): void {
    ensure(batch.state !== 'in-flight', 'ERR_SPEADCAST_BATCH_STATE', () => 'close: the batch is in flight; await batch.free first')
    const lane = this.#batches.get(batch)!
    this.#batches.delete(batch)
    if (!this.#closed) this.#lanes.drop(lane)
    batch.template.region.release()
  }

  /** @internal */
  expect(batch: { readonly state: string }): void {
    this.#submissions.harvest()
    if (batch.state === 'in-flight') this.#driver.waiter?.wait(batch, this.#submissions)
  }

  /** @internal */
  breathe(): Promise<void> | undefined {
    if (performance.now() - this.#lastTurn < BREATH_MS) return undefined
    return new Promise((resolve) =>
      setImmediate(() => {
        this.#lastTurn = performance.now()
        resolve()
      }),
    )
  }

  /** Resolves when everything sent so far has settled. @throws (rejects) an unobserved failure of an earlier send */
  async flush(): Promise<void> {
    await this.#submissions.drained()
    this.#rethrow()
  }

  /**
   * Refuses new sends, waits for what is queued, closes everything. With a deadline, what is left then is dropped and counted in the
   * report. Idempotent: later calls share the first's promise. @throws (rejects) an unobserved failure, after having closed
   */
  close(options: CloseOptions = {}): Promise<CloseReport> {
    checkOptions('close', options, CLOSE_OPTIONS)
    const { deadlineSeconds } = options
    ensure(
      deadlineSeconds === undefined || (Number.isFinite(deadlineSeconds) && deadlineSeconds >= 0),
      'ERR_SPEADCAST_CONFIG',
      () => `close: deadlineSeconds is ${shown(deadlineSeconds)}; it must be a number of seconds from 0 up`,
    )
    this.#closing ??= this.#close(deadlineSeconds)
    return this.#closing
  }

  async #close(deadlineSeconds: number | undefined): Promise<CloseReport> {
    let late = false
    if (deadlineSeconds === undefined) await this.#submissions.drained()
    else {
      let timer: NodeJS.Timeout | undefined
      const deadline = new Promise<void>((resolve) => {
        timer = setTimeout(
          () => {
            late = true
            resolve()
          },
          Math.min(deadlineSeconds * 1000, MAX_TIMER_MS),
        )
      })
      await Promise.race([this.#submissions.drained(), deadline])
      clearTimeout(timer)
    }
    if (late) this.#cutOff()
    await this.#shutDown(late ? STOP_ABORT : STOP_DRAIN)
    // What was cut off is reported here, once; only what failed before that surfaces.
    if (this.#cut) this.#failures = this.#cut.failures
    this.#rethrow()
    return { droppedHeaps: this.#droppedHeaps }
  }

  get #droppedHeaps(): number {
    return this.#cut ? this.#submissions.unsentHeaps - this.#cut.unsentHeaps : 0
  }

  /** What fails from here on is not a failure but was dropped. */
  #cutOff(): void {
    this.#submissions.harvest()
    this.#cut ??= { unsentHeaps: this.#submissions.unsentHeaps, failures: this.#failures }
    this.#failures = []
  }

  /** Aborts: queued sends reject, posted ones settle as far as they got, everything is closed. Idempotent. */
  async destroy(): Promise<void> {
    if (!this.#closed) this.#cutOff()
    const down = this.#shutDown(STOP_ABORT)
    this.#closing ??= down.then(() => ({ droppedHeaps: this.#droppedHeaps }))
    this.#driver.submitted()
    await this.#closing.catch(() => {})
  }

  /** May be called again, to abort what is draining: a drain waits for what only an abort settles. */
  #shutDown(stop: number): Promise<void> {
    if (Atomics.load(this.#ring.control, C_STOP) !== STOP_ABORT) Atomics.store(this.#ring.control, C_STOP, stop)
    this.#tornDown ??= this.#tearDown()
    return this.#tornDown
  }

  async #tearDown(): Promise<void> {
    await this.#driver.stopped()
    this.#submissions.harvest()
    this.#submissions.die(abortedByDestroy())
    this.#closed = true
    for (const batch of [...this.#batches.keys()]) batch.close()
    for (const pool of this.#prepared.values()) for (const { sendable } of pool) sendable.region.release()
    this.#prepared.clear()
  }

  /** Drains and closes; no error if it is closed or closing already. */
  async [Symbol.asyncDispose](): Promise<void> {
    // Whoever closed it has the error.
    if (this.#closing) await this.#closing.catch(() => {})
    else await this.close()
  }

  stats(): StreamStats {
    // What the sending thread said before it settled what is settled by now may still be on its way.
    this.#driver.drainMessages()
    const counters = readCounters(this.#ring.counters)
    return {
      ...counters,
      wireBytes: counters.udpBytes + counters.packets * this.#driver.caps.wireOverheadBytes,
      backend: this.backend,
      reason: this.reason,
      evidence: this.#driver.caps.evidence,
      inFlight: this.#submissions.inFlight,
      states: this.#states,
    }
  }

  #refuseClosed(call: string): void {
    const { dead } = this.#submissions
    if (this.#closing)
      throw new SpeadcastError('ERR_SPEADCAST_CLOSED', `${call}: the stream is ${this.#closed ? 'closed' : 'closing'}`)
    if (dead) throw dead
  }

  #rethrow(): void {
    if (this.#failures.length === 0) return
    const unseen = this.#failures.find(({ promise }) => !promise.observed)
    this.#failures = []
    if (unseen) throw unseen.error
  }
}

/** First cnt and step as 32-bit halves. @throws ERR_SPEADCAST_HEAP_CNT */
export function cntSequence(
  flavour: Flavour,
  next: number | bigint,
  step: number | bigint,
): readonly [number, number, number, number] {
  const from = splitHeapCnt(flavour, next)
  const by = splitUnsigned(step, flavour.heapAddressBits, 'heap cnt step', 'ERR_SPEADCAST_HEAP_CNT')
  ensure(by.hi !== 0 || by.lo !== 0, 'ERR_SPEADCAST_HEAP_CNT', () => 'heap cnt step is 0; every heap needs its own cnt')
  return [from.hi, from.lo, by.hi, by.lo]
}

function reportOverwrite(): void {
  process.emitWarning('a batch was written while it was in flight: what was sent is a mixture; await batch.free before writing', {
    code: 'SPEADCAST_OVERWRITE',
  })
}

function notOurs(batch: unknown): SpeadcastError {
  const what =
    batch instanceof Batch
      ? batch.state === 'closed'
        ? 'the batch is closed'
        : 'the batch belongs to another stream'
      : `the batch is ${shown(batch)}`
  return new SpeadcastError('ERR_SPEADCAST_BATCH_STATE', `send: ${what}; give one from createBatch of this stream`)
}

/** Indices of the heaps that were tried and not sent whole. */
const failedHeaps = (error: unknown): readonly number[] => (error instanceof SendError ? error.outcome.failedHeaps : [])
