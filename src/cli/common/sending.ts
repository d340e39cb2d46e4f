/** A run that sends, as it is shown while it lasts. */
import type { Stream, StreamStats } from '../../index.js'
import { type Interval, perSecond, type Totals } from './interval.js'
import type { LiveContent } from './live-layout.js'
import type { ProgressState } from './progress.js'
import type { LineColumn, Subject } from './subject.js'
import { bitsPerSecond, bytes, bytesPerSecond, count, many, milliseconds } from './table.js'
import type { Tally } from './tally.js'

export interface Sending {
  readonly stream: Stream
  /** Its `substreams` feed the live view's table. */
  readonly tally: Tally
  /** The text before the numbers of the progress line, such as 'sent'; undefined: there is no line. */
  readonly what?: string
  /** Undefined where nobody knows the end. */
  readonly totalBytes?: number | undefined
  /** The text in front of the live view's title. */
  readonly title?: string
  readonly heapSizeBytes: number
  readonly rateBasis: 'udp' | 'wire'
  /** Further choices of the command, for the start of a JSON stream. */
  readonly chosen: Readonly<Record<string, unknown>>
}

const COUNTERS = [
  'packets',
  'packetsFailed',
  'udpBytes',
  'wireBytes',
  'noBuffers',
  'reposts',
  'portUnreachable',
  'starvedNanoseconds',
  'madeUpNanoseconds',
  'givenUpNanoseconds',
] as const satisfies readonly (keyof StreamStats)[]

/**
 * The counters of a run that sends. They are whole when all sends have settled.
 * @param before the stream's counters are added to, where the run had other streams before
 */
export function sendingTotals(
  stream: Stream,
  { heaps, failed, suspect, dropped, payloadBytes }: Tally,
  before: Totals = {},
): Totals {
  const stats = stream.stats()
  const own = { heaps, heapsFailed: failed, heapsDropped: dropped, heapsSuspect: suspect, payloadBytes }
  return { ...own, ...Object.fromEntries(COUNTERS.map((name) => [name, stats[name] + (before[name] ?? 0)])) }
}

/** Times that the kernel or the device had no room, and that a datagram was refused for an earlier one's ICMP error. */
const refusals = ({ noBuffers = 0, reposts = 0 }: Totals): number => noBuffers + reposts

export function sending(run: Sending): Subject {
  const { stream, tally } = run
  const paced = stream.rateBytesPerSecond > 0
  const lag = (): string => (paced ? milliseconds(stream.stats().lagNanoseconds / 1e6) : '–')
  const columns: LineColumn[] = [
    { head: 'heaps', width: 9, cell: ({ rose }) => count(rose.heaps!) },
    { head: 'bytes', width: 14, cell: ({ rose }) => count(rose.payloadBytes!) },
    { head: 'rate', width: 10, cell: (interval) => bytesPerSecond(perSecond(interval.rose.payloadBytes!, interval)) },
    { head: 'failed', width: 6, cell: ({ rose }) => count(rose.heapsFailed! + rose.heapsDropped!) },
    { head: 'suspect', width: 7, cell: ({ rose }) => count(rose.heapsSuspect!) },
    { head: 'refused', width: 7, cell: ({ rose }) => count(refusals(rose)) },
    { head: 'lag', width: 6, cell: lag },
  ]
  return {
    columns,
    start: startOf(run),
    totals: () => sendingTotals(stream, tally),
    json(interval) {
      const { rose } = interval
      const { lagNanoseconds, bytesBehind } = stream.stats()
      return {
        ...rose,
        refused: refusals(rose),
        payloadBytesPerSecond: perSecond(rose.payloadBytes!, interval),
        packetsPerSecond: perSecond(rose.packets!, interval),
        lagSeconds: lagNanoseconds / 1e9,
        bytesBehind,
      }
    },
    live: (recent) => liveContent(run, recent),
    ...(run.what !== undefined && {
      progress: [run.what, (): ProgressState => ({ ...tally, totalBytes: run.totalBytes })] as const,
    }),
  }
}

function startOf({ stream, heapSizeBytes, rateBasis, chosen }: Sending): Record<string, unknown> {
  const { backend, reason, evidence, states } = stream.stats()
  const { endpoints, rateBytesPerSecond } = stream
  return { endpoints, backend, reason, evidence, heapSizeBytes, rateBytesPerSecond, rateBasis, ...chosen, states }
}

function liveContent({ stream, tally, heapSizeBytes, rateBasis, title = '' }: Sending, recent: Interval): LiveContent {
  const stats = stream.stats()
  const { rose, totals } = recent
  const asked = stream.rateBytesPerSecond
  const { substreams } = tally
  const rate = perSecond(rose.payloadBytes!, recent)
  const onWire = bitsPerSecond(perSecond(rateBasis === 'wire' ? rose.wireBytes! : rose.udpBytes!, recent))
  return {
    title: `${title}${stream.backend}${stats.states.interface ? ` on ${stats.states.interface}` : ''} to ${endpointsOf(stream)}`,
    headline: `${bytesPerSecond(rate)}  ${onWire}${asked > 0 ? ` of ${bitsPerSecond(asked)} asked` : ''}  ${count(perSecond(rose.packets!, recent))} packets/s`,
    facts: [
      ['heaps', count(totals.heaps!)],
      ['failed', count(totals.heapsFailed!)],
      ['suspect', count(totals.heapsSuspect!)],
      ['dropped', count(totals.heapsDropped!)],
      ['payload', bytes(totals.payloadBytes!)],
      ['packets', count(totals.packets!)],
      ['refused', many(refusals(totals), 'time')],
      ['unreachable', many(totals.portUnreachable!, 'time')],
      ['dropped below', many(Number(stats.states.dropsBelowSocket ?? 0), 'packet')],
      ...(asked > 0
        ? ([
            ['lag', milliseconds(stats.lagNanoseconds / 1e6)],
            ['behind by', bytes(stats.bytesBehind)],
            ['greatest lag', milliseconds(stats.greatestLagNanoseconds / 1e6)],
          ] as const)
        : []),
    ],
    ...(substreams && {
      table: (most) => {
        const shown = substreams.foremost(most)
        return {
          head: ['substream', 'endpoint', 'heaps', 'payload', 'failed', 'refused'],
          rows: shown.map((substream) => {
            const { heaps, failed, refused } = substreams.counts(substream)
            const endpoint = stream.endpoints[substream] ?? '?'
            return [`${substream}`, endpoint, count(heaps), bytes(heaps * heapSizeBytes), count(failed), count(refused)]
          }),
          more: substreams.substreams - shown.length,
          noun: 'substream',
        }
      },
    }),
  }
}

function endpointsOf({ endpoints }: Stream): string {
  return endpoints.length > 1 ? `${endpoints[0]} and ${count(endpoints.length - 1)} more` : `${endpoints[0]}`
}
