/**
 * The default driver, main-thread side: an I/O thread (worker.ts) steps the engine.
 *
 * | state   | leaves by                                                                     |
 * |---------|-------------------------------------------------------------------------------|
 * | opening | 'ready' → running; 'failed' or exit → dead                                     |
 * | running | C_STOP set and seen → stopped; worker 'error' or 'exit' → dead, every promise settles |
 * | stopped | eventfd closed, and whatever descriptors a dead thread left open               |
 *
 * The main thread owns the eventfd and closes it after the thread's exit (idioms.md 9). process.exit() would wait for a thread in
 * a native call: an exit hook sets the stop flag and writes the eventfd (idioms.md 11). It does not run in a thread that is
 * terminated from outside: the I/O thread then ends with it, and its descriptors stay.
 */
import { isMainThread, type MessagePort, receiveMessageOnPort, type Worker } from 'node:worker_threads'
import { currentCpu, yieldCpu } from '../../ffi/affinity.js'
import { closeDescriptors, EventFd, nap } from '../../ffi/wait.js'
import type { BackendCaps } from '../backend/backend.js'
import type { CompiledBatch } from '../batch/compile.js'
import { SpeadcastError } from '../errors.js'
import type { Driver, DriverInput } from './driver.js'
import { type ControlMessage, fromPlainError, type Report } from './protocol.js'
import * as R from './ring.js'
import { IoThread } from './thread.js'

type WaitAsync = (
  array: Int32Array,
  index: number,
  value: number,
) => { async: false; value: string } | { async: true; value: Promise<string> }
const waitAsync = (Atomics as unknown as { waitAsync: WaitAsync }).waitAsync

/** How late a settlement that nobody waits for may be noticed. */
const UNWATCHED_MS = 2

/** Less than half a batch of 512 KiB takes. */
const NAP_NANOSECONDS = 20_000

/** How long a thread that ends waits for its I/O thread to close its descriptors. */
const LEAVE_MS = 500

const running = new Set<WorkerDriver>()
let exitHook = false

export class WorkerDriver implements Driver {
  caps!: BackendCaps
  readonly #input: DriverInput
  readonly #wake = new EventFd()
  readonly #worker: Worker
  readonly #port: MessagePort
  readonly #exited: Promise<void>
  #fds: readonly number[] = []
  #timer: NodeJS.Timeout | undefined
  #dead = false
  /** What the I/O thread says it died of. */
  #failure: SpeadcastError | undefined

  /** @param thread one that was started earlier, not opened yet */
  static async open(input: DriverInput, thread = new IoThread()): Promise<WorkerDriver> {
    const driver = new WorkerDriver(input, thread)
    await driver.#ready
    return driver
  }

  readonly #ready: Promise<void>
  /** Rejects `#ready`; no effect once the thread has opened its backend. */
  #refuse!: (error: SpeadcastError) => void

  private constructor(input: DriverInput, thread: IoThread) {
    this.#input = input
    this.#worker = thread.worker
    this.#port = thread.port
    let opened: () => void
    this.#ready = new Promise((resolve, reject) => {
      opened = resolve
      this.#refuse = reject
    })
    // 'message' listeners before unref, which otherwise refs again (idioms.md 12).
    this.#port.on('message', (report: Report) => {
      if (report.type === 'ready') {
        this.caps = report.caps
        this.#fds = report.fds
        input.onMessage({ type: 'states', states: report.states })
        opened()
      } else if (report.type === 'failed') {
        this.#die(fromPlainError(report.error))
      } else {
        input.onMessage(report)
        input.onSettled()
      }
    })
    this.#exited = thread.exited.then((code) => {
      this.drainMessages()
      const stopped = Atomics.load(input.ring.control, R.C_CLOSED) === 1
      const { crash } = thread
      const error = new SpeadcastError(
        'ERR_SPEADCAST_WORKER',
        `the I/O thread ended with code ${code}${crash ? `: ${crash.message}` : ''}`,
        { cause: crash },
      )
      input.onSettled()
      if (this.#failure || !stopped) this.#die(this.#failure ?? error)
      this.#refuse(error)
      running.delete(this)
      clearInterval(this.#timer)
      this.#wake.close()
      if (!stopped) closeDescriptors(this.#fds)
      this.#port.close()
    })
    const { ring, backend, options, affinity } = input
    ring.control[R.C_CPU] = R.NO_CPU
    thread.open({ memory: ring.memory, eventFd: this.#wake.fd, backend, options, affinity })
    running.add(this)
    if (!exitHook) {
      exitHook = true
      process.on('exit', () => {
        for (const driver of running) driver.#stopNow()
        // A process takes its descriptors with it, a thread does not, and a device is to get back what it gave.
        for (const driver of running) if (!isMainThread || driver.caps?.evidence === 'completed') driver.#awaitStop()
      })
    }
    this.#ready.then(
      () => {
        this.#worker.unref()
        this.#port.unref()
      },
      () => {},
    )
  }

  #stopNow(): void {
    Atomics.store(this.#input.ring.control, R.C_STOP, R.STOP_ABORT)
    this.#wake.signal()
  }

  #awaitStop(): void {
    const { control } = this.#input.ring
    if (Atomics.wait(control, R.C_CLOSED, 0, LEAVE_MS) !== 'timed-out') this.#wake.close()
  }

  #die(error: SpeadcastError): void {
    if (this.#dead) return
    this.#dead = true
    this.#refuse(error)
    this.#input.onDead(error)
  }

  addVariant(id: number, compiled: CompiledBatch, rates?: Float64Array): void {
    this.#control({ type: 'variant', id, compiled, ...(rates && { rates }) })
  }

  dropVariant(id: number): void {
    this.#control({ type: 'drop', id })
  }

  #control(message: ControlMessage): void {
    this.#port.postMessage(message)
    Atomics.add(this.#input.ring.control, R.C_CONTROL, 1)
    this.submitted()
  }

  submitted(): void {
    if (Atomics.exchange(this.#input.ring.control, R.C_ASLEEP, 0) === 1) this.#wake.signal()
  }

  drainMessages(): void {
    for (let item = receiveMessageOnPort(this.#port); item; item = receiveMessageOnPort(this.#port)) {
      const report = item.message as Report
      if (report.type === 'failed') {
        // Not at once: who asks may be in the middle of settling what went before.
        const failure = fromPlainError(report.error)
        this.#failure = failure
        queueMicrotask(() => this.#die(failure))
      } else if (report.type !== 'ready') this.#input.onMessage(report)
    }
  }

  /**
   * A slow timer, referenced while work is in flight, notices what nobody waits for. Waking the main thread for every batch would
   * cost it some microseconds and 300 bytes each, mostly for nothing: a loop that finds its next batch free never waits.
   */
  hold(inFlight: boolean): void {
    if (!inFlight) {
      this.#timer?.unref()
      return
    }
    if (this.#timer) this.#timer.ref()
    else this.#timer = setInterval(this.#tick, UNWATCHED_MS)
  }

  readonly #tick = (): void => {
    this.#input.onSettled()
    if (this.#timer?.hasRef()) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  readonly giveWay = (asleep: boolean): void => {
    const { control } = this.#input.ring
    control[R.C_CPU] = currentCpu()
    if (asleep) nap(NAP_NANOSECONDS)
    else yieldCpu()
    // A thread that is to be woken comes back to this CPU.
    if (control[R.C_WATCHED] === 0) control[R.C_CPU] = R.NO_CPU
  }

  watch(): void {
    // Only this thread writes it.
    if (this.#input.ring.control[R.C_WATCHED] === 0) this.#arm()
  }

  /** One outstanding waitAsync while anybody waits; it does not keep the process alive by itself. */
  readonly #arm = (): void => {
    const { control } = this.#input.ring
    control[R.C_CPU] = currentCpu()
    // Before the load: what is settled behind it is notified of.
    Atomics.store(control, R.C_WATCHED, 1)
    const settled = Atomics.load(control, R.C_SETTLED)
    this.#input.onSettled()
    if (this.#dead || !this.#input.watched()) {
      Atomics.store(control, R.C_WATCHED, 0)
      control[R.C_CPU] = R.NO_CPU
      return
    }
    const wait = waitAsync(control, R.C_SETTLED, settled)
    if (wait.async) wait.value.then(this.#arm)
    else queueMicrotask(this.#arm)
  }

  async stopped(): Promise<void> {
    this.#worker.ref()
    this.#wake.signal()
    // A thread that does not leave by itself sits in a native call that never returns; the process may at least go on.
    const timer = setTimeout(() => void this.#worker.terminate(), 2000)
    await this.#exited
    clearTimeout(timer)
  }
}
