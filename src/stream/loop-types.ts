/** Options and answers of `stream.loop`. */
import type { SubstreamCause } from '../engine/outcome.js'
import { SpeadcastError } from '../errors.js'
import type { BatchResult } from './result.js'

/** An end of a loop by its heaps. */
export interface LoopHeaps {
  /** Heaps that are sent in all, those of windows that were swapped out included; at least 1. */
  heaps: number
}

/** An end of a loop by its rounds. */
export interface LoopRounds {
  /** Rounds of the window that are sent, at least 1; a window that is swapped in has as many again. */
  rounds: number
}

/**
 * Options of `stream.loop`.
 * @example stream.loop([first, second], { timestamp: 'timestamp', until: { heaps: 1e6 } })
 */
export interface LoopOptions {
  /**
   * Name of the immediate that advances from round to round; false: none does, and rounds differ in heap cnts only. Default: 'timestamp' where the
   * batches have such an immediate.
   */
  timestamp?: string | false
  /**
   * How much later each round is than the one before it, in units of the timestamp: a whole number other than 0. Default: the last timestamp of the
   * window less the first, and the smallest step between two heaps.
   */
  advance?: number
  /**
   * Where the loop ends: before the first heap that has this timestamp or a later one, after so many heaps, or after so many rounds of the
   * window. A timestamp needs a window whose timestamps rise from heap to heap. Default: it goes on until `stop`.
   */
  until?: number | LoopHeaps | LoopRounds
  /** What heaps that are not sent do: 'continue' (default) counts them and goes on, 'stop' ends the loop, and `done` rejects with a LoopError. */
  onFailure?: 'continue' | 'stop'
  /** Ends the loop as `stop` does, and `done` rejects with signal.reason. */
  signal?: AbortSignal
}

/**
 * Options of `Loop.swap`.
 * @example await loop.swap([third, fourth], { at: 2 ** 30 })
 */
export interface SwapOptions {
  /**
   * The new window goes from the first heap on that has this timestamp or a later one; it must be some milliseconds away (ERR_SPEADCAST_LATE). Default:
   * as soon as possible, between two batches.
   */
  at?: number
  /** As in `LoopOptions`, with its default, for the new window. */
  advance?: number
}

/**
 * How far a loop is: a copy of this moment, which does not change.
 * @example const { rounds, heaps, timestamp } = loop.position
 */
export interface LoopPosition {
  /** Rounds that it has taken up in full, those of windows that were swapped out included. */
  readonly rounds: number
  /** Heaps that it has taken up: posted, or about to be. */
  readonly heaps: number
  /** The timestamp of the next heap; undefined without timestamps. */
  readonly timestamp: number | undefined
  /** Heaps that have settled: sent, or not. */
  readonly settledHeaps: number
  /** Those of them that were not sent whole. */
  readonly failedHeaps: number
  /** Those of them that were left out, as in `LoopReport`. */
  readonly skippedHeaps: number
  /** Those of them whose settlement was suspect, as in `LoopReport`. */
  readonly suspectHeaps: number
}

/**
 * The account of a loop that has ended.
 * @example const { rounds, heaps, failedHeaps } = await loop.done
 */
export interface LoopReport {
  /** Rounds that it began and ended, those of windows that were swapped out included. */
  readonly rounds: number
  /** Heaps that were sent whole. */
  readonly heaps: number
  /** Packets that were sent. */
  readonly packets: number
  /** Heaps of which some packets were not sent. */
  readonly failedHeaps: number
  /** Heaps that were left out: late by the clock, or refused where `onError` says 'skip'. */
  readonly skippedHeaps: number
  /** Packets that were not sent, those of skipped heaps included. */
  readonly failedPackets: number
  /** Heaps that a carrier loss, drops below the socket or unreachable neighbours coincided with. They count as sent. */
  readonly suspectHeaps: number
  /** The reasons for heaps that were not sent, one for each substream and errno. */
  readonly causes: readonly SubstreamCause[]
  /** How often the window was swapped. */
  readonly swaps: number
  /** First heap cnt; NaN if nothing was sent. */
  readonly firstCnt: number
  /** The evidence that "sent" rests on, as in `BatchResult`. */
  readonly evidence: BatchResult['evidence']
}

/**
 * Rejection of `Loop.done` where heaps could not be sent and the loop ended for that reason: `code` is ERR_SPEADCAST_SEND.
 * @example await loop.done.catch((error) => error instanceof LoopError && console.log(error.report.causes))
 */
export class LoopError extends SpeadcastError {
  /** What the loop did until then. */
  readonly report: LoopReport

  /** @internal */
  constructor(report: LoopReport) {
    const why = report.causes.map(({ message }) => message).join('; ')
    const { failedHeaps, heaps } = report
    super(
      'ERR_SPEADCAST_SEND',
      `loop: ended because heaps could not be sent, ${failedHeaps} of ${failedHeaps + heaps}${why && `: ${why}`}`,
    )
    this.report = report
  }
}
