/** How the paths of packets have changed, in words, for `stream.stats().states` and `onPathChange`. */
import { errnoName } from '../../../ffi/native-error.js'
import type { Path } from '../../net/route.js'
import type { Gates } from '../gates.js'
import type { States } from '../states.js'

export class PathNews {
  readonly #gates: Gates
  readonly #states: States
  #changes = 0
  #last = ''

  constructor(gates: Gates, states: States) {
    this.#gates = gates
    this.#states = states
    states.add(() => ({ pathChanges: this.#changes, ...(this.#last !== '' && { lastPathChange: this.#last }) }))
  }

  note(what: string): void {
    this.#changes++
    this.#last = `${new Date().toISOString()} ${what}`
    this.#states.change()
  }

  /**
   * The paths of some substreams are others than before: tells that of the first.
   * @param trouble why no packet can leave, where that is known
   */
  tell(changed: readonly number[], before: readonly Path[], trouble: () => string): void {
    const [first] = changed
    if (first === undefined) return
    const more = changed.length > 1 ? `, and ${changed.length - 1} more endpoints` : ''
    this.note(`${this.#words(first, before[first]!, trouble)}${more}`)
  }

  #words(i: number, old: Path, trouble: () => string): string {
    const path = this.#gates.paths[i]!
    const cutBy = this.#gates.cutBy(i)
    if (cutBy !== 0) return `${trouble() || `no route to ${path.to}`} (${errnoName(cutBy)})`
    return way(path) === way(old)
      ? `${path.to} leaves again by ${way(path)}`
      : `${path.to} leaves by ${way(path)} instead of ${way(old)}`
  }
}

const way = ({ interfaceName, ifindex, sourceAddress, nextHop, to }: Path): string =>
  `${interfaceName} (index ${ifindex})${sourceAddress && ` from ${sourceAddress}`}${nextHop && !to.includes(nextHop.text) ? ` via ${nextHop.text}` : ''}`
