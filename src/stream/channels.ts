/**
 * The channels of node:diagnostics_channel on which streams tell what becomes of them. They are published on the thread that opened the
 * stream. Without a subscriber a send costs one look at `hasSubscribers`.
 */
import type { StateWords } from '../backend/states.js'
import type { SpeadcastError } from '../errors.js'
import { Topic } from '../topic.js'
import type { BatchResult } from './result.js'

/** The messages of `node:diagnostics_channel` about streams, by the names of their channels. `S` is the stream: see StreamMessages. */
export interface StreamMessagesOf<S> {
  /** A stream is open. */
  'speadcast:stream:open': { readonly stream: S }
  /** What the backend says of itself is another: interface, route, source address, carrier, segmentation, recoveries. */
  'speadcast:stream:states': {
    readonly stream: S
    /** Names of the states that are others, as `states` has them. */
    readonly changed: readonly (keyof StateWords)[]
    /** As `stream.stats().states` has them now, and had them before. */
    readonly states: StateWords
    readonly before: StateWords
    /** Milliseconds since 1970 (Date.now()). */
    readonly time: number
  }
  /** The sending side is gone, as when its I/O thread died: nothing can be sent any more, and what was under way has failed. */
  'speadcast:stream:error': { readonly stream: S; readonly error: SpeadcastError }
  /** A stream is closed or destroyed, and has given back all that it had. */
  'speadcast:stream:close': { readonly stream: S; readonly droppedHeaps: number }
  /** All heaps of a send went out: of a batch, of heaps by name, or of descriptors. */
  'speadcast:send:result': { readonly stream: S; readonly result: BatchResult }
  /** A send failed or was withdrawn; `error` is what its promise rejects with: a SendError, mostly. */
  'speadcast:send:error': { readonly stream: S; readonly heaps: number; readonly error: unknown }
}

type Messages = StreamMessagesOf<object>

export const STREAM_OPEN = new Topic<Messages, 'speadcast:stream:open'>('speadcast:stream:open')
export const STREAM_STATES = new Topic<Messages, 'speadcast:stream:states'>('speadcast:stream:states')
export const STREAM_ERROR = new Topic<Messages, 'speadcast:stream:error'>('speadcast:stream:error')
export const STREAM_CLOSE = new Topic<Messages, 'speadcast:stream:close'>('speadcast:stream:close')
export const SEND_RESULT = new Topic<Messages, 'speadcast:send:result'>('speadcast:send:result')
export const SEND_ERROR = new Topic<Messages, 'speadcast:send:error'>('speadcast:send:error')
