/**
 * A bucket that leaks at a rate: bytes that are poured in may be ahead of the rate by its capacity, and no more. Times are milliseconds of
 * the caller's clock.
 */
export class LeakyBucket {
  readonly #bytesPerMs: number
  #level = 0
  #at = 0

  /** @param capacityBytes may be changed; bytes beyond it leak like the others */
  constructor(
    bytesPerSecond: number,
    public capacityBytes: number,
  ) {
    this.#bytesPerMs = bytesPerSecond / 1000
  }

  /** Bytes in it now. */
  level(now: number): number {
    this.#level = Math.max(0, this.#level - (now - this.#at) * this.#bytesPerMs)
    this.#at = now
    return this.#level
  }

  /** Adds bytes, at the time of the last call of `level`. */
  pour(bytes: number): void {
    this.#level += bytes
  }

  /** How long it takes until no more than this is left, from the last call of `level` on. */
  msUntil(bytes: number): number {
    return Math.max(0, this.#level - bytes) / this.#bytesPerMs
  }
}
