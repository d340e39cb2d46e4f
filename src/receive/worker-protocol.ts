/** The messages and the shared words between the main thread and the receiving thread. */
import type { Placing } from '../../ffi/placement.js'
import type { ReceiveMemory } from '../../ffi/socket/recvmmsg.js'
import type { DatagramPeer } from '../rdma/rendezvous.js'
import type { ReceiverNewsItem } from './events.js'
import type { RdmaSourceInput } from './rdma-source.js'
import { heldBytes, type ReceivedHeap } from './received-heap.js'
import type { SessionOptions, SessionSummary } from './session.js'
import type { TcpSourceInput } from './tcp-source.js'
import type { UdpSourceInput } from './udp-source.js'

export interface WorkerInput {
  readonly memory: ReceiveMemory
  readonly source: UdpSourceInput | RdmaSourceInput | TcpSourceInput
  readonly wakeFd: number
  /** An Int32Array of CONTROL's words. */
  readonly control: SharedArrayBuffer
  /** A Float64Array in the order of STAT_NAMES, of the receiver and then of each endpoint. */
  readonly stats: SharedArrayBuffer
  readonly options: SessionOptions
  /** The endpoints' texts. */
  readonly texts: readonly string[]
  /** See expectLoad. */
  readonly load: Int32Array
  readonly placing: Placing
  /** How many delivered heaps, and KiB of them, may wait for the consumer. */
  readonly queueHeaps: number
  readonly queueKibibytes: number
}

export type WorkerOutput =
  | { readonly type: 'ready'; readonly peers: readonly DatagramPeer[] }
  | { readonly type: 'told'; readonly item: ReceiverNewsItem }
  | { readonly type: 'heaps'; readonly heaps: ReceivedHeap[] }
  | { readonly type: 'end'; readonly summary: SessionSummary }
  | { readonly type: 'error'; readonly code: string; readonly message: string; readonly detail: string }

/** Words of the control block. The main thread writes all of them but ASLEEP. */
export const CONTROL = { STOP: 0, ASLEEP: 1, TAKEN_HEAPS: 2, TAKEN_KIBIBYTES: 3, WORDS: 4 } as const

/** Returns the KiB that a heap counts for in the queue's bound. */
export function kibibytesOf(heap: ReceivedHeap): number {
  return 1 + Math.ceil(heldBytes(heap) / 1024)
}
