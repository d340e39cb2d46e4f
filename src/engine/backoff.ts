const LIMIT_NANOSECONDS = 2_000_000

/** The pauses that a backend asks for when it can take nothing: each is twice as long as the one before, until it takes something. */
export class Backoff {
  /** The backend is left alone until then, though submissions wake the thread meanwhile. */
  until = Number.NEGATIVE_INFINITY
  #pause = 0

  begin(now: number, nanoseconds: number): void {
    this.#pause = Math.min(LIMIT_NANOSECONDS, this.#pause === 0 ? nanoseconds : this.#pause * 2)
    this.until = now + this.#pause
  }

  /** The backend took something. */
  end(): void {
    this.#pause = 0
  }
}
