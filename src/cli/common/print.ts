/**
 * Where all that is printed goes through, so that no text from outside reaches a terminal as it is: `say`, `sayOut`, `printJson`, and the
 * cells of table.ts.
 */
import { jsonText, printable } from '../../errors.js'
import type { StreamEventKind } from '../../index.js'
import type { ReceiverEventKind } from '../../receive/index.js'
import { isInForeground, terminalIsSlow } from './terminal.js'

/** The kind of a message; a listener may show each kind in its own way. */
export type MessageKind = 'message' | 'warning' | StreamEventKind | ReceiverEventKind

/** Gets every message, safe to print, and what programs are told beside it. @returns whether it shows the message itself */
export type Listener = (line: string, kind: MessageKind, facts?: object | undefined) => boolean

let listener: Listener | undefined

/** Sets the listener that hears of every message from now on; undefined: none. */
export function listenToMessages(to: Listener | undefined): void {
  listener = to
}

/** Whether standard error is a terminal that goes back to the start of a line. TERM=dumb, as of Emacs' shell, says that it cannot. */
export function rewritesLines(): boolean {
  return process.stderr.isTTY === true && process.env.TERM !== 'dumb' && process.env.TERM !== ''
}

/** Writes a line on standard error, in place of the progress that stands there. */
export function say(line: string, kind: MessageKind = 'message', facts?: object): void {
  const shown = printable(line)
  if (listener?.(shown, kind, facts)) return
  process.stderr.write(`${rewritesLines() && isInForeground() ? CLEAR : ''}${shown}\n`)
}

/** Tells those who watch the run, and writes nothing. */
export function note(line: string, kind: MessageKind, facts: object): void {
  listener?.(printable(line), kind, facts)
}

/** Writes a line on standard output. */
export function sayOut(line: string): void {
  process.stdout.write(`${printable(line)}\n`)
}

/**
 * Writes the progress in place of what stood there; '' clears it. Writes nothing where nothing can be replaced, where the shell has the screen,
 * or while the terminal takes nothing.
 */
export function sayProgress(line: string): void {
  if (rewritesLines() && isInForeground() && (line === '' || !terminalIsSlow())) process.stderr.write(`${CLEAR}${printable(line)}`)
}

/** Writes the one object of `--json` on standard output. */
export function printJson(value: unknown): void {
  printedJson = true
  process.stdout.write(`${jsonText(value)}\n`)
}

export const hasPrintedJson = (): boolean => printedJson
let printedJson = false

let owed = false
/** A run has begun, whose summary comes at its end. */
export function oweResult(): void {
  owed = true
}
/** Whether a run goes on, so that who read its output so far does not have all of it. */
export const owesResult = (): boolean => owed

/** Prints the object of --json, or the end of --json-stream. @returns whether either was asked for; else the caller prints a table */
export function printSummary({ json, jsonStream }: { json?: true; jsonStream?: true }, summary: object): boolean {
  owed = false
  if (jsonStream) printJson({ kind: 'end', ...summary })
  else if (json) printJson(summary)
  return Boolean(json || jsonStream)
}

const CLEAR = '\r\x1b[K'
