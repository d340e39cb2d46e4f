import type { MemoryPacket } from '../backend/memory.js'
import type { StateWords } from '../backend/states.js'
import type { Driver } from '../engine/driver.js'
import type { Ring } from '../engine/ring.js'
import type { ResolvedEndpoint } from '../net/endpoint.js'
import type { StreamClock } from './clock.js'
import type { StreamConfig } from './config.js'
import type { News } from './news.js'

/** The parts that `openStream` makes a stream of. */
export interface StreamParts {
  readonly config: StreamConfig
  readonly endpoints: readonly ResolvedEndpoint[]
  readonly ring: Ring
  /** Opened, and not started. */
  readonly driver: Driver
  readonly reason: string
  /** The stream's own states, beside the backend's. */
  readonly states: StateWords
  /** For the memory of batches; ANY_NODE: none in particular. */
  readonly numaNode: number
  /** The memory backend's packets. */
  readonly packets: MemoryPacket[]
  readonly news: News
  readonly clock: StreamClock | undefined
}
