/** The senders that are told apart: their number is bounded, because anybody may send from any port. */
import { Budget } from './budget.js'
import { KnownItems } from './known-items.js'
import { Sender } from './sender.js'
import { Sequence } from './sequence.js'

/** The most senders that are told apart; the one that has been silent for long is forgotten for the next. */
const MAX_SENDERS = 1024
/** About what one takes without descriptors, and what the verifier keeps of it. */
const SENDER_BYTES = 1024
const PATTERN_BYTES = 5120
/** Descriptors get this part of the budget, on top of it, so that they take nothing from heaps. */
const DESCRIPTOR_SHARE = 4

const AT_HAND = 256

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
  /** Called when nothing is known of a sender any more. */
  readonly onForgotten: (sender: Sender) => void
}

export class Senders {
  /** Descriptors of any sender. */
  readonly items: KnownItems
  readonly #options: SendersOptions
  readonly #descriptorBudget: Budget
  readonly #byKey = new Map<number, Sender>()
  /** Descriptors of each. */
  readonly #itemsOf = new Map<Sender, KnownItems>()
  /** Missing heaps of senders that were forgotten. */
  #missing = 0
  #patternMissing = 0
  #nextId = 0
  #last: Sender | undefined
  /** Some of them by the low bits of their key, because a look into the map takes longer. */
  readonly #atHand = new Array<Sender | undefined>(AT_HAND).fill(undefined)

  constructor(options: SendersOptions) {
    this.#options = options
    this.#descriptorBudget = new Budget(Math.floor(options.budget.limitBytes / DESCRIPTOR_SHARE))
    this.items = new KnownItems(this.#descriptorBudget, options.item)
  }

  /** All senders count as one. */
  get anySource(): boolean {
    return this.#options.anySource
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
    const place = key & (AT_HAND - 1)
    let sender = this.#atHand[place]
    if (sender === undefined || sender.number !== asked || sender.endpoint !== endpoint) {
      const known = this.#byKey.get(key)
      if (known) known.recent = true
      sender = known ?? this.#make(key, asked, endpoint)
      this.#atHand[place] = sender
    } else sender.recent = true
    this.#last = sender
    return sender
  }

  all(): IterableIterator<Sender> {
    return this.#byKey.values()
  }

  /** Returns the descriptors of a sender, and behind them those of all; of one that was forgotten the latter alone. */
  itemsOf(sender: Sender): KnownItems {
    return this.#itemsOf.get(sender) ?? this.items
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
    const rounds = new Map<number, number>()
    for (const { pattern, number } of this.#byKey.values()) {
      sum += pattern?.missing ?? 0
      rounds.set(number, Math.max(rounds.get(number) ?? 0, pattern?.rounds ?? 0))
    }
    // A socket that deals heaps out, and of which only descriptors or a stop heap came to an endpoint, has lost its heaps there.
    for (const { pattern, number } of this.#byKey.values()) if (!pattern) sum += rounds.get(number)!
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
    const { budget, verify, cntStep, item } = this.#options
    const bytes = SENDER_BYTES + (verify ? PATTERN_BYTES : 0)
    while (this.#byKey.size > 0 && (this.#byKey.size >= MAX_SENDERS || !budget.take(bytes))) this.#evict(bytes)
    if (this.#byKey.size === 0) budget.take(bytes)
    const sender = new Sender(this.#nextId, number, endpoint, new Sequence(cntStep, this.#options.endpoints))
    this.#nextId = (this.#nextId + 1) & 0x7fffffff
    this.#byKey.set(key, sender)
    this.#itemsOf.set(sender, new KnownItems(this.#descriptorBudget, item, this.items))
    return sender
  }

  /** Forgets the one silent for longest, nearly: each that was heard since the last look is passed over once. */
  #evict(bytes: number): void {
    const { budget, onForgotten } = this.#options
    for (const [key, sender] of this.#byKey) {
      this.#byKey.delete(key)
      if (sender.recent) {
        sender.recent = false
        this.#byKey.set(key, sender)
        continue
      }
      this.#missing += sender.sequence.missing
      this.#patternMissing += sender.pattern?.missing ?? 0
      this.#itemsOf.get(sender)?.clear()
      this.#itemsOf.delete(sender)
      budget.give(bytes)
      if (this.#atHand[key & (AT_HAND - 1)] === sender) this.#atHand[key & (AT_HAND - 1)] = undefined
      onForgotten(sender)
      return
    }
  }
}
