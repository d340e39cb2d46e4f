/**
 * Descriptors by item id: those of one sender, and behind them the latest of any sender, for streams whose descriptors another
 * sends. Where senders describe an id otherwise than one another, the latest says nothing of a sender that has not described it.
 */
import type { Budget } from './budget.js'
import { descriptorBytes, type ReceivedDescriptor } from './received-descriptor.js'

/** The most that one sender may have described. */
const MAX_DESCRIPTORS = 4096
const DISPUTED = -1

export class KnownItems {
  readonly #own = new Map<number, ReceivedDescriptor>()
  /** The id of the sender that described it, or DISPUTED. */
  readonly #from = new Map<number, number>()
  readonly #behind: KnownItems | undefined
  readonly #budget: Budget
  readonly #wanted: string
  /** The id that its latest descriptor of this name gave to the wanted item, or −1. */
  #wantedId = -1

  /** @param wanted name of the item whose id wantedId() tells @param behind is asked for what is not here */
  constructor(budget: Budget, wanted: string, behind?: KnownItems) {
    this.#budget = budget
    this.#wanted = wanted
    this.#behind = behind
  }

  get(id: number): ReceivedDescriptor | undefined {
    const own = this.#own.get(id)
    if (own || !this.#behind || this.#behind.disputed(id)) return own
    return this.#behind.get(id)
  }

  disputed(id: number): boolean {
    return this.#from.get(id) === DISPUTED
  }

  ids(): Iterable<number> {
    return this.#own.keys()
  }

  /**
   * Returns the id of the wanted item: by the descriptors here, or behind unless they describe it otherwise here; −1: nobody told.
   */
  wantedId(): number {
    if (this.#wantedId >= 0 || !this.#behind) return this.#wantedId
    const id = this.#behind.wantedId()
    return this.#own.has(id) || this.#behind.disputed(id) ? -1 : id
  }

  /**
   * Keeps the descriptor in place of the last of its id. Returns false where there is no room. @param sender the id of its sender
   */
  learn(descriptor: ReceivedDescriptor, sender: number): boolean {
    const { id, name } = descriptor
    const before = this.#own.get(id)
    if (before === undefined && this.#own.size >= MAX_DESCRIPTORS) return false
    const bytes = descriptorBytes(descriptor)
    if (before) this.#budget.give(descriptorBytes(before))
    if (!this.#budget.take(bytes)) {
      if (before) this.#budget.take(descriptorBytes(before))
      return false
    }
    const from = this.#from.get(id)
    if (before && from !== sender && JSON.stringify(before) !== JSON.stringify(descriptor)) this.#from.set(id, DISPUTED)
    else if (from !== DISPUTED) this.#from.set(id, sender)
    this.#own.set(id, descriptor)
    if (name === this.#wanted) this.#wantedId = id
    else if (id === this.#wantedId)
      this.#wantedId = [...this.#own.values()].findLast((other) => other.name === this.#wanted)?.id ?? -1
    return true
  }

  /** Gives its memory back. */
  clear(): void {
    for (const descriptor of this.#own.values()) this.#budget.give(descriptorBytes(descriptor))
    this.#own.clear()
    this.#from.clear()
    this.#wantedId = -1
  }
}
