/**
 * A variant: a CompiledBatch as one engine holds it, under an id. It joins the compiled batch with the backend's Posting, the memory of its
 * headers, the columns of its values, the numbers that stand in the headers, and the costs that pacing needs.
 */
import { attachRegion } from '../../ffi/memory/region.js'
import type { Posting } from '../backend/backend.js'
import type { CompiledBatch } from '../batch/compile.js'
import { CntPointers, type CntSequence, ImmediatePointers, scatter, scatterExplicit, scatterImmediate } from './scatter.js'
import { Shares } from './shares.js'

export interface Refusal {
  readonly errno: number
  readonly message: string
}

export interface VariantParts {
  readonly id: number
  readonly compiled: CompiledBatch
  readonly posting: Posting | undefined
  /** Why there is no posting: sends of this variant fail. */
  readonly refused: Refusal | undefined
  /** Nanoseconds rows 0 … r−1 take at the wanted rate; undefined when unlimited. */
  readonly nanosecondsBefore: Float64Array | undefined
  /** The name of the immediate that says when heaps are due. */
  readonly timestampItem: string | undefined
}

/** A class, not an object literal: copies made by spread get a second hidden class, and every reader is deoptimised. */
export class Variant {
  readonly id: number
  readonly compiled: CompiledBatch
  readonly posting: Posting | undefined
  readonly refused: Refusal | undefined
  readonly view: DataView
  readonly cntColumn: Float64Array
  /** Copies the columns' entries of chosen heaps; undefined: the heaps have the first ones. */
  readonly gather: (() => void) | undefined
  readonly cnt: CntPointers
  readonly immediates: readonly ImmediatePointers[]
  /** The immediate that says when heaps are due, where there is one. */
  readonly timestamps: ImmediatePointers | undefined
  /** Common to variants that share header memory: only the variant that wrote it last knows the numbers that stand there. */
  readonly headers: { writtenBy: number }
  readonly rows: number
  readonly heaps: number
  /** UDP payload bytes of all rows. */
  readonly bytes: number
  /** udpBytes summed: bytes of rows 0 … r−1. */
  readonly bytesBefore: Float64Array
  readonly nanosecondsBefore: Float64Array | undefined
  readonly shares: Shares
  dropped = false
  #wholes: Uint32Array | undefined
  #firstRows: Uint32Array | undefined

  /** @param others that may share header memory */
  constructor({ id, compiled, posting, refused, nanosecondsBefore, timestampItem }: VariantParts, others: Iterable<Variant>) {
    const { table, scatter } = compiled
    const buffer = attachRegion(scatter.region)
    this.id = id
    this.compiled = compiled
    this.posting = posting
    this.refused = refused
    this.view = new DataView(buffer)
    const columns = new Columns(buffer, table.heaps, scatter.entries)
    this.cntColumn = columns.at(scatter.cntColumnAt)
    this.cnt = new CntPointers(scatter)
    this.immediates = scatter.immediates.map(
      (immediate) =>
        new ImmediatePointers(immediate, scatter.region, buffer, table.heaps, this.cnt, columns.at(immediate.columnAt)),
    )
    this.timestamps = this.immediates.find(({ table: { name } }) => name === timestampItem)
    this.gather = scatter.entries && (() => columns.gather())
    this.headers = headersOf(compiled, others)
    this.rows = table.rows
    this.heaps = table.heaps
    this.bytesBefore = new Float64Array(table.rows + 1)
    for (let r = 0; r < table.rows; r++) this.bytesBefore[r + 1] = this.bytesBefore[r]! + table.udpBytes[r]!
    this.bytes = this.bytesBefore[table.rows]!
    this.nanosecondsBefore = nanosecondsBefore
    this.shares = new Shares(compiled, this.bytesBefore)
  }

  /** The first row behind `row` where all heaps that have begun are over; `row` itself, where heaps are under way before it. */
  endOfWholes(row: number): number {
    this.#wholes ??= wholesOf(this.compiled.table.heap, this.heaps)
    return this.#wholes[row]!
  }

  firstRow(heap: number): number {
    this.#firstRows ??= firstRowsOf(this.compiled.table.heap, this.heaps)
    return this.#firstRows[heap]!
  }
}

function firstRowsOf(heap: Uint32Array, heaps: number): Uint32Array {
  const first = new Uint32Array(heaps)
  for (let r = heap.length - 1; r >= 0; r--) first[heap[r]!] = r
  return first
}

function wholesOf(heap: Uint32Array, heaps: number): Uint32Array {
  const lastRow = new Uint32Array(heaps)
  for (let r = 0; r < heap.length; r++) lastRow[heap[r]!] = r
  const wholes = Uint32Array.from(heap.keys())
  for (let begin = 0, end = 0; begin < heap.length; begin = end) {
    for (let r = begin, last = begin; r <= last; r++) {
      last = Math.max(last, lastRow[heap[r]!]!)
      end = last + 1
    }
    wholes[begin] = end
  }
  return wholes
}

/** The columns of a variant: the batch's own or, of chosen heaps, copies of their entries. */
class Columns {
  readonly #copies: { readonly from: Float64Array; readonly to: Float64Array }[] = []

  constructor(
    readonly buffer: ArrayBuffer,
    readonly heaps: number,
    readonly entries: Uint32Array | undefined,
  ) {}

  at(columnAt: number): Float64Array<ArrayBuffer> {
    const { entries, heaps } = this
    if (!entries) return new Float64Array(this.buffer, columnAt, heaps)
    // Entries rise, so the last one is the largest.
    const copy = { from: new Float64Array(this.buffer, columnAt, entries.at(-1)! + 1), to: new Float64Array(heaps) }
    this.#copies.push(copy)
    return copy.to
  }

  gather(): void {
    const entries = this.entries!
    for (const { from, to } of this.#copies) for (let j = 0; j < entries.length; j++) to[j] = from[entries[j]!]!
  }
}

function headersOf({ scatter: { region } }: CompiledBatch, others: Iterable<Variant>): Variant['headers'] {
  for (const { compiled, headers } of others) {
    const other = compiled.scatter.region
    if (other.id !== region.id || other.address !== region.address) continue
    // Compiling has written templates of headers there.
    headers.writtenBy = 0
    return headers
  }
  return { writtenBy: 0 }
}

/** Writes heap cnts and staged immediates into the headers of heaps 0 … heaps−1; see scatter.ts for the cost. */
export function patch(variant: Variant, heaps: number, explicit: boolean, sequence: CntSequence): void {
  const { view, cnt, immediates, headers, gather } = variant
  if (gather !== undefined) gather()
  if (headers.writtenBy !== variant.id) {
    headers.writtenBy = variant.id
    cnt.written(-1, 0)
    for (const each of immediates) each.written(-1, 0)
  }
  if (!explicit) {
    scatter(view, cnt, immediates, heaps, sequence)
    return
  }
  scatterExplicit(view, cnt, heaps, variant.cntColumn, sequence)
  for (let i = 0; i < immediates.length; i++) scatterImmediate(view, immediates[i]!, heaps)
}
