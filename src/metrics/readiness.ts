import { counted, printable } from '../errors.js'
import type { Reading } from './source.js'

interface Movement {
  readonly heaps: number
  /** When the number of heaps was first seen to be this, by performance.now(). */
  readonly at: number
}

/** Whether all streams and receivers are open and, if asked, have moved heaps of late. It learns of movement from the probes themselves. */
export class Readiness {
  readonly #readings: () => readonly Reading[]
  #movements = new Map<string, Movement>()

  constructor(readings: () => readonly Reading[]) {
    this.#readings = readings
  }

  /** @param moved the most seconds since a heap was moved, as a query has them; null: any time */
  answer(moved: string | null): { readonly status: 200 | 400 | 503; readonly text: string } {
    const seconds = moved === null ? Number.POSITIVE_INFINITY : /^\d+(\.\d+)?$/.test(moved) ? Number(moved) : Number.NaN
    if (Number.isNaN(seconds)) return { status: 400, text: 'moved must be seconds, such as /readyz?moved=30\n' }
    const readings = this.#readings()
    const now = performance.now()
    const movements = new Map<string, Movement>()
    const troubles: string[] = []
    for (const { kind, labels, open, heaps } of readings) {
      const key = JSON.stringify(labels)
      const before = this.#movements.get(key)
      const movement = before?.heaps === heaps ? before : { heaps, at: now }
      movements.set(key, movement)
      const name = printable(`${kind} ${labels[kind]}`)
      if (!open) troubles.push(`${name} is not open`)
      else if (now - movement.at > seconds * 1000)
        troubles.push(`${name} has moved no heap for ${((now - movement.at) / 1000).toFixed(1)} s`)
    }
    this.#movements = movements
    if (readings.length === 0) troubles.push('nothing is open yet')
    if (troubles.length > 0) return { status: 503, text: `${troubles.join('\n')}\n` }
    return { status: 200, text: `${counted(readings.length, 'source')} open\n` }
  }
}
