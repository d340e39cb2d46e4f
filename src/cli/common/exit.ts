/** Exit statuses, the same for every command: 0 success, 1 failure at run time, 2 bad usage, 130 interrupted twice. */
import { type ErrorCode, SpeadcastError } from '../../errors.js'
import { say } from './print.js'

export const EXIT_FAILED = 1
export const EXIT_USAGE = 2
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

/** Writes a line on standard error, with a stack only for errors that were not thrown on purpose, and sets the exit status. */
export function complain(command: string, error: unknown): void {
  const known = error instanceof SpeadcastError
  say(`speadcast ${command}: ${known ? `${error.message} (speadcast explain ${error.code})` : error}`)
  if (error instanceof Error && !known) for (const line of stackOf(error)) say(line)
  process.exitCode = known && isUsage(error) ? EXIT_USAGE : EXIT_FAILED
}
