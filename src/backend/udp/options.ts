import type { ResolvedEndpoint } from '../../net/endpoint.js'
import type { ResolvedInterface } from '../../net/interface.js'
import type { PaceOptions } from './pace.js'

export interface UdpOptions {
  /** One per substream, all of one family. */
  readonly endpoints: readonly ResolvedEndpoint[]
  readonly interface?: ResolvedInterface
  /** The user's socket, by which packets leave: nothing of it is set but what tells of errors. */
  readonly socketFd?: number
  readonly sourcePort: number
  /** Other sockets that are asked the same may have `sourcePort` too. */
  readonly reusePort?: boolean
  /** Broadcast addresses may be sent to. */
  readonly broadcast?: boolean
  /** TTL or hop limit of unicast and multicast packets; undefined = the kernel's (64 and 1). */
  readonly ttl?: number
  readonly multicastLoop: boolean
  /** Differentiated services code point, 0–63 (RFC 2474). */
  readonly dscp?: number
  /** 0 leaves the kernel's default. */
  readonly sendBufferBytes: number
  readonly packetSizeBytes: number
  readonly allowFragmentation: boolean
  readonly segmentation: 'auto' | 'off'
  readonly udpPath: 'auto' | 'io_uring' | 'sendmmsg'
  /** How long opening waits for unicast neighbours to answer. */
  readonly neighbourTimeoutMs: number
  /** A rate that the kernel keeps, if it can. */
  readonly pace?: PaceOptions
  /** The bytes that the rate of `pace` counts: 'wire' adds those that stand around each packet there. */
  readonly rateBasis?: 'udp' | 'wire'
}
