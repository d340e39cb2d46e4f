/**
 * The channels of node:diagnostics_channel on which streams tell what becomes of them. They are published on the thread that opened the
 * stream. Without a subscriber a send costs one look at `hasSubscribers`.
 */
import type { StateWords } from '../backend/states.js'
import type { SpeadcastError } from '../errors.js'
import { Topic } from '../topic.js'
import type { StreamEvent } from './events.js'
import type { BatchResult } from './result.js'

/** StreamMessages, but for the type of the stream: this module stands below stream.ts, which imports it. */
export interface StreamMessagesOf<S> {
  /** A stream is open. */
  'speadcast:stream:open': {
    /** The stream. */
    readonly stream: S
  }
  /** The backend says something else of itself: interface, route, source address, carrier, segmentation, recoveries. */
  'speadcast:stream:states': {
    /** The stream. */
    readonly stream: S
    /** Names of the states that are others, as `states` has them. */
    readonly changed: readonly (keyof StateWords)[]
    /** As `stream.stats().states` has them now. */
    readonly states: StateWords
    /** As it had them before. */
    readonly before: StateWords
    /** Milliseconds since 1970 (Date.now()). */
    readonly time: number
  }
  /** Something happened to the stream, in words and by kind: what `stream.events()` gives too. */
  'speadcast:stream:event': {
    /** The stream. */
    readonly stream: S
    /** The event. */
    readonly event: StreamEvent
  }
  /** The sending side is gone, as when its I/O thread died: nothing can be sent any more, and what was under way has failed. */
  'speadcast:stream:error': {
    /** The stream. */
    readonly stream: S
    /** The reason. */
    readonly error: SpeadcastError
  }
  /** A stream is closed or destroyed, and has given back all that it had. */
  'speadcast:stream:close': {
    /** The stream. */
    readonly stream: S
    /** As `stream.close` reports it. */
    readonly droppedHeaps: number
  }
  /** All heaps of a send went out: of a batch, of heaps by name, or of descriptors. */
  'speadcast:send:result': {
    /** The stream. */
    readonly stream: S
    /** The result that its promise resolves with. */
    readonly result: BatchResult
  }
  /** A send failed or was withdrawn. */
  'speadcast:send:error': {
    /** The stream. */
    readonly stream: S
    /** Heaps of the send. */
    readonly heaps: number
    /** The error that its promise rejects with: a SendError, mostly. */
    readonly error: unknown
  }
}

type Messages = StreamMessagesOf<object>

export const STREAM_OPEN = new Topic<Messages, 'speadcast:stream:open'>('speadcast:stream:open')
export const STREAM_STATES = new Topic<Messages, 'speadcast:stream:states'>('speadcast:stream:states')
export const STREAM_EVENT = new Topic<Messages, 'speadcast:stream:event'>('speadcast:stream:event')
export const STREAM_ERROR = new Topic<Messages, 'speadcast:stream:error'>('speadcast:stream:error')
export const STREAM_CLOSE = new Topic<Messages, 'speadcast:stream:close'>('speadcast:stream:close')
export const SEND_RESULT = new Topic<Messages, 'speadcast:send:result'>('speadcast:send:result')
export const SEND_ERROR = new Topic<Messages, 'speadcast:send:error'>('speadcast:send:error')
