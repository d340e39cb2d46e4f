/** The options of `speadcast send`, as commander parses them. */
import type { FormatField, GroupMode, RateText } from '../../index.js'
import type { OnErrorFlag } from '../common/arguments.js'
import type { LengthFlags, ReportFlags } from '../common/run-flags.js'
import type { TransportFlags } from '../common/transport-options.js'
import type { ItemFlag } from './item-flags.js'

export interface SendFlags extends TransportFlags, LengthFlags, ReportFlags {
  /** Default: what the items' shapes make, else 1 MiB. */
  readonly heapSize?: number
  readonly item?: readonly ItemFlag[]
  readonly items?: number
  readonly packetSize?: number
  readonly batchHeaps?: number
  readonly batches?: number
  readonly maxQueued?: number
  readonly groupMode: GroupMode
  readonly pcap?: string
  /** The library checks it. */
  readonly rate: RateText
  readonly rateBasis: 'udp' | 'wire'
  readonly burst: number
  readonly burstRateRatio: number
  readonly catchUp: number
  /** The library checks the times. */
  readonly clock?: string
  readonly sampleRate?: number
  readonly startAt?: string
  readonly late?: 'slip' | 'skip'
  /** Milliseconds. */
  readonly lateTolerance?: number
  readonly unsynchronised?: 'refuse' | 'warn' | 'accept'
  readonly onError?: OnErrorFlag
  readonly onThreadDeath: 'fail' | 'restart'
  readonly lagBound?: number
  readonly rateMethod: 'auto' | 'sw' | 'kernel' | 'hw'
  readonly heapAddressBits: number
  readonly bugCompat?: number
  readonly split: 'even' | 'greedy' | 'exact'
  readonly payloadBytes?: number
  readonly repeatPointers?: boolean
  readonly firstCnt: number | bigint
  readonly cntStep: number | bigint
  /** Which of several senders this is, from 0 up. */
  readonly index?: number
  /** How many senders there are. */
  readonly of?: number
  readonly dealEndpoints?: true
  readonly descriptors: string
  readonly descriptorFirstCnt?: number
  readonly descriptorCntStep?: number
  readonly descriptorStagger?: true
  readonly input?: string
  readonly loop?: string
  readonly padLast?: true
  /** The library checks it. */
  readonly dtype?: string
  readonly format?: readonly FormatField[]
  readonly timestampId?: number
  readonly timestampFormat?: readonly FormatField[]
  readonly firstTimestamp?: number
  readonly timestampStep?: number
  /** The former name of timestampStep. */
  readonly samplesPerHeap?: number
  readonly maxDelay?: number
  readonly stop: boolean
  readonly deadline: number
}
