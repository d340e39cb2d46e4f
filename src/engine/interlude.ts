/**
 * Heaps that have no place in the order of sends: descriptors that are due while a long batch is on its way go between two of its
 * heaps. One such list at a time.
 *
 * | state   | is                                                              | next                                           |
 * |---------|-----------------------------------------------------------------|------------------------------------------------|
 * | none    | no list                                                         | waiting by ask()                               |
 * | waiting | to be posted as soon as the current send is about to begin a heap | posting by begin(); none by end(), if recalled |
 * | posting | partly posted; nothing else is posted meanwhile                  | posted by pass(), when all rows are            |
 * | posted  | in part not completed                                           | none by end(), when all rows are accounted for |
 *
 * Backends complete rows in the order of posting. So it is noted before which row of which send these rows were posted.
 */
import { Flight } from './flights.js'
import type { Variant } from './variant.js'

export class Interlude {
  state: 'none' | 'waiting' | 'posting' | 'posted' = 'none'
  readonly flight = new Flight()
  explicitCnts = false
  /** Its rows, or those of the one before, were posted before row #row of the send with this count. */
  #count = 0
  #row = -1

  ask(variant: Variant, heaps: number, rows: number, explicitCnts: boolean): void {
    const { flight } = this
    if (this.state !== 'none') throw new Error('heaps are to go between others, and earlier ones have not gone')
    this.state = 'waiting'
    this.explicitCnts = explicitCnts
    flight.variant = variant
    flight.heaps = heaps
    flight.rows = rows
    flight.rowsPosted = 0
    flight.rowsCompleted = 0
  }

  /**
   * Whether it may begin: nothing is under way, or a heap is about to begin. A heap at least goes between two interludes, or
   * those that come faster than a rate allows would leave no room for data.
   * @param current the send with that count, if it is claimed
   */
  mayBegin(count: number, current: Flight | undefined): boolean {
    if (!current) return true
    return beginsHeap(current) && (count !== this.#count || current.rowsPosted !== this.#row)
  }

  begin(count: number, current: Flight | undefined): void {
    this.state = 'posting'
    this.#count = count
    this.#row = current?.rowsPosted ?? 0
  }

  pass(): void {
    this.state = 'posted'
  }

  end(): void {
    this.state = 'none'
    this.flight.variant = undefined
    this.flight.log = undefined
  }

  /** All rows that were posted have completed, and no more will be posted. */
  get through(): boolean {
    return this.state === 'posted' && this.flight.rowsCompleted === this.flight.rows
  }

  /** Rows of it were posted, or are about to be, and not all of them have completed. */
  get underWay(): boolean {
    return this.state === 'posting' || this.state === 'posted'
  }

  /** Whether rows completed after this many of the send with that count are these. */
  comesBefore(count: number): boolean {
    const { rowsPosted, rowsCompleted } = this.flight
    return rowsCompleted < rowsPosted && ((count - this.#count) | 0) >= 0
  }

  /** Rows of that send that were posted before. */
  rowsBefore(count: number): number {
    return count === this.#count ? this.#row : 0
  }
}

/** Whether a send's next row begins a heap, or follows a row of another one. */
function beginsHeap({ variant, rowsPosted }: Flight): boolean {
  const { heap } = variant!.compiled.table
  return rowsPosted === 0 || heap[rowsPosted] !== heap[rowsPosted - 1]
}

/** The row behind the rows of one heap that a send posts next. */
export function endOfHeap({ variant, rows, rowsPosted }: Flight): number {
  const { heap } = variant!.compiled.table
  let end = rowsPosted + 1
  while (end < rows && heap[end] === heap[rowsPosted]) end++
  return end
}
