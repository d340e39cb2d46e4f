/** The events of a receiver: their kinds, their types, and the form in which what receives tells of them. */

/** A kind of event; docs/receiving.md, "Events", says when each comes. */
export type ReceiverEventKind = 'membership' | 'drops' | 'sender' | 'connection' | 'refusal' | 'error' | 'end'

const KINDS = {
  membership: true,
  drops: true,
  sender: true,
  connection: true,
  refusal: true,
  error: true,
  end: true,
} as const satisfies Record<ReceiverEventKind, true>

export const RECEIVER_EVENT_KINDS = Object.keys(KINDS) as readonly ReceiverEventKind[]

/** Facts of an event, by name. */
export type ReceiverEventFacts = Readonly<Record<string, string | number | boolean>>

/** The part of an event that is known where it happens. Crosses to another thread. */
export interface ReceiverNewsItem {
  readonly kind: ReceiverEventKind
  readonly message: string
  readonly endpoint?: string | undefined
  readonly before?: ReceiverEventFacts | undefined
  readonly after?: ReceiverEventFacts | undefined
}

export type TellReceiver = (item: ReceiverNewsItem) => void

/**
 * Something that happened to a receiver.
 * @example for await (const { time, kind, message } of receiver.events()) console.log(new Date(time).toISOString(), kind, message)
 */
export interface ReceiverEvent {
  /** Milliseconds since 1970 (Date.now()), when the thread that opened the receiver learned of it. */
  readonly time: number
  /** The kind; docs/receiving.md, "Events", says when each comes. */
  readonly kind: ReceiverEventKind
  /** The same for a person. */
  readonly message: string
  /** The endpoint at which it happened, as `receiver.endpoints` has it; left out where it is of all. */
  readonly endpoint?: string
  /** What has changed, as it was. */
  readonly before?: ReceiverEventFacts
  /** The same as it is now. */
  readonly after?: ReceiverEventFacts
  /** Complete heaps with data so far, as `stats()` counts them. */
  readonly heaps: number
  /** Heaps that wait for the consumer. */
  readonly waitingHeaps: number
  /** How many events before this one were dropped, because this reader did not read them; left out where none were. */
  readonly missed?: number
}

/**
 * Options of `receiver.events`.
 * @example for await (const { message } of receiver.events({ kinds: ['membership', 'drops'] })) console.warn(message)
 */
export interface ReceiverEventOptions {
  /** Ends the iteration: it throws signal.reason. */
  signal?: AbortSignal
  /** Only these kinds. Default: all. */
  kinds?: readonly ReceiverEventKind[]
}
