/**
 * Processes received packets, whichever way they came: decodes and assembles them, then per heap takes descriptors, verifies, writes and
 * delivers, and decides whether this was the end. Runs in the receiving thread, where receiver-worker.ts or dgram-receiver.ts feeds it.
 */
import { ITEM_DESCRIPTOR } from '../spead/constants.js'
import { ADDED, Assembler, DUPLICATE, REFUSED } from './assemble.js'
import type { AssembledHeap } from './assembled-heap.js'
import { type Budget, tableBudget } from './budget.js'
import { decodePacket, PACKET_OK, PacketHeader } from './decode.js'
import { ItemTable, LAST_RESERVED_ID } from './items.js'
import type { KnownItems } from './known-items.js'
import { Output } from './output.js'
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
import { Refusals } from './refusals.js'
import type { Sender } from './sender.js'
import { Senders } from './senders.js'
import { addTo, STAT, statsAt } from './stats.js'
import { HeapStorage } from './storage.js'
import type { EndReason, SeenItem, SessionOptions, SessionSummary } from './summary.js'
import { PatternVerifier, TUTORIAL_SAMPLES } from './verify.js'

export { STAT, STAT_NAMES, type StatName, statWords } from './stats.js'
export type { EndReason, SeenItem, SessionOptions, SessionSummary } from './summary.js'

/** Quiet time after which a stop heap is believed, because packets may come after it. */
const LINGER_MS = 20
const LINGER_INCOMPLETE_MS = 100
const LINGER_AT_MOST_MS = 1000
/** Silence of a sender after which its heaps that do not say how long they are have come to their end. */
const OPEN_MS = 1000
const SCRATCH_BYTES = 4096
/** Bytes that a session takes of its buffer besides the memory for heaps, at most. */
export const SESSION_BYTES = SCRATCH_BYTES + STAGE_BYTES
const WINDOW_HEAPS = 1024
const WINDOW_BYTES = 96 << 20
const FIRST_HEAPS = 16
/** Item ids that the summary tells. */
const MAX_SEEN = 4096
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
  /** Bounds the memory for everything but the payload of heaps. A source charges it for the parts of packets that it keeps. */
  readonly budget: Budget
  readonly #refusals: Refusals
  readonly senders: Senders
  readonly #seenIds = new Set<number>()
  readonly #assembler: Assembler
  readonly #verifier: PatternVerifier | undefined
  readonly #output: Output | undefined
  readonly #scratchAt: number
  #leftOut = 0
  #stops = 0
  #flushing = false

  #startedAt = 0
  #firstAt = -1
  #lastAt = 0
  #stoppedAt = -1
  /** Time in which there was nothing to take; a receiver that is held up hears of no pause. */
  #idleMs = 0
  /** When there was nothing to take, −1 if there was something. */
  #quietAt = -1

  /**
   * @param freeAt where memory starts in `buffer` that the driver does not use; a multiple of 4096
   * @param nameOf returns a sender's address and port as text; null where the driver has forgotten them
   */
  constructor(
    buffer: ArrayBuffer,
    freeAt: number,
    options: SessionOptions,
    stats: Float64Array,
    nameOf: (number: number) => string | null = () => null,
  ) {
    this.#options = options
    this.#stats = stats
    this.#u8 = new Uint8Array(buffer)
    this.#view = new DataView(buffer)
    this.#scratchAt = freeAt
    const { endpoints, verify, anySource, cntStep, item, maxHeaps } = options
    const wantsOutput = options.hash || options.outputFd !== undefined
    const heapsAt = freeAt + SCRATCH_BYTES + (wantsOutput ? STAGE_BYTES : 0)
    const storage = new HeapStorage(heapsAt, Math.min(buffer.byteLength, heapsAt + options.memoryBytes))
    this.budget = tableBudget(options.memoryBytes)
    this.#refusals = new Refusals(stats, storage.capacity, this.budget.limitBytes)
    const wanted = typeof item === 'string' ? item : ''
    const onForgotten = ({ number }: Sender) => {
      stats[STAT.sendersForgotten]!++
      this.#output?.drop(number)
    }
    this.senders = new Senders({ budget: this.budget, endpoints, verify, anySource, cntStep, item: wanted, onForgotten })
    this.#verifier = verify ? new PatternVerifier(buffer, endpoints) : undefined
    this.#output = wantsOutput
      ? new Output(buffer, freeAt + SCRATCH_BYTES, storage, {
          order: options.order ?? 'cnt',
          fd: options.outputFd,
          path: options.outputPath ?? '',
          hash: options.hash,
          windowHeaps: WINDOW_HEAPS,
          windowBytes: Math.min(WINDOW_BYTES, storage.capacity / 2),
          // Sockets are read in turn, so heaps of several endpoints come far out of order.
          firstHeaps: endpoints > 1 ? WINDOW_HEAPS : FIRST_HEAPS,
          endpoints,
          nameOf,
          receivingBelow: (sender, cnt) => this.#assembler.receivingBelow(sender, cnt),
        })
      : undefined
    this.#assembler = new Assembler(buffer, {
      maxHeaps,
      storage,
      budget: this.budget,
      refusals: this.#refusals,
      onHeap: (heap) => this.#onHeap(heap),
      onStop: (heap) => this.#onStop(heap),
      onRun: (sender) => this.#onRun(sender),
      onPressure: () => this.#output?.releaseLowest() ?? false,
    })
  }

  start(nowMs: number): void {
    this.#startedAt = nowMs
    this.look(nowMs)
  }

  /**
   * Call it before a look for datagrams, and before each that comes by itself; at each turn at least, because the output is written
   * every second.
   */
  look(nowMs: number): void {
    if (this.#quietAt >= 0) {
      this.#idleMs += nowMs - this.#quietAt
      this.#quietAt = -1
    }
    this.#assembler.nowMs = nowMs
    this.#output?.tick(nowMs)
  }

  /** Call it before and after a run of datagrams. */
  arrived(nowMs: number): void {
    if (this.#firstAt < 0) this.#firstAt = nowMs
    this.#lastAt = nowMs
  }

  /**
   * Takes a datagram, which lies in the buffer at `at`. Allocates only where heaps are delivered, descriptors come, or a sender is
   * new.
   * @param from a number for its source address and port, below 2^31
   */
  packet(at: number, length: number, from: number, endpoint: number): void {
    const stats = this.#stats
    if (stats[STAT.heaps]! >= this.#options.heaps) return
    // Written out, because a call for each counter costs some 10 ns a packet.
    const own = statsAt(endpoint)
    stats[STAT.bytes]! += length
    stats[own + STAT.bytes]! += length
    if (decodePacket(this.#view, at, length, this.#packet) !== PACKET_OK) {
      addTo(stats, STAT.malformed, endpoint)
      return
    }
    const sender = this.senders.of(from, endpoint)
    sender.hear(this.#idleMs)
    const verdict = this.#assembler.add(this.#packet, sender, from, endpoint)
    sender.packetDone()
    if (verdict === ADDED) {
      stats[STAT.packets]!++
      stats[own + STAT.packets]!++
      if (sender.steppedBack(this.#packet)) addTo(stats, STAT.reordered, endpoint)
    } else if (verdict === DUPLICATE) addTo(stats, STAT.duplicates, endpoint)
    else if (verdict === REFUSED) {
      addTo(stats, STAT.packets, endpoint)
      addTo(stats, STAT.packetsRefused, endpoint)
    } else addTo(stats, STAT.malformed, endpoint)
  }

  /** Counts a read of the socket. Call `packet` for each datagram of it afterwards. */
  message(endpoint: number): void {
    addTo(this.#stats, STAT.messages, endpoint)
  }

  /** Counts a datagram that was longer than the buffer it came into. */
  truncated(endpoint: number): void {
    addTo(this.#stats, STAT.malformed, endpoint)
  }

  /** A source found no memory for a packet that has not come whole. */
  noRoom(): void {
    this.#refusals.noRoom()
  }

  /** Returns the reason to end now, if there is one. @param quiet no datagram was waiting just now */
  ended(nowMs: number, quiet: boolean): EndReason | undefined {
    if (quiet) {
      this.look(nowMs)
      this.#quietAt = nowMs
      this.#assembler.endOpen(this.#idleMs - OPEN_MS)
    }
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
    this.#flushing = true
    // When the wanted number is reached, nobody waits for the heaps in the making, so they do not count as lost.
    if (reason !== 'heaps') this.#assembler.flush()
    const stats = this.#stats
    const senders = this.senders
    const sha256 = this.#output?.finish() ?? null
    const byCnt = senders.missing
    const byPattern = senders.patternMissing
    return {
      reason: reason !== 'closed' && stats[STAT.heaps]! >= this.#options.heaps ? 'heaps' : reason,
      seconds: this.#firstAt < 0 ? 0 : (this.#lastAt - this.#firstAt) / 1000,
      items: this.#itemsSeen(),
      heapsMissing: Math.max(byCnt, byPattern - stats[STAT.heapsIncomplete]!),
      cntStep: senders.cntStep,
      verifyMissing: this.#verifier ? Math.max(byCnt, byPattern) : 0,
      corruptExamples: this.#verifier?.examples ?? [],
      refusals: this.#refusals.texts(),
      sha256,
      outputBytes: this.#output?.bytes ?? 0,
      outputLeftOut: (this.#output?.late ?? 0) + this.#leftOut,
      outputError: this.#output?.failure ?? null,
      inputError: null,
      outputFiles: this.#options.outputFd === undefined ? [] : (this.#output?.summaries ?? []),
    }
  }

  #onHeap(heap: AssembledHeap): void {
    const stats = this.#stats
    // More heaps may finish than were asked for, because the assembler makes room or flushes.
    if (!this.#flushing && stats[STAT.heaps]! >= this.#options.heaps) return
    const table = this.#table
    table.load(heap)
    // Only heaps of a sender are put together.
    const sender = heap.sender!
    const { sequence } = sender
    const control = controlOf(table)
    heap.control = control !== undefined
    const { addressBytes, cntNumber, endpoint } = heap
    if (control === 'start' && heap.complete) {
      if (sequence.started && sequence.unwrap(cntNumber, addressBytes) > sequence.highest) {
        this.#assembler.beginRun(sender)
        // Other heaps were given up for it.
        table.load(heap)
      } else sender.mark('start')
    }
    const descriptors = heap.complete && table.find(ITEM_DESCRIPTOR) >= 0 ? this.#learn(heap, sender) : NO_DESCRIPTORS
    const dataBytes = dataBytesOf(table)
    let cnt = sequence.unwrap(cntNumber, addressBytes)
    heap.empty = heap.complete && dataBytes < 0
    // A heap that lost a packet may have lost the pointers to its data: all but control heaps and those of descriptors have some.
    const counts = dataBytes >= 0 || !(heap.complete || heap.control)
    if (dataBytes >= 0 && heap.complete && (heap.comesAgain || sender.after !== undefined)) {
      if (!this.#assembler.ending && sender.beginsRun(cnt, heap.comesAgain)) {
        this.#assembler.beginRun(sender, true)
        cnt = cntNumber
      } else if (sender.after === 'start' && cnt > sequence.highest) sender.mark(undefined)
    }
    if (counts && sequence.note(cnt)) this.#forgetOrder(sender)
    if (heap.empty) sequence.noteEmpty(cnt)
    if (!heap.complete) addTo(stats, STAT.heapsIncomplete, endpoint)
    else if (dataBytes >= 0) {
      addTo(stats, STAT.heaps, endpoint)
      addTo(stats, STAT.payloadBytes, endpoint, dataBytes)
      this.#noteIds()
      if (this.#verifier) {
        this.#verifier.check(heap, table, sender, this.senders.itemsOf(sender))
        addTo(stats, STAT.heapsCorrupt, endpoint, this.#verifier.corrupt - stats[STAT.heapsCorrupt]!)
      }
    } else addTo(stats, STAT.controlHeaps, endpoint)
    if (this.#options.deliver) this.outbox.push(copyHeap(heap, table, this.#u8, this.senders.itemsOf(sender), descriptors))
    if (this.#output && (counts || sequence.isNear(cnt))) this.#write(this.#output, heap, cnt, heap.complete && dataBytes >= 0)
  }

  #onStop({ sender, cntNumber, addressBytes }: AssembledHeap): void {
    const { sequence } = sender!
    sequence.noteStop(sequence.unwrap(cntNumber, addressBytes))
    sender!.mark('stop')
    this.#stops++
    this.#assembler.ending = this.#stops >= this.#options.stops
  }

  /**
   * The order of the output is that of a socket, which may deal out its heaps among endpoints: its run ends at one after the other.
   */
  #onRun({ number, endpoint }: Sender): void {
    this.#output?.forget(number, endpoint)
  }

  #forgetOrder({ number }: Sender): void {
    this.#output?.forget(number)
  }

  #write(output: Output, heap: AssembledHeap, cnt: number, hasData: boolean): void {
    const table = this.#table
    const sender = heap.sender!
    const known = this.senders.itemsOf(sender)
    const id = this.#itemId(known)
    // Below table.count, or −1.
    const i = hasData ? table.find(id) : -1
    if (i < 0) {
      if (hasData) this.#leftOut++
      output.add(sender.number, cnt, 0, -1, heap)
    } else if (table.immediate[i]) {
      const length = immediateBytes(known.get(id), heap.addressBytes)
      putImmediate(table, i, this.#u8, this.#scratchAt, length)
      output.add(sender.number, cnt, this.#scratchAt, length, heap)
    } else output.add(sender.number, cnt, heap.at + table.offset[i]!, table.length[i]!, heap)
  }

  /** Returns the id of the item for the output in heaps of a sender, or −1. @param known by its descriptors */
  #itemId(known: KnownItems): number {
    const { item } = this.#options
    if (typeof item === 'number') return item
    const id = known.wantedId()
    return id < 0 && item === 'adc_samples' ? TUTORIAL_SAMPLES : id
  }

  #learn(heap: AssembledHeap, sender: Sender): ReceivedDescriptor[] {
    const found: ReceivedDescriptor[] = []
    const { bugCompat } = this.#options
    for (const reading of readDescriptors(descriptorItems(heap, this.#table, this.#u8), bugCompat)) {
      if (!('descriptor' in reading)) {
        this.#refusals.descriptor(reading.refused)
        continue
      }
      const { descriptor } = reading
      const own = this.senders.itemsOf(sender).learn(descriptor, sender.id)
      const any = this.senders.items.learn(descriptor, sender.id)
      if (own && any) found.push(descriptor)
      else this.#refusals.descriptor('there is no memory for more descriptors')
    }
    return found
  }

  #noteIds(): void {
    const { count, ids } = this.#table
    // There are at least `count` ids.
    for (let i = 0; i < count; i++) {
      const id = ids[i]!
      if (id > LAST_RESERVED_ID && !this.#seenIds.has(id) && this.#seenIds.size < MAX_SEEN) this.#seenIds.add(id)
    }
  }

  #itemsSeen(): SeenItem[] {
    const known = this.senders.items
    const ids = new Set([...known.ids(), ...this.#seenIds])
    return [...ids].map((id) => {
      const descriptor = known.get(id)
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
