/**
 * Submissions being posted or waiting for their completions, and the batches of a loop, which have no slot in the ring. They are counted by
 * themselves. Nothing is moved or allocated as they pass through.
 *
 *   settled ≤ posted ≤ claimed, counting for ever modulo 2^32
 *
 * | submission      | where                                                                             |
 * |-----------------|-----------------------------------------------------------------------------------|
 * | under way       | settled … posted−1: wholly posted, or with nothing to post                         |
 * | current         | posted, if posted ≠ claimed: partly posted or not at all                            |
 * | waiting         | posted+1 … claimed−1: claimed to be posted together with the current, and was not  |
 */
import { type Backend, CAUSE_FLUSHED, CAUSE_LATE, CAUSE_UNKNOWN } from '../backend/backend.js'
import type { Ledger } from './ledger.js'
import type { Loop } from './loop.js'
import { FailureLog, ROW_SENT } from './outcome.js'
import { SLOTS } from './ring.js'
import type { Refusal, Variant } from './variant.js'

const MASK = SLOTS - 1

/** One send on its way, in the engine. Its numbers are small and whole, which V8 keeps in the object. */
export class Flight {
  /** undefined: there is nothing to post, and it settled by being claimed. */
  variant: Variant | undefined = undefined
  heaps = 0
  /** Rows to be posted; fewer than were submitted when the rest was given up. */
  rows = 0
  rowsPosted = 0
  rowsCompleted = 0
  /** The backend's when it was claimed. */
  suspicion = 0
  /** The loop whose batch it is or, with nothing to post, whose submission. */
  loop: Loop | undefined = undefined
  /** Made at the first failure. */
  log: FailureLog | undefined = undefined
  /** The heaps of which packets were posted again, marked by 1. Made at the first. */
  retried: Uint8Array | undefined = undefined

  #logged(): FailureLog {
    this.log ??= new FailureLog(this.variant!.heaps, this.variant!.rows)
    return this.log
  }

  /**
   * Notes that rows from `first` on failed, unless they have failed before. Returns how many that were.
   * @param cause an errno, or CAUSE_… of `backend`
   * @param excuses 1 for each substream whose heaps may fail without failing the send
   */
  fail(first: number, count: number, cause: number, backend: Backend, excuses?: Uint8Array): number {
    const { heap, substream, udpBytes } = this.variant!.compiled.table
    const log = this.#logged()
    const before = log.packets
    for (let r = first; r < first + count; r++) {
      if (log.rows[r] !== ROW_SENT) continue
      if (excuses?.[substream[r]!]) log.excuse(heap[r]!)
      if (cause === CAUSE_FLUSHED) log.flush(r, heap[r]!)
      else if (cause === CAUSE_UNKNOWN) log.lose(r, heap[r]!)
      else if (log.fail(r, heap[r]!, substream[r]!, cause)) log.explain(backend.explain(cause, substream[r]!, udpBytes[r]!))
    }
    return log.packets - before
  }

  /** Leaves out the rows up to `end`. All before them have completed. */
  skip(end: number, why: string): void {
    const { heap, substream } = this.variant!.compiled.table
    const log = this.#logged()
    for (let r = this.rowsPosted; r < end; r++) if (log.skip(r, heap[r]!, substream[r]!, CAUSE_LATE)) log.explain(why)
    this.rowsCompleted += end - this.rowsPosted
    this.rowsPosted = end
  }

  /** Notes that no row can be posted, because the backend refused the variant. */
  refuse({ errno, message }: Refusal): void {
    const { heap, substream } = this.variant!.compiled.table
    const log = this.#logged()
    for (let r = 0; r < this.rows; r++) if (log.fail(r, heap[r]!, substream[r]!, errno)) log.explain(message)
  }
}

export class Flights {
  settled: number
  posted: number
  claimed: number
  readonly #all = Array.from({ length: SLOTS }, () => new Flight())

  /** @param first the count of the next submission */
  constructor(
    first: number,
    readonly ledger: Ledger,
  ) {
    this.settled = first
    this.posted = first
    this.claimed = first
  }

  /** How many are claimed and not settled. */
  get length(): number {
    return (this.claimed - this.settled) | 0
  }

  at(count: number): Flight {
    return this.#all[count & MASK]!
  }

  /** The next one is claimed, for now with nothing to post. */
  claim(): Flight {
    const flight = this.at(this.claimed)
    this.ledger.claim(this.claimed)
    this.claimed = (this.claimed + 1) | 0
    flight.heaps = 0
    flight.rows = 0
    flight.rowsPosted = 0
    flight.rowsCompleted = 0
    flight.loop = undefined
    flight.retried = undefined
    return flight
  }

  /** The current one is posted; so are those behind it that have nothing to post. */
  pass(): void {
    this.posted = (this.posted + 1) | 0
    this.passEmpty()
  }

  passEmpty(): void {
    while (this.posted !== this.claimed && this.at(this.posted).variant === undefined) this.posted = (this.posted + 1) | 0
  }

  /** The first `accepted` rows of those before count `end` were posted together. Returns their bytes. */
  take(end: number, accepted: number): number {
    let bytes = 0
    let rest = accepted
    for (; this.posted !== end; this.posted = (this.posted + 1) | 0) {
      const flight = this.at(this.posted)
      const { variant, rows } = flight
      if (!variant) continue
      const n = Math.min(rows, rest)
      flight.rowsPosted = n
      rest -= n
      bytes += n === variant.rows ? variant.bytes : variant.bytesBefore[n]!
      if (n < rows) break
    }
    return bytes
  }

  /** The first count behind those whose rows have all completed. */
  through(): number {
    const { posted } = this
    let end = this.settled
    for (; end !== posted; end = (end + 1) | 0) {
      const flight = this.at(end)
      if (flight.rowsCompleted !== flight.rows) break
    }
    return end
  }

  uses(variant: Variant): boolean {
    for (let k = this.settled; k !== this.claimed; k = (k + 1) | 0) if (this.at(k).variant === variant) return true
    return false
  }
}
