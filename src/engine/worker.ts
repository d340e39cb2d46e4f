/**
 * The I/O thread: opens backends, and runs the loop over their engines (io-loop.ts).
 *
 * Messages to a thread that never returns to its event loop do not arrive by themselves: a count in shared memory says that there are
 * some, and ports are drained synchronously. A backend that is being opened, or waits for a call in another thread, takes turns of the
 * event loop: the loop gives it one after every turn of its members. Without members the thread waits in the event loop.
 */
import { performance } from 'node:perf_hooks'
import { type MessagePort, receiveMessageOnPort, threadId, workerData } from 'node:worker_threads'
import { currentCpu, getAffinity, leaveCpu, yieldCpu } from '../../ffi/affinity.js'
import { nativeCallsWork } from '../../ffi/libc.js'
import { noteLoaded } from '../../ffi/load-at-exit.js'
import { releaseAll } from '../../ffi/memory/region.js'
import { placeThread } from '../../ffi/placement.js'
import { EventFd, nameThread, PollSet, setTimerSlack, TimerFd } from '../../ffi/wait.js'
import { openBackend } from '../backend/open.js'
import { debug, debugFrom, firstOf } from '../debug.js'
import { Contention, HostLoad } from './contention.js'
import { isPaced } from './contract.js'
import { IoLoop } from './io-loop.js'
import { Member, type Waker } from './member.js'
import {
  type ControlMessage,
  type OpenStream,
  type Report,
  T_ANNOUNCED,
  T_BEAT,
  type ThreadInput,
  type ThreadMessage,
  toPlainError,
} from './protocol.js'
import { Ring } from './ring.js'

const { port, words, load, contention, setup, inherited } = workerData as ThreadInput

/** Linux's default. */
const LONGEST_SLACK_NANOSECONDS = 50_000

const others = new Contention(contention, new HostLoad().othersRun)
/** Messages taken from the thread's port. */
let seen = 0
let ending = false
/** Streams being opened, and calls that backends have made in another thread. */
let opening = 0
/** The loop runs with turns of the event loop in between. */
let turns = false
let wake: EventFd | undefined
let loop: IoLoop | undefined
/** Ends the wait in the event loop. */
let stir: () => void = () => {}
const ports = new Map<Member, MessagePort>()

// Not the global's, which is a getter that costs a third of the call.
const now = (): number => performance.now() * 1e6

const calm = (): boolean => others.maySpin(now())

function take(message: ThreadMessage): void {
  seen = (seen + 1) | 0
  if (message.type === 'end') ending = true
  else {
    opening++
    void open(message).finally(() => {
      opening--
      stir()
    })
  }
  stir()
}

function turning(until: Promise<void>): void {
  opening++
  void until.finally(() => {
    opening--
    stir()
  })
}

async function open(input: OpenStream): Promise<void> {
  try {
    if (wake?.fd !== input.eventFd) {
      wake?.forget()
      wake = new EventFd(input.eventFd)
    }
    loop ??= start()
    debug(() => `opens backend ${input.backend.kind} to ${endpointsOf(input)}`)
    const ring = new Ring(input.memory)
    const backend = await openBackend(input.backend, { counters: ring.counters, wake: () => {}, turning, numaNode: input.numaNode })
    const report = (message: Report): void => input.port.postMessage(message)
    const receive = () => receiveMessageOnPort(input.port)?.message as ControlMessage | undefined
    const waker = wakerOf(input)
    const member = new Member({
      backend,
      ring,
      options: input.options,
      report,
      receive,
      avoidCpu,
      waker,
      calm,
    })
    ports.set(member, input.port)
    report({ type: 'ready', caps: backend.caps, states: backend.states.read(), fds: backend.descriptors?.() ?? [] })
    loop.add(member)
    fitTimers()
    debug(() => `${input.backend.kind} to ${endpointsOf(input)} is open`)
  } catch (error) {
    sayLast(input.port, error)
  }
}

function endpointsOf({ backend }: OpenStream): string {
  return 'endpoints' in backend ? firstOf(backend.endpoints.map(({ text }) => text)) : ''
}

/**
 * How long a thread that keeps a rate takes to fall asleep. A thread that wakes another on its own CPU loses the CPU at once. On a busy host it
 * gets the CPU back a time slice of somebody else later, 4 ms. So a timer wakes the other thread when this one sleeps.
 */
const FALL_ASLEEP_NANOSECONDS = 50_000

function wakerOf({ wakeFd, options }: OpenStream): Waker | undefined {
  if (wakeFd === undefined) return undefined
  if (!isPaced(options)) return new EventFd(wakeFd)
  const timer = new TimerFd(wakeFd)
  let due = 0
  const signal = (): void => {
    const time = now()
    // A timer that is set already tells of this too. Put off again and again, it would never fire.
    if (time < due) return
    due = time + FALL_ASLEEP_NANOSECONDS
    timer.set(FALL_ASLEEP_NANOSECONDS)
  }
  return { signal, forget: () => timer.forget() }
}

/** Sets the thread up for its first stream; the streams after it find it so. @throws ERR_SPEADCAST_CONFIG */
function start(): IoLoop {
  const { affinity, priority, name } = setup
  placeThread({ affinity, inherited, priority })
  nameThread(name)
  debug(
    () =>
      `runs on CPUs ${getAffinity().join(', ')}${priority === undefined ? '' : `, priority ${typeof priority === 'number' ? priority : `${priority.policy}:${priority.level}`}`}`,
  )
  const tools = {
    now,
    offerCpu: yieldCpu,
    realTime: typeof priority === 'object',
    get wake() {
      return wake!
    },
    poll: new PollSet(16),
    announced: () => {
      words[T_BEAT]!++
      return Atomics.load(words, T_ANNOUNCED) !== seen || opening > 0 !== turns
    },
  }
  return new IoLoop(tools, others, ended)
}

let movable: boolean | undefined

/**
 * Leaves `cpu` if this thread runs there and may run elsewhere. It stays while others want the CPUs, because it would land among them and wait
 * whole time slices, where sharing one CPU with a thread of its own that sleeps costs next to nothing (8 KiB heaps beside one endless loop:
 * 7.1 GB/s instead of 4.4).
 */
function avoidCpu(cpu: number): void {
  if (!calm()) return
  movable ??= setup.affinity.length === 0 && getAffinity().length > 1
  if (movable && currentCpu() === cpu) leaveCpu(cpu)
}

/** The stream with the shortest bursts decides. A stream without a rate has no deadlines but those of a backend that asked for a pause. */
function fitTimers(): void {
  setTimerSlack(Math.min(LONGEST_SLACK_NANOSECONDS, ...[...ports.keys()].map(({ engine }) => engine.slackNanoseconds)))
}

function ended(member: Member, error: unknown): void {
  const memberPort = ports.get(member)!
  ports.delete(member)
  fitTimers()
  debug(() => `a stream has left${error === undefined ? '' : `, because ${(error as Error).stack}`}`)
  const { lingering } = member.backend
  if (lingering) void lingering.then(() => sayLast(memberPort, error))
  else sayLast(memberPort, error)
}

function sayLast(streamPort: MessagePort, error: unknown): void {
  if (error !== undefined) streamPort.postMessage({ type: 'failed', error: toPlainError(error) } satisfies Report)
  streamPort.postMessage({ type: 'closed' } satisfies Report)
  streamPort.close()
}

async function run(): Promise<void> {
  debugFrom(`I/O thread ${threadId}`)
  port.on('message', take)
  // The main thread still chooses a backend while we load the code that nearly all streams want.
  nativeCallsWork()
  noteLoaded(load)
  for (;;) {
    for (let item = receiveMessageOnPort(port); item; item = receiveMessageOnPort(port)) take(item.message as ThreadMessage)
    const members = loop?.size ?? 0
    turns = opening > 0
    if (members > 0) loop!.run(turns)
    else if (ending && opening === 0) return
    // A turn of the event loop, at once if there are members to go on with.
    if (opening > 0 && members > 0) await new Promise(setImmediate)
    else if (members === 0)
      await new Promise<void>((resolve) => {
        stir = resolve
      })
  }
}

try {
  await run()
} finally {
  releaseAll()
  port.close()
}
