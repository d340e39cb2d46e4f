import type { VlanTag } from '../../net/frame.js'
import type { QueueOptions } from './open.js'

export interface IbverbsOptions extends QueueOptions {
  readonly sourcePort: number
  readonly reusePort?: boolean
  /** Tag of frames, in place of the innermost of the interface; default that of the interface, if it is a VLAN. */
  readonly vlan?: VlanTag
  /** The rate at which the device paces; undefined when it does not. */
  readonly hardwareRateBytesPerSecond?: number
  /** The rate counts UDP payload, or everything from preamble to gap. */
  readonly hardwareRateBasis?: 'udp' | 'wire'
  /** Bytes that the device may send back to back; at least one frame. */
  readonly hardwareBurstBytes?: number
}
