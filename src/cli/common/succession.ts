import type { Interval, Totals } from './interval.js'
import { type Sending, sending, sendingTotals } from './sending.js'
import type { Subject } from './subject.js'
import { SubstreamTally } from './substream-tally.js'
import type { Watch } from './watch.js'

/** Several streams that send one after the other, shown as one run. Their tally is one too. */
export class Succession implements Subject {
  #run: Sending
  #subject: Subject
  /** The counters at the end of the stream before this one. */
  #before: Totals = {}

  private constructor(first: Sending) {
    this.#run = first
    this.#subject = sending(first)
  }

  /** Shows the first stream. */
  static async begin(watch: Watch, first: Sending): Promise<Succession> {
    const succession = new Succession(first)
    succession.#tallySubstreams()
    await watch.start(succession)
    return succession
  }

  /** From now on shows this stream; all sends of the one before have settled. */
  next(run: Sending): void {
    this.#before = this.totals()
    this.#run = run
    this.#subject = sending(run)
    this.#tallySubstreams()
  }

  get columns(): Subject['columns'] {
    return this.#subject.columns
  }

  get start(): Subject['start'] {
    return this.#subject.start
  }

  totals(): Totals {
    return sendingTotals(this.#run.stream, this.#run.tally, this.#before)
  }

  json(interval: Interval): Readonly<Record<string, unknown>> {
    return this.#subject.json(interval)
  }

  live(recent: Interval): ReturnType<Subject['live']> {
    return this.#subject.live(recent)
  }

  #tallySubstreams(): void {
    const { stream, tally } = this.#run
    tally.substreams = new SubstreamTally(stream.endpoints.length)
  }
}
