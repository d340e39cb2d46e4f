/** The channels of node:diagnostics_channel on which receivers tell what becomes of them, on the thread that opened them. */
import { Topic } from '../topic.js'
import type { Receiver, ReceiveSummary } from './receiver.js'

/** The messages of `node:diagnostics_channel` about receivers, by the names of their channels (docs/diagnosing.md, "Channels"). */
export interface ReceiverMessages {
  /** A receiver is open: packets sent from now on are received. */
  'speadcast:receiver:open': {
    /** The receiver. */
    readonly receiver: Receiver
  }
  /** A group was lost with its interface, or was joined again; or connections were turned away, or could not be accepted. */
  'speadcast:receiver:change': {
    /** The receiver. */
    readonly receiver: Receiver
    /** Says which, for a person. */
    readonly what: string
    /** Milliseconds since 1970 (Date.now()). */
    readonly time: number
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
export const RECEIVER_CHANGE = new Topic<ReceiverMessages, 'speadcast:receiver:change'>('speadcast:receiver:change')
export const RECEIVER_ERROR = new Topic<ReceiverMessages, 'speadcast:receiver:error'>('speadcast:receiver:error')
export const RECEIVER_CLOSE = new Topic<ReceiverMessages, 'speadcast:receiver:close'>('speadcast:receiver:close')
