/** Exit statuses, the same for every command: 0 success, 1 failure at run time, 2 bad usage, 130 interrupted twice. */
import { type ErrorCode, SpeadcastError } from '../../errors.js'
import { hasPrintedJson, printJson, say } from './print.js'
import { inFlags } from './wording.js'

export const EXIT_FAILED = 1
const EXIT_USAGE = 2
export const EXIT_INTERRUPTED = 130

const USAGE_CODES: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'ERR_SPEADCAST_CONFIG',
  'ERR_SPEADCAST_ENDPOINT',
  'ERR_SPEADCAST_HEAP_CNT',
  'ERR_SPEADCAST_INTERFACE',
  'ERR_SPEADCAST_ITEM',
  'ERR_SPEADCAST_PACKET_SIZE',
  'ERR_SPEADCAST_RESOLVE',
  'ERR_SPEADCAST_SPLIT',
  'ERR_SPEADCAST_VALUE',
])

/**
 * The request makes sense, but the host has no room or no rights for it now: a port that another program has, ports below
 * 1024, a name server that does not answer. By the failed call's errno, or what node:dns has in its place.
 */
const REFUSED_BY_HOST: ReadonlySet<unknown> = new Set([
  'EADDRINUSE',
  'EACCES',
  'EPERM',
  'EAI_AGAIN',
  'EMFILE',
  'ENFILE',
  'ENOMEM',
  'ENOBUFS',
])

function isUsage({ code, cause }: SpeadcastError): boolean {
  const { errnoName, code: errno } = (cause ?? {}) as { errnoName?: unknown; code?: unknown }
  return USAGE_CODES.has(code) && !REFUSED_BY_HOST.has(errnoName ?? errno)
}

/** Makes the error for options that contradict each other or make no sense together. */
export const usageError = (message: string): SpeadcastError => new SpeadcastError('ERR_SPEADCAST_CONFIG', message)

/** The lines of a stack behind the message, which may have lines too. */
const stackOf = ({ stack = '' }: Error): string[] => stack.split('\n').filter((line) => /^ {4}at /.test(line))

/** The field `error` of the object that `--json` prints after an error. */
export interface ErrorReport {
  /** A code that `speadcast explain` explains. An error that was not thrown on purpose has its own code here, or else its name. */
  readonly code: string
  readonly message: string
  /** The command that says more. */
  readonly help: string
  readonly command: string
  readonly exitStatus: number
  /** The system call that failed, and its errno, where one did. */
  readonly call?: string
  readonly errno?: string
}

/** Returns the object that `--json` prints for an error. @param exitStatus unless given, it follows from the error */
export function errorReport(command: string, error: unknown, exitStatus = statusOf(error)): ErrorReport {
  const { code, name = 'Error', message = String(error), cause } = (error ?? {}) as Partial<SpeadcastError>
  const { call, errnoName } = (cause ?? {}) as { call?: unknown; errnoName?: unknown }
  return {
    code: code ?? name,
    message: error instanceof SpeadcastError ? inFlags(message) : message,
    help: error instanceof SpeadcastError ? `speadcast explain ${error.code}` : `speadcast ${command} --help`.replace('  ', ' '),
    command,
    exitStatus,
    ...(typeof call === 'string' && { call }),
    ...(typeof errnoName === 'string' && { errno: errnoName }),
  }
}

const statusOf = (error: unknown): number => (error instanceof SpeadcastError && isUsage(error) ? EXIT_USAGE : EXIT_FAILED)

/** Returns whether an option was given. It looks at the arguments themselves, because they may be too wrong to parse. */
function isGiven(option: string): boolean {
  const args = process.argv.slice(2)
  const end = args.indexOf('--')
  return args.slice(0, end < 0 ? args.length : end).includes(option)
}

/**
 * Writes a line on standard error, with a stack only for errors that were not thrown on purpose, and sets the exit status. With --json standard
 * output gets the error too, unless it has an object already.
 */
export function complain(command: string, error: unknown): void {
  const known = error instanceof SpeadcastError
  say(`speadcast ${command}: ${known ? `${inFlags(error.message)} (speadcast explain ${error.code})` : error}`)
  if (error instanceof Error && !known) for (const line of stackOf(error)) say(line)
  process.exitCode = statusOf(error)
  printErrorOnce(errorReport(command, error))
}

/** Bad usage that commander found. @param message without its advice */
export function complainOfUsage(command: string, message: string): void {
  process.exitCode = EXIT_USAGE
  const help = `speadcast ${command} --help`.replace('  ', ' ')
  printErrorOnce({ code: 'ERR_SPEADCAST_CONFIG', message, help, command, exitStatus: EXIT_USAGE })
}

function printErrorOnce(error: ErrorReport): void {
  if (hasPrintedJson()) return
  if (isGiven('--json-stream')) printJson({ kind: 'error', error })
  else if (isGiven('--json')) printJson({ error })
}
