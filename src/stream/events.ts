/**
 * What happens to a stream, one thing after the other, for those who iterate: each has a queue of its own, which is bounded.
 *
 * | state of a reader | legal             | next                                                        |
 * |-------------------|-------------------|-------------------------------------------------------------|
 * | open              | next, return      | ending by the stream's end; over by return or the signal     |
 * | ending            | next, return      | over, when what is queued has been read                     |
 * | over              | next, return      | —                                                           |
 */
import type { StateWords } from '../backend/states.js'
import { checkOptions, checkSignal, listOf, oneOf, shown } from '../checks.js'
import { ensure } from '../errors.js'
import { listen, unlisten } from './abort-listeners.js'
import { EVENT_KINDS, type StreamEventKind } from './event-kinds.js'

/** Events that a reader who does not read keeps; older ones go. */
const MOST_UNREAD = 256

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
  /** The same states as they are now. */
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

class Reader implements AsyncIterableIterator<StreamEvent> {
  state: 'open' | 'ending' | 'over' = 'open'
  readonly #unread: StreamEvent[] = []
  #missed = 0
  /** Calls of next that wait for an event. */
  readonly #waiting: { resolve(result: IteratorResult<StreamEvent>): void; reject(reason: unknown): void }[] = []
  /** The signal's reason, until a call of next has thrown it. */
  #aborted: { readonly reason: unknown } | undefined

  constructor(
    readonly kinds: ReadonlySet<string> | undefined,
    readonly signal: AbortSignal | undefined,
    readonly left: (reader: Reader) => void,
  ) {
    if (signal) listen(signal, this.#abort)
  }

  take(event: StreamEvent): void {
    if (this.kinds && !this.kinds.has(event.kind)) return
    const waiting = this.#waiting.shift()
    if (waiting) {
      waiting.resolve({ done: false, value: event })
      return
    }
    this.#unread.push(event)
    if (this.#unread.length > MOST_UNREAD) this.#drop()
  }

  /** The oldest event goes, and the next one tells how many went. */
  #drop(): void {
    this.#unread.shift()
    this.#missed++
  }

  /** The stream has ended. */
  end(): void {
    if (this.state === 'open') this.state = 'ending'
    if (this.#unread.length === 0) this.#leave()
  }

  async next(): Promise<IteratorResult<StreamEvent>> {
    const aborted = this.#aborted
    this.#aborted = undefined
    if (aborted) throw aborted.reason
    const event = this.#unread.shift()
    if (event) {
      const missed = this.#missed
      this.#missed = 0
      if (this.state === 'ending' && this.#unread.length === 0) this.#leave()
      return { done: false, value: missed > 0 ? { ...event, missed } : event }
    }
    if (this.state !== 'open') return { done: true, value: undefined }
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }))
  }

  async return(): Promise<IteratorResult<StreamEvent>> {
    this.#aborted = undefined
    this.#leave()
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  readonly #abort = (): void => {
    const { reason } = this.signal!
    const waiting = this.#waiting.splice(0)
    if (waiting.length === 0) this.#aborted = { reason }
    for (const { reject } of waiting) reject(reason)
    this.#leave()
  }

  #leave(): void {
    if (this.state === 'over') return
    this.state = 'over'
    if (this.signal) unlisten(this.signal, this.#abort)
    this.#unread.length = 0
    for (const { resolve } of this.#waiting.splice(0)) resolve({ done: true, value: undefined })
    this.left(this)
  }
}

/** A stream's readers. */
export class Events {
  readonly #readers = new Set<Reader>()
  state: 'open' | 'over' = 'open'

  get read(): boolean {
    return this.#readers.size > 0
  }

  give(event: StreamEvent): void {
    for (const reader of this.#readers) reader.take(event)
  }

  /** @throws ERR_SPEADCAST_CONFIG; the signal's reason if it has aborted */
  reader(options: EventOptions): AsyncIterableIterator<StreamEvent> {
    checkOptions('events', options, ['signal', 'kinds'])
    const { signal } = options
    const kinds = checkKinds(options.kinds)
    checkSignal('events', signal)
    const reader = new Reader(kinds && new Set(kinds), signal, (gone) => void this.#readers.delete(gone))
    if (this.state === 'open') this.#readers.add(reader)
    else reader.end()
    return reader
  }

  close(): void {
    this.state = 'over'
    for (const reader of this.#readers) reader.end()
    this.#readers.clear()
  }
}

function checkKinds(given: unknown): readonly string[] | undefined {
  if (given === undefined) return undefined
  const kinds = listOf(given as readonly string[])
  const unknown = kinds?.find((kind) => !(EVENT_KINDS as readonly unknown[]).includes(kind))
  ensure(
    kinds !== undefined && kinds.length > 0 && unknown === undefined,
    'ERR_SPEADCAST_CONFIG',
    () =>
      `events: kinds ${unknown === undefined ? `is ${shown(given)}` : `has ${shown(unknown)}`}; give an array of ${oneOf(EVENT_KINDS)}`,
  )
  return kinds
}
