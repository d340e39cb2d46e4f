/**
 * Counters as plain doubles in shared memory: one writer (the thread that sends), any number of readers. A double holds every
 * integer to 2^53, and an aligned 8-byte store is never seen half-written on x86-64 or arm64.
 */
export const COUNTER_NAMES = [
  /** Heaps all of whose packets were sent. */
  'heapsSent',
  /** Heaps of which at least one packet was not. */
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
  /** ENOBUFS answers (a queueing discipline or device queue was full): backed off and posted again. */
  'noBuffers',
  /** Datagrams refused on account of an earlier one's ICMP error and posted again. */
  'reposts',
  'segmentedMessages',
  'plainMessages',
  /** Messages sent without a copy, of those above, and those among them that the kernel copied all the same. */
  'zeroCopyMessages',
  'copiedMessages',
  /** ICMP and local errors read from the socket's error queue. */
  'queuedErrors',
  /** Nanoseconds slept by the rate limiter. */
  'pacedNanoseconds',
] as const

export type CounterName = (typeof COUNTER_NAMES)[number]
export const COUNTER = Object.fromEntries(COUNTER_NAMES.map((name, i) => [name, i])) as Readonly<Record<CounterName, number>>

export function readCounters(counters: Float64Array): Record<CounterName, number> {
  return Object.fromEntries(COUNTER_NAMES.map((name, i) => [name, counters[i]!])) as Record<CounterName, number>
}
