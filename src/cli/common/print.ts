/**
 * Where all that is printed goes through, so that no text from outside reaches a terminal as it is: `say`, `printJson`, and the
 * cells of table.ts.
 */
import { jsonText, printable } from '../../errors.js'

/** Writes a line on standard error, in place of the progress that stands there. */
export function say(line: string): void {
  process.stderr.write(`${process.stderr.isTTY ? CLEAR : ''}${printable(line)}\n`)
}

/** Writes the progress in place of what stood there; '' clears it. */
export function sayProgress(line: string): void {
  process.stderr.write(`${CLEAR}${printable(line)}`)
}

/** Writes the one object of `--json` on standard output. */
export function printJson(value: unknown): void {
  process.stdout.write(`${jsonText(value)}\n`)
}

const CLEAR = '\r\x1b[K'
