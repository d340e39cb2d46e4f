import type { HeapStatus, SubstreamCause } from '../engine/outcome.js'
import { SpeadcastError } from '../errors.js'

/** All heaps of a send went out, as far as `evidence` reaches. */
export interface BatchResult {
  readonly heaps: number
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

/** Some heaps of a send did not go out whole. */
export interface BatchOutcome {
  /** Per heap: `sent`, `partial` (some packets), `failed` (no packet), `flushed` (never tried), `unknown` (handed over, fate unseen). */
  readonly heaps: readonly HeapStatus[]
  /** Indices of heaps that are not `sent`. */
  readonly failedHeaps: readonly number[]
  readonly causes: readonly SubstreamCause[]
  readonly suspect: boolean
  readonly evidence: BatchResult['evidence']
}

/** Rejection of a send: `code` is ERR_SPEADCAST_SEND, `outcome` has every heap's fate. */
export class SendError extends SpeadcastError {
  constructor(readonly outcome: BatchOutcome) {
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
