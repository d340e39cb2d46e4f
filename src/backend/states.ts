/**
 * The words that a backend tells of itself for `stream.stats()`, such as which segmentation is in use and why. Each part of the backend adds the
 * words that it answers for and says when they change, so that nobody has to compare them to learn that they are the same.
 */
export type StateWords = Readonly<Record<string, string | number | boolean>>

export class States {
  /** Rises whenever `read` would answer differently. */
  changes = 0
  readonly #parts: (() => StateWords)[] = []

  /** @param words asked for at every `read` */
  add(words: () => StateWords): void {
    this.#parts.push(words)
  }

  /** Words of a part have changed. */
  change(): void {
    this.changes++
  }

  /** Cold: call it when `changes` rose. */
  read(): StateWords {
    return Object.assign({}, ...this.#parts.map((words) => words()))
  }
}
