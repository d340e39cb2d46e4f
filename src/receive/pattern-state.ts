/**
 * The heap indices of the tutorial's pattern from one sender: each comes once, beginning at 0, spaced by the number of endpoints
 * among which its sender deals them out. An index is timestamp / samples per heap. Timestamps have few bits and start again at 0,
 * so the index is the one nearest to the last.
 */
import { divisorOf } from './sequence.js'

/** How far from the last heap the next may be, in heaps, where timestamps start again. */
const REACH = 32768
/** Indices below the highest that are remembered, a bit each. */
const WINDOW = REACH
const WORDS = WINDOW / 32
/** Bits that tell all indices within REACH of another apart. */
const REACH_BITS = 17

export class PatternState {
  #closed = 0
  #count = 0
  #lowest = 0
  #highest = 0
  #stride = 0
  #latest = 0
  #timestamp = 0
  #samples = 0
  /** Bit i: whether index i modulo WINDOW came, of the last WINDOW up to the highest. */
  readonly #seen = new Uint32Array(WORDS)

  /** @param endpoints of the receiver: the least number among which a sender may deal heaps out */
  constructor(private readonly endpoints: number) {}

  /**
   * Returns the index of the heap with this timestamp, or a fraction if no heap has it. @param modulo what timestamps wrap at, a
   * power of 2
   */
  indexOf(timestamp: number, samples: number, modulo: number): number {
    if (this.#count === 0) return timestamp / samples
    const ahead = modulus(timestamp - this.#timestamp, modulo)
    const steps = stepsFor(ahead, samples, modulo)
    return Math.abs(steps) <= REACH && this.#latest + steps >= 0 ? this.#latest + steps : timestamp / samples
  }

  /** Takes an index that indexOf returned. Returns false if it came before. */
  note(index: number, timestamp: number, samples: number): boolean {
    this.#latest = index
    this.#timestamp = timestamp
    this.#samples = samples
    const seen = this.#seen
    const word = (index % WINDOW) >>> 5
    const bit = 1 << (index & 31)
    if (this.#count === 0) {
      seen.fill(0)
      this.#lowest = index
      this.#highest = index
    } else if (index > this.#highest) {
      this.#forgetBetween(index)
      this.#highest = index
    } else if (index > this.#highest - WINDOW && (seen[word]! & bit) !== 0) return false
    if (index > this.#highest - WINDOW) seen[word]! |= bit
    if (index !== this.#lowest) this.#stride = divisorOf(Math.abs(index - this.#lowest), this.#stride)
    if (index < this.#lowest) this.#lowest = index
    this.#count++
    return true
  }

  /** Heaps that never came up to the highest index. */
  get missing(): number {
    if (this.#count === 0) return this.#closed
    const stride = this.#stride || this.endpoints
    const before = Math.floor(this.#lowest / stride)
    return this.#closed + before + Math.max(0, (this.#highest - this.#lowest) / stride + 1 - this.#count)
  }

  /** Heaps that went to each endpoint up to the highest index, where they are dealt out among several; else 0. */
  get rounds(): number {
    return this.#count > 1 && this.#stride > 1 ? Math.floor(this.#highest / this.#stride) : 0
  }

  /** Samples of the run's heaps so far; 0 before the first. */
  get samples(): number {
    return this.#count === 0 ? 0 : this.#samples
  }

  /** Ends the run: the next begins at index 0 again. */
  close(): void {
    this.#closed = this.missing
    this.#count = 0
    this.#stride = 0
  }

  #forgetBetween(index: number): void {
    const seen = this.#seen
    if (index - this.#highest >= WINDOW) {
      seen.fill(0)
      return
    }
    for (let i = this.#highest + 1; i <= index; i++) {
      if ((i & 31) === 0 && i + 31 <= index) {
        seen[(i % WINDOW) >>> 5] = 0
        i += 31
      } else seen[(i % WINDOW) >>> 5]! &= ~(1 << (i & 31))
    }
  }
}

const modulus = (value: number, modulo: number): number => {
  const rest = value % modulo
  return rest < 0 ? rest + modulo : rest
}

/**
 * Solves steps × samples ≡ ahead modulo a power of 2, for the steps nearest to 1. Returns NaN where there are none, or none near.
 * Takes the same time for all numbers, because packets come from anybody: the inverse of the odd part of `samples` needs no search.
 */
export function stepsFor(ahead: number, samples: number, modulo: number): number {
  const forward = ahead / samples
  // The usual case: timestamps that have not wrapped, or once. Narrow ones have nearer solutions.
  if (samples * (REACH + 1) < modulo) {
    const back = (ahead - modulo) / samples
    if (Number.isInteger(forward) && (forward <= REACH || !Number.isInteger(back))) return forward
    return Number.isInteger(back) ? back : Number.NaN
  }
  let unit = 1
  while (unit < modulo && (samples / unit) % 2 === 0) unit *= 2
  if (ahead % unit !== 0) return Number.NaN
  const odd = samples / unit
  const period = modulo / unit
  const near = Math.min(period, 2 ** REACH_BITS)
  const low = Math.imul(modulus(ahead / unit, 2 ** 32), inverse(odd)) >>> 0
  const residue = low % near
  const steps = residue - near * Math.round((residue - 1) / near)
  return modulus(steps * samples - ahead, modulo) === 0 ? steps : Number.NaN
}

/** Returns the inverse of an odd number modulo 2^32 (Newton: each turn doubles the bits that are right). */
function inverse(odd: number): number {
  const a = (odd % 2 ** 32) | 0
  let x = a
  for (let turn = 0; turn < 5; turn++) x = Math.imul(x, 2 - Math.imul(a, x))
  return x
}
