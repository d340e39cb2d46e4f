import { unlisten } from '../abort-listeners.js'
import type { ChosenHeaps } from '../batch/chosen.js'
import type { Submission } from '../engine/ring.js'
import type { BatchResult } from './result.js'
import type { SendPromise } from './send-promise.js'

/** One send on its way, on the thread that called send(). Its lane reuses it, so its shape is fixed here. */
export class Send implements Submission {
  variant = 0
  heaps = 0
  rows = 0
  explicitCnts = false
  payloadBytes = 0
  /** Tells the payload of its first heaps. */
  measured: { payloadBytes(heaps: number): number } | undefined
  /** The heaps that a mask names. */
  chosen: ChosenHeaps | undefined
  /** Bytes of headers and payload: what it counts in the queue. */
  queuedBytes = 0
  /** They are counted. A send that waits for room is not. */
  counted = false
  /** Copies the values, of a send that waits for room before it takes memory. */
  prepare: (() => void) | undefined
  sequence: Submission['sequence'] = undefined
  resumes: Submission['resumes'] = undefined
  /** When it was submitted. */
  submittedAt = Number.NaN
  loop: Submission['loop'] = undefined
  promise: SendPromise<BatchResult> | undefined
  /** The signal that may withdraw it; set before it is submitted. */
  signal: AbortSignal | undefined
  onAbort: (() => void) | undefined
  /** Its count in the ring, valid while `inRing`. */
  count = 0
  /** The ring had room for it. */
  inRing = false
  /** Its promise has settled. One that was withdrawn is done, and yet keeps its place in the queue. */
  done = true

  /** @param onFree the memory may be written again; called once per send, before its promise settles */
  constructor(readonly onFree: () => void) {}

  settle(result: BatchResult | undefined, error: unknown): void {
    const { promise } = this
    this.done = true
    this.promise = undefined
    if (this.onAbort) {
      unlisten(this.signal!, this.onAbort)
      this.signal = undefined
      this.onAbort = undefined
    }
    this.onFree()
    if (result) promise?.fulfil(result)
    else promise?.fail(error)
  }
}
