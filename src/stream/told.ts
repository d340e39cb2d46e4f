/** The last description of each item id that each substream was told, which a receiver goes by. */
import type { Descriptor, Flavour } from '../spead/index.js'

/** An item as it was told. */
export interface Description {
  readonly item: Descriptor
  readonly flavour: Flavour
  /** Equal for descriptions that tell a receiver the same. */
  readonly key: string
  /** It did not arrive: it is repeated, and yet the substream lacks it. */
  readonly lost?: true
}

export class Told {
  /** Rises with every change. */
  revision = 0
  /** By item id: the description by substream. */
  readonly #last = new Map<number, (Description | undefined)[]>()

  constructor(readonly substreams: number) {}

  lacks(substream: number, descriptions: readonly Description[]): boolean {
    return descriptions.some(({ item, key }) => {
      const last = this.#last.get(item.id)?.[substream]
      return last?.key !== key || last.lost === true
    })
  }

  /** A substream is told. Returns whether that replaces another description of an id. */
  tell(substream: number, descriptions: readonly Description[]): boolean {
    this.revision++
    let replaces = false
    for (const description of descriptions) {
      const column = this.#columnOf(description.item.id)
      const last = column[substream]
      if (last && last.key !== description.key) replaces = true
      column[substream] = description
    }
    return replaces
  }

  /** They have not arrived there. Descriptions that the substream was told since stand. */
  lose(substream: number, descriptions: readonly Description[]): void {
    this.#replace(substream, descriptions, (description) => ({ ...description, lost: true }))
  }

  /** All that it was told was told to a receiver that is gone. */
  forget(substream: number): void {
    this.lose(substream, this.of(substream))
  }

  /** They have not been sent, and heaps of earlier descriptions may be under way: nothing of those ids is repeated. */
  withdraw(substream: number, descriptions: readonly Description[]): void {
    this.#replace(substream, descriptions, () => undefined)
  }

  #replace(
    substream: number,
    descriptions: readonly Description[],
    by: (description: Description) => Description | undefined,
  ): void {
    for (const description of descriptions) {
      const column = this.#columnOf(description.item.id)
      if (column[substream] !== description || description.lost) continue
      this.revision++
      column[substream] = by(description)
    }
  }

  /** All that a substream was told. */
  of(substream: number): Description[] {
    return [...this.#last.values()].flatMap((column) => column[substream] ?? [])
  }

  #columnOf(id: number): (Description | undefined)[] {
    const known = this.#last.get(id)
    if (known) return known
    const column = new Array<Description | undefined>(this.substreams).fill(undefined)
    this.#last.set(id, column)
    return column
  }
}
