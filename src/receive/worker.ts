/**
 * The receiving thread: a loop of recvmmsg, session, and a bounded sleep. It never returns to its event loop, so main speaks to it
 * through the control words and an eventfd only; it speaks to main by postMessage (idioms.md 12).
 */
import { setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import { ARENA_BYTES, ARENA_MESSAGE_BYTES, droppedBySocket, ReceiveArena } from '../../ffi/recvmmsg.js'
import { Scratch } from '../../ffi/scratch.js'
import { EventFd, PollSet } from '../../ffi/wait.js'
import { SpeadcastError } from '../errors.js'
import { CreditLedger, isHello } from './credits.js'
import { type EndReason, ReceiveSession, STAT } from './session.js'
import { CONTROL, kibibytesOf, type WorkerInput, type WorkerOutput } from './worker-protocol.js'

function run(input: WorkerInput, post: (message: WorkerOutput, transfer?: ArrayBuffer[]) => void): void {
  const { fds, options, queueHeaps, queueKibibytes } = input
  const control = new Int32Array(input.control)
  const stats = new Float64Array(input.stats)
  const arena = new ReceiveArena(input.memory)
  const view = new DataView(arena.buffer)
  const session = new ReceiveSession(arena.buffer, ARENA_BYTES, options, stats)
  const credits = input.creditBufferBytes > 0 ? new CreditLedger(input.creditBufferBytes) : undefined
  const scratch = new Scratch(64)
  const wake = new EventFd(input.wakeFd)
  const waitForPackets = new PollSet(fds.length + 1)
  const waitForMain = new PollSet(1)
  waitForPackets.add(wake.fd)
  waitForMain.add(wake.fd)
  for (const fd of fds) waitForPackets.add(fd)
  let postedHeaps = 0
  let postedKibibytes = 0

  const deliver = (): void => {
    const heaps = session.outbox.splice(0)
    for (const heap of heaps) {
      postedHeaps++
      postedKibibytes += kibibytesOf(heap)
    }
    post(
      { type: 'heaps', heaps },
      heaps.flatMap((heap) => {
        const first = heap.items.values().next().value
        return first ? [first.bytes.buffer] : []
      }),
    )
  }
  const queueFull = (): boolean =>
    ((postedHeaps - Atomics.load(control, CONTROL.TAKEN_HEAPS)) | 0) >= queueHeaps ||
    ((postedKibibytes - Atomics.load(control, CONTROL.TAKEN_KIBIBYTES)) | 0) >= queueKibibytes
  const dropped = (): number => fds.reduce((sum, fd) => sum + droppedBySocket(fd, scratch), 0)
  /** Sleeps until a descriptor of `set` is ready, main signals, or `ms` (≤ 50) pass; not at all if `awake()` says so behind the flag. */
  const sleep = (set: PollSet, ms: number, awake: () => boolean): void => {
    Atomics.store(control, CONTROL.ASLEEP, 1)
    const woken = Atomics.load(control, CONTROL.STOP) === 0 && !awake() && set.wait(ms) > 0 && set.revents(0) !== 0
    Atomics.store(control, CONTROL.ASLEEP, 0)
    if (woken) wake.clear()
  }
  const never = () => false

  /** One recvmmsg; returns the messages taken. */
  const take = (endpoint: number): number => {
    const fd = fds[endpoint]!
    const n = arena.receive(fd)
    for (let i = 0; i < n; i++) {
      const base = i * ARENA_MESSAGE_BYTES
      const length = arena.length[i]!
      if (arena.truncated[i]) {
        session.truncated()
        continue
      }
      if (credits && isHello(view, base, length)) {
        const to = arena.senderAddress(i)
        credits.hello(`${fd} ${to.join()}`, (credit) => arena.reply(fd, credit, to), stats[STAT.bytes]!, stats[STAT.heaps]!)
        continue
      }
      session.message()
      const segment = arena.segmentBytes[i]!
      const sender = arena.sender[i]!
      for (let at = 0; at < length; at += segment) {
        session.packet(base + at, Math.min(segment, length - at), sender, endpoint)
      }
    }
    return n
  }

  // setpriority(2) with 0 is this thread alone on Linux. What waits in a full socket is lost, so receiving goes before the rest of a busy
  // machine; without CAP_SYS_NICE it takes its turn.
  try {
    setPriority(0, -10)
  } catch {
    // not allowed
  }
  session.start(performance.now())
  post({ type: 'ready' })
  let reason: EndReason | undefined
  while (reason === undefined) {
    if (Atomics.load(control, CONTROL.STOP) !== 0) {
      reason = 'closed'
      break
    }
    // A full queue leaves the packets in the socket: the kernel holds what fits, and counts what does not.
    const full = options.deliver && queueFull()
    let taken = 0
    const before = performance.now()
    // One call per socket and turn: what came to several endpoints at once stays nearly in order.
    if (!full) for (let endpoint = 0; endpoint < fds.length; endpoint++) taken += take(endpoint)
    const now = performance.now()
    if (taken > 0) {
      session.arrived(before)
      session.arrived(now)
    }
    if (session.outbox.length > 0) deliver()
    credits?.announce(stats[STAT.bytes]!, stats[STAT.heaps]!, taken === 0)
    reason = session.ended(now, taken === 0 && !full)
    if (reason !== undefined) break
    if (taken > 0) continue
    stats[STAT.droppedByKernel] = dropped()
    if (full) sleep(waitForMain, session.sleepMs(now), () => !queueFull())
    else sleep(waitForPackets, session.sleepMs(now), never)
  }
  const summary = session.finish(reason)
  stats[STAT.droppedByKernel] = dropped()
  if (session.outbox.length > 0) deliver()
  credits?.announce(stats[STAT.bytes]!, stats[STAT.heaps]!, true)
  post({ type: 'end', summary })
}

/** Whatever happens here has to reach main as a value: an Error's class and cause do not survive the crossing. */
function main(): void {
  const port = parentPort
  if (!port) return
  const post = (message: WorkerOutput, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer)
  try {
    run(workerData as WorkerInput, post)
  } catch (error) {
    const code = error instanceof SpeadcastError ? error.code : 'ERR_SPEADCAST_NATIVE'
    const { message, stack = '' } = error as Error
    post({ type: 'error', code, message, detail: stack })
  }
}

main()
