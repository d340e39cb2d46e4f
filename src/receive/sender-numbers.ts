/**
 * Numbers for senders that are known by a text. Anybody may send from any port, so their count is bounded; for another the one goes
 * that was silent for long. A number is given once.
 */
const MOST = 4096

interface Numbered {
  readonly number: number
  /** Heard a second time, or again since it was passed over. */
  recent: boolean
}

export class SenderNumbers {
  readonly #known = new Map<string, Numbered>()
  #next = 0

  of(text: string): number {
    const known = this.#known.get(text)
    if (known) {
      known.recent = true
      return known.number
    }
    if (this.#known.size >= MOST) this.#forgetOne()
    const number = this.#next
    this.#next = (number + 1) & 0x7fffffff
    this.#known.set(text, { number, recent: false })
    return number
  }

  /** Returns the text of a number; null where it has been forgotten. */
  textOf(number: number): string | null {
    for (const [text, known] of this.#known) if (known.number === number) return text
    return null
  }

  #forgetOne(): void {
    for (const [text, known] of this.#known) {
      this.#known.delete(text)
      if (!known.recent) return
      known.recent = false
      this.#known.set(text, known)
    }
  }
}
