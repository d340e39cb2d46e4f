/** A compiled batch as the engine sends it: its headers, the columns its values come in, and what stands in the headers. */
import { attachRegion } from '../../ffi/region.js'
import type { Posting } from '../backend/backend.js'
import type { CompiledBatch } from '../batch/compile.js'
import { type CntSequence, HighHalf, scatterExplicit, scatterImmediate, scatterSequence } from './scatter.js'

export interface Refusal {
  readonly errno: number
  readonly message: string
}

export interface Variant {
  readonly id: number
  readonly compiled: CompiledBatch
  readonly posting: Posting | undefined
  /** Why there is no posting: sends of this variant fail. */
  readonly refused: Refusal | undefined
  readonly view: DataView
  readonly cntColumn: Float64Array
  readonly columns: readonly Float64Array[]
  readonly standingCnt: HighHalf
  readonly standing: readonly HighHalf[]
  /** Common to variants that share header memory: who wrote it last knows what stands there, nobody else does. */
  readonly headers: { writtenBy: number }
  /** udpBytes summed: bytes of rows 0 … r−1. */
  readonly bytesBefore: Float64Array
  /** Nanoseconds rows 0 … r−1 take at the wanted rate; undefined when unlimited. */
  readonly nanosecondsBefore: Float64Array | undefined
  dropped: boolean
}

export interface VariantParts {
  readonly id: number
  readonly compiled: CompiledBatch
  readonly posting: Posting | undefined
  readonly refused: Refusal | undefined
  readonly nanosecondsBefore: Float64Array | undefined
}

/** @param others that may share header memory */
export function makeVariant(parts: VariantParts, others: Iterable<Variant>): Variant {
  const { table, scatter } = parts.compiled
  const buffer = attachRegion(scatter.region)
  const bytesBefore = new Float64Array(table.rows + 1)
  for (let r = 0; r < table.rows; r++) bytesBefore[r + 1] = bytesBefore[r]! + table.udpBytes[r]!
  return {
    ...parts,
    view: new DataView(buffer),
    cntColumn: new Float64Array(buffer, scatter.cntColumnAt, table.heaps),
    columns: scatter.immediates.map((immediate) => new Float64Array(buffer, immediate.columnAt, table.heaps)),
    standingCnt: new HighHalf(scatter.cntAt, scatter.cntStart),
    standing: scatter.immediates.map(({ at, start }) => new HighHalf(at, start)),
    headers: headersOf(parts.compiled, others),
    bytesBefore,
    dropped: false,
  }
}

function headersOf({ scatter: { region } }: CompiledBatch, others: Iterable<Variant>): Variant['headers'] {
  for (const { compiled, headers } of others) {
    const other = compiled.scatter.region
    if (other.id === region.id && other.address === region.address) return headers
  }
  return { writtenBy: 0 }
}

/** Writes heap cnts and staged immediates into the headers of heaps 0 … heaps−1; see scatter.ts for the cost. */
export function patch(variant: Variant, heaps: number, explicit: boolean, sequence: CntSequence): void {
  const { id, view, compiled, columns, cntColumn, standingCnt, standing, headers } = variant
  const { scatter } = compiled
  if (headers.writtenBy !== id) {
    headers.writtenBy = id
    standingCnt.written(-1, 0)
    for (const each of standing) each.written(-1, 0)
  }
  if (explicit) scatterExplicit(view, scatter, heaps, cntColumn, sequence, standingCnt)
  else scatterSequence(view, scatter, heaps, sequence, standingCnt)
  for (let i = 0; i < columns.length; i++) scatterImmediate(view, scatter.immediates[i]!, heaps, columns[i]!, standing[i]!)
}
