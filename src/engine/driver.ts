/** The driver steps an engine; this is the stream's view of it (main thread). Two implementations: driver-worker.ts and driver-inline.ts. */
import type { BackendCaps } from '../backend/backend.js'
import type { BackendSpec } from '../backend/open.js'
import type { StateWords } from '../backend/states.js'
import type { CompiledBatch } from '../batch/compile.js'
import type { TableRegion } from '../batch/table.js'
import type { SpeadcastError } from '../errors.js'
import type { EngineOptions } from './contract.js'
import type { LoopControl, LoopMessage } from './loop.js'
import type { OutcomeMessage } from './outcome.js'
import type { Lease } from './pool.js'
import type { Ring } from './ring.js'
import type { ClockMessage } from './schedule.js'
import type { Waiter } from './waiter.js'

export interface DriverInput {
  readonly ring: Ring
  readonly backend: BackendSpec
  readonly options: EngineOptions
  /** The NUMA node for what the backend maps, and the kernel on its behalf; undefined or ANY_NODE: none in particular. */
  readonly numaNode?: number
  /** If it is to outlive its I/O thread. */
  readonly restart?: RestartInput
}

/** How often a stream takes another I/O thread: so many within this time, and no more. */
export interface RestartBound {
  readonly most: number
  readonly withinMs: number
}

export interface RestartInput extends RestartBound {
  /** A place in a thread that lives. @throws where there can be none */
  lease(): Lease
  /** Substreams whose receivers know nothing of what they were sent before, because the connection was another. */
  readonly receiversAnew: readonly number[]
}

/** The driver's view of the thread that submits. */
export interface DriverClient {
  /** Settlements may have arrived. May be called more often than needed, never re-entrantly from submitted(). */
  harvest(): void
  /** Whether anybody waits for a settlement. */
  readonly watched: boolean
  /** Comes before the settlement that it explains. */
  outcome(message: OutcomeMessage): void
  /** An interlude was sent, or not all of it. */
  interludeOver(outcome: OutcomeMessage | undefined): void
  loopNews(message: LoopMessage): void
  /** Heaps to these substreams fail until the client has submitted a resumption of each (Backend.takeLost). */
  lost(substreams: readonly number[]): void
  /** The outcome of this submission was told, and it has not settled. */
  knows(submission: number): boolean
  /** The I/O thread is gone. What it had taken up has settled, and another takes its place. */
  threadDied(error: SpeadcastError, receiversAnew: readonly number[]): void
  /** It sends. */
  threadRestarted(): void
  /** The sending side is gone; nothing submitted will settle any more. */
  die(error: SpeadcastError): void
}

/** Stands in for the client until there is one. */
export const NO_CLIENT: DriverClient = {
  harvest: () => {},
  watched: false,
  outcome: () => {},
  interludeOver: () => {},
  loopNews: () => {},
  lost: () => {},
  knows: () => false,
  threadDied: () => {},
  threadRestarted: () => {},
  die: () => {},
}

export interface Driver {
  readonly caps: BackendCaps
  /** The backend's states, as it last told them. */
  readonly states: StateWords
  /** Called when they are others. */
  onStates: () => void
  /** Called when the observation clock leaves heaps out, or was set. */
  onClock: (message: ClockMessage) => void
  /** How a caller waits a moment for a batch; undefined where nothing is sent while the caller computes, or at a rate. */
  readonly waiter: Waiter | undefined
  /** Before anything is submitted: who is to be told. At once told of its death, if the driver has died since it was opened. */
  start(client: DriverClient): void
  addVariant(id: number, compiled: CompiledBatch, rates?: Float64Array): void
  dropVariant(id: number): void
  /** The region is named by batches, now and again, until `forgetRegion`. */
  keepRegion(region: TableRegion): void
  forgetRegion(region: TableRegion): void
  /** Sends the first heaps of a variant between the heaps of the sends under way, one such list at a time. */
  interlude(id: number, heaps: number, rows: number, explicitCnts: boolean): void
  /** Unless the list has begun, it fails as 'flushed' before anything that is pushed into the ring after this call is claimed. */
  recallInterlude(): void
  /** Before the loop is pushed into the ring, and to change its course. */
  loop(message: LoopControl): void
  /** The substream's next receiver is meant from here on, though a loop lets no submission through. */
  resume(substream: number): void
  /** Something was pushed into the ring. */
  submitted(): void
  /** Delivers messages that were posted before the settlements now visible. */
  drainMessages(): void
  /**
   * Keeps the process alive while work is in flight, and lets it end otherwise. Settlements are then noticed within milliseconds, or when
   * somebody is told of them if it is `patient`.
   */
  hold(inFlight: boolean, patient?: boolean): void
  /** Somebody waits for a settlement: notice it at once, until the client's `watched` says that nobody does any more. */
  watch(): void
  /** After Ring.stop(): resolves when the backend and all descriptors are closed. */
  stopped(): Promise<void>
}
