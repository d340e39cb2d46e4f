/**
 * The submission ring between the thread that calls send() and the thread that sends. Control words live in one SharedArrayBuffer
 * (Atomics.wait and notify refuse mapped memory: docs/ground-rules.md, "Memory and koffi"). Single producer, single consumer; slots
 * settle strictly in order.
 *
 *   SETTLED ≤ TAKEN ≤ SUBMITTED, all counting for ever modulo 2^32; slot = count mod SLOTS
 *
 * Words of a slot are written plainly: storing SUBMITTED or SETTLED, which is atomic, publishes them, and reading it brings them.
 *
 * | slot state | set by   | next                                  |
 * |------------|----------|---------------------------------------|
 * | EMPTY      | producer | QUEUED or FINAL                       |
 * | QUEUED     | producer | TAKEN (consumer) or ABORTED (producer), by compare-exchange: exactly one wins |
 * | FINAL      | producer | TAKEN: nobody withdraws it, which saves the exchange |
 * | TAKEN      | consumer | SETTLED                               |
 * | ABORTED    | producer | SETTLED (consumer, nothing was sent, no heap cnt was used) |
 * | SETTLED    | consumer | EMPTY (producer, having read the results) |
 */
import { COUNTER_NAMES } from '../stats.js'

export const SLOTS = 1024

export const STATE_EMPTY = 0
export const STATE_QUEUED = 1
export const STATE_TAKEN = 2
export const STATE_ABORTED = 3
export const STATE_SETTLED = 4
export const STATE_FINAL = 5

/** Send the first HEAPS heaps of a variant. */
export const OP_SEND = 0
/** Set the heap cnt sequence to (CNT_HI, CNT_LO) + n × (STEP_HI, STEP_LO). */
export const OP_SET_CNT = 1

export const OUTCOME_SENT = 0
/** Nothing was sent: withdrawn before it was taken. */
export const OUTCOME_ABORTED = 1
/** Some heaps were not sent whole: an outcome message went before the settlement. */
export const OUTCOME_FAILED = 2

// Words of a slot.
export const W_STATE = 0
export const W_OP = 1
export const W_VARIANT = 2
export const W_HEAPS = 3
export const W_ROWS = 4
export const W_EXPLICIT_CNTS = 5
export const W_OUTCOME = 6
export const W_SUSPECT = 7
/** In: of OP_SET_CNT. Out: the first heap cnt that a send took from the sequence. */
export const W_CNT_HI = 8
export const W_CNT_LO = 9
export const W_STEP_HI = 10
export const W_STEP_LO = 11
const SLOT_WORDS = 16

// Words of the head.
export const C_SUBMITTED = 0
export const C_SETTLED = 1
/** The sending thread is (about to be) asleep: whoever submits must write its eventfd. */
export const C_ASLEEP = 2
export const C_STOP = 3
/** Control messages ever posted; the sending thread drains its port up to here before it takes a submission. */
export const C_CONTROL = 4
/** The sending thread has closed its backend and every descriptor. */
export const C_CLOSED = 5
/** Somebody sleeps until SETTLED rises: whoever raises it must notify, which costs a microsecond, and with a sleeper nine. */
export const C_WATCHED = 6
/** The CPU that who submits waits on, asleep or offering it, or was last seen on while C_WATCHED; else NO_CPU. */
export const C_CPU = 7
const HEAD_WORDS = 16

/** Words that an I/O thread shares with the thread that started it: messages ever sent to it, … */
export const T_ANNOUNCED = 0
/** … and a number that moves while it runs. */
export const T_BEAT = 1
export const THREAD_WORDS = 2

export const NO_CPU = -1

export const STOP_NO = 0
/** Leave when everything submitted has settled. */
export const STOP_DRAIN = 1
/** Flush everything not yet sent, settle it as such, leave. */
export const STOP_ABORT = 2

export class Ring {
  readonly control: Int32Array<SharedArrayBuffer>
  readonly slots: Int32Array<SharedArrayBuffer>
  readonly counters: Float64Array<SharedArrayBuffer>
  constructor(readonly memory = new SharedArrayBuffer(Ring.BYTES)) {
    this.counters = new Float64Array(memory, 0, COUNTER_NAMES.length)
    this.control = new Int32Array(memory, COUNTER_NAMES.length * 8, HEAD_WORDS)
    this.slots = new Int32Array(memory, COUNTER_NAMES.length * 8 + HEAD_WORDS * 4, SLOTS * SLOT_WORDS)
  }
  static readonly BYTES = COUNTER_NAMES.length * 8 + (HEAD_WORDS + SLOTS * SLOT_WORDS) * 4
  /** Index of the slot's first word. */
  slot(count: number): number {
    return (count & (SLOTS - 1)) * SLOT_WORDS
  }
}
