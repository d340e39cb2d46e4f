import { checkOptions, readPlain } from '../checks.js'
import {
  type LoopBatch,
  type LoopCounts,
  type LoopMessage,
  type LoopTurn,
  W_FAILED,
  W_SETTLED,
  W_SKIPPED,
  W_SUSPECT,
  W_TAKEN,
  type LoopWindow as WindowMessage,
} from '../engine/loop.js'
import { counted, ensure, INSPECT, type Inspection, inspected, SpeadcastError } from '../errors.js'
import type { Batch } from './batch.js'
import type { LoopOptions, LoopPosition, LoopReport, SwapOptions } from './loop-types.js'
import { LoopError } from './loop-types.js'
import { checkTimestamp, type LoopWindow, type Place } from './loop-window.js'
import type { BatchResult } from './result.js'
import { SendPromise } from './send-promise.js'

/** @internal The services of the stream to a loop. */
export interface LoopHost {
  readonly evidence: BatchResult['evidence']
  /** The window of batches that are free. @throws what cannot be looped */
  windowOf(call: string, batches: readonly Batch<object>[], options: LoopOptions, like?: LoopWindow): LoopWindow
  /** Aims at the first heaps of a batch. */
  aim(batch: Batch<object>, heaps: number): LoopBatch
  /** Changes the course of the loop. */
  turn(id: number, turn: LoopTurn): void
  /** A failure that nobody has looked at yet. */
  note(promise: SendPromise<LoopReport>, error: unknown): void
}

/** A window, and what went before it. */
interface Stage {
  readonly window: LoopWindow
  /** The timestamp of its first heap. */
  readonly first: number
  readonly batchesBefore: number
  readonly heapsBefore: number
  readonly roundsBefore: number
  /** Its batches are in flight until this is fulfilled. */
  readonly flight: SendPromise<BatchResult>
}

interface Swap {
  readonly stage: Stage
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
  /** undefined: as soon as possible. */
  readonly at: number | undefined
}

/** Batches that a swap as soon as possible leaves to the window that goes. */
const MARGIN = 4
const SWAP_OPTIONS = ['at', 'advance'] as const

/**
 * Batches that are sent over and over, from `stream.loop`.
 *
 * | state   | legal                  | next                                                             |
 * |---------|------------------------|------------------------------------------------------------------|
 * | looping | swap, stop, position   | ending by stop, by its signal, or close of the stream; over       |
 * | ending  | stop, position         | over when what it has taken up has settled                       |
 * | over    | stop, position         | —                                                                |
 * @example
 * const loop = stream.loop([first, second])
 * await loop.swap([third, fourth], { at: 2 ** 30 })
 * loop.stop()
 * const { rounds, heaps } = await loop.done
 */
export class Loop {
  /** Resolves when the loop has ended and all of it has settled; rejects with a LoopError, with signal.reason, or as `stream.send` does. */
  readonly done: SendPromise<LoopReport> = new SendPromise(() => {})
  #state: 'looping' | 'ending' | 'over' = 'looping'
  readonly #host: LoopHost
  readonly #id: number
  readonly #words: Float64Array
  readonly #options: LoopOptions
  #stage: Stage
  #swap: Swap | undefined
  #swaps = 0
  #margin = MARGIN
  #counts: LoopCounts | undefined
  /** Why it was told to stop, where that is a failure of `done`. */
  #reason: unknown

  /** @internal use stream.loop */
  constructor(host: LoopHost, id: number, window: LoopWindow, words: Float64Array, options: LoopOptions) {
    this.#host = host
    this.#id = id
    this.#words = words
    this.#options = options
    this.#stage = lock({ window, first: window.stamps?.first ?? 0, batchesBefore: 0, heapsBefore: 0, roundsBefore: 0 })
  }

  /** 'looping', also while it waits for its turn; 'ending': it was told to stop; 'over': `done` has settled, or is about to. */
  get state(): 'looping' | 'ending' | 'over' {
    return this.#state
  }

  /** How far it is, as a copy. Reads shared words, so that it costs microseconds. */
  get position(): LoopPosition {
    const taken = this.#words[W_TAKEN]!
    const next = this.#swap?.stage
    const isNext = next !== undefined && taken >= next.batchesBefore
    const stage = isNext ? next : this.#stage
    const { window, first, batchesBefore, heapsBefore, roundsBefore } = stage
    // The last batch may have been cut.
    const heaps = Math.min(window.heapsOf(Math.max(0, taken - batchesBefore)), this.#endOf(stage) ?? Number.POSITIVE_INFINITY)
    return {
      rounds: roundsBefore + Math.floor(heaps / window.heaps),
      heaps: heapsBefore + heaps,
      timestamp: window.stamps?.at(heaps, first),
      settledHeaps: this.#words[W_SETTLED]!,
      failedHeaps: this.#words[W_FAILED]!,
      skippedHeaps: this.#words[W_SKIPPED]!,
      suspectHeaps: this.#words[W_SUSPECT]!,
    }
  }

  /**
   * Sends these batches over and over from timestamp `at` on, instead of those it has: every heap before `at` is from the old window, and every
   * heap from there on from the new one. The staged timestamps of the new window are moved, so that its first heap follows the last of the old
   * one. Resolves when the batches of the old window are free; until then there can be no other swap.
   * @throws (rejects) ERR_SPEADCAST_LATE where `at` has passed, and nothing has changed; ERR_SPEADCAST_VALUE, _CONFIG and _BATCH_STATE as
   *   `stream.loop` throws; ERR_SPEADCAST_ABORTED where the loop ended first
   * @example await loop.swap([third, fourth], { at: 2 ** 30 })
   */
  async swap(batches: readonly Batch<object>[], options: SwapOptions = {}): Promise<void> {
    this.#refuseSwap()
    checkOptions('swap', options, SWAP_OPTIONS)
    const { timestamp } = this.#options
    const { at, advance } = readPlain('swap', options, SWAP_OPTIONS)
    const window = this.#host.windowOf(
      'swap',
      batches,
      { ...(timestamp !== undefined && { timestamp }), ...(advance !== undefined && { advance }) },
      this.#stage.window,
    )
    const heap = at === undefined ? this.#soon() : this.#heapAt(at)
    const { stage, turn } = this.#turnTo(window, heap)
    return new Promise((resolve, reject) => {
      this.#swap = { stage: lock(stage), resolve, reject, at }
      this.#host.turn(this.#id, turn)
    })
  }

  #refuseSwap(): void {
    if (this.#state !== 'looping') throw endedFirst()
    ensure(
      this.#swap === undefined,
      'ERR_SPEADCAST_BATCH_STATE',
      () => 'swap: another swap has not taken place yet; await it before you ask for the next',
    )
  }

  /** A heap that begins a batch, a few batches from now. */
  #soon(): number {
    const { window, batchesBefore } = this.#stage
    return window.heapsOf(Math.max(0, this.#words[W_TAKEN]! - batchesBefore) + this.#margin)
  }

  #heapAt(at: number): number {
    const { window, first, batchesBefore } = this.#stage
    const { stamps } = window
    ensure(
      stamps,
      'ERR_SPEADCAST_CONFIG',
      () => 'swap: at is a timestamp, and the loop has none; leave it out, or name the immediate by the option timestamp of loop',
    )
    checkTimestamp('swap', 'at', at, stamps)
    ensure(
      stamps.isMonotone,
      'ERR_SPEADCAST_VALUE',
      () => 'swap: the timestamps of the window go back between two heaps, so that none of them is one place in it; leave out at',
    )
    const taken = Math.max(0, this.#words[W_TAKEN]! - batchesBefore)
    const round = Math.floor(taken / window.batches.length) * window.heaps
    const later = stamps.distance(at, stamps.at(round, first))
    if (later < 0) throw this.#late(at)
    return round + stamps.heapAt(later)
  }

  #late(at: number): SpeadcastError {
    const { timestamp } = this.position
    return new SpeadcastError(
      'ERR_SPEADCAST_LATE',
      `swap: heaps with timestamp ${at} were taken up already; the next that can be from the new window have ${timestamp} or later`,
    )
  }

  /** The new window's place, and the turn to it at a heap of the present one. */
  #turnTo(window: LoopWindow, heap: number): { stage: Omit<Stage, 'flight'>; turn: LoopTurn } {
    const now = this.#stage
    const end = this.#endOf(now)
    ensure(
      end === undefined || heap < end,
      'ERR_SPEADCAST_VALUE',
      () => `swap: the loop ends before that, behind ${counted(end! + now.heapsBefore, 'heap')}; swap earlier`,
    )
    const place = now.window.placeOf(heap)
    const first = now.window.stamps?.at(heap, now.first) ?? 0
    const after = now.batchesBefore + place.batches
    const stage = {
      window,
      first,
      batchesBefore: after + (place.heaps > 0 ? 1 : 0),
      heapsBefore: now.heapsBefore + heap,
      roundsBefore: now.roundsBefore + Math.floor(heap / now.window.heaps),
    }
    if (window.stamps) {
      window.stamps.rebase(first)
      for (const batch of window.batches) batch.template.validate(batch.heaps)
    }
    return { stage, turn: { after, cut: this.#cutAt(now, place), window: this.message(window), end: this.#endTurn(stage) } }
  }

  #cutAt({ window }: Pick<Stage, 'window'>, { batches, heaps }: Place): LoopTurn['cut'] {
    return heaps > 0 ? this.#host.aim(window.batches[batches % window.batches.length]!, heaps) : undefined
  }

  /** Heaps of a stage until the loop ends. */
  #endOf({ window, first, heapsBefore }: Omit<Stage, 'flight'>): number | undefined {
    const { until } = this.#options
    if (until === undefined) return undefined
    if (typeof until === 'number') return window.stamps!.heapAt(window.stamps!.ahead(until, first))
    return 'heaps' in until ? until.heaps - heapsBefore : until.rounds * window.heaps
  }

  #endTurn(stage: Omit<Stage, 'flight'>): LoopTurn | undefined {
    const end = this.#endOf(stage)
    if (end === undefined) return undefined
    const place = stage.window.placeOf(end)
    return { after: stage.batchesBefore + place.batches, cut: this.#cutAt(stage, place) }
  }

  /** @internal The turn that ends it. */
  get lastTurn(): LoopTurn | undefined {
    return this.#endTurn(this.#stage)
  }

  /** @internal A window as the engine knows it. */
  message({ batches, stamps }: LoopWindow): WindowMessage {
    return {
      batches: batches.map((batch) => this.#host.aim(batch, batch.heaps)),
      timestamp: stamps?.name,
      advance: stamps ? stamps.ahead(stamps.advance, 0) : 0,
    }
  }

  /**
   * Ends the loop behind the batches that it has taken up, which takes as long as they take to be sent. `done` has the report. Idempotent.
   * @example loop.stop()
   */
  stop(): void {
    if (this.#state !== 'looping') return
    this.#state = 'ending'
    this.#host.turn(this.#id, { after: 0, atOnce: true })
  }

  /** @internal Its signal aborted. */
  abort(reason: unknown): void {
    this.#reason ??= reason
    this.stop()
  }

  /** @internal */
  news(message: LoopMessage): void {
    if (message.event === 'swapped') this.#swapped()
    else if (message.event === 'refused') this.#refused()
    else if (message.event === 'over') this.#counts = message.counts
  }

  #swapped(): void {
    const swap = this.#swap!
    this.#swap = undefined
    this.#swaps++
    this.#margin = MARGIN
    unlock(this.#stage)
    this.#stage = swap.stage
    swap.resolve()
  }

  /** The loop was further than this thread knew. */
  #refused(): void {
    // Told to stop meanwhile, it has no turn to refuse.
    const swap = this.#swap
    if (!swap || this.#state !== 'looping') return
    const { stage, at, resolve, reject } = swap
    this.#swap = undefined
    if (at === undefined) {
      this.#margin *= 2
      try {
        const next = this.#turnTo(stage.window, this.#soon())
        this.#swap = { stage: { ...next.stage, flight: stage.flight }, at, resolve, reject }
        this.#host.turn(this.#id, next.turn)
        return
      } catch (error) {
        unlock(stage)
        reject(error)
        return
      }
    }
    unlock(stage)
    reject(this.#late(at))
  }

  /** @internal Nothing of it is in flight any more. @param error where the stream ended it */
  over(result: BatchResult | undefined, error: unknown): void {
    const { position } = this
    this.#state = 'over'
    const swap = this.#swap
    this.#swap = undefined
    unlock(this.#stage)
    if (swap) {
      unlock(swap.stage)
      swap.reject(error ?? endedFirst())
    }
    const counts = this.#counts
    if (!result || !counts) this.#fail(error)
    else {
      const report = {
        rounds: position.rounds,
        heaps: counts.heaps - counts.failedHeaps - counts.skippedHeaps,
        packets: counts.packets - counts.failedPackets,
        failedHeaps: counts.failedHeaps,
        skippedHeaps: counts.skippedHeaps,
        failedPackets: counts.failedPackets,
        suspectHeaps: counts.suspectHeaps,
        causes: counts.causes,
        swaps: this.#swaps,
        firstCnt: counts.batches > 0 ? result.firstCnt : Number.NaN,
        evidence: this.#host.evidence,
      }
      if (counts.failed) this.#fail(new LoopError(report))
      else if (this.#reason !== undefined) this.#fail(this.#reason)
      else this.done.fulfil(report)
    }
  }

  #fail(error: unknown): void {
    this.done.fail(error)
    this.#host.note(this.done, error)
  }

  /** @internal */
  [INSPECT](...how: Inspection): string {
    return inspected('Loop', how, () => ({ state: this.#state, ...this.position }))
  }
}

const endedFirst = (): SpeadcastError =>
  new SpeadcastError('ERR_SPEADCAST_ABORTED', 'swap: the loop ended before the new window went; its batches are free')

/** The batches of the window are in flight. */
function lock(stage: Omit<Stage, 'flight'>): Stage {
  const flight = new SendPromise<BatchResult>(() => {})
  for (const batch of stage.window.batches) batch.setInFlight(flight)
  return { ...stage, flight }
}

/** They are free. */
function unlock({ window, flight }: Stage): void {
  window.stamps?.restore()
  for (const batch of window.batches) batch.setInFlight(undefined)
  flight.fulfil({
    heaps: 0,
    skippedHeaps: 0,
    packets: 0,
    payloadBytes: 0,
    firstCnt: Number.NaN,
    evidence: 'written',
    suspect: false,
  })
}
