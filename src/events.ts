/**
 * What happens to a stream or a receiver, one thing after the other, for those who iterate: each has a queue of its own, which is bounded.
 *
 * | state of a reader | legal             | next                                                        |
 * |-------------------|-------------------|-------------------------------------------------------------|
 * | open              | next, return      | ending by the source's end; over by return or the signal    |
 * | ending            | next, return      | over, when what is queued has been read                     |
 * | over              | next, return      | —                                                           |
 */
import { listen, unlisten } from './abort-listeners.js'
import { checkOptions, checkSignal, listOf, oneOf, shown } from './checks.js'
import { ensure } from './errors.js'

/** Events that a reader who does not read keeps; older ones go. */
const MOST_UNREAD = 256

/** The part of an event that its readers look at. */
export interface KindOfEvent {
  readonly kind: string
  readonly missed?: number
}

/** Options of a reader, which docstrings of `events` have for the user. */
interface ReaderOptions {
  readonly signal?: AbortSignal
  readonly kinds?: readonly string[]
}

class Reader<E extends KindOfEvent> implements AsyncIterableIterator<E> {
  state: 'open' | 'ending' | 'over' = 'open'
  readonly #unread: E[] = []
  #missed = 0
  /** Calls of next that wait for an event. */
  readonly #waiting: { resolve(result: IteratorResult<E>): void; reject(reason: unknown): void }[] = []
  /** The signal's reason, until a call of next has thrown it. */
  #aborted: { readonly reason: unknown } | undefined

  constructor(
    readonly kinds: ReadonlySet<string> | undefined,
    readonly signal: AbortSignal | undefined,
    readonly left: (reader: Reader<E>) => void,
  ) {
    if (signal) listen(signal, this.#abort)
  }

  take(event: E): void {
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

  /** The source has ended. */
  end(): void {
    if (this.state === 'open') this.state = 'ending'
    if (this.#unread.length === 0) this.#leave()
  }

  async next(): Promise<IteratorResult<E>> {
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

  async return(): Promise<IteratorResult<E>> {
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

/** The readers of one source. @param known the kinds of its events */
export class Events<E extends KindOfEvent> {
  readonly #readers = new Set<Reader<E>>()
  state: 'open' | 'over' = 'open'

  constructor(readonly known: readonly E['kind'][]) {}

  get read(): boolean {
    return this.#readers.size > 0
  }

  give(event: E): void {
    for (const reader of this.#readers) reader.take(event)
  }

  /** @throws ERR_SPEADCAST_CONFIG; the signal's reason if it has aborted */
  reader(options: ReaderOptions): AsyncIterableIterator<E> {
    checkOptions('events', options, ['signal', 'kinds'])
    const { signal } = options
    const kinds = checkKinds(options.kinds, this.known)
    checkSignal('events', signal)
    const reader = new Reader<E>(kinds && new Set(kinds), signal, (gone) => void this.#readers.delete(gone))
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

function checkKinds(given: unknown, known: readonly string[]): readonly string[] | undefined {
  if (given === undefined) return undefined
  const kinds = listOf(given as readonly string[])
  const unknown = kinds?.find((kind) => !known.includes(kind))
  ensure(
    kinds !== undefined && kinds.length > 0 && unknown === undefined,
    'ERR_SPEADCAST_CONFIG',
    () =>
      `events: kinds ${unknown === undefined ? `is ${shown(given)}` : `has ${shown(unknown)}`}; give an array of ${oneOf(known)}`,
  )
  return kinds
}
