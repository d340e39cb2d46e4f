/** `--interval`: a line for each interval, under a head. */
import { say, sayOut } from './print.js'
import type { Display, Subject } from './subject.js'

const SPAN_WIDTH = 13

/** Writes to standard output, or to standard error where the output is for one JSON object. */
export function intervalLines(subject: Subject, json: boolean | undefined): Display {
  const write = json ? say : sayOut
  const line = (first: string, cells: readonly string[]): void =>
    write(`${first.padEnd(SPAN_WIDTH)}${cells.map((cell, i) => ` ${cell.padStart(subject.columns[i]!.width)}`).join('')}`)
  line(
    'interval',
    subject.columns.map(({ head }) => head),
  )
  return {
    interval: (interval) =>
      line(
        `${interval.startSeconds.toFixed(2)}-${interval.endSeconds.toFixed(2)} s`,
        subject.columns.map(({ cell }) => cell(interval)),
      ),
  }
}
