/**
 * Where all that is printed goes through, so that no text from outside reaches a terminal as it is: `say`, `printJson`, and the
 * cells of table.ts.
 */
import { jsonText, printable } from '../../errors.js'

/** Whether standard error is a terminal that goes back to the start of a line. TERM=dumb, as of Emacs' shell, says that it cannot. */
export function rewritesLines(): boolean {
  return process.stderr.isTTY === true && process.env.TERM !== 'dumb' && process.env.TERM !== ''
}

/** Writes a line on standard error, in place of the progress that stands there. */
export function say(line: string): void {
  process.stderr.write(`${rewritesLines() ? CLEAR : ''}${printable(line)}\n`)
}

/** Writes the progress in place of what stood there; '' clears it. Writes nothing where nothing can be replaced. */
export function sayProgress(line: string): void {
  if (rewritesLines()) process.stderr.write(`${CLEAR}${printable(line)}`)
}

/** Writes the one object of `--json` on standard output. */
export function printJson(value: unknown): void {
  printedJson = true
  process.stdout.write(`${jsonText(value)}\n`)
}

export const hasPrintedJson = (): boolean => printedJson
let printedJson = false

const CLEAR = '\r\x1b[K'
