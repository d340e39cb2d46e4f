/**
 * The main-thread half of the ring: queues sends in order, and turns settlements into resolved promises.
 *
 * A pending send is in `overflow` while the ring is full, then in a slot, and leaves when the engine settles it. An aborted one is
 * rejected at once but keeps its place, then its slot, until the engine has passed it (order is strict).
 */

import type { Driver } from '../engine/driver.js'
import type { OutcomeMessage } from '../engine/outcome.js'
import * as R from '../engine/ring.js'
import { SpeadcastError } from '../errors.js'
import { unlisten } from './abort-listeners.js'
import { type BatchResult, SendError } from './result.js'
import type { SendPromise } from './send-promise.js'

/** One send on its way. Reused by its lane, so its shape is fixed here. */
export class Pending {
  op: number = R.OP_SEND
  variant = 0
  heaps = 0
  rows = 0
  explicitCnts = false
  payloadBytes = 0
  /** Of OP_SET_CNT: next and step as 32-bit halves. */
  sequence: readonly [number, number, number, number] | undefined
  promise: SendPromise<BatchResult> | undefined
  /** Who may withdraw it; set before it is submitted. */
  signal: AbortSignal | undefined
  onAbort: (() => void) | undefined
  /** −1 while the ring has no room for it. */
  slot = 0
  done = true
  /** @param onFree the memory may be written again; called once per send, before its promise settles */
  constructor(readonly onFree: () => void) {}

  settle(result: BatchResult | undefined, error: unknown): void {
    const { promise } = this
    this.done = true
    this.promise = undefined
    if (this.onAbort) {
      unlisten(this.signal!, this.onAbort)
      this.signal = undefined
      this.onAbort = undefined
    }
    this.onFree()
    if (result) promise?.fulfil(result)
    else promise?.fail(error)
  }
}

export const abortedByDestroy = (): SpeadcastError =>
  new SpeadcastError('ERR_SPEADCAST_ABORTED', 'the stream was destroyed, or closed at its deadline, before this was sent')

export class Submissions {
  driver!: Driver
  readonly #queue: (Pending | undefined)[] = new Array(R.SLOTS)
  readonly #overflow: Pending[] = []
  readonly #outcomes: OutcomeMessage[] = []
  readonly #waiters: { readonly at: number; readonly done: () => void }[] = []
  #submitted = 0
  #settled = 0
  /** Sends ever accepted and ever settled, overflow included; they order flush(). */
  #accepted = 0
  #finished = 0
  /** Sends in flight that somebody waits for. */
  #watched = 0
  /** Heaps that settled without being sent whole, ever; aborted by their own signal not counted. */
  unsentHeaps = 0
  #dead: SpeadcastError | undefined

  constructor(
    readonly ring: R.Ring,
    /** A send failed; `error` went to its promise. */
    readonly onFailure: (promise: SendPromise<BatchResult>, error: unknown) => void,
  ) {}

  get inFlight(): number {
    return this.#accepted - this.#finished
  }

  get watched(): boolean {
    return this.#watched > 0 || this.#waiters.length > 0
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
    this.#outcomes.push(message)
  }

  submit(pending: Pending): void {
    if (this.#dead) throw this.#dead
    pending.done = false
    this.#accepted++
    if (this.#overflow.length > 0 || ((this.#submitted - this.#settled) | 0) >= R.SLOTS) {
      pending.slot = -1
      this.#overflow.push(pending)
    } else this.#enter(pending)
    this.driver.hold(true)
    this.driver.submitted()
  }

  #enter(pending: Pending): void {
    const { slots, control } = this.ring
    const slot = this.ring.slot(this.#submitted)
    pending.slot = slot
    this.#queue[this.#submitted & (R.SLOTS - 1)] = pending
    slots[slot + R.W_OP] = pending.op
    slots[slot + R.W_VARIANT] = pending.variant
    slots[slot + R.W_HEAPS] = pending.heaps
    slots[slot + R.W_ROWS] = pending.rows
    slots[slot + R.W_EXPLICIT_CNTS] = pending.explicitCnts ? 1 : 0
    if (pending.sequence) for (let i = 0; i < 4; i++) slots[slot + R.W_CNT_HI + i] = pending.sequence[i]!
    // One withdrawn while it waited still takes its turn, or flush would count it before those in front of it.
    slots[slot + R.W_STATE] = pending.done ? R.STATE_ABORTED : pending.signal ? R.STATE_QUEUED : R.STATE_FINAL
    this.#submitted = (this.#submitted + 1) | 0
    Atomics.store(control, R.C_SUBMITTED, this.#submitted)
  }

  /** Withdraws a send with a signal that the sender has not taken; false when it is too late. */
  abort(pending: Pending, reason: unknown): boolean {
    if (pending.done) return false
    const state = pending.slot + R.W_STATE
    if (pending.slot >= 0 && Atomics.compareExchange(this.ring.slots, state, R.STATE_QUEUED, R.STATE_ABORTED) !== R.STATE_QUEUED)
      return false
    if (pending.promise?.watched) this.#watched--
    pending.settle(undefined, reason)
    this.driver.submitted()
    return true
  }

  /** Settles everything the engine has settled; false when there is nothing, which costs one atomic load. */
  harvest(): boolean {
    const { control, slots } = this.ring
    const settled = Atomics.load(control, R.C_SETTLED)
    // After die() what entered the ring and was never taken is settled here, but not there.
    if (settled === this.#settled || this.#dead) return false
    while (this.#settled !== settled) {
      const index = this.#settled & (R.SLOTS - 1)
      const slot = index * (slots.length / R.SLOTS)
      const pending = this.#queue[index]!
      this.#queue[index] = undefined
      this.#settled = (this.#settled + 1) | 0
      const outcome = slots[slot + R.W_OUTCOME]
      const suspect = slots[slot + R.W_SUSPECT] === 1
      if (outcome === R.OUTCOME_FAILED) this.#fail(pending, suspect)
      else if (outcome === R.OUTCOME_ABORTED) this.#finish(pending, undefined, abortedByDestroy())
      else {
        const firstCnt = (slots[slot + R.W_CNT_HI]! >>> 0) * 2 ** 32 + (slots[slot + R.W_CNT_LO]! >>> 0)
        const { heaps, rows: packets, payloadBytes } = pending
        const { evidence } = this.driver.caps
        this.#finish(pending, { heaps, packets, payloadBytes, firstCnt, evidence, suspect }, undefined)
      }
      slots[slot + R.W_STATE] = R.STATE_EMPTY
    }
    while (this.#overflow.length > 0 && ((this.#submitted - this.#settled) | 0) < R.SLOTS) this.#enter(this.#overflow.shift()!)
    if (this.inFlight === 0) this.driver.hold(false)
    else this.driver.submitted()
    return true
  }

  #fail(pending: Pending, suspect: boolean): void {
    if (this.#outcomes.length === 0) this.driver.drainMessages()
    const { heaps, causes } = this.#outcomes.shift()!
    const failedHeaps = heaps.flatMap((status, j) => (status === 'sent' ? [] : [j]))
    this.#finish(pending, undefined, new SendError({ heaps, causes, failedHeaps, suspect, evidence: this.driver.caps.evidence }))
  }

  #finish(pending: Pending, result: BatchResult | undefined, error: unknown): void {
    this.#finished++
    if (!pending.done) {
      const { promise, heaps } = pending
      if (promise?.watched) this.#watched--
      pending.settle(result, error)
      if (!result) {
        this.unsentHeaps += error instanceof SendError ? error.outcome.failedHeaps.length : heaps
        if (promise) this.onFailure(promise, error)
      }
    }
    while (this.#waiters.length > 0 && this.#waiters[0]!.at <= this.#finished) this.#waiters.shift()!.done()
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
    while (this.#settled !== this.#submitted) {
      const index = this.#settled & (R.SLOTS - 1)
      const pending = this.#queue[index]!
      this.#queue[index] = undefined
      this.#settled = (this.#settled + 1) | 0
      this.#finish(pending, undefined, error)
    }
    for (const pending of this.#overflow.splice(0)) this.#finish(pending, undefined, error)
    this.driver?.hold(false)
  }
}
