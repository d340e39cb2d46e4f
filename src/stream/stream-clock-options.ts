/** The options of the observation clock. */
import type { ClockTime } from './clock-time.js'

/**
 * The observation clock of a stream: timestamps say when heaps are due (docs/clock.md). It takes the place of `rate`.
 * @example
 * await openStream({ to: '239.10.0.1:7148', clock: { syncTime: '2026-12-01T00:00:00Z', sampleRateHz: 1712e6, samplesPerHeap: 4096 } })
 */
export interface StreamClockOptions {
  /** When timestamp 0 was due, or will be. */
  syncTime: ClockTime
  /** Samples a second, from 0.001 to 1e12. */
  sampleRateHz: number
  /** Samples from one heap's timestamp to the next one's, from 1 to 2^48. Heaps of several substreams may share a timestamp. */
  samplesPerHeap: number
  /** The name of the item that is the timestamp: one unsigned number that stands in its item pointer. Default 'timestamp'. */
  item?: string
  /**
   * When the first heap is to be due: `stream.clock.nextTimestamp()` gives the first timestamp from then on. Default: as soon as can be. A time that
   * has passed, is more than a year ahead, or lies before `syncTime` is refused (ERR_SPEADCAST_CONFIG).
   */
  startAt?: ClockTime
  /**
   * Decides about heaps that are late. 'slip' (default): all are sent, faster by `burstRateRatio` until they are in time again. 'skip': heaps that
   * are late are left out, whole, from one that is late by more than `lateToleranceSeconds` on until one is in time. They use up their heap cnts, have
   * the status `skipped` and the cause LATE, and are counted as `heapsSkipped`. Their send resolves if nothing else of it failed, and its result names them.
   */
  late?: 'slip' | 'skip'
  /** How late a heap may be before 'skip' begins to leave heaps out: 0 to 3600, with 'skip' alone. Default: the time of a heap, and at least 0.005. */
  lateToleranceSeconds?: number
  /**
   * Decides what follows where nobody keeps the host's clock in step, or the kernel does not know TAI − UTC: 'refuse' (default; ERR_SPEADCAST_CLOCK),
   * 'warn' (SPEADCAST_CLOCK) or 'accept'.
   */
  unsynchronised?: 'refuse' | 'warn' | 'accept'
}
