import type { HeapStatus, SubstreamCause } from '../engine/outcome.js'
import { SpeadcastError } from '../errors.js'

/**
 * All heaps of a send went out, as far as `evidence` reaches.
 * @example const { packets, suspect } = await stream.send(batch)
 */
export interface BatchResult {
  /** Heaps that were sent. */
  readonly heaps: number
  /** Packets that were sent. */
  readonly packets: number
  /** Data of addressed items: without SPEAD headers, padding and what travels inside item pointers. */
  readonly payloadBytes: number
  /** First heap cnt taken from the sequence (exact below 2^53). */
  readonly firstCnt: number
  /** "Sent" means: `accepted` by the kernel, `completed` by the NIC, `written` to file or memory. */
  readonly evidence: 'accepted' | 'completed' | 'written'
  /** A carrier loss, drops below the socket or unreachable neighbours coincided with the batch: what was accepted may not have left. */
  readonly suspect: boolean
}

/** Some heaps of a send did not go out whole. */
export interface BatchOutcome {
  /** Per heap: `sent`, `partial` (some packets), `failed` (no packet), `flushed` (never tried), `unknown` (handed over, fate unseen). */
  readonly heaps: readonly HeapStatus[]
  /** Indices of heaps that are not `sent`. */
  readonly failedHeaps: readonly number[]
  /** The reasons, one for each substream and errno. Heaps that are `flushed` or `unknown` add none. */
  readonly causes: readonly SubstreamCause[]
  /** As in `BatchResult`. */
  readonly suspect: boolean
  /** As in `BatchResult`. */
  readonly evidence: BatchResult['evidence']
}

/**
 * Rejection of a send: `code` is ERR_SPEADCAST_SEND, `outcome` has every heap's fate. docs/outcomes.md says what to do.
 * @example await stream.send(batch).catch((error) => error instanceof SendError && resend(error.outcome.failedHeaps))
 */
export class SendError extends SpeadcastError {
  /** Sends make it; tests of programs that handle it may too. */
  constructor(
    /** The fate of every heap, and the causes. */
    readonly outcome: BatchOutcome,
  ) {
    const { heaps, failedHeaps, causes } = outcome
    const count = (status: HeapStatus) => heaps.filter((each) => each === status).length
    // A backend that breaks says the same for every substream.
    const lost = new Map<string, number>()
    for (const { message, packets } of causes) lost.set(message, (lost.get(message) ?? 0) + packets)
    const why = [
      ...[...lost].map(([message, packets]) => `${message} [${packets} packet${packets === 1 ? '' : 's'}]`),
      ...(count('flushed') > 0 ? [`${count('flushed')} never tried`] : []),
      ...(count('unknown') > 0 ? [`of ${count('unknown')} the fate is unknown: handed over and not heard of again`] : []),
    ].join('; ')
    super('ERR_SPEADCAST_SEND', `${failedHeaps.length} of ${heaps.length} heaps were not sent whole${why && `: ${why}`}`)
  }
}
