/** Sends the descriptors of item groups ahead of their batches, and again when they are due. */
import { performance } from 'node:perf_hooks'
import type { BatchTemplate } from '../batch/template.js'
import { type Flavour, Heap, type Item, type ItemGroup } from '../spead/index.js'
import type { StreamConfig } from './config.js'
import type { Lane } from './lanes.js'
import { type BatchResult, SendError } from './result.js'
import type { SendPromise } from './send-promise.js'

type Describable = Pick<BatchTemplate, 'items' | 'substreams'>

interface Described {
  readonly items: readonly Item[]
  readonly at: number
  readonly substreams: Set<number>
}

export interface DescriptorParts {
  readonly when: StreamConfig['descriptors']
  readonly flavour: Flavour
  /** How many substreams there are. */
  readonly substreams: number
  /** Sends a heap to some of them. */
  readonly send: (substreams: readonly number[], heap: Heap) => SendPromise<BatchResult>
}

const NONE: ReadonlySet<number> = new Set()

export class Descriptors {
  readonly #described = new WeakMap<ItemGroup, Described>()

  constructor(readonly parts: DescriptorParts) {}

  /** Receivers do not know items that joined the group since it was described. */
  noteItems(group: ItemGroup): void {
    const known = this.#described.get(group)?.items
    if (known && !group.items().every((item) => known.includes(item))) this.#described.delete(group)
  }

  /**
   * Sends descriptors to the substreams that lack them. Where they travel inside the batch's first heaps instead, returns the callback for the
   * case that some of those fail.
   */
  describe(batch: Describable, heaps: number, lane: Lane): ((error: unknown) => void) | undefined {
    const { when, flavour, substreams, send } = this.parts
    lane.onWithdrawn = undefined
    if (when === 'none') return undefined
    const described = this.#current(batch.items)?.substreams ?? NONE
    if (described.size === substreams) return undefined
    if (when === 'in-band') return this.#describeInBand(batch, heaps, lane, described)
    const without = Array.from({ length: substreams }, (_, k) => k).filter((k) => !described.has(k))
    const heap = new Heap(flavour)
    for (const item of batch.items.items()) heap.addDescriptor(item)
    const promise = send(without, heap)
    const takeBack = this.#note(batch.items, without)
    // The user's send has not failed: those substreams get the descriptors again, before the next batch.
    promise.observed = true
    promise.onRejection((error) => takeBack(failedHeaps(error).map((j) => without[j]!)))
    return undefined
  }

  #describeInBand(
    batch: Describable,
    heaps: number,
    lane: Lane,
    described: ReadonlySet<number>,
  ): ((error: unknown) => void) | undefined {
    let carriers: Map<number, number> | undefined
    for (let j = 0; j < heaps; j++) {
      const substream = batch.substreams[j]!
      if (described.has(substream) || carriers?.has(substream)) continue
      carriers ??= new Map()
      carriers.set(substream, j)
    }
    if (!carriers) return undefined
    const fresh = [...carriers]
    const substreams = [...carriers.keys()]
    const takeBack = this.#note(batch.items, substreams)
    lane.onWithdrawn = () => takeBack(substreams)
    return (error) => {
      const failed = new Set(failedHeaps(error))
      takeBack(fresh.flatMap(([substream, j]) => (failed.has(j) ? [substream] : [])))
    }
  }

  /** Undefined where descriptors are due again. */
  #current(group: ItemGroup): Described | undefined {
    const { when } = this.parts
    const known = this.#described.get(group)
    const isOld = known && typeof when === 'object' && performance.now() - known.at >= when.everySeconds * 1000
    return isOld ? undefined : known
  }

  /** Notes that substreams get the descriptors. Returns a function that takes it back, for those that did not get them after all. */
  #note(group: ItemGroup, substreams: readonly number[]): (lost: readonly number[]) => void {
    let known = this.#current(group)
    if (!known) {
      known = { items: group.items(), at: performance.now(), substreams: new Set() }
      this.#described.set(group, known)
    }
    const described = known.substreams
    for (const k of substreams) described.add(k)
    return (lost) => {
      for (const k of lost) described.delete(k)
    }
  }
}

/** Indices of the heaps that were tried and not sent whole. */
const failedHeaps = (error: unknown): readonly number[] => (error instanceof SendError ? error.outcome.failedHeaps : [])
