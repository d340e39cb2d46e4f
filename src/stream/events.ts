/** The events of a stream: their types, and the options of their readers. */
import type { StateWords } from '../backend/states.js'
import type { StreamEventKind } from './event-kinds.js'

/** Facts of an event, by name: states as `stream.stats().states` has them, or what else the kind tells. */
export type EventFacts = StateWords | Readonly<Record<string, string | number | boolean>>

/**
 * Something that happened to a stream.
 * @example for await (const { time, kind, message } of stream.events()) console.log(new Date(time).toISOString(), kind, message)
 */
export interface StreamEvent {
  /** Milliseconds since 1970 (Date.now()), when the thread that opened the stream learned of it. */
  readonly time: number
  /** The kind; docs/diagnosing.md, "Events", says when each comes. */
  readonly kind: StreamEventKind
  /** The same for a person. */
  readonly message: string
  /** The states that have changed, as they were. */
  readonly before?: EventFacts
  /** The same states as they are now, or what else the kind tells. */
  readonly after?: EventFacts
  /** Sends submitted and not settled. */
  readonly inFlight: number
  /** Bytes of headers and payload in them. */
  readonly queuedBytes: number
  /** How many events before this one were dropped, because this reader did not read them; left out where none were. */
  readonly missed?: number
}

/**
 * Options of `stream.events`.
 * @example for await (const { message } of stream.events({ kinds: ['link', 'route'] })) console.warn(message)
 */
export interface EventOptions {
  /** Ends the iteration: it throws signal.reason. */
  signal?: AbortSignal
  /** Only these kinds. Default: all. */
  kinds?: readonly StreamEventKind[]
}
