/** The loops that one engine knows, by their ids: one runs at most, and others wait for their turn. */
import { Loop, type LoopControl, type LoopMessage } from './loop.js'
import type { Variants } from './variants.js'

export class Loops {
  /** The one that makes flights. */
  running: Loop | undefined
  readonly #all = new Map<number, Loop>()

  constructor(
    readonly variants: Variants,
    readonly emit: (message: LoopMessage) => void,
  ) {}

  control(message: LoopControl): void {
    if (message.type === 'loop') this.#all.set(message.id, new Loop(message, this.variants, this.emit))
    // One that is over has said so.
    else this.#all.get(message.id)?.turn(message.turn)
  }

  /** Its turn among the submissions has come. */
  begin(id: number): Loop {
    const loop = this.#all.get(id)
    if (!loop) throw new Error(`submission of unknown loop ${id}`)
    this.running = loop
    return loop
  }

  /** The one that runs makes no flights any more. */
  end(): void {
    if (this.running) this.#all.delete(this.running.announced.id)
    this.running = undefined
  }
}
