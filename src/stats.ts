/**
 * Counters, which are plain doubles in shared memory with one writer (the thread that sends) and any number of readers. A double holds
 * every integer to 2^53, and an aligned 8-byte store is never seen half-written on x86-64 or arm64.
 */
export const COUNTER_NAMES = [
  /** Heaps all of whose packets were sent. */
  'heapsSent',
  /** Heaps with at least one packet that was not sent. */
  'heapsFailed',
  'batches',
  'packets',
  'packetsFailed',
  /** UDP payload: SPEAD headers, item pointers and item data. */
  'udpBytes',
  /** Calls that cross to the kernel or the NIC with packets. */
  'posts',
  /** Posts that found the socket buffer or queue full and waited. */
  'waits',
  /** ENOBUFS answers (a queueing discipline or a device queue was full), after which packets were posted again later. */
  'noBuffers',
  /** Datagrams refused because of an earlier one's ICMP error, and posted again. */
  'reposts',
  'segmentedMessages',
  'plainMessages',
  /** Those messages that were sent without a copy, and those of them that the kernel copied all the same. */
  'zeroCopyMessages',
  'copiedMessages',
  /** ICMP and local errors read from the socket's error queue. */
  'queuedErrors',
  /** Those of them that say that nobody listens at an endpoint's port. */
  'portUnreachable',
  /** Nanoseconds that the rate limiter slept. The counters below are its own too: 0 where there is no rate, or the device keeps it. */
  'pacedNanoseconds',
  /** How long after it was due the last post went, and the longest such delay. Not counters. */
  'lagNanoseconds',
  'greatestLagNanoseconds',
  /** The bytes that the rate should have sent in `lagNanoseconds`, counted as it counts them. Not a counter. */
  'bytesBehind',
  /** How long nothing was queued though the next byte was due. */
  'starvedNanoseconds',
  /** Those times, as far as they are made up (StreamOptions.catchUpSeconds), … */
  'gapsMadeUp',
  'madeUpNanoseconds',
  /** … and as far as they are not, together with delays that were not made up before the queue ran empty. */
  'gapsGivenUp',
  'givenUpNanoseconds',
  /** How long after its time the sending thread woke up. */
  'lateNanoseconds',
  /** How long the kernel or the device had no room, until it took packets again. */
  'refusedNanoseconds',
] as const

export type CounterName = (typeof COUNTER_NAMES)[number]
export const COUNTER = Object.fromEntries(COUNTER_NAMES.map((name, i) => [name, i])) as Readonly<Record<CounterName, number>>

export function readCounters(counters: Float64Array): Record<CounterName, number> {
  return Object.fromEntries(COUNTER_NAMES.map((name, i) => [name, counters[i]])) as Record<CounterName, number>
}
