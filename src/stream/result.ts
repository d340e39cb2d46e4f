import type { HeapStatus, SubstreamCause } from '../engine/outcome.js'
import { counted, INSPECT, type Inspection, inspected, SpeadcastError, words } from '../errors.js'

/**
 * All heaps of a send went out, as far as `evidence` reaches, but for those that `onError: 'skip'` or `clock.late: 'skip'` left out.
 * @example const { packets, suspect } = await stream.send(batch)
 */
export interface BatchResult {
  /** Heaps that were sent. */
  readonly heaps: number
  /** Heaps that were left out, because `StreamOptions.onError` of their substream, or `clock.late`, lets the send go on without. */
  readonly skippedHeaps: number
  /** Which they are and why, if there are any. */
  readonly skipped?: SkippedHeaps
  /** Packets that were sent. */
  readonly packets: number
  /** Data of addressed items: without SPEAD headers, padding and what travels inside item pointers. */
  readonly payloadBytes: number
  /** First heap cnt taken from the sequence (exact below 2^53). */
  readonly firstCnt: number
  /** "Sent" means: `accepted` by the kernel, `completed` by the NIC, `written` to file or memory. */
  readonly evidence: 'accepted' | 'acknowledged' | 'completed' | 'written'
  /** A carrier loss, drops below the socket or unreachable neighbours coincided with the batch: what was accepted may not have left. */
  readonly suspect: boolean
}

/** Heaps that a send left out, because `StreamOptions.onError` of their substream, or `clock.late`, says so. */
export interface SkippedHeaps {
  /** Their indices, as in `BatchOutcome.failedHeaps`. */
  readonly heaps: readonly number[]
  /** The reasons, one for each substream and errno. */
  readonly causes: readonly SubstreamCause[]
}

/** Some heaps of a send did not go out whole. */
export interface BatchOutcome {
  /**
   * Per heap: `sent`, `partial` (some packets), `failed` (no packet), `flushed` (never tried), `unknown` (handed over, fate unseen), `skipped` (left out
   * by a mask, by the observation clock because it was late, or by `onError: 'skip'`).
   */
  readonly heaps: readonly HeapStatus[]
  /** Indices of heaps that are neither `sent` nor `skipped`. */
  readonly failedHeaps: readonly number[]
  /** The reasons, one for each substream and errno. Heaps that are `flushed` or `unknown` add none. */
  readonly causes: readonly SubstreamCause[]
  /** As in `BatchResult`. */
  readonly suspect: boolean
  /** As in `BatchResult`. */
  readonly evidence: BatchResult['evidence']
}

/** @internal As a SendError has it. */
export class Outcome implements BatchOutcome {
  readonly failedHeaps: readonly number[]

  constructor(
    readonly heaps: readonly HeapStatus[],
    readonly causes: readonly SubstreamCause[],
    readonly suspect: boolean,
    readonly evidence: BatchResult['evidence'],
  ) {
    this.failedHeaps = heaps.flatMap((status, j) => (status === 'sent' || status === 'skipped' ? [] : [j]))
  }

  /** How many heaps have each fate. */
  get counts(): Map<HeapStatus, number> {
    const counts = new Map<HeapStatus, number>()
    for (const status of this.heaps) counts.set(status, (counts.get(status) ?? 0) + 1)
    return counts
  }

  [INSPECT](...how: Inspection): string {
    return inspected('BatchOutcome', how, () => {
      const { failedHeaps, suspect, evidence } = this
      const heaps = words([...this.counts].map(([status, count]) => `${count} ${status}`).join(', '))
      const causes = this.causes.map(({ substream, packets, errnoName, message }) =>
        words(`substream ${substream}: ${errnoName}, ${counted(packets, 'packet')}: ${message}`),
      )
      return { heaps, failedHeaps, causes, suspect, evidence }
    })
  }
}

/**
 * Rejection of a send: `outcome` has every heap's fate. `code` is ERR_SPEADCAST_SEND, or ERR_SPEADCAST_WORKER where the I/O thread died under it
 * and the stream goes on in another (`onThreadDeath: 'restart'`). docs/outcomes.md says what to do.
 * @example await stream.send(batch).catch((error) => error instanceof SendError && resend(error.outcome.failedHeaps))
 */
export class SendError extends SpeadcastError {
  /** The fate of every heap, and the causes. */
  readonly outcome: BatchOutcome

  /** @internal @param died what the I/O thread died of, if that is why */
  constructor(outcome: Outcome, died?: SpeadcastError) {
    const { heaps, failedHeaps, causes, counts } = outcome
    // A backend that breaks says the same for every substream.
    const lost = new Map<string, number>()
    for (const { message, packets } of causes) lost.set(message, (lost.get(message) ?? 0) + packets)
    const flushed = counts.get('flushed')
    const unknown = counts.get('unknown')
    const why = [
      ...[...lost].map(([message, packets]) => `${message} [${counted(packets, 'packet')}]`),
      ...(flushed ? [`${flushed} never tried`] : []),
      ...(unknown ? [`of ${unknown} the fate is unknown: handed over and not heard of again`] : []),
    ].join('; ')
    const failed = `${failedHeaps.length} of ${counted(heaps.length - (counts.get('skipped') ?? 0), 'heap')} ${failedHeaps.length === 1 ? 'was' : 'were'} not sent whole`
    const message = `${failed}${why && `: ${why}`}`
    if (died) super('ERR_SPEADCAST_WORKER', `${died.message}; ${message}`, { cause: died })
    else super('ERR_SPEADCAST_SEND', message)
    this.outcome = outcome
  }
}
