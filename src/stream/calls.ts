/** Options and answers of a stream's calls. */
import type { CounterName } from '../stats.js'
import type { BatchResult } from './result.js'

export interface SendOptions {
  /** How many heaps of the batch to send. Default: all from `firstHeap` on. */
  heaps?: number
  /** The first heap to send. What is told of single heaps (`SendError.outcome`) counts from it. Default 0. */
  firstHeap?: number
  /** Withdraws the send while its turn has not come: its promise rejects with signal.reason and no heap cnt is used up. */
  signal?: AbortSignal
}

export interface CloseOptions {
  /** Give up and drop what is left after this long. Default: wait for ever. */
  deadlineSeconds?: number
}

export interface CloseReport {
  /** Heaps that were queued and not sent whole because the deadline passed or the stream was destroyed. */
  readonly droppedHeaps: number
}

export interface StreamStats extends Record<CounterName, number> {
  readonly backend: string
  readonly reason: string
  readonly evidence: BatchResult['evidence']
  /** Sends submitted and not settled. */
  readonly inFlight: number
  /** Bytes of all packets on the wire, from preamble to gap: headers, VLAN tags and frame check sequence included. */
  readonly wireBytes: number
  /** The backend's own account: segmentation and why, interface, buffer sizes … */
  readonly states: Readonly<Record<string, string | number | boolean>>
}
