/** Tells of a stream's life: subscribers of the channels, the listener of path changes, and NODE_DEBUG=speadcast. */
import type { StateWords } from '../backend/states.js'
import { messageOf } from '../checks.js'
import { changedNames, changesOf, debug } from '../debug.js'
import type { Driver } from '../engine/driver.js'
import { counted, type SpeadcastError } from '../errors.js'
import { Events } from '../events.js'
import { SEND_ERROR, SEND_RESULT, STREAM_CLOSE, STREAM_ERROR, STREAM_EVENT, STREAM_OPEN, STREAM_STATES } from './channels.js'
import { EVENT_KINDS, type StreamEventKind } from './event-kinds.js'
import type { EventFacts, StreamEvent } from './events.js'
import { LagWatch } from './lag-watch.js'
import { type PathChange, tellPathChange } from './path-change.js'
import type { BatchResult } from './result.js'
import { StateEvents } from './state-events.js'

let streams = 0

/** What is followed. */
export interface Followed {
  readonly stream: object
  readonly driver: Driver
  readonly onPathChange: ((change: PathChange) => unknown) | undefined
  /** What is under way. */
  readonly submissions: { readonly inFlight: number; readonly bound: { readonly bytes: number } }
  readonly counters: Float64Array
  readonly lagBoundSeconds: number | undefined
}

export class News {
  readonly #name = `stream ${++streams}`
  #stream!: object
  #states: StateWords = {}
  #submissions: Followed['submissions'] | undefined
  #lag: LagWatch | undefined
  readonly events = new Events<StreamEvent>(EVENT_KINDS)
  readonly #stateEvents = new StateEvents(({ kind, message, before, after }) => this.event(kind, message, { before, after }))

  /** For NODE_DEBUG. */
  say(line: () => string): void {
    debug(() => `${this.#name}: ${line()}`)
  }

  /** Follows the observation clock. */
  followClock(driver: Driver): void {
    driver.onClock = ({ what, heaps, seconds }) => {
      const size = Math.abs(seconds).toPrecision(3)
      const message =
        what === 'late'
          ? `left out ${counted(heaps, 'heap')}, late by ${size} s`
          : `the wall clock was set ${seconds < 0 ? 'back' : 'forward'} by ${size} s`
      this.say(() => message)
      if (what === 'late') this.event('late', message, { after: { heaps, lateSeconds: seconds } })
      else this.event('clock', message, { after: { stepSeconds: seconds } })
    }
  }

  /** Follows the states of the stream's backend. */
  follow({ stream, driver, onPathChange, submissions, counters, lagBoundSeconds: boundSeconds }: Followed): void {
    this.#stream = stream
    this.#submissions = submissions
    this.#states = driver.states
    this.followClock(driver)
    if (boundSeconds !== undefined) {
      const tell = (message: string, before: number, after: number) =>
        this.event('lag', message, { before: { lagSeconds: before }, after: { lagSeconds: after } })
      this.#lag = new LagWatch({ boundSeconds, counters, wanted: () => this.wanted, tell })
    }
    driver.onStates = () => {
      const before = this.#states
      const { states } = driver
      this.#states = states
      const changed = changedNames(before, states)
      if (changed.length === 0) return
      this.say(() => changesOf(before, states))
      if (onPathChange) tellPathChange(onPathChange, before, states)
      if (STREAM_STATES.hasSubscribers) STREAM_STATES.publish({ stream, changed, states, before, time: Date.now() })
      if (this.wanted) this.#stateEvents.take(changed, before, states)
      else this.#stateEvents.forget()
    }
  }

  /** Whether anybody wants to hear of events. */
  get wanted(): boolean {
    return this.events.read || STREAM_EVENT.hasSubscribers
  }

  /**
   * Something happened to the stream: tells those who iterate, and subscribers. Costs a look where there are none.
   * @param message a sentence
   * @param facts what has changed, and what it is now
   */
  event(kind: StreamEventKind, message: string, facts: { readonly before?: EventFacts; readonly after?: EventFacts } = {}): void {
    if (!this.wanted) return
    const { inFlight = 0, bound } = this.#submissions ?? {}
    const event = { time: Date.now(), kind, message, ...facts, inFlight, queuedBytes: bound?.bytes ?? 0 }
    this.events.give(event)
    if (STREAM_EVENT.hasSubscribers) STREAM_EVENT.publish({ stream: this.#stream, event })
  }

  opened(): void {
    this.say(() => `open; ${changesOf({}, this.#states)}`)
    if (STREAM_OPEN.hasSubscribers) STREAM_OPEN.publish({ stream: this.#stream })
  }

  sent(result: BatchResult): void {
    this.#lag?.look()
    if (SEND_RESULT.hasSubscribers) SEND_RESULT.publish({ stream: this.#stream, result })
  }

  failed(heaps: number, error: unknown): void {
    this.say(() => `a send of ${counted(heaps, 'heap')} failed: ${messageOf(error)}`)
    if (SEND_ERROR.hasSubscribers) SEND_ERROR.publish({ stream: this.#stream, heaps, error })
  }

  threadDied(error: SpeadcastError): void {
    const message = `${error.message}; another takes its place`
    this.say(() => message)
    this.event('thread', message)
  }

  threadRestarted(): void {
    this.say(() => 'the next I/O thread sends')
    this.event('thread', 'the next I/O thread sends')
  }

  died(error: SpeadcastError): void {
    this.say(() => `nothing can be sent any more: ${error.message}`)
    if (STREAM_ERROR.hasSubscribers) STREAM_ERROR.publish({ stream: this.#stream, error })
    this.event('error', `nothing can be sent any more: ${error.message}`)
  }

  closed(sent: number, failed: number, droppedHeaps: number): void {
    this.say(() => `closed; ${counted(sent, 'heap')} sent, ${failed} failed, ${droppedHeaps} dropped`)
    if (STREAM_CLOSE.hasSubscribers) STREAM_CLOSE.publish({ stream: this.#stream, droppedHeaps })
    this.#lag?.close()
    this.#stateEvents.close()
    this.events.close()
  }
}
