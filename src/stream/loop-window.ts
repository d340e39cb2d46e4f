/** The window of a loop: how its timestamps advance, and where timestamps and numbers of heaps fall in it. Cold. */
import type { StagedNumbers } from '../batch/immediates.js'
import { shown } from '../checks.js'
import { ensure } from '../errors.js'
import type { Batch } from './batch.js'

/** The timestamps of a window. Positions are in its first round unless said otherwise, and unwrapped. */
export class WindowStamps {
  readonly low: number
  readonly modulus: number
  /** How much further a round is than the one before it. */
  readonly advance: number
  /** Every heap is as late as the one before it, or later, from round to round too. */
  readonly isMonotone: boolean
  /** By how much each heap is later than the first. */
  readonly #offsets: Float64Array
  readonly #columns: readonly StagedNumbers[]
  /** As the user staged them. */
  readonly #staged: Float64Array

  /** @param advance undefined: the rounds follow each other as the heaps do */
  constructor(
    call: string,
    readonly name: string,
    columns: readonly StagedNumbers[],
    advance: number | undefined,
  ) {
    const [{ low, modulus }] = columns as [StagedNumbers]
    this.#columns = columns
    this.low = low
    this.modulus = modulus
    const values = Float64Array.from(columns.flatMap((column) => [...column.values]))
    this.#staged = values
    const offsets = new Float64Array(values.length)
    let least = Number.POSITIVE_INFINITY
    let rises = true
    for (let j = 1; j < values.length; j++) {
      const step = this.distance(values[j]!, values[j - 1]!)
      if (step > 0) least = Math.min(least, step)
      if (step < 0) rises = false
      offsets[j] = offsets[j - 1]! + step
    }
    const span = offsets.reduce((most, offset) => Math.max(most, offset), 0) - offsets.reduce((most, o) => Math.min(most, o), 0)
    ensure(
      advance !== undefined || least < Number.POSITIVE_INFINITY,
      'ERR_SPEADCAST_VALUE',
      () =>
        `${call}: '${name}' is the same in all heaps, so nobody knows by how much it rises in a round; say so by the option advance, or stage other values`,
    )
    this.advance = advance ?? span + least
    this.#offsets = offsets
    this.isMonotone = rises && this.advance > 0 && this.advance >= span
  }

  get first(): number {
    return this.#columns[0]!.values[0]!
  }

  /** How much later `value` is than `before`: from −modulus ÷ 2 to modulus ÷ 2. */
  distance(value: number, before: number): number {
    const ahead = this.ahead(value, before)
    return ahead >= this.modulus / 2 ? ahead - this.modulus : ahead
  }

  /** The same, from 0 to modulus − 1. */
  ahead(value: number, before: number): number {
    const difference = (value - before) % this.modulus
    return difference < 0 ? difference + this.modulus : difference
  }

  /** The timestamp of a heap, counted from the first round's first. @param first the first round's first timestamp */
  at(heap: number, first: number): number {
    const n = this.#offsets.length
    const passed = BigInt(Math.floor(heap / n)) * BigInt(this.advance) + BigInt(this.#offsets[heap % n]!)
    return this.#wrapped(BigInt(first) + passed)
  }

  #wrapped(value: bigint): number {
    const low = BigInt(this.low)
    const modulus = BigInt(this.modulus)
    return Number(((((value - low) % modulus) + modulus) % modulus) + low)
  }

  /** The first heap that is `later` ≥ 0 than the first of all, or more. The window is monotone. */
  heapAt(later: number): number {
    const offsets = this.#offsets
    const round = Math.floor(later / this.advance)
    const rest = later - round * this.advance
    const j = offsets.findIndex((offset) => offset >= rest)
    return round * offsets.length + (j < 0 ? offsets.length : j)
  }

  /** Stages other values, so that the first heap has this one. */
  rebase(first: number): void {
    const shift = BigInt(first) - BigInt(this.first)
    if (shift === 0n) return
    for (const { values } of this.#columns)
      for (let j = 0; j < values.length; j++) values[j] = this.#wrapped(BigInt(values[j]!) + shift)
  }

  /** Stages what the user did, because whoever sends the batches again knows of no other values. */
  restore(): void {
    let from = 0
    for (const { values } of this.#columns) {
      values.set(this.#staged.subarray(from, from + values.length))
      from += values.length
    }
  }
}

/** A place between two heaps: whole batches before it, and heaps of the batch behind those. */
export interface Place {
  readonly batches: number
  readonly heaps: number
}

export class LoopWindow {
  /** Heaps of a round. */
  readonly heaps: number
  readonly payloadBytes: number
  /** Heaps before each batch. */
  readonly #starts: readonly number[]

  constructor(
    readonly batches: readonly Batch<object>[],
    readonly stamps: WindowStamps | undefined,
  ) {
    let heaps = 0
    this.#starts = batches.map((batch) => {
      const start = heaps
      heaps += batch.heaps
      return start
    })
    this.heaps = heaps
    this.payloadBytes = batches.reduce((bytes, { template, heaps }) => bytes + template.payloadBytes(heaps), 0)
  }

  /** The place before a heap, counted from the first round's first. */
  placeOf(heap: number): Place {
    const rest = heap % this.heaps
    const batch = this.#starts.findLastIndex((start) => start <= rest)
    const rounds = Math.floor(heap / this.heaps)
    return { batches: rounds * this.batches.length + batch, heaps: rest - this.#starts[batch]! }
  }

  /** The heaps of that many batches. */
  heapsOf(batches: number): number {
    return Math.floor(batches / this.batches.length) * this.heaps + this.#starts[batches % this.batches.length]!
  }
}

/** @throws ERR_SPEADCAST_VALUE for what no timestamp can be */
export function checkTimestamp(
  call: string,
  name: string,
  value: unknown,
  { low, modulus }: WindowStamps,
): asserts value is number {
  const high = low + modulus
  ensure(
    typeof value === 'number' && Number.isInteger(value) && value >= low && value < high,
    'ERR_SPEADCAST_VALUE',
    () => `${call}: ${name} is ${shown(value)}; it must be a timestamp, a whole number from ${low} to ${high - 1}`,
  )
}
