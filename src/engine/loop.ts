/**
 * Batches that are sent over and over: the window of a loop, which the engine takes up again by itself. Nothing is asked of the thread that
 * called stream.loop(), and nothing is allocated for a batch that is sent whole.
 *
 * | state   | is                                                                    | next                                   |
 * |---------|-----------------------------------------------------------------------|----------------------------------------|
 * | waiting | announced; its turn among the submissions has not come                 | running by begin()                     |
 * | running | makes a flight whenever the batch that is next is not in flight        | over by a turn that leads to no window |
 * | over    | makes no more flights; its submission settles behind those it has made | —                                      |
 *
 * A turn changes the course behind a number of batches, and may cut the batch behind them to its first heaps. So the thread that knows the
 * timestamps decides to the heap, and this one only counts.
 */
import { type HeapStatus, isUnsent, type OutcomeMessage, type SubstreamCause } from './outcome.js'
import type { ImmediatePointers } from './scatter.js'
import type { Variant } from './variant.js'
import type { Variants } from './variants.js'

/** The first heaps of a variant, all of them or those before a cut. */
export interface LoopBatch {
  readonly variant: number
  readonly heaps: number
  readonly rows: number
}

export interface LoopWindow {
  /** One at least; sent in this order, and over again. */
  readonly batches: readonly LoopBatch[]
  /** The immediate whose staged values advance; undefined = none does. */
  readonly timestamp: string | undefined
  /** The number that each of its values advances by in a round, from 0 to its modulus − 1. */
  readonly advance: number
}

export interface LoopTurn {
  /** Batches that go before it, counted since the loop began. */
  readonly after: number
  /** Where `after` has passed already, the turn is made at once; without it the turn is refused. */
  readonly atOnce?: boolean
  /** What goes of the batch behind those. */
  readonly cut?: LoopBatch | undefined
  /** undefined: the loop is over. */
  readonly window?: LoopWindow | undefined
  /** The turn that ends the new window. */
  readonly end?: LoopTurn | undefined
}

/** Control messages. */
export type LoopControl =
  | {
      readonly type: 'loop'
      readonly id: number
      readonly window: LoopWindow
      readonly turn: LoopTurn | undefined
      readonly stopsOnFailure: boolean
      /** By W_…: how far it is. */
      readonly words: Float64Array<SharedArrayBuffer>
    }
  /** The loop's next turn, instead of the one it has. */
  | { readonly type: 'turn'; readonly id: number; readonly turn: LoopTurn }

/** The account of a loop. */
export interface LoopCounts {
  /** Batches, heaps and packets that it took up. */
  batches: number
  heaps: number
  packets: number
  /** Those of its heaps and packets that were not sent. */
  failedHeaps: number
  failedPackets: number
  /** Its heaps that were left out: late by the clock, or by a policy. Their packets count as failed. */
  skippedHeaps: number
  /** Heaps of batches whose settlement was suspect. */
  suspectHeaps: number
  /** A failure ended it. */
  failed: boolean
  /** The stream was destroyed, or closed at its deadline. */
  aborted: boolean
  readonly causes: SubstreamCause[]
}

export type LoopMessage = { readonly type: 'loop'; readonly id: number } & (
  | { readonly event: 'refused' }
  /** All batches before the turn have settled. */
  | { readonly event: 'swapped' }
  /** The fate of a batch's heaps; no more than one such message a second. */
  | { readonly event: 'failing'; readonly outcome: OutcomeMessage }
  | { readonly event: 'over'; readonly counts: LoopCounts }
)

// The words in which a loop tells how far it is.
/** Batches that it has taken up. */
export const W_TAKEN = 0
/** Heaps that have settled, those of them that were not sent whole, those of batches whose settlement was suspect, and those left out. */
export const W_SETTLED = 1
export const W_FAILED = 2
export const W_SUSPECT = 3
export const W_SKIPPED = 4
export const LOOP_WORDS = 5

// The answers of aim().
export const LOOP_WAITS = 0
const LOOP_SENDS = 1
export const LOOP_ENDS = 2

const FAILING_MS = 1000

/** A batch of the window as the engine holds it. */
class Part {
  constructor(
    readonly variant: Variant,
    readonly heaps: number,
    readonly rows: number,
    readonly timestamps: ImmediatePointers | undefined,
  ) {}
}

export class Loop {
  /** The flight to make, after aim() has said LOOP_SENDS. */
  variant!: Variant
  heaps = 0
  rows = 0
  readonly #counts: LoopCounts = {
    batches: 0,
    heaps: 0,
    packets: 0,
    failedHeaps: 0,
    failedPackets: 0,
    skippedHeaps: 0,
    suspectHeaps: 0,
    failed: false,
    aborted: false,
    causes: [],
  }
  #parts: readonly Part[] = []
  #advance = 0
  /** Flights that it has made, those of them that have settled, and those that were made before this window. */
  #made = 0
  #settled = 0
  #before = 0
  /** The index of the batch that is next. */
  #next = 0
  #turn: LoopTurn | undefined
  /** The settled count at which the batches of the window before this one are free; −1 = they are. */
  #freeAt = -1
  #toldAt = Number.NEGATIVE_INFINITY

  constructor(
    readonly announced: Extract<LoopControl, { type: 'loop' }>,
    readonly variants: Variants,
    readonly emit: (message: LoopMessage) => void,
  ) {
    this.#turn = announced.turn
    this.#begin(announced.window)
  }

  /** The first flight's variant. */
  get first(): Variant {
    return this.#parts[0]!.variant
  }

  /** Its first flight is next. */
  get isUnbegun(): boolean {
    return this.#made === 0 && !(this.#turn !== undefined && this.#turn.after === 0 && this.#turn.cut === undefined)
  }

  /** Whether aim() would not say LOOP_WAITS. */
  get ready(): boolean {
    const turn = this.#turn
    return !this.#busy || (turn !== undefined && this.#made >= turn.after && turn.cut === undefined)
  }

  /** The batch that is next has not settled since it was sent last. */
  get #busy(): boolean {
    const n = this.#parts.length
    return this.#made - this.#settled >= n && this.#made - this.#before >= n
  }

  turn(turn: LoopTurn): void {
    if (this.#made > turn.after && !turn.atOnce) this.emit({ type: 'loop', id: this.announced.id, event: 'refused' })
    else this.#turn = turn
  }

  /** It makes no flight any more. */
  fail(): void {
    this.#counts.failed = true
    this.#turn = { after: 0 }
  }

  /** The stream ends: what it has taken up is all. */
  abort(): void {
    this.#counts.aborted = true
  }

  #begin({ batches, timestamp, advance }: LoopWindow): void {
    this.#parts = batches.map(({ variant: id, heaps, rows }) => {
      const variant = this.variants.get(id)
      return new Part(
        variant,
        heaps,
        rows,
        variant.immediates.find(({ table }) => table.name === timestamp),
      )
    })
    this.#advance = advance
    this.#before = this.#made
    this.#next = 0
  }

  /** Decides what goes next, and stages its timestamps. */
  aim(): number {
    const turn = this.#turn
    const turns = turn !== undefined && this.#made >= turn.after
    if (turns && turn.cut === undefined) {
      if (turn.window === undefined) return LOOP_ENDS
      this.#turn = turn.end
      this.#begin(turn.window)
      this.#freeAt = this.#made
      this.#tellIfFree()
      return this.aim()
    }
    if (this.#busy) return LOOP_WAITS
    const part = this.#parts[this.#next]!
    if (this.#made - this.#before >= this.#parts.length && part.timestamps)
      advance(part.timestamps, part.variant.view, this.#advance)
    if (turns) {
      const { variant, heaps, rows } = turn.cut!
      this.#aimAt(this.variants.get(variant), heaps, rows)
      this.#turn = { ...turn, after: this.#made, cut: undefined }
    } else this.#aimAt(part.variant, part.heaps, part.rows)
    return LOOP_SENDS
  }

  #aimAt(variant: Variant, heaps: number, rows: number): void {
    this.variant = variant
    this.heaps = heaps
    this.rows = rows
    const counts = this.#counts
    counts.batches++
    counts.heaps += heaps
    counts.packets += rows
    this.#made++
    this.#next = this.#next + 1 === this.#parts.length ? 0 : this.#next + 1
    this.announced.words[W_TAKEN] = this.#made
  }

  /** A flight of its has settled. */
  settled(heaps: number, suspect: boolean): void {
    const { words } = this.announced
    this.#settled++
    if (suspect) this.#counts.suspectHeaps += heaps
    words[W_FAILED] = this.#counts.failedHeaps
    words[W_SUSPECT] = this.#counts.suspectHeaps
    words[W_SKIPPED] = this.#counts.skippedHeaps
    words[W_SETTLED]! += heaps
    if (this.#freeAt >= 0) this.#tellIfFree()
  }

  #tellIfFree(): void {
    if (this.#settled < this.#freeAt) return
    this.#freeAt = -1
    this.emit({ type: 'loop', id: this.announced.id, event: 'swapped' })
  }

  /** Some heaps of a flight of its were not sent whole, or were left out. */
  failedSome(outcome: OutcomeMessage): void {
    const counts = this.#counts
    const failed = unsent(outcome.heaps)
    counts.failedHeaps += failed
    counts.failedPackets += outcome.packetsUnsent
    counts.skippedHeaps += outcome.heaps.reduce((n, status) => n + (status === 'skipped' ? 1 : 0), 0)
    for (const cause of outcome.causes) {
      const i = counts.causes.findIndex(({ substream, errno }) => substream === cause.substream && errno === cause.errno)
      if (i < 0) counts.causes.push(cause)
      else {
        const { substream, errno, errnoName, message } = cause
        counts.causes[i] = { substream, errno, errnoName, message, packets: cause.packets + counts.causes[i]!.packets }
      }
    }
    if (failed === 0) return
    if (this.announced.stopsOnFailure) this.fail()
    const now = performance.now()
    if (now - this.#toldAt < FAILING_MS) return
    this.#toldAt = now
    this.emit({ type: 'loop', id: this.announced.id, event: 'failing', outcome })
  }

  /** All its flights have settled. */
  tellEnd(): void {
    this.emit({ type: 'loop', id: this.announced.id, event: 'over', counts: this.#counts })
  }
}

const unsent = (heaps: readonly HeapStatus[]): number => heaps.reduce((n, status) => n + (isUnsent(status) ? 1 : 0), 0)

/** Adds `by` to all staged values, modulo the item's width, and notes whether they are a ramp. 1.5 ns a value. */
function advance({ column, rampAt, table }: ImmediatePointers, view: DataView, by: number): void {
  const modulus = 256 ** table.bytes
  const high = table.encoding === 'int' ? modulus / 2 : modulus
  let first = 0
  let last = 0
  let step = 0
  for (let j = 0; j < column.length; j++) {
    let value = column[j]! + by
    if (value >= high) value -= modulus
    column[j] = value
    if (j === 0) first = value
    else if (j === 1) step = value - first
    // NaN differs from all.
    else if (value - last !== step) step = Number.NaN
    last = value
  }
  view.setFloat64(rampAt, first, true)
  view.setFloat64(rampAt + 8, step, true)
}
