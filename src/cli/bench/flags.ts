/** The options of `speadcast bench`, as commander parses them. */
import type { RateText } from '../../index.js'
import type { ReportFlags } from '../common/run-flags.js'
import type { TransportFlags } from '../common/transport-options.js'

export interface BenchFlags extends TransportFlags, ReportFlags {
  readonly to?: readonly string[]
  readonly sizes: readonly number[]
  readonly seconds: number
  readonly warmupSeconds: number
  readonly repeats: number
  readonly packetSize?: number
  readonly batches?: number
  readonly rate: RateText
  readonly agent?: true
  /** In per cent. */
  readonly accuracy: number
  readonly confirm: number
  readonly burst?: number
  readonly html?: string
}
