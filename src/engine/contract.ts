/** The terms between an engine and its driver: options, messages, and the answers of step(). */
import type { StateWords } from '../backend/states.js'
import type { LoopMessage } from './loop.js'
import type { OutcomeMessage } from './outcome.js'
import type { PacingOptions } from './pacer.js'
import type { ClockMessage, ScheduleOptions } from './schedule.js'

/** The fate of packets to one endpoint that the backend refuses. */
export interface ErrorPolicy {
  /** Heaps that do not go out whole are left out: they do not fail their send. */
  readonly skips: boolean
  /** undefined: packets are posted once. */
  readonly retry:
    | {
        /** The pause before a packet is posted again; each further one is twice as long, up to `most`. */
        readonly firstNanoseconds: number
        readonly mostNanoseconds: number
        /** How long after the last packet that got through; packets fail then, and are posted once until one gets through. */
        readonly forNanoseconds: number
        /** Packets that may have left are posted again too. */
        readonly duplicates: boolean
      }
    | undefined
}

export interface EngineOptions extends PacingOptions {
  /** Postings in flight (posted, not reaped) before the next submission is claimed. */
  readonly maxInFlight: number
  /** There may be interludes, so posts are short. */
  readonly interruptible?: boolean
  /** The observation clock, in the place of a rate. */
  readonly schedule?: ScheduleOptions
  /** One for each substream. Absent: packets are posted once, and heaps that fail fail their send. */
  readonly onError?: readonly ErrorPolicy[]
}

/** The fate of an interlude: undefined if it was sent whole. */
interface InterludeMessage {
  readonly type: 'interlude'
  readonly outcome: OutcomeMessage | undefined
}

interface StatesMessage {
  readonly type: 'states'
  readonly states: StateWords
  /** As Backend.takeLost, where there are some. */
  readonly lost?: readonly number[]
}

export type EngineMessage = OutcomeMessage | InterludeMessage | StatesMessage | LoopMessage | ClockMessage

/** Whether the engine itself decides when packets go. */
export const isPaced = ({ rateBytesPerSecond, schedule }: EngineOptions): boolean =>
  rateBytesPerSecond > 0 || schedule !== undefined

// The answers of step(): the driver's task before the next one.
export const NEXT_STEP_NOW = 0
/** Nothing submitted: sleep until woken. */
export const NEXT_IDLE = 1
/** Sleep until `deadline` (pacing, back-off), unless woken. */
export const NEXT_AT_DEADLINE = 2
/** Sleep until the backend's wait set is ready. */
export const NEXT_WHEN_WRITABLE = 3
/** Rows are posted and not completed: sleep on the wait set (or until the backend calls wake). */
export const NEXT_WHEN_REAPED = 4
export const NEXT_STOPPED = 5
