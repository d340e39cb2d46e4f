/** The channels of node:diagnostics_channel on which receivers tell what becomes of them, on the thread that opened them. */
import { Topic } from '../topic.js'
import type { ReceiverEvent } from './events.js'
import type { Receiver, ReceiveSummary } from './receiver.js'

/** The messages of `node:diagnostics_channel` about receivers, by the names of their channels (docs/diagnosing.md, "Channels"). */
export interface ReceiverMessages {
  /** A receiver is open: packets sent from now on are received. */
  'speadcast:receiver:open': {
    /** The receiver. */
    readonly receiver: Receiver
  }
  /** Something happened to the receiver: what `receiver.events()` gives too. */
  'speadcast:receiver:event': {
    /** The receiver. */
    readonly receiver: Receiver
    /** The event. */
    readonly event: ReceiverEvent
  }
  /** Reception itself failed. */
  'speadcast:receiver:error': {
    /** The receiver. */
    readonly receiver: Receiver
    /** The reason. */
    readonly error: unknown
  }
  /** Reception is over. */
  'speadcast:receiver:close': {
    /** The receiver. */
    readonly receiver: Receiver
    /** The summary that `receiver.done` resolves with. */
    readonly summary: ReceiveSummary
  }
}

export const RECEIVER_OPEN = new Topic<ReceiverMessages, 'speadcast:receiver:open'>('speadcast:receiver:open')
export const RECEIVER_EVENT = new Topic<ReceiverMessages, 'speadcast:receiver:event'>('speadcast:receiver:event')
export const RECEIVER_ERROR = new Topic<ReceiverMessages, 'speadcast:receiver:error'>('speadcast:receiver:error')
export const RECEIVER_CLOSE = new Topic<ReceiverMessages, 'speadcast:receiver:close'>('speadcast:receiver:close')
