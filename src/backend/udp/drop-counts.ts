/**
 * Counts packets that were dropped on the interfaces that a stream's packets leave by, and on those below them: a VLAN's parent, the ports of a
 * bond or bridge. A queue there drops in silence what the interface on top has passed on.
 */
import { NativeError } from '../../../ffi/native-error.js'
import type { LinkLosses } from '../../../ffi/netlink/link-losses.js'
import { type Link, links } from '../../../ffi/netlink/route.js'

/** Each costs 10 µs a look. A bridge with more ports than this says itself what it dropped, and no more. */
const MOST_BELOW = 8

interface Counted {
  readonly ifindex: number
  /** Drops as of the last read. */
  drops: number
}

/** An interface and those below it: one packet may be counted on each, so the greatest rise is how many were lost. */
type Stack = readonly [Counted, ...Counted[]]

export class DropCounts {
  /** Since the read before: packets dropped. */
  lost = 0
  /** Losses of carrier of all interfaces together, ever. */
  carrierLosses = 0
  /** Every interface that packets leave by is up, with a signal. */
  running = true
  /** Another number when a queueing discipline was replaced. */
  queueing = 0
  readonly #losses: LinkLosses
  #stacks: readonly Stack[] = []

  constructor(losses: LinkLosses) {
    this.#losses = losses
  }

  /** Counts on these interfaces from now on. What was counted on others is forgotten. */
  follow(ifindexes: readonly number[]): void {
    const known = new Map(this.#stacks.flat().map((counted) => [counted.ifindex, counted]))
    let all: readonly Link[] = []
    try {
      all = links()
    } catch (error) {
      if (!(error instanceof NativeError)) throw error // no descriptor left, or the table changes all the time
    }
    const counted = (ifindex: number): Counted => known.get(ifindex) ?? { ifindex, drops: this.#drops(ifindex) }
    this.#stacks = ifindexes.map((ifindex) => [counted(ifindex), ...below(ifindex, all).map(counted)])
  }

  /** Whether no queue of an interface and of those below it holds packets. @throws NativeError when one of them is gone */
  queuesAreEmpty(ifindex: number): boolean {
    const stack = this.#stacks.find(([top]) => top.ifindex === ifindex) ?? [{ ifindex }]
    return stack.every((counted) => {
      this.#losses.read(counted.ifindex)
      return this.#losses.queueLength === 0
    })
  }

  /** @throws NativeError when an interface is gone */
  read(): void {
    this.lost = 0
    this.carrierLosses = 0
    this.queueing = 0
    this.running = true
    const losses = this.#losses
    for (const stack of this.#stacks) {
      let lost = 0
      for (const counted of stack) {
        losses.read(counted.ifindex)
        const drops = losses.txDropped + losses.queueDrops
        lost = Math.max(lost, drops - counted.drops)
        counted.drops = drops
        this.carrierLosses += losses.carrierDownCount
        this.queueing = (Math.imul(this.queueing, 31) + losses.queueing) | 0
        if (counted === stack[0]) this.running &&= losses.running
      }
      this.lost += lost
    }
  }

  #drops(ifindex: number): number {
    try {
      this.#losses.read(ifindex)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      return 0 // `read` tells that it is gone
    }
    return this.#losses.txDropped + this.#losses.queueDrops
  }
}

/** The interfaces below one, the nearest first; none where there are too many. The peer of a veth is not below it. */
export function below(ifindex: number, all: readonly Link[]): number[] {
  const found: number[] = []
  for (let top: number | undefined = ifindex, next = 0; top !== undefined; top = found[next++]) {
    const { kind, lower } = all.find(({ index }) => index === top) ?? {}
    const ports = all.filter(({ master }) => master === top).map(({ index }) => index)
    for (const index of kind !== 'veth' && lower ? [lower, ...ports] : ports) if (!found.includes(index)) found.push(index)
    if (found.length > MOST_BELOW) return []
  }
  return found
}
