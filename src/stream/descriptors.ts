/** Which substreams know the descriptors of which item group, and when they are to have them again. */

import type { Item, ItemGroup } from '../spead/index.js'
import type { StreamConfig } from './config.js'

interface Described {
  readonly items: readonly Item[]
  readonly at: number
  readonly told: Set<number>
}

const NOBODY: ReadonlySet<number> = new Set()

export class Descriptions {
  readonly #described = new WeakMap<ItemGroup, Described>()
  constructor(readonly when: StreamConfig['descriptors']) {}

  /** Items that joined the group since it was described are unknown to receivers. */
  noteItems(group: ItemGroup): void {
    const known = this.#described.get(group)?.items
    if (known && !group.items().every((item) => known.includes(item))) this.#described.delete(group)
  }

  /** The substreams that had the descriptors, as far as is known; none when they are due again. */
  told(group: ItemGroup): ReadonlySet<number> {
    return this.#current(group)?.told ?? NOBODY
  }

  #current(group: ItemGroup): Described | undefined {
    const known = this.#described.get(group)
    const isOld = known && typeof this.when === 'object' && performance.now() - known.at >= this.when.everySeconds * 1000
    return isOld ? undefined : known
  }

  /** Notes that the substreams were told. Returns what takes it back, for those that were not after all. */
  tell(group: ItemGroup, substreams: Iterable<number>): (lost: Iterable<number>) => void {
    let known = this.#current(group)
    if (!known) {
      known = { items: group.items(), at: performance.now(), told: new Set() }
      this.#described.set(group, known)
    }
    const { told } = known
    for (const k of substreams) told.add(k)
    return (lost) => {
      for (const k of lost) told.delete(k)
    }
  }
}
