/** What metrics are read from: a stream or a receiver, under the labels of its series. */
import type { Stream, StreamStats, SubstreamStats } from '../index.js'
import type { Receiver, ReceiverEndpointCounters, ReceiverStats } from '../receive/index.js'

/** A stream of `speadcast` or a receiver of `speadcast/receive`. */
export type Source =
  | Pick<Stream, 'stats' | 'state' | 'endpoints' | 'rateBytesPerSecond'>
  | Pick<Receiver, 'stats' | 'state' | 'endpoints'>

/** The labels of a series, by name. */
export type Labels = Readonly<Record<string, string | number>>

/** What a source said of itself at one moment. */
export interface Reading {
  readonly kind: 'stream' | 'receiver'
  /** The labels of all its series. */
  readonly labels: Labels
  readonly open: boolean
  /** Heaps that were sent or received whole so far. */
  readonly heaps: number
  /** Every number that it told, by the words of the column `from` of the table. */
  readonly numbers: Readonly<Record<string, unknown>>
  /** How many values of a distribution are no greater than each bound; undefined where the source has no such distribution. */
  readonly cumulated: (from: string, bounds: readonly number[]) => Cumulated | undefined
  /** Its choices, as labels of its info. */
  readonly info: Labels
  /** The substreams of a stream, or the endpoints of a receiver, that are told apart. */
  readonly parts: readonly (SubstreamStats | ReceiverEndpointCounters)[]
  /** The labels of each of them. */
  readonly partLabels: readonly Labels[]
}

/** The subject of the rows that are read from a part of a source. */
export const PART = { stream: 'substream', receiver: 'endpoint' } as const

/** How many values are no greater than each bound, and how many there are. */
interface Cumulated {
  readonly counts: readonly number[]
  readonly count: number
  readonly sum: number
}

/** A source in a registry. Labels are made once, because a registry keeps the text of each object that it has seen. */
export interface Entry {
  readonly source: Source
  readonly kind: 'stream' | 'receiver'
  readonly name: string
  readonly labels: Labels
  /** Those of the substreams or endpoints that are told apart. */
  readonly partLabels: readonly Labels[]
}

/** The part of a stream that is not public. */
interface Distributed {
  cumulated?(name: string, bounds: readonly number[]): Cumulated
}

type Told = (StreamStats | ReceiverStats) & {
  readonly states?: Readonly<Record<string, unknown>>
  readonly substreams?: readonly SubstreamStats[]
  readonly endpoints?: readonly ReceiverEndpointCounters[]
}

/** The stats of a source. @param parts the option that asks for those of its parts */
function statsOf(source: Source, parts?: 'substreams' | 'endpoints'): Told {
  const ask = source.stats as (options?: object) => Told
  return parts ? ask.call(source, { [parts]: true }) : ask.call(source)
}

/** Whether it is a stream or a receiver; undefined where it is neither. */
export function kindOf(source: unknown): Entry['kind'] | undefined {
  const { stats, state, endpoints } = (source ?? {}) as Partial<Source>
  if (typeof stats !== 'function' || typeof state !== 'string' || !Array.isArray(endpoints)) return undefined
  return 'rateBytesPerSecond' in (source as object) ? 'stream' : 'receiver'
}

/** @param most how many substreams or endpoints are told apart at most; 0: none */
export function entryOf(source: Source, kind: Entry['kind'], name: string, own: Labels, most: number): Entry {
  const labels = { [kind]: name, backend: statsOf(source).backend, ...own }
  const told = source.endpoints.slice(0, most)
  const partLabels = told.map((endpoint, substream) => ({ ...labels, ...(kind === 'stream' && { substream }), endpoint }))
  return { source, kind, name, labels, partLabels }
}

/** Asks a source how it is doing. Costs microseconds. */
export function read({ source, kind, labels, partLabels }: Entry): Reading {
  const asked = kind === 'stream' ? 'substreams' : 'endpoints'
  const stats = statsOf(source, partLabels.length > 0 ? asked : undefined)
  const { states = {} } = stats
  const open = source.state === 'open' || source.state === 'receiving'
  return {
    kind,
    labels,
    open,
    heaps: 'heapsSent' in stats ? stats.heapsSent : stats.heaps,
    numbers: {
      ...stats,
      ...Object.fromEntries(Object.entries(states).map(([word, value]) => [`states.${word}`, value])),
      state: open,
      endpoints: source.endpoints.length,
      rateBytesPerSecond: 'rateBytesPerSecond' in source ? source.rateBytesPerSecond : undefined,
    },
    cumulated: (from, bounds) => (source as Distributed).cumulated?.(from.replace('histograms.', ''), bounds),
    info: 'evidence' in stats ? streamInfo(stats, states) : { gro: String((stats as ReceiverStats).gro) },
    parts: stats[asked]?.slice(0, partLabels.length) ?? [],
    partLabels,
  }
}

function streamInfo({ evidence }: StreamStats, states: Readonly<Record<string, unknown>>): Labels {
  const word = (name: string): string => String(states[name] ?? '')
  return {
    evidence,
    interface: word('interface'),
    rate_method: word('rateMethod'),
    segmentation: word('segmentation'),
    udp_path: word('udpPath'),
  }
}
