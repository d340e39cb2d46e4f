/** The options of `speadcast send`, as commander parses them. */
import type { DtypeText, GroupMode, RateText } from '../../index.js'
import type { LengthFlags, ReportFlags } from '../common/run-flags.js'
import type { TransportFlags } from '../common/transport-options.js'

export interface SendFlags extends TransportFlags, LengthFlags, ReportFlags {
  readonly heapSize: number
  readonly packetSize?: number
  readonly batchHeaps?: number
  readonly batches?: number
  readonly groupMode: GroupMode
  readonly pcap?: string
  /** The library checks it. */
  readonly rate: RateText
  readonly rateBasis: 'udp' | 'wire'
  readonly burst: number
  readonly burstRateRatio: number
  readonly catchUp: number
  readonly rateMethod: 'auto' | 'sw' | 'kernel' | 'hw'
  readonly heapAddressBits: number
  readonly split: 'even' | 'greedy' | 'exact'
  readonly payloadBytes?: number
  readonly repeatPointers?: boolean
  readonly firstCnt: number | bigint
  readonly cntStep: number | bigint
  readonly descriptors: string
  readonly descriptorFirstCnt?: number
  readonly descriptorCntStep?: number
  readonly descriptorStagger?: true
  readonly input?: string
  /** The library checks it. */
  readonly dtype?: DtypeText
  readonly samplesPerHeap?: number
  readonly maxDelay?: number
  readonly stop: boolean
  readonly deadline: number
}
