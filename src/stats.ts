/**
 * Counters, which are plain doubles in shared memory with one writer (the thread that sends) and any number of readers. A double holds
 * every integer to 2^53, and an aligned 8-byte store is never seen half-written on x86-64 or arm64.
 */

/** The counters of a stream since it was opened. Times are in nanoseconds. */
export interface StreamCounters {
  /** Heaps all of whose packets were sent, those of descriptors and of stream control included. */
  readonly heapsSent: number
  /** Heaps with at least one packet that was not sent. */
  readonly heapsFailed: number
  /** Sends that have settled: batches, heaps, groups of heaps, and the stream's own. */
  readonly batches: number
  /** Packets that were sent. */
  readonly packets: number
  /** Packets that were not sent. */
  readonly packetsFailed: number
  /** Bytes of UDP payload that were sent: SPEAD headers, item pointers and item data. */
  readonly udpBytes: number
  /** Calls that cross to the kernel or the NIC with packets. */
  readonly posts: number
  /** Posts that found the socket buffer or queue full and waited. */
  readonly waits: number
  /** ENOBUFS answers (a queueing discipline or a device queue was full), after which packets were posted again later. */
  readonly noBuffers: number
  /** Datagrams refused because of an earlier one's ICMP error, and posted again. */
  readonly reposts: number
  /** Messages of several packets, which the kernel or the NIC cuts (UDP_SEGMENT). */
  readonly segmentedMessages: number
  /** Messages of one packet. */
  readonly plainMessages: number
  /** Those messages that were sent without a copy. */
  readonly zeroCopyMessages: number
  /** Those of them that the kernel copied all the same. */
  readonly copiedMessages: number
  /** ICMP and local errors read from the socket's error queue. */
  readonly queuedErrors: number
  /** Those of them that say that nobody listens at an endpoint's port. */
  readonly portUnreachable: number
  /** How long the rate limiter slept. The counters below are its own too: 0 where there is no rate, or the device keeps it. */
  readonly pacedNanoseconds: number
  /** How long after it was due the last post went. Not a counter: it falls again. */
  readonly lagNanoseconds: number
  /** The longest such delay so far. */
  readonly greatestLagNanoseconds: number
  /** The bytes that the rate should have sent in `lagNanoseconds`, counted as `StreamOptions.rateBasis` counts them. Not a counter. */
  readonly bytesBehind: number
  /** How long nothing was queued though the next byte was due. */
  readonly starvedNanoseconds: number
  /** How many of those times were made up, as far as `StreamOptions.catchUpSeconds` allows. */
  readonly gapsMadeUp: number
  /** How long they were, as far as they were made up. */
  readonly madeUpNanoseconds: number
  /** How many of those times were not made up, together with delays that were not made up before the queue ran empty. */
  readonly gapsGivenUp: number
  /** How long they were, as far as they were not made up. */
  readonly givenUpNanoseconds: number
  /** How long after its time the sending thread woke up, all such times together. */
  readonly lateNanoseconds: number
  /** How long the kernel or the device had no room, until it took packets again. */
  readonly refusedNanoseconds: number
  /** Heaps that were left out because `StreamOptions.onError` of their substream says 'skip'; not those that a mask left out. */
  readonly heapsSkipped: number
  /** Heaps of which packets were posted again because `StreamOptions.onError` says 'retry'. */
  readonly heapsRetried: number
  /** Those packets, once for each time that they were handed over again. */
  readonly packetsRetried: number
}

export type CounterName = keyof StreamCounters

/** Their order in memory. */
export const COUNTER_NAMES = [
  'heapsSent',
  'heapsFailed',
  'batches',
  'packets',
  'packetsFailed',
  'udpBytes',
  'posts',
  'waits',
  'noBuffers',
  'reposts',
  'segmentedMessages',
  'plainMessages',
  'zeroCopyMessages',
  'copiedMessages',
  'queuedErrors',
  'portUnreachable',
  'pacedNanoseconds',
  'lagNanoseconds',
  'greatestLagNanoseconds',
  'bytesBehind',
  'starvedNanoseconds',
  'gapsMadeUp',
  'madeUpNanoseconds',
  'gapsGivenUp',
  'givenUpNanoseconds',
  'lateNanoseconds',
  'refusedNanoseconds',
  'heapsSkipped',
  'heapsRetried',
  'packetsRetried',
] as const satisfies readonly CounterName[]

export const COUNTER = Object.fromEntries(COUNTER_NAMES.map((name, i) => [name, i])) as Readonly<Record<CounterName, number>>

export function readCounters(counters: Float64Array): StreamCounters {
  return Object.fromEntries(COUNTER_NAMES.map((name, i) => [name, counters[i]])) as Record<(typeof COUNTER_NAMES)[number], number>
}
