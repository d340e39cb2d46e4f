/** Types of a run that is shown, and of the view that shows it. */
import type { Interval, Totals } from './interval.js'
import type { LiveContent } from './live-layout.js'
import type { Listener } from './print.js'
import type { ProgressState } from './progress.js'

export interface LineColumn {
  readonly head: string
  /** A longer cell pushes the ones behind it to the right. */
  readonly width: number
  cell(interval: Interval): string
}

/** A run that can be shown. */
export interface Subject {
  /** The columns of the line for an interval. */
  readonly columns: readonly LineColumn[]
  /** The choices of the command, for the start of a JSON stream. */
  readonly start: Readonly<Record<string, unknown>>
  totals(): Totals
  /** An interval for a JSON stream. */
  json(interval: Interval): Readonly<Record<string, unknown>>
  /** The run as the live view shows it; `recent` is what happened lately. */
  live(recent: Interval): LiveContent
  /** For the progress line: what goes before the numbers, and the numbers. */
  readonly progress?: readonly [what: string, state: () => ProgressState]
}

/** One way to show a run. */
export interface Display {
  /** Gets the messages meanwhile. */
  readonly message?: Listener
  interval?(interval: Interval): void
  end?(): void
}
