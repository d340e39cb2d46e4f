/**
 * Bytes kept for peers beside the payload of heaps: item pointers and ranges of unfinished heaps, descriptors, what is known of
 * each sender. The payload lies in a region of its own (storage.ts), which is as large as `heapMemoryBytes`. This budget is an
 * eighth of that, so that neither can starve the other (docs/receiving.md, "Memory").
 */
export class Budget {
  usedBytes = 0

  constructor(readonly limitBytes: number) {}

  /** Charges `bytes`, or returns false and charges nothing where they are more than is left. */
  take(bytes: number): boolean {
    if (this.usedBytes + bytes > this.limitBytes) return false
    this.usedBytes += bytes
    return true
  }

  give(bytes: number): void {
    this.usedBytes -= bytes
  }
}

const LEAST_BYTES = 1 << 20
/** The part of heapMemoryBytes that is allowed on top for tables. */
const SHARE = 8

export const tableBudget = (heapMemoryBytes: number): Budget =>
  new Budget(Math.max(LEAST_BYTES, Math.floor(heapMemoryBytes / SHARE)))
