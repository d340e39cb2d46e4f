/**
 * Every metric, once: its name, what it says, and where its value comes from. The Prometheus registry, the instruments of OpenTelemetry,
 * docs/monitoring.md and the dashboard are made from this table or checked against it.
 */

import type { ReceiverEndpointCounters } from '../receive/index.js'

/** What a row reads from: a stream, a receiver, one substream of a stream, one endpoint of a receiver, or the process. */
export type Subject = 'stream' | 'receiver' | 'substream' | 'endpoint' | 'process'

/** The unit of a metric; 'none' for what is counted. */
export type Unit = 'seconds' | 'bytes' | 'bytes per second' | 'none'

/**
 * A row of the table. Names follow Prometheus' conventions: base units, and `_total` behind what only rises.
 * @example for (const { name, help } of METRICS) console.log(name, help)
 */
export interface Metric {
  /** The name in Prometheus' format. */
  readonly name: string
  /** One sentence about it. */
  readonly help: string
  /** 'counter': it only rises while its source lives. 'gauge': it rises and falls. 'histogram': counts of values up to bounds. */
  readonly kind: 'counter' | 'gauge' | 'histogram'
  /** The unit of its value. */
  readonly unit: Unit
  /** The kind of thing that it is read from. */
  readonly of: Subject
  /** The field of `stats()` that it is read from; else what is read, in words. */
  readonly from: string
  /** The labels that it has besides the names of its source. */
  readonly labels: readonly string[]
  /** Divides the field's value, where its unit is smaller than the metric's. */
  readonly divisor: number
  /** The bounds of a histogram in the field's unit, each the end of a bucket of the stream's own; else empty. */
  readonly bounds: readonly number[]
  /** A word for the things that it counts, for OpenTelemetry. */
  readonly noun: string
}

type Row = readonly [name: string, from: string, help: string, more?: Partial<Metric>]

const NANO: Partial<Metric> = { unit: 'seconds', divisor: 1e9 }
/** 16 µs to 17 s, in nanoseconds: the ends of doublings, at which the stream's own histograms are exact. */
const TIMES = Array.from({ length: 21 }, (_, i) => 2 ** (14 + i) - 1)
/** 1 to 1023 packets. */
const SIZES = [1, 3, 7, 15, 31, 63, 127, 255, 511, 1023]
const BYTES: Partial<Metric> = { unit: 'bytes' }

const rows = (of: Subject, prefix: string, list: readonly Row[]): readonly Metric[] =>
  list.map(([name, from, help, more]) => ({
    name: `${prefix}${name}`,
    help,
    kind: name.endsWith('_total') ? 'counter' : 'gauge',
    unit: 'none',
    of,
    from,
    labels: [],
    divisor: 1,
    bounds: [],
    noun: from.startsWith('packets') ? 'packet' : from.startsWith('heaps') ? 'heap' : '',
    ...more,
  }))

const STREAM = rows('stream', 'speadcast_', [
  ['stream_info', 'states', 'The choices of the stream as labels. Always 1.', { labels: ['evidence', 'interface', 'rate_method', 'segmentation', 'udp_path'] }],
  ['stream_open', 'state', 'Whether the stream is open and its sending thread lives: 1 or 0.'],
  ['endpoints', 'endpoints', 'Endpoints of the stream.'],
  ['rate_limit_bytes_per_second', 'rateBytesPerSecond', 'The rate that was asked for; 0 is as fast as possible.', { unit: 'bytes per second' }],
  ['heaps_sent_total', 'heapsSent', 'Heaps all of whose packets were sent.'],
  ['heaps_failed_total', 'heapsFailed', 'Heaps with at least one packet that was not sent.'],
  ['heaps_flushed_total', 'heapsFlushed', 'Failed heaps that were never tried, because the stream ended or an error emptied the queue.'],
  ['heaps_skipped_total', 'heapsSkipped', 'Heaps left out because they were late, or by the policy for errors.'],
  ['heaps_suspect_total', 'heapsSuspect', 'Heaps sent while the link was lost or a queue below dropped packets.'],
  ['heaps_retried_total', 'heapsRetried', 'Heaps that were sent again after an error.'],
  ['sends_settled_total', 'batches', 'Sends that have settled, those of the stream itself included.', { noun: 'send' }],
  ['packets_sent_total', 'packets', 'Packets that were sent.'],
  ['packets_failed_total', 'packetsFailed', 'Packets that were not sent.'],
  ['packets_retried_total', 'packetsRetried', 'Packets that were sent again after an error.'],
  ['polls_total', 'polls', 'Times that the sending thread asked the backend what has become of packets.', { noun: 'call' }],
  ['packets_dropped_below_total', 'droppedBelow', 'Packets of any program that were dropped below the socket, where those of the stream go.', { noun: 'packet' }],
  ['udp_bytes_total', 'udpBytes', 'Bytes of UDP payload that were sent: SPEAD headers, item pointers and item data.', BYTES],
  ['wire_bytes_total', 'wireBytes', 'Bytes of all packets on the wire, from preamble to gap.', BYTES],
  ['posts_total', 'posts', 'Calls that cross to the kernel or the device with packets.', { noun: 'call' }],
  ['post_waits_total', 'waits', 'Posts that found the socket buffer or queue full and waited.', { noun: 'call' }],
  ['no_buffers_total', 'noBuffers', 'ENOBUFS answers, after which packets were posted again.', { noun: 'answer' }],
  ['reposts_total', 'reposts', 'Datagrams refused because of the ICMP error of one before, and posted again.', { noun: 'packet' }],
  ['segmented_messages_total', 'segmentedMessages', 'Messages of several packets, which the kernel or the device cuts.', { noun: 'message' }],
  ['plain_messages_total', 'plainMessages', 'Messages of one packet.', { noun: 'message' }],
  ['zero_copy_messages_total', 'zeroCopyMessages', 'Messages sent without a copy.', { noun: 'message' }],
  ['copied_messages_total', 'copiedMessages', 'Messages sent without a copy that the kernel copied all the same.', { noun: 'message' }],
  ['queued_errors_total', 'queuedErrors', 'ICMP and local errors read from the socket.', { noun: 'error' }],
  ['port_unreachable_total', 'portUnreachable', 'Errors that say that nobody listens at the port of an endpoint.', { noun: 'error' }],
  ['paced_seconds_total', 'pacedNanoseconds', 'Time that the rate limiter slept.', NANO],
  ['starved_seconds_total', 'starvedNanoseconds', 'Time in which nothing was queued though the next byte was due.', NANO],
  ['late_seconds_total', 'lateNanoseconds', 'Time by which the sending thread woke up late.', NANO],
  ['refused_seconds_total', 'refusedNanoseconds', 'Time in which the kernel or the device had no room.', NANO],
  ['gaps_made_up_total', 'gapsMadeUp', 'Times without a queued batch that were made up.', { noun: 'gap' }],
  ['made_up_seconds_total', 'madeUpNanoseconds', 'How long times without a queued batch were, as far as they were made up.', NANO],
  ['gaps_given_up_total', 'gapsGivenUp', 'Times without a queued batch that were not made up.', { noun: 'gap' }],
  ['given_up_seconds_total', 'givenUpNanoseconds', 'How long times without a queued batch were, as far as they were not made up.', NANO],
  ['lag_seconds', 'lagNanoseconds', 'Time by which the last post went late for the rate.', NANO],
  ['greatest_lag_seconds', 'greatestLagNanoseconds', 'The longest such delay so far.', NANO],
  ['behind_bytes', 'bytesBehind', 'Bytes that the rate should have sent in that delay.', BYTES],
  ['time_error_seconds', 'timeErrorNanoseconds', 'Time by which the last heap went after its time by the observation clock; negative is early.', NANO],
  ['greatest_time_error_seconds', 'greatestTimeErrorNanoseconds', 'The greatest such error so far, without its sign.', NANO],
  ['clock_steps_total', 'clockSteps', 'Steps of the wall clock that the observation clock saw.', { noun: 'step' }],
  ['thread_restarts_total', 'threadRestarts', 'New I/O threads in the place of dead ones.', { noun: 'restart' }],
  ['sends_in_flight', 'inFlight', 'Sends submitted and not settled.', { noun: 'send' }],
  ['queued_bytes', 'queuedBytes', 'Bytes of headers and payload in sends that have not settled.', BYTES],
  ['carrier', 'states.carrier', 'Whether the interface has a signal: 1 or 0. Left out where nobody knows.'],
  ['path_changes_total', 'states.pathChanges', 'Times that the way of packets has changed.', { noun: 'change' }],
  ['substreams_without_neighbour', 'states.substreamsWithoutNeighbour', 'Substreams whose next hop does not answer.', { noun: 'substream' }],
  ['substreams_rejected', 'states.substreamsRejected', 'Substreams that a router or a firewall refuses.', { noun: 'substream' }],
  ['queue_recoveries_total', 'states.recoveries', 'Times that the queue of the device was in error and made ready again.', { noun: 'time' }],
  ['connections_lost', 'states.connectionsLost', 'TCP connections that are lost just now.', { noun: 'connection' }],
  ['reconnects_total', 'states.reconnects', 'Times that a TCP connection was made again.', { noun: 'time' }],
  ['batch_latency_seconds', 'histograms.batchLatencyNanoseconds', 'Time from send to settlement.', { ...NANO, kind: 'histogram', bounds: TIMES }],
  ['pacing_lag_seconds', 'histograms.pacingLagNanoseconds', 'Time by which posts went late for the rate.', { ...NANO, kind: 'histogram', bounds: TIMES }],
  ['post_packets', 'histograms.postPackets', 'Packets of a post.', { kind: 'histogram', bounds: SIZES, noun: 'packet' }],
]) // biome-ignore format: a table

const SUBSTREAM_LABELS = ['substream', 'endpoint']
const SUBSTREAM = rows(
  'substream',
  'speadcast_substream_',
  (
    [
      ['heaps_sent_total', 'heapsSent', 'Heaps to the endpoint all of whose packets were sent.'],
      ['heaps_failed_total', 'heapsFailed', 'Heaps to the endpoint with at least one packet that was not sent.'],
      ['heaps_flushed_total', 'heapsFlushed', 'Failed heaps to the endpoint that were never tried.'],
      ['heaps_skipped_total', 'heapsSkipped', 'Heaps to the endpoint left out because they were late, or by the policy for errors.'],
      ['heaps_suspect_total', 'heapsSuspect', 'Heaps to the endpoint sent while packets may have been lost on this host.'],
      ['heaps_retried_total', 'heapsRetried', 'Heaps to the endpoint that were sent again after an error.'],
      ['packets_sent_total', 'packets', 'Packets to the endpoint that were sent.'],
      ['packets_failed_total', 'packetsFailed', 'Packets to the endpoint that were not sent.'],
      ['packets_retried_total', 'packetsRetried', 'Packets to the endpoint that were sent again after an error.'],
      ['udp_bytes_total', 'udpBytes', 'Bytes of UDP payload sent to the endpoint.', BYTES],
      ['packets_failed_by_cause_total', 'failedByCause', 'Packets to the endpoint that were not sent, by the name of the error.', { labels: [...SUBSTREAM_LABELS, 'cause'], noun: 'packet' }],
    ] as readonly Row[]
  ).map(([name, from, help, more]) => [name, from, help, { labels: SUBSTREAM_LABELS, ...more }]),
) // biome-ignore format: a table

const RECEIVER = rows('receiver', 'speadcast_receiver_', [
  ['info', 'backend', 'The choices of the receiver as labels. Always 1.', { labels: ['gro'] }],
  ['open', 'state', 'Whether the receiver receives: 1 or 0.'],
  ['packets_total', 'packets', 'Packets of heaps.'],
  ['udp_bytes_total', 'bytes', 'Bytes of UDP payload of all datagrams.', BYTES],
  ['reads_total', 'messages', 'Reads that gave those bytes: datagrams, or runs of them that the kernel coalesced.', { noun: 'read' }],
  ['heaps_total', 'heaps', 'Complete heaps with data.'],
  ['control_heaps_total', 'controlHeaps', 'Complete heaps without data.', { noun: 'heap' }],
  ['heaps_incomplete_total', 'heapsIncomplete', 'Heaps given up with packets missing.'],
  ['heaps_corrupt_total', 'heapsCorrupt', 'Complete heaps that are not as the pattern wants them.'],
  ['heaps_discarded_total', 'heapsDiscarded', 'Heaps dropped because the consumer was too slow.'],
  ['heaps_refused_total', 'heapsRefused', 'Heaps larger than the memory for heaps.'],
  ['heaps_evicted_total', 'heapsEvicted', 'Heaps given up because the memory for heaps was full; they count as incomplete too.'],
  ['duplicates_total', 'duplicates', 'Packets that came again, or for a heap already finished.', { noun: 'packet' }],
  ['reordered_total', 'reordered', 'Packets that stand before the one that came just before them.', { noun: 'packet' }],
  ['malformed_total', 'malformed', 'Datagrams that are not SPEAD, or contradict their heap.', { noun: 'packet' }],
  ['packets_refused_total', 'packetsRefused', 'Packets for which there was no memory.'],
  ['tables_full_total', 'tablesFull', 'Times that the tables of unfinished heaps were full.', { noun: 'time' }],
  ['descriptors_refused_total', 'descriptorsRefused', 'Descriptors that are none, are beyond a limit, or found no memory.', { noun: 'descriptor' }],
  ['senders_forgotten_total', 'sendersForgotten', 'Senders forgotten because others came.', { noun: 'sender' }],
  ['dropped_by_kernel_total', 'droppedByKernel', 'Datagrams, or runs of them, that found the socket buffer full. Left out where nobody counts them.', { noun: 'packet' }],
  ['connections_total', 'connections', 'TCP connections accepted.', { noun: 'connection' }],
  ['connections_refused_total', 'connectionsRefused', 'TCP connections turned away or ended for others.', { noun: 'connection' }],
  ['accepts_failed_total', 'acceptsFailed', 'Times that a TCP connection could not be accepted.', { noun: 'time' }],
  ['frames_ignored_total', 'framesIgnored', 'Frames of a capture without a UDP datagram for an endpoint.', { noun: 'frame' }],
  ['fragments_ignored_total', 'fragmentsIgnored', 'Fragments of UDP datagrams in a capture.', { noun: 'frame' }],
  ['payload_bytes_total', 'payloadBytes', 'Item data of complete heaps.', BYTES],
  ['groups_rejoined_total', 'groupsRejoined', 'Multicast groups that were joined again.', { noun: 'group' }],
  ['buffer_bytes', 'receiveBufferBytes', 'The socket buffer as granted; the smallest of several.', BYTES],
]) // biome-ignore format: a table

/** The counters that an endpoint of a receiver has of its own. */
const OF_ENDPOINT = [
  ...(['packets', 'bytes', 'messages', 'heaps', 'controlHeaps', 'heapsIncomplete', 'heapsCorrupt', 'duplicates'] as const),
  ...(['reordered', 'malformed', 'packetsRefused', 'droppedByKernel', 'payloadBytes'] as const),
] satisfies readonly Exclude<keyof ReceiverEndpointCounters, 'endpoint'>[]

const ENDPOINT: readonly Metric[] = RECEIVER.filter(({ from }) => (OF_ENDPOINT as readonly string[]).includes(from)).map(
  (metric) => ({
    ...metric,
    name: metric.name.replace('receiver_', 'receiver_endpoint_'),
    help: `At one endpoint: ${metric.help.charAt(0).toLowerCase()}${metric.help.slice(1)}`,
    of: 'endpoint',
    labels: ['endpoint'],
  }),
)

const MICRO: Partial<Metric> = { unit: 'seconds', divisor: 1e6 }
const PROCESS = rows('process', '', [
  ['process_cpu_user_seconds_total', 'process.cpuUsage().user', 'Processor time of all threads in user mode.', MICRO],
  ['process_cpu_system_seconds_total', 'process.cpuUsage().system', 'Processor time of all threads in the kernel.', MICRO],
  ['process_cpu_seconds_total', 'process.cpuUsage()', 'Processor time of all threads.', MICRO],
  ['nodejs_eventloop_active_seconds_total', 'performance.eventLoopUtilization().active', 'Time in which the event loop of the main thread was busy.', { unit: 'seconds', divisor: 1e3 }],
]) // biome-ignore format: a table

/** Every metric that `StreamMetrics` and `--metrics` give, in the order in which they come. */
export const METRICS: readonly Metric[] = [...STREAM, ...SUBSTREAM, ...RECEIVER, ...ENDPOINT, ...PROCESS]

/** Fields of `stats()` that are no metric, each with the reason. A test finds the fields that are neither here nor in the table. */
export const LEFT_OUT: Readonly<Record<'stream' | 'receiver', Readonly<Record<string, string>>>> = {
  stream: {
    backend: 'is a label of every metric of the stream',
    reason: 'is a sentence, of which every new one would be a new time series',
    evidence: 'is a label of speadcast_stream_info',
    states: 'has words; the numbers among them are rows, and the choices are labels of speadcast_stream_info',
    histograms: 'is a row for each of its distributions',
    substreams: 'is a row for each of its counters, where substreams were asked for',
  },
  receiver: {
    backend: 'is a label of every metric of the receiver',
    backendReason: 'is a sentence, of which every new one would be a new time series',
    gro: 'is a label of speadcast_receiver_info',
  },
}
