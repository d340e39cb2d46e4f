/**
 * The submission ring between the thread that calls send() and the thread that sends. No other file knows where its words are. They lie in one
 * SharedArrayBuffer, because Atomics.wait and notify refuse mapped memory (docs/ground-rules.md, "Memory and koffi"). There is one
 * producer and one consumer, and slots settle strictly in order.
 *
 *   settled ≤ claimed ≤ submitted, all counting for ever modulo 2^32; slot = count mod SLOTS
 *
 * | call                       | thread   | does                                                                        |
 * |----------------------------|----------|-----------------------------------------------------------------------------|
 * | push(submission, state)    | producer | fills the next slot and publishes it                                         |
 * | withdraw(count)            | producer | QUEUED → ABORTED, if the consumer has not claimed it                         |
 * | claim(count, into)         | consumer | QUEUED or FINAL → CLAIMED, and reads the submission; false if it is ABORTED   |
 * | settle(count, …), publish  | consumer | → SETTLED with its outcome; publish makes all that were settled visible       |
 * | take(count, into)          | producer | reads the outcome, → EMPTY                                                   |
 *
 * | slot state | next                                                                                      |
 * |------------|-------------------------------------------------------------------------------------------|
 * | EMPTY      | QUEUED, FINAL or ABORTED by push                                                          |
 * | QUEUED     | CLAIMED by the consumer or ABORTED by the producer, by compare-exchange: exactly one wins |
 * | FINAL      | CLAIMED. Nobody may withdraw it, which saves the exchange                                  |
 * | CLAIMED    | SETTLED                                                                                   |
 * | ABORTED    | SETTLED: nothing was sent, and no heap cnt was used                                        |
 * | SETTLED    | EMPTY                                                                                     |
 *
 * Words of a slot are written plainly: the atomic store of the submitted or the settled count publishes them, and the atomic load of that count
 * brings them.
 */
import { ANY_NODE, bindShared } from '../../ffi/memory/numa.js'
import { COUNTER_NAMES } from '../stats.js'
import { Accounts } from './accounts.js'
import type { Claim } from './claim.js'
import { Ledger } from './ledger.js'
import { OUTCOME_ABORTED, OUTCOME_FAILED, OUTCOME_SENT, type Settlement, type Submission } from './submission.js'

export { Claim } from './claim.js'
export { OUTCOME_ABORTED, OUTCOME_FAILED, OUTCOME_SENT, Settlement, type Submission } from './submission.js'

export const SLOTS = 1024

export const STATE_EMPTY = 0
export const STATE_QUEUED = 1
const STATE_CLAIMED = 2
export const STATE_ABORTED = 3
export const STATE_SETTLED = 4
export const STATE_FINAL = 5

/** Send the first HEAPS heaps of a variant. */
const OP_SEND = 0
/** Set the heap cnt sequence to (CNT_HI, CNT_LO) + n × (STEP_HI, STEP_LO). */
const OP_SET_CNT = 1
/** A substream's next receiver is meant from here on (Backend.resume). */
const OP_RESUME = 2
/** Send the window of a loop, over and over (loop.ts). */
const OP_LOOP = 3

// Words of a slot.
const W_STATE = 0
const W_OP = 1
const W_VARIANT = 2
const W_HEAPS = 3
const W_ROWS = 4
const W_EXPLICIT_CNTS = 5
const W_OUTCOME = 6
const W_SUSPECT = 7
/** In: the sequence's next, with OP_SET_CNT. Out: the first heap cnt that a send took from the sequence. */
const W_CNT_HI = 8
const W_CNT_LO = 9
const W_STEP_HI = 10
const W_STEP_LO = 11
/** A double: when send() was called. */
const W_SUBMITTED_AT = 12
const SLOT_WORDS = 16

// Words of the head.
const C_SUBMITTED = 0
const C_SETTLED = 1
const C_ASLEEP = 2
const C_STOP = 3
const C_ANNOUNCED = 4
const C_CLOSED = 5
const C_WATCHED = 6
const C_WAITER_CPU = 7
const HEAD_WORDS = 16

export const NO_CPU = -1

export const STOP_NO = 0
/** Leave when everything submitted has settled. */
export const STOP_DRAIN = 1
/** Flush everything not yet sent, settle it as such, leave. */
export const STOP_ABORT = 2

type WaitAsync = (
  array: Int32Array,
  index: number,
  value: number,
) => { async: false; value: string } | { async: true; value: Promise<string> }
// The types of es2023 lack it.
const waitAsync = (Atomics as unknown as { waitAsync: WaitAsync }).waitAsync

const slotOf = (count: number): number => (count & (SLOTS - 1)) * SLOT_WORDS

export class Ring {
  static readonly #LEDGER_AT = COUNTER_NAMES.length * 8 + (HEAD_WORDS + SLOTS * SLOT_WORDS) * 4
  static readonly #ACCOUNTS_AT = Ring.#LEDGER_AT + Math.ceil(Ledger.BYTES / 8) * 8
  readonly accounts: Accounts
  readonly ledger: Ledger
  readonly counters: Float64Array<SharedArrayBuffer>
  readonly #head: Int32Array<SharedArrayBuffer>
  readonly #slots: Int32Array<SharedArrayBuffer>
  readonly #times: Float64Array<SharedArrayBuffer>

  /** @param first the count of the first submission: tests begin near 2^32 @param numaNode that of the ring and the accounts */
  static memoryFor(substreams: number, first = 0, numaNode = ANY_NODE): SharedArrayBuffer {
    const ring = new Ring(new SharedArrayBuffer(Ring.#ACCOUNTS_AT + Accounts.bytes(substreams)))
    bindShared(ring.#head, numaNode)
    ring.#head[C_SUBMITTED] = first
    ring.#head[C_SETTLED] = first
    ring.ledger.begin(first)
    return ring.memory
  }

  constructor(readonly memory = Ring.memoryFor(1)) {
    this.counters = new Float64Array(memory, 0, COUNTER_NAMES.length)
    this.ledger = new Ledger(memory, Ring.#LEDGER_AT)
    this.accounts = new Accounts(memory, Ring.#ACCOUNTS_AT, this.counters, this.ledger)
    this.#head = new Int32Array(memory, COUNTER_NAMES.length * 8, HEAD_WORDS)
    const slotsAt = COUNTER_NAMES.length * 8 + HEAD_WORDS * 4
    this.#slots = new Int32Array(memory, slotsAt, SLOTS * SLOT_WORDS)
    this.#times = new Float64Array(memory, slotsAt, (SLOTS * SLOT_WORDS) / 2)
  }

  /** Submissions ever published. */
  get submitted(): number {
    return Atomics.load(this.#head, C_SUBMITTED)
  }

  /** Submissions ever settled and published. */
  get settled(): number {
    return Atomics.load(this.#head, C_SETTLED)
  }

  /** For tests and debuggers. */
  stateOf(count: number): number {
    return this.#slots[slotOf(count)]!
  }

  // The producer's calls.

  /**
   * Fills the next slot and publishes it; the caller has seen to it that there is room. Returns its count.
   * @param state QUEUED: it may be withdrawn; FINAL: it may not; ABORTED: it was withdrawn before there was room for it
   */
  push(
    { variant, heaps, rows, explicitCnts, sequence, resumes, loop, submittedAt = Number.NaN }: Submission,
    state: number,
  ): number {
    const slots = this.#slots
    // Only this thread writes it.
    const count = this.#head[C_SUBMITTED]!
    const at = slotOf(count)
    const subject = resumes ?? loop
    if (subject !== undefined) {
      slots[at + W_OP] = resumes === undefined ? OP_LOOP : OP_RESUME
      slots[at + W_VARIANT] = subject
    } else if (sequence === undefined) {
      slots[at + W_OP] = OP_SEND
      slots[at + W_VARIANT] = variant
      slots[at + W_HEAPS] = heaps
      slots[at + W_ROWS] = rows
      slots[at + W_EXPLICIT_CNTS] = explicitCnts ? 1 : 0
      this.#times[(at + W_SUBMITTED_AT) / 2] = submittedAt
    } else {
      slots[at + W_OP] = OP_SET_CNT
      slots[at + W_CNT_HI] = sequence[0]
      slots[at + W_CNT_LO] = sequence[1]
      slots[at + W_STEP_HI] = sequence[2]
      slots[at + W_STEP_LO] = sequence[3]
    }
    slots[at + W_STATE] = state
    Atomics.store(this.#head, C_SUBMITTED, (count + 1) | 0)
    return count
  }

  /** Withdraws a submission that was pushed as QUEUED; false if it was claimed. */
  withdraw(count: number): boolean {
    return Atomics.compareExchange(this.#slots, slotOf(count) + W_STATE, STATE_QUEUED, STATE_ABORTED) === STATE_QUEUED
  }

  /** Reads what became of a settled submission, and empties its slot. */
  take(count: number, into: Settlement): void {
    const slots = this.#slots
    const at = slotOf(count)
    into.outcome = slots[at + W_OUTCOME]!
    into.suspect = slots[at + W_SUSPECT] === 1
    into.cntHi = slots[at + W_CNT_HI]!
    into.cntLo = slots[at + W_CNT_LO]!
    slots[at + W_STATE] = STATE_EMPTY
  }

  /** Tells the consumer that a control message was posted: it drains its port before it claims a later submission. */
  announce(): void {
    Atomics.add(this.#head, C_ANNOUNCED, 1)
  }

  /** Asks the consumer to leave. An abort may follow a drain; nothing follows an abort. */
  stop(how: number): void {
    if (Atomics.load(this.#head, C_STOP) !== STOP_ABORT) Atomics.store(this.#head, C_STOP, how)
  }

  /** Whether the consumer sleeps and this call is the first to find it so: then the caller must write its eventfd. */
  wakes(): boolean {
    return Atomics.exchange(this.#head, C_ASLEEP, 0) === 1
  }

  /** Somebody sleeps until more has settled. Notifying costs the consumer a microsecond, and with a sleeper nine. */
  get watched(): boolean {
    return this.#head[C_WATCHED] === 1
  }

  /** Set to true before `settled` is read: the consumer notifies of what it publishes after that. */
  set watched(yes: boolean) {
    Atomics.store(this.#head, C_WATCHED, yes ? 1 : 0)
  }

  /** The CPU on which the producer waits, asleep or offering it, or was last seen while `watched`; else NO_CPU. */
  get waiterCpu(): number {
    return this.#head[C_WAITER_CPU]!
  }

  set waiterCpu(cpu: number) {
    this.#head[C_WAITER_CPU] = cpu
  }

  /** Resolves when there is a notification, or more than `settled` has settled. Undefined: it has already. */
  settledBeyond(settled: number): Promise<string> | undefined {
    const wait = waitAsync(this.#head, C_SETTLED, settled)
    return wait.async ? wait.value : undefined
  }

  /** The consumer has closed its backend and every descriptor. */
  get closed(): boolean {
    return Atomics.load(this.#head, C_CLOSED) === 1
  }

  /** Blocks until `closed`; returns false if that has not come within `milliseconds`. */
  awaitClosed(milliseconds: number): boolean {
    return Atomics.wait(this.#head, C_CLOSED, 0, milliseconds) !== 'timed-out'
  }

  // For whoever takes the ring over from a dead consumer.

  /** The consumer has settled it, and may not have published that. */
  isSettled(count: number): boolean {
    return this.stateOf(count) === STATE_SETTLED
  }

  /** The count behind the last submission that the consumer had claimed. */
  get claimedEnd(): number {
    const { submitted } = this
    let end = this.published
    for (let count = end; count !== submitted; count = (count + 1) | 0) {
      if (this.wasClaimed(count)) end = (count + 1) | 0
    }
    return end
  }

  /** The consumer has claimed it: it may have settled too. */
  wasClaimed(count: number): boolean {
    return this.stateOf(count) === STATE_CLAIMED || this.isSettled(count)
  }

  /** Reads a submission that the consumer has not settled, as claim() does. False: it is settled, or was withdrawn and is now. */
  takeOver(count: number, into: Claim): boolean {
    if (this.isSettled(count)) return false
    if (this.stateOf(count) === STATE_CLAIMED) this.#read(slotOf(count), into)
    else if (!this.claim(count, into)) this.settle(count, false, false)
    return !this.isSettled(count)
  }

  /** The consumer is gone, and the next may come: nobody sleeps, nothing was announced, nothing is closed. */
  reopen(): void {
    this.#head[C_ASLEEP] = 0
    this.#head[C_ANNOUNCED] = 0
    this.#head[C_CLOSED] = 0
  }

  // The consumer's calls.

  /** The variant of a send that its producer may still withdraw; −1: it is none. */
  withdrawable(count: number): number {
    const slots = this.#slots
    const at = slotOf(count)
    return slots[at + W_STATE] === STATE_QUEUED && slots[at + W_OP] === OP_SEND ? slots[at + W_VARIANT]! : -1
  }

  /** Claims and reads a submission; false if it was withdrawn. */
  claim(count: number, into: Claim): boolean {
    const slots = this.#slots
    const at = slotOf(count)
    if (!this.#own(at)) {
      slots[at + W_OUTCOME] = OUTCOME_ABORTED
      return false
    }
    this.#read(at, into)
    return true
  }

  #read(at: number, into: Claim): void {
    const slots = this.#slots
    slots[at + W_OUTCOME] = OUTCOME_SENT
    const op = slots[at + W_OP]
    into.setsSequence = op === OP_SET_CNT
    into.resumes = op === OP_RESUME ? slots[at + W_VARIANT]! : -1
    into.loop = op === OP_LOOP ? slots[at + W_VARIANT]! : -1
    if (into.setsSequence) {
      into.nextHi = slots[at + W_CNT_HI]!
      into.nextLo = slots[at + W_CNT_LO]!
      into.stepHi = slots[at + W_STEP_HI]!
      into.stepLo = slots[at + W_STEP_LO]!
    } else {
      into.variant = slots[at + W_VARIANT]!
      into.heaps = slots[at + W_HEAPS]!
      into.rows = slots[at + W_ROWS]!
      into.explicitCnts = slots[at + W_EXPLICIT_CNTS] === 1
    }
  }

  /** Claims a submission in order not to send it. */
  refuse(count: number): void {
    const at = slotOf(count)
    this.#own(at)
    this.#slots[at + W_OUTCOME] = OUTCOME_ABORTED
  }

  #own(at: number): boolean {
    const slots = this.#slots
    if (slots[at + W_STATE] !== STATE_FINAL)
      return Atomics.compareExchange(slots, at + W_STATE, STATE_QUEUED, STATE_CLAIMED) === STATE_QUEUED
    slots[at + W_STATE] = STATE_CLAIMED
    return true
  }

  /** When the send of a claimed slot was called; NaN: nobody noted it. */
  submittedAt(count: number): number {
    return this.#times[(slotOf(count) + W_SUBMITTED_AT) / 2]!
  }

  /** Notes the first heap cnt that a claimed send takes from the sequence. */
  noteFirstCnt(count: number, hi: number, lo: number): void {
    const at = slotOf(count)
    this.#slots[at + W_CNT_HI] = hi
    this.#slots[at + W_CNT_LO] = lo
  }

  /** Settles a submission, for publish() to make visible. */
  settle(count: number, failed: boolean, suspect: boolean): void {
    const slots = this.#slots
    const at = slotOf(count)
    if (failed) slots[at + W_OUTCOME] = OUTCOME_FAILED
    slots[at + W_SUSPECT] = suspect ? 1 : 0
    slots[at + W_STATE] = STATE_SETTLED
  }

  /** Makes visible that all submissions before count `end` are settled. */
  publish(end: number): void {
    Atomics.store(this.#head, C_SETTLED, end)
  }

  /** As `settled`, for the thread that publishes. */
  get published(): number {
    return this.#head[C_SETTLED]!
  }

  /** Submissions not settled yet, as this thread last saw them. */
  get unsettled(): number {
    return (this.#head[C_SUBMITTED]! - this.#head[C_SETTLED]!) | 0
  }

  /** Control messages ever announced. */
  get announced(): number {
    return Atomics.load(this.#head, C_ANNOUNCED)
  }

  /** As `announced`, but certain only of what was announced before a submission that this thread has seen. */
  get announcedBefore(): number {
    return this.#head[C_ANNOUNCED]!
  }

  /** STOP_… as it was asked for. */
  get stopWanted(): number {
    return Atomics.load(this.#head, C_STOP)
  }

  /** As `stopWanted`, by a plain read until there is something to read: it may notice a stop a step later. */
  get stopGlanced(): number {
    return this.#head[C_STOP] === STOP_NO ? STOP_NO : this.stopWanted
  }

  /** While true, whoever submits writes the consumer's eventfd. */
  get asleep(): boolean {
    return Atomics.load(this.#head, C_ASLEEP) === 1
  }

  set asleep(yes: boolean) {
    Atomics.store(this.#head, C_ASLEEP, yes ? 1 : 0)
  }

  /** As `watched`, for the consumer. */
  get watchedNow(): boolean {
    return Atomics.load(this.#head, C_WATCHED) === 1
  }

  /** Ends the waits of settledBeyond(). */
  notifySettled(): void {
    Atomics.notify(this.#head, C_SETTLED)
  }

  /** The backend and every descriptor are closed: says so to all who wait. */
  noteClosed(): void {
    Atomics.store(this.#head, C_CLOSED, 1)
    Atomics.notify(this.#head, C_CLOSED)
    Atomics.notify(this.#head, C_SETTLED)
  }
}
