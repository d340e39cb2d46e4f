import { totalmem } from 'node:os'
import type { GroupMode } from './batch/compile.js'
import type { HeapViews } from './batch/views.js'
import { check } from './errors.js'
import type { ItemGroup } from './spead/index.js'
import type { Stream } from './stream.js'
import type { Batch } from './stream-batch.js'

export interface BatchRingOptions {
  /** The items of every heap, with fixed shapes. */
  items: ItemGroup
  /** Heaps per batch. */
  heaps: number
  /** Batches wanted, all of which can be under way at once. Default 4. */
  batches?: number
  /** Order of the packets of a batch. Default 'serial'. */
  groupMode?: GroupMode
}

/**
 * Batches to be filled and sent in turn, over and over, so that the i-th heap of all goes to substream i mod endpoints. Each heap's place
 * in memory belongs to one substream, so the ring must hold a multiple of the endpoints: it has `batches` batches, or as many more
 * as that takes where `heaps` is no multiple of the endpoints.
 * @throws ERR_SPEADCAST_CONFIG and what createBatch throws
 */
export function createBatchRing<T extends object = HeapViews>(stream: Stream, options: BatchRingOptions): Batch<T>[] {
  const { items, heaps, batches = 4, groupMode = 'serial' } = options
  check(
    Number.isInteger(batches) && batches >= 1 && batches <= 65536,
    'ERR_SPEADCAST_CONFIG',
    () => `batches is ${batches}; it must be a whole number from 1 to 65536`,
  )
  const endpoints = stream.endpoints.length
  let period = 1
  while (Number.isInteger(heaps) && (period * heaps) % endpoints !== 0) period++
  const length = Math.ceil(batches / period) * period
  const ring: Batch<T>[] = []
  for (let k = 0; k < length; k++) {
    ring.push(stream.createBatch<T>({ items, heaps, groupMode, substreams: (j) => (k * heaps + j) % endpoints }))
    // Memory is faulted in as it is mapped: beyond what there is the kernel ends the process instead of refusing.
    const bytes = ring[0]!.compiled.region.byteLength * length
    check(k > 0 || bytes <= totalmem() / 2, 'ERR_SPEADCAST_MEMORY', () => {
      ring[0]!.close()
      return (
        `${length} batches of ${heaps} heaps for ${endpoints} endpoints take ${Math.round(bytes / 2 ** 20)} MiB, more than half of this ` +
        "machine's memory; use smaller heaps, fewer of them in a batch, or fewer batches"
      )
    })
  }
  return ring
}
