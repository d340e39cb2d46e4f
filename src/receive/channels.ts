/** The channels of node:diagnostics_channel on which receivers tell what becomes of them, on the thread that opened them. */
import { Topic } from '../topic.js'
import type { Receiver, ReceiveSummary } from './receiver.js'

/** The messages by the names of their channels. */
export interface ReceiverMessages {
  /** A receiver is open: what is sent from now on is received. */
  'speadcast:receiver:open': { readonly receiver: Receiver }
  /** A group was lost with its interface, or was joined again; `what` says so for a person. */
  'speadcast:receiver:change': { readonly receiver: Receiver; readonly what: string; readonly time: number }
  /** Reception itself failed. */
  'speadcast:receiver:error': { readonly receiver: Receiver; readonly error: unknown }
  /** Reception is over; `summary` is what `receiver.done` resolves with. */
  'speadcast:receiver:close': { readonly receiver: Receiver; readonly summary: ReceiveSummary }
}

export const RECEIVER_OPEN = new Topic<ReceiverMessages, 'speadcast:receiver:open'>('speadcast:receiver:open')
export const RECEIVER_CHANGE = new Topic<ReceiverMessages, 'speadcast:receiver:change'>('speadcast:receiver:change')
export const RECEIVER_ERROR = new Topic<ReceiverMessages, 'speadcast:receiver:error'>('speadcast:receiver:error')
export const RECEIVER_CLOSE = new Topic<ReceiverMessages, 'speadcast:receiver:close'>('speadcast:receiver:close')
