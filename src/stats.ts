/**
 * Counters, which are plain doubles in shared memory with one writer (the thread that sends) and any number of readers. A double holds
 * every integer to 2^53, and an aligned 8-byte store is never seen half-written on x86-64 or arm64.
 */

import type { Distribution } from './histogram.js'

/** The counters of a stream since it was opened. Times are in nanoseconds. */
export interface StreamCounters {
  /** Heaps all of whose packets were sent, those of descriptors and of stream control included. */
  readonly heapsSent: number
  /** Heaps with at least one packet that was not sent, `heapsFlushed` included and `heapsSkipped` not. */
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
  /** How long after it was due the last post went, or was refused for now: it is tried again. Not a counter: it falls again. */
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
  /** Those failed heaps that were never tried, because the stream was ended, or the device drops what is queued behind an error. */
  readonly heapsFlushed: number
  /**
   * Heaps that were left out: by the observation clock, because they were late (`StreamClockOptions.late`), or because `StreamOptions.onError` of their
   * substream says 'skip'. Those that a mask leaves out are not counted anywhere.
   */
  readonly heapsSkipped: number
  /** Those sent heaps that are suspect, as `BatchResult.suspect` says. */
  readonly heapsSuspect: number
  /** Heaps of which packets were sent again after they had failed. */
  readonly heapsRetried: number
  /** Packets that were sent again after they had failed. */
  readonly packetsRetried: number
  /** Packets of whatever program that were dropped below the socket, where the stream's packets go; backends `udp` and `dgram`. */
  readonly droppedBelow: number
  /** How often the sending thread asked the backend what has become of packets. */
  readonly polls: number
  /** How long after its time by the observation clock the last post went; negative = before. Not a counter. 0 without a clock. */
  readonly timeErrorNanoseconds: number
  /** The greatest such difference so far, in either direction, without its sign. */
  readonly greatestTimeErrorNanoseconds: number
  /** How often the wall clock was set (clock_settime(2)) while the observation clock went by it. */
  readonly clockSteps: number
  /** How often a new I/O thread took the place of one that had died (`StreamOptions.onThreadDeath`). */
  readonly threadRestarts: number
}

/**
 * The counters of one substream since its stream was opened. In sum they are the stream's. A heap and its packets are counted when their send settles;
 * the stream's own `packets` and `udpBytes` are counted as they are posted, so they are ahead by what is under way, and by packets of heaps that are
 * `unknown`.
 */
export interface SubstreamStats
  extends Pick<
    StreamCounters,
    | 'heapsSent'
    | 'heapsFailed'
    | 'heapsFlushed'
    | 'heapsSkipped'
    | 'heapsSuspect'
    | 'heapsRetried'
    | 'packets'
    | 'packetsFailed'
    | 'packetsRetried'
    | 'udpBytes'
  > {
  /** The endpoint, as an address and a port. */
  readonly endpoint: string
  /**
   * `packetsFailed` by the cause: the `errnoName` of `SubstreamCause`, FLUSHED for packets that were never tried, UNKNOWN for those that were handed
   * over and not heard of again. The 32nd name and those after it are OTHER.
   */
  readonly failedByCause: Readonly<Record<string, number>>
}

/** Distributions since a stream was opened. */
export interface StreamHistograms {
  /** How long sends took from the call until the sending thread settled them. Your promise resolves when its thread looks next. */
  readonly batchLatencyNanoseconds: Distribution
  /**
   * How late posts went at the stream's rate, or by its observation clock: each value of `lagNanoseconds`. Empty without either, and where the kernel
   * or the device keeps the rate.
   */
  readonly pacingLagNanoseconds: Distribution
  /** How many packets each post sent. Posts that sent none do not count. */
  readonly postPackets: Distribution
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
  'heapsFlushed',
  'heapsSkipped',
  'heapsSuspect',
  'heapsRetried',
  'packetsRetried',
  'droppedBelow',
  'polls',
  'timeErrorNanoseconds',
  'greatestTimeErrorNanoseconds',
  'clockSteps',
  'threadRestarts',
] as const satisfies readonly CounterName[]

export const COUNTER = Object.fromEntries(COUNTER_NAMES.map((name, i) => [name, i])) as Readonly<Record<CounterName, number>>

export type SubstreamCounterName = keyof SubstreamStats & CounterName

/** Their order in memory. */
export const SUBSTREAM_COUNTER_NAMES = [
  'heapsSent',
  'heapsFailed',
  'heapsFlushed',
  'heapsSkipped',
  'heapsSuspect',
  'heapsRetried',
  'packets',
  'packetsFailed',
  'packetsRetried',
  'udpBytes',
] as const satisfies readonly SubstreamCounterName[]

/** The stream's counters that are those of its substreams in sum, all read at one time. */
export function sumOf(substreams: readonly SubstreamStats[]): Partial<StreamCounters> {
  const sum: Partial<Record<CounterName, number>> = {}
  for (const name of SUBSTREAM_COUNTER_NAMES)
    if (name !== 'packets' && name !== 'udpBytes') sum[name] = substreams.reduce((total, each) => total + each[name], 0)
  return sum
}

/** A copy, made in 1 µs. Object.fromEntries takes ten. */
export function readCounters(counters: Float64Array): StreamCounters {
  const copy = {} as Record<CounterName, number>
  for (let i = 0; i < COUNTER_NAMES.length; i++) copy[COUNTER_NAMES[i]!] = counters[i]!
  return copy
}
