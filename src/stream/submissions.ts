/**
 * The producer's half of the ring: queues sends in order, and turns settlements into resolved promises.
 *
 * A send waits in `overflow` while the ring is full, or the bound of queued bytes is reached and sends are to wait for it; then in a slot, and
 * leaves when the engine settles it. A withdrawn send rejects at once but keeps its place, then its slot, until the engine has passed it,
 * because order is strict.
 */
import { performance } from 'node:perf_hooks'
import type { Driver, DriverClient } from '../engine/driver.js'
import type { LoopMessage } from '../engine/loop.js'
import { ORIGIN_NANOSECONDS } from '../engine/origin.js'
import { isUnsent, type OutcomeMessage } from '../engine/outcome.js'
import {
  OUTCOME_ABORTED,
  OUTCOME_FAILED,
  type Ring,
  Settlement,
  SLOTS,
  STATE_ABORTED,
  STATE_FINAL,
  STATE_QUEUED,
} from '../engine/ring.js'
import { SpeadcastError } from '../errors.js'
import type { News } from './news.js'
import { QueueBound } from './queue-bound.js'
import { type BatchResult, Outcome, SendError } from './result.js'
import { Send } from './send.js'
import type { SendPromise } from './send-promise.js'

export const abortedByDestroy = (): SpeadcastError =>
  new SpeadcastError('ERR_SPEADCAST_ABORTED', 'the stream was destroyed, or closed at its deadline, before this was sent')

/** The stream's loops, as what settles sends knows them. */
interface LoopsView {
  readonly any: boolean
  news(message: LoopMessage): void
  /** The substream's next receiver knows nothing, and no send will tell it. */
  receiverLost(substream: number): void
}

export class Submissions implements DriverClient {
  readonly #queue: (Send | undefined)[] = new Array(SLOTS)
  readonly #overflow: Send[] = []
  readonly #settlement = new Settlement()
  /** Outcomes of settlements to come, by the submission's count. */
  readonly #outcomes = new Map<number, OutcomeMessage>()
  readonly #waiters: { readonly at: number; readonly done: () => void }[] = []
  #submitted: number
  #settled: number
  /** Sends ever accepted and ever settled, overflow included; they order flush(). */
  #accepted = 0
  #finished = 0
  /** Sends in flight that somebody waits for. */
  #watched = 0
  /** Heaps that settled without being sent whole, ever. Sends withdrawn by their own signals do not count. */
  unsentHeaps = 0
  #dead: SpeadcastError | undefined
  #between: Send | undefined
  loops: LoopsView = { any: false, news: () => {}, receiverLost: () => {} }

  constructor(
    readonly ring: Ring,
    readonly driver: Driver,
    readonly news: News,
    /** A send failed; its promise rejects with `error`. */
    readonly onSendFailed: (promise: SendPromise<BatchResult>, error: unknown) => void,
    readonly bound = new QueueBound(Number.POSITIVE_INFINITY, false),
    /** The substream's next receiver knows nothing of what was sent so far. */
    readonly onReceiverLost: (substream: number) => void = () => {},
  ) {
    this.#submitted = ring.submitted
    this.#settled = ring.settled
  }

  get inFlight(): number {
    return this.#accepted - this.#finished
  }

  get watched(): boolean {
    return this.#watched > 0 || this.#waiters.length > 0 || this.bound.awaited || this.#holdsBack
  }

  /** The first send in line waits for room. */
  get #holdsBack(): boolean {
    const [first] = this.#overflow
    return first !== undefined && !first.counted
  }

  /** Fewer bytes are queued than the bound allows, and no send waits for room. */
  get hasRoom(): boolean {
    if (this.bound.full) this.harvest()
    return this.#hasRoom
  }

  get #hasRoom(): boolean {
    return !this.bound.full && this.#overflow.at(-1)?.counted !== false
  }

  /** The next send must wait for room. */
  get mustWait(): boolean {
    return this.bound.waits && !this.hasRoom
  }

  /** The next send is refused. */
  get refuses(): boolean {
    return !this.bound.waits && this.bound.full && !this.hasRoom
  }

  /** Fulfils when there is room; undefined: there is. */
  get room(): Promise<void> | undefined {
    if (this.hasRoom) return undefined
    const { room } = this.bound
    this.driver.watch()
    return room
  }

  /** Somebody waits for the send behind this promise, which is in flight. */
  readonly watch = (promise: SendPromise<BatchResult>): void => {
    promise.watched = true
    this.#watched++
    this.driver.watch()
  }

  get dead(): SpeadcastError | undefined {
    return this.#dead
  }

  outcome(message: OutcomeMessage): void {
    if (!this.#dead) this.#outcomes.set(message.submission, message)
  }

  knows(submission: number): boolean {
    return this.#outcomes.has(submission)
  }

  threadDied(error: SpeadcastError, receiversAnew: readonly number[]): void {
    for (const substream of receiversAnew) this.onReceiverLost(substream)
    this.news.threadDied(error)
  }

  threadRestarted(): void {
    this.news.threadRestarted()
  }

  loopNews(message: LoopMessage): void {
    this.loops.news(message)
  }

  submit(send: Send): void {
    if (this.#dead) throw this.#dead
    const waits = this.mustWait
    send.done = false
    send.submittedAt = performance.now() * 1e6 + ORIGIN_NANOSECONDS
    this.#accepted++
    if (!waits) this.#admit(send)
    if (waits || this.#overflow.length > 0 || this.#full) {
      send.inRing = false
      this.#overflow.push(send)
      if (waits) this.driver.watch()
    } else this.#enter(send)
    this.driver.hold(true, this.loops.any)
    this.driver.submitted()
  }

  /** The heaps of `send` go as soon as the heap that is on its way has gone, whatever is queued. One such send at a time. */
  submitBetween(send: Send): void {
    if (this.#dead) throw this.#dead
    send.done = false
    this.#between = send
    this.driver.hold(true, this.loops.any)
    this.driver.interlude(send.variant, send.heaps, send.rows, send.explicitCnts)
  }

  /**
   * The heaps of submitBetween fail as 'flushed' if they have not begun. Sends that are submitted after this call
   * do not go before them.
   */
  recallBetween(): void {
    if (this.#between) this.driver.recallInterlude()
  }

  interludeOver(outcome: OutcomeMessage | undefined): void {
    const send = this.#between
    this.#between = undefined
    if (!send || this.#dead) return
    if (this.inFlight === 0) this.driver.hold(false)
    const { evidence } = this.driver.caps
    const result = resultOf(send, Number.NaN, evidence, false, outcome)
    if (outcome && !result) this.#settle(send, undefined, failureOf(outcome, false, evidence))
    else this.#settle(send, result, undefined)
  }

  lost(substreams: readonly number[]): void {
    if (this.#dead) return
    for (const substream of substreams) {
      this.onReceiverLost(substream)
      // A submission would wait for the loop's end.
      if (this.loops.any) {
        this.driver.resume(substream)
        this.loops.receiverLost(substream)
        continue
      }
      const send = new Send(() => {})
      send.resumes = substream
      this.submit(send)
    }
  }

  get #full(): boolean {
    return ((this.#submitted - this.#settled) | 0) >= SLOTS
  }

  #enter(send: Send): void {
    if (!send.counted && !send.done) this.#admit(send)
    // A send that was withdrawn while it waited still takes its turn, or flush would count it before those in front of it.
    const state = send.done ? STATE_ABORTED : send.signal ? STATE_QUEUED : STATE_FINAL
    const count = this.ring.push(send, state)
    this.#queue[count & (SLOTS - 1)] = send
    send.count = count
    send.inRing = true
    this.#submitted = (count + 1) | 0
  }

  /** There is room for it. Where its values cannot be sent, it fails, and still takes its turn. */
  #admit(send: Send): void {
    if (send.prepare && !this.#prepares(send)) return
    send.counted = true
    this.bound.bytes += send.queuedBytes
  }

  #prepares(send: Send): boolean {
    try {
      send.prepare!()
      return true
    } catch (error) {
      this.#conclude(send, undefined, error)
      return false
    } finally {
      send.prepare = undefined
    }
  }

  /** Withdraws a send with a signal that the engine has not claimed; false when it is too late. */
  abort(send: Send, reason: unknown): boolean {
    if (send.done) return false
    if (send.inRing && !this.ring.withdraw(send.count)) return false
    if (send.promise?.watched) this.#watched--
    this.#settle(send, undefined, reason)
    this.#refill()
    this.driver.submitted()
    return true
  }

  /** Settles everything the engine has settled; false when there is nothing, which costs one atomic load. */
  harvest(): boolean {
    const { settled } = this.ring
    // After die() this queue has settled the sends that were never claimed, and the ring has not.
    if (settled === this.#settled || this.#dead) return false
    while (this.#settled !== settled) this.#settleNext()
    this.#refill()
    if (this.inFlight > 0) {
      this.driver.hold(true, this.loops.any)
      this.driver.submitted()
    } else if (!this.#between) this.driver.hold(false)
    return true
  }

  /** Moves sends on for which there is room now, and tells those who wait for it. */
  #refill(): void {
    const { bound } = this
    for (let next = this.#overflow[0]; next !== undefined && !this.#full; next = this.#overflow[0]) {
      if (bound.full && !next.counted && !next.done) break
      this.#overflow.shift()
      this.#enter(next)
    }
    if (bound.awaited && this.#hasRoom) bound.open()
    if (this.#holdsBack) this.driver.watch()
  }

  #settleNext(): void {
    const settlement = this.#settlement
    const count = this.#settled
    const send = this.#next()
    this.ring.take(count, settlement)
    const { outcome } = settlement
    // The account of a loop comes by a message before.
    if (send.loop !== undefined) this.driver.drainMessages()
    if (outcome === OUTCOME_FAILED) this.#fail(send, count, settlement)
    else if (outcome === OUTCOME_ABORTED) this.#finish(send, undefined, abortedByDestroy())
    else {
      const { heaps, rows: packets, payloadBytes } = send
      const { firstCnt, suspect } = settlement
      const { evidence } = this.driver.caps
      this.#finish(send, { heaps, skippedHeaps: 0, packets, payloadBytes, firstCnt, evidence, suspect }, undefined)
    }
  }

  /** Takes the oldest send of the ring out of the queue. */
  #next(): Send {
    const index = this.#settled & (SLOTS - 1)
    const send = this.#queue[index]!
    this.#queue[index] = undefined
    this.#settled = (this.#settled + 1) | 0
    return send
  }

  /** Some of it was not sent, which fails it unless the heaps were skipped. */
  #fail(send: Send, count: number, { firstCnt, suspect }: Settlement): void {
    if (!this.#outcomes.has(count)) this.driver.drainMessages()
    const outcome = this.#outcomes.get(count)!
    this.#outcomes.delete(count)
    const { heaps, died } = outcome
    if (died && send.loop !== undefined) {
      this.#finish(send, undefined, died)
      return
    }
    const { evidence } = this.driver.caps
    const result = resultOf(send, firstCnt, evidence, suspect, outcome)
    const all = send.chosen ? { ...outcome, heaps: send.chosen.spread(heaps, 'skipped') } : outcome
    this.#finish(send, result, result ? undefined : failureOf(all, suspect, evidence))
  }

  #settle(send: Send, result: BatchResult | undefined, error: unknown): void {
    const { promise, heaps } = send
    if (send.counted) this.bound.bytes -= send.queuedBytes
    send.counted = false
    send.settle(result, error)
    // A change of the heap cnts has none, and is no news.
    if (!promise) return
    if (result) this.news.sent(result)
    else this.news.failed(heaps, error)
  }

  #finish(send: Send, result: BatchResult | undefined, error: unknown): void {
    this.#finished++
    if (!send.done) this.#conclude(send, result, error)
    while (this.#waiters.length > 0 && this.#waiters[0]!.at <= this.#finished) this.#waiters.shift()!.done()
  }

  #conclude(send: Send, result: BatchResult | undefined, error: unknown): void {
    const { promise, heaps } = send
    if (promise?.watched) this.#watched--
    this.#settle(send, result, error)
    if (result) return
    this.unsentHeaps += error instanceof SendError ? error.outcome.failedHeaps.length : heaps
    if (promise) this.onSendFailed(promise, error)
  }

  /** Resolves when everything submitted so far has settled, whatever its fate. */
  drained(): Promise<void> {
    if (this.inFlight === 0) return Promise.resolve()
    const drained = new Promise<void>((done) => this.#waiters.push({ at: this.#accepted, done }))
    this.driver.watch()
    return drained
  }

  /** The sending side is gone: every promise settles now. */
  die(error: SpeadcastError): void {
    if (this.#dead) return
    this.harvest()
    this.#dead = error
    if (error.code !== 'ERR_SPEADCAST_ABORTED') this.news.died(error)
    this.#outcomes.clear()
    if (this.#between) this.#settle(this.#between, undefined, error)
    this.#between = undefined
    while (this.#settled !== this.#submitted) this.#finish(this.#next(), undefined, error)
    for (const send of this.#overflow.splice(0)) this.#finish(send, undefined, error)
    this.bound.open()
    this.driver.hold(false)
  }
}

/** Undefined if a heap failed. */
function resultOf(
  { heaps, rows, payloadBytes, measured, chosen }: Send,
  firstCnt: number,
  evidence: BatchResult['evidence'],
  suspect: boolean,
  outcome: OutcomeMessage | undefined,
): BatchResult | undefined {
  if (!outcome) return { heaps, skippedHeaps: 0, packets: rows, payloadBytes, firstCnt, evidence, suspect }
  if (outcome.heaps.some(isUnsent)) return undefined
  const skipped: number[] = []
  let bytes = payloadBytes
  for (const [j, status] of outcome.heaps.entries()) {
    if (status === 'sent') continue
    skipped.push(chosen?.heaps[j] ?? j)
    bytes -= measured!.payloadBytes(j + 1) - measured!.payloadBytes(j)
  }
  return {
    heaps: heaps - skipped.length,
    skippedHeaps: skipped.length,
    skipped: { heaps: skipped, causes: outcome.causes },
    packets: rows - outcome.packetsUnsent,
    payloadBytes: bytes,
    firstCnt,
    evidence,
    suspect,
  }
}

function failureOf(
  { heaps, causes, died }: Pick<OutcomeMessage, 'heaps' | 'causes' | 'died'>,
  suspect: boolean,
  evidence: BatchResult['evidence'],
): SendError {
  return new SendError(new Outcome(heaps, causes, suspect, evidence), died)
}
