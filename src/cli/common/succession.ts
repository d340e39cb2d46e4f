import type { Interval, Totals } from './interval.js'
import { type Sending, sending, sendingTotals } from './sending.js'
import type { Subject } from './subject.js'
import { SubstreamTally } from './substream-tally.js'
import type { Watch } from './watch.js'

/** Several streams that send one after the other, shown as one run. Their tally is one too. */
export class Succession implements Subject {
  #run: Sending | undefined
  #subject: Subject | undefined
  /** The counters at the end of the stream before this one. */
  #before: Totals = {}

  constructor(readonly watch: Watch) {}

  /** From now on shows this stream; all sends of the one before have settled. */
  async next(run: Sending): Promise<void> {
    const first = !this.#run
    if (!first) this.#before = this.totals()
    this.#run = run
    this.#subject = sending(run)
    run.tally.substreams = new SubstreamTally(run.stream.endpoints.length)
    if (first) await this.watch.start(this)
  }

  /** Shows the last interval, if there was a stream, and ends. */
  end(): void {
    if (this.#run) this.watch.end(this.totals())
    this.watch.close()
  }

  get columns(): Subject['columns'] {
    return this.#subject!.columns
  }

  get start(): Subject['start'] {
    return this.#subject!.start
  }

  totals(): Totals {
    return sendingTotals(this.#run!.stream, this.#run!.tally, this.#before)
  }

  json(interval: Interval): Readonly<Record<string, unknown>> {
    return this.#subject!.json(interval)
  }

  live(recent: Interval): ReturnType<Subject['live']> {
    return this.#subject!.live(recent)
  }
}
