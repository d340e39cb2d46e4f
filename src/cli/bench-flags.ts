/** The options of `speadcast bench`, as commander parses them. */
import type { TransportFlags } from './transport-options.js'

export interface BenchFlags extends TransportFlags {
  readonly to: readonly string[]
  readonly sizes: readonly number[]
  readonly seconds: number
  readonly warmupSeconds: number
  readonly repeats: number
  readonly packetSize?: number
  readonly batches?: number
  readonly rate: string
  readonly json?: true
}
