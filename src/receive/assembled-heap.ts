import { Budget } from './budget.js'
import { Ranges } from './ranges.js'
import type { Sender } from './sender.js'

/** Words of item pointers that every heap has room for, without being charged, and that it keeps for the next heap. */
const POINTER_WORDS = 32
const KEPT_WORDS = 1024

/** One heap, in the making or just finished; objects are reused. */
export class AssembledHeap {
  cntHigh = 0
  cntLow = 0
  sender: Sender | undefined = undefined
  /** The driver's number of the socket that sent its first packet. */
  from = 0
  /** Index of the socket that received it. */
  endpoint = 0
  addressBytes = 6
  /** Payload bytes by the heap length pointer, −1 while unknown. When the heap is handed on: the bytes from `at` that may be read. */
  length = -1
  /** Where the payload lies in the buffer. */
  at = 0
  /** Whether every payload byte is there. */
  complete = false
  packets = 0
  /** When its last packet came, by the assembler's clock. */
  touched = 0
  received = 0
  /** Item pointers as pairs of high and low words, without the four standard ones of every packet. */
  pointers = new Uint32Array(POINTER_WORDS)
  pointerCount = 0
  /** The slot that it owns, or −1. */
  slot = -1
  /** Whether it starts or stops the stream, and whether a packet of it said that it stops it. */
  control = false
  stop = false
  /** Whether it is complete and has no data. */
  empty = false
  /** Data in it are of the next run if its heap cnt came before: a pause of its sender came first, or a heap of another length. */
  comesAgain = false
  readonly ranges: Ranges
  readonly #budget: Budget

  bucket = 0
  nextInBucket: AssembledHeap | undefined
  older: AssembledHeap | undefined
  newer: AssembledHeap | undefined

  /** @param budget is charged for pointers and ranges beyond the first few */
  constructor(budget: Budget = new Budget(Number.POSITIVE_INFINITY)) {
    this.#budget = budget
    this.ranges = new Ranges(budget)
  }

  /** The heap cnt as a double: exact to 2^53. */
  get cntNumber(): number {
    return this.cntHigh * 0x100000000 + this.cntLow
  }

  /** Takes the slot over from the assembler, which otherwise reuses it as soon as onHeap returns. */
  keepSlot(): number {
    const slot = this.slot
    this.slot = -1
    return slot
  }

  /** Whether it holds memory that is charged to the budget. */
  get charged(): boolean {
    return this.pointers.length > KEPT_WORDS || this.ranges.charged
  }

  /** Makes room for `words` of pointers. Returns false where the budget has none. */
  reservePointers(words: number): boolean {
    const { length } = this.pointers
    if (words <= length) return true
    let larger = length
    while (larger < words) larger *= 2
    if (!this.#budget.take(4 * (larger - (length > POINTER_WORDS ? length : 0)))) return false
    const pointers = new Uint32Array(larger)
    pointers.set(this.pointers)
    this.pointers = pointers
    return true
  }

  /** Forgets pointers and ranges, and gives back what few heaps need. */
  clear(): void {
    this.ranges.clear()
    this.pointerCount = 0
    if (this.pointers.length <= KEPT_WORDS) return
    this.#budget.give(4 * this.pointers.length)
    this.pointers = new Uint32Array(POINTER_WORDS)
  }
}
