/** Handles of batches, as other threads get them: what they must be, and the views that are made of them. */
import { attach, type LoanTicket } from '../../ffi/memory/loans.js'
import { checkOptions, isObject, shown } from '../checks.js'
import { ensure, INSPECT, type Inspection, inspected, SpeadcastError } from '../errors.js'
import type { ImmediateColumn } from './column.js'
import type { HeapViews, Instances, NoViews, ViewClasses } from './view-types.js'
import { type BatchHandle, type BatchParts, BatchViews, checkViews } from './views.js'

/** Computes SHA-256 of the parts as the loan's table has it, so that a handle which was changed is known. */
export function digestOf({ heaps, regions, items, slots, substreams, immediates }: BatchParts, nonce: string): Int32Array {
  const { createHash } = process.getBuiltinModule('node:crypto')
  const hash = createHash('sha256').update(
    JSON.stringify([
      nonce,
      heaps,
      regions.map(({ id, address, byteLength }) => [id, address, byteLength]),
      items.map(({ name, region, offset, stride, dtype, elements }) => [name, region, offset, stride, dtype, elements]),
      immediates.map(({ name, columnAt }) => [name, columnAt]),
      slots?.length ?? -1,
      substreams?.length ?? -1,
    ]),
  )
  if (slots) hash.update(slots)
  if (substreams) hash.update(substreams)
  return new Int32Array(Uint8Array.from(hash.digest()).buffer)
}

/**
 * Views of a batch that another thread made, from `attachBatch`. Valid while the batch is open, until `close`.
 * @example
 * using batch = attachBatch(handle, { views: { adc_samples: Int8Array } })
 * for (let j = 0; j < batch.heaps; j++) batch.heap(j).adc_samples.fill(j)
 */
export class AttachedBatch<T extends object = HeapViews, I extends string = string> extends BatchViews<T, I> implements Disposable {
  readonly #detach: () => void
  #closed = false

  /** @internal use attachBatch */
  constructor(parts: BatchParts, detach: () => void) {
    super(parts)
    this.#detach = detach
  }

  override heap(j: number): T {
    this.#ensureOpen('heap')
    return super.heap(j)
  }

  override immediate(name: I): ImmediateColumn {
    this.#ensureOpen('immediate')
    return super.immediate(name)
  }

  #ensureOpen(call: string): void {
    ensure(!this.#closed, 'ERR_SPEADCAST_BATCH_STATE', () => `${call}: the views are closed; attach the batch again`)
  }

  /**
   * Says that this thread does not use the views any more: when the batch is closed, its memory may go to others. The end of the
   * thread says the same. Idempotent.
   * @example attachBatch(handle).close()
   */
  close(): void {
    this.#closed = true
    this.#detach()
  }

  /** Closes the views, for `using`. */
  [Symbol.dispose](): void {
    this.close()
  }

  /** @internal */
  override [INSPECT](...how: Inspection): string {
    return inspected('AttachedBatch', how, () => ({ state: this.#closed ? 'closed' : 'open', ...this.shown() }))
  }
}

/**
 * Options of `attachBatch`.
 * @example attachBatch(handle, { views: { adc_samples: Int8Array } })
 */
export interface AttachOptions<V extends ViewClasses = ViewClasses> {
  /** The class of each view, by item name, checked against the batch. It gives the views their types where the handle has none. Default: no check. */
  views?: V
}

/** The views in another thread, as the type of the handle tells them. A handle that came by a message is `any`, and tells nothing. */
export type Attached<H, V> = [H] extends [BatchHandle<infer T, infer I>]
  ? AttachedBatch<[keyof T] extends [never] ? Instances<V> : string extends keyof T ? Instances<V> : T, I>
  : never

/**
 * Makes the views of a batch in another thread of the same process. They are valid while the batch is open; when it is closed, its
 * addresses go to nobody else until `close` of the views, or until this thread ends.
 * @throws ERR_SPEADCAST_CONFIG for what is no handle, and for other options; ERR_SPEADCAST_BATCH_STATE for one that was changed, of another process,
 * or of a closed batch; ERR_SPEADCAST_ITEM where `views` contradict the items
 * @example
 * using batch = attachBatch(workerData, { views: { adc_samples: Int8Array } })
 * batch.heap(0).adc_samples.fill(1)
 */
export function attachBatch<H extends BatchHandle, V extends ViewClasses = NoViews>(
  handle: H,
  options: AttachOptions<V> = {},
): Attached<H, V> {
  checkOptions('attachBatch', options, ['views'])
  const copy = copyOf(handle)
  if (!copy)
    throw new SpeadcastError(
      'ERR_SPEADCAST_CONFIG',
      `attachBatch: ${shown(handle)} is no handle of a batch; give it what batch.handle() returned, as postMessage carries it`,
    )
  const detach = attach(copy.loan, (nonce) => digestOf(copy, nonce))
  try {
    checkViews('attachBatch', copy, options.views)
    return new AttachedBatch<never>(copy, detach) as unknown as Attached<H, V>
  } catch (error) {
    detach()
    throw error
  }
}

const isWhole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0
const isText = (value: unknown): value is string => typeof value === 'string'

/** Returns a copy that nobody can change any more, if its parts are of the right kinds. Their values are the loan's to check. */
function copyOf(handle: unknown): BatchHandle | undefined {
  try {
    const { heaps, regions, items, slots, substreams, immediates, loan } = handle as BatchHandle
    if (!isWhole(heaps) || !(slots === undefined || slots instanceof Uint32Array)) return undefined
    if (!(substreams === undefined || (substreams instanceof Uint16Array && substreams.length === heaps))) return undefined
    return {
      heaps,
      regions: listOf(regions, ({ id, address, byteLength }) => ({
        id: checked(id, isWhole),
        address: checked(address, isWhole),
        byteLength: checked(byteLength, isWhole),
      })),
      items: listOf(items, ({ name, region, offset, stride, dtype, elements }) => ({
        name: checked(name, isText),
        region: checked(region, isWhole),
        offset: checked(offset, isWhole),
        stride: checked(stride, isWhole),
        dtype: checked(dtype, isText),
        elements: checked(elements, isWhole),
      })),
      ...(slots && { slots: new Uint32Array(slots) }),
      ...(substreams && { substreams: new Uint16Array(substreams) }),
      immediates: listOf(immediates, ({ name, columnAt }) => ({
        name: checked(name, isText),
        columnAt: checked(columnAt, isWhole),
      })),
      loan: ticketOf(loan),
    }
  } catch {
    // An accessor of the user's, or `checked`.
    return undefined
  }
}

function ticketOf({ pid, table, record, nonce }: LoanTicket): LoanTicket {
  return {
    pid: checked(pid, isWhole),
    table: checked(table, isWhole),
    record: checked(record, isWhole),
    nonce: checked(nonce, isText),
  }
}

function listOf<T extends object>(list: readonly T[], copy: (entry: T) => T): readonly T[] {
  if (!Array.isArray(list)) throw new TypeError('no list')
  return list.map((entry) => copy(checked(entry, isObject) as T))
}

function checked<T>(value: unknown, good: (value: unknown) => value is T): T {
  if (!good(value)) throw new TypeError('of another kind')
  return value
}
