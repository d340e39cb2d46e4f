/**
 * One stream's sending half inside an I/O thread: its engine, the ring that it shares with the stream's own thread, and the port by which
 * variants come. io-loop.ts decides when it steps.
 */
import type { Backend } from '../backend/backend.js'
import { COUNTER } from '../stats.js'
import { Engine, type EngineMessage, type EngineOptions, NEXT_STEP_NOW } from './engine.js'
import type { ControlMessage } from './protocol.js'
import * as R from './ring.js'

/** Wakes the stream's own thread. */
export interface Waker {
  signal(): void
  /** Lets go of what is closed by whoever waits. */
  forget(): void
}

export interface MemberParts {
  readonly backend: Backend
  readonly ring: R.Ring
  readonly options: EngineOptions
  /** To the stream's thread. */
  readonly report: (message: EngineMessage) => void
  /** The next control message; undefined when there is none. */
  readonly receive: () => ControlMessage | undefined
  /** Leaves `cpu`, where somebody waits for what has settled. */
  readonly leaveCpu: (cpu: number) => void
  /** undefined = by notifying C_SETTLED. */
  readonly waker?: Waker | undefined
  /** Whether nobody else wants the CPUs. */
  readonly calm?: () => boolean
  /** That of step's `now`. Default this thread's performance.now(), in nanoseconds. */
  readonly clock?: () => number
}

export class Member {
  readonly engine: Engine
  readonly ring: R.Ring
  readonly backend: Backend
  /** The engine's last answer (NEXT_…): what the member waits for. */
  waitsFor: number = NEXT_STEP_NOW
  /** Since when it has been waiting for its backend; 0 if it is not. */
  waitingSince = 0
  /** A descriptor of its wait set is ready. */
  woken = false
  /** When it began to wait. */
  lookedAt = 0
  /** Where its descriptors stand in the poll set of the sleep under way. */
  firstDescriptor = 0
  descriptors = 0
  /** The last wait for a submission was short. */
  worthSpinning = true
  /** Waits to come that sleep without a glance; how many the next glance in vain brings. */
  blind = 0
  nextBlind = 1
  /** Waits to come that are slept through in pieces, because one was long. */
  dozes = 0
  readonly #receive: () => ControlMessage | undefined
  readonly #leaveCpu: (cpu: number) => void
  #control = 0
  #stopSeen = 0
  #settlements = 0
  readonly #paced: boolean
  readonly #waker: Waker | undefined
  readonly #calm: () => boolean
  /** SETTLED as the stream's thread was last told of it, or last did not wait. */
  #told = 0
  #telling = false

  constructor({ backend, ring, options, report, receive, leaveCpu, waker, calm, clock }: MemberParts) {
    this.backend = backend
    this.ring = ring
    this.#paced = options.rateBytesPerSecond > 0
    this.#waker = waker
    this.#calm = calm ?? (() => true)
    this.#receive = receive
    this.#leaveCpu = leaveCpu
    this.engine = new Engine(backend, ring, options, report, this.#settled, this.#drainControl, clock)
  }

  /** UDP payload bytes it ever posted. */
  get bytes(): number {
    return this.ring.counters[COUNTER.udpBytes]!
  }

  /** @param mostBytes as Engine.step */
  step(now: number, mostBytes: number): number {
    this.#drainControl()
    this.#stopSeen = Atomics.load(this.ring.control, R.C_STOP)
    return this.engine.step(now, mostBytes)
  }

  /** The stream was told to stop since the last step. */
  get stopping(): boolean {
    return Atomics.load(this.ring.control, R.C_STOP) !== this.#stopSeen
  }

  /** Nothing that the engine could take was submitted, and nothing stopped or announced, since the engine last looked. */
  get quiet(): boolean {
    if (this.stopping || Atomics.load(this.ring.control, R.C_CONTROL) !== this.#control) return false
    return this.engine.full || !this.engine.hasSubmissions
  }

  /** While true, whoever submits writes the thread's eventfd. */
  set asleep(yes: boolean) {
    Atomics.store(this.ring.control, R.C_ASLEEP, yes ? 1 : 0)
  }

  /**
   * Runs before every take too, because a variant may be announced and used while a step is under way. A plain read will do: a submission
   * that was seen brings the count of what was announced before it.
   */
  readonly #drainControl = (): void => {
    const posted = this.ring.control[R.C_CONTROL]!
    while (this.#control !== posted) {
      const message = this.#receive()
      if (!message) throw new Error('a control message was announced and did not arrive')
      this.#control = (this.#control + 1) | 0
      if (message.type === 'variant') this.engine.addVariant(message.id, message.compiled, message.rates)
      else this.engine.dropVariant(message.id)
    }
  }

  /**
   * Whoever waits for settlements must not share this thread's CPU, because each would wait for the other while a CPU beside it idles: on a
   * small machine that is busy the kernel does not look for one (SIS_UTIL, kernel/sched/fair.c), nor does it move threads that ran
   * just now. A sleeper comes back to the CPU it slept on, and one that naps is often there. To look costs 0.1 µs. With a rate there is time
   * for both on one CPU, and moving costs 30 µs and what the caches hold.
   */
  readonly #settled = (): void => {
    const { control } = this.ring
    const watched = Atomics.load(control, R.C_WATCHED) === 1
    this.#settlements = (this.#settlements + 1) & 15
    if (!this.#paced && (watched || this.#settlements === 0)) this.leaveWaitersCpu()
    if (!watched) {
      this.#told = control[R.C_SETTLED]!
      return
    }
    this.#telling = true
    if (this.#paced) return
    const settled = control[R.C_SETTLED]!
    // On a busy host the two share a CPU and a wake-up costs two switches, so one must be worth as many batches as are left to send.
    const left = (control[R.C_SUBMITTED]! - settled) | 0
    if (this.#calm() || ((settled - this.#told) | 0) >= left) this.tell()
  }

  /** Wakes whoever waits for settlements that it was not told of. */
  tell(): void {
    if (!this.#telling) return
    const { control } = this.ring
    this.#telling = false
    this.#told = control[R.C_SETTLED]!
    if (this.#waker) this.#waker.signal()
    else Atomics.notify(control, R.C_SETTLED)
  }

  leaveWaitersCpu(): void {
    const cpu = this.ring.control[R.C_CPU]!
    if (cpu !== R.NO_CPU) this.#leaveCpu(cpu)
  }

  /** Closes the backend and says so to whoever waits for that. */
  close(): void {
    const { control } = this.ring
    this.backend.close()
    Atomics.store(control, R.C_CLOSED, 1)
    Atomics.notify(control, R.C_CLOSED)
    Atomics.notify(control, R.C_SETTLED)
    this.#waker?.forget()
  }
}
