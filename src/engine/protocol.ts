/** What the two threads tell each other besides the ring: control messages one way, reports the other. Plain data only. */
import type { MessagePort } from 'node:worker_threads'
import type { BackendCaps } from '../backend/backend.js'
import type { BackendSpec } from '../backend/open.js'
import type { CompiledBatch } from '../batch/compile.js'
import { type ErrorCode, SpeadcastError } from '../errors.js'
import type { EngineMessage, EngineOptions } from './engine.js'

export type ControlMessage =
  | { readonly type: 'variant'; readonly id: number; readonly compiled: CompiledBatch; readonly rates?: Float64Array }
  | { readonly type: 'drop'; readonly id: number }

/** What an I/O thread is, from its start on. */
export interface ThreadSetup {
  readonly name: string
  /** CPUs it may run on; empty = as inherited. */
  readonly affinity: readonly number[]
  /** Its nice value (setpriority(2)); undefined = as inherited. */
  readonly priority: number | undefined
}

/** What an I/O thread is given when it starts. */
export interface ThreadInput {
  /** For ThreadMessages. */
  readonly port: MessagePort
  /** T_… of ring.ts. */
  readonly words: Int32Array
  /** See Contention. */
  readonly contention: Int32Array
  readonly setup: ThreadSetup
}

/** A stream to be opened in an I/O thread. */
export interface OpenStream {
  readonly type: 'open'
  /** For the stream's control messages and reports. */
  readonly port: MessagePort
  /** Of its ring. */
  readonly memory: SharedArrayBuffer
  /** The thread's own, the same for all its streams. */
  readonly eventFd: number
  /** Wakes the stream's own thread from its event loop: an eventfd, or with a rate a timerfd. undefined = notify C_SETTLED. */
  readonly wakeFd: number | undefined
  readonly backend: BackendSpec
  readonly options: EngineOptions
}

export type ThreadMessage = OpenStream | { readonly type: 'end' }

export interface PlainError {
  readonly code: ErrorCode
  readonly message: string
  readonly cause?: {
    readonly name: string
    readonly message: string
    readonly call?: string
    readonly errno?: number
    readonly errnoName?: string
  }
}

export type Report =
  | {
      readonly type: 'ready'
      readonly caps: BackendCaps
      readonly states: Record<string, string | number | boolean>
      readonly fds: readonly number[]
    }
  | { readonly type: 'failed'; readonly error: PlainError }
  /** The last one: the backend is closed, or was never opened. */
  | { readonly type: 'closed' }
  | EngineMessage

type ErrorWithErrno = Error & { readonly call?: string; readonly errno?: number; readonly errnoName?: string }

/** Errors lose their class in a structured clone; these two carry what matters across. */
export function toPlainError(error: unknown): PlainError {
  const known = error instanceof SpeadcastError
  const cause = (known ? error.cause : error) as ErrorWithErrno | undefined
  return {
    code: known ? error.code : 'ERR_SPEADCAST_WORKER',
    message: (error as Error).message,
    ...(cause && {
      cause: {
        name: cause.name,
        message: cause.message,
        ...(cause.call !== undefined && { call: cause.call }),
        ...(cause.errno !== undefined && { errno: cause.errno }),
        ...(cause.errnoName !== undefined && { errnoName: cause.errnoName }),
      },
    }),
  }
}

export function fromPlainError(plain: PlainError): SpeadcastError {
  const cause = plain.cause && Object.assign(new Error(plain.cause.message), plain.cause)
  return new SpeadcastError(plain.code, plain.message, cause && { cause })
}
