/**
 * The default driver, main-thread side: an I/O thread (worker.ts) steps the engine.
 *
 * | state   | leaves by                                                                     |
 * |---------|-------------------------------------------------------------------------------|
 * | opening | 'ready' → running; 'failed' or the thread's exit → dead                        |
 * | running | the ring's stop seen → closed; 'failed' or the thread's exit → dead, every promise settles |
 * | dead    | 'closed', or the thread's exit → closed                                        |
 * | closed  | the stream has left its thread; descriptors that a dead thread left open are closed |
 *
 * The main thread owns the thread's eventfd and closes it after the thread's exit. process.exit() would wait for a thread in a native
 * call, so an exit hook sets the stop flag and writes the eventfd. The hook does not run in a thread that is terminated from outside: the
 * I/O thread then ends with that thread, and its descriptors stay.
 */
import { performance } from 'node:perf_hooks'
import { isMainThread, MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads'
import { currentCpu, yieldCpu } from '../../ffi/affinity.js'
import { LoopWaker, loopPolls } from '../../ffi/loop-poll.js'
import { ANY_NODE } from '../../ffi/memory/numa.js'
import { closeDescriptors, EventFd, nap, TimerFd } from '../../ffi/wait.js'
import type { BackendCaps } from '../backend/backend.js'
import type { StateWords } from '../backend/states.js'
import type { CompiledBatch } from '../batch/compile.js'
import type { TableRegion } from '../batch/table.js'
import { SpeadcastError } from '../errors.js'
import { Contention, contentionWord, HostLoad } from './contention.js'
import { isPaced } from './contract.js'
import { Doorbell } from './doorbell.js'
import { type Driver, type DriverClient, type DriverInput, NO_CLIENT } from './driver.js'
import type { LoopControl } from './loop.js'
import type { Lease } from './pool.js'
import { type ControlMessage, fromPlainError, type Report } from './protocol.js'
import { NO_CPU, STOP_ABORT } from './ring.js'
import type { ClockMessage } from './schedule.js'
import type { IoThreadHandle } from './thread.js'
import { Waiter } from './waiter.js'

/**
 * How late a settlement that nobody waits for may be noticed, of a stream that is as fast as it can, and of one with a rate. The latter looks
 * half as often after every look that finds somebody waiting, who is told of settlements anyway, because each look wakes the CPU: 20 a second
 * are a tenth of what 100 Mb/s take.
 */
const UNWATCHED_MS = 2
const UNWATCHED_PACED_MS = 50
const MOST_UNWATCHED_PACED_MS = 800

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
  readonly #lease: Lease
  readonly #thread: IoThreadHandle
  readonly #port: MessagePort
  readonly #closed: Promise<void>
  #close!: () => void
  #fds: readonly number[] = []
  #timer: NodeJS.Timeout | undefined
  /** The timer only keeps the process alive. */
  #patient = false
  /** Wakes this thread when something settles; undefined where the event loop cannot poll; the ring's notification does it there. */
  readonly #waker: LoopWaker<EventFd | TimerFd> | undefined
  state: 'opening' | 'running' | 'dead' | 'closed' = 'opening'
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
      await driver.#ready
    } finally {
      thread.release()
    }
    return driver
  }

  readonly #ready: Promise<void>
  #opened!: () => void
  /** Rejects `#ready`; no effect once the thread has opened its backend. */
  #refuse!: (error: SpeadcastError) => void

  private constructor(input: DriverInput, lease: Lease) {
    const { thread } = lease
    this.#input = input
    this.#lease = lease
    this.#thread = thread
    // While a rate leaves time there is nothing to spin for.
    const paced = isPaced(input.options)
    const now = () => performance.now() * 1e6
    this.#doorbell = new Doorbell({ now, wake: this.#wake, later: process.nextTick }, paced ? undefined : contention)
    if (!paced) this.waiter = new Waiter({ now, yieldOrNap: this.#yieldOrNap, ring: this.#doorbell.ring }, contention)
    this.#ready = new Promise((resolve, reject) => {
      this.#opened = resolve
      this.#refuse = reject
    })
    this.#closed = new Promise((resolve) => {
      this.#close = resolve
    })
    const { port1, port2 } = new MessageChannel()
    this.#port = port1
    // 'message' listeners before unref, which otherwise refs again.
    port1.on('message', (report: Report) => {
      this.#receive(report)
      this.#client.harvest()
    })
    port1.unref()
    const { ring, backend, options, numaNode = ANY_NODE } = input
    ring.waiterCpu = NO_CPU
    try {
      if (loopPolls) this.#waker = new LoopWaker(paced ? new TimerFd() : new EventFd(), this.#arm)
      thread.open({ port: port2, memory: ring.memory, wakeFd: this.#waker?.source.fd, backend, options, numaNode })
    } catch (error) {
      // No descriptor is left, for one.
      this.#waker?.close()
      port1.close()
      throw error
    }
    thread.dependents.add(this.#threadEnded)
    running.add(this)
    if (!exitHook) {
      exitHook = true
      process.on('exit', WorkerDriver.stopAll)
    }
  }

  #receive(report: Report): void {
    switch (report.type) {
      case 'ready':
        this.caps = report.caps
        this.#fds = report.fds
        this.states = report.states
        if (this.state === 'opening') this.state = 'running'
        this.#opened()
        break
      case 'failed':
        // Not at once, because the caller may be in the middle of settling earlier sends.
        this.#failure = fromPlainError(report.error)
        queueMicrotask(() => this.#die(this.#failure!))
        break
      case 'closed':
        queueMicrotask(() => this.#leave())
        break
      case 'states':
        this.states = report.states
        this.onStates()
        if (report.lost) this.#client.lost(report.lost)
        break
      case 'interlude':
        this.#client.interludeOver(report.outcome)
        break
      case 'loop':
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

  readonly #threadEnded = (code: number): void => {
    const { crash } = this.#thread
    this.drainMessages()
    const stopped = this.#input.ring.closed
    this.#client.harvest()
    const why = `the I/O thread ended with code ${code}${crash ? `: ${crash.message}` : ''}`
    if (!stopped) this.#failure ??= new SpeadcastError('ERR_SPEADCAST_WORKER', why, { cause: crash })
    if (this.#failure) this.#die(this.#failure)
    if (!stopped) closeDescriptors(this.#fds)
    this.#leave()
  }

  /** The stream has left its thread. */
  #leave(): void {
    if (this.state === 'closed') return
    this.state = 'closed'
    this.#client.harvest()
    running.delete(this)
    clearInterval(this.#timer)
    // Its thread no longer tells of settlements.
    this.#disarm()
    this.#waker?.close()
    this.#port.close()
    this.#thread.dependents.delete(this.#threadEnded)
    this.#lease.release()
    this.#close()
  }

  #stopNow(): void {
    this.#input.ring.stop(STOP_ABORT)
    this.#thread.signal()
  }

  /** For the exit of the process, or of this thread. */
  static stopAll(): void {
    for (const driver of running) driver.#stopNow()
    // A process takes its descriptors with it, a thread does not, and a device is to get its resources back.
    for (const driver of running) if (!isMainThread || driver.caps?.evidence === 'completed') driver.#awaitStop()
  }

  #awaitStop(): void {
    if (this.#input.ring.awaitClosed(LEAVE_MS)) this.#lease.release()
  }

  #die(error: SpeadcastError): void {
    if (this.state === 'dead' || this.state === 'closed') return
    this.state = 'dead'
    this.#refuse(error)
    this.#client.die(error)
  }

  start(client: DriverClient): void {
    this.#client = client
    if (this.state !== 'opening' && this.state !== 'running' && this.#failure) client.die(this.#failure)
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
    this.#port.postMessage(message)
    this.#input.ring.announce()
    this.submitted()
  }

  submitted(): void {
    if (this.#input.ring.asleep) this.#doorbell.submitted()
  }

  readonly #wake = (): void => {
    if (this.#input.ring.wakes()) this.#thread.signal()
  }

  drainMessages(): void {
    for (let item = receiveMessageOnPort(this.#port); item; item = receiveMessageOnPort(this.#port))
      this.#receive(item.message as Report)
  }

  /**
   * A slow timer, referenced while work is in flight, notices settlements that nobody waits for. Waking the main thread for every batch would
   * cost some microseconds and 300 bytes each, mostly for nothing: a loop that finds its next batch free never waits.
   */
  hold(inFlight: boolean, patient = false): void {
    if (!inFlight) {
      this.#timer?.unref()
      return
    }
    if (this.#timer && patient === this.#patient) {
      this.#timer.ref()
      return
    }
    clearInterval(this.#timer)
    this.#patient = patient
    this.#look(patient ? MOST_UNWATCHED_PACED_MS : this.waiter ? UNWATCHED_MS : UNWATCHED_PACED_MS)
  }

  #look(everyMs: number): void {
    this.#timer = setInterval(this.#tick, everyMs, everyMs)
  }

  readonly #tick = (everyMs: number): void => {
    this.#client.harvest()
    const needed = this.#timer?.hasRef() === true
    if (needed && (this.waiter || this.#patient)) return
    clearInterval(this.#timer)
    this.#timer = undefined
    if (!needed) return
    const watched = this.#input.ring.watched
    this.#look(watched ? Math.min(2 * everyMs, MOST_UNWATCHED_PACED_MS) : UNWATCHED_PACED_MS)
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
    this.#thread.retain()
    this.#thread.signal()
    await this.#thread.awaitUnlessStuck(this.#closed)
    this.#thread.release()
  }
}
