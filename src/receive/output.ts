/**
 * Writes one item's payload into a file and a hash, heap after heap.
 *
 * - 'arrival': as heaps complete.
 * - 'cnt': each sender's heaps in the order of their cnts. Heaps of several senders stand in one file in the order in which their
 *   turns come.
 * - 'sender': the same, with a file for each sender.
 *
 * Heaps may finish out of order. Those that come early wait in a window, which is bounded in heaps and bytes for all senders
 * together, and in time, unless packets still come for a heap before them. A heap that is released early makes one that comes later
 * with a lower cnt too late: it is left out and counted. Missing heaps leave nothing in the file.
 */
import { openPlainFile } from '../../ffi/plain-file.js'
import type { AssembledHeap } from './assembled-heap.js'
import { OutputFile, OutputStage } from './output-file.js'
import { type Held, isAbove, OutputSequence } from './output-sequence.js'
import type { HeapStorage } from './storage.js'

/** The order of heaps in an output: 'arrival' as they complete, 'cnt' by heap cnt, 'sender' the same with a file for each sender. */
export type OutputOrder = 'arrival' | 'cnt' | 'sender'

export interface OutputOptions {
  readonly order: OutputOrder
  /** The file to write, with 'sender' that of the first sender; undefined: only hash. The caller opens and closes it. */
  readonly fd?: number | undefined
  /** Its path; with 'sender' `.0`, `.1` and so on are put behind it. */
  readonly path: string
  readonly hash: boolean
  /** The most heaps that may wait. */
  readonly windowHeaps: number
  readonly windowBytes: number
  /** The number of heaps of a sender that wait at the start, while nobody knows which cnt is the first. */
  readonly firstHeaps: number
  readonly endpoints: number
  /** Returns a sender's address and port as text; null where nobody knows them any more. */
  readonly nameOf?: ((sender: number) => string | null) | undefined
  /** Whether packets came in the last second for a heap of the sender that is in the making and below `cnt`. Default: none did. */
  readonly receivingBelow?: (sender: number, cnt: number) => boolean
}

/** A file that a receiver has written. */
export interface OutputFileSummary {
  /** Its path. */
  readonly path: string
  /** With order 'sender' the sender's address and port, as far as they are known. */
  readonly sender: string | null
  /** Its length. */
  readonly bytes: number
  /** SHA-256 in lower-case hexadecimal; null where a write failed. */
  readonly sha256: string | null
}

/** With a turn of the driver (50 ms) these two are less than a second. */
const WAIT_MS = 700
const TICK_MS = 200
/** Senders whose order is kept; beyond it the first is forgotten, and takes its place anew with its next heap. */
const MOST_SEQUENCES = 1024
/** Files of order 'sender'. Heaps of further senders are left out and counted, because anybody may send. */
const MOST_FILES = 256

/**
 * | state    | legal                                | leaves by                                                 |
 * |----------|--------------------------------------|-----------------------------------------------------------|
 * | open     | all                                  | a write that fails → failed; finish() → finished          |
 * | failed   | all; add() leaves heaps out          | finish() → finished                                       |
 * | finished | reading `bytes`, `late`, `summaries` | never                                                     |
 */
export class Output {
  /** Heaps that are not in the output: they came too late for their place, or nothing could be written any more. */
  late = 0
  /** Bytes in the output, those included that are not in the file yet. */
  bytes = 0
  /** Says which write failed, and where that file ends; null in state open. */
  failure: string | null = null
  /** The contents of each file; filled by finish(). */
  readonly summaries: OutputFileSummary[] = []
  #state: 'open' | 'failed' | 'finished' = 'open'
  readonly #u8: Uint8Array
  readonly #storage: HeapStorage
  readonly #options: OutputOptions
  readonly #stage: OutputStage
  readonly #files: OutputFile[] = []
  /** With 'sender' by the sender's number. */
  readonly #fileOf = new Map<number, OutputFile>()
  readonly #sequences = new Map<number, OutputSequence>()
  #recent: OutputSequence | undefined
  /** Those that wait, of all senders, by their age. */
  #oldest: Held | undefined
  #newest: Held | undefined
  #heldHeaps = 0
  #heldBytes = 0
  #now = 0
  #tickAt = 0

  /** @param stageAt where STAGE_BYTES of `buffer` are that nobody else uses */
  constructor(buffer: ArrayBuffer, stageAt: number, storage: HeapStorage, options: OutputOptions) {
    this.#u8 = new Uint8Array(buffer)
    this.#storage = storage
    this.#options = options
    this.#stage = new OutputStage(this.#u8, stageAt)
    const { order, path, fd, hash } = options
    if (order !== 'sender') this.#files.push(new OutputFile(path, fd, null, hash))
  }

  /**
   * Takes the contribution of a sender's heap `cnt`: `length` bytes at `at`, or a length of −1 for a heap without the item. If the
   * heap has to wait, its slot is kept, or its bytes are copied out of the receive buffer. A heap in order costs a copy into the
   * stage and no allocation.
   */
  add(sender: number, cnt: number, at: number, length: number, heap: AssembledHeap): void {
    if (this.#options.order === 'arrival') {
      this.#emit(sender, at, length)
      return
    }
    const recent = this.#recent
    const sequence = recent !== undefined && recent.sender === sender ? recent : this.#sequenceOf(sender)
    const run = sequence.runAt(heap.endpoint)
    if (sequence.isNext(run, cnt) && cnt > sequence.last) {
      sequence.wrote(run, cnt)
      this.#emit(sender, at, length)
      if (sequence.held.length > 0) this.#drain(sequence)
    } else if (sequence.isLate(run, cnt)) {
      if (length >= 0) this.late++
    } else this.#hold(sequence, run, cnt, at, length, heap)
  }

  /**
   * Ends the sender's run, because the sender stopped or starts anew: its cnts may come again. Writes what waits of the run.
   * @param endpoint the only one at which the run ends. Where there are others, heaps of the run may still come from them, and go
   * before those of the next. Default: it ends at all
   */
  forget(sender: number, endpoint?: number): void {
    const sequence = this.#sequences.get(sender)
    if (!sequence) return
    if (endpoint !== undefined && this.#options.endpoints > 1) {
      sequence.endRunAt(endpoint)
      return
    }
    this.#writeAll(sequence)
    sequence.restart()
  }

  /** Ends the sender's run, and keeps nothing of its order: nobody knows it any more. */
  drop(sender: number): void {
    this.forget(sender)
    this.#sequences.delete(sender)
    if (this.#recent?.sender === sender) this.#recent = undefined
  }

  /** Lets the lowest heap go of the sender whose heap has waited longest. Returns false if none waits. */
  releaseLowest(): boolean {
    if (!this.#oldest) return false
    this.#releaseFirst(this.#oldest.sequence)
    return true
  }

  /**
   * Call it at each turn and with the time in milliseconds, however few packets come. Writes what was gathered or has waited long
   * enough.
   */
  tick(nowMs: number): void {
    this.#now = nowMs
    if (nowMs - this.#tickAt < TICK_MS) return
    this.#tickAt = nowMs
    const waiting = new Set<OutputSequence>()
    for (let held = this.#oldest; held && nowMs - held.since >= WAIT_MS; ) {
      const { sequence } = held
      // A heap waits, so there is a first.
      if (waiting.has(sequence)) held = held.newer
      else if (this.#options.receivingBelow?.(sequence.sender, sequence.held[0]!.cnt)) waiting.add(sequence)
      else {
        this.#releaseFirst(sequence)
        held = this.#oldest
      }
    }
    this.#lose(this.#stage.flush())
  }

  /** Writes all that waits, and closes the files that it opened. Returns the digest of the only file, or null. Call it once. */
  finish(): string | null {
    for (const sequence of this.#sequences.values()) this.#writeAll(sequence)
    this.#lose(this.#stage.flush())
    for (const file of this.#files) {
      if (file.fd !== this.#options.fd) this.#note(file.close())
      this.summaries.push({ path: file.path, sender: file.sender, bytes: file.bytes, sha256: file.digest() })
    }
    this.#state = 'finished'
    this.bytes = this.#files.reduce((sum, { bytes }) => sum + bytes, 0)
    return this.summaries.length === 1 ? this.summaries[0]!.sha256 : null
  }

  #sequenceOf(sender: number): OutputSequence {
    let sequence = this.#sequences.get(sender)
    if (sequence === undefined) {
      sequence = new OutputSequence(sender)
      if (this.#sequences.size >= MOST_SEQUENCES) {
        const [first] = this.#sequences.values()
        this.#writeAll(first!)
        this.#sequences.delete(first!.sender)
      }
      this.#sequences.set(sender, sequence)
    }
    this.#recent = sequence
    return sequence
  }

  #hold(sequence: OutputSequence, run: number, cnt: number, at: number, length: number, heap: AssembledHeap): void {
    const { held } = sequence
    const before = held[sequence.indexFor(run, cnt) - 1]
    if (before && before.run === run && before.cnt === cnt) {
      if (length >= 0) this.late++
      return
    }
    let slot = -1
    let from = at
    if (length > 0) {
      // Bytes may stay in the heap's own slot only: an immediate comes from scratch memory, a single packet from the receive buffer.
      const owned = heap.slot >= 0 && at >= heap.slot && at < heap.slot + this.#storage.size(heap.slot)
      slot = owned ? heap.keepSlot() : this.#room(sequence, run, cnt, length)
      if (slot < 0) {
        // There is no room, and everything lower of this sender has been written, so it goes now.
        sequence.wrote(run, cnt)
        this.#emit(sequence.sender, at, length)
        this.#drain(sequence)
        return
      }
      if (!owned) {
        this.#u8.copyWithin(slot, at, at + length)
        from = slot
      }
    }
    this.#insert({ sequence, run, cnt, at: from, length, slot, since: this.#now, older: this.#newest, newer: undefined })
    const { windowHeaps, windowBytes, firstHeaps } = this.#options
    if (!sequence.started && held.length >= firstHeaps) {
      sequence.learn()
      this.#releaseFirst(sequence)
    } else this.#drain(sequence)
    while ((this.#heldHeaps > windowHeaps || this.#heldBytes > windowBytes) && this.releaseLowest());
  }

  /** Takes a slot; lets others go for it, but none of this sender's that come behind. Returns −1 if that is not enough. */
  #room(sequence: OutputSequence, run: number, cnt: number, length: number): number {
    let slot = this.#storage.take(length)
    for (let victim = this.#oldest?.sequence; slot < 0 && victim; victim = this.#oldest?.sequence) {
      if (victim === sequence && isAbove(victim.held[0]!, run, cnt)) return -1
      this.#releaseFirst(victim)
      slot = this.#storage.take(length)
    }
    return slot
  }

  #insert(held: Held): void {
    const { sequence, slot } = held
    sequence.held.splice(sequence.indexFor(held.run, held.cnt), 0, held)
    if (held.older) held.older.newer = held
    else this.#oldest = held
    this.#newest = held
    this.#heldHeaps++
    if (slot >= 0) this.#heldBytes += this.#storage.size(slot)
  }

  /** Writes the lowest of a sender's that wait, before those that it waits for, and whatever is next then. */
  #releaseFirst(sequence: OutputSequence): void {
    this.#letGo(sequence.held.shift()!)
    this.#drain(sequence)
  }

  #drain(sequence: OutputSequence): void {
    const { held } = sequence
    while (held.length > 0 && sequence.isNext(held[0]!.run, held[0]!.cnt)) this.#letGo(held.shift()!)
  }

  #writeAll(sequence: OutputSequence): void {
    for (let held = sequence.held.shift(); held; held = sequence.held.shift()) this.#letGo(held)
  }

  /** Writes a heap that has been taken out of its sequence. */
  #letGo(held: Held): void {
    const { sequence, older, newer, slot } = held
    if (older) older.newer = newer
    else this.#oldest = newer
    if (newer) newer.older = older
    else this.#newest = older
    this.#heldHeaps--
    sequence.wrote(held.run, held.cnt)
    this.#emit(sequence.sender, held.at, held.length)
    if (slot >= 0) {
      this.#heldBytes -= this.#storage.size(slot)
      this.#storage.release(slot)
    }
  }

  #emit(sender: number, at: number, length: number): void {
    if (length <= 0) return
    const file = this.#state === 'failed' ? undefined : this.#fileFor(sender)
    if (file === undefined) {
      this.late++
      return
    }
    this.bytes += length
    this.#lose(this.#stage.put(file, at, length))
  }

  #fileFor(sender: number): OutputFile | undefined {
    if (this.#options.order !== 'sender') return this.#files[0]
    return this.#fileOf.get(sender) ?? this.#openFile(sender)
  }

  #openFile(sender: number): OutputFile | undefined {
    const { fd, path: base, hash } = this.#options
    const n = this.#files.length
    if (n >= MOST_FILES) return undefined
    const path = `${base}.${n}`
    let own = fd
    try {
      if (fd !== undefined && n > 0) own = openPlainFile(path, 'truncate')
    } catch (error) {
      this.#note(`cannot write ${path}: ${(error as Error).message}`)
      return undefined
    }
    const file = new OutputFile(path, own, this.#options.nameOf?.(sender) ?? null, hash)
    this.#files.push(file)
    this.#fileOf.set(sender, file)
    return file
  }

  /** Takes note of heaps that a write lost, and so of the failure. */
  #lose(heaps: number): void {
    if (heaps === 0) return
    this.late += heaps
    this.#note(this.#files.find(({ failure }) => failure !== undefined)?.failure)
    this.bytes = this.#files.reduce((sum, { bytes }) => sum + bytes, 0)
  }

  #note(failure: string | undefined): void {
    if (failure === undefined) return
    this.failure ??= failure
    this.#state = 'failed'
  }
}
