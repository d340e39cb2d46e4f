/** How the stream (main thread) sees whoever steps the engine. Two implementations: driver-worker.ts and driver-inline.ts. */
import type { BackendCaps } from '../backend/backend.js'
import type { BackendSpec } from '../backend/open.js'
import type { CompiledBatch } from '../batch/compile.js'
import type { SpeadcastError } from '../errors.js'
import type { EngineMessage, EngineOptions } from './engine.js'
import type { Ring } from './ring.js'
import type { Waiter } from './waiter.js'

export interface DriverInput {
  readonly ring: Ring
  readonly backend: BackendSpec
  readonly options: EngineOptions
  /** Settlements or messages may have arrived. May be called more often than needed, never re-entrantly from submitted(). */
  readonly onSettled: () => void
  /** Whether anybody waits for a settlement. */
  readonly watched: () => boolean
  readonly onMessage: (message: EngineMessage) => void
  /** The sending side is gone; nothing submitted will settle any more. */
  readonly onDead: (error: SpeadcastError) => void
}

export interface Driver {
  readonly caps: BackendCaps
  /** Where it sends while the caller computes, and as fast as it can: how a caller waits a moment for a batch. */
  readonly waiter: Waiter | undefined
  addVariant(id: number, compiled: CompiledBatch, rates?: Float64Array): void
  dropVariant(id: number): void
  /** A slot was filled and C_SUBMITTED raised. */
  submitted(): void
  /** Delivers messages that were posted before the settlements now visible. */
  drainMessages(): void
  /** Keeps the process alive while work is in flight, and lets it end otherwise. Settlements are then noticed within milliseconds. */
  hold(inFlight: boolean): void
  /** Somebody waits for a settlement: notice it at once, until `input.watched()` says that nobody does any more. */
  watch(): void
  /** After C_STOP was set: resolves when the backend and all descriptors are closed. */
  stopped(): Promise<void>
}
