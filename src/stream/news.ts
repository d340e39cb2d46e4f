/** Tells of a stream's life: subscribers of the channels, the listener of path changes, and NODE_DEBUG=speadcast. */
import type { StateWords } from '../backend/states.js'
import { messageOf } from '../checks.js'
import { changedNames, changesOf, debug } from '../debug.js'
import type { Driver } from '../engine/driver.js'
import { counted, type SpeadcastError } from '../errors.js'
import { SEND_ERROR, SEND_RESULT, STREAM_CLOCK, STREAM_CLOSE, STREAM_ERROR, STREAM_OPEN, STREAM_STATES } from './channels.js'
import { type PathChange, tellPathChange } from './path-change.js'
import type { BatchResult } from './result.js'

let streams = 0

export class News {
  readonly #name = `stream ${++streams}`
  #stream!: object
  #states: StateWords = {}

  /** For NODE_DEBUG. */
  say(line: () => string): void {
    debug(() => `${this.#name}: ${line()}`)
  }

  /** Follows the observation clock. */
  followClock(driver: Driver): void {
    driver.onClock = ({ what, heaps, seconds }) => {
      const size = Math.abs(seconds).toPrecision(3)
      this.say(() =>
        what === 'late'
          ? `left out ${counted(heaps, 'heap')}, late by ${size} s`
          : `the wall clock was set ${seconds < 0 ? 'back' : 'forward'} by ${size} s`,
      )
      if (STREAM_CLOCK.hasSubscribers) STREAM_CLOCK.publish({ stream: this.#stream, what, heaps, seconds, time: Date.now() })
    }
  }

  /** Follows the states of the stream's backend. */
  follow(stream: object, driver: Driver, onPathChange: ((change: PathChange) => unknown) | undefined): void {
    this.#stream = stream
    this.#states = driver.states
    this.followClock(driver)
    driver.onStates = () => {
      const before = this.#states
      const { states } = driver
      this.#states = states
      const changed = changedNames(before, states)
      if (changed.length === 0) return
      this.say(() => changesOf(before, states))
      if (onPathChange) tellPathChange(onPathChange, before, states)
      if (STREAM_STATES.hasSubscribers) STREAM_STATES.publish({ stream, changed, states, before, time: Date.now() })
    }
  }

  opened(): void {
    this.say(() => `open; ${changesOf({}, this.#states)}`)
    if (STREAM_OPEN.hasSubscribers) STREAM_OPEN.publish({ stream: this.#stream })
  }

  sent(result: BatchResult): void {
    if (SEND_RESULT.hasSubscribers) SEND_RESULT.publish({ stream: this.#stream, result })
  }

  failed(heaps: number, error: unknown): void {
    this.say(() => `a send of ${counted(heaps, 'heap')} failed: ${messageOf(error)}`)
    if (SEND_ERROR.hasSubscribers) SEND_ERROR.publish({ stream: this.#stream, heaps, error })
  }

  died(error: SpeadcastError): void {
    this.say(() => `nothing can be sent any more: ${error.message}`)
    if (STREAM_ERROR.hasSubscribers) STREAM_ERROR.publish({ stream: this.#stream, error })
  }

  closed(sent: number, failed: number, droppedHeaps: number): void {
    this.say(() => `closed; ${counted(sent, 'heap')} sent, ${failed} failed, ${droppedHeaps} dropped`)
    if (STREAM_CLOSE.hasSubscribers) STREAM_CLOSE.publish({ stream: this.#stream, droppedHeaps })
  }
}
