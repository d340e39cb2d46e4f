/**
 * Sends the descriptors of items ahead of the heaps that have them, and again when they are due. A receiver knows of an item id
 * what it was told last, so a substream lacks the descriptors of a group again when another group has described one of its ids
 * otherwise.
 */
import type { ChosenHeaps } from '../batch/chosen.js'
import type { HeapReference } from '../batch/heaps.js'
import type { BatchTemplate } from '../batch/template.js'
import { type Descriptor, type Flavour, Heap, type ItemGroup } from '../spead/index.js'
import type { StreamConfig } from './config.js'
import { DescriptorTimer } from './descriptor-timer.js'
import { type BatchResult, SendError } from './result.js'
import type { SendPromise } from './send-promise.js'
import { type Carrier, Telling, unsentHeaps } from './telling.js'
import { type Description, Told } from './told.js'

type Describable = Pick<BatchTemplate, 'items' | 'substreams'>

/** Descriptors of a group of items, which are sent together. */
interface Group {
  readonly descriptions: readonly Description[]
  /** Substreams that were told them on account of this group. */
  readonly told: Set<number>
  /** Substreams that lack some, as of a revision of what substreams were told. */
  lacking: Set<number>
  revision: number
}

/** A heap of what a substream was told last. */
interface Repeat {
  readonly heap: Heap
  readonly descriptions: readonly Description[]
}

export interface DescriptorParts {
  readonly when: StreamConfig['descriptors']
  readonly flavour: Flavour
  /** How many substreams there are. */
  readonly substreams: number
  /** Sends heaps of the stream's own, in turn or between the heaps of the sends under way. */
  readonly send: (references: readonly HeapReference[], between: boolean) => SendPromise<BatchResult>
  /** Heaps that were to go between others, and have not begun, fail as 'flushed'. */
  readonly recall: () => void
}

export class Descriptors {
  readonly #told: Told
  readonly #groups = new WeakMap<ItemGroup, Group>()
  /** Descriptions of items in heaps that were sent by name, with the flavour of the last such heap. */
  readonly #single = new WeakMap<Descriptor, Description>()
  /** By substream, as of a revision of what they were told. */
  #repeats: { readonly revision: number; readonly of: readonly (readonly Repeat[])[] } | undefined
  /**
   * Sends under way that tell a substream otherwise than before. A repeat between the heaps under way would overtake heaps before
   * them.
   */
  #replacing = 0
  readonly #timer: DescriptorTimer | undefined
  readonly #inBand: boolean
  readonly #all: readonly number[]
  /** The next heap cnt of the descriptors' own sequence; undefined: they take the stream's. */
  #nextCnt: number | undefined
  readonly #cntStep: number
  readonly #cntLimit: number
  /** Repeats are under way. */
  #between: Promise<void> | undefined

  constructor(readonly parts: DescriptorParts) {
    const { when, flavour, substreams } = parts
    const { everySeconds, firstCnt, cntStep = 1, stagger = false } = typeof when === 'object' ? when : {}
    this.#told = new Told(substreams)
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
    const known = this.#groups.get(group)?.descriptions
    if (known && !group.items().every((item) => known.some((description) => description.item === item))) this.#groups.delete(group)
  }

  /**
   * Sends descriptors to the substreams that lack them. Where they travel inside the batch's first heaps instead, returns these.
   * @param first the heap of the batch that is sent first
   * @param chosen the heaps that are sent, where these are not all of a range
   */
  describe(batch: Describable, heaps: number, first: number, chosen?: ChosenHeaps): Telling | undefined {
    if (this.parts.when === 'none') return undefined
    const group = this.#groupOf(batch.items)
    const lacking = this.#lacking(group)
    if (lacking.size === 0) return undefined
    const { descriptions } = group
    if (!this.#inBand) {
      this.#noteTold(group, this.#sendAhead(descriptions, [...lacking], this.parts.flavour))
      return undefined
    }
    const carriers = new Map<number, Carrier>()
    for (let i = 0; i < heaps; i++) {
      const heap = chosen ? chosen.heaps[i]! : i
      const substream = batch.substreams[chosen ? heap : first + i]!
      if (lacking.has(substream) && !carriers.has(substream)) carriers.set(substream, { heap, substream, descriptions })
    }
    if (carriers.size === 0) return undefined
    const telling = this.#tell([...carriers.values()])
    this.#noteTold(group, telling)
    return telling
  }

  /**
   * Sends descriptors to the substreams that do not know a batch's items, in heaps of their own whatever was asked for, because a loop has no first
   * heaps.
   */
  describeAhead({ items }: Describable): void {
    const group = this.#groupOf(items)
    const unknowing = this.#unknowing(group)
    if (unknowing.length > 0) this.#noteTold(group, this.#sendAhead(group.descriptions, unknowing, this.parts.flavour))
  }

  /** Whether some substreams do not know a batch's items. */
  lacks({ items }: Describable): boolean {
    return this.#unknowing(this.#groupOf(items)).length > 0
  }

  /** Whoever described the items. */
  #unknowing({ descriptions }: Group): number[] {
    return this.parts.when === 'none' ? [] : this.#all.filter((k) => this.#told.lacks(k, descriptions))
  }

  /**
   * Returns those of heaps sent by name that bring descriptors. With a timer, the others' items are described too, ahead of the
   * first.
   */
  describeHeaps(references: readonly HeapReference[]): Telling | undefined {
    if (this.parts.when === 'none') return undefined
    const carriers: Carrier[] = []
    let replaces = false
    for (const [j, { heap, substream = 0 }] of references.entries()) {
      const lacking: Description[] = []
      for (const { kind, descriptor } of heap.entries) {
        if (!descriptor || !(this.#timer || kind === 'descriptor')) continue
        const description = this.#singleOf(descriptor, heap.flavour)
        if (kind === 'descriptor') {
          const telling = this.#tell([{ heap: j, substream, descriptions: [description] }])
          carriers.push(...telling.carriers)
          replaces ||= telling.replaces
        } else if (this.#told.lacks(substream, [description]) && !lacking.includes(description)) lacking.push(description)
      }
      if (lacking.length > 0) this.#sendAhead(lacking, [substream], heap.flavour)
    }
    if (carriers.length === 0) return undefined
    // A long list is repeated between its own heaps.
    this.#timer?.start()
    return new Telling(this.#told, carriers, replaces)
  }

  /** The substream has another receiver, which has to be told all of it. */
  forget(substream: number): void {
    this.#told.forget(substream)
  }

  /** So that receiver is told at once, between the heaps under way, which do not end. */
  tellAnew(substream: number): void {
    const descriptions = this.#told.of(substream).map(({ item, flavour, key }) => ({ item, flavour, key }))
    if (descriptions.length === 0) return
    this.#told.tell(substream, descriptions)
    void this.#repeat([substream])
  }

  /** The send of heaps that tell something is under way. */
  follow(telling: Telling, promise: SendPromise<BatchResult>): void {
    const replaces = telling.replaces ? 1 : 0
    this.#replacing += replaces
    telling.follow(promise, () => {
      this.#replacing -= replaces
    })
  }

  #groupOf(items: ItemGroup): Group {
    const known = this.#groups.get(items)
    if (known) return known
    const { flavour } = this.parts
    const descriptions = items.items().map((item) => ({ item, flavour, key: item.descriptionKey() }))
    const group = { descriptions, told: new Set<number>(), lacking: new Set(this.#all), revision: this.#told.revision }
    this.#groups.set(items, group)
    return group
  }

  #lacking(group: Group): ReadonlySet<number> {
    const { revision } = this.#told
    if (group.revision !== revision) {
      const { told, descriptions } = group
      group.lacking = new Set(this.#all.filter((k) => !told.has(k) || this.#told.lacks(k, descriptions)))
      group.revision = revision
    }
    return group.lacking
  }

  /** Spares the group, whose set of lacking substreams was up to date, a look at all of them. */
  #noteTold(group: Group, { substreams }: Telling): void {
    for (const k of substreams) {
      group.told.add(k)
      group.lacking.delete(k)
    }
    group.revision = this.#told.revision
  }

  #singleOf(item: Descriptor, flavour: Flavour): Description {
    const known = this.#single.get(item)
    if (known?.flavour === flavour) return known
    const description = { item, flavour, key: known?.key ?? item.descriptionKey() }
    this.#single.set(item, description)
    return description
  }

  /** To be called before the heaps are submitted, because a repeat of what they replace must not follow them. */
  #tell(carriers: readonly Carrier[]): Telling {
    let replaces = false
    for (const { substream, descriptions } of carriers) replaces = this.#told.tell(substream, descriptions) || replaces
    if (replaces) this.parts.recall()
    return new Telling(this.#told, carriers, replaces)
  }

  /** Sends descriptors in one heap to each of these substreams, ahead of what is sent next. */
  #sendAhead(descriptions: readonly Description[], substreams: readonly number[], flavour: Flavour): Telling {
    const heap = heapOf(descriptions, flavour)
    const telling = this.#tell(substreams.map((substream, j) => ({ heap: j, substream, descriptions })))
    // The user's send has not failed if they are lost: those substreams get the descriptors again, before the next batch.
    const references = substreams.map((substream) => ({ heap, substream }))
    const promise = this.#send(references, false)
    this.follow(telling, promise)
    // Not before: a repeat, which goes between the heaps under way, would overtake the first.
    if (this.#timer?.stopped) void promise.settled().then(() => this.#timer?.start())
    return telling
  }

  /** Sends what receivers should know to these substreams once more; resolves when that has settled. */
  async #repeat(substreams: readonly number[]): Promise<void> {
    const byFlavour = new Map<Flavour, (Repeat & { readonly substream: number })[]>()
    for (const substream of substreams)
      for (const repeat of this.#repeatsOf(substream)) {
        const { flavour } = repeat.heap
        const repeats = byFlavour.get(flavour)
        if (repeats) repeats.push({ ...repeat, substream })
        else byFlavour.set(flavour, [{ ...repeat, substream }])
      }
    for (const repeats of byFlavour.values()) {
      const carriers = repeats.map(({ substream, descriptions }, heap) => ({ heap, substream, descriptions }))
      try {
        // One list at a time goes between others.
        while (this.#between) await this.#between
        const promise = this.#send(repeats, this.#replacing === 0)
        this.#between = promise.settled().then(() => {
          this.#between = undefined
        })
        const result = await promise
        new Telling(this.#told, carriers, false).lose(unsentHeaps(undefined, result))
      } catch (error) {
        // It was recalled, so what replaces it is under way.
        if (isRecall(error)) return this.#repeat(substreams)
        new Telling(this.#told, carriers, false).lose(unsentHeaps(error, undefined))
      }
    }
  }

  #repeatsOf(substream: number): readonly Repeat[] {
    const { revision } = this.#told
    if (this.#repeats?.revision !== revision) this.#repeats = { revision, of: repeatsOfAll(this.#told) }
    return this.#repeats.of[substream]!
  }

  #send(references: readonly HeapReference[], between: boolean): SendPromise<BatchResult> {
    const promise = this.parts.send(
      references.map(({ heap, substream = 0 }) => ({ heap, substream, cnt: this.#takeCnt() })),
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

function heapOf(descriptions: readonly Description[], flavour: Flavour): Heap {
  const heap = new Heap(flavour)
  for (const { item } of descriptions) heap.addDescriptor(item)
  return heap
}

/** By substream: a heap for each flavour. Substreams that were told the same share them. */
function repeatsOfAll(told: Told): (readonly Repeat[])[] {
  const made = new Map<string, readonly Repeat[]>()
  return Array.from({ length: told.substreams }, (_, k) => {
    const all = told.of(k)
    const key = JSON.stringify(all.map((description) => [description.key, nameOf(description.flavour)]))
    const known = made.get(key)
    if (known) return known
    const flavours = new Map(all.map(({ flavour }) => [nameOf(flavour), flavour]))
    const repeats = [...flavours].map(([name, flavour]) => {
      const descriptions = all.filter((description) => nameOf(description.flavour) === name)
      return { heap: heapOf(descriptions, flavour), descriptions }
    })
    made.set(key, repeats)
    return repeats
  })
}

const nameOf = ({ heapAddressBits, bugCompat }: Flavour): string => `${heapAddressBits} ${bugCompat}`

/** None of the heaps began: a recall, because a broken stream fails them otherwise. */
const isRecall = (error: unknown): boolean =>
  error instanceof SendError && error.outcome.heaps.every((status) => status === 'flushed')
