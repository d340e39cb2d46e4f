/**
 * A bucket that leaks at a rate: what is poured in may be ahead of the rate by what it holds, and no more. Times are milliseconds of the
 * caller's clock.
 */
export class LeakyBucket {
  readonly #bytesPerMs: number
  #level = 0
  #at = 0

  /** @param capacityBytes may be changed; what is in beyond it leaks like the rest */
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

  /** As of the last look: see level. */
  pour(bytes: number): void {
    this.#level += bytes
  }

  /** Until there is no more in it than this. As of the last look. */
  msUntil(bytes: number): number {
    return Math.max(0, this.#level - bytes) / this.#bytesPerMs
  }
}
