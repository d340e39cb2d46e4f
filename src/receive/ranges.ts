/**
 * The received parts of a heap: sorted, disjoint, non-touching ranges. They stand in chunks of at most CHUNK ranges, so a packet
 * costs a binary search and a move of at most 2 KiB, in whatever order packets come. A heap whose packets come in order has one
 * range.
 */
import type { Budget } from './budget.js'

const CHUNK = 128
const CHUNK_BYTES = 16 * CHUNK + 128

class Chunk {
  count = 0
  readonly starts = new Float64Array(CHUNK)
  readonly ends = new Float64Array(CHUNK)

  remove(i: number): void {
    this.starts.copyWithin(i, i + 1, this.count)
    this.ends.copyWithin(i, i + 1, this.count)
    this.count--
  }

  insert(i: number, start: number, end: number): void {
    this.starts.copyWithin(i + 1, i, this.count)
    this.ends.copyWithin(i + 1, i, this.count)
    this.starts[i] = start
    this.ends[i] = end
    this.count++
  }
}

/** The verdicts of add(). */
export const RANGE_NEW = 0
/** Every byte was there. */
export const RANGE_KNOWN = 1
/** Some bytes were there. */
const RANGE_OVERLAPS = 2
/** The budget has no room for another chunk. */
export const RANGE_REFUSED = 3

export class Ranges {
  /** None is empty, but for the first where there is no range at all. */
  readonly #chunks: Chunk[] = [new Chunk()]
  #last: Chunk = this.#chunks[0]!

  /** @param budget is charged for all chunks but the first */
  constructor(private readonly budget: Budget) {}

  /** Where the last range ends; 0 where there is none. */
  get end(): number {
    const { count, ends } = this.#last
    return count === 0 ? 0 : ends[count - 1]!
  }

  /** Whether there is no gap from 0 to the end. */
  get contiguous(): boolean {
    const first = this.#chunks[0]!
    return first.count === 0 || (first.count === 1 && first.starts[0] === 0 && this.#chunks.length === 1)
  }

  get charged(): boolean {
    return this.#chunks.length > 1
  }

  clear(): void {
    const chunks = this.#chunks
    if (chunks.length > 1) {
      this.budget.give((chunks.length - 1) * CHUNK_BYTES)
      chunks.length = 1
      this.#last = chunks[0]!
    }
    this.#last.count = 0
  }

  /** Calls `gap` for each gap below `length`. */
  gaps(length: number, gap: (start: number, end: number) => void): void {
    let from = 0
    for (const { count, starts, ends } of this.#chunks) {
      for (let i = 0; i < count; i++) {
        if (starts[i]! > from) gap(from, starts[i]!)
        from = ends[i]!
      }
    }
    if (length > from) gap(from, length)
  }

  /** Marks bytes start … end−1, at least one, as received. */
  add(start: number, end: number): number {
    const last = this.#last
    const n = last.count
    if (n > 0 && start === last.ends[n - 1]) {
      last.ends[n - 1] = end
      return RANGE_NEW
    }
    if (n === 0 || start > last.ends[n - 1]!) return this.#insert(this.#chunks.length - 1, n, start, end)
    // Chunk k holds the first range that does not end before `start`, as range i of it. Below it nothing is touched.
    const k = this.#chunkOf(start)
    const chunk = this.#chunks[k]!
    let i = firstNotBelow(chunk.ends, chunk.count, start)
    const touches = chunk.ends[i] === start
    let next = chunk
    let j = i
    if (touches) {
      j = i + 1
      if (j === chunk.count) {
        next = this.#chunks[k + 1]!
        j = 0
      }
    }
    // A range that ends at `start` is not the last of all, because that case has returned above: so there is range j of `next`.
    if (next.starts[j]! < end) return !touches && next.starts[j]! <= start && end <= next.ends[j]! ? RANGE_KNOWN : RANGE_OVERLAPS
    const joins = next.starts[j] === end
    if (!touches && !joins) return this.#insert(k, i, start, end)
    if (joins && !touches) next.starts[j] = start
    else if (!joins) chunk.ends[i] = end
    else {
      next.starts[j] = chunk.starts[i]!
      i = chunk.count === 1 ? -1 : i
      if (i >= 0) chunk.remove(i)
      else this.#drop(k)
    }
    return RANGE_NEW
  }

  #chunkOf(start: number): number {
    const chunks = this.#chunks
    let low = 0
    let above = chunks.length - 1
    while (low < above) {
      const middle = (low + above) >>> 1
      const { count, ends } = chunks[middle]!
      if (ends[count - 1]! >= start) above = middle
      else low = middle + 1
    }
    return low
  }

  #drop(k: number): void {
    this.#chunks.splice(k, 1)
    this.budget.give(CHUNK_BYTES)
  }

  #insert(k: number, i: number, start: number, end: number): number {
    const chunk = this.#chunks[k]!
    if (chunk.count < CHUNK) {
      chunk.insert(i, start, end)
      return RANGE_NEW
    }
    if (!this.budget.take(CHUNK_BYTES)) return RANGE_REFUSED
    const upper = new Chunk()
    this.#chunks.splice(k + 1, 0, upper)
    // Ranges that come in order fill the chunks; others split them in halves.
    const keep = i === CHUNK ? CHUNK : CHUNK >>> 1
    upper.starts.set(chunk.starts.subarray(keep))
    upper.ends.set(chunk.ends.subarray(keep))
    upper.count = CHUNK - keep
    chunk.count = keep
    if (i > keep || keep === CHUNK) upper.insert(i - keep, start, end)
    else chunk.insert(i, start, end)
    this.#last = this.#chunks.at(-1)!
    return RANGE_NEW
  }
}

/** Returns the index of the first of `count` ascending numbers that is not below `least`. */
function firstNotBelow(ends: Float64Array, count: number, least: number): number {
  let low = 0
  let above = count
  while (low < above) {
    const middle = (low + above) >>> 1
    if (ends[middle]! >= least) above = middle
    else low = middle + 1
  }
  return low
}
