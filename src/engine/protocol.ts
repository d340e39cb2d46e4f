/** The messages of the two threads, besides the ring: control messages one way, reports the other. Plain data only. */
import type { MessagePort } from 'node:worker_threads'
import type { ThreadPriority } from '../../ffi/placement.js'
import type { BackendCaps } from '../backend/backend.js'
import type { BackendSpec } from '../backend/open.js'
import type { StateWords } from '../backend/states.js'
import type { CompiledBatch } from '../batch/compile.js'
import type { TableRegion } from '../batch/table.js'
import { BackendRefused, type ErrorCode, SpeadcastError } from '../errors.js'
import type { EngineMessage, EngineOptions } from './contract.js'
import type { LoopControl } from './loop.js'

export type ControlMessage =
  | { readonly type: 'variant'; readonly id: number; readonly compiled: CompiledBatch; readonly rates?: Float64Array }
  | { readonly type: 'drop'; readonly id: number }
  | { readonly type: 'keep' | 'forget'; readonly region: TableRegion }
  | {
      readonly type: 'interlude'
      readonly id: number
      readonly heaps: number
      readonly rows: number
      readonly explicitCnts: boolean
    }
  /** The interlude, if it has not begun. */
  | { readonly type: 'recall' }
  /** The substream's next receiver is meant from here on, while a loop lets no submission through. */
  | { readonly type: 'resume'; readonly substream: number }
  | LoopControl

/** An I/O thread's properties, from its start on. */
export interface ThreadSetup {
  readonly name: string
  /** CPUs it may run on; empty = as inherited. */
  readonly affinity: readonly number[]
  /** Its priority; undefined = as inherited. */
  readonly priority: ThreadPriority | undefined
}

/** A word that an I/O thread shares with the thread that started it: messages ever sent to it. */
export const T_ANNOUNCED = 0
/** Another: a number that moves while the I/O thread runs. */
export const T_BEAT = 1
export const THREAD_WORDS = 2

/** The data that an I/O thread starts with. */
export interface ThreadInput {
  /** For ThreadMessages. */
  readonly port: MessagePort
  /** T_… */
  readonly words: Int32Array
  /** See expectLoad. */
  readonly load: Int32Array
  /** See Contention. */
  readonly contention: Int32Array
  readonly setup: ThreadSetup
  /** See cpusForThreads of ffi/placement.ts. */
  readonly inherited: readonly number[]
}

/** A stream to be opened in an I/O thread. */
export interface OpenStream {
  readonly type: 'open'
  /** For the stream's control messages and reports. */
  readonly port: MessagePort
  /** Its ring's. */
  readonly memory: SharedArrayBuffer
  /** The thread's own, the same for all its streams. */
  readonly eventFd: number
  /** Wakes the stream's own thread from its event loop: an eventfd, or with a rate a timerfd. undefined = by the ring's notification. */
  readonly wakeFd: number | undefined
  readonly backend: BackendSpec
  readonly options: EngineOptions
  /** See DriverInput. */
  readonly numaNode: number
}

export type ThreadMessage = OpenStream | { readonly type: 'end' }

export interface PlainError {
  readonly code: ErrorCode
  readonly message: string
  /** Where it is a BackendRefused. */
  readonly refusal?: { readonly backend: string; readonly why: string }
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
      readonly states: StateWords
      readonly fds: readonly number[]
    }
  | { readonly type: 'failed'; readonly error: PlainError }
  /** The last one: the backend is closed, or was never opened. */
  | { readonly type: 'closed' }
  | EngineMessage

type ErrorWithErrno = Error & { readonly call?: string; readonly errno?: number; readonly errnoName?: string }

/** Errors lose their class in a structured clone; these two functions carry the fields across. */
export function toPlainError(error: unknown): PlainError {
  const known = error instanceof SpeadcastError
  const cause = (known ? error.cause : error) as ErrorWithErrno | undefined
  return {
    code: known ? error.code : 'ERR_SPEADCAST_WORKER',
    message: (error as Error).message,
    ...(error instanceof BackendRefused && { refusal: { backend: error.backend, why: error.why } }),
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
  const options = cause && { cause }
  return plain.refusal
    ? new BackendRefused(plain.refusal.backend, plain.refusal.why, options)
    : new SpeadcastError(plain.code, plain.message, options)
}
