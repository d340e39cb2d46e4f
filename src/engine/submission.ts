/** What a slot of the ring carries down, and what it carries back up. */
export const OUTCOME_SENT = 0
/** Nothing was sent: withdrawn before it was claimed, or refused. */
export const OUTCOME_ABORTED = 1
/** Some heaps were not sent whole: an outcome message with the submission's count went before the settlement. */
export const OUTCOME_FAILED = 2

/** The fields that push() writes into a slot. */
export interface Submission {
  readonly variant: number
  /** How many heaps are sent: the first of the variant. */
  readonly heaps: number
  /** How many rows those heaps take. */
  readonly rows: number
  readonly explicitCnts: boolean
  /** Instead of sending: sets the heap cnt sequence to next and step as 32-bit halves, resumes this substream, or begins this loop. */
  readonly sequence: readonly [number, number, number, number] | undefined
  readonly resumes?: number | undefined
  readonly loop?: number | undefined
  /** When send() was called, in nanoseconds of the clock that all threads share (origin.ts). */
  readonly submittedAt?: number
}

/** The fields that take() reads from a slot. One per stream, reused. */
export class Settlement {
  outcome: number = OUTCOME_SENT
  suspect = false
  cntHi = 0
  cntLo = 0

  /** The first heap cnt that the send took from the sequence; exact below 2^53. */
  get firstCnt(): number {
    return (this.cntHi >>> 0) * 2 ** 32 + (this.cntLo >>> 0)
  }
}
