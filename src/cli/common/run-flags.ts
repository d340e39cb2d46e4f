/** The options of commands that run for long: for how long, and what to show meanwhile. */
import type { Command } from 'commander'
import { type ListenFlag, listenAddress } from './arguments.js'
import { usageError } from './exit.js'
import { seconds } from './quantity.js'

export interface LengthFlags {
  readonly heaps?: number
  readonly forever?: true
  readonly seconds?: number
}

export interface ReportFlags {
  readonly interval?: number
  readonly live?: true
  readonly jsonStream?: true
  readonly json?: true
  readonly metrics?: ListenFlag
}

export function addLengthOptions(command: Command): Command {
  return command
    .option('--forever', 'send until Ctrl-C; the same as -n 0')
    .option('--seconds <SECONDS>', 'end after that time: heaps that have not begun by then are not sent', seconds(0.001))
}

/** Adds --json and what shows a run while it lasts. */
export function addReportOptions(command: Command): Command {
  return command
    .option(
      '--interval <SECONDS>',
      'a line each SECONDS on standard output, on standard error with --json; default of --json-stream and --live: 1',
      seconds(0.01),
    )
    .option('--live', 'a view of the run on the terminal of standard error, redrawn in place; lines where that is none')
    .option('--json', 'one JSON object on standard output, everything else on standard error')
    .option('--json-stream', 'one JSON object a line on standard output while it runs: start, intervals, events, end')
    .option(
      '--metrics <[HOST]:PORT>',
      'serve /metrics for Prometheus, /healthz and /readyz over HTTP while it runs; port 0: any free one',
      listenAddress,
    )
}

/** @throws ERR_SPEADCAST_CONFIG */
export function checkReportFlags({ json, jsonStream, live }: ReportFlags): void {
  if (json && jsonStream) throw usageError('--json prints one object at the end, --json-stream one a line; drop one of the two')
  if (live && process.stdout.isTTY && process.stderr.isTTY && jsonStream)
    throw usageError('--live draws on this terminal, so --json-stream needs a file or a pipe; drop one of the two, or redirect')
}

/** @throws ERR_SPEADCAST_CONFIG */
export function checkLengthFlags({ heaps = 0, forever }: LengthFlags): void {
  if (forever && heaps > 0) throw usageError(`--forever has no end, and -n ${heaps} is one; drop one of the two`)
}

/** The number of heaps of the pattern: Infinity for no end. */
export function heapsOf({ heaps, forever, seconds }: LengthFlags, otherwise: number): number {
  if (forever || heaps === 0) return Number.POSITIVE_INFINITY
  return heaps ?? (seconds === undefined ? otherwise : Number.POSITIVE_INFINITY)
}
