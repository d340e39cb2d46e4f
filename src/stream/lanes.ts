/**
 * A lane is what the stream keeps per batch or prepared heap list: the ids of its compiled variants, and the one submission record
 * that its sends reuse, since it has at most one in flight.
 */
import type { Sendable } from '../batch/sendable.js'
import type { Driver } from '../engine/driver.js'
import { Pending } from './submissions.js'

/** Variants of first n heaps kept compiled per lane, where these are no prefix of the whole. */
const MAX_VARIANTS = 8

export class Lane {
  readonly variants = new Map<string, number>()
  pending: Pending
  /** Debug mode: the checksum at send. */
  checksum = 0
  /** Of the send under way: what is to be taken back if it is withdrawn by its signal. */
  onWithdrawn: (() => void) | undefined

  constructor(
    readonly sendable: Sendable,
    readonly onFree: (lane: Lane) => void,
  ) {
    this.pending = this.#newPending()
  }

  #newPending(): Pending {
    return new Pending(() => this.onFree(this))
  }

  /** An aborted record stays in the ring until the engine passes it; the next send gets another. */
  renew(): void {
    this.pending = this.#newPending()
  }
}

export class Lanes {
  #nextVariant = 1
  constructor(readonly driver: Driver) {}

  /** Sets the record's variant and rows; compiles what is not compiled yet. Allocates nothing for a whole batch sent before. */
  aim({ sendable, variants, pending }: Lane, heaps: number, inBand: boolean): void {
    const { key, rows, compile } = sendable.compilation(heaps, inBand)
    let id = variants.get(key)
    if (id === undefined) {
      if (variants.size >= MAX_VARIANTS) {
        const [oldest, oldId] = [...variants].find(([name]) => name !== 'all')!
        variants.delete(oldest)
        this.driver.dropVariant(oldId)
      }
      id = this.#nextVariant++
      this.driver.addVariant(id, compile(), sendable.rates)
      variants.set(key, id)
    }
    pending.variant = id
    pending.rows = rows
  }

  drop(lane: Lane): void {
    for (const id of lane.variants.values()) this.driver.dropVariant(id)
    lane.variants.clear()
  }
}
