import { performance } from 'node:perf_hooks'

/** Explanations come with each failed batch, which may be thousands a second. */
const RECENT_MS = 50

/** The kernel's last answer to a question, asked again only when that is older than RECENT_MS: a question costs some 50 µs and 10 KB of garbage. */
export class Recent<T> {
  #answer: { readonly value: T } | undefined
  #askedAt = 0

  get(ask: () => T): T {
    const now = performance.now()
    if (!this.#answer || now - this.#askedAt >= RECENT_MS) {
      this.#answer = { value: ask() }
      this.#askedAt = now
    }
    return this.#answer.value
  }
}
