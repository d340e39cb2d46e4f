/** The heaps of one sender that wait for those before them, and how its heap cnts run. */
import { divisorOf } from './sequence.js'

export interface Held {
  readonly sequence: OutputSequence
  readonly run: number
  readonly cnt: number
  readonly at: number
  /** −1: the heap takes its place in the order but has nothing to write. */
  readonly length: number
  /** The slot of its bytes, or −1. */
  readonly slot: number
  readonly since: number
  older: Held | undefined
  newer: Held | undefined
}

/** This number of gaps must agree before heaps are expected in steps of more than one. */
const EVIDENCE = 8

export class OutputSequence {
  /** Those that wait, in order of run and cnt. */
  readonly held: Held[] = []
  /** The number of the run that is being written. A run ends at each stop or start, and its cnts may come again in the next. */
  run = 0
  /** False while nobody knows which cnt is the first. */
  started = false
  /** The cnt written last. */
  last = 0
  /** The run of the heaps that come to each endpoint, because a sender stops at each and endpoints are read in turn. */
  readonly #runs: number[] = []
  #step = 0
  #gaps = 0

  constructor(readonly sender: number) {}

  runAt(endpoint: number): number {
    return this.#runs[endpoint] ?? this.run
  }

  endRunAt(endpoint: number): void {
    // Without holes, because an array with holes is a slow one.
    while (this.#runs.length <= endpoint) this.#runs.push(this.run)
    this.#runs[endpoint]!++
  }

  /** Whether the heap's turn has gone. */
  isLate(run: number, cnt: number): boolean {
    return this.started && (run < this.run || (run === this.run && cnt <= this.last))
  }

  /** Whether nothing is expected between what was written last and this heap, which is not late. */
  isNext(run: number, cnt: number): boolean {
    return this.started && run === this.run && cnt <= this.last + (this.#gaps >= EVIDENCE ? this.#step : 1)
  }

  /** Notes that the heap is written, which is not late. */
  wrote(run: number, cnt: number): void {
    if (this.started && run === this.run) this.#noteGap(cnt - this.last)
    this.started = true
    this.run = run
    this.last = cnt
  }

  /** Learns the step from those that wait. */
  learn(): void {
    for (let i = 1; i < this.held.length; i++) {
      const before = this.held[i - 1]!
      const { run, cnt } = this.held[i]!
      if (run === before.run) this.#noteGap(cnt - before.cnt)
    }
  }

  /** Begins the next run, at all endpoints. Nothing may wait. */
  restart(): void {
    this.run = Math.max(this.run, ...this.#runs) + 1
    this.#runs.length = 0
    this.started = false
  }

  /** Returns where a heap belongs among those that wait: behind all that are not above it. */
  indexFor(run: number, cnt: number): number {
    return this.held.findLastIndex((held) => !isAbove(held, run, cnt)) + 1
  }

  #noteGap(gap: number): void {
    this.#gaps++
    if (gap !== this.#step && (this.#step === 0 || gap % this.#step !== 0)) this.#step = divisorOf(gap, this.#step)
  }
}

export function isAbove(held: Held, run: number, cnt: number): boolean {
  return held.run > run || (held.run === run && held.cnt > cnt)
}
