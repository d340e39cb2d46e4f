/**
 * Descriptors in band: the first heap of each substream that lacks them carries every item's descriptor before the item.
 * Descriptors and the headers of such heaps stand behind the batch's own memory, and item data stays where it is.
 */
import { ITEM_DESCRIPTOR } from '../spead/constants.js'
import type { Item, PlanItem } from '../spead/index.js'
import { type HeapSpec, type PayloadPart, writeHeaders } from './compile.js'
import { planSpaced, type SpacedPlan, type SpacedPlanOptions } from './headroom.js'

interface DescriptorPlace {
  readonly at: number
  readonly encoded: Uint8Array
  /** Bytes of the item that follows it in the payload; 0 for an immediate. */
  readonly addressedBytes: number
}

export class InBandDescriptors {
  /** Bytes that it takes behind `from`. */
  readonly byteLength: number
  readonly #plan: SpacedPlan
  readonly #descriptors: readonly DescriptorPlace[]
  /** Where zeros for the plan's padding stand. */
  readonly #paddingAt: number
  readonly #headersAt: number
  readonly #headerStride: number

  /**
   * @param items the items that `planItems` plan, in the same order
   * @param substreams the substream of each heap
   * @param from where the batch's own memory ends
   */
  constructor(
    options: Omit<SpacedPlanOptions, 'items'>,
    items: readonly Item[],
    planItems: readonly PlanItem[],
    substreams: Uint16Array,
    from: number,
  ) {
    let at = roundUp(from)
    this.#descriptors = planItems.map(({ immediate, lengthBytes }, i) => {
      const encoded = items[i]!.encode(options.flavour)
      const descriptor = { at, encoded, addressedBytes: immediate ? 0 : lengthBytes }
      at += encoded.length
      return descriptor
    })
    this.#plan = planSpaced({
      ...options,
      items: planItems.flatMap((item, i) => [
        { id: ITEM_DESCRIPTOR, immediate: false, lengthBytes: this.#descriptors[i]!.encoded.length },
        item,
      ]),
    })
    this.#paddingAt = at
    this.#headersAt = roundUp(at + this.#plan.paddingBytes)
    this.#headerStride = roundUp(this.#plan.headers.length)
    this.byteLength = this.#headersAt + new Set(substreams).size * this.#headerStride - from
  }

  /** Returns how many packets more a heap takes with descriptors than the `packets` without. */
  morePackets(packets: number): number {
    return this.#plan.packets - packets
  }

  /**
   * Writes descriptors and headers into the batch's memory, and returns the batch's heaps with descriptors in the first of each
   * of these substreams.
   */
  specs(plain: readonly HeapSpec[], substreams: ReadonlySet<number>, memory: Uint8Array): HeapSpec[] {
    for (const { at, encoded } of this.#descriptors) memory.set(encoded, at)
    const seen = new Set<number>()
    return plain.map((spec) => {
      const { substream } = spec
      if (seen.has(substream) || !substreams.has(substream)) return spec
      const own: HeapSpec = {
        plan: this.#plan,
        substream,
        headerOffset: this.#headersAt + seen.size * this.#headerStride,
        parts: this.#parts(spec.parts),
      }
      seen.add(substream)
      writeHeaders(memory, own)
      return own
    })
  }

  /** Returns the payload in wire order: each item's descriptor, then the item. The heap's own parts are cut at the items' ends. */
  #parts(parts: readonly PayloadPart[]): PayloadPart[] {
    const out: PayloadPart[] = []
    const rest = [...parts]
    const take = (length: number): void => {
      for (let part = rest[0]; length > 0 && part; part = rest[0]) {
        const n = Math.min(length, part.length)
        out.push({ ...part, length: n })
        if (n === part.length) rest.shift()
        else rest[0] = { ...part, offset: part.offset + n, length: part.length - n }
        length -= n
      }
    }
    for (const { at, encoded, addressedBytes } of this.#descriptors) {
      out.push({ region: 0, offset: at, length: encoded.length })
      take(addressedBytes)
    }
    out.push({ region: 0, offset: this.#paddingAt, length: this.#plan.paddingBytes })
    return out
  }
}

/** To a cache line. */
const roundUp = (n: number): number => Math.ceil(n / 64) * 64
