/** Names of the counters, which are doubles in shared memory. The receiving thread alone writes them. */
export const STAT_NAMES = [
  /** Packets of heaps; those refused for want of memory are among them. packets + duplicates + malformed are all that came. */
  'packets',
  /** UDP payload bytes of all datagrams. */
  'bytes',
  /** Reads that gave those bytes: datagrams, or runs of them that the kernel coalesced (UDP_GRO). */
  'messages',
  /** Complete heaps with data; descriptor-only and stream control heaps are in `controlHeaps`. */
  'heaps',
  /** Complete heaps without data. */
  'controlHeaps',
  /** Heaps given up with packets missing. */
  'heapsIncomplete',
  /** With `verify`: complete data heaps that are not as the pattern wants them. */
  'heapsCorrupt',
  /**
   * Heaps dropped because the consumer was too slow (node:dgram only: the native receiver leaves packets in the socket instead).
   */
  'heapsDiscarded',
  /** Heaps larger than the memory for heaps. */
  'heapsRefused',
  /** Heaps given up with packets missing because the memory for heaps was full; they are in `heapsIncomplete` too. */
  'heapsEvicted',
  /** Packets that came again, or came for a heap already finished or given up. */
  'duplicates',
  /** Datagrams that are not SPEAD, or contradict their heap. */
  'malformed',
  /** Packets for which there was no memory. */
  'packetsRefused',
  /** Times that a packet, or a heap for its sake, was refused because what is known of unfinished heaps filled its memory. */
  'tablesFull',
  /** Descriptors that are none, are beyond a limit, or found no memory. */
  'descriptorsRefused',
  /** Senders of which nothing is known any more, because others came. */
  'sendersForgotten',
  /** Datagrams, or coalesced runs of them, that found the socket buffer full; NaN where nobody counts them (node:dgram). */
  'droppedByKernel',
  /** Item data of the heaps in `heaps`. */
  'payloadBytes',
] as const
export type StatName = (typeof STAT_NAMES)[number]
/** Indices of the counters. A session's `stats` has one for each name. */
export const STAT = Object.fromEntries(STAT_NAMES.map((name, i) => [name, i])) as Readonly<Record<StatName, number>>
