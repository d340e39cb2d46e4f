/** The variants that one engine holds, by their ids. */
import { ERRNO } from '../../ffi/native-error.js'
import type { Backend, Posting } from '../backend/backend.js'
import type { CompiledBatch } from '../batch/compile.js'
import type { SpeadcastError } from '../errors.js'
import type { Pacer } from './pacer.js'
import { type Refusal, Variant } from './variant.js'

/** Variants found without a look-up, by the low bits of their ids. */
const RECENT = 16

export class Variants {
  readonly #all = new Map<number, Variant>()
  readonly #recent: (Variant | undefined)[] = new Array(RECENT).fill(undefined)

  constructor(
    readonly backend: Backend,
    readonly pacer: Pacer | undefined,
    /** The name of the immediate that says when heaps are due. */
    readonly timestampItem: string | undefined,
  ) {}

  /** @param rates bytes per second per heap: −1 the stream's, 0 unlimited. */
  add(id: number, compiled: CompiledBatch, rates: Float64Array | undefined): void {
    const { table } = compiled
    let posting: Posting | undefined
    let refused: Refusal | undefined
    try {
      for (const region of table.regions) this.backend.register(region)
      posting = this.backend.compile(table, { maxMessageBytes: this.pacer?.maxMessageBytes(table) ?? 65507 })
    } catch (error) {
      // Memory that cannot be locked, for one: the stream goes on without this batch.
      const { message, cause } = error as SpeadcastError
      refused = { errno: (cause as { errno?: number } | undefined)?.errno ?? ERRNO.ENOMEM, message }
    }
    const nanosecondsBefore = this.pacer?.costs(table, rates)
    const { timestampItem } = this
    const variant = new Variant({ id, compiled, posting, refused, nanosecondsBefore, timestampItem }, this.#all.values())
    this.#all.set(id, variant)
    this.#recent[id & (RECENT - 1)] = variant
  }

  get(id: number): Variant {
    const recent = this.#recent[id & (RECENT - 1)]
    if (recent !== undefined && recent.id === id) return recent
    const variant = this.#all.get(id)
    if (!variant) throw new Error(`submission of unknown variant ${id}`)
    this.#recent[id & (RECENT - 1)] = variant
    return variant
  }

  /** Forgets a variant and returns it; undefined if there is none. Release it when nothing of it is in flight. */
  drop(id: number): Variant | undefined {
    const variant = this.#all.get(id)
    if (!variant) return undefined
    this.#all.delete(id)
    if (this.#recent[id & (RECENT - 1)] === variant) this.#recent[id & (RECENT - 1)] = undefined
    variant.dropped = true
    return variant
  }

  release({ posting }: Variant): void {
    if (posting) this.backend.release(posting)
  }
}
