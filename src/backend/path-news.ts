/** How the paths of packets have changed, in words, for `stream.stats().states` and `onPathChange`. */
import { errnoName } from '../../ffi/native-error.js'
import { firstOf } from '../debug.js'
import { counted, printable } from '../errors.js'
import type { Path } from '../net/route.js'
import type { Gates } from './gates.js'
import type { States } from './states.js'

export class PathNews {
  readonly #states: States
  #changes = 0
  #last = ''

  constructor(states: States) {
    this.#states = states
    states.add(() => ({ pathChanges: this.#changes, ...(this.#last !== '' && { lastPathChange: this.#last }) }))
  }

  get changes(): number {
    return this.#changes
  }

  note(what: string): void {
    this.#changes++
    this.#last = `${new Date().toISOString()} ${printable(what)}`
    this.#states.change()
  }

  /**
   * The paths of some substreams are others than before: tells that of the first.
   * @param trouble why no packet can leave, where that is known
   */
  tell(changed: readonly number[], before: readonly Path[], gates: Gates, trouble: () => string): void {
    const [first] = changed
    if (first === undefined) return
    const more = changed.length > 1 ? `, and ${counted(changed.length - 1, 'more endpoint')}` : ''
    this.note(`${wordsOf(gates.paths[first]!, before[first]!, gates.cutBy(first), trouble)}${more}`)
  }
}

function wordsOf(path: Path, before: Path, cutBy: number, trouble: () => string): string {
  if (cutBy !== 0) return `${trouble() || `no route to ${path.to}`} (${errnoName(cutBy)})`
  return way(path) === way(before)
    ? `${path.to} leaves again by ${way(path)}`
    : `${path.to} leaves by ${way(path)} instead of ${way(before)}`
}

/** The ways of the first of many packets, in words. */
export const waysOf = (paths: readonly Path[]): string =>
  firstOf(paths.map((path) => `${path.to} leaves by ${way(path)} (MTU ${path.mtu})`))

const way = ({ interfaceName, ifindex, sourceAddress, nextHop, to }: Path): string => {
  const from = sourceAddress && ` from ${sourceAddress}`
  const via = nextHop && !to.includes(nextHop.text) ? ` via ${nextHop.text}` : ''
  return `${interfaceName} (index ${ifindex})${from}${via}`
}
