/**
 * NODE_DEBUG=speadcast: lines on standard error that tell what was chosen and what happened, never one per packet. docs/diagnosing.md has
 * a transcript.
 */
import { writeSync } from 'node:fs'
import { debuglog } from 'node:util'
import { printable } from './errors.js'

const log = debuglog('speadcast')
let write = (line: string): void => log('%s', line)

/** Calls `line` only if somebody wants to read it. For what happens once a batch at most. */
export function debug(line: () => string): void {
  if (log.enabled) write(printable(line()))
}

/**
 * For a thread that seldom returns to its event loop, by which Node would carry what it says to the main thread. Each line is one write(2), so
 * lines of several threads do not mix.
 */
export function debugFrom(thread: string): void {
  write = (line) => {
    try {
      writeSync(2, `SPEADCAST ${process.pid}: ${printable(thread)}: ${line}\n`)
    } catch {
      // Nobody reads it any more, or a pipe that must not block is full.
    }
  }
}

/** A few of many things, in one line. */
export function firstOf(texts: readonly string[], most = 4): string {
  const more = texts.length - most
  return more > 0 ? `${texts.slice(0, most).join(', ')} and ${more} more` : texts.join(', ')
}

type Words = Readonly<Record<string, unknown>>

/** The words that have changed, as 'carrier true → false; interface eth0 → eth1'. */
export function changesOf(before: Words, after: Words): string {
  const changed = changedNames<Words>(before, after).map((name) => {
    const [was, is] = [before[name], after[name]]
    return was === undefined ? `${name} ${is}` : `${name} ${was} → ${is}`
  })
  return changed.join('; ')
}

export function changedNames<W extends Words>(before: W, after: W): (keyof W & string)[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => before[name] !== after[name])
}
