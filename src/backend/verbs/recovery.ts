/**
 * The send queue and the state it is in. A failed work request puts the queue pair in error and everything behind it is flushed:
 * those packets were never sent, so their heaps say so, and nothing is sent twice. Then the queue is reset, or replaced by another
 * where it cannot be reset.
 */

import { onNode } from '../../../ffi/memory/numa.js'
import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import { IBV_PORT_ACTIVE } from '../../../ffi/verbs/layout.js'
import { SendQueue } from '../../../ffi/verbs/send-queue.js'
import { CAUSE_FLUSHED, CAUSE_UNKNOWN } from '../backend.js'
import type { InFlight } from './in-flight.js'
import { causeName, type LastFailure, type OpenDevice } from './open.js'
import type { VerbsPosting } from './posting.js'
import type { QueueKind } from './queue-kind.js'
import type { Registrations } from './registrations.js'

/**
 * | state      | post answers    | leaves by                                                                              |
 * |------------|-----------------|----------------------------------------------------------------------------------------|
 * | READY      | ok, again, skip | an error completion, a dead queue or silence → RECOVERING; the device gone → BROKEN    |
 * | RECOVERING | again           | all under way is accounted for, and the queue is ready again → READY;                  |
 * |            |                 | MAX_RECOVERIES in a row without a packet sent, or the device gone → BROKEN             |
 * | BROKEN     | fatal           | close() only                                                                           |
 * | CLOSED     | (do not post)   | never; close() leads here from every state                                             |
 *
 * The device may read memory in READY and RECOVERING only.
 */
export const READY = 0
export const RECOVERING = 1
export const BROKEN = 2
export const CLOSED = 3

const MAX_RECOVERIES = 8
/** Flushed packets are polled within this time, or are called lost. */
export const DRAIN_MS = 200
/** Troubles remembered for `states` and for the error of a stream that is broken. */
const HISTORY = 10

export interface Trouble {
  readonly since: number
  readonly cause: number
  readonly why: string
  /**
   * An error completion came. All work requests that a queue in error did not send complete with an error, so the first one tells
   * where sending ended: before it all was sent, behind it nothing. Without any, the queue may have sent all.
   */
  located: boolean
}

export interface RecoveryParts<V extends VerbsPosting> {
  readonly device: OpenDevice
  readonly kind: QueueKind<V>
  readonly inFlight: InFlight
  readonly registrations: Registrations
  readonly numaNode: number | undefined
  /** Makes all postings ask for the keys of their memory anew. */
  readonly rekey: () => void
}

export class Recovery<V extends VerbsPosting> implements LastFailure {
  state: typeof READY | typeof RECOVERING | typeof BROKEN | typeof CLOSED = READY
  /** Another one after some recoveries. */
  queue: SendQueue
  /** Completions of an earlier generation than this say nothing. Modulo 256. */
  generation = 0
  /** Recoveries in a row without a packet sent between them. */
  inARow = 0
  /** The device's own code for the last work request that failed by itself. */
  vendorError = 0
  /** How long the device had said nothing when it was last given up on. */
  silentMs = 0
  silence = ''
  #recoveries = 0
  readonly history: string[] = []
  readonly #parts: RecoveryParts<V>
  /** Meaningful in RECOVERING. */
  #trouble: Trouble = { since: 0, cause: 0, why: '', located: false }
  /** The queue cannot be reset. */
  #replace = false

  constructor(parts: RecoveryParts<V>, queue: SendQueue) {
    this.#parts = parts
    this.queue = queue
    const { device } = parts
    device.states.add(() => ({
      recoveries: this.#recoveries,
      ...(this.history.length > 0 && { trouble: this.history.join('; ') }),
    }))
  }

  /** READY → RECOVERING. Recovering already, the trouble stays the first one. Never when broken or closed. */
  begin(cause: number, why = causeName(cause)): Trouble {
    if (this.state === READY) {
      this.#trouble = { since: performance.now(), cause, why, located: false }
      this.state = RECOVERING
    }
    return this.#trouble
  }

  /** As `begin`, for a queue that is not usable after a reset either. */
  beginAnew(cause: number, why?: string): void {
    this.#replace = true
    this.begin(cause, why)
  }

  /** READY → RECOVERING, because the device says nothing: the queue is put in error, so that all that is under way completes. */
  beginSilent(milliseconds: number): void {
    this.silentMs = milliseconds
    this.silence = this.#answer()
    this.begin(ERRNO.ETIMEDOUT, `no completion for ${milliseconds} ms`)
    try {
      this.queue.fail()
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      this.#replace = true
    }
  }

  /** The device's answer when it is asked something else. */
  #answer(): string {
    const { context, rdma } = this.#parts.device
    try {
      return context.port(rdma.port).state === IBV_PORT_ACTIVE
        ? 'the device answers and its port is up, so pause frames or a rate limit may have held it up for longer than completionTimeoutMs'
        : 'its port is down'
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      return 'the device does not answer'
    }
  }

  /** Whether the queue may be made ready again: its memory may be written only when all that was under way is accounted for. */
  get due(): boolean {
    if (this.state !== RECOVERING || (this.#parts.kind.displaced && this.#parts.registrations.pinning > 0)) return false
    return this.#parts.inFlight.empty || performance.now() - this.#trouble.since >= DRAIN_MS
  }

  /** RECOVERING → READY, or BROKEN. */
  finish(): void {
    this.#note(this.#trouble.why)
    try {
      // A queue that has to move is not at fault: the port that it sends by is gone, and comes back when it does.
      if (!this.#parts.kind.displaced && ++this.inARow > MAX_RECOVERIES) throw new NativeError('recovery', ERRNO.EIO, 'given up')
      this.#restart()
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      this.break(error.message)
      return
    }
    this.#failRest()
    this.#recoveries++
    this.#parts.inFlight.progressed = true
    this.state = READY
  }

  #restart(): void {
    this.generation = (this.generation + 1) & 0xff
    if (this.#parts.kind.displaced && this.#move()) return
    if (!this.#replace) {
      try {
        this.queue.reset()
        this.#parts.kind.ready(this.queue)
        return
      } catch (error) {
        if (!(error instanceof NativeError)) throw error
      }
    }
    this.#replace = false
    this.queue.close()
    this.queue = onNode(this.#parts.numaNode, () => new SendQueue(this.#parts.device.domain, this.queue.options))
    this.#parts.kind.ready(this.queue)
  }

  /** The queue, and the memory that it reads, move to another device. False if there is none. @throws NativeError */
  #move(): boolean {
    const { device, kind, registrations, rekey } = this.#parts
    const moved = kind.move!(() => {
      this.queue.close()
      registrations.release()
    })
    if (!moved) return false
    registrations.renew(device.domain)
    rekey()
    const options = { ...this.queue.options, port: device.rdma.port }
    this.queue = onNode(this.#parts.numaNode, () => new SendQueue(device.domain, options))
    kind.ready(this.queue)
    return true
  }

  /** READY or RECOVERING → BROKEN. */
  break(why: string): void {
    this.#note(why)
    // Destroying the queue pair stops the device: the memory is free again.
    this.queue.close()
    this.#failRest()
    this.state = BROKEN
  }

  #failRest(): void {
    const located = this.state === RECOVERING && this.#trouble.located
    this.#parts.inFlight.failAll(located ? CAUSE_FLUSHED : CAUSE_UNKNOWN)
  }

  #note(why: string): void {
    this.history.push(why)
    if (this.history.length > HISTORY) this.history.shift()
    this.#parts.device.states.change()
  }

  close(): void {
    this.queue.close()
    this.state = CLOSED
  }
}
