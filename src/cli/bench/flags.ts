/** The options of `speadcast bench`, as commander parses them. */
import type { RateText } from '../../index.js'
import type { TransportFlags } from '../common/transport-options.js'

export interface BenchFlags extends TransportFlags {
  readonly to?: readonly string[]
  readonly sizes: readonly number[]
  readonly seconds: number
  readonly warmupSeconds: number
  readonly repeats: number
  readonly packetSize?: number
  readonly batches?: number
  readonly rate: RateText
  readonly json?: true
  readonly agent?: true
  /** In per cent. */
  readonly accuracy: number
  readonly confirm: number
  readonly burst?: number
  readonly html?: string
  readonly jsonStream?: true
}
