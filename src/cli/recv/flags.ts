/** The flags of `speadcast recv`. Types only. */
import type { ReceiverOptions } from '../../receive/index.js'
import type { PlaceFlags } from '../common/place.js'
import type { ReportFlags } from '../common/run-flags.js'

/** The options, as commander parses them. */
export interface RecvFlags extends ReportFlags, PlaceFlags {
  heaps?: number
  timeout?: number
  verify?: true
  output?: string
  order: NonNullable<ReceiverOptions['order']>
  item: string
  interface?: string
  stops?: number
  bugCompat?: number
  buffer?: number
  memory?: number
  concurrentHeaps?: number
  /** False with --no-gro. */
  gro: boolean
  anySource?: true
  cntStep?: number
  credits?: true
  backend: NonNullable<ReceiverOptions['backend']>
  device?: string
  verbsLibrary?: string
  pcap?: string
  values?: true
  descriptors?: true
}
