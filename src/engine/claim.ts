/** Next value and step of a sequence, as unsigned 32-bit halves. */
type Halves = Record<'nextHi' | 'nextLo' | 'stepHi' | 'stepLo', number>

/** The fields that Ring.claim() reads from a slot. One per engine, reused. Its numbers have 32 signed bits, which V8 keeps in the object. */
export class Claim {
  setsSequence = false
  /** −1: none. */
  resumes = -1
  variant = 0
  heaps = 0
  rows = 0
  explicitCnts = false
  nextHi = 0
  nextLo = 0
  stepHi = 0
  stepLo = 0

  /** The sequence that it sets. */
  writeTo(sequence: Halves): void {
    sequence.nextHi = this.nextHi >>> 0
    sequence.nextLo = this.nextLo >>> 0
    sequence.stepHi = this.stepHi >>> 0
    sequence.stepLo = this.stepLo >>> 0
  }
}
