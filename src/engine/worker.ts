/**
 * The I/O thread: opens the backend, steps the engine, sleeps in one bounded wait.
 *
 * Every wait ends within 50 ms, because process.exit() waits for a thread that is inside a native call (idioms.md 11), and earlier
 * through the eventfd. Messages to a thread that never returns to its event loop do not arrive by themselves: the port is
 * drained synchronously whenever the ring's control count has moved.
 */
import { performance } from 'node:perf_hooks'
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads'
import { currentCpu, getAffinity, leaveCpu, setAffinity, yieldCpu } from '../../ffi/affinity.js'
import { nativeCallsWork } from '../../ffi/libc.js'
import { releaseAll } from '../../ffi/region.js'
import { EventFd, PollSet, sharpenTimers } from '../../ffi/wait.js'
import { openBackend } from '../backend/open.js'
import { SpeadcastError } from '../errors.js'
import { Engine, NEXT_AT_DEADLINE, NEXT_IDLE, NEXT_STEP_NOW, NEXT_STOPPED, NEXT_WHEN_REAPED, NEXT_WHEN_WRITABLE } from './engine.js'
import { type ControlMessage, type Report, toPlainError, type WorkerInput } from './protocol.js'
import * as R from './ring.js'

const BOUND_NANOSECONDS = 50e6
/** Waking from a sleep costs more than this; shorter waits spin. */
const SPIN_NANOSECONDS = 100_000
/** Looks for work, of some 0.1 µs, between two offers of the CPU to others. */
const LOOKS = 16
/** Somebody else had the CPU if offering it took longer. */
const SHARED_NANOSECONDS = 10_000
/** A sleep that was ended at once, with what falling asleep and waking up take. */
const SHORT_GAP_NANOSECONDS = 2 * SPIN_NANOSECONDS

const port = workerData as MessagePort
const input = await told()
const ring = new R.Ring(input.memory)
// Not the global's, which is a getter that costs a third of the call.
const now = (): number => performance.now() * 1e6

function pin(cpus: readonly number[]): void {
  try {
    setAffinity(cpus)
  } catch (cause) {
    const why = (cause as Error).message
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `affinity: none of CPUs ${cpus.join(', ')} may be used here (${why})`, {
      cause,
    })
  }
}

/** What the main thread wants of us. It is still finding out while we load what nearly all want. */
async function told(): Promise<WorkerInput> {
  const message = new Promise<WorkerInput>((resolve) => {
    parentPort!.once('message', resolve)
  })
  nativeCallsWork()
  return message
}

async function run(): Promise<void> {
  const report = (message: Report): void => port.postMessage(message)
  const wake = new EventFd(input.eventFd)
  if (input.affinity.length > 0) pin(input.affinity)
  sharpenTimers()
  const backend = await openBackend(input.backend, { counters: ring.counters, wake: () => {} })
  report({ type: 'ready', caps: backend.caps, states: backend.states(), fds: backend.descriptors?.() ?? [] })
  const poll = new PollSet(16)
  let control = 0

  /**
   * Also before every take: a variant may be announced and used while a step is under way. A plain read will do: a submission that was
   * seen brings the count of what was announced before it.
   */
  const drainControl = (): void => {
    const posted = ring.control[R.C_CONTROL]!
    while (control !== posted) {
      const message = receiveMessageOnPort(port)?.message as ControlMessage | undefined
      if (!message) throw new Error('a control message was announced and did not arrive')
      control = (control + 1) | 0
      if (message.type === 'variant') engine.addVariant(message.id, message.compiled, message.rates)
      else engine.dropVariant(message.id)
    }
  }
  const movable = input.affinity.length === 0 && getAffinity().length > 1
  /**
   * Whoever waits for settlements must not share our CPU, where each would wait for the other while a CPU beside it idles: on a small
   * machine that is busy the kernel does not look for one (SIS_UTIL, kernel/sched/fair.c), nor does it move threads that ran just now.
   */
  const part = (): void => {
    const cpu = ring.control[R.C_CPU]!
    if (movable && cpu !== R.NO_CPU && currentCpu() === cpu) leaveCpu(cpu)
  }
  let settlements = 0
  const settled = (): void => {
    const watched = Atomics.load(ring.control, R.C_WATCHED) === 1
    // Who sleeps comes back to the CPU it slept on; who naps is often there. To look costs 0.1 µs.
    settlements = (settlements + 1) & 15
    if (watched || settlements === 0) part()
    if (watched) Atomics.notify(ring.control, R.C_SETTLED)
  }
  const giveWay = (): void => {
    const before = now()
    yieldCpu()
    if (now() - before > SHARED_NANOSECONDS) part()
  }
  const engine = new Engine(backend, ring, input.options, report, settled, drainControl)

  /** Nothing was submitted, stopped or announced since the engine last looked. */
  const quiet = (): boolean =>
    Atomics.load(ring.control, R.C_STOP) === stopSeen &&
    Atomics.load(ring.control, R.C_CONTROL) === control &&
    !engine.hasSubmissions
  let stopSeen = 0

  const sleep = (nanoseconds: number, wantWrite: boolean, wakeOnSubmit: boolean): void => {
    poll.reset()
    poll.add(wake.fd)
    for (const { fd, events } of backend.waitSet(wantWrite)) poll.add(fd, events)
    Atomics.store(ring.control, R.C_ASLEEP, 1)
    if (!wakeOnSubmit || quiet()) poll.wait(Math.min(nanoseconds, BOUND_NANOSECONDS))
    Atomics.store(ring.control, R.C_ASLEEP, 0)
    if (poll.revents(0) !== 0) wake.clear()
  }

  const spin = (until: number): void => {
    while (now() < until);
  }

  /** For a submission; false if there is none by then. Who submits may be waiting for this very CPU. */
  const spinForWork = (until: number): boolean => {
    for (let looks = 1; now() < until; looks++) {
      if (!quiet()) return true
      if (looks % LOOKS === 0) giveWay()
    }
    return false
  }

  /** The last wait for a submission was short. With more streams than cores, or slow ones, spinning takes time from those who have work. */
  let worthSpinning = true
  let overshoot = 20_000
  /** Since when the engine has been waiting for the backend; 0 if it is not. */
  let waitingSince = 0
  try {
    for (;;) {
      drainControl()
      stopSeen = Atomics.load(ring.control, R.C_STOP)
      const next = engine.step(now())
      if (next !== NEXT_WHEN_WRITABLE && next !== NEXT_WHEN_REAPED) waitingSince = 0
      if (next === NEXT_STEP_NOW) continue
      if (next === NEXT_STOPPED) break
      if (next === NEXT_IDLE) {
        const since = now()
        if (!(worthSpinning && spinForWork(since + SPIN_NANOSECONDS))) sleep(BOUND_NANOSECONDS, false, true)
        worthSpinning = now() - since < SHORT_GAP_NANOSECONDS
      } else if (next === NEXT_AT_DEADLINE) {
        const left = engine.deadline - now()
        if (left > SPIN_NANOSECONDS + overshoot) {
          const target = now() + left - overshoot
          sleep(left - overshoot, false, false)
          const late = now() - target
          if (late > 0 && left < BOUND_NANOSECONDS) overshoot += (Math.min(late, 200_000) - overshoot) / 8
        } else {
          spin(engine.deadline)
        }
      } else if (next === NEXT_WHEN_WRITABLE || next === NEXT_WHEN_REAPED) {
        const time = now()
        if (waitingSince === 0) waitingSince = time
        if (time - waitingSince < backend.caps.pollNanoseconds || backend.arm?.() === false) continue
        waitingSince = 0
        sleep(BOUND_NANOSECONDS, next === NEXT_WHEN_WRITABLE, next === NEXT_WHEN_REAPED)
      }
    }
  } finally {
    backend.close()
    Atomics.store(ring.control, R.C_CLOSED, 1)
    Atomics.notify(ring.control, R.C_CLOSED)
    Atomics.notify(ring.control, R.C_SETTLED)
  }
}

try {
  await run()
} catch (error) {
  port.postMessage({ type: 'failed', error: toPlainError(error) } satisfies Report)
} finally {
  releaseAll()
  port.close()
}
