/**
 * Processes received packets, whichever way they came: decodes and assembles them, then per heap takes descriptors, verifies, writes and
 * delivers, and decides whether this was the end. Runs in the receiving thread, where receiver-worker.ts or dgram-receiver.ts feeds it.
 */
import { ITEM_DESCRIPTOR } from '../spead/constants.js'
import { ADDED, Assembler, DUPLICATE } from './assemble.js'
import type { AssembledHeap } from './assembled-heap.js'
import { decodePacket, PACKET_OK, PacketHeader } from './decode.js'
import { ItemTable, LAST_RESERVED_ID } from './items.js'
import { Output, type OutputFileSummary, type OutputOrder } from './output.js'
import { STAGE_BYTES } from './output-file.js'
import { type ReceivedDescriptor, readDescriptors } from './received-descriptor.js'
import {
  controlOf,
  copyHeap,
  dataBytesOf,
  descriptorItems,
  immediateBytes,
  putImmediate,
  type ReceivedHeap,
} from './received-heap.js'
import { HeapStorage } from './storage.js'
import { greatestCommonDivisor, PatternVerifier, TUTORIAL_SAMPLES } from './verify.js'

/** Names of the counters, which are doubles in shared memory. The receiving thread alone writes them. */
export const STAT_NAMES = [
  /** Packets that became part of a heap. */
  'packets',
  /** UDP payload bytes of all datagrams. */
  'bytes',
  /** Reads that gave those bytes: datagrams, or runs of them that the kernel coalesced (UDP_GRO). */
  'messages',
  /** Complete heaps with data; descriptor-only and stream control heaps are in `controlHeaps`. */
  'heaps',
  'controlHeaps',
  /** Heaps given up with packets missing. */
  'heapsIncomplete',
  'heapsCorrupt',
  /** Heaps dropped because the consumer was too slow (node:dgram only: the native receiver leaves packets in the socket instead). */
  'heapsDiscarded',
  /** Packets that came again, or came for a heap already finished or given up. */
  'duplicates',
  /** Datagrams that are not SPEAD, or contradict their heap. */
  'malformed',
  /** Datagrams, or coalesced runs of them, that found the socket buffer full; NaN where nobody counts them (node:dgram). */
  'droppedByKernel',
  /** Item data of the heaps in `heaps`. */
  'payloadBytes',
] as const
export type StatName = (typeof STAT_NAMES)[number]
/** Indices of the counters. A session's `stats` has one for each name. */
export const STAT = Object.fromEntries(STAT_NAMES.map((name, i) => [name, i])) as Readonly<Record<StatName, number>>

/** 'output': the output could not be written, see `outputError`. */
export type EndReason = 'stop' | 'heaps' | 'timeout' | 'closed' | 'aborted' | 'output'

/** Structured-cloneable: it crosses to the worker. */
export interface SessionOptions {
  readonly endpoints: number
  readonly maxHeaps: number
  /** Milliseconds from the start, Infinity for none. */
  readonly timeoutMs: number
  /** The number of complete data heaps after which to end; Infinity: none ends it. */
  readonly heaps: number
  /** The number of stop heaps after which to end; Infinity: none ends it. */
  readonly stops: number
  readonly verify: boolean
  readonly hash: boolean
  readonly outputFd?: number | undefined
  readonly outputPath?: string | undefined
  /** Default 'cnt'. */
  readonly order?: OutputOrder | undefined
  /** Name or number of the item for output and hash. */
  readonly item: string | number
  readonly deliver: boolean
  /** BUG_COMPAT flags of the descriptors; undefined: inferred. */
  readonly bugCompat?: number | undefined
}

export interface SeenItem {
  readonly id: number
  readonly name: string | null
  readonly description: string | null
  readonly dtype: string | null
  readonly shape: (number | null)[] | null
  readonly format: [code: string, bits: number][]
}

export interface SessionSummary {
  readonly reason: EndReason
  /** From the first packet to the last. */
  readonly seconds: number
  readonly items: SeenItem[]
  /** Heap cnts between the lowest and the highest seen that never came, if they are spaced as regularly as those that did. */
  readonly heapsMissing: number
  /** With `verify`: the same by timestamps. */
  readonly verifyMissing: number
  readonly corruptExamples: string[]
  readonly sha256: string | null
  readonly outputBytes: number
  /** Data heaps that are not in the output: too late for the window, without the item, or because nothing could be written. */
  readonly outputLeftOut: number
  /** Says which write failed, and where that file ends; null if none did. */
  readonly outputError: string | null
  readonly outputFiles: readonly OutputFileSummary[]
}

/** Quiet time after which a stop heap is believed, because packets may come after it. */
const LINGER_MS = 20
const LINGER_INCOMPLETE_MS = 100
const LINGER_AT_MOST_MS = 1000
const SCRATCH_BYTES = 4096
const WINDOW_HEAPS = 1024
const WINDOW_BYTES = 96 << 20
const FIRST_HEAPS = 16
const MAX_DESCRIPTORS = 4096
const NO_DESCRIPTORS: ReceivedDescriptor[] = []

export class ReceiveSession {
  /** Copies of finished heaps for the consumer, if `deliver`; the driver empties it. */
  readonly outbox: ReceivedHeap[] = []
  readonly #options: SessionOptions
  readonly #stats: Float64Array
  readonly #u8: Uint8Array
  readonly #view: DataView
  readonly #packet = new PacketHeader()
  readonly #table = new ItemTable()
  readonly #known = new Map<number, ReceivedDescriptor>()
  readonly #seenIds = new Set<number>()
  readonly #assembler: Assembler
  readonly #verifier: PatternVerifier | undefined
  readonly #output: Output | undefined
  readonly #scratchAt: number
  #itemId: number
  #leftOut = 0
  #stops = 0
  #ending = false

  #startedAt = 0
  #firstAt = -1
  #lastAt = 0
  #stoppedAt = -1

  // Heap cnts, unwrapped: a sequence may pass the width of its flavour.
  #cntSeen = false
  #cntHighest = 0
  #cntLowest = 0
  #cntStep = 0
  #cntHeaps = 0

  /**
   * @param freeAt where memory starts in `buffer` that the driver does not use; a multiple of 4096
   * @param nameOf returns a sender's address and port as text; null where the driver has forgotten them
   */
  constructor(
    buffer: ArrayBuffer,
    freeAt: number,
    options: SessionOptions,
    stats: Float64Array,
    nameOf?: (sender: number) => string | null,
  ) {
    this.#options = options
    this.#stats = stats
    this.#u8 = new Uint8Array(buffer)
    this.#view = new DataView(buffer)
    this.#scratchAt = freeAt
    const wantsOutput = options.hash || options.outputFd !== undefined
    const storage = new HeapStorage(freeAt + SCRATCH_BYTES + (wantsOutput ? STAGE_BYTES : 0), buffer.byteLength)
    this.#verifier = options.verify ? new PatternVerifier(buffer) : undefined
    this.#output = wantsOutput
      ? new Output(buffer, freeAt + SCRATCH_BYTES, storage, {
          order: options.order ?? 'cnt',
          fd: options.outputFd,
          path: options.outputPath ?? '',
          hash: options.hash,
          windowHeaps: WINDOW_HEAPS,
          windowBytes: Math.min(WINDOW_BYTES, storage.capacity / 2),
          // Sockets are read in turn, so heaps of several endpoints come far out of order.
          firstHeaps: options.endpoints > 1 ? WINDOW_HEAPS : FIRST_HEAPS,
          endpoints: options.endpoints,
          nameOf,
          receivingBelow: (sender, cnt) => this.#assembler.receivingBelow(sender, cnt),
        })
      : undefined
    this.#assembler = new Assembler(buffer, {
      maxHeaps: options.maxHeaps,
      storage,
      onHeap: (heap) => this.#onHeap(heap),
      onPressure: () => this.#output?.releaseLowest() ?? false,
    })
    this.#itemId = typeof options.item === 'number' ? options.item : options.item === 'adc_samples' ? TUTORIAL_SAMPLES : -1
  }

  start(nowMs: number): void {
    this.#startedAt = nowMs
    this.tick(nowMs)
  }

  /** Call it before and after a run of datagrams. */
  arrived(nowMs: number): void {
    if (this.#firstAt < 0) this.#firstAt = nowMs
    this.#lastAt = nowMs
  }

  /** Takes a datagram, which lies in the buffer at `at`. Allocates only where heaps are delivered or descriptors come. */
  packet(at: number, length: number, sender: number, endpoint: number): void {
    if (this.#stats[STAT.heaps]! >= this.#options.heaps) return
    const stats = this.#stats
    stats[STAT.bytes]! += length
    if (decodePacket(this.#view, at, length, this.#packet) !== PACKET_OK) {
      stats[STAT.malformed]!++
      return
    }
    const verdict = this.#assembler.add(this.#packet, sender, endpoint)
    if (verdict === ADDED) stats[STAT.packets]!++
    else if (verdict === DUPLICATE) stats[STAT.duplicates]!++
    else stats[STAT.malformed]!++
  }

  /** Call it at each turn, however few packets come: the output is written at least every second. */
  tick(nowMs: number): void {
    this.#assembler.now = nowMs | 0
    this.#output?.tick(nowMs)
  }

  /** Counts a read of the socket. Call `packet` for each datagram of it afterwards. */
  message(): void {
    this.#stats[STAT.messages]!++
  }

  /** Counts a datagram that was longer than the buffer it came into. */
  truncated(): void {
    this.#stats[STAT.malformed]!++
  }

  /** Returns the reason to end now, if there is one. @param quiet no datagram was waiting just now */
  ended(nowMs: number, quiet: boolean): EndReason | undefined {
    if (this.#output?.failure) return 'output'
    if (this.#stats[STAT.heaps]! >= this.#options.heaps) return 'heaps'
    if (this.#stops >= this.#options.stops) {
      if (this.#stoppedAt < 0) this.#stoppedAt = nowMs
      const silence = nowMs - Math.max(this.#lastAt, this.#stoppedAt)
      if (quiet && silence >= (this.#assembler.live === 0 ? LINGER_MS : LINGER_INCOMPLETE_MS)) return 'stop'
      if (nowMs - this.#stoppedAt >= LINGER_AT_MOST_MS) return 'stop'
    }
    return nowMs - this.#startedAt >= this.#options.timeoutMs ? 'timeout' : undefined
  }

  /**
   * Returns how long the driver may sleep: 50 ms at most, because process.exit() waits for it (docs/ground-rules.md, "Threads and workers"),
   * and less while the end is near.
   */
  sleepMs(nowMs: number): number {
    const left = this.#startedAt + this.#options.timeoutMs - nowMs
    return Math.max(1, Math.min(this.#stoppedAt >= 0 ? 10 : 50, Math.ceil(left)))
  }

  /** Gives up unfinished heaps and writes those that wait. Call it once, at the end. */
  finish(reason: EndReason): SessionSummary {
    this.#ending = true
    // When the wanted number is reached, nobody waits for the heaps in the making, so they do not count as lost.
    if (reason !== 'heaps') this.#assembler.flush()
    const sha256 = this.#output?.finish() ?? null
    const cnts = this.#cntStep > 0 ? (this.#cntHighest - this.#cntLowest) / this.#cntStep + 1 : this.#cntHeaps
    return {
      reason,
      seconds: this.#firstAt < 0 ? 0 : (this.#lastAt - this.#firstAt) / 1000,
      items: this.#itemsSeen(),
      heapsMissing: Math.max(0, cnts - this.#cntHeaps),
      verifyMissing: this.#verifier?.missing ?? 0,
      corruptExamples: this.#verifier?.examples ?? [],
      sha256,
      outputBytes: this.#output?.bytes ?? 0,
      outputLeftOut: (this.#output?.late ?? 0) + this.#leftOut,
      outputError: this.#output?.failure ?? null,
      outputFiles: this.#options.outputFd === undefined ? [] : (this.#output?.summaries ?? []),
    }
  }

  #onHeap(heap: AssembledHeap): void {
    const stats = this.#stats
    // More heaps may finish than were asked for, because the assembler makes room or flushes.
    if (!this.#ending && stats[STAT.heaps]! >= this.#options.heaps) return
    const table = this.#table
    table.load(heap)
    const cnt = this.#unwrap(heap)
    const control = controlOf(table)
    const descriptors = heap.complete && table.find(ITEM_DESCRIPTOR) >= 0 ? this.#learn(heap) : NO_DESCRIPTORS
    const dataBytes = dataBytesOf(table)
    if (!heap.complete) stats[STAT.heapsIncomplete]!++
    else if (dataBytes >= 0) {
      stats[STAT.heaps]!++
      stats[STAT.payloadBytes]! += dataBytes
      this.#noteIds()
      if (this.#verifier) {
        this.#verifier.check(heap, table, this.#known)
        stats[STAT.heapsCorrupt] = this.#verifier.corrupt
      }
    } else stats[STAT.controlHeaps]!++
    if (this.#options.deliver) this.outbox.push(copyHeap(heap, table, this.#u8, this.#known, descriptors))
    if (this.#output) this.#write(this.#output, heap, cnt, heap.complete && dataBytes >= 0)
    if (control !== undefined) {
      if (control === 'stop' && heap.complete) this.#stops++
      // The same cnts may come again now, because the sender may start anew.
      this.#assembler.forgetFinished()
      this.#output?.forget(heap.sender, heap.endpoint)
    }
  }

  #write(output: Output, heap: AssembledHeap, cnt: number, hasData: boolean): void {
    const table = this.#table
    // Below table.count, or −1.
    const i = hasData ? table.find(this.#itemId) : -1
    if (i < 0) {
      if (hasData) this.#leftOut++
      output.add(heap.sender, cnt, 0, -1, heap)
    } else if (table.immediate[i]) {
      const length = immediateBytes(this.#known.get(this.#itemId), heap.addressBytes)
      putImmediate(table, i, this.#u8, this.#scratchAt, length)
      output.add(heap.sender, cnt, this.#scratchAt, length, heap)
    } else output.add(heap.sender, cnt, heap.at + table.offset[i]!, table.length[i]!, heap)
  }

  #learn(heap: AssembledHeap): ReceivedDescriptor[] {
    const found: ReceivedDescriptor[] = []
    const { bugCompat } = this.#options
    for (const reading of readDescriptors(descriptorItems(heap, this.#table, this.#u8), bugCompat)) {
      if (!('descriptor' in reading)) continue
      const { descriptor } = reading
      if (this.#known.size >= MAX_DESCRIPTORS && !this.#known.has(descriptor.id)) continue
      found.push(descriptor)
      this.#known.set(descriptor.id, descriptor)
      if (descriptor.name === this.#options.item) this.#itemId = descriptor.id
    }
    return found
  }

  #noteIds(): void {
    const { count, ids } = this.#table
    // There are at least `count` ids.
    for (let i = 0; i < count; i++) {
      const id = ids[i]!
      if (id > LAST_RESERVED_ID && !this.#seenIds.has(id) && this.#seenIds.size < MAX_DESCRIPTORS) this.#seenIds.add(id)
    }
  }

  /** Returns the heap cnt continued across wraps of its width, as near as can be to the highest so far, and notes gaps. */
  #unwrap(heap: AssembledHeap): number {
    let cnt = heap.cntNumber
    if (!this.#cntSeen) {
      this.#cntSeen = true
      this.#cntHighest = cnt
      this.#cntLowest = cnt
    } else {
      const period = 2 ** (heap.addressBytes * 8)
      const turns = Math.round((this.#cntHighest - cnt) / period)
      cnt += turns * period
      if (this.#cntStep !== 1) this.#cntStep = greatestCommonDivisor(Math.abs(cnt - this.#cntHighest), this.#cntStep)
      if (cnt > this.#cntHighest) this.#cntHighest = cnt
      if (cnt < this.#cntLowest) this.#cntLowest = cnt
    }
    this.#cntHeaps++
    return cnt
  }

  #itemsSeen(): SeenItem[] {
    const ids = new Set([...this.#known.keys(), ...this.#seenIds])
    return [...ids].map((id) => {
      const descriptor = this.#known.get(id)
      return {
        id,
        name: descriptor?.name ?? null,
        description: descriptor?.description ?? null,
        dtype: descriptor?.dtype ?? null,
        shape: descriptor?.shape ?? null,
        format: descriptor?.format ?? [],
      }
    })
  }
}
