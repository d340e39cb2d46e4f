/**
 * A kind of queue pair: what stands in front of a packet, where the packet goes, and when it may not go. Raw frames are in raw.ts,
 * datagrams of the fabric in datagrams.ts; backend.ts does the rest for both.
 */
import type { SendQueue } from '../../../ffi/verbs/send-queue.js'
import type { PacketTable } from '../../batch/table.js'
import type { VerbsBackendName } from '../../rdma/errors.js'
import type { LastFailure } from './open.js'
import type { PostingOptions, VerbsPosting } from './posting.js'

/** The backend calls these once a post or more rarely, never once a packet. `V` is the posting that `compile` makes. */
export interface QueueKind<V extends VerbsPosting> {
  readonly name: VerbsBackendName
  readonly headroomBytes: number
  readonly wireOverheadBytes: number
  readonly pacesItself: boolean
  /** How long the device takes for a packet of full size at the rate that it keeps; 0 where it keeps none. */
  readonly packetMs: number
  /** False: packets may be dropped although their work requests succeed. */
  readonly passable: boolean
  compile(table: PacketTable, options: PostingOptions): V
  /** Why packets would leave by the wrong device; empty as long as they would not. Then `move` is called when nothing is under way. */
  readonly displaced: string
  /**
   * Opens the device that packets are to leave by, and puts it in the other's place when `letGo` has taken everything from that. False: there
   * is none, and packets are refused instead. @throws NativeError
   */
  move?(letGo: () => void): boolean
  /** Takes the queue from reset to the state that sends. @throws NativeError */
  ready(queue: SendQueue): void
  /** How many of n rows from `first` on may go now. */
  admit(posting: V, first: number, n: number): number
  /** Why `admit` stopped at a row: 0 = wait a little, else the errno that refuses it. */
  refusal(posting: V, row: number): number
  /** The backend calls it before it posts rows first … end−1. */
  prepare(posting: V, first: number, end: number): void
  /** Readable when what `suspicion` looks at may have changed, so that an idle thread looks. Absent where nothing tells. */
  readonly watchFd?: number | undefined
  /** Rises whenever something makes recent completions doubtful. */
  suspicion(): number
  explain(cause: number, substream: number, udpBytes: number, last: LastFailure): string
  close(): void
}
