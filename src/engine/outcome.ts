/** The fate of each heap of a batch (docs/architecture.md, "What sent means"). Built only when something went wrong. */
import { printable, type SpeadcastError } from '../errors.js'

/**
 * The fate of a heap: `sent` whole, `partial` (some of its packets were sent), `failed` (none was), `flushed` (it was never tried), `unknown`
 * (handed over, and nothing was heard of it), or `skipped` (a mask left it out; or the observation clock, because it was late; or it did not go out
 * whole, and `onError` of its substream lets the send go on without it).
 */
export type HeapStatus = 'sent' | 'partial' | 'failed' | 'flushed' | 'unknown' | 'skipped'

/** The fate of a row, as FailureLog.rows has it. */
export const ROW_SENT = 0
const ROW_FAILED = 1
export const ROW_FLUSHED = 2
export const ROW_LOST = 3
export const ROW_SKIPPED = 4

/** Neither sent nor left out on purpose. */
export const isUnsent = (status: HeapStatus): boolean => status !== 'sent' && status !== 'skipped'

/** A reason for which packets to one endpoint were not sent. */
export interface SubstreamCause {
  /** Index of the endpoint. */
  readonly substream: number
  /** The system's or the device's error number. */
  readonly errno: number
  /** Its name, such as 'EHOSTUNREACH' (errno(3)). */
  readonly errnoName: string
  /** Packets of this batch lost to this cause. */
  readonly packets: number
  /** Says what happened and what helps, for a person. */
  readonly message: string
}

/** Plain data: crosses from the I/O thread by structured clone, ahead of the settlement it explains. */
export interface OutcomeMessage {
  readonly type: 'outcome'
  /** The submission it explains, by its count in the ring. */
  readonly submission: number
  readonly heaps: HeapStatus[]
  readonly causes: SubstreamCause[]
  /** Packets that were not sent, those of skipped heaps included. */
  readonly packetsUnsent: number
  /** The death of the engine that had taken it up, if that is why. */
  readonly died?: SpeadcastError
}

interface Cause {
  readonly substream: number
  readonly errno: number
  packets: number
  message: string
  /** Another one of the same substream. */
  readonly next: Cause | undefined
}

/** Failed packets of one batch, counted per heap. Allocated at a batch's first failure; a packet allocates only if its cause is a new one. */
export class FailureLog {
  readonly #failed: Uint32Array
  readonly #flushed: Uint32Array
  readonly #lost: Uint32Array
  /** Those of them that do not fail the send. */
  readonly #excused: Uint32Array
  /** By substream, the latest first. */
  readonly #causes = new Map<number, Cause>()
  #last: Cause | undefined
  readonly #skipped: Uint32Array
  /** ROW_… of each row. */
  readonly rows: Uint8Array
  packets = 0
  constructor(heaps: number, rows: number) {
    this.rows = new Uint8Array(rows)
    this.#skipped = new Uint32Array(heaps)
    this.#failed = new Uint32Array(heaps)
    this.#flushed = new Uint32Array(heaps)
    this.#lost = new Uint32Array(heaps)
    this.#excused = new Uint32Array(heaps)
  }
  /** True if nothing has failed for this reason yet: explain() is to be called next. */
  fail(row: number, heap: number, substream: number, errno: number): boolean {
    this.rows[row] = ROW_FAILED
    this.#failed[heap]!++
    this.packets++
    return this.#note(substream, errno)
  }
  #note(substream: number, errno: number): boolean {
    let cause = this.#last
    if (cause?.substream !== substream || cause.errno !== errno) {
      const latest = this.#causes.get(substream)
      for (cause = latest; cause && cause.errno !== errno; cause = cause.next);
      if (!cause) {
        this.#last = { substream, errno, packets: 1, message: '', next: latest }
        this.#causes.set(substream, this.#last)
        return true
      }
      this.#last = cause
    }
    cause.packets++
    return false
  }
  /** Says what happened to the packet that was noted last, and what helps. */
  explain(message: string): void {
    this.#last!.message = printable(message)
  }
  /** Left out, which is no failure. True as of fail(). */
  skip(row: number, heap: number, substream: number, cause: number): boolean {
    this.rows[row] = ROW_SKIPPED
    this.#skipped[heap]!++
    return this.#note(substream, cause)
  }
  /** No spread of objects: V8 puts what that makes where only major collections free it. */
  #allCauses(nameOf: (errno: number) => string): SubstreamCause[] {
    const all: SubstreamCause[] = []
    for (const latest of this.#causes.values()) {
      const at = all.length
      for (let cause: Cause | undefined = latest; cause; cause = cause.next) {
        const { substream, errno, packets, message } = cause
        all.splice(at, 0, { substream, errno, errnoName: nameOf(errno), packets, message })
      }
    }
    return all
  }
  /** The packet that is noted next does not fail the send. */
  excuse(heap: number): void {
    this.#excused[heap]!++
  }
  flush(row: number, heap: number): void {
    this.rows[row] = ROW_FLUSHED
    this.#flushed[heap]!++
    this.packets++
  }
  /** Posted, and its completion will never be seen. */
  lose(row: number, heap: number): void {
    this.rows[row] = ROW_LOST
    this.#lost[heap]!++
    this.packets++
  }
  /** @param sent how many heaps were to be sent: the first of them */
  message(
    submission: number,
    sent: number,
    packetsOfHeap: (heap: number) => number,
    errnoName: (errno: number) => string,
  ): OutcomeMessage {
    const heaps = Array.from(this.#failed.subarray(0, sent), (failed, j): HeapStatus => {
      const flushed = this.#flushed[j]!
      const packets = packetsOfHeap(j)
      if (this.#skipped[j]! > 0) return 'skipped'
      const excused = this.#excused[j]!
      if (excused > 0 && excused === failed + flushed + this.#lost[j]!) return 'skipped'
      if (this.#lost[j]! > 0) return 'unknown'
      if (failed + flushed === 0) return 'sent'
      if (flushed === packets) return 'flushed'
      return failed + flushed === packets ? 'failed' : 'partial'
    })
    return {
      type: 'outcome',
      submission,
      heaps,
      causes: this.#allCauses(errnoName),
      packetsUnsent: this.packets + this.#skipped.reduce((sum, packets) => sum + packets, 0),
    }
  }
}
