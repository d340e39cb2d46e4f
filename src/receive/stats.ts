/** The counters of a receiver since it was opened. docs/receiving.md says which heaps count as missing. */
export interface ReceiverCounters {
  /** Packets of heaps; those refused for want of memory are among them. packets + duplicates + malformed are all that came. */
  readonly packets: number
  /** UDP payload bytes of all datagrams. */
  readonly bytes: number
  /** Reads that gave those bytes: datagrams, or runs of them that the kernel coalesced (UDP_GRO). */
  readonly messages: number
  /** Complete heaps with data; descriptor-only and stream control heaps are in `controlHeaps`. */
  readonly heaps: number
  /** Complete heaps without data. */
  readonly controlHeaps: number
  /** Heaps given up with packets missing. */
  readonly heapsIncomplete: number
  /** With `verify`: complete data heaps that are not as the pattern wants them. */
  readonly heapsCorrupt: number
  /**
   * Heaps dropped because the consumer was too slow (node:dgram only: the native receiver leaves packets in the socket instead).
   */
  readonly heapsDiscarded: number
  /** Heaps larger than the memory for heaps. */
  readonly heapsRefused: number
  /** Heaps given up with packets missing because the memory for heaps was full; they are in `heapsIncomplete` too. */
  readonly heapsEvicted: number
  /** Packets that came again, or came for a heap already finished or given up. */
  readonly duplicates: number
  /**
   * Packets that stand before the one that came just before them from their sender: by heap cnt, and in a heap by payload offset. Meaningful
   * for senders whose heap cnts rise.
   */
  readonly reordered: number
  /** Datagrams that are not SPEAD, or contradict their heap. */
  readonly malformed: number
  /** Packets for which there was no memory. */
  readonly packetsRefused: number
  /** Times that a packet, or a heap for its sake, was refused because what is known of unfinished heaps filled its memory. */
  readonly tablesFull: number
  /** Descriptors that are none, are beyond a limit, or found no memory. */
  readonly descriptorsRefused: number
  /** Senders of which nothing is known any more, because others came. */
  readonly sendersForgotten: number
  /** Datagrams, or coalesced runs of them, that found the socket buffer full; NaN where nobody counts them (node:dgram). */
  readonly droppedByKernel: number
  /** With 'tcp': connections accepted. */
  readonly connections: number
  /** With 'tcp': connections turned away, or ended for another after a minute of silence, because as many were open as may be. */
  readonly connectionsRefused: number
  /** With 'tcp': times that a connection could not be accepted, for want of a descriptor or of memory, and was left waiting. */
  readonly acceptsFailed: number
  /** With 'pcap': frames without a UDP datagram for an endpoint. Fragments of datagrams, which are not put together, are among them. */
  readonly framesIgnored: number
  /** With 'pcap': fragments of UDP datagrams. */
  readonly fragmentsIgnored: number
  /** Item data of the heaps in `heaps`. */
  readonly payloadBytes: number
}

export type StatName = keyof ReceiverCounters

/** Names of the counters, which are doubles in shared memory, in their order. The receiving thread alone writes them. */
export const STAT_NAMES = [
  'packets',
  'bytes',
  'messages',
  'heaps',
  'controlHeaps',
  'heapsIncomplete',
  'heapsCorrupt',
  'heapsDiscarded',
  'heapsRefused',
  'heapsEvicted',
  'duplicates',
  'reordered',
  'malformed',
  'packetsRefused',
  'tablesFull',
  'descriptorsRefused',
  'sendersForgotten',
  'droppedByKernel',
  'connections',
  'connectionsRefused',
  'acceptsFailed',
  'framesIgnored',
  'fragmentsIgnored',
  'payloadBytes',
] as const satisfies readonly StatName[]
/** Indices of the counters. A session's `stats` has one for each name. */
export const STAT = Object.fromEntries(STAT_NAMES.map((name, i) => [name, i])) as Readonly<Record<StatName, number>>

const ENDPOINT_STAT_NAMES = [
  'packets',
  'bytes',
  'messages',
  'heaps',
  'controlHeaps',
  'heapsIncomplete',
  'heapsCorrupt',
  'duplicates',
  'reordered',
  'malformed',
  'packetsRefused',
  'droppedByKernel',
  'payloadBytes',
] as const satisfies readonly StatName[]

/** The part of an endpoint in some of the receiver's counters. Once reception has ended, the parts of all endpoints sum to the whole. */
export interface ReceiverEndpointCounters extends Pick<ReceiverCounters, (typeof ENDPOINT_STAT_NAMES)[number]> {
  /** Its text, as `receiver.endpoints` has it. */
  readonly endpoint: string
}

const WORDS = STAT_NAMES.length

/** Doubles that the counters take: those of the receiver, and behind them as many for each endpoint, in the same order. */
export const statWords = (endpoints: number): number => WORDS * (1 + endpoints)

/** Where an endpoint's counters begin. */
export const statsAt = (endpoint: number): number => WORDS * (1 + endpoint)

/** Adds to a counter of the receiver and to that of an endpoint. */
export function addTo(stats: Float64Array, counter: number, endpoint: number, by = 1): void {
  stats[counter]! += by
  stats[counter + statsAt(endpoint)]! += by
}

/** Sets the drops of all endpoints, of which the receiver's are the sum. */
export function setDropped(stats: Float64Array, endpoints: number, droppedAt: (endpoint: number) => number): void {
  let sum = 0
  for (let endpoint = 0; endpoint < endpoints; endpoint++) {
    const dropped = droppedAt(endpoint)
    stats[STAT.droppedByKernel + statsAt(endpoint)] = dropped
    sum += dropped
  }
  stats[STAT.droppedByKernel] = sum
}

export function countersOf(stats: Float64Array, endpoint: number, text: string): ReceiverEndpointCounters {
  const at = statsAt(endpoint)
  const counters = Object.fromEntries(ENDPOINT_STAT_NAMES.map((name) => [name, stats[at + STAT[name]]]))
  return { endpoint: text, ...counters } as ReceiverEndpointCounters
}
