import type { ImmediateColumn } from '../batch/column.js'
import type { GroupMode } from '../batch/compile.js'
import type { ExternalMemory } from '../batch/external-memory.js'
import { type BatchConfig, BatchTemplate } from '../batch/template.js'
import type { ClassesFor, HeapOf, HeapViews, ViewClasses } from '../batch/view-types.js'
import type { BatchHandle } from '../batch/views.js'
import { INSPECT, type Inspection, inspected } from '../errors.js'
import type { ItemGroup } from '../spead/index.js'
import type { BatchResult } from './result.js'
import type { SendPromise } from './send-promise.js'

/**
 * Options of `stream.createBatch`.
 * @example stream.createBatch({ items, heaps: 64, groupMode: 'by-substream', substreams: (j) => j % 16 })
 */
export interface BatchOptions<G = unknown, V extends ViewClasses = ViewClasses> {
  /** The items of every heap, with fixed shapes. Values they have now are copied into every heap. */
  items: ItemGroup<G>
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
  memory?: Readonly<Partial<Record<keyof HeapOf<G> & string, ExternalMemory>>>
  /**
   * The class of each item's view, by name: `{ samples: Int16Array }`. It gives the views their types where the type of `items` does not, and is
   * checked against the items in any case (ERR_SPEADCAST_ITEM). Default: what the type of `items` says.
   */
  views?: V & ClassesFor<G, V>
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
 * the table of states. `T` has the views of a heap by item name, and `I` the names of its immediates:
 * `Batch<{ adc_samples: Int8Array }, 'timestamp'>`. `Batch<object>` is any batch, as `send` takes it.
 * @example
 * await batch.free
 * batch.heap(0).adc_samples.fill(1)
 * stream.send(batch)
 */
export class Batch<T extends object = HeapViews, I extends string = string> {
  /** @internal */
  readonly template: BatchTemplate<T, I>
  readonly #owner: BatchOwner
  #inFlight: SendPromise<BatchResult> | undefined
  #closed = false
  #waiting: Promise<void> | undefined

  /** @internal */
  constructor(owner: BatchOwner, config: BatchConfig) {
    this.#owner = owner
    this.template = new BatchTemplate<T, I>(config)
  }

  /** How many heaps it has. */
  get heaps(): number {
    return this.template.heaps
  }

  /** Packets of each heap. The first heap of a substream has more where descriptors go in band. */
  get packetsPerHeap(): number {
    return this.template.packetsPerHeap
  }

  /** True when every heap is one packet and stands beside its header, the fastest layout. */
  get interleaved(): boolean {
    return this.template.interleaved
  }

  /** 'free': it may be written and sent; 'in-flight': it may be neither; 'closed': its memory was given back. */
  get state(): 'free' | 'in-flight' | 'closed' {
    if (this.#closed) return 'closed'
    return this.#inFlight ? 'in-flight' : 'free'
  }

  /**
   * The views of the items of heap `j` (from 0 up) that stand in the heap payload, by name. Views are made once, and valid until the batch is closed.
   * Do not write while the batch is in flight: `await batch.free` first.
   *
   * | item | view |
   * |---|---|
   * | 'i1' … '<u4', '<f4', '<f8' | Int8Array … Uint32Array, Float32Array, Float64Array |
   * | '<i8', '<u8', '<M8', '<m8' | BigInt64Array, BigUint64Array |
   * | '<c8', '<c16' | Float32Array, Float64Array: re, im, re, im … |
   * | '<f2' | Uint16Array of the bits, because Node 20 has no Float16Array |
   * | '>i2' and other big-endian numbers | BigEndianView, BigEndianBigIntView: `get`, `set`, `fill`; an index throws |
   * | structured, '[("re", "<i2"), ("im", "<i2")]' | StructView: `field(name)` has the values of a field |
   * | formats, booleans, strings, 'f16', 'c32', 'V8' | Uint8Array of the bytes of the wire |
   *
   * ```ts
   * batch.heap(0).adc_samples.set(samples)
   * ```
   * @throws ERR_SPEADCAST_VALUE for a heap that there is not. A name that has no view throws ERR_SPEADCAST_ITEM when it is read; an immediate
   *   has a column instead.
   * @example batch.heap(0).adc_samples.fill(1)
   */
  heap(j: number): T {
    return this.template.views.heap(j)
  }

  /**
   * The views of one item, heap by heap: `for (const view of batch.item('adc_samples')) view.fill(0)`.
   * @throws ERR_SPEADCAST_ITEM for a name that has no view
   * @example for (const samples of batch.item('adc_samples')) samples.fill(0)
   */
  item<K extends keyof T & string>(name: K): Generator<T[K]> {
    return this.template.views.item(name)
  }

  /**
   * The staged values of an immediate item, one per heap, put into the headers when the batch is sent: `batch.immediate('timestamp').setRamp(0, 8192)`.
   * Integers are exact to the item's width, and to 2^53; an immediate that is not one number is staged as its bytes read as a big-endian integer.
   * An item is an immediate where it has at most as many bytes as the flavour's item pointer holds, 6 in SPEAD-64-48, unless it was added
   * with `allowImmediate: false`. Valid until the batch is closed.
   * @throws ERR_SPEADCAST_ITEM for a name that is no immediate
   * @example batch.immediate('timestamp').setRamp(0, 8192)
   */
  immediate(name: I): ImmediateColumn {
    return this.template.immediate(name)
  }

  /** Heap cnts, one per heap: −1 (default) takes the sequence's next and others are sent as they are. */
  get cnts(): Float64Array {
    return this.template.cnts
  }

  /**
   * Plain data from which attachBatch makes the same views in another thread of this process: `worker.postMessage(batch.handle())`.
   * @throws ERR_SPEADCAST_BATCH_STATE when the batch is closed
   * @example worker.postMessage(batch.handle()) // attachBatch there makes the same views
   */
  handle(): BatchHandle<T, I> {
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

  /**
   * Gives the memory back; views must not be used any more. @throws ERR_SPEADCAST_BATCH_STATE while in flight. Idempotent.
   * @example batch.close()
   */
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
