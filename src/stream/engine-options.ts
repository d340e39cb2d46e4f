import type { BackendName } from '../backend/names.js'
import type { EngineOptions } from '../engine/contract.js'
import type { StreamClock } from './clock.js'
import type { StreamConfig } from './config.js'
import { policiesOf } from './on-error.js'

/** Postings that an asynchronous backend may have in flight. */
const MAX_IN_FLIGHT = 8
/** Where a send settles a round trip later, of whatever length that is. */
const MAX_UNACKNOWLEDGED = 512

/** The engine's part of a stream's configuration. */
export function engineOptions(
  config: StreamConfig,
  backend: BackendName,
  substreams: number,
  clock: StreamClock | undefined,
): EngineOptions {
  const policies = policiesOf(config.onError, substreams)
  return {
    rateBytesPerSecond: config.rateBytesPerSecond,
    rateBasis: config.rateBasis,
    burstBytes: config.burstBytes,
    burstRateRatio: config.burstRateRatio,
    catchUpSeconds: config.catchUpSeconds,
    maxInFlight: backend === 'tcp' ? MAX_UNACKNOWLEDGED : MAX_IN_FLIGHT,
    interruptible: typeof config.descriptors === 'object' && config.descriptors.everySeconds !== undefined,
    ...(clock && { schedule: clock.schedule }),
    ...(policies && { onError: policies }),
  }
}
