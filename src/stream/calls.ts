/** Options and answers of a stream's calls. */
import type { StateWords } from '../backend/states.js'
import type { StreamCounters, StreamHistograms, SubstreamStats } from '../stats.js'
import type { BatchResult } from './result.js'

/**
 * Options of `stream.send`.
 * @example await stream.send(batch, { heaps: 16, signal: AbortSignal.timeout(1000) })
 */
export interface SendOptions {
  /** How many heaps of the batch to send. Default: all from `firstHeap` on. */
  heaps?: number
  /** The first heap to send. `SendError.outcome` counts heaps from it. Default 0. */
  firstHeap?: number
  /**
   * Names the heaps of the batch to send, with a byte for each heap. Heaps with 0, and heaps outside of `firstHeap` and `heaps`, are left out. The call
   * reads the mask at once.
   * Heaps that are left out take no heap cnt. `SendError.outcome` has an entry for each heap of the batch. Default: all.
   */
  mask?: Uint8Array
  /** Withdraws the send while its turn has not come: its promise rejects with signal.reason and no heap cnt is used up. */
  signal?: AbortSignal
}

/**
 * Options of `stream.close`.
 * @example const { droppedHeaps } = await stream.close({ deadlineSeconds: 2 })
 */
export interface CloseOptions {
  /** Gives up and drops what is left after this long. Default: waits for ever. */
  deadlineSeconds?: number
}

/** The heaps that `stream.close` could not send. */
export interface CloseReport {
  /** Heaps that were queued and not sent whole because the deadline passed or the stream was destroyed. */
  readonly droppedHeaps: number
}

/**
 * Options of `stream.stats`.
 * @example const { substreams } = stream.stats({ substreams: true })
 */
export interface StatsOptions {
  /** Counts each substream too. Default false. */
  substreams?: boolean
}

/**
 * The answer of `stream.stats()`: the counters, and how the stream is doing.
 * @example const { heapsSent, heapsFailed, bytesBehind } = stream.stats()
 */
export interface StreamStats extends StreamCounters {
  /** The backend that sends. */
  readonly backend: string
  /** Why that one. */
  readonly reason: string
  /** The evidence that "sent" rests on, as in `BatchResult`. */
  readonly evidence: BatchResult['evidence']
  /** Distributions of latencies, lags and posts. */
  readonly histograms: StreamHistograms
  /** With `stats({ substreams: true })`: the counters of each substream, by its index. */
  readonly substreams?: readonly SubstreamStats[]
  /** Sends submitted and not settled. */
  readonly inFlight: number
  /** Bytes of headers and payload in sends that have not settled: what `maxQueuedBytes` bounds. */
  readonly queuedBytes: number
  /** Bytes of all packets on the wire, from preamble to gap: headers, VLAN tags and frame check sequence included. */
  readonly wireBytes: number
  /** The backend's own account: segmentation and why, interface, buffer sizes. A copy, which does not change. */
  readonly states: StateWords
}
