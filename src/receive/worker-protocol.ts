/** What crosses between main and the receiving thread. */
import type { RegionHandle } from '../../ffi/memory/region.js'
import type { DatagramPeer } from '../rdma/rendezvous.js'
import type { RdmaSourceInput } from './rdma-source.js'
import type { ReceivedHeap } from './received-heap.js'
import type { SessionOptions, SessionSummary } from './session.js'
import type { UdpSourceInput } from './udp-source.js'

export interface WorkerInput {
  readonly memory: RegionHandle
  readonly source: UdpSourceInput | RdmaSourceInput
  readonly wakeFd: number
  /** Int32Array of CONTROL words. */
  readonly control: SharedArrayBuffer
  /** Float64Array in the order of STAT_NAMES. */
  readonly stats: SharedArrayBuffer
  readonly options: SessionOptions
  /** Delivered heaps, and KiB of them, that may wait for the consumer. */
  readonly queueHeaps: number
  readonly queueKibibytes: number
}

export type WorkerOutput =
  | { readonly type: 'ready'; readonly peers: readonly DatagramPeer[] }
  | { readonly type: 'heaps'; readonly heaps: ReceivedHeap[] }
  | { readonly type: 'end'; readonly summary: SessionSummary }
  | { readonly type: 'error'; readonly code: string; readonly message: string; readonly detail: string }

/** Words of the control block: main writes them all but ASLEEP. */
export const CONTROL = { STOP: 0, ASLEEP: 1, TAKEN_HEAPS: 2, TAKEN_KIBIBYTES: 3, WORDS: 4 } as const

/** What a heap counts for in the queue's bound. */
export function kibibytesOf(heap: ReceivedHeap): number {
  return 1 + (heap.payloadBytes >>> 10)
}
