/** What metrics are read from: a stream or a receiver, under the labels of its series. */
import type { Stream, StreamStats } from '../index.js'
import type { Receiver, ReceiverStats } from '../receive/index.js'

/** A stream of `speadcast` or a receiver of `speadcast/receive`. */
export type Source =
  | Pick<Stream, 'stats' | 'state' | 'endpoints' | 'rateBytesPerSecond'>
  | Pick<Receiver, 'stats' | 'state' | 'endpoints'>

/** The labels of a series. */
export type Labels = Readonly<Record<string, string | number>>

/** How a distribution is told; `stats().histograms` has those of a stream. */
interface Distribution {
  readonly count: number
  readonly mean: number
  readonly p50: number
  readonly p99: number
  readonly p999: number
  readonly max: number
}

/** A substream's account, which a stream gives where it is asked for. */
export interface SubstreamAccount {
  readonly endpoint: string
  readonly failedByCause: Readonly<Record<string, number>>
}

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
  readonly distributions: Readonly<Record<string, Distribution>>
  /** Its choices, as labels of its info. */
  readonly info: Labels
  readonly substreams: readonly SubstreamAccount[]
}

/** A source in a registry. */
export interface Entry {
  readonly source: Source
  readonly kind: 'stream' | 'receiver'
  readonly name: string
  readonly labels: Labels
  /** The most substreams that are told apart; 0: none. */
  readonly mostSubstreams: number
}

type Told = (StreamStats | ReceiverStats) & {
  readonly states?: Readonly<Record<string, unknown>>
  readonly histograms?: Readonly<Record<string, Distribution>>
  readonly substreams?: readonly SubstreamAccount[]
}

/** Whether it is a stream or a receiver; undefined where it is neither. */
export function kindOf(source: unknown): Entry['kind'] | undefined {
  const { stats, state, endpoints } = (source ?? {}) as Partial<Source>
  if (typeof stats !== 'function' || typeof state !== 'string' || !Array.isArray(endpoints)) return undefined
  return 'rateBytesPerSecond' in (source as object) ? 'stream' : 'receiver'
}

/** Asks a source how it is doing. Costs microseconds. */
export function read({ source, kind, name, labels, mostSubstreams }: Entry): Reading {
  const ask = source.stats as (options?: { substreams: boolean }) => Told
  const told = mostSubstreams > 0 ? ask.call(source, { substreams: true }) : ask.call(source)
  const { states = {}, histograms = {}, substreams = [] } = told
  const open = source.state === 'open' || source.state === 'receiving'
  const own = { [kind]: name, backend: told.backend, ...labels }
  return {
    kind,
    labels: own,
    open,
    heaps: 'heapsSent' in told ? told.heapsSent : told.heaps,
    numbers: {
      ...told,
      ...Object.fromEntries(Object.entries(states).map(([word, value]) => [`states.${word}`, value])),
      state: open,
      endpoints: source.endpoints.length,
      rateBytesPerSecond: 'rateBytesPerSecond' in source ? source.rateBytesPerSecond : undefined,
    },
    distributions: Object.fromEntries(Object.entries(histograms).map(([word, value]) => [`histograms.${word}`, value])),
    info: 'evidence' in told ? streamInfo(told, states) : { gro: String((told as ReceiverStats).gro) },
    substreams: substreams.slice(0, mostSubstreams),
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
