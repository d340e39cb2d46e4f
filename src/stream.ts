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
import type { MemoryPacket } from './backend/memory.js'
import type { GroupMode } from './batch/compile.js'
import { type HeapReference, PreparedHeaps, preparedKey } from './batch/heaps.js'
import type { Sendable } from './batch/sendable.js'
import type { HeapViews } from './batch/views.js'
import type { StreamConfig } from './config.js'
import type { Driver } from './engine/driver.js'
import { C_STOP, OP_SEND, OP_SET_CNT, type Ring, STOP_ABORT, STOP_DRAIN } from './engine/ring.js'
import { check, SpeadcastError } from './errors.js'
import type { ResolvedEndpoint } from './net/endpoint.js'
import type { BatchResult } from './result.js'
import { SendPromise } from './send-promise.js'
import { type Flavour, Heap, type ItemGroup, makeFlavour, type Split } from './spead/index.js'
import { splitHeapCnt, splitUnsigned } from './spead/pointer.js'
import { type CounterName, readCounters } from './stats.js'
import { Batch, type BatchOptions, type BatchOwner } from './stream-batch.js'
import type { Pending, Submissions } from './submissions.js'

export interface SendOptions {
  /** Send only the first so many heaps of the batch. Default: all. */
  heaps?: number
  /** Withdraws the send if none of it was posted yet: its promise rejects with signal.reason and no heap cnt is used up. */
  signal?: AbortSignal
}

export interface CloseOptions {
  /** Give up and drop what is left after this long. Default: wait for ever. */
  deadlineSeconds?: number
}

export interface CloseReport {
  /** Heaps that were queued and not sent whole because the deadline passed. */
  readonly droppedHeaps: number
}

export interface StreamStats extends Record<CounterName, number> {
  readonly backend: string
  readonly reason: string
  readonly evidence: BatchResult['evidence']
  /** Sends submitted and not settled. */
  readonly inFlight: number
  /** What the backend says of itself: segmentation and why, interface, buffer sizes … */
  readonly states: Readonly<Record<string, string | number | boolean>>
}

/** Partial round-robin variants kept compiled per batch. */
const MAX_VARIANTS = 8
/** Compiled heap lists kept for reuse by sendHeaps. */
const MAX_PREPARED = 64
const BREATH_MS = 0.5

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
  readonly #config: StreamConfig
  readonly #ring: Ring
  readonly #submissions: Submissions
  readonly #driver: Driver
  readonly #variants = new WeakMap<Sendable, Map<string, number>>()
  readonly #prepared = new Map<string, PreparedHeaps[]>()
  #preparedFree = 0
  readonly #described = new WeakMap<ItemGroup, number>()
  readonly #batches = new Set<Batch<object>>()
  #failures: { readonly promise: SendPromise<BatchResult>; readonly error: unknown }[] = []
  #states: Record<string, string | number | boolean> = {}
  #nextVariant = 1
  #lastTurn = performance.now()
  #closing: Promise<CloseReport> | undefined
  #closed = false

  /** Backend 'memory' only: the packets sent so far, in order; empty it as you like. */
  readonly packets: MemoryPacket[]

  /** @internal use openStream */
  constructor({ config, endpoints, ring, submissions, driver, reason, packets }: StreamParts) {
    this.#config = config
    this.#ring = ring
    this.#submissions = submissions
    this.#driver = driver
    this.packets = packets
    this.backend = driver.caps.name
    this.reason = reason
    this.flavour = makeFlavour(config.flavour)
    this.endpoints = endpoints.map(({ text }) => text)
  }

  /** @internal */
  setStates(states: Record<string, string | number | boolean>): void {
    this.#states = states
  }

  /** @internal */
  noteFailure(pending: Pending, error: unknown): void {
    const promise = (pending as Pending & { promise?: SendPromise<BatchResult> }).promise
    if (promise && !promise.observed) this.#failures.push({ promise, error })
  }

  /**
   * Maps and compiles a batch of equal heaps. Cold: do it before the first send, a few per stream.
   * @throws ERR_SPEADCAST_CONFIG, _ITEM, _SPLIT, _PACKET_SIZE, _SUBSTREAM, _MEMORY
   */
  createBatch<T extends object = HeapViews>(options: BatchOptions): Batch<T> {
    this.#refuseClosed('createBatch')
    const unknown = Object.keys(options).filter(
      (key) => !['items', 'heaps', 'groupMode', 'substreams', 'rates', 'memory'].includes(key),
    )
    check(
      unknown.length === 0,
      'ERR_SPEADCAST_CONFIG',
      () => `createBatch: unknown option '${unknown[0]}'; known ones: items, heaps, groupMode, substreams, rates, memory`,
    )
    const { items, heaps, groupMode = 'serial', rates, memory = {} } = options
    check(
      Number.isInteger(heaps) && heaps >= 1 && heaps < 2 ** 24,
      'ERR_SPEADCAST_CONFIG',
      () => `createBatch: heaps is ${heaps}; it must be a whole number from 1 to 2^24 − 1`,
    )
    check(
      groupMode === 'serial' || groupMode === 'round-robin',
      'ERR_SPEADCAST_CONFIG',
      () => `createBatch: groupMode is '${groupMode}'; it must be 'serial' or 'round-robin'`,
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
      inBandDescriptors: this.#config.descriptors === 'in-band',
    })
    this.#batches.add(batch as unknown as Batch<object>)
    this.#compile(batch.compiled, heaps, false)
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
    return Uint16Array.from({ length: heaps }, (_, j) => this.#checkSubstream(of(j)))
  }

  #checkSubstream(substream: number): number {
    const n = this.endpoints.length
    check(
      Number.isInteger(substream) && substream >= 0 && substream < n,
      'ERR_SPEADCAST_SUBSTREAM',
      () => `substream is ${substream}; the stream has ${n} endpoint${n === 1 ? '' : 's'}, 0 to ${n - 1}`,
    )
    return substream
  }

  #ratesOf(rates: readonly number[] | undefined, heaps: number): Float64Array | undefined {
    if (!rates) return undefined
    check(
      this.#config.rateBytesPerSecond > 0,
      'ERR_SPEADCAST_CONFIG',
      () => 'rates per heap need a stream with a rate; give openStream a rate',
    )
    check(rates.length === heaps, 'ERR_SPEADCAST_CONFIG', () => `rates has ${rates.length} entries for ${heaps} heaps`)
    for (const rate of rates) checkHeapRate(rate)
    return Float64Array.from(rates)
  }

  /**
   * Queues a batch. Its promise resolves when all of it is sent, and rejects with a SendError that names every heap's fate, or with
   * signal.reason. A promise nobody looks at is safe to drop: its failure is thrown by the next send, flush or close.
   * @throws at once, nothing queued: ERR_SPEADCAST_CLOSED, _BATCH_STATE, _VALUE, _HEAP_CNT, or an earlier unobserved failure
   */
  send<T extends object>(batch: Batch<T>, options: SendOptions = {}): SendPromise<BatchResult> {
    this.#refuseClosed('send')
    this.#rethrow()
    check(this.#batches.has(batch as unknown as Batch<object>), 'ERR_SPEADCAST_BATCH_STATE', () =>
      batch.state === 'closed'
        ? 'send: the batch is closed'
        : 'send: the batch belongs to another stream; create it with this stream',
    )
    if (batch.state === 'in-flight') this.#submissions.harvest()
    check(batch.state === 'free', 'ERR_SPEADCAST_BATCH_STATE', () => 'send: the batch is still in flight; await batch.free first')
    const { heaps = batch.heaps, signal } = options
    check(
      Number.isInteger(heaps) && heaps >= 1 && heaps <= batch.heaps,
      'ERR_SPEADCAST_VALUE',
      () => `send: heaps is ${heaps}; the batch has 1 to ${batch.heaps}`,
    )
    signal?.throwIfAborted()
    batch.compiled.validate(heaps)
    const inBand = this.#describe(batch.compiled.items)
    batch.setInFlight(true)
    const sum = this.#config.debug ? batch.compiled.checksum() : 0
    return this.#submit(batch.compiled, heaps, inBand, signal, () => {
      batch.setInFlight(false)
      if (this.#config.debug && batch.compiled.checksum() !== sum) this.#reportOverwrite()
    })
  }

  /** One heap by its Heap object (spead2's async_send_heap); its values are copied now. */
  sendHeap(heap: Heap, options: Omit<HeapReference, 'heap'> & { signal?: AbortSignal } = {}): SendPromise<BatchResult> {
    const { signal, ...reference } = options
    return this.sendHeaps([{ heap, ...reference }], 'serial', signal ? { signal } : {})
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
    check(references.length > 0, 'ERR_SPEADCAST_VALUE', () => 'sendHeaps: the list is empty')
    check(
      mode === 'serial' || mode === 'round-robin',
      'ERR_SPEADCAST_CONFIG',
      () => `sendHeaps: group mode is '${mode}'; it must be 'serial' or 'round-robin'`,
    )
    for (const { heap, substream = 0, rateBytesPerSecond } of references) {
      this.#checkSubstream(substream)
      if (rateBytesPerSecond !== undefined) checkHeapRate(rateBytesPerSecond)
      check(
        heap.flavour.heapAddressBits === references[0]!.heap.flavour.heapAddressBits,
        'ERR_SPEADCAST_CONFIG',
        () => 'sendHeaps: all heaps of a group must have the same flavour',
      )
    }
    options.signal?.throwIfAborted()
    return this.#sendPrepared(references, mode, this.#config.split, options.signal)
  }

  #sendPrepared(
    references: readonly HeapReference[],
    mode: GroupMode,
    split: Split,
    signal?: AbortSignal,
  ): SendPromise<BatchResult> {
    const key = `${typeof split === 'string' ? split : 'exact'} ${preparedKey(references, mode)}`
    const pool = this.#prepared.get(key)
    let prepared = pool?.pop()
    if (prepared) this.#preparedFree--
    else
      prepared = new PreparedHeaps(references, mode, { packetSizeBytes: this.#config.packetSizeBytes, split })
    const mine = prepared
    try {
      mine.fill(references)
      mine.validate(references.length)
    } catch (error) {
      this.#keepPrepared(key, mine)
      throw error
    }
    return this.#submit(mine, mine.heaps, false, signal, () => this.#keepPrepared(key, mine))
  }

  #keepPrepared(key: string, prepared: PreparedHeaps): void {
    if (this.#closed || this.#preparedFree >= MAX_PREPARED) {
      this.#dropVariants(prepared)
      prepared.region.release()
      return
    }
    const pool = this.#prepared.get(key)
    if (pool) pool.push(prepared)
    else this.#prepared.set(key, [prepared])
    this.#preparedFree++
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
    return this.#sendEverywhere(heap)
  }

  /** From the next send on, heap cnts are next, next + step, … modulo the flavour's width. @throws ERR_SPEADCAST_HEAP_CNT */
  setCntSequence(next: number | bigint, step: number | bigint): void {
    this.#refuseClosed('setCntSequence')
    const from = splitHeapCnt(this.flavour, next)
    const by = splitUnsigned(step, this.flavour.heapAddressBits, 'heap cnt step', 'ERR_SPEADCAST_HEAP_CNT')
    check(by.hi !== 0 || by.lo !== 0, 'ERR_SPEADCAST_HEAP_CNT', () => 'heap cnt step is 0; every heap needs its own cnt')
    this.#submissions.submit({
      ...IDLE,
      op: OP_SET_CNT,
      variant: 0,
      heaps: 0,
      rows: 0,
      explicitCnts: false,
      payloadBytes: 0,
      sequence: [from.hi, from.lo, by.hi, by.lo],
      slot: 0,
      done: false,
    })
  }

  /** Sends descriptors if the group's are due; true when they must travel inside the batch. */
  #describe(items: ItemGroup): boolean {
    const { descriptors } = this.#config
    if (descriptors === 'none') return false
    const last = this.#described.get(items)
    if (last !== undefined && (typeof descriptors === 'string' || performance.now() - last < descriptors.everySeconds * 1000))
      return false
    this.#described.set(items, performance.now())
    if (descriptors === 'in-band') return true
    const heap = new Heap(this.flavour)
    for (const item of items.items()) heap.addDescriptor(item)
    // Whoever watches the data heaps learns of the same failure; nobody watches this promise.
    this.#sendEverywhere(heap).observed = true
    return false
  }

  /** A heap of the stream's own on every substream. An exact layout lists the items of data heaps; this one has others. */
  #sendEverywhere(heap: Heap): SendPromise<BatchResult> {
    const { split } = this.#config
    const references = this.endpoints.map((_, substream) => ({ heap, substream }))
    return this.#sendPrepared(references, 'serial', typeof split === 'object' ? 'even' : split)
  }

  #submit(
    sendable: Sendable,
    heaps: number,
    inBand: boolean,
    signal: AbortSignal | undefined,
    onFree: () => void,
  ): SendPromise<BatchResult> {
    const { promise, resolve, reject } = SendPromise.create<BatchResult>()
    const { id, rows } = this.#compile(sendable, heaps, inBand)
    const onAbort = signal && (() => void this.#submissions.abort(pending, signal.reason))
    const pending: Pending & { promise: SendPromise<BatchResult> } = {
      op: OP_SEND,
      variant: id,
      heaps,
      rows,
      explicitCnts: sendable.explicitCnts,
      payloadBytes: sendable.payloadBytes(heaps),
      onFree: onAbort
        ? () => {
            signal.removeEventListener('abort', onAbort)
            onFree()
          }
        : onFree,
      resolve,
      reject,
      slot: 0,
      done: false,
      promise,
    }
    try {
      this.#submissions.submit(pending)
    } catch (error) {
      onFree()
      throw error
    }
    if (onAbort) signal.addEventListener('abort', onAbort)
    return promise
  }

  #compile(sendable: Sendable, heaps: number, inBand: boolean): { id: number; rows: number } {
    const { key, rows, compile } = sendable.variant(heaps, inBand)
    let known = this.#variants.get(sendable)
    if (!known) {
      known = new Map()
      this.#variants.set(sendable, known)
    }
    let id = known.get(key)
    if (id === undefined) {
      if (known.size >= MAX_VARIANTS) {
        const [oldest, oldId] = [...known].find(([name]) => name !== 'all')!
        known.delete(oldest)
        this.#driver.dropVariant(oldId)
      }
      id = this.#nextVariant++
      this.#driver.addVariant(id, compile(), sendable.rates)
      known.set(key, id)
    }
    return { id, rows }
  }

  #dropVariants(sendable: Sendable): void {
    for (const id of this.#variants.get(sendable)?.values() ?? []) this.#driver.dropVariant(id)
    this.#variants.delete(sendable)
  }

  /** @internal */
  closeBatch(batch: Batch<object>): void {
    check(batch.state !== 'in-flight', 'ERR_SPEADCAST_BATCH_STATE', () => 'close: the batch is in flight; await batch.free first')
    this.#batches.delete(batch)
    if (!this.#closed) this.#dropVariants(batch.compiled)
    batch.compiled.region.release()
  }

  /** @internal */
  harvest(): void {
    this.#submissions.harvest()
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
    const { deadlineSeconds } = options
    check(
      deadlineSeconds === undefined || (Number.isFinite(deadlineSeconds) && deadlineSeconds >= 0),
      'ERR_SPEADCAST_CONFIG',
      () => `close: deadlineSeconds is ${deadlineSeconds}; it must be a number of seconds from 0 up`,
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
        timer = setTimeout(() => {
          late = true
          resolve()
        }, deadlineSeconds * 1000)
      })
      await Promise.race([this.#submissions.drained(), deadline])
      clearTimeout(timer)
    }
    const unsent = this.#submissions.unsentHeaps
    await this.#shutDown(late ? STOP_ABORT : STOP_DRAIN)
    if (late) {
      // What the deadline cut off is reported here, once.
      this.#failures = []
      return { droppedHeaps: this.#submissions.unsentHeaps - unsent }
    }
    this.#rethrow()
    return { droppedHeaps: 0 }
  }

  /** Aborts: queued sends reject, posted ones settle as far as they got, everything is closed. Idempotent. */
  async destroy(): Promise<void> {
    this.#closing ??= this.#shutDown(STOP_ABORT).then(() => ({ droppedHeaps: 0 }))
    Atomics.store(this.#ring.control, C_STOP, STOP_ABORT)
    this.#driver.submitted()
    await this.#closing.catch(() => {})
  }

  async #shutDown(stop: number): Promise<void> {
    if (Atomics.load(this.#ring.control, C_STOP) !== STOP_ABORT) Atomics.store(this.#ring.control, C_STOP, stop)
    await this.#driver.stopped()
    this.#submissions.harvest()
    this.#submissions.die(new SpeadcastError('ERR_SPEADCAST_CLOSED', 'the stream is closed'))
    this.#closed = true
    for (const batch of [...this.#batches]) batch.close()
    for (const pool of this.#prepared.values()) for (const prepared of pool) prepared.region.release()
    this.#prepared.clear()
  }

  /** Drains and closes; no error if it is closed or closing already. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  stats(): StreamStats {
    return {
      ...readCounters(this.#ring.counters),
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

  #reportOverwrite(): void {
    process.emitWarning('a batch was written while it was in flight: what was sent is a mixture; await batch.free before writing', {
      code: 'SPEADCAST_OVERWRITE',
    })
  }
}

const IDLE = { onFree: () => {}, resolve: () => {}, reject: () => {} }

function checkHeapRate(rate: number): void {
  check(
    rate === -1 || (rate >= 0 && Number.isFinite(rate)),
    'ERR_SPEADCAST_CONFIG',
    () => `heap rate is ${rate}; it must be bytes per second, 0 for unlimited or −1 for the stream's`,
  )
}
