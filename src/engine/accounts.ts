/**
 * The accounts of a stream in shared memory, behind the ring: counters of each substream, packets that failed by their causes, and histograms.
 * The thread that sends writes them when a send settles, and any thread reads them. Accounts of a substream come to the stream's counters.
 *
 * A send without a failure costs three additions for each of its substreams (shares.ts), whatever its packets. Only a send with a failure is gone
 * through packet by packet.
 */
import { CAUSE_LATE } from '../backend/backend.js'
import { Histogram } from '../histogram.js'
import {
  COUNTER,
  type StreamHistograms,
  SUBSTREAM_COUNTER_NAMES,
  type SubstreamCounterName,
  type SubstreamStats,
} from '../stats.js'
import { COUNTED_FAILURE, type Ledger } from './ledger.js'
import { type FailureLog, type HeapStatus, type OutcomeMessage, ROW_FLUSHED, ROW_LOST, ROW_SENT, ROW_SKIPPED } from './outcome.js'
import type { Variant } from './variant.js'

/** Causes that are told apart, OTHER among them. errno(3) has some twenty that a send can meet. */
const MOST_CAUSES = 32
const OTHER = 'OTHER'
/** A byte that says how long the name is, and the name. */
const NAME_BYTES = 64
const NAME_DOUBLES = NAME_BYTES / 8

const HISTOGRAMS = 3 * Histogram.DOUBLES
const FIXED = HISTOGRAMS + MOST_CAUSES * NAME_DOUBLES
const COLUMNS = SUBSTREAM_COUNTER_NAMES.length
const DOUBLES = COLUMNS + MOST_CAUSES

const COLUMN = Object.fromEntries(SUBSTREAM_COUNTER_NAMES.map((name, i) => [name, i])) as Record<SubstreamCounterName, number>
const { heapsSent: HEAPS_SENT, heapsSuspect: HEAPS_SUSPECT, packets: PACKETS, udpBytes: UDP_BYTES } = COLUMN

/** The counters that a heap of each fate adds to. */
const COUNTED_AS: Readonly<Record<HeapStatus, readonly SubstreamCounterName[]>> = {
  sent: ['heapsSent'],
  partial: ['heapsFailed'],
  failed: ['heapsFailed'],
  flushed: ['heapsFailed', 'heapsFlushed'],
  unknown: ['heapsFailed'],
  skipped: ['heapsSkipped'],
}

/** The compiled batch that is counted, with its heaps' shares of the substreams. */
type Counted = Pick<Variant, 'shares' | 'compiled'>

export class Accounts {
  /** From the call of `send` until the sending thread has settled it, in nanoseconds. */
  readonly latency: Histogram
  /** How late a paced post went, in nanoseconds. */
  readonly lag: Histogram
  /** Packets of each post. */
  readonly posts: Histogram
  readonly #names: Uint8Array
  #substreams: Float64Array
  /** Made at the first failure. */
  #copy: Float64Array | undefined
  /** Names and places of the causes that this thread wrote. */
  readonly #causes = new Map<string, number>()

  static bytes(substreams: number): number {
    return (FIXED + substreams * DOUBLES) * 8
  }

  /** @param counters the stream's */
  constructor(
    memory: SharedArrayBuffer,
    at: number,
    readonly counters: Float64Array,
    readonly ledger: Ledger,
  ) {
    const histogram = (i: number) => new Histogram(new Float64Array(memory, at + i * Histogram.DOUBLES * 8, Histogram.DOUBLES))
    this.latency = histogram(0)
    this.lag = histogram(1)
    this.posts = histogram(2)
    this.#names = new Uint8Array(memory, at + HISTOGRAMS * 8, MOST_CAUSES * NAME_BYTES)
    this.#substreams = new Float64Array(memory, at + FIXED * 8)
    for (const [place, name] of this.#told().entries()) if (name !== undefined) this.#causes.set(name, place)
  }

  /**
   * All of the first heaps of a variant were sent.
   * @param flight its count in the ledger; undefined: the interlude
   * @param from the first of its substreams that are counted, as a dead engine has counted those before
   */
  sent({ shares }: Counted, heaps: number, suspect: boolean, flight: number | undefined, from = 0): void {
    const own = this.#substreams
    const { counters } = this
    const { words } = this.ledger
    const countedAt = this.ledger.countedAt(flight)
    shares.take(heaps)
    for (let i = from; i < shares.substreams.length; i++) {
      const at = shares.substreams[i]! * DOUBLES
      own[at + HEAPS_SENT]! += shares.heaps[i]!
      own[at + PACKETS]! += shares.packets[i]!
      own[at + UDP_BYTES]! += shares.bytes[i]!
      if (suspect) own[at + HEAPS_SUSPECT]! += shares.heaps[i]!
      words[countedAt] = suspect ? -1 - i : i + 1
    }
    counters[COUNTER.heapsSent]! += heaps
    if (suspect) counters[COUNTER.heapsSuspect]! += heaps
  }

  /** Some of the first heaps of a variant were not sent whole. The stream's packets and bytes have been counted as they were posted. */
  failed(
    { shares, compiled }: Counted,
    { heaps, causes }: OutcomeMessage,
    { rows }: FailureLog,
    suspect: boolean,
    flight: number | undefined,
  ): void {
    const { substream, udpBytes } = compiled.table
    // Counted in a copy, which is stored whole: a thread that ends meanwhile has counted nothing.
    const shared = this.#substreams
    this.#copy ??= new Float64Array(shared.length)
    const own = this.#copy
    own.set(shared)
    this.#substreams = own
    for (let r = 0; r < shares.rowsOf(heaps.length); r++) {
      const row = rows[r]!
      if (row === ROW_SENT) {
        own[substream[r]! * DOUBLES + PACKETS]! += 1
        own[substream[r]! * DOUBLES + UDP_BYTES]! += udpBytes[r]!
        continue
      }
      if (row === ROW_SKIPPED) continue
      this.add(substream[r]!, 'packetsFailed', 1)
      if (row === ROW_FLUSHED) this.#blame(substream[r]!, 'FLUSHED', 1)
      if (row === ROW_LOST) this.#blame(substream[r]!, 'UNKNOWN', 1)
    }
    for (const [j, status] of heaps.entries()) {
      for (const name of COUNTED_AS[status]) this.add(shares.substreamOf(j), name, 1)
      if (suspect && status === 'sent') this.add(shares.substreamOf(j), 'heapsSuspect', 1)
    }
    for (const cause of causes) if (cause.errno !== CAUSE_LATE) this.#blame(cause.substream, cause.errnoName, cause.packets)
    const { words } = this.ledger
    const countedAt = this.ledger.countedAt(flight)
    this.#substreams = shared
    shared.set(own)
    words[countedAt] = COUNTED_FAILURE
  }

  /** Counts for a substream and the stream. Cold. */
  add(substream: number, name: SubstreamCounterName, count: number): void {
    this.#substreams[substream * DOUBLES + COLUMN[name]]! += count
    this.counters[COUNTER[name]]! += count
  }

  #blame(substream: number, name: string, packets: number): void {
    this.#substreams[substream * DOUBLES + COLUMNS + this.#placeOf(name)]! += packets
  }

  #placeOf(name: string): number {
    const place = this.#causes.get(name)
    if (place !== undefined) return place
    const next = this.#causes.size
    if (next >= MOST_CAUSES - 1 && name !== OTHER) return this.#placeOf(OTHER)
    const at = next * NAME_BYTES
    const length = Math.min(name.length, NAME_BYTES - 1)
    for (let i = 0; i < length; i++) this.#names[at + 1 + i] = name.charCodeAt(i)
    // Readers take a name once it has a length.
    Atomics.store(this.#names, at, length)
    this.#causes.set(name, next)
    return next
  }

  #told(): (string | undefined)[] {
    return Array.from({ length: MOST_CAUSES }, (_, place) => {
      const at = place * NAME_BYTES
      const length = Atomics.load(this.#names, at)
      return length === 0 ? undefined : String.fromCharCode(...this.#names.subarray(at + 1, at + 1 + length))
    })
  }

  /** One of the histograms by its name in the answer of `stats`. */
  histogram(name: keyof StreamHistograms): Histogram {
    return { batchLatencyNanoseconds: this.latency, pacingLagNanoseconds: this.lag, postPackets: this.posts }[name]
  }

  histograms(): StreamHistograms {
    return {
      batchLatencyNanoseconds: this.latency.read(),
      pacingLagNanoseconds: this.lag.read(),
      postPackets: this.posts.read(),
    }
  }

  /** @param endpoints those of all substreams */
  read(endpoints: readonly string[]): SubstreamStats[] {
    const own = this.#substreams
    const names = this.#told()
    return endpoints.map((endpoint, substream) => {
      const at = substream * DOUBLES
      const failedByCause: Record<string, number> = {}
      if (own[at + COLUMN.packetsFailed]! > 0)
        for (const [place, name] of names.entries()) {
          const packets = own[at + COLUMNS + place]!
          if (name !== undefined && packets > 0) failedByCause[name] = packets
        }
      return {
        endpoint,
        heapsSent: own[at + HEAPS_SENT]!,
        heapsFailed: own[at + COLUMN.heapsFailed]!,
        heapsFlushed: own[at + COLUMN.heapsFlushed]!,
        heapsSkipped: own[at + COLUMN.heapsSkipped]!,
        heapsSuspect: own[at + HEAPS_SUSPECT]!,
        heapsRetried: own[at + COLUMN.heapsRetried]!,
        packets: own[at + PACKETS]!,
        packetsFailed: own[at + COLUMN.packetsFailed]!,
        packetsRetried: own[at + COLUMN.packetsRetried]!,
        udpBytes: own[at + UDP_BYTES]!,
        failedByCause,
      }
    })
  }
}
