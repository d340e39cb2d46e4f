/** `--live`: a view of a run, redrawn in place four times a second. */
import { type Interval, intervalOf, type Totals } from './interval.js'
import { type LiveEvent, layOut } from './live-layout.js'
import { Screen } from './live-screen.js'
import { type MessageKind, say } from './print.js'
import type { Display, Subject } from './subject.js'
import { many } from './table.js'

export { missing } from './live-screen.js'

const REDRAW_MS = 250
/** The rate that the view tells is that of this many redraws. */
const RECENT = 4
const MOST_RATES = 512
/** Messages that are kept to be said again when the view ends; an endless run may have any number. */
const MOST_MESSAGES = 200
/** Kinds of messages that come again and again while it lasts. */
const COUNTING: readonly MessageKind[] = ['queue', 'refusal', 'late']

export function openLive(subject: Subject, columnSeconds: number): Display {
  const view = new LiveView(subject, columnSeconds)
  return {
    message: (line, kind) => view.note(line, kind),
    interval: (interval) => view.column(interval),
    end: () => view.end(),
  }
}

class LiveView {
  readonly #startedAt = performance.now()
  readonly #rates: number[] = []
  readonly #events: LiveEvent[] = []
  #lastKind: MessageKind | undefined
  /** Messages said so far, of which the last are in #events. */
  #messages = 0
  readonly #samples: { readonly at: number; readonly totals: Totals }[] = []
  readonly #screen = new Screen(() => this.#draw())
  readonly #timer = setInterval(() => this.#sample(), REDRAW_MS).unref()

  constructor(
    readonly subject: Subject,
    readonly columnSeconds: number,
  ) {
    this.#sample()
  }

  note(line: string, kind: MessageKind): boolean {
    // One that counts on takes the place of the one before.
    if (kind === this.#lastKind && COUNTING.includes(kind)) {
      this.#events.pop()
      this.#messages--
    }
    this.#lastKind = kind
    this.#messages++
    // Events of the stream begin with their time, and the row has it already.
    const bare = line.replace(/^(speadcast \w+: )\d{4}-\d\d-\d\dT[\d:.]+Z /, '$1')
    this.#events.push({ time: new Date().toTimeString().slice(0, 8), line: bare })
    if (this.#events.length > MOST_MESSAGES) this.#events.shift()
    return true
  }

  column(interval: Interval): void {
    const { startSeconds, endSeconds, rose } = interval
    this.#rates.push(endSeconds > startSeconds ? rose.payloadBytes! / (endSeconds - startSeconds) : 0)
    if (this.#rates.length > MOST_RATES) this.#rates.shift()
  }

  /** Leaves the view, and says the messages that came meanwhile. */
  end(): void {
    clearInterval(this.#timer)
    this.#screen.close()
    const forgotten = this.#messages - this.#events.length
    if (forgotten > 0) say(`${many(forgotten, 'message')} before these ${forgotten === 1 ? 'is' : 'are'} no longer kept`)
    for (const { time, line } of this.#events) say(`${time}  ${line}`)
  }

  #sample(): void {
    this.#samples.push({ at: performance.now(), totals: this.subject.totals() })
    if (this.#samples.length > RECENT + 1) this.#samples.shift()
    this.#draw()
  }

  #draw(): void {
    const first = this.#samples[0]!
    const last = this.#samples.at(-1)!
    const recent = intervalOf(first.totals, last.totals, first.at - this.#startedAt, last.at - this.#startedAt)
    const { columns, rows } = this.#screen
    const content = this.subject.live(recent)
    const seconds = (last.at - this.#startedAt) / 1000
    const state = { content, seconds, rates: this.#rates, columnSeconds: this.columnSeconds, events: this.#events }
    this.#screen.draw(layOut(state, columns, rows))
  }
}
