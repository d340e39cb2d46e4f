/**
 * The heap cnts of one sender: continues them across wraps of their width, finds their step, and counts those that never came.
 *
 * Missing heaps are told only where the step is known: the greatest common divisor of all differences, if the heaps fill nine
 * tenths of the places it makes, or if a quarter of the heaps follow the one before them by exactly one step. Other cnts, such as
 * channel << 32 | n, are names and no sequence. A jump much longer than all that came before it begins a new section, and is no
 * gap.
 */

/** A gap is believed up to here, */
const BELIEVED_GAP = 1024
/** or up to this many times the heaps that came before it. */
const BELIEVED_RATIO = 16
/** A stop heap with a cnt this many steps behind the last data heap still says how many were sent. */
const BELIEVED_TAIL = 2 ** 20
/** Heaps this many steps behind the highest are late, if the step is known; else they begin a new section. */
const LATE = 1024
/** Heaps without data that wait for the next with data, and gaps with such heaps in them, that are remembered. */
const KEPT_EMPTY = 64
/** A heap without data that many steps behind the highest comes late; further behind, it is numbered otherwise. */
const LATE_EMPTY = 16

/** A gap between two heaps with data, in which heaps without came. */
interface Gap {
  readonly from: number
  readonly to: number
  readonly empty: number
}

/** Half the number of heap cnts that there are, by heap address bytes, which are from 1 to 7. */
const HALF_PERIOD = Float64Array.from({ length: 8 }, (_, bytes) => 2 ** (8 * bytes - 1))

export class Sequence {
  /** Heaps that never came in sections that have ended. */
  #closed = 0
  #count = 0
  #lowest = 0
  #highest = 0
  #divisor = 0
  #differences = 0
  #single = 0
  #previous = 0
  #jumped = false
  #stop = Number.NaN
  /** Cnts above the highest of heaps without data, such as repeated descriptors, which take places among those with data. */
  #empty: number[] = []
  #gaps: Gap[] = []
  /** Places that heaps without data took in gaps that are no longer remembered. */
  #filled = 0
  /** The heap without data that came last before the first with data. */
  #before = Number.NaN

  /** @param step 0: to be found @param endpoints of the receiver: the least number among which a sender may deal heaps out */
  constructor(
    private readonly step: number,
    private readonly endpoints: number,
  ) {
    this.#divisor = step
  }

  get started(): boolean {
    return this.#count > 0
  }

  get highest(): number {
    return this.#highest
  }

  /** The step from heap to heap; 0 where it is not known. */
  get knownStep(): number {
    if (this.step > 0) return this.step
    const divisor = this.#divisor
    if (divisor === 0) return 0
    if (4 * this.#single >= this.#differences) return divisor
    const places = (this.#highest - this.#lowest) / divisor + 1
    return !this.#jumped && this.#count >= 0.9 * places ? divisor : 0
  }

  /** Returns the cnt continued across wraps of its width, as near as can be to the highest so far. */
  unwrap(cnt: number, addressBytes: number): number {
    if (this.#count === 0) return cnt
    const behind = this.#highest - cnt
    const half = HALF_PERIOD[addressBytes]!
    // The usual case: rounding takes longer than all else that is done with a cnt.
    if (behind <= half && behind >= -half) return cnt
    return cnt + Math.round(behind / (2 * half)) * 2 * half
  }

  /**
   * Whether an unwrapped cnt is where the next heaps are expected, so that a heap without data takes its place among those with
   * data.
   */
  isNear(cnt: number): boolean {
    return this.#count === 0 || Math.abs(cnt - this.#highest) <= LATE * Math.max(1, this.#divisor)
  }

  /** Takes the unwrapped cnt of a data heap. Returns true where it begins a new section. */
  note(cnt: number): boolean {
    const distance = Math.abs(cnt - this.#previous)
    const first = this.#count === 0
    this.#previous = cnt
    if (first || this.#jumps(cnt)) {
      if (!first) {
        this.close()
        this.#jumped = true
        this.#differences++
      }
      this.#count = 1
      this.#lowest = cnt
      this.#highest = cnt
      return !first
    }
    this.#count++
    this.#differences++
    if (this.step === 0) {
      const before = this.#divisor
      if (before !== 1) this.#divisor = divisorOf(distance, before)
      if (this.#divisor !== before) this.#single = 0
    }
    if (distance === this.#divisor) this.#single++
    if (cnt > this.#highest) {
      if (this.#empty.length > 0) this.#closeGap(cnt)
      this.#highest = cnt
    }
    if (cnt < this.#lowest) this.#lowest = cnt
    return false
  }

  /** Takes the unwrapped cnt of a heap without data. */
  noteEmpty(cnt: number): void {
    if (this.#count === 0) this.#before = cnt
    else if (this.isNear(cnt)) {
      const step = this.knownStep
      if (cnt > this.#highest) {
        if (this.#empty.length < KEPT_EMPTY && !this.#empty.includes(cnt)) this.#empty.push(cnt)
      } else if (cnt > this.#lowest && cnt >= this.#highest - LATE_EMPTY * step && (this.#highest - cnt) % step === 0)
        this.#keepGap({ from: cnt - step, to: cnt + step, empty: 1 })
    }
  }

  /** Heaps without data have come since the highest, and now one at `cnt` with data. */
  #closeGap(cnt: number): void {
    const later = this.#empty.filter((other) => other > cnt)
    const empty = this.#empty.filter((other) => other < cnt).length
    this.#empty = later
    if (empty > 0) this.#keepGap({ from: this.#highest, to: cnt, empty })
  }

  #keepGap(gap: Gap): void {
    this.#gaps.push(gap)
    if (this.#gaps.length > KEPT_EMPTY) this.#filled += filledIn(this.#gaps.shift()!, this.knownStep)
  }

  #jumps(cnt: number): boolean {
    if (this.step > 0) return false
    const unit = this.#divisor
    const gap = cnt > this.#highest ? cnt - this.#highest : this.#lowest - cnt
    if (gap > 0) {
      // With one heap alone every cnt is possible; a far one may be the second of a sequence of long steps.
      if (unit === 0) return false
      return gap / unit - 1 > Math.max(BELIEVED_GAP, BELIEVED_RATIO * this.#count)
    }
    const behind = this.#highest - cnt
    const finer = divisorOf(behind, unit)
    return (finer < unit || this.knownStep === 0) && behind > LATE * finer
  }

  /** Notes the unwrapped cnt of the stop heap, which follows the last data heap unless its sender numbers it otherwise. */
  noteStop(cnt: number): void {
    if (this.#count === 0 || cnt <= this.#highest) return
    const steps = (cnt - this.#highest) / (this.knownStep || 1)
    if (steps <= (this.#count === 1 ? BELIEVED_GAP : BELIEVED_TAIL)) this.#stop = cnt
  }

  /** The stop heap's cnt where it can be believed, else the highest. */
  get lastCnt(): number {
    return Number.isNaN(this.#stop) ? this.#highest : this.#stop
  }

  get missing(): number {
    const step = this.knownStep
    if (this.#count === 0 || (step === 0 && this.#count > 1)) return this.#closed
    const places = step === 0 ? 1 : Math.floor((this.#highest - this.#lowest) / step) + 1
    const filled = this.#gaps.reduce((sum, gap) => sum + filledIn(gap, step), this.#count + this.#filled)
    return this.#closed + Math.max(0, places - filled) + this.#tail(step || this.#stepOfOne())
  }

  /** The step where one heap with data came: from the heap of descriptors before it, else the least there is. */
  #stepOfOne(): number {
    return this.#before < this.#highest ? this.#highest - this.#before : this.endpoints
  }

  /**
   * Heaps between the last and the stop heap. A stop heap that stands in no line with the others may be one of several, one for
   * each of the endpoints that the sender gives heaps in turn: then it may come up to two steps later.
   */
  #tail(step: number): number {
    if (Number.isNaN(this.#stop)) return 0
    const distance = Math.max(1, this.#stop - this.#highest)
    const places = distance % step === 0 ? distance / step - 1 : Math.floor((distance - 1) / step) - 1
    return Math.max(0, places - this.#empty.filter((cnt) => cnt < this.#stop).length)
  }

  /** Ends the section: the same cnts may come again. */
  close(): void {
    this.#closed = this.missing
    this.#count = 0
    this.#stop = Number.NaN
    this.#empty = []
    this.#gaps = []
    this.#filled = 0
  }
}

/** How many places of the gap were taken: at most all that it has, because the heaps may be numbered otherwise. */
function filledIn({ from, to, empty }: Gap, step: number): number {
  return step === 0 ? 0 : Math.max(0, Math.min(empty, Math.floor((to - from) / step) - 1))
}

/** Euclid's algorithm, for safe integers; gcd(0, b) = b. */
export function divisorOf(a: number, b: number): number {
  let x = a
  let y = b
  // Not `!== 0`, with which NaN would keep it for ever.
  while (y > 0) {
    const rest = x % y
    x = y
    y = rest
  }
  return x
}
