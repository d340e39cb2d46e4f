/**
 * What is known of each sender: a source address and port that sends to one endpoint. Its heap cnts are its own, so the same cnt from
 * another is another heap. A sender has runs. In a run a heap cnt stands for one heap, and comes once; the next run begins with the same cnts.
 *
 * | after               | the next run begins with                                                                       |
 * |---------------------|------------------------------------------------------------------------------------------------|
 * | a start heap        | that heap if it is above the highest, else a heap that comes again, or far below the highest   |
 * | a stop heap         | a heap that comes again, or one above the stop heap's cnt, or far below the highest            |
 * | a pause of PAUSE_MS | a heap that is not above the highest                                                           |
 * | anything else       | nothing: a heap that comes again is a copy                                                     |
 */
import type { AssembledHeap } from './assembled-heap.js'
import type { Budget } from './budget.js'
import { KnownItems } from './known-items.js'
import type { PatternState } from './pattern-state.js'
import { Sequence } from './sequence.js'

/** Silence after which a sender may have been started anew. It counts only while the receiver found nothing to take. */
export const PAUSE_MS = 150
/** The most senders that are told apart; the one that has been silent for long is forgotten for the next. */
const MAX_SENDERS = 1024
/** About what one takes without descriptors, and what the verifier keeps of it. */
const SENDER_BYTES = 1024
const PATTERN_BYTES = 5120
/** A heap that far below the highest is no straggler of a run that has stopped. */
const STRAGGLER_HEAPS = 1024

export class Sender {
  /** Heaps finished or given up. */
  finished = 0
  run = 0
  /** See the table above. */
  after: 'start' | 'stop' | undefined
  /** The packet under way is the first after a pause. */
  paused = false
  /** Neither of the two: a heap that comes again is a copy. */
  steady = true
  /** On the receiver's clock of idle time. */
  heardMs = 0
  /** Heaps in the making that do not say how long they are, oldest first. */
  readonly open: AssembledHeap[] = []
  /** The control heap that came last, until another heap of this sender is done: a copy of it is a copy, later it is another. */
  controlHigh = -1
  controlLow = -1
  /** Heard a second time, or again since it was last passed over for being forgotten. */
  recent = false
  pattern: PatternState | undefined
  /** Whose order in the output it shares: that of the first of its socket. */
  outputOf: Sender = this
  /** The highest run of those that share its order. */
  outputRun = 0

  constructor(
    readonly id: number,
    readonly number: number,
    readonly endpoint: number,
    readonly sequence: Sequence,
    readonly items: KnownItems,
  ) {}

  /** Call it for each packet with the receiver's clock of idle time, and packetDone() afterwards. */
  hear(idleMs: number): void {
    if (idleMs - this.heardMs > PAUSE_MS) {
      this.paused = true
      this.steady = false
    }
    this.heardMs = idleMs
  }

  packetDone(): void {
    if (!this.paused) return
    this.paused = false
    this.steady = this.after === undefined
  }

  mark(after: 'start' | 'stop'): void {
    this.after = after
    this.steady = false
  }

  /** Whether a packet that belongs to no heap in the making begins a new run. @param known its heap came already in this run */
  beginsRun(cnt: number, known: boolean): boolean {
    if (this.steady) return false
    if (known) return true
    const { sequence } = this
    if (!sequence.started) return false
    const { highest, lastCnt } = sequence
    if (this.paused && cnt <= highest) return true
    if (this.after === 'stop' && cnt > lastCnt) return true
    return this.after !== undefined && cnt < highest - STRAGGLER_HEAPS * (sequence.knownStep || 1)
  }

  beginRun(): void {
    this.run++
    this.after = undefined
    this.paused = false
    this.steady = true
    this.controlLow = -1
    this.sequence.close()
    this.pattern?.close()
  }
}

export interface SendersOptions {
  readonly budget: Budget
  readonly endpoints: number
  readonly verify: boolean
  /** Joins the heaps of all sockets that send to one endpoint. */
  readonly anySource: boolean
  /** 0: to be found. */
  readonly cntStep: number
  /** Name of the item for the output. */
  readonly item: string
}

export class Senders {
  /** Forgotten to make room for others. */
  evicted = 0
  /** Descriptors of any sender. */
  readonly items: KnownItems
  readonly #options: SendersOptions
  readonly #byKey = new Map<number, Sender>()
  /** Missing heaps of senders that were forgotten. */
  #missing = 0
  #patternMissing = 0
  #nextId = 0
  #last: Sender | undefined

  constructor(options: SendersOptions) {
    this.#options = options
    this.items = new KnownItems(options.budget, options.item)
  }

  /** Returns the sender of a packet. @param number tells its address and port from others @param endpoint below `endpoints` */
  of(number: number, endpoint: number): Sender {
    const last = this.#last
    const asked = this.#options.anySource ? 0 : number
    if (last !== undefined && last.number === asked && last.endpoint === endpoint) {
      last.recent = true
      return last
    }
    const key = asked * this.#options.endpoints + endpoint
    let sender = this.#byKey.get(key)
    if (sender === undefined) sender = this.#make(key, asked, endpoint)
    else sender.recent = true
    this.#last = sender
    return sender
  }

  /** Those that have heaps in the making that do not say how long they are. */
  *open(): Generator<Sender> {
    for (const sender of this.#byKey.values()) if (sender.open.length > 0) yield sender
  }

  /** Heaps that never came, by their cnts. */
  get missing(): number {
    let sum = this.#missing
    for (const { sequence } of this.#byKey.values()) sum += sequence.missing
    return sum
  }

  /** The same by the tutorial's pattern. */
  get patternMissing(): number {
    let sum = this.#patternMissing
    for (const { pattern } of this.#byKey.values()) sum += pattern?.missing ?? 0
    return sum
  }

  /** The step of the heap cnts if all senders have the same, else null. */
  get cntStep(): number | null {
    const steps = new Set<number>()
    for (const { sequence } of this.#byKey.values()) if (sequence.started) steps.add(sequence.knownStep)
    const [only] = steps
    return steps.size === 1 && only !== undefined && only > 0 ? only : null
  }

  #make(key: number, number: number, endpoint: number): Sender {
    const { budget, endpoints, verify, cntStep, item } = this.#options
    const bytes = SENDER_BYTES + (verify ? PATTERN_BYTES : 0)
    while (this.#byKey.size > 0 && (this.#byKey.size >= MAX_SENDERS || !budget.take(bytes))) this.#evict(bytes)
    if (this.#byKey.size === 0) budget.take(bytes)
    const sender = new Sender(this.#nextId, number, endpoint, new Sequence(cntStep), new KnownItems(budget, item, this.items))
    this.#nextId = (this.#nextId + 1) & 0x7fffffff
    for (let other = 0; other < endpoints; other++) {
      const sibling = this.#byKey.get(number * endpoints + other)
      if (!sibling) continue
      sender.outputOf = sibling.outputOf
      break
    }
    this.#byKey.set(key, sender)
    return sender
  }

  /** Forgets the one silent for longest, nearly: each that was heard since the last look is passed over once. */
  #evict(bytes: number): void {
    const { budget } = this.#options
    for (const [key, sender] of this.#byKey) {
      this.#byKey.delete(key)
      if (sender.recent) {
        sender.recent = false
        this.#byKey.set(key, sender)
        continue
      }
      this.#missing += sender.sequence.missing
      this.#patternMissing += sender.pattern?.missing ?? 0
      sender.items.clear()
      budget.give(bytes)
      this.evicted++
      return
    }
  }
}
