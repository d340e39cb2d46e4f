/** A run that receives, as it is shown while it lasts. */
import type { Receiver, ReceiverEndpointCounters, ReceiverStats } from '../../receive/index.js'
import { perSecond, type Totals } from './interval.js'
import type { LiveTable } from './live-layout.js'
import type { LineColumn, Subject } from './subject.js'
import { bitsPerSecond, bytes, bytesPerSecond, count, many } from './table.js'

const COUNTERS = [
  'heaps',
  'heapsIncomplete',
  'heapsCorrupt',
  'heapsRefused',
  'payloadBytes',
  'packets',
  'bytes',
  'duplicates',
  'malformed',
  'packetsRefused',
  'droppedByKernel',
] as const satisfies readonly (keyof ReceiverStats)[]

/** The counters of a run that receives, of its receiver or of its summary. */
export function receivingTotals(stats: ReceiverStats): Totals {
  return Object.fromEntries(COUNTERS.map((name) => [name, stats[name]]))
}

/** NaN is a counter that nobody counts. */
const known = (value: number): string => (Number.isNaN(value) ? '?' : count(value))

const COLUMNS: readonly LineColumn[] = [
  { head: 'heaps', width: 9, cell: ({ rose }) => count(rose.heaps!) },
  { head: 'bytes', width: 14, cell: ({ rose }) => count(rose.payloadBytes!) },
  { head: 'rate', width: 10, cell: (interval) => bytesPerSecond(perSecond(interval.rose.payloadBytes!, interval)) },
  { head: 'incompl.', width: 8, cell: ({ rose }) => count(rose.heapsIncomplete!) },
  { head: 'corrupt', width: 7, cell: ({ rose }) => count(rose.heapsCorrupt!) },
  { head: 'refused', width: 7, cell: ({ rose }) => count(rose.packetsRefused!) },
  { head: 'dropped', width: 7, cell: ({ rose }) => known(rose.droppedByKernel!) },
]

const lostAt = ({ heapsIncomplete, heapsCorrupt, droppedByKernel, malformed }: ReceiverEndpointCounters): number =>
  heapsIncomplete + heapsCorrupt + malformed + (droppedByKernel || 0)

/** A row for each endpoint: all in their order where there is room, else those that lost the most before the others. */
function endpointTable(receiver: Receiver, most: number): LiveTable {
  const all = [...receiver.stats({ endpoints: true }).endpoints.entries()]
  const shown = all.length <= most ? all : all.toSorted(([, a], [, b]) => lostAt(b) - lostAt(a)).slice(0, most)
  return {
    // Short, so that an IPv4 endpoint stands there whole beside large numbers on 80 columns.
    head: ['#', 'endpoint', 'heaps', 'payload', 'incompl.', 'corrupt', 'dropped'],
    rows: shown.map(([i, { endpoint, heaps, payloadBytes, heapsIncomplete, heapsCorrupt, droppedByKernel }]) => [
      `${i}`,
      endpoint,
      count(heaps),
      bytes(payloadBytes),
      count(heapsIncomplete),
      count(heapsCorrupt),
      known(droppedByKernel),
    ]),
    more: all.length - shown.length,
    noun: 'endpoint',
  }
}

export function receiving(receiver: Receiver): Subject {
  const { endpoints } = receiver
  const { backend, backendReason, receiveBufferBytes } = receiver.stats()
  return {
    columns: COLUMNS,
    start: { endpoints, backend, reason: backendReason, receiveBufferBytes },
    totals: () => receivingTotals(receiver.stats()),
    json: (interval) => ({
      ...interval.rose,
      payloadBytesPerSecond: perSecond(interval.rose.payloadBytes!, interval),
      packetsPerSecond: perSecond(interval.rose.packets!, interval),
    }),
    live(recent) {
      const stats = receiver.stats()
      const { rose } = recent
      const rates = [bytesPerSecond(perSecond(rose.payloadBytes!, recent)), bitsPerSecond(perSecond(rose.bytes!, recent))]
      return {
        title: `${backend} on ${endpoints[0]}${endpoints.length > 1 ? ` and ${count(endpoints.length - 1)} more` : ''}`,
        headline: `${rates.join('  ')}  ${count(perSecond(rose.packets!, recent))} packets/s`,
        facts: [
          ['heaps', count(stats.heaps)],
          ['incomplete', count(stats.heapsIncomplete)],
          ['corrupt', count(stats.heapsCorrupt)],
          ['payload', bytes(stats.payloadBytes)],
          ['packets', count(stats.packets)],
          ['duplicate', count(stats.duplicates)],
          ['malformed', count(stats.malformed)],
          ['refused', `${many(stats.packetsRefused, 'packet')}, ${many(stats.heapsRefused, 'heap')}`],
          ['evicted', many(stats.heapsEvicted, 'heap')],
          ['kernel dropped', known(stats.droppedByKernel)],
          ['socket buffer', bytes(receiveBufferBytes)],
          ['groups rejoined', count(stats.groupsRejoined)],
        ],
        ...(endpoints.length > 0 && { table: (most) => endpointTable(receiver, most) }),
      }
    },
    progress: [
      'got',
      () => {
        const { heaps, payloadBytes, heapsIncomplete, droppedByKernel } = receiver.stats()
        const notes = [
          ...(heapsIncomplete > 0 ? [`${count(heapsIncomplete)} incomplete`] : []),
          ...(droppedByKernel > 0 ? [`${count(droppedByKernel)} dropped`] : []),
        ]
        return { heaps, payloadBytes, totalBytes: undefined, failed: 0, notes }
      },
    ],
  }
}
