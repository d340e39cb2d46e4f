/** Keeps what an engine was told besides submissions, for the engine of another thread that takes its place. */
import type { CompiledBatch } from '../batch/compile.js'
import type { ControlMessage } from './protocol.js'

type Told<T extends ControlMessage['type']> = Extract<ControlMessage, { readonly type: T }>

export class Announced {
  readonly #variants = new Map<number, Told<'variant'>>()
  /** Variants that may be under way still, and the count behind the submissions that may use them. */
  readonly #dropped = new Map<number, { readonly compiled: CompiledBatch; readonly until: number }>()
  readonly #regions = new Map<string, Told<'keep' | 'forget'>>()
  readonly #loops = new Map<number, (Told<'loop'> | Told<'turn'>)[]>()
  /** Messages for the next engine alone, while there is none. */
  #waiting: ControlMessage[] = []
  /** The interlude that was asked for, and has not been told of. */
  interlude: Told<'interlude'> | undefined

  /** @param ring its counts */
  constructor(readonly ring: { readonly submitted: number; readonly settled: number }) {}

  /** @param reaches whether there is an engine that it goes to */
  note(message: ControlMessage, reaches: boolean): void {
    switch (message.type) {
      case 'variant':
        this.#variants.set(message.id, message)
        return
      case 'drop':
        this.#drop(message.id)
        return
      case 'keep':
      case 'forget': {
        const key = `${message.region.id} ${message.region.address}`
        if (message.type === 'keep') this.#regions.set(key, message)
        else this.#regions.delete(key)
        return
      }
      case 'loop':
        this.#loops.set(message.id, [message])
        return
      case 'turn': {
        const loop = this.#loops.get(message.id)
        // The turn that it has is replaced.
        if (loop) loop[1] = message
        return
      }
      case 'interlude':
        this.interlude = message
    }
    if (!reaches) this.#waiting.push(message)
  }

  #drop(id: number): void {
    const { submitted, settled } = this.ring
    for (const [old, { until }] of this.#dropped) if (((settled - until) | 0) >= 0) this.#dropped.delete(old)
    const variant = this.#variants.get(id)
    if (variant) this.#dropped.set(id, { compiled: variant.compiled, until: submitted })
    this.#variants.delete(id)
  }

  endInterlude(): void {
    this.interlude = undefined
  }

  /** The loop is over. */
  endLoop(id: number): void {
    this.#loops.delete(id)
  }

  compiledOf(id: number): CompiledBatch | undefined {
    return (this.#variants.get(id) ?? this.#dropped.get(id))?.compiled
  }

  /** The messages that the next engine is to have first. */
  take(): ControlMessage[] {
    const waiting = this.#waiting
    this.#waiting = []
    return [...this.#regions.values(), ...this.#variants.values(), ...[...this.#loops.values()].flat(), ...waiting]
  }
}
