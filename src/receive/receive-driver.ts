/** The interface between openReceiver and the ways to receive: native-, tcp-, rdma-, dgram- and pcap-receiver.ts. Types only. */
import type { ThreadPriority } from '../../ffi/placement.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'
import type { ResolvedInterface } from '../net/interface.js'
import type { NumaTold } from '../net/numa.js'
import type { DatagramPeer } from '../rdma/rendezvous.js'
import type { TellReceiver } from './events.js'
import type { Memberships } from './memberships.js'
import type { ReceivedHeap } from './received-heap.js'
import type { SessionOptions, SessionSummary } from './session.js'

export interface ReceiveEndpoint extends ResolvedEndpoint {
  /** 0: the kernel chooses the interface. */
  readonly interfaceIndex: number
  /** Its name, if the caller named one. */
  readonly joinedOn: string | undefined
  /** The interface as node:dgram wants it for a membership: an IPv4 address, or a name for IPv6. */
  readonly interfaceName: string | undefined
}

export interface DriverOptions {
  readonly endpoints: readonly ReceiveEndpoint[]
  readonly session: SessionOptions
  /** In the units of setsockopt(2). */
  readonly receiveBufferBytes: number
  /** Bytes that the session needs in the buffer: the memory for heaps, and SESSION_BYTES. */
  readonly memoryBytes: number
  readonly gro: boolean
  readonly credits: boolean
  /** Is told what happens. */
  readonly tell: TellReceiver
  /** These three are for rdma-ud. */
  readonly interface: ResolvedInterface | undefined
  readonly device: string | undefined
  readonly verbsLibrary: string | undefined
  /** CPUs for the receiving thread; empty = any. */
  readonly affinity: readonly number[]
  readonly priority: ThreadPriority | undefined
  readonly queueHeaps: number
  readonly queueBytes: number
}

export interface DriverEvents {
  /** Called when all sockets are bound, before anything is received. */
  onBound(): void
  onHeap(heap: ReceivedHeap): void
  /** Exactly one of onEnd and onError is called, once, when sockets and memory are given back. */
  onEnd(summary: SessionSummary): void
  onError(error: unknown): void
}

export interface ReceiveDriver {
  readonly backend: 'recvmmsg' | 'tcp' | 'dgram' | 'rdma-ud' | 'pcap'
  /** With pcap: the endpoints' texts, which it may have found itself. */
  readonly endpoints?: readonly string[]
  /** With rdma-ud: the queue pairs by which senders find the endpoints. */
  readonly peers?: readonly DatagramPeer[]
  readonly gro: boolean
  /** Granted by the kernel; the smallest of the sockets'. */
  readonly receiveBufferBytes: number
  /** The node of the memory that packets and heaps lie in. Absent with node:dgram and pcap. */
  readonly numa?: NumaTold
  /** Absent with rdma-ud. */
  readonly memberships?: Memberships
  /** In the order of STAT_NAMES, of the receiver and then of each endpoint (statWords). */
  readonly stats: Float64Array
  /** Asks for the end, which onEnd reports. Idempotent; never blocks. */
  stop(): void
  /** Makes room in the queue, because the consumer has taken a heap. */
  taken(heap: ReceivedHeap): void
}
