/** `--json-stream`: one object a line, in the order start, intervals and events, end. */
import type { Interval } from './interval.js'
import { printJson } from './print.js'
import type { Display, Subject } from './subject.js'

export function jsonStream(command: string, intervalSeconds: number, subject: Subject): Display {
  const startedAt = performance.now()
  printJson({ kind: 'start', command, date: new Date().toISOString(), intervalSeconds, ...subject.start })
  return {
    interval: (interval: Interval) =>
      printJson({
        kind: 'interval',
        startSeconds: interval.startSeconds,
        endSeconds: interval.endSeconds,
        ...subject.json(interval),
      }),
    message(line, type, facts) {
      const atSeconds = Math.round((performance.now() - startedAt) * 1000) / 1e6
      printJson({ kind: 'event', type, atSeconds, message: line.replace(/^speadcast(?: \w+)?: (?:warning: )?/, ''), ...facts })
      return false
    },
  }
}
