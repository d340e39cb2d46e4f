/** Errors of all of src/. The table of codes is in ffi/errors.ts, because regions, which users make, are at home there. */
import { type ErrorCode, SpeadcastError } from '../ffi/errors.js'
import { NativeError } from '../ffi/native-error.js'
import { printable } from '../ffi/printable.js'

export { ERROR_CODES, type ErrorCode, SpeadcastError } from '../ffi/errors.js'
export { INSPECT, type Inspection, inspected, words } from '../ffi/inspect.js'
export { counted, jsonText, printable } from '../ffi/printable.js'

/** Warns the process, as Node does; a line that is safe to print. */
export function warn(code: `SPEADCAST_${string}`, message: string): void {
  process.emitWarning(printable(message), { code })
}

/** A backend cannot work on this machine. `why` is the part of the message that says why, and what can. */
export class BackendRefused extends SpeadcastError {
  constructor(
    readonly backend: string,
    readonly why: string,
    options?: { cause?: unknown },
  ) {
    super('ERR_SPEADCAST_BACKEND', `backend '${backend}' cannot work here: ${why}`, options)
  }
}

/** A thread cannot be started here. `why` is the part of the message that says why, and what helps. */
export class ThreadRefused extends SpeadcastError {
  readonly why: string
  /** @param instead what the caller may do without a thread */
  constructor(thread: string, cause: unknown, instead: string) {
    const { code, message } = cause as { code?: unknown; message: string }
    const remedy =
      code === 'ERR_ACCESS_DENIED'
        ? '; start node with --allow-worker'
        : '; raise the limit of threads (ulimit -u, LimitNPROC= and TasksMax= of a systemd unit, --pids-limit of docker)'
    const known = cause instanceof NativeError
    const why = `${thread} cannot be started (${code === 'ERR_WORKER_INIT_FAILED' ? `${code}: ` : ''}${message})${known ? '' : remedy}`
    super('ERR_SPEADCAST_WORKER', `${why}, or ${instead}`, { cause })
    this.why = why
  }
}

/** Says what helps where no descriptor is left; else nothing. */
export function descriptorRemedy({ errnoName }: NativeError): string {
  if (errnoName !== 'EMFILE' && errnoName !== 'ENFILE') return ''
  return ': no descriptor is left; raise the limit (ulimit -n, LimitNOFILE= of a systemd unit), or close what is open'
}

/** Errnos of a question that the kernel did not answer: for want of a descriptor, of memory, or of a moment without changes. */
const LACKS: readonly string[] = ['EMFILE', 'ENFILE', 'EAGAIN', 'ENOBUFS', 'ENOMEM', 'EINTR']

/**
 * The failed call below an error that says nothing but that the kernel did not answer a question; undefined for other errors. An
 * empty datagram that is sent to wake a neighbour is no question.
 */
export function lackOf(error: unknown): NativeError | undefined {
  const cause = error instanceof SpeadcastError ? error.cause : error
  return cause instanceof NativeError && cause.call !== 'sendto' && LACKS.includes(cause.errnoName) ? cause : undefined
}

/**
 * A failed system call or allocation as an error of ours, with what helps where that is known; anything else as it is. For the edges of the
 * package, where nobody below knew better.
 */
export function withCode(call: string, error: unknown): unknown {
  if (error instanceof NativeError) {
    const { errnoName, message } = error
    const code = errnoName === 'ENOMEM' ? 'ERR_SPEADCAST_MEMORY' : 'ERR_SPEADCAST_NATIVE'
    return new SpeadcastError(code, `${call}: ${message}${descriptorRemedy(error)}`, { cause: error })
  }
  // V8 has no other sign of it than the message.
  if (error instanceof RangeError && /allocation failed/i.test(error.message))
    return new SpeadcastError('ERR_SPEADCAST_MEMORY', `${call}: ${error.message}`, { cause: error })
  return error
}

/** Throws a SpeadcastError unless `cond` holds; calls `message` only then. For cold paths. */
export function ensure(cond: unknown, code: ErrorCode, message: () => string): asserts cond {
  if (!cond) throw new SpeadcastError(code, message())
}
