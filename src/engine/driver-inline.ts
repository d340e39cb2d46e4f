/**
 * The event-loop driver: steps the engine in the caller's thread, for `thread: 'inline'`, the dgram backend, and tests with a clock
 * of their own. It yields after a millisecond of steps, and waits for sockets through libuv. It waits for deadlines by a timerfd; where the
 * event loop cannot poll, and off Linux, by Node's timers, and it blocks for less than their millisecond.
 */
import { performance } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'
import { nativeCallsWork } from '../../ffi/libc.js'
import { LoopPoll, LoopWaker, loopPolls } from '../../ffi/loop-poll.js'
import { TimerFd } from '../../ffi/wait.js'
import type { Backend, BackendCaps } from '../backend/backend.js'
import { openBackend } from '../backend/open.js'
import type { StateWords } from '../backend/states.js'
import type { CompiledBatch } from '../batch/compile.js'
import type { TableRegion } from '../batch/table.js'
import { SpeadcastError } from '../errors.js'
import {
  type EngineMessage,
  isPaced,
  NEXT_AT_DEADLINE,
  NEXT_IDLE,
  NEXT_STEP_NOW,
  NEXT_STOPPED,
  NEXT_WHEN_WRITABLE,
} from './contract.js'
import { type Driver, type DriverClient, type DriverInput, NO_CLIENT } from './driver.js'
import { Engine } from './engine.js'
import type { LoopControl } from './loop.js'
import type { ClockMessage } from './schedule.js'

const SLICE_NANOSECONDS = 1_000_000
/** Node takes longer timers for 1 ms. */
const MAX_TIMER_MS = 2 ** 31 - 1
/** A backend also has to notice that nothing happens. */
const LONGEST_WAIT_MS = 50

const never = new Int32Array(new SharedArrayBuffer(4))

/** Blocks this thread, no longer than a slice of steps does. A thread that looks at the clock instead takes all of a CPU. */
function nap(milliseconds: number): void {
  Atomics.wait(never, 0, 0, milliseconds)
}

/** Drivers to be closed when the thread ends: a worker would leave their descriptors behind, and a device is to get its resources back. */
const open = new Set<InlineDriver>()

export class InlineDriver implements Driver {
  readonly caps: BackendCaps
  readonly waiter = undefined
  states: StateWords
  onStates: () => void = () => {}
  onClock: (message: ClockMessage) => void = () => {}
  #client = NO_CLIENT
  readonly #engine: Engine
  #scheduled = false
  #immediate: NodeJS.Immediate | undefined
  #timer: NodeJS.Timeout | undefined
  #poll: LoopPoll | undefined
  /** For deadlines: Node's timers are whole milliseconds, and a burst of 64 KiB at 1 Gb/s takes half of one. */
  readonly #precise: LoopWaker<TimerFd> | undefined
  #held = false
  #closed = false
  #pumping = false
  /** Nothing is to be sent, and the backend's descriptors are waited for all the same. */
  #watchesIdle = false
  readonly #stopped: Promise<void>
  #stop!: () => void

  static async open(input: DriverInput): Promise<InlineDriver> {
    let driver: InlineDriver | undefined
    const { numaNode } = input
    const backend = await openBackend(input.backend, { counters: input.ring.counters, wake: () => driver?.submitted(), numaNode })
    try {
      const needsTimer = isPaced(input.options) && nativeCallsWork()
      const polls = loopPolls && (needsTimer || backend.waitSet(true).length > 0)
      const timerOf = polls && needsTimer ? (ready: () => void) => new LoopWaker(new TimerFd(), ready) : undefined
      driver = new InlineDriver(input, backend, polls, timerOf, nap)
    } catch (error) {
      backend.close()
      throw error
    }
    return driver
  }

  private constructor(
    readonly input: DriverInput,
    readonly backend: Backend,
    /** Whether the event loop can wait for the backend's descriptors. */
    readonly polls: boolean,
    timerOf?: (ready: () => void) => LoopWaker<TimerFd>,
    /** Blocks for a part of a millisecond, where there is no precise timer. */
    readonly nap: (milliseconds: number) => void = () => {},
  ) {
    this.caps = backend.caps
    this.#precise = timerOf?.(this.#pump)
    this.states = backend.states.read()
    this.#engine = new Engine(backend, input.ring, input.options, this.#receive, () => {})
    this.#stopped = new Promise((resolve) => {
      this.#stop = resolve
    })
    if (isMainThread && this.caps.evidence !== 'completed') return
    if (open.size === 0) process.on('exit', InlineDriver.#closeAll)
    open.add(this)
  }

  start(client: DriverClient): void {
    this.#client = client
    if (this.backend.resume) this.submitted()
  }

  readonly #receive = (message: EngineMessage): void => {
    if (message.type === 'states') {
      this.states = message.states
      this.onStates()
      if (message.lost) this.#client.lost(message.lost)
    } else if (message.type === 'interlude') this.#client.interludeOver(message.outcome)
    else if (message.type === 'loop') this.#client.loopNews(message)
    else if (message.type === 'clock') this.onClock(message)
    else this.#client.outcome(message)
  }

  addVariant(id: number, compiled: CompiledBatch, rates?: Float64Array): void {
    this.#engine.addVariant(id, compiled, rates)
  }

  dropVariant(id: number): void {
    this.#engine.dropVariant(id)
  }

  keepRegion(region: TableRegion): void {
    this.backend.keep?.(region)
  }

  forgetRegion(region: TableRegion): void {
    this.backend.forget?.(region)
  }

  interlude(id: number, heaps: number, rows: number, explicitCnts: boolean): void {
    this.#engine.interlude(id, heaps, rows, explicitCnts)
    this.submitted()
  }

  recallInterlude(): void {
    this.#engine.recallInterlude()
  }

  loop(message: LoopControl): void {
    this.#engine.loops.control(message)
    this.submitted()
  }

  resume(substream: number): void {
    this.backend.resume?.(substream)
    this.submitted()
  }

  submitted(): void {
    if (this.#scheduled || this.#closed) return
    this.#scheduled = true
    this.#immediate = setImmediate(this.#pump)
  }

  drainMessages(): void {}

  hold(inFlight: boolean): void {
    this.#held = inFlight
    this.#precise?.hold(inFlight)
    if (inFlight) this.#timer?.ref()
    else this.#timer?.unref()
  }

  /** Every step is followed by a look at the settlements. */
  watch(): void {}

  async stopped(): Promise<void> {
    this.submitted()
    await this.#stopped
  }

  readonly #pump = (): void => {
    this.#scheduled = false
    this.#cancelWaits()
    if (this.#closed || this.#pumping) return
    this.#pumping = true
    let next = NEXT_STEP_NOW
    try {
      if (this.#watchesIdle || this.#engine.awaitsNews) this.#engine.look()
      this.#watchesIdle = false
      const start = performance.now() * 1e6
      for (let now = start; next === NEXT_STEP_NOW && now - start < SLICE_NANOSECONDS; now = performance.now() * 1e6)
        next = this.#engine.step(now)
    } catch (cause) {
      this.#close()
      this.#client.die(new SpeadcastError('ERR_SPEADCAST_WORKER', `the engine failed: ${(cause as Error).message}`, { cause }))
      return
    } finally {
      this.#pumping = false
    }
    this.#client.harvest()
    if (next === NEXT_STEP_NOW) this.submitted()
    else if (next === NEXT_STOPPED) this.#close()
    else if (next === NEXT_AT_DEADLINE) this.#waitUntil(this.#engine.deadline)
    else if (next !== NEXT_IDLE) this.#waitForBackend(next === NEXT_WHEN_WRITABLE)
    else if (this.backend.resume) this.#watchIdle()
  }

  /** A receiver that goes away while nothing is sent is looked for at once. */
  #watchIdle(): void {
    this.#watchesIdle = true
    if (!this.polls) {
      this.#setTimer(LONGEST_WAIT_MS)
      return
    }
    this.#poll = new LoopPoll(this.backend.waitSet(false), this.#pump)
    this.#poll.hold(this.#held)
  }

  #waitUntil(deadline: number): void {
    const milliseconds = (deadline - performance.now() * 1e6) / 1e6
    if (milliseconds <= 0) this.submitted()
    else if (this.#precise) this.#precise.source.set(milliseconds * 1e6)
    else if (milliseconds < 1) {
      this.nap(milliseconds)
      this.submitted()
    } else this.#setTimer(Math.min(Math.floor(milliseconds), MAX_TIMER_MS))
  }

  #setTimer(milliseconds: number): void {
    this.#timer = setTimeout(this.#pump, milliseconds)
    if (!this.#held) this.#timer.unref()
  }

  /**
   * Backends without descriptors call wake themselves. In a worker a poll would crash the process at the worker's end
   * (docs/ground-rules.md, "Threads and workers").
   */
  #waitForBackend(wantWrite: boolean): void {
    if (this.backend.arm?.() === false) {
      this.submitted()
      return
    }
    const fds = this.backend.waitSet(wantWrite)
    const retryMs = Math.ceil((this.#engine.retryAt - performance.now() * 1e6) / 1e6)
    const longestMs = fds.length === 0 ? Number.POSITIVE_INFINITY : this.polls ? LONGEST_WAIT_MS : 1
    if (this.polls && fds.length > 0) this.#poll = new LoopPoll(fds, this.#pump)
    const milliseconds = Math.max(1, Math.min(longestMs, retryMs))
    if (milliseconds < Number.POSITIVE_INFINITY) this.#setTimer(Math.min(milliseconds, MAX_TIMER_MS))
  }

  #cancelWaits(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#poll?.close()
    this.#poll = undefined
    if (this.#immediate) clearImmediate(this.#immediate)
    this.#immediate = undefined
  }

  static readonly #closeAll = (): void => {
    for (const driver of open) driver.#close()
  }

  #close(): void {
    if (this.#closed) return
    this.#closed = true
    if (open.delete(this) && open.size === 0) process.off('exit', InlineDriver.#closeAll)
    this.#cancelWaits()
    this.#precise?.close()
    this.backend.close()
    this.input.ring.noteClosed()
    const { lingering } = this.backend
    if (lingering) void lingering.then(this.#stop)
    else this.#stop()
  }
}
