/**
 * The default driver, main-thread side: an I/O thread (worker.ts) steps the engine.
 *
 * | state      | leaves by                                                                     |
 * |------------|-------------------------------------------------------------------------------|
 * | opening    | 'ready' → running; 'failed' or the thread's exit → dead                        |
 * | running    | the ring's stop seen → closed; 'failed' or the thread's exit → restarting if that is asked, else dead |
 * | restarting | the next thread's 'ready' → running; 'failed' or its exit → restarting again after a pause, or dead after too many; stopped() → closed |
 * | dead       | every promise has settled; 'closed', or the thread's exit → closed             |
 * | closed     | the stream has left its thread; descriptors that a dead thread left open are closed |
 *
 * While it is restarting, what the dead engine had taken up settles at once (salvage.ts). What it had not waits in the ring for the next engine,
 * which is told first all that the dead one was told (announced.ts).
 *
 * The main thread owns the thread's eventfd and closes it after the thread's exit. process.exit() would wait for a thread in a native
 * call, so an exit hook sets the stop flag and writes the eventfd. The hook does not run in a thread that is terminated from outside: the
 * I/O thread then ends with that thread, and its descriptors stay.
 */
import { performance } from 'node:perf_hooks'
import { isMainThread } from 'node:worker_threads'
import { currentCpu, yieldCpu } from '../../ffi/affinity.js'
import { LoopWaker, loopPolls } from '../../ffi/loop-poll.js'
import { ANY_NODE } from '../../ffi/memory/numa.js'
import { EventFd, nap, TimerFd } from '../../ffi/wait.js'
import type { BackendCaps } from '../backend/backend.js'
import type { StateWords } from '../backend/states.js'
import type { CompiledBatch } from '../batch/compile.js'
import type { TableRegion } from '../batch/table.js'
import { SpeadcastError, withCode } from '../errors.js'
import { COUNTER } from '../stats.js'
import { Contention, contentionWord, HostLoad } from './contention.js'
import { isPaced } from './contract.js'
import { Doorbell } from './doorbell.js'
import { type Driver, type DriverClient, type DriverInput, NO_CLIENT } from './driver.js'
import type { LoopControl } from './loop.js'
import type { Lease } from './pool.js'
import { type ControlMessage, fromPlainError, type Report } from './protocol.js'
import { NO_CPU, STOP_ABORT, STOP_NO } from './ring.js'
import type { ClockMessage } from './schedule.js'
import { onceStarted, Succession, unfitness } from './succession.js'
import { ThreadLink } from './thread-link.js'
import { Unwatched } from './unwatched.js'
import { Waiter } from './waiter.js'

/** Less than half a batch of 512 KiB takes. */
const NAP_NANOSECONDS = 20_000

/** How long a thread that ends waits for its I/O thread to close its descriptors. */
const LEAVE_MS = 500

const running = new Set<WorkerDriver>()
let exitHook = false

/** One for this thread: whatever stream it waits for, the CPU is the same. */
const contention = new Contention(contentionWord, new HostLoad().othersRun)

export class WorkerDriver implements Driver {
  caps!: BackendCaps
  states: StateWords = {}
  onStates: () => void = () => {}
  onClock: (message: ClockMessage) => void = () => {}
  #client = NO_CLIENT
  readonly waiter: Waiter | undefined
  readonly #doorbell: Doorbell
  readonly #input: DriverInput
  /** Undefined while there is no thread. */
  #link: ThreadLink | undefined
  /** Undefined where the stream ends with its thread. */
  readonly #succession: Succession | undefined
  #pause: NodeJS.Timeout | undefined
  readonly #closed: Promise<void>
  #close!: () => void
  readonly #unwatched: Unwatched
  /** Wakes this thread when something settles; undefined where the event loop cannot poll; the ring's notification does it there. */
  readonly #waker: LoopWaker<EventFd | TimerFd> | undefined
  state: 'opening' | 'running' | 'restarting' | 'dead' | 'closed' = 'opening'
  /** The error that the I/O thread says it died of, or that told of its end. */
  #failure: SpeadcastError | undefined

  /** @param lease released when the stream is closed, or cannot be opened */
  static async open(input: DriverInput, lease: Lease): Promise<WorkerDriver> {
    const { thread } = lease
    let driver: WorkerDriver
    try {
      driver = new WorkerDriver(input, lease)
    } catch (error) {
      lease.release()
      throw error
    }
    thread.retain()
    try {
      await driver.#firstReady
    } finally {
      thread.release()
    }
    return driver
  }

  readonly #firstReady: Promise<void>
  #opened!: () => void
  /** Rejects `#firstReady`; no effect once the thread has opened its backend. */
  #refuse!: (error: SpeadcastError) => void

  private constructor(input: DriverInput, lease: Lease) {
    this.#input = input
    const { ring, restart } = input
    this.#succession = restart && new Succession(ring, restart)
    // While a rate leaves time there is nothing to spin for.
    const paced = isPaced(input.options)
    this.#unwatched = new Unwatched(ring, paced, () => this.#client.harvest())
    const now = () => performance.now() * 1e6
    this.#doorbell = new Doorbell({ now, wake: this.#wake, later: process.nextTick }, paced ? undefined : contention)
    if (!paced) this.waiter = new Waiter({ now, yieldOrNap: this.#yieldOrNap, ring: this.#doorbell.ring }, contention)
    this.#firstReady = new Promise((resolve, reject) => {
      this.#opened = resolve
      this.#refuse = reject
    })
    this.#closed = new Promise((resolve) => {
      this.#close = resolve
    })
    ring.waiterCpu = NO_CPU
    if (loopPolls) this.#waker = new LoopWaker(paced ? new TimerFd() : new EventFd(), this.#arm)
    try {
      this.#link = this.#tie(lease)
    } catch (error) {
      this.#waker?.close()
      throw error
    }
    running.add(this)
    if (!exitHook) {
      exitHook = true
      process.on('exit', WorkerDriver.stopAll)
    }
  }

  /** Opens the stream's backend in a thread. @throws where no descriptor is left, for one */
  #tie(lease: Lease): ThreadLink {
    const { ring, backend, numaNode = ANY_NODE } = this.#input
    const options = this.state === 'opening' ? this.#input.options : onceStarted(this.#input.options)
    const first = this.#succession?.announced.take() ?? []
    for (const _ of first) ring.announce()
    const opened = { memory: ring.memory, wakeFd: this.#waker?.source.fd, backend, options, numaNode }
    const link: ThreadLink = new ThreadLink(lease, opened, first, {
      report: (report) => this.#receive(link, report),
      reported: () => this.#client.harvest(),
      ended: (code, crash) => this.#threadEnded(link, code, crash),
    })
    return link
  }

  #receive(link: ThreadLink, report: Report): void {
    switch (report.type) {
      case 'ready':
        link.fds = report.fds
        this.#ready(report)
        break
      case 'failed':
        this.#failure = fromPlainError(report.error)
        // Not at once, because the caller may be in the middle of settling earlier sends.
        if (!this.#mayRestart) queueMicrotask(() => this.#die(this.#failure!))
        break
      case 'closed':
        queueMicrotask(() => this.#engineGone(link))
        break
      case 'states':
        this.states = report.states
        this.onStates()
        if (report.lost) this.#client.lost(report.lost)
        break
      case 'interlude':
        this.#succession?.announced.endInterlude()
        this.#client.interludeOver(report.outcome)
        break
      case 'loop':
        if (report.event === 'over') this.#succession?.announced.endLoop(report.id)
        this.#client.loopNews(report)
        break
      case 'outcome':
        this.#client.outcome(report)
        break
      case 'clock':
        this.onClock(report)
        break
    }
  }

  #ready({ caps, states }: Extract<Report, { type: 'ready' }>): void {
    if (this.state === 'restarting') {
      const unfit = unfitness(caps, this.caps)
      if (unfit) {
        this.#failure = new SpeadcastError('ERR_SPEADCAST_WORKER', `${this.#failure!.message}; ${unfit}`, { cause: this.#failure })
        this.#stopNow()
        this.#die(this.#failure)
        return
      }
      this.#input.ring.counters[COUNTER.threadRestarts]! += 1
      this.#failure = undefined
    }
    this.caps = caps
    this.states = states
    if (this.state === 'opening') this.#opened()
    else this.onStates()
    const restarted = this.state === 'restarting'
    if (this.state !== 'dead' && this.state !== 'closed') this.state = 'running'
    if (restarted) this.#client.threadRestarted()
  }

  #threadEnded(link: ThreadLink, code: number, crash: Error | undefined): void {
    const stopped = this.#input.ring.closed
    this.#client.harvest()
    const why = `the I/O thread ended with code ${code}${crash ? `: ${crash.message}` : ''}`
    // While it restarts, the failure is that of the thread before.
    if (!stopped && (this.state === 'restarting' || !this.#failure))
      this.#failure = new SpeadcastError('ERR_SPEADCAST_WORKER', why, { cause: crash })
    if (this.#failure && !this.#mayRestart) this.#die(this.#failure)
    if (!stopped) link.closeDescriptors()
    this.#engineGone(link)
  }

  get #mayRestart(): boolean {
    const { state } = this
    return (
      this.#succession !== undefined && (state === 'running' || state === 'restarting') && this.#input.ring.stopWanted === STOP_NO
    )
  }

  /** Nothing of the stream is left in its thread. */
  #engineGone(link: ThreadLink): void {
    if (link !== this.#link) return
    if (this.#failure && this.#mayRestart) {
      link.cut()
      this.#link = undefined
      this.#restart(this.#failure)
    } else this.#leave()
  }

  /** Settles what the engine had taken up, and takes another thread, unless there have been too many. */
  #restart(failure: SpeadcastError): void {
    const { ring, restart } = this.#input
    const succession = this.#succession!
    this.state = 'restarting'
    succession.settle(failure, this.caps.substreams, this.#client)
    const pause = succession.next(performance.now())
    if (pause === undefined) {
      this.#failure = succession.tooMany(failure)
      this.#die(this.#failure)
      this.#leave()
      return
    }
    this.#client.threadDied(failure, restart!.receiversAnew)
    // The stream may have been destroyed by somebody who was told.
    if (this.state === 'restarting' && ring.stopWanted !== STOP_ABORT) this.#pause = setTimeout(this.#takeThread, pause).unref()
  }

  readonly #takeThread = (): void => {
    this.#pause = undefined
    if (this.state !== 'restarting' || this.#link) return
    try {
      this.#link = this.#tie(this.#input.restart!.lease())
    } catch (error) {
      const failure = withCode('openStream', error) as SpeadcastError
      this.#failure = failure
      this.#restart(failure)
    }
  }

  /** The stream has left its thread. */
  #leave(): void {
    if (this.state === 'closed') return
    this.state = 'closed'
    this.#client.harvest()
    running.delete(this)
    this.#unwatched.end()
    clearTimeout(this.#pause)
    // Its thread no longer tells of settlements.
    this.#disarm()
    this.#waker?.close()
    this.#link?.cut()
    this.#link = undefined
    this.#close()
  }

  #stopNow(): void {
    this.#input.ring.stop(STOP_ABORT)
    this.#link?.thread.signal()
  }

  /** For the exit of the process, or of this thread. */
  static stopAll(): void {
    for (const driver of running) driver.#stopNow()
    // A process takes its descriptors with it, a thread does not, and a device is to get its resources back.
    for (const driver of running) if (!isMainThread || driver.caps?.evidence === 'completed') driver.#awaitStop()
  }

  #awaitStop(): void {
    if (this.#link && this.#input.ring.awaitClosed(LEAVE_MS)) this.#link.cut()
  }

  #die(error: SpeadcastError): void {
    if (this.state === 'dead' || this.state === 'closed') return
    this.state = 'dead'
    this.#refuse(error)
    this.#client.die(error)
  }

  start(client: DriverClient): void {
    this.#client = client
    if ((this.state === 'dead' || this.state === 'closed') && this.#failure) client.die(this.#failure)
  }

  addVariant(id: number, compiled: CompiledBatch, rates?: Float64Array): void {
    this.#control({ type: 'variant', id, compiled, ...(rates && { rates }) })
  }

  dropVariant(id: number): void {
    this.#control({ type: 'drop', id })
  }

  keepRegion(region: TableRegion): void {
    this.#control({ type: 'keep', region })
  }

  forgetRegion(region: TableRegion): void {
    this.#control({ type: 'forget', region })
  }

  interlude(id: number, heaps: number, rows: number, explicitCnts: boolean): void {
    this.#control({ type: 'interlude', id, heaps, rows, explicitCnts })
  }

  recallInterlude(): void {
    this.#control({ type: 'recall' })
  }

  loop(message: LoopControl): void {
    this.#control(message)
  }

  resume(substream: number): void {
    this.#control({ type: 'resume', substream })
  }

  #control(message: ControlMessage): void {
    this.#succession?.announced.note(message, this.#link !== undefined)
    if (!this.#link) return
    this.#link.post(message)
    this.#input.ring.announce()
    this.submitted()
  }

  submitted(): void {
    if (this.#input.ring.asleep) this.#doorbell.submitted()
  }

  readonly #wake = (): void => {
    if (this.#input.ring.wakes()) this.#link?.thread.signal()
  }

  drainMessages(): void {
    this.#link?.drain()
  }

  hold(inFlight: boolean, patient = false): void {
    this.#unwatched.hold(inFlight, patient)
  }

  readonly #yieldOrNap = (asleep: boolean): void => {
    const { ring } = this.#input
    ring.waiterCpu = currentCpu()
    if (asleep) nap(NAP_NANOSECONDS)
    else yieldCpu()
    // A thread that is to be woken comes back to this CPU.
    if (!ring.watched) ring.waiterCpu = NO_CPU
  }

  watch(): void {
    if (!this.#input.ring.watched) this.#arm()
  }

  /**
   * Looks for settlements, now and whenever this thread is told of some, as long as anybody waits. That does not keep the process alive by
   * itself. Only workers use Atomics.waitAsync, because the thread that notifies holds a lock of V8, which the woken thread takes at once.
   * Where both are on one CPU, they switch twice more for every batch, and others run whole time slices meanwhile.
   */
  readonly #arm = (): void => {
    const { ring } = this.#input
    ring.waiterCpu = currentCpu()
    ring.watched = true
    const { settled } = ring
    this.#client.harvest()
    if (this.state === 'dead' || this.state === 'closed' || !this.#client.watched) {
      this.#disarm()
      return
    }
    if (this.#waker) return
    const more = ring.settledBeyond(settled)
    if (more) more.then(this.#arm)
    else queueMicrotask(this.#arm)
  }

  #disarm(): void {
    const { ring } = this.#input
    ring.watched = false
    ring.waiterCpu = NO_CPU
  }

  async stopped(): Promise<void> {
    const thread = this.#link?.thread
    if (!thread) {
      this.#leave()
      return
    }
    thread.retain()
    thread.signal()
    await thread.awaitUnlessStuck(this.#closed)
    thread.release()
  }
}
