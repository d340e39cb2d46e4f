import { readFileSync } from 'node:fs'
import { totalmem } from 'node:os'
import type { GroupMode } from '../batch/compile.js'
import type { ByHand, ClassesFor, ImmediatesOf, NoViews, ViewClasses, ViewsOf } from '../batch/view-types.js'
import { checkOptions, shown } from '../checks.js'
import { counted, ensure } from '../errors.js'
import type { ItemGroup } from '../spead/index.js'
import type { Batch } from '../stream/batch.js'
import { memoryLimitBytes } from '../stream/memory-limit.js'
import type { Stream } from '../stream/stream.js'
import { checkStream } from './check-stream.js'

/**
 * Options of `createBatchRing`.
 * @example createBatchRing(stream, { items, heaps: 64, batches: 8 })
 */
export interface BatchRingOptions<G = unknown, V extends ViewClasses = ViewClasses> {
  /** The items of every heap, with fixed shapes. */
  items: ItemGroup<G>
  /** Heaps per batch. */
  heaps: number
  /** Batches wanted, all of which can be under way at once. Default: see batchesFor. */
  batches?: number
  /** Order of the packets of a batch. Default 'serial'. */
  groupMode?: GroupMode
  /** The class of each item's view, as `createBatch` takes it. Default: what the type of `items` says. */
  views?: V & ClassesFor<G, V>
}

/** Enough for a stream without a rate to be sending one, filling another and waiting for a thread that wakes up late. */
const LEAST_BATCHES = 4
const MOST_BATCHES = 65536
/**
 * A filler that was held up this long still finds batches queued. On busy machines threads were seen to lose the CPU for tens of
 * ms.
 */
const HELD_SECONDS = 0.05
const MOST_HELD_BYTES = 2 ** 28

/**
 * The number of batches that createBatchRing makes where `batches` is not given, if a batch has this many payload bytes: 4, or as
 * many as hold 50 ms of the stream's rate, but no more than 256 MiB, an eighth of the memory of this machine or its cgroup, or,
 * of a backend that pins memory, half of what this process may lock.
 * @param memoryBytes bytes that a batch takes in memory; default its payload
 * @throws ERR_SPEADCAST_CONFIG
 * @example const batches = batchesFor(stream, 64 * 8192)
 */
export function batchesFor(stream: Stream, payloadBytes: number, memoryBytes = payloadBytes): number {
  checkStream('batchesFor', stream)
  for (const bytes of [payloadBytes, memoryBytes])
    ensure(
      typeof bytes === 'number' && bytes > 0,
      'ERR_SPEADCAST_CONFIG',
      () => `batchesFor: a batch has ${shown(bytes)} bytes; it must be a number above 0`,
    )
  const wanted = Math.ceil((stream.rateBytesPerSecond * HELD_SECONDS) / payloadBytes)
  if (!(wanted > LEAST_BATCHES)) return LEAST_BATCHES
  const pins = stream.backend === 'ibverbs' || stream.backend === 'rdma-ud'
  const most = Math.min(MOST_HELD_BYTES, memoryLimitBytes() / 8, pins ? lockableBytes() / 2 : Number.POSITIVE_INFINITY)
  return Math.max(LEAST_BATCHES, Math.min(wanted, Math.floor(most / memoryBytes), MOST_BATCHES))
}

/** RLIMIT_MEMLOCK, which CAP_IPC_LOCK (bit 14, capability.h) lifts. Infinite where /proc does not tell. */
function lockableBytes(): number {
  try {
    const capabilities = /^CapEff:\s+([\da-f]+)$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1] ?? '0'
    if ((BigInt(`0x${capabilities}`) >> 14n) & 1n) return Number.POSITIVE_INFINITY
    const limit = /^Max locked memory\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1'))?.[1]
    return limit === undefined ? Number.POSITIVE_INFINITY : Number(limit)
  } catch {
    return Number.POSITIVE_INFINITY
  }
}

/**
 * Batches to be filled and sent in turn, over and over, so that the i-th heap of all goes to substream i mod endpoints. Each
 * heap's place in memory belongs to one substream, so the ring must hold a multiple of the endpoints: it has `batches` batches,
 * or as many more as that takes where `heaps` is no multiple of the endpoints. Its length says how many there are.
 * @throws ERR_SPEADCAST_CONFIG, ERR_SPEADCAST_MEMORY and what createBatch throws
 * @example
 * const ring = createBatchRing(stream, { items, heaps: 64 })
 * for (let i = 0; ; i++) {
 *   const batch = ring[i % ring.length]!
 *   await batch.free
 *   stream.send(batch)
 * }
 */
export function createBatchRing<G, B extends number = ByHand, V extends ViewClasses = NoViews>(
  stream: Stream<B> | Stream,
  options: BatchRingOptions<G, V>,
): Batch<ViewsOf<G, B, V>, ImmediatesOf<G, B>>[] {
  checkStream('createBatchRing', stream)
  checkOptions('createBatchRing', options, ['items', 'heaps', 'batches', 'groupMode', 'views'])
  const { items, heaps, batches, groupMode = 'serial', views } = options
  ensure(
    batches === undefined || (Number.isInteger(batches) && batches >= 1 && batches <= MOST_BATCHES),
    'ERR_SPEADCAST_CONFIG',
    () => `batches is ${shown(batches)}; it must be a whole number from 1 to ${MOST_BATCHES}`,
  )
  const endpoints = stream.endpoints.length
  let period = 1
  while (Number.isInteger(heaps) && (period * heaps) % endpoints !== 0) period++
  const ring: Batch<ViewsOf<G, B, V>, ImmediatesOf<G, B>>[] = []
  try {
    for (let k = 0, length = 1; k < length; k++) {
      const substreams = (j: number) => (k * heaps + j) % endpoints
      ring.push(stream.createBatch<G, B, V>({ items, heaps, groupMode, substreams, ...(views && { views }) }))
      if (k > 0) continue
      const { template } = ring[0]!
      const { byteLength } = template.region
      length = Math.ceil((batches ?? batchesFor(stream, template.payloadBytes(heaps), byteLength)) / period) * period
      // Memory is faulted in as it is mapped: where there is not enough, the kernel ends the process instead of refusing.
      ensure(byteLength * length <= memoryLimitBytes() / 2, 'ERR_SPEADCAST_MEMORY', () => {
        const mebibytes = Math.round((byteLength * length) / 2 ** 20)
        const whose = memoryLimitBytes() < totalmem() ? "the cgroup's" : "this machine's"
        return (
          `${counted(length, 'batch', 'batches')} of ${counted(heaps, 'heap')} for ${counted(endpoints, 'endpoint')} take ${mebibytes} MiB, more than half of ${whose} memory; ` +
          'use smaller heaps, fewer of them in a batch, or fewer batches'
        )
      })
    }
  } catch (error) {
    for (const batch of ring) batch.close()
    throw error
  }
  return ring
}
