/**
 * The packets that were posted and are not accounted for, in posting order.
 *
 * A slot of the send queue is free only when a signalled completion behind it was polled (ibv_post_send(3)). Work requests complete
 * in order, so one completion accounts for all packets up to its own.
 */
import type { ReapResult } from '../backend.js'
import type { VerbsPosting } from './posting.js'

/** Rows first … end−1 of a posting. `at` is the number of the first of them, counting all packets ever posted. */
class Part {
  /** The posting's id when it was posted. */
  id = 0
  first = 0
  end = 0
  at = 0
  /** The rows were given up at post: no completion tells of them, and they are accounted for when their turn comes. */
  skipped = false
}

/** One object, because every post and every completion reads and writes most of its fields. */
export class InFlight {
  /** Packets ever posted, those given up at post included. */
  posted = 0
  /** Packets accounted for: sent, failed, or given up. */
  done = 0
  /** A completion will tell of the packets before this number: the last of them is signalled. */
  announced = 0
  /**
   * Something was posted to an idle queue, or completed, since `quietFor` last asked for the time, which costs as much as twenty
   * packets.
   */
  progressed = false
  #progressAt = 0
  #reported = 0
  /** Oldest first from #head; a ring, its length a power of two. */
  readonly #parts: Part[]
  #head = 0
  #count = 0
  /** Failures that reap has not told of, oldest first. */
  readonly #failures: { readonly at: number; readonly cause: number }[] = []

  /** @param depth slots of the send queue */
  constructor(depth: number) {
    this.#parts = Array.from({ length: 2 ** Math.ceil(Math.log2(depth + 1)) }, () => new Part())
  }

  /** Slots of the send queue that are taken. */
  get packets(): number {
    return this.posted - this.done
  }

  get empty(): boolean {
    return this.posted === this.done
  }

  /** Reap has told of everything that is accounted for. */
  get allReported(): boolean {
    return this.#reported === this.done
  }

  /** How many more parts may be posted. One place is kept, because rows that are given up take a part of their own. */
  get freeParts(): number {
    return this.#parts.length - 1 - this.#count
  }

  /** Rows first … end−1 of a posting were posted. Their last is signalled, or those are that the chain always signals. */
  take(posting: VerbsPosting, first: number, end: number, lastSignalled: boolean): void {
    // The clock of a silent device starts with the first packet it says nothing of, whatever is posted behind that.
    if (this.posted === this.done) this.progressed = true
    this.#add(posting, first, end, false)
    const unannounced = lastSignalled ? 0 : posting.chain.unsignalledBefore(end)
    if (unannounced < end - first) this.announced = this.posted - unannounced
  }

  /** Rows first … end−1 of a posting will not be posted. */
  giveUp(posting: VerbsPosting, first: number, end: number): void {
    this.#add(posting, first, end, true)
    this.#passSkipped()
  }

  #add(posting: VerbsPosting, first: number, end: number, skipped: boolean): void {
    // The ring is larger than a cache. As long as the queue runs empty now and then, the same few parts are used again.
    if (this.#count === 0) this.#head = 0
    const part = this.#part(this.#count++)
    part.id = posting.id
    part.first = first
    part.end = end
    part.at = this.posted
    part.skipped = skipped
    this.posted += end - first
  }

  /** The k-th oldest part. */
  #part(k: number): Part {
    if (k === this.#parts.length) throw new Error('more parts under way than the send queue has slots')
    return this.#parts[(this.#head + k) & (this.#parts.length - 1)]!
  }

  /** Returns the part with the row of a work request of that id, nearly always the first; −1 if it is of an earlier generation. */
  find(row: number, id: number): number {
    for (let k = 0; k < this.#count; k++) {
      const part = this.#part(k)
      if (part.id === id && !part.skipped && row >= part.first && row < part.end) return k
    }
    return -1
  }

  /** The row and all packets before it were sent. False: the completion is of an earlier generation. */
  completeThrough(row: number, id: number): boolean {
    const k = this.find(row, id)
    if (k < 0) return false
    this.#passParts(k)
    this.#passFirst(row + 1)
    this.#passSkipped()
    return true
  }

  /** All packets before a row of the k-th part were sent. */
  completeBefore(k: number, row: number): void {
    this.#passParts(k)
    if (row > this.#part(0).first) this.#passFirst(row)
  }

  #passParts(n: number): void {
    for (let k = 0; k < n; k++) this.#passFirst(this.#part(0).end)
  }

  /** Rows of the oldest part before `end` are accounted for. */
  #passFirst(end: number): void {
    const part = this.#part(0)
    const n = end - part.first
    part.first = end
    part.at += n
    this.done = part.at
    if (part.first < part.end) return
    this.#head = (this.#head + 1) & (this.#parts.length - 1)
    this.#count--
  }

  #passSkipped(): void {
    while (this.#count > 0 && this.#part(0).skipped) this.#passFirst(this.#part(0).end)
  }

  /** All packets up to a row of the k-th part failed of one cause. Rows that were given up failed at post. */
  failThrough(k: number, row: number, cause: number): void {
    for (let i = 0; i <= k; i++) {
      const part = this.#part(0)
      const end = i === k ? row + 1 : part.end
      if (!part.skipped) for (let n = 0; n < end - part.first; n++) this.#failures.push({ at: part.at + n, cause })
      this.#passFirst(end)
    }
    this.#passSkipped()
  }

  failAll(cause: number): void {
    if (this.#count > 0) this.failThrough(this.#count - 1, this.#part(this.#count - 1).end - 1, cause)
  }

  /** Milliseconds since a packet was posted to the idle queue or one completed, to the accuracy with which this is asked. */
  quietFor(now: number): number {
    if (this.progressed) this.#progressAt = now
    this.progressed = false
    return now - this.#progressAt
  }

  /** Tells what is accounted for since the last time, as far as `out` has room for failures. */
  report(out: ReapResult): void {
    out.failures = 0
    const upTo = this.#failures.length === 0 ? this.done : this.#reportFailures(out)
    out.completed = upTo - this.#reported
    this.#reported = upTo
  }

  /** Returns how far reap may report: up to the first failure that `out` has no room for. */
  #reportFailures(out: ReapResult): number {
    const n = Math.min(this.#failures.length, out.failedAt.length)
    for (let i = 0; i < n; i++) {
      out.failedAt[i] = this.#failures[i]!.at - this.#reported
      out.failedErrno[i] = this.#failures[i]!.cause
    }
    this.#failures.splice(0, n)
    out.failures = n
    return Math.min(this.done, this.#failures[0]?.at ?? this.done)
  }
}
