/**
 * One stream's sending half inside an I/O thread: its engine, the ring that it shares with the stream's own thread, and the port by which
 * variants come. io-loop.ts decides when it steps.
 */
import type { Backend } from '../backend/backend.js'
import { COUNTER } from '../stats.js'
import { type EngineMessage, type EngineOptions, isPaced, NEXT_IDLE, NEXT_STEP_NOW } from './contract.js'
import { Engine } from './engine.js'
import type { ControlMessage } from './protocol.js'
import { NO_CPU, type Ring } from './ring.js'
import type { TaiReading } from './schedule.js'

/** Wakes the stream's own thread. */
export interface Waker {
  signal(): void
  /** Lets go of the descriptor, which the stream's thread closes. */
  forget(): void
}

export interface MemberParts {
  readonly backend: Backend
  readonly ring: Ring
  readonly options: EngineOptions
  /** Sends a message to the stream's thread. */
  readonly report: (message: EngineMessage) => void
  /** The next control message; undefined when there is none. */
  readonly receive: () => ControlMessage | undefined
  /** Leaves `cpu`, where somebody waits for settlements, if this thread is there. */
  readonly avoidCpu: (cpu: number) => void
  /** undefined = by the ring's notification. */
  readonly waker?: Waker | undefined
  /** Whether nobody else wants the CPUs. */
  readonly calm?: () => boolean
  /** TAI, for a schedule. Default the kernel's. */
  readonly tai?: TaiReading
  /** The clock of step's `now`. Default this thread's performance.now(), in nanoseconds. */
  readonly clock?: () => number
}

export class Member {
  readonly engine: Engine
  readonly ring: Ring
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
  /** Waits to come that sleep in pieces, because one was long. */
  dozes = 0
  readonly #receive: () => ControlMessage | undefined
  readonly #avoidCpu: (cpu: number) => void
  #control = 0
  #stopSeen = 0
  #settlements = 0
  readonly #paced: boolean
  readonly #waker: Waker | undefined
  readonly #calm: () => boolean
  /** The settled count as the stream's thread was last told of it, or last did not wait. */
  #told: number
  #telling = false

  constructor({ backend, ring, options, report, receive, avoidCpu, waker, calm, clock, tai }: MemberParts) {
    this.backend = backend
    this.ring = ring
    this.#told = ring.published
    this.#paced = isPaced(options)
    this.#waker = waker
    this.#calm = calm ?? (() => true)
    this.#receive = receive
    this.#avoidCpu = avoidCpu
    this.engine = new Engine(backend, ring, options, report, this.#settled, this.#drainControl, clock, tai)
  }

  /** UDP payload bytes it ever posted. */
  get bytes(): number {
    return this.ring.counters[COUNTER.udpBytes]!
  }

  /** @param mostBytes as Engine.step */
  step(now: number, mostBytes: number): number {
    this.#drainControl()
    this.#stopSeen = this.ring.stopWanted
    if (this.woken && (this.waitsFor === NEXT_IDLE || this.engine.awaitsNews)) this.engine.look()
    return this.engine.step(now, mostBytes)
  }

  /** The stream was told to stop since the last step. */
  get stopping(): boolean {
    return this.ring.stopWanted !== this.#stopSeen
  }

  /** Nothing that the engine could take was submitted, and nothing stopped or announced, since the engine last looked. */
  get quiet(): boolean {
    if (this.stopping || this.ring.announced !== this.#control) return false
    return this.engine.full || !this.engine.hasSubmissions
  }

  /** While true, a thread that submits writes this thread's eventfd. */
  set asleep(yes: boolean) {
    this.ring.asleep = yes
  }

  /**
   * Runs before every claim too, because a variant may be announced and used while a step is under way. The plain read suffices, because a
   * submission that was seen brings the count of the messages announced before it.
   */
  readonly #drainControl = (): void => {
    const announced = this.ring.announcedBefore
    while (this.#control !== announced) {
      const message = this.#receive()
      if (!message) throw new Error('a control message was announced and did not arrive')
      this.#control = (this.#control + 1) | 0
      if (message.type === 'variant') this.engine.addVariant(message.id, message.compiled, message.rates)
      else if (message.type === 'drop') this.engine.dropVariant(message.id)
      else if (message.type === 'interlude') this.engine.interlude(message.id, message.heaps, message.rows, message.explicitCnts)
      else if (message.type === 'recall') this.engine.recallInterlude()
      else if (message.type === 'loop' || message.type === 'turn') this.engine.loops.control(message)
      else if (message.type === 'resume') this.backend.resume?.(message.substream)
      else if (message.type === 'keep') this.backend.keep?.(message.region)
      else this.backend.forget?.(message.region)
    }
  }

  /**
   * The thread that waits for settlements must not share this thread's CPU, because each would wait for the other while a CPU beside them
   * idles: on a small machine that is busy the kernel does not look for an idle one (SIS_UTIL, kernel/sched/fair.c), nor does it move threads
   * that ran just now. A sleeper comes back to the CPU it slept on, and one that naps is often there. A look costs 0.1 µs. With a rate there
   * is time for both on one CPU, and moving costs 30 µs and the caches' contents.
   */
  readonly #settled = (): void => {
    const { ring } = this
    const watched = ring.watchedNow
    this.#settlements = (this.#settlements + 1) & 15
    if (!this.#paced && (watched || this.#settlements === 0)) this.avoidWaitersCpu()
    if (!watched) {
      this.#told = ring.published
      return
    }
    this.#telling = true
    if (this.#paced) return
    // On a busy host the two share a CPU and a wake-up costs two switches, so it must tell of as many batches as are left to send.
    if (this.#calm() || ((ring.published - this.#told) | 0) >= ring.unsettled) this.tell()
  }

  /** Wakes the thread that waits for settlements, if it was not told of some. */
  tell(): void {
    if (!this.#telling) return
    const { ring } = this
    this.#telling = false
    this.#told = ring.published
    if (this.#waker) this.#waker.signal()
    else ring.notifySettled()
  }

  avoidWaitersCpu(): void {
    const cpu = this.ring.waiterCpu
    if (cpu !== NO_CPU) this.#avoidCpu(cpu)
  }

  /** Closes the backend and says so to all who wait for that. */
  close(): void {
    this.backend.close()
    this.ring.noteClosed()
    this.#waker?.forget()
  }
}
