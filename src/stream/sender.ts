/** Makes sends of what is to be sent, and submits them: now, when there is room, or not at all. */

import { listen } from '../abort-listeners.js'
import type { GroupMode } from '../batch/compile.js'
import type { HeapReference } from '../batch/heaps.js'
import { type Flavour, Heap } from '../spead/index.js'
import type { StreamConfig } from './config.js'
import type { Descriptors } from './descriptors.js'
import type { Failures } from './failures.js'
import { type Lane, measure } from './lanes.js'
import type { PreparedLane, PreparedLists } from './prepared.js'
import type { BatchResult } from './result.js'
import { Send } from './send.js'
import { SendPromise } from './send-promise.js'
import type { Submissions } from './submissions.js'
import type { Telling } from './telling.js'

export class Sender {
  constructor(
    readonly config: Pick<StreamConfig, 'split'>,
    readonly submissions: Submissions,
    readonly failures: Failures,
    readonly prepared: PreparedLists,
    readonly descriptors: Descriptors,
  ) {}

  /** Sends heaps of the user's, which have been checked. */
  sendHeaps(references: readonly HeapReference[], mode: GroupMode, signal: AbortSignal | undefined): SendPromise<BatchResult> {
    if (this.submissions.refuses) return this.refused('sendHeaps')
    if (this.submissions.mustWait) return this.#sendLater([...references], mode, signal)
    const lane = this.prepared.fill(references, mode, this.config.split)
    try {
      lane.telling = this.descriptors.describeHeaps(references)
    } catch (error) {
      lane.onFree(lane)
      throw error
    }
    const promise = new SendPromise<BatchResult>(this.submissions.watch)
    this.submit(promise, lane, lane.sendable.heaps, signal)
    return promise
  }

  /** The heaps' values are copied when there is room for them. */
  #sendLater(references: readonly HeapReference[], mode: GroupMode, signal: AbortSignal | undefined): SendPromise<BatchResult> {
    const telling = this.descriptors.describeHeaps(references)
    const promise = new SendPromise<BatchResult>(this.submissions.watch)
    let lane: PreparedLane | undefined
    const send = new Send(() => lane?.onFree(lane))
    send.heaps = references.length
    send.prepare = () => {
      try {
        lane = this.prepared.fill(references, mode, this.config.split)
      } catch (error) {
        telling?.withdraw()
        throw error
      }
      send.variant = lane.send.variant
      send.rows = lane.send.rows
      measure(send, lane.sendable)
    }
    this.#start(send, promise, signal, telling, false)
    return promise
  }

  /** The answer of a send without heaps. */
  nothing(): SendPromise<BatchResult> {
    const promise = new SendPromise<BatchResult>(() => {})
    const { evidence } = this.submissions.driver.caps
    promise.fulfil({ heaps: 0, skippedHeaps: 0, packets: 0, payloadBytes: 0, firstCnt: Number.NaN, evidence, suspect: false })
    return promise
  }

  /** The bound of queued bytes is reached: nothing is queued. */
  refused(call: string): SendPromise<BatchResult> {
    const promise = new SendPromise<BatchResult>(() => {})
    const error = this.submissions.bound.refusal(call)
    promise.fail(error)
    this.failures.note(promise, error)
    return promise
  }

  /**
   * Sends heaps of the stream's own. An exact layout lists the items of data heaps, and such heaps have others.
   * @param between the heaps of the sends under way, of which one such list may be sent at a time
   */
  sendOwn(references: readonly HeapReference[], between: boolean): SendPromise<BatchResult> {
    const { split } = this.config
    const lane = this.prepared.fill(references, 'serial', typeof split === 'object' ? 'even' : split)
    const isBetween = between && this.submissions.inFlight > 0
    const promise = new SendPromise<BatchResult>(isBetween ? () => {} : this.submissions.watch)
    this.submit(promise, lane, lane.sendable.heaps, undefined, isBetween)
    return promise
  }

  /** Sends a heap of stream control on every substream. */
  sendControl(flavour: Flavour, substreams: number, add: (heap: Heap) => void): SendPromise<BatchResult> {
    const heap = new Heap(flavour)
    add(heap)
    return this.sendOwn(
      Array.from({ length: substreams }, (_, substream) => ({ heap, substream })),
      false,
    )
  }

  /** Submits the first `heaps` heaps of a lane that was aimed at them. */
  submit(promise: SendPromise<BatchResult>, lane: Lane, heaps: number, signal: AbortSignal | undefined, between = false): void {
    const { send, sendable, telling } = lane
    send.heaps = heaps
    measure(send, sendable)
    this.#start(send, promise, signal, telling, between, lane)
  }

  /** @param lane whose Send it is */
  #start(
    send: Send,
    promise: SendPromise<BatchResult>,
    signal: AbortSignal | undefined,
    telling: Telling | undefined,
    between: boolean,
    lane?: Lane,
  ): void {
    send.promise = promise
    send.signal = signal
    if (telling) this.descriptors.follow(telling, promise)
    if (between) this.submissions.submitBetween(send)
    else this.submissions.submit(send)
    // It has settled if its values cannot be sent.
    if (signal && !send.done) {
      send.onAbort = () => {
        if (!this.submissions.abort(send, signal.reason)) return
        telling?.withdraw()
        lane?.renew()
      }
      listen(signal, send.onAbort)
    }
  }
}
