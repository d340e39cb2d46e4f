/**
 * An engine's account of what it has taken up, in the ring's memory: if its thread dies, the stream's thread tells from here what became of it (salvage.ts). The
 * thread that sends writes it, with plain stores, because whoever reads it knows that the thread has ended.
 *
 * A thread that is ended from outside ends where V8 looks for that: as a function is entered, or a loop goes round. So stores in a row are all
 * there, or none is.
 *
 * | word of a flight | says                                                                                        |
 * |------------------|---------------------------------------------------------------------------------------------|
 * | VARIANT          | the variant that it sends; NONE: it has nothing to post                                      |
 * | HEAPS            | how many of its heaps; their complement, if it is a batch of a loop and has no slot in the ring |
 * | SLOT             | its count in the ring; of an interlude the row behind those begun                            |
 * | COUNTED          | how many substreams' accounts have it, negative if it is suspect; or COUNTED_FAILURE          |
 */
import type { CntSequence } from './scatter.js'

/** As many as the ring has slots. */
const FLIGHTS = 1024
const INTERLUDE = FLIGHTS
const NONE = -1
export const COUNTED_FAILURE = 0x7fffffff
/** No row is behind it. */
const EVERY_ROW = 0x7fffffff

const L_SETTLED = 0
const L_CLAIMED = 1
/** The count behind the last flight of which rows may have been posted, and the row behind those. */
const L_BEGUN = 2
const L_BEGUN_ROWS = 3
const L_NEXT_HI = 4
const L_NEXT_LO = 5
const L_STEP_HI = 6
const L_STEP_LO = 7
/** 1: the submission of this count has set the sequence, and none after it. */
const L_HAS_SETTER = 8
const L_SETTER = 9
const HEAD_WORDS = 10

const F_VARIANT = 0
const F_HEAPS = 1
const F_SLOT = 2
const F_COUNTED = 3
const FLIGHT_WORDS = 4

const WORDS = HEAD_WORDS + (FLIGHTS + 1) * FLIGHT_WORDS

const placeOf = (count: number): number => HEAD_WORDS + (count & (FLIGHTS - 1)) * FLIGHT_WORDS
const INTERLUDE_AT = HEAD_WORDS + INTERLUDE * FLIGHT_WORDS

/** A flight, or an interlude, that a dead engine has not settled. */
export interface Unsettled {
  readonly variant: number
  readonly heaps: number
  /** Its count in the ring; undefined: a loop's, or an interlude. */
  readonly slot: number | undefined
  /** Rows from here on were never handed to the backend. */
  readonly begunRows: number
  /** Substreams whose accounts have it, as sent; 'failure': all have it, with what failed. */
  readonly counted: number | 'failure'
  readonly suspect: boolean
}

export class Ledger {
  static readonly BYTES = WORDS * 4
  readonly words: Int32Array

  constructor(memory: SharedArrayBuffer, at: number) {
    this.words = new Int32Array(memory, at, WORDS)
  }

  /** @param first the count of the first flight */
  begin(first: number): void {
    this.words[L_NEXT_LO] = 1
    this.words[L_STEP_LO] = 1
    this.reset(first)
  }

  /** Nothing is under way; the next flight has this count. */
  reset(first: number): void {
    const words = this.words
    words[L_SETTLED] = first
    words[L_CLAIMED] = first
    words[L_BEGUN] = first
    words[L_HAS_SETTER] = 0
    words[INTERLUDE_AT + F_VARIANT] = NONE
  }

  // The engine's calls.

  /** The flight is claimed, for now with nothing to post. */
  claim(count: number): void {
    const words = this.words
    words[placeOf(count) + F_VARIANT] = NONE
    words[L_CLAIMED] = (count + 1) | 0
  }

  /** @param slot its count in the ring; undefined: it is a batch of a loop */
  launch(count: number, variant: number, heaps: number, slot: number | undefined): void {
    const words = this.words
    const at = placeOf(count)
    words[at + F_VARIANT] = variant
    words[at + F_HEAPS] = slot === undefined ? ~heaps : heaps
    words[at + F_SLOT] = slot ?? 0
    words[at + F_COUNTED] = 0
  }

  launchInterlude(variant: number, heaps: number): void {
    const words = this.words
    words[INTERLUDE_AT + F_VARIANT] = variant
    words[INTERLUDE_AT + F_HEAPS] = ~heaps
    words[INTERLUDE_AT + F_SLOT] = 0
    words[INTERLUDE_AT + F_COUNTED] = 0
  }

  /** Rows before `end` of the flight, and all of those before it, may leave from now on. */
  post(count: number, end = EVERY_ROW): void {
    const words = this.words
    words[L_BEGUN] = (count + 1) | 0
    words[L_BEGUN_ROWS] = end
  }

  postInterlude(end: number): void {
    this.words[INTERLUDE_AT + F_SLOT] = end
  }

  /** The place in `words` of a flight's COUNTED (undefined: the interlude's), which the accounts write in a row with theirs. */
  countedAt(count: number | undefined): number {
    return (count === undefined ? INTERLUDE_AT : placeOf(count)) + F_COUNTED
  }

  /** All flights before `end` have settled. */
  settle(end: number): void {
    this.words[L_SETTLED] = end
  }

  /** The interlude has settled. */
  endInterlude(): void {
    this.words[INTERLUDE_AT + F_VARIANT] = NONE
  }

  /** Notes the sequence of heap cnts after its next ones were given out, and before they are posted. */
  noteSequence({ nextHi, nextLo, stepHi, stepLo }: CntSequence): void {
    const words = this.words
    words[L_NEXT_HI] = nextHi
    words[L_NEXT_LO] = nextLo
    words[L_STEP_HI] = stepHi
    words[L_STEP_LO] = stepLo
  }

  /** Notes the sequence that a submission sets. @param count its count in the ring */
  setSequence(sequence: CntSequence, count: number): void {
    this.noteSequence(sequence)
    const words = this.words
    words[L_SETTER] = count
    words[L_HAS_SETTER] = 1
  }

  /** The sequence that the engine before this one left; 1, 2, … before the first. */
  get sequence(): CntSequence {
    const [nextHi, nextLo, stepHi, stepLo] = Uint32Array.from(this.words.subarray(L_NEXT_HI, L_STEP_LO + 1))
    return { nextHi: nextHi!, nextLo: nextLo!, stepHi: stepHi!, stepLo: stepLo! }
  }

  // For whoever comes after a dead engine.

  /** The submission has set the sequence, of which heap cnts may have been taken since. */
  isSetter(count: number): boolean {
    return this.words[L_HAS_SETTER] === 1 && this.words[L_SETTER] === count
  }

  /** The flights that have something to post and have not settled, the oldest first. */
  get unsettled(): Unsettled[] {
    const words = this.words
    const flights: Unsettled[] = []
    for (let k = words[L_SETTLED]!; k !== words[L_CLAIMED]; k = (k + 1) | 0) {
      const ahead = (words[L_BEGUN]! - k) | 0
      const flight = this.#read(placeOf(k), ahead > 1 ? EVERY_ROW : ahead === 1 ? words[L_BEGUN_ROWS]! : 0)
      if (flight) flights.push(flight)
    }
    return flights
  }

  /** The interlude, if it has begun and has not settled. */
  get interlude(): Unsettled | undefined {
    return this.#read(INTERLUDE_AT, this.words[INTERLUDE_AT + F_SLOT]!)
  }

  #read(at: number, begunRows: number): Unsettled | undefined {
    const words = this.words
    const variant = words[at + F_VARIANT]!
    if (variant === NONE) return undefined
    const heaps = words[at + F_HEAPS]!
    const counted = words[at + F_COUNTED]!
    return {
      variant,
      heaps: heaps < 0 ? ~heaps : heaps,
      slot: heaps < 0 ? undefined : words[at + F_SLOT]!,
      begunRows,
      counted: counted === COUNTED_FAILURE ? 'failure' : Math.abs(counted),
      suspect: counted < 0,
    }
  }
}
