/**
 * The end of a stream.
 *
 * | state   | legal                                        | next                                                          |
 * |---------|----------------------------------------------|---------------------------------------------------------------|
 * | open    | close, destroy                               | closing by either                                             |
 * | closing | close, destroy; sends are refused            | closed when drained, or cut off at the deadline or by destroy |
 * | closed  | close, destroy                               | —                                                             |
 *
 * Teardown: refuse sends → drain or abort → stop the driver → backend and descriptors closed → regions back to the pool.
 */
import type { Driver } from '../engine/driver.js'
import { type Ring, STOP_ABORT, STOP_DRAIN } from '../engine/ring.js'
import { readCounters } from '../stats.js'
import type { Batches } from './batches.js'
import type { CloseReport } from './calls.js'
import { within } from './deadline.js'
import type { Descriptors } from './descriptors.js'
import type { Failures } from './failures.js'
import type { Loops } from './loops.js'
import type { PreparedLists } from './prepared.js'
import { abortedByDestroy, type Submissions } from './submissions.js'

/** The parts that end with the stream. */
interface Ended {
  readonly ring: Ring
  readonly driver: Driver
  readonly submissions: Submissions
  readonly failures: Failures
  readonly descriptors: Descriptors
  readonly batches: Batches
  readonly prepared: PreparedLists
  readonly loops: Loops
}

export class Ending {
  state: 'open' | 'closing' | 'closed' = 'open'
  /** Set when sends were cut off by a deadline or destroy: unsent heaps before that. */
  #unsentBeforeCut: number | undefined
  #report: Promise<CloseReport> | undefined
  #tornDown: Promise<void> | undefined

  constructor(readonly parts: Ended) {}

  close(deadlineSeconds: number | undefined): Promise<CloseReport> {
    if (this.state === 'open') this.state = 'closing'
    this.#report ??= this.#close(deadlineSeconds)
    return this.#report
  }

  async #close(deadlineSeconds: number | undefined): Promise<CloseReport> {
    const { submissions, failures, loops } = this.parts
    loops.stopAll()
    const late = !(await within(deadlineSeconds, submissions.drained()))
    if (late) this.#cutOff()
    await this.#shutDown(late ? STOP_ABORT : STOP_DRAIN)
    // The report counts the sends that were cut off; only failures before the cut surface.
    failures.restore()
    failures.rethrow()
    return { droppedHeaps: this.#droppedHeaps }
  }

  get #droppedHeaps(): number {
    return this.#unsentBeforeCut === undefined ? 0 : this.parts.submissions.unsentHeaps - this.#unsentBeforeCut
  }

  /** Sends that fail from here on are not failures but were dropped. */
  #cutOff(): void {
    const { submissions, failures } = this.parts
    submissions.harvest()
    this.#unsentBeforeCut ??= submissions.unsentHeaps
    failures.setAside()
  }

  async destroy(): Promise<void> {
    if (this.state !== 'closed') {
      this.state = 'closing'
      this.#cutOff()
    }
    const down = this.#shutDown(STOP_ABORT)
    this.#report ??= down.then(() => ({ droppedHeaps: this.#droppedHeaps }))
    this.parts.driver.submitted()
    await this.#report.catch(() => {})
  }

  /** A second call, with STOP_ABORT, cuts a drain short that might never end. */
  #shutDown(stop: number): Promise<void> {
    this.parts.descriptors.close()
    this.parts.ring.stop(stop)
    this.#tornDown ??= this.#tearDown()
    return this.#tornDown
  }

  async #tearDown(): Promise<void> {
    const { driver, submissions, batches, prepared, ring } = this.parts
    await driver.stopped()
    submissions.harvest()
    submissions.die(abortedByDestroy())
    this.state = 'closed'
    batches.close()
    prepared.close()
    const { heapsSent, heapsFailed } = readCounters(ring.counters)
    submissions.news.closed(heapsSent, heapsFailed, this.#droppedHeaps)
  }
}
