import type { GroupMode } from '../batch/compile.js'
import type { ExternalMemory } from '../batch/external-memory.js'
import { type BatchConfig, BatchTemplate } from '../batch/template.js'
import type { BatchHandle, HeapViews, ImmediateColumn } from '../batch/views.js'
import { INSPECT, type Inspection, inspected } from '../errors.js'
import type { ItemGroup } from '../spead/index.js'
import type { BatchResult } from './result.js'
import type { SendPromise } from './send-promise.js'

/** Options of `stream.createBatch`. */
export interface BatchOptions {
  /** The items of every heap, with fixed shapes. Values they have now are copied into every heap. */
  items: ItemGroup
  /** Heaps per batch, at least 1. */
  heaps: number
  /**
   * Order of packets: 'serial' (default) heap after heap, 'round-robin' one packet of each heap in turn, 'by-substream' all heaps of one
   * substream before those of the next. GroupMode says what that means to a receiver.
   */
  groupMode?: GroupMode
  /** Substream (endpoint index) of each heap: one for all, a list, or a function of the heap's index. Default: j mod endpoints. */
  substreams?: number | readonly number[] | ((heap: number) => number)
  /** Bytes per second of each heap: −1 the stream's rate, 0 unlimited. Default: the stream's. Only with a stream rate. */
  rates?: readonly number[]
  /** Items whose samples live in memory of yours: regions from Region.allocate or Region.fromFd. */
  memory?: Readonly<Record<string, ExternalMemory>>
}

/** @internal The services of the stream to its batches. */
export interface BatchOwner {
  /** A turn of the event loop, if it had none for too long. */
  breathe(): Promise<void> | undefined
  /** Settles the sends that the engine has settled, and waits a moment for the batch. */
  awaitBriefly(batch: { readonly state: string }): void
  closeBatch(batch: Batch<object>): void
}

/**
 * A batch of a stream. Write `heap(j)` views and `immediate(name)` columns, `send` it, wait for `free`, write again; batch/sendable.ts has
 * the table of states.
 */
export class Batch<T extends object = HeapViews> {
  /** @internal */
  readonly template: BatchTemplate<T>
  readonly #owner: BatchOwner
  #inFlight: SendPromise<BatchResult> | undefined
  #closed = false
  #waiting: Promise<void> | undefined

  /** @internal */
  constructor(owner: BatchOwner, config: BatchConfig) {
    this.#owner = owner
    this.template = new BatchTemplate<T>(config)
  }

  get heaps(): number {
    return this.template.heaps
  }

  get packetsPerHeap(): number {
    return this.template.packetsPerHeap
  }

  /** True when every heap is one packet and stands beside its header, the fastest layout. */
  get interleaved(): boolean {
    return this.template.interleaved
  }

  get state(): 'free' | 'in-flight' | 'closed' {
    if (this.#closed) return 'closed'
    return this.#inFlight ? 'in-flight' : 'free'
  }

  /** The views of heap j's addressed items, by name. Valid until the batch is closed; do not write while the batch is in flight. */
  heap(j: number): T {
    return this.template.views.heap(j)
  }

  /** The views of one item, heap by heap. */
  item<K extends keyof T & string>(name: K): Generator<T[K]> {
    return this.template.views.item(name)
  }

  /**
   * The staged values of an immediate item, one per heap, put into the headers when the batch is sent. Integers are exact to the
   * item's width; an immediate that is not one number is staged as its bytes read as a big-endian integer.
   */
  immediate(name: string): ImmediateColumn {
    return this.template.immediate(name)
  }

  /** Heap cnts, one per heap: −1 (default) takes the sequence's next and others are sent as they are. */
  get cnts(): Float64Array {
    return this.template.cnts
  }

  /** Plain data from which attachBatch makes the same views in another thread of this process. */
  handle(): BatchHandle {
    return this.template.handle()
  }

  /**
   * Resolves when the previous send of this batch has settled, whatever its fate; never rejects. Now and then it also lets the event
   * loop turn: a loop that awaits only settled promises would starve timers and sockets (docs/ground-rules.md, "Threads and
   * workers").
   */
  get free(): Promise<void> {
    if (this.#inFlight) this.#owner.awaitBriefly(this)
    if (!this.#inFlight) return this.#owner.breathe() ?? FREE
    this.#waiting ??= this.#inFlight.settled()
    return this.#waiting
  }

  /** Gives the memory back; views must not be used any more. @throws ERR_SPEADCAST_BATCH_STATE while in flight. Idempotent. */
  close(): void {
    if (this.#closed) return
    this.#owner.closeBatch(this as unknown as Batch<object>)
    this.#closed = true
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('Batch', how, () => {
      const { state, packetsPerHeap, interleaved, template } = this
      return { state, ...template.views.shown(), packetsPerHeap, interleaved }
    })
  }

  /** @internal The promise of the send under way, undefined when it has settled. */
  setInFlight(promise: SendPromise<BatchResult> | undefined): void {
    this.#inFlight = promise
    this.#waiting = undefined
  }
}

const FREE = Promise.resolve()
