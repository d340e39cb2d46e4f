/** The fate of each heap of a batch (docs/architecture.md, "What sent means"). Built only when something went wrong. */
import { printable } from '../errors.js'

/**
 * The fate of a heap: `sent` whole, `partial` (some of its packets were sent), `failed` (none was), `flushed` (it was never tried), `unknown`
 * (handed over, and nothing was heard of it), or `skipped` (a mask left it out).
 */
export type HeapStatus = 'sent' | 'partial' | 'failed' | 'flushed' | 'unknown' | 'skipped'

/** The fate of a row, as FailureLog.rows has it. */
export const ROW_SENT = 0
const ROW_FAILED = 1
export const ROW_FLUSHED = 2
export const ROW_LOST = 3

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
}

/** Failed packets of one batch, counted per heap. Allocated at a batch's first failure. */
export class FailureLog {
  readonly #failed: Uint32Array
  readonly #flushed: Uint32Array
  readonly #lost: Uint32Array
  readonly #causes = new Map<string, { substream: number; errno: number; packets: number; message: string }>()
  /** ROW_… of each row. */
  readonly rows: Uint8Array
  packets = 0
  constructor(heaps: number, rows: number) {
    this.rows = new Uint8Array(rows)
    this.#failed = new Uint32Array(heaps)
    this.#flushed = new Uint32Array(heaps)
    this.#lost = new Uint32Array(heaps)
  }
  fail(row: number, heap: number, substream: number, errno: number, explain: () => string): void {
    this.rows[row] = ROW_FAILED
    this.#failed[heap]!++
    this.packets++
    const key = `${substream} ${errno}`
    const cause = this.#causes.get(key)
    if (cause) cause.packets++
    else this.#causes.set(key, { substream, errno, packets: 1, message: printable(explain()) })
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
      if (this.#lost[j]! > 0) return 'unknown'
      if (failed + flushed === 0) return 'sent'
      if (flushed === packets) return 'flushed'
      return failed + flushed === packets ? 'failed' : 'partial'
    })
    return {
      type: 'outcome',
      submission,
      heaps,
      causes: [...this.#causes.values()].map((cause) => ({ ...cause, errnoName: errnoName(cause.errno) })),
    }
  }
}
