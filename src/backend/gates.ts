import { kickNeighbour, neighbourState, type Path } from '../net/route.js'

const RECHECK_MS = 50
const KICK_MS = 1000

/**
 * Substreams whose next hop has no link-layer address. The kernel queues a few packets to such a neighbour, says all is well and
 * drops the rest in silence (1,000 of 1,000 sends succeed), so they are refused here until the neighbour answers.
 */
export class Gates {
  any = false
  readonly #closed: Uint8Array
  #checkedAt = 0
  #kickedAt = 0
  constructor(readonly paths: readonly Path[]) {
    this.#closed = new Uint8Array(paths.length)
  }

  shut(substream: number): void {
    this.#closed[substream] = 1
    this.any = true
  }

  get shutCount(): number {
    return this.#closed.reduce((sum, shut) => sum + shut, 0)
  }

  /** How many messages from `from` on may go before one to a shut substream; message m starts at row firstRow[m] (or is row m). */
  open(substream: Uint16Array, firstRow: Uint32Array | undefined, from: number, count: number): number {
    this.#recheck()
    for (let i = 0; i < count; i++) if (this.#closed[substream[firstRow ? firstRow[from + i]! : from + i]!] === 1) return i
    return count
  }

  #recheck(): void {
    const now = performance.now()
    if (now - this.#checkedAt < RECHECK_MS) return
    this.#checkedAt = now
    const kick = now - this.#kickedAt > KICK_MS
    if (kick) this.#kickedAt = now
    for (let i = 0; i < this.paths.length; i++) {
      if (this.#closed[i] === 0) continue
      const state = neighbourState(this.paths[i]!)
      if (state === 'reachable' || state === 'not-needed') this.#closed[i] = 0
      else if (kick) kickNeighbour(this.paths[i]!)
    }
    this.any = this.#closed.includes(1)
  }
}
