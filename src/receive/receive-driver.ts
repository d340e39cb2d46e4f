/** What openReceiver asks of the two ways to receive: native-receiver.ts and dgram-receiver.ts. Types only. */
import type { ResolvedEndpoint } from '../net/endpoint.js'
import type { ResolvedInterface } from '../net/interface.js'
import type { DatagramPeer } from '../rdma/rendezvous.js'
import type { ReceivedHeap } from './received-heap.js'
import type { SessionOptions, SessionSummary } from './session.js'

export interface ReceiveEndpoint extends ResolvedEndpoint {
  /** 0: the kernel chooses. */
  readonly interfaceIndex: number
  /** An address (IPv4) or a name (IPv6) of the interface, as node:dgram wants it for a membership. */
  readonly interfaceName: string | undefined
}

export interface DriverOptions {
  readonly endpoints: readonly ReceiveEndpoint[]
  readonly session: SessionOptions
  /** In setsockopt's units. */
  readonly receiveBufferBytes: number
  /** Bound on the memory of heaps in the making or waiting for their turn. */
  readonly heapMemoryBytes: number
  readonly gro: boolean
  readonly credits: boolean
  /** Of rdma-ud. */
  readonly interface: ResolvedInterface | undefined
  readonly device: string | undefined
  readonly verbsLibrary: string | undefined
  readonly queueHeaps: number
  readonly queueBytes: number
}

export interface DriverEvents {
  /** All sockets are bound; nothing has been received yet. */
  onBound(): void
  onHeap(heap: ReceivedHeap): void
  /** Exactly one of these, once, when sockets and memory are given back. */
  onEnd(summary: SessionSummary): void
  onError(error: unknown): void
}

export interface ReceiveDriver {
  readonly backend: 'recvmmsg' | 'dgram' | 'rdma-ud'
  /** Of rdma-ud: where senders find the endpoints. */
  readonly peers?: readonly DatagramPeer[]
  readonly gro: boolean
  /** What the kernel gave; the smallest of the sockets. */
  readonly receiveBufferBytes: number
  /** In the order of STAT_NAMES. */
  readonly stats: Float64Array
  /** Asks for the end, which onEnd reports. Idempotent, never blocks. */
  stop(): void
  /** The consumer has taken a heap: makes room in the queue. */
  taken(heap: ReceivedHeap): void
}
