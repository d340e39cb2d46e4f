/**
 * The receiving thread: a loop that takes packets from a source into the session, and sleeps for a bounded time. It never returns to its
 * event loop. So main speaks to it through the control words and an eventfd only, and it speaks to main by postMessage
 * (docs/ground-rules.md, "Threads and workers").
 */
import { setPriority } from 'node:os'
import { parentPort, workerData } from 'node:worker_threads'
import { nativeCallsWork } from '../../ffi/libc.js'
import { noteLoaded } from '../../ffi/load-at-exit.js'
import { type Placing, placeThread } from '../../ffi/placement.js'
import { EventFd, nameThread, PollSet } from '../../ffi/wait.js'
import { SpeadcastError } from '../errors.js'
import { BoundedNews } from './bounded-news.js'
import { DropWatch } from './drop-watch.js'
import { SenderWatch } from './sender-watch.js'
import { type EndReason, ReceiveSession } from './session.js'
import type { PacketSource } from './source.js'
import { setDropped } from './stats.js'
import { CONTROL, kibibytesOf, type WorkerInput, type WorkerOutput } from './worker-protocol.js'

type Post = (message: WorkerOutput, transfer?: ArrayBuffer[]) => void

/** Time after which drops are counted, also while there is always something to take. */
const COUNT_MS = 50

function run(input: WorkerInput, source: PacketSource, stats: Float64Array, post: Post, news: BoundedNews): void {
  const { options, queueHeaps, queueKibibytes, texts } = input
  const { fds, endpoints } = source
  const control = new Int32Array(input.control)
  const nameOf = (sender: number) => source.nameOf?.(sender) ?? null
  const session = new ReceiveSession(source.buffer, source.freeAt, options, stats, nameOf)
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
  /**
   * Sleeps until a descriptor of `set` is ready, the main thread signals, or `ms` (≤ 50) pass. Sets ASLEEP first, then calls `awake`, and does
   * not sleep if that returns true.
   */
  const sleep = (set: PollSet, ms: number, awake: () => boolean): void => {
    Atomics.store(control, CONTROL.ASLEEP, 1)
    const woken = Atomics.load(control, CONTROL.STOP) === 0 && !awake() && set.wait(ms * 1e6) > 0 && set.revents(0) !== 0
    Atomics.store(control, CONTROL.ASLEEP, 0)
    if (woken) wake.clear()
  }
  const never = () => false
  const droppedAt = (endpoint: number): number => source.dropped(endpoint)
  const startedAt = performance.now()
  const senders = new SenderWatch({ senders: session.senders, news, texts, nameOf }, startedAt)
  const drops = new DropWatch(stats, texts, news)
  let countAt = 0
  const countDropped = (nowMs: number): void => {
    countAt = nowMs + COUNT_MS
    setDropped(stats, options.endpoints, droppedAt)
    drops.look(nowMs)
    news.look(nowMs)
  }

  session.start(startedAt)
  post({ type: 'ready', peers: source.peers ?? [] })
  let reason: EndReason | undefined
  let armed = false
  while (reason === undefined) {
    if (Atomics.load(control, CONTROL.STOP) !== 0) {
      reason = 'closed'
      break
    }
    // A full queue leaves the packets in the socket. The kernel holds those that fit and counts the others.
    const full = options.deliver && queueFull()
    let taken = 0
    const before = performance.now()
    session.look(before)
    // One call per endpoint and turn, so that packets that came to several endpoints at once stay nearly in order.
    if (!full) for (let endpoint = 0; endpoint < endpoints; endpoint++) taken += source.take(endpoint, session)
    const now = performance.now()
    if (taken > 0) {
      session.arrived(before)
      session.arrived(now)
    }
    if (session.outbox.length > 0) deliver()
    source.announce?.(taken === 0)
    reason = session.ended(now, taken === 0 && !full)
    if (session.outbox.length > 0) deliver()
    if (reason !== undefined) break
    senders.look(now, full)
    if (taken === 0 || now >= countAt) countDropped(now)
    if (taken > 0) {
      armed = false
      continue
    }
    if (full) sleep(waitForMain, session.sleepMs(now), () => !queueFull())
    else if (source.arm && !armed) {
      source.arm()
      armed = true
    } else {
      sleep(waitForPackets, session.sleepMs(now), never)
      source.woken?.()
      armed = false
    }
  }
  const summary = session.finish(reason)
  const endedAt = performance.now()
  countDropped(endedAt)
  senders.end(endedAt)
  drops.end(endedAt)
  news.look(Number.POSITIVE_INFINITY)
  if (session.outbox.length > 0) deliver()
  source.announce?.(true)
  post({ type: 'end', summary })
}

async function openSource({ source, memory, texts }: WorkerInput, stats: Float64Array, news: BoundedNews): Promise<PacketSource> {
  if (source.kind === 'udp') return new (await import('./udp-source.js')).UdpSource(source, memory, stats)
  if (source.kind === 'tcp') {
    const { TcpSource } = await import('./tcp-source.js')
    return new TcpSource(source, texts, memory, stats, news)
  }
  return (await import('./rdma-source.js')).RdmaSource.open(source, memory)
}

/** @throws ERR_SPEADCAST_CONFIG */
function place(placing: Placing): void {
  placeThread(placing)
  if (placing.priority !== undefined) return
  // On Linux setpriority(2) with 0 means this thread alone. A full socket loses packets, so receiving goes before the rest of a busy
  // machine; without CAP_SYS_NICE it takes its turn.
  try {
    setPriority(0, -10)
  } catch {
    // not allowed
  }
}

/** Reports failures to main as values, because an Error's class and cause do not survive the crossing. */
async function main(): Promise<void> {
  const port = parentPort
  if (!port) return
  const post: Post = (message, transfer = []) => port.postMessage(message, transfer)
  const input = workerData as WorkerInput
  let source: PacketSource | undefined
  try {
    nativeCallsWork()
    noteLoaded(input.load)
    nameThread('speadcast recv')
    place(input.placing)
    const stats = new Float64Array(input.stats)
    const news = new BoundedNews((item) => post({ type: 'told', item }))
    source = await openSource(input, stats, news)
    run(input, source, stats, post, news)
  } catch (error) {
    const code = error instanceof SpeadcastError ? error.code : 'ERR_SPEADCAST_NATIVE'
    const { message, stack = '' } = error as Error
    post({ type: 'error', code, message, detail: stack })
  } finally {
    source?.close()
  }
}

void main()
