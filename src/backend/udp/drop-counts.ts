/**
 * Counts packets that were dropped on the interfaces that a stream's packets leave by, and on those below them: a VLAN's parent, the ports of a
 * bond or bridge. A queue there drops in silence what the interface on top has passed on.
 */
import { isDeepStrictEqual } from 'node:util'
import { NativeError } from '../../../ffi/native-error.js'
import type { LinkLosses } from '../../../ffi/netlink/link-losses.js'
import { type Link, links } from '../../../ffi/netlink/route.js'

/** Each costs 10 µs a look. A bridge with more ports than this says itself what it dropped, and no more. */
const MOST_BELOW = 8

/** An interface, and what its counters said at the last read. */
interface Counted {
  readonly ifindex: number
  /** Packets leave by it, not only by one above it. */
  top: boolean
  txDropped: number
  queueDrops: number
  queueing: number
  /** Packets dropped between the last two reads. */
  rise: number
}

/** An interface that packets leave by, and those below it. */
interface Stack {
  readonly top: number
  readonly below: readonly number[]
}

/**
 * Stacks that share an interface. One packet may be counted at every level that it passed, so the greatest rise is how many were
 * lost: that of all that packets leave by together, or that of one below.
 */
interface Pile {
  readonly tops: readonly Counted[]
  readonly below: readonly Counted[]
}

/**
 * By how much a counter of 32 bits rose, which wraps (struct gnet_stats_queue). One that fell was begun anew: half of its range
 * in drops does not happen between two reads.
 */
export const riseOf = (now: number, before: number): number => Math.max(0, (now - before) | 0)

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
  #piles: readonly Pile[] = []
  #counted: readonly Counted[] = []

  constructor(losses: LinkLosses) {
    this.#losses = losses
  }

  /**
   * Counts on these interfaces from now on. What was counted on others is forgotten. False where the kernel did not tell which are
   * below them: ask again.
   */
  follow(ifindexes: readonly number[]): boolean {
    let all: readonly Link[] | undefined
    try {
      all = links()
    } catch (error) {
      if (!(error instanceof NativeError)) throw error // no descriptor left, or the table changes all the time
    }
    const stacks = ifindexes.map((top) => ({ top, below: all ? below(top, all) : [] }))
    // Packets most often go on by the same interfaces, and what is kept anew each time only major collections free.
    if (isDeepStrictEqual(stacks, this.#stacks)) return all !== undefined
    this.#stacks = stacks
    const known = new Map(this.#counted.map((counted) => [counted.ifindex, counted]))
    const indexes = new Set(this.#stacks.flatMap((stack) => [stack.top, ...stack.below]))
    const counted = new Map([...indexes].map((ifindex) => [ifindex, known.get(ifindex) ?? this.#begin(ifindex)]))
    this.#counted = [...counted.values()]
    for (const each of this.#counted) each.top = ifindexes.includes(each.ifindex)
    this.#piles = pilesOf(this.#stacks).map((pile) => {
      const lower = new Set(pile.flatMap((stack) => stack.below))
      const tops = pile.map(({ top }) => top).filter((top) => !lower.has(top))
      const of = (each: Iterable<number>) => [...each].map((ifindex) => counted.get(ifindex)!)
      return { tops: of(tops), below: of(lower) }
    })
    return all !== undefined
  }

  /** Whether no queue of an interface and of those below it holds packets. @throws NativeError when one of them is gone */
  queuesAreEmpty(ifindex: number): boolean {
    const stack = this.#stacks.find(({ top }) => top === ifindex)
    return [ifindex, ...(stack?.below ?? [])].every((each) => {
      this.#losses.read(each)
      return this.#losses.queueLength === 0
    })
  }

  /** @throws NativeError when an interface is gone */
  read(): void {
    this.lost = 0
    this.carrierLosses = 0
    this.queueing = 0
    this.running = true
    for (let i = 0; i < this.#counted.length; i++) this.#counted[i]!.rise = 0
    try {
      for (let i = 0; i < this.#counted.length; i++) this.#read(this.#counted[i]!)
    } finally {
      for (const { tops, below } of this.#piles) {
        let lost = 0
        for (const { rise } of tops) lost += rise
        for (const { rise } of below) lost = Math.max(lost, rise)
        this.lost += lost
      }
    }
  }

  #read(counted: Counted): void {
    const losses = this.#losses
    losses.read(counted.ifindex)
    const { txDropped, queueDrops, queueing } = counted
    this.#take(counted)
    // A queue that is replaced counts from 0; one that is set anew goes on.
    const queued =
      queueing === losses.queueing ? riseOf(losses.queueDrops, queueDrops) : Math.max(0, losses.queueDrops - queueDrops)
    counted.rise = Math.max(0, losses.txDropped - txDropped) + queued
    this.carrierLosses += losses.carrierDownCount
    this.queueing = (Math.imul(this.queueing, 31) + losses.queueing) | 0
    if (counted.top) this.running &&= losses.running
  }

  #begin(ifindex: number): Counted {
    const counted = { ifindex, top: false, txDropped: 0, queueDrops: 0, queueing: 0, rise: 0 }
    try {
      this.#losses.read(ifindex)
      this.#take(counted)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error // `read` tells that it is gone
    }
    return counted
  }

  #take(counted: Counted): void {
    counted.txDropped = this.#losses.txDropped
    counted.queueDrops = this.#losses.queueDrops
    counted.queueing = this.#losses.queueing
  }
}

/** Puts those together that share an interface. */
function pilesOf(stacks: readonly Stack[]): Stack[][] {
  const piles: Stack[][] = []
  for (const stack of stacks) {
    const own = new Set([stack.top, ...stack.below])
    const shares = (pile: Stack[]) => pile.some(({ top, below }) => [top, ...below].some((ifindex) => own.has(ifindex)))
    const shared = piles.filter(shares)
    piles.splice(0, piles.length, ...piles.filter((pile) => !shared.includes(pile)), [...shared.flat(), stack])
  }
  return piles
}

/** The interfaces below one, the nearest first; none where there are too many. The peer of a veth is not below it. */
function below(ifindex: number, all: readonly Link[]): number[] {
  const found: number[] = []
  for (let top: number | undefined = ifindex, next = 0; top !== undefined; top = found[next++]) {
    const { kind, lower } = all.find(({ index }) => index === top) ?? {}
    const ports = all.filter(({ master }) => master === top).map(({ index }) => index)
    for (const index of kind !== 'veth' && lower ? [lower, ...ports] : ports) if (!found.includes(index)) found.push(index)
    if (found.length > MOST_BELOW) return []
  }
  return found
}
