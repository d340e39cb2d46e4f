/**
 * Sends the descriptors of items ahead of the heaps that have them, and again when they are due. A receiver knows of an item id what it was told
 * last, so a substream lacks the descriptors of a group again when another group has described one of its ids otherwise.
 */
import type { HeapReference } from '../batch/heaps.js'
import type { BatchTemplate } from '../batch/template.js'
import { type Descriptor, type Flavour, Heap, type ItemGroup } from '../spead/index.js'
import type { StreamConfig } from './config.js'
import { DescriptorTimer } from './descriptor-timer.js'
import type { Lane } from './lanes.js'
import { type BatchResult, SendError } from './result.js'
import type { SendPromise } from './send-promise.js'

type Describable = Pick<BatchTemplate, 'items' | 'substreams'>

/** Descriptors that are sent together, and the substreams that have them. */
interface Described {
  readonly items: readonly Descriptor[]
  readonly substreams: Set<number>
}

/** The last description of an item id. */
interface Latest {
  readonly item: Descriptor
  readonly flavour: Flavour
  readonly described: Described
}

export interface DescriptorParts {
  readonly when: StreamConfig['descriptors']
  readonly flavour: Flavour
  /** How many substreams there are. */
  readonly substreams: number
  /** Sends heaps of the stream's own, in turn or between the heaps of the sends under way. */
  readonly send: (references: readonly HeapReference[], between: boolean) => SendPromise<BatchResult>
}

export class Descriptors {
  readonly #groups = new WeakMap<ItemGroup, Described>()
  /** Descriptors of single items, of heaps that were sent by name. */
  readonly #singles = new WeakMap<Descriptor, Described>()
  readonly #latest = new Map<number, Latest>()
  readonly #timer: DescriptorTimer | undefined
  readonly #inBand: boolean
  readonly #all: readonly number[]
  /** The next heap cnt of the descriptors' own sequence; undefined: they take the stream's. */
  #nextCnt: number | undefined
  readonly #cntStep: number
  readonly #cntLimit: number

  constructor(readonly parts: DescriptorParts) {
    const { when, flavour, substreams } = parts
    const { everySeconds, firstCnt, cntStep = 1, stagger = false } = typeof when === 'object' ? when : {}
    this.#inBand = when === 'in-band'
    this.#all = Array.from({ length: substreams }, (_, k) => k)
    this.#nextCnt = firstCnt
    this.#cntStep = cntStep
    this.#cntLimit = 2 ** Math.min(flavour.heapAddressBits, 53)
    if (everySeconds !== undefined)
      this.#timer = new DescriptorTimer({ everySeconds, stagger }, substreams, (due) => this.#repeat(due))
  }

  close(): void {
    this.#timer?.close()
  }

  /** Receivers do not know items that joined the group since it was described. */
  noteItems(group: ItemGroup): void {
    const known = this.#groups.get(group)?.items
    if (known && !group.items().every((item) => known.includes(item))) this.#groups.delete(group)
  }

  /**
   * Sends descriptors to the substreams that lack them. Where they travel inside the batch's first heaps instead, returns the callback for the
   * case that some of those fail.
   * @param first the heap of the batch that is sent first
   */
  describe(batch: Describable, heaps: number, lane: Lane, first: number): ((error: unknown) => void) | undefined {
    const { when, substreams } = this.parts
    lane.onWithdrawn = undefined
    if (when === 'none') return undefined
    let described = this.#groups.get(batch.items)
    if (described?.substreams.size === substreams) return undefined
    if (!described) {
      described = { items: batch.items.items(), substreams: new Set() }
      this.#groups.set(batch.items, described)
    }
    if (this.#inBand) return this.#describeInBand(batch, heaps, lane, first, described)
    const { substreams: known } = described
    this.#sendAhead(
      [described],
      this.#all.filter((k) => !known.has(k)),
      this.parts.flavour,
    )
    return undefined
  }

  /** Sends descriptors in one heap to each of these substreams, ahead of what is sent next. */
  #sendAhead(descriptions: readonly Described[], substreams: readonly number[], flavour: Flavour): void {
    const heap = new Heap(flavour)
    for (const { items } of descriptions) for (const item of items) heap.addDescriptor(item)
    const promise = this.#send(
      substreams.map((substream) => ({ heap, substream })),
      false,
    )
    for (const described of descriptions) this.#note(described, substreams, flavour)
    // The user's send has not failed: those substreams get the descriptors again, before the next batch.
    promise.onRejection((error) => {
      for (const described of descriptions) takeBack(described, error, substreams)
    })
  }

  /**
   * With a timer, heaps that are sent by name have their items described too: ahead of the first, unless it brings the descriptors itself.
   */
  describeHeaps(references: readonly HeapReference[]): void {
    if (!this.#timer) return
    for (const { heap, substream = 0 } of references) {
      const lacking = new Set<Described>()
      for (const { kind, descriptor } of heap.entries) {
        const described = descriptor && this.#single(descriptor)
        if (!described || described.substreams.has(substream)) continue
        if (kind !== 'descriptor') lacking.add(described)
        // One of several of a group does not make the group known.
        else if (described.items.length === 1) this.#note(described, [substream], heap.flavour)
      }
      if (lacking.size > 0) this.#sendAhead([...lacking], [substream], heap.flavour)
    }
  }

  #single(item: Descriptor): Described {
    const known = this.#singles.get(item)
    if (known) return known
    const latest = this.#latest.get(item.id)
    const described = latest?.item.describesAs(item) ? latest.described : { items: [item], substreams: new Set<number>() }
    this.#singles.set(item, described)
    return described
  }

  #describeInBand(
    batch: Describable,
    heaps: number,
    lane: Lane,
    first: number,
    described: Described,
  ): ((error: unknown) => void) | undefined {
    let carriers: Map<number, number> | undefined
    for (let j = 0; j < heaps; j++) {
      const substream = batch.substreams[first + j]!
      if (described.substreams.has(substream) || carriers?.has(substream)) continue
      carriers ??= new Map()
      carriers.set(substream, j)
    }
    if (!carriers) return undefined
    const fresh = [...carriers]
    const substreams = [...carriers.keys()]
    this.#note(described, substreams, this.parts.flavour)
    lane.onWithdrawn = () => {
      for (const k of substreams) described.substreams.delete(k)
    }
    return (error) => {
      const failed = new Set(failedHeaps(error))
      for (const [substream, j] of fresh) if (failed.has(j)) described.substreams.delete(substream)
    }
  }

  /** These substreams get the descriptors, which for them replace others of the same ids. */
  #note(described: Described, substreams: readonly number[], flavour: Flavour): void {
    for (const item of described.items) {
      const latest = this.#latest.get(item.id)
      if (latest && latest.described !== described && !latest.item.describesAs(item))
        for (const k of substreams) latest.described.substreams.delete(k)
      this.#latest.set(item.id, { item, flavour, described })
    }
    for (const k of substreams) described.substreams.add(k)
    this.#timer?.start()
  }

  /** Sends what receivers should know to these substreams once more; resolves when that has settled. */
  async #repeat(substreams: readonly number[]): Promise<void> {
    const heaps = new Map<string, Heap>()
    for (const { item, flavour } of this.#latest.values()) {
      const key = `${flavour.heapAddressBits} ${flavour.bugCompat}`
      const heap = heaps.get(key) ?? new Heap(flavour)
      heaps.set(key, heap.addDescriptor(item))
    }
    for (const heap of heaps.values()) {
      try {
        await this.#send(
          substreams.map((substream) => ({ heap, substream })),
          true,
        )
      } catch (error) {
        for (const { described } of this.#latest.values()) takeBack(described, error, substreams)
      }
    }
  }

  #send(references: readonly HeapReference[], between: boolean): SendPromise<BatchResult> {
    const promise = this.parts.send(
      references.map((reference) => ({ ...reference, cnt: this.#takeCnt() })),
      between,
    )
    promise.observed = true
    return promise
  }

  /** −1: the next of the stream's sequence. */
  #takeCnt(): number {
    const cnt = this.#nextCnt
    if (cnt === undefined) return -1
    // Numbers below 2^53 may have no exact sum.
    const room = this.#cntLimit - this.#cntStep
    this.#nextCnt = cnt < room ? cnt + this.#cntStep : cnt - room
    return cnt
  }
}

/** Substreams that did not get the descriptors after all: heap j was for substreams[j]. */
function takeBack(described: Described, error: unknown, substreams: readonly number[]): void {
  for (const j of failedHeaps(error)) described.substreams.delete(substreams[j]!)
}

/** Indices of the heaps that were tried and not sent whole. */
const failedHeaps = (error: unknown): readonly number[] => (error instanceof SendError ? error.outcome.failedHeaps : [])
