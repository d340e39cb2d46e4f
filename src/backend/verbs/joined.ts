/**
 * Several short postings in one call to the provider: their chains of work requests are hooked to one another, posted as one chain,
 * and unhooked. Between `add` and `post` nothing else may post.
 */
import type { SendQueue } from '../../../ffi/verbs/send-queue.js'
import type { InFlight } from './in-flight.js'
import type { VerbsPosting } from './posting.js'

/** Postings in one call, at most. */
export const MAX_JOINS = 32

export class JoinedPostings {
  /** The first #count are joined; each ends where its chain is cut. */
  readonly #postings: (VerbsPosting | undefined)[] = new Array(MAX_JOINS).fill(undefined)
  #count = 0
  #rows = 0

  get count(): number {
    return this.#count
  }

  /** Rows of all of them. */
  get rows(): number {
    return this.#rows
  }

  /** Joins rows 0 … end−1 of a posting whose chain is not cut, behind those joined before. */
  add(posting: VerbsPosting, end: number): void {
    const { chain } = posting
    const count = this.#count
    chain.cut(end)
    if (count > 0) this.#postings[count - 1]!.chain.follow(chain)
    this.#postings[count] = posting
    this.#count = count + 1
    this.#rows += end
  }

  /** Posts all joined rows, at least one, and forgets them. Returns how many were taken. */
  post(queue: SendQueue, inFlight: InFlight): number {
    const count = this.#count
    const first = this.#postings[0]!.chain
    const whole = first.postCut(queue, 0, this.#postings[count - 1]!.chain)
    const before = inFlight.posted
    let refused = false
    for (let i = 0; i < count; i++) {
      const posting = this.#postings[i]!
      const { chain } = posting
      let end = chain.cutAt
      chain.mend()
      if (refused) continue
      if (!whole) {
        const row = first.refused(chain)
        refused = row >= 0 && row < end && Number.isInteger(row)
        if (refused) end = row
      }
      if (end > 0) inFlight.take(posting, 0, end, whole)
    }
    this.#count = 0
    this.#rows = 0
    return inFlight.posted - before
  }
}
