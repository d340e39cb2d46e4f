import type { BackendCaps } from '../backend/backend.js'
import type { GroupMode } from '../batch/compile.js'
import { type HeapReference, PreparedHeaps, preparedKey } from '../batch/heaps.js'
import type { Split } from '../spead/index.js'
import type { StreamConfig } from './config.js'
import { Lane, type Lanes } from './lanes.js'

/** Compiled heap lists kept for reuse. */
const MOST_FREE = 64

export type PreparedLane = Lane & { readonly sendable: PreparedHeaps }

/** Heap lists of a stream: each is compiled at first use, and used again for lists of the same shape. */
export class PreparedLists {
  readonly #free = new Map<string, PreparedLane[]>()
  #freeCount = 0
  #closed = false

  constructor(
    readonly config: Pick<StreamConfig, 'packetSizeBytes' | 'repeatPointers'>,
    readonly caps: BackendCaps,
    readonly lanes: Lanes,
    /** See StreamParts. */
    readonly numaNode: number,
  ) {}

  /** A lane with the heaps' present values, ready to be submitted. It comes back by itself when its send has settled. */
  fill(references: readonly HeapReference[], mode: GroupMode, split: Split): PreparedLane {
    const key = `${typeof split === 'string' ? split : 'exact'} ${preparedKey(references, mode)}`
    const lane = this.#take(key) ?? this.#make(key, references, mode, split)
    const { sendable } = lane
    try {
      sendable.fill(references)
      sendable.validate(references.length, 0)
      this.lanes.aim(lane, sendable.heaps, undefined, 0)
      lane.telling = undefined
    } catch (error) {
      lane.onFree(lane)
      throw error
    }
    return lane
  }

  #make(key: string, references: readonly HeapReference[], mode: GroupMode, split: Split): PreparedLane {
    const { packetSizeBytes, repeatPointers } = this.config
    const { headroomBytes, mergesEqualPackets } = this.caps
    const cut = { packetSizeBytes, split, repeatPointers, headroomBytes, mergesEqualPackets, numaNode: this.numaNode }
    return new Lane(new PreparedHeaps(references, mode, cut), (lane) => this.#keep(key, lane as PreparedLane)) as PreparedLane
  }

  #take(key: string): PreparedLane | undefined {
    const pool = this.#free.get(key)
    if (!pool) return undefined
    this.#freeCount--
    if (pool.length === 1) this.#free.delete(key)
    return pool.pop()
  }

  /** Keeps the lists used last: a key goes to the map's end whenever one of its lists comes back. */
  #keep(key: string, lane: PreparedLane): void {
    if (this.#closed) {
      lane.sendable.region.release()
      return
    }
    const pool = this.#free.get(key) ?? []
    pool.push(lane)
    this.#free.delete(key)
    this.#free.set(key, pool)
    if (++this.#freeCount <= MOST_FREE) return
    const [oldest] = this.#free.keys()
    const dropped = this.#take(oldest!)!
    this.lanes.drop(dropped)
    dropped.sendable.region.release()
  }

  /** Gives the memory back, that of lists in flight when they settle. */
  close(): void {
    this.#closed = true
    for (const pool of this.#free.values()) for (const { sendable } of pool) sendable.region.release()
    this.#free.clear()
  }
}
