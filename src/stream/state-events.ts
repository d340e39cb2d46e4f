/** Makes events of changed states. Those that count change with every packet, so what became of them is told once a second at most. */
import type { StateWords } from '../backend/states.js'
import { changesByKind, type StateChange } from './event-kinds.js'

const EVERY_MS = 1000
const COUNTING: readonly (keyof StateWords)[] = ['dropsBelowSocket', 'dropsByIpsec', 'portUnreachableAt']

export class StateEvents {
  /** As they were when the counts were told last. */
  #told: StateWords | undefined
  #toldAt = Number.NEGATIVE_INFINITY
  #states: StateWords = {}
  /** Runs while counts have changed and are not told. */
  #timer: NodeJS.Timeout | undefined

  constructor(readonly tell: (change: StateChange) => void) {}

  take(changed: readonly (keyof StateWords)[], before: StateWords, states: StateWords): void {
    this.#states = states
    const others = changed.filter((name) => !COUNTING.includes(name))
    for (const change of changesByKind(others, before, states)) this.tell(change)
    if (others.length < changed.length) this.#count(before)
  }

  #count(before: StateWords): void {
    this.#told ??= before
    if (this.#timer) return
    const wait = this.#toldAt + EVERY_MS - performance.now()
    if (wait <= 0) this.#tellCounts()
    else this.#timer = setTimeout(this.#tellCounts, wait).unref()
  }

  readonly #tellCounts = (): void => {
    this.#timer = undefined
    const before = this.#told!
    const states = this.#states
    this.#told = states
    this.#toldAt = performance.now()
    const changed = COUNTING.filter((name) => before[name] !== states[name])
    for (const change of changesByKind(changed, before, states)) this.tell(change)
  }

  /** Nobody listens: what happens meanwhile is not told later. */
  forget(): void {
    this.#told = undefined
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /** Tells what is not told yet. */
  close(): void {
    if (!this.#timer) return
    clearTimeout(this.#timer)
    this.#tellCounts()
  }
}
