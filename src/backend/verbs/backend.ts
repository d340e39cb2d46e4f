/**
 * Packets through a queue pair of libibverbs: the NIC gathers them from registered memory, and the kernel takes no part. Evidence:
 * `completed` (the NIC's completion).
 *
 * | part            | what it does                                                                         |
 * |-----------------|--------------------------------------------------------------------------------------|
 * | this class      | posts and polls                                                                      |
 * | QueueKind       | knows what stands in front of a packet and where it goes: raw.ts, datagrams.ts       |
 * | Registrations   | pins memory                                                                          |
 * | InFlight        | accounts for what was posted                                                         |
 * | JoinedPostings  | posts several postings in one call                                                   |
 * | Recovery        | holds the queue and its state, and makes it ready again after a failure              |
 * | DeviceWatch     | takes what the device says beside completions                                        |
 * | Silence         | tells a queue that is held up from one that is dead                                  |
 *
 * One work request in every depth / SIGNALS is signalled, and the last packet of every post.
 * Teardown: queue pair, completion queue, channel → registrations → domain → device.
 */
import { POLLIN } from '../../../ffi/layout.js'
import { onNode } from '../../../ffi/memory/numa.js'
import { ERRNO } from '../../../ffi/native-error.js'
import { IBV_WC_WR_FLUSH_ERR } from '../../../ffi/verbs/layout.js'
import { POLL_BATCH, type SendQueue } from '../../../ffi/verbs/send-queue.js'
import type { PacketTable, TableRegion } from '../../batch/table.js'
import { COUNTER } from '../../stats.js'
import {
  again,
  type Backend,
  type BackendCaps,
  type BackendEnvironment,
  CAUSE_FLUSHED,
  CAUSE_STATUS,
  type CompileHints,
  POST_FATAL,
  POST_OK,
  POST_SKIP,
  type PostResult,
  type ReapResult,
} from '../backend.js'
import type { States, StateWords } from '../states.js'
import { CAUSE_CQ_ERR, DeviceWatch } from './device-watch.js'
import { InFlight } from './in-flight.js'
import { JoinedPostings, MAX_JOINS } from './joined.js'
import { causeName, type OpenDevice, type QueueOptions } from './open.js'
import { MAX_POSTING_NUMBER, type VerbsPosting } from './posting.js'
import type { QueueKind } from './queue-kind.js'
import { BROKEN, CLOSED, READY, RECOVERING, Recovery } from './recovery.js'
import { Registrations } from './registrations.js'
import { SIGNALS, Silence } from './silence.js'

const PAUSE_NANOSECONDS = 20_000
const NEIGHBOUR_PAUSE_NANOSECONDS = 500_000
const PINNING_PAUSE_NANOSECONDS = 1_000_000
/**
 * A work request that the provider refuses this often with room in the queue is given up, and the next at once until one is taken.
 */
const REPOSTS = 8
const NOTHING: readonly { fd: number; events: number }[] = []

export class VerbsBackend<V extends VerbsPosting> implements Backend {
  readonly caps: BackendCaps
  readonly states: States
  readonly #device: OpenDevice
  readonly #kind: QueueKind<V>
  readonly #counters: Float64Array
  readonly #numaNode: number | undefined
  readonly #registrations: Registrations
  readonly #inFlight: InFlight
  readonly #joined = new JoinedPostings()
  readonly #recovery: Recovery<V>
  readonly #watch: DeviceWatch<V>
  readonly #silence: Silence
  lingering: Promise<void> | undefined
  readonly #waitSet: readonly [queue: { fd: number; events: number }, device: { fd: number; events: number }]
  /** The kind's descriptor stays the same, whatever moves. */
  readonly #idleSet: readonly { fd: number; events: number }[]
  readonly #postings = new Set<V>()
  #nextPosting = 1
  /** Posts in a row that the provider refused though there was room. */
  #refusals = 0
  /** The thread has slept since the last reap, or was about to. */
  #armed = false

  constructor(options: QueueOptions, device: OpenDevice, kind: QueueKind<V>, queue: SendQueue, environment: BackendEnvironment) {
    this.#device = device
    this.#kind = kind
    this.#counters = environment.counters
    this.#numaNode = environment.numaNode
    this.#registrations = new Registrations(device.domain, kind.name, environment.turning ?? (() => {}))
    this.#inFlight = new InFlight(queue.depth)
    const rekey = () => {
      for (const posting of this.#postings) posting.keyed = false
    }
    this.#recovery = new Recovery(
      { device, kind, inFlight: this.#inFlight, registrations: this.#registrations, numaNode: this.#numaNode, rekey },
      queue,
    )
    this.#watch = new DeviceWatch(device, kind, this.#recovery)
    this.#silence = new Silence(options, kind, device)
    this.#waitSet = [
      { fd: queue.channelFd, events: POLLIN },
      { fd: device.context.asyncFd, events: POLLIN },
    ]
    this.#idleSet = kind.watchFd === undefined ? NOTHING : [{ fd: kind.watchFd, events: POLLIN }]
    this.caps = {
      name: kind.name,
      evidence: 'completed',
      substreams: options.endpoints.length,
      maxPacketSizeBytes: options.packetSizeBytes,
      headroomBytes: kind.headroomBytes,
      mergesEqualPackets: false,
      wireOverheadBytes: kind.wireOverheadBytes,
      pollNanoseconds: options.pollNanoseconds,
      pacesItself: kind.pacesItself,
    }
    this.states = device.states
    this.states.add(() => this.#words())
  }

  #words(): StateWords {
    const { rdma } = this.#device
    return {
      device: rdma.device,
      port: rdma.port,
      queueDepth: this.#recovery.queue.depth,
      ...(this.caps.pacesItself && { rateMethod: 'hw', rateMethodReason: 'asked for' }),
    }
  }

  /** Memory is pinned by `compile`, for as long as a posting uses it. */
  register(_region: TableRegion): void {}

  keep(region: TableRegion): void {
    this.#registrations.keep(region)
  }

  forget(region: TableRegion): void {
    this.#registrations.dismiss(region)
  }

  /** @throws SpeadcastError ERR_SPEADCAST_BACKEND when memory cannot be pinned, as beyond RLIMIT_MEMLOCK */
  compile(table: PacketTable, _hints: CompileHints): V {
    const { queue, generation } = this.#recovery
    const used: TableRegion[] = []
    try {
      const options = {
        number: this.#nextPosting++ % MAX_POSTING_NUMBER,
        generation,
        signalEvery: this.#silence.signalEvery(queue.depth),
        maxSges: queue.options.sges,
        use: (region: TableRegion) => {
          this.#registrations.use(region)
          used.push(region)
        },
      }
      const posting = onNode(this.#numaNode, () => this.#kind.compile(table, options))
      this.#registrations.key(posting)
      this.#postings.add(posting)
      return posting
    } catch (error) {
      for (const region of used) this.#registrations.unuse(region)
      throw error
    }
  }

  release(posting: V): void {
    for (const region of posting.regions) this.#registrations.unuse(region)
    this.#postings.delete(posting)
    posting.release()
  }

  /** One call to the provider for as many packets as the send queue has room for; allocates nothing unless something fails. */
  post(posting: V, first: number, end: number, out: PostResult): void {
    const recovery = this.#recovery
    const inFlight = this.#inFlight
    out.kind = POST_OK
    out.accepted = 0
    out.skipped = 0
    this.#watch.posts(first > 0)
    if ((recovery.state !== READY || !posting.keyed) && this.#refuse(posting, first, end, out)) return
    let n = Math.min(this.#room(end - first), end - first)
    if (n === 0) {
      this.#counters[COUNTER.waits]! += 1
      again(out, 'writable')
      return
    }
    n = this.#kind.admit(posting, first, n)
    if (n === 0) {
      const errno = this.#kind.refusal(posting, first)
      if (errno === 0) again(out, NEIGHBOUR_PAUSE_NANOSECONDS, ERRNO.EHOSTUNREACH, posting.table.substream[first]!)
      else this.#skip(posting, first, end, errno, out)
      return
    }
    // After a recovery nothing of the posting is under way.
    if (posting.generation !== recovery.generation) posting.renumber(recovery.generation)
    this.#kind.prepare(posting, first, first + n)
    const accepted = posting.chain.post(recovery.queue, first, first + n)
    out.accepted = accepted
    this.#counters[COUNTER.posts]! += 1
    if (accepted > 0) {
      inFlight.take(posting, first, first + accepted, accepted === n)
      this.#refusals = 0
    }
    if (accepted < n) this.#refused(posting, first + accepted, out)
  }

  /** Answers a post in a state in which nothing is posted, or of memory that has no key; false where it has one now. */
  #refuse(posting: V, first: number, end: number, out: PostResult): boolean {
    const { state } = this.#recovery
    if (state === BROKEN) {
      out.kind = POST_FATAL
      out.errno = ERRNO.EIO
      out.substream = posting.table.substream[first]!
    } else if (state === RECOVERING) again(out, PAUSE_NANOSECONDS)
    else {
      const errno = this.#registrations.key(posting)
      if (errno === undefined) return false
      if (errno === 0) again(out, PINNING_PAUSE_NANOSECONDS)
      else this.#skip(posting, first, end, errno, out)
    }
    return true
  }

  /** Free slots; none rather than a few, unless they are all that is wanted, so that posts stay long. */
  #room(wanted: number): number {
    const inFlight = this.#inFlight
    const { depth } = this.#recovery.queue
    const enough = Math.min(wanted, Math.ceil(depth / SIGNALS))
    if (depth - inFlight.packets < enough) this.#poll()
    const room = depth - inFlight.packets
    return room < enough || this.#recovery.state !== READY || inFlight.freeParts < 1 ? 0 : room
  }

  /**
   * The provider refused a row. There was room by our count, but the provider may know better: it is asked again, unless the device
   * is gone.
   */
  #refused(posting: V, row: number, out: PostResult): void {
    this.#watch.takeEvents()
    if (this.#recovery.state === BROKEN || this.#refusals++ < REPOSTS) again(out, PAUSE_NANOSECONDS)
    else this.#skip(posting, row, row + 1, posting.chain.errno, out)
  }

  /** Gives up rows from `row` on, as long as they go to the same substream. */
  #skip(posting: V, row: number, limit: number, errno: number, out: PostResult): void {
    const { substream } = posting.table
    let end = row + 1
    while (end < limit && substream[end] === substream[row]) end++
    out.kind = POST_SKIP
    out.errno = errno
    out.substream = substream[row]!
    out.skipped = end - row
    this.#inFlight.giveUp(posting, row, end)
  }

  join(posting: V, end: number): boolean {
    const recovery = this.#recovery
    const joined = this.#joined
    const inFlight = this.#inFlight
    if (recovery.state !== READY || !posting.keyed) return false
    if (posting.generation !== recovery.generation || posting.chain.cutAt !== 0) return false
    if (joined.count === MAX_JOINS || recovery.queue.depth - inFlight.packets - joined.rows < end) return false
    if (inFlight.freeParts <= joined.count || this.#kind.admit(posting, 0, end) !== end) return false
    this.#kind.prepare(posting, 0, end)
    joined.add(posting, end)
    return true
  }

  postJoined(): number {
    this.#counters[COUNTER.posts]! += 1
    const taken = this.#joined.post(this.#recovery.queue, this.#inFlight)
    if (taken > 0) this.#refusals = 0
    return taken
  }

  reap(out: ReapResult): void {
    if (this.#armed) {
      this.#armed = false
      if (this.#recovery.state !== BROKEN) this.#recovery.queue.takeEvents()
      this.#watch.takeEvents()
    }
    if (!this.#inFlight.empty) this.#poll()
    if (this.#recovery.state === RECOVERING) this.#recover()
    this.#inFlight.report(out)
  }

  #recover(): void {
    if (!this.#recovery.due) return
    // Events of this trouble must not be taken for another's.
    this.#watch.takeEvents()
    if (this.#recovery.state === RECOVERING) this.#recovery.finish()
  }

  /** Takes every completion there is; returns how many. */
  #poll(): number {
    const recovery = this.#recovery
    const { queue } = recovery
    const inFlight = this.#inFlight
    let taken = 0
    for (;;) {
      const n = queue.poll()
      if (n < 0) {
        recovery.beginAnew(CAUSE_CQ_ERR, 'the completion queue cannot be polled')
        return taken
      }
      for (let i = 0; i < n; i++) {
        const status = queue.status(i)
        if (status !== 0) this.#failed(i, status)
        else if (inFlight.completeThrough(queue.row(i), queue.chain(i))) recovery.inARow = 0
      }
      taken += n
      if (n < POLL_BATCH || recovery.state === BROKEN) break
    }
    if (taken > 0) {
      inFlight.progressed = true
      this.#silence.ends()
    } else this.#lookAround()
    return taken
  }

  /** An error completion. */
  #failed(i: number, status: number): void {
    const recovery = this.#recovery
    const inFlight = this.#inFlight
    const row = recovery.queue.row(i)
    const id = recovery.queue.chain(i)
    const vendorError = recovery.queue.vendorError(i)
    const flushed = status === IBV_WC_WR_FLUSH_ERR
    // An event may say why the queue is in error: then that is the cause.
    if (flushed && recovery.state === READY) this.#watch.takeEvents()
    const k = inFlight.find(row, id)
    if (k < 0) return
    const trouble = recovery.begin(CAUSE_STATUS + status)
    if (trouble.located) {
      inFlight.failThrough(k, row, CAUSE_FLUSHED)
      return
    }
    trouble.located = true
    inFlight.completeBefore(k, row)
    if (!flushed) recovery.vendorError = vendorError
    inFlight.failThrough(0, row, flushed ? trouble.cause : CAUSE_STATUS + status)
  }

  /** While nothing completes: has something happened to the device, or has it been silent for too long? */
  #lookAround(): void {
    const inFlight = this.#inFlight
    if (inFlight.empty) return
    const now = performance.now()
    const quietMs = inFlight.quietFor(now)
    this.#watch.takeEventsAt(now)
    if (this.#recovery.state !== READY) return
    const silentMs = this.#silence.over(quietMs, inFlight.done < inFlight.announced)
    if (silentMs > 0) this.#recovery.beginSilent(silentMs)
  }

  /** With nothing under way the queue moves at once, because no post may come for long. */
  suspicion(thorough: boolean): number {
    const suspicion = this.#watch.suspicion(thorough)
    if (thorough && this.#recovery.state === RECOVERING && this.#inFlight.empty) this.#recover()
    return suspicion
  }

  arm(): boolean {
    const inFlight = this.#inFlight
    if (this.#recovery.state === BROKEN) return inFlight.allReported
    this.#armed = true
    this.#recovery.queue.arm()
    return this.#poll() === 0 && inFlight.allReported
  }

  /** With nothing under way paths alone are watched: what happens to the device is told to the next batch. */
  waitSet(wantWrite: boolean): readonly { fd: number; events: number }[] {
    const { state, queue } = this.#recovery
    const idle = this.#inFlight.empty && !wantWrite
    this.#watch.sleeps(idle)
    if (state === BROKEN) return NOTHING
    if (idle) return this.#idleSet
    this.#waitSet[0].fd = queue.channelFd
    this.#waitSet[1].fd = this.#device.context.asyncFd
    return this.#waitSet
  }

  causeName(cause: number): string {
    return causeName(cause)
  }

  explain(cause: number, substream: number, udpBytes: number): string {
    const { state, history } = this.#recovery
    const { refusal } = this.#registrations
    if (refusal?.errno === cause) return refusal.message
    const why = this.#kind.explain(cause, substream, udpBytes, this.#recovery)
    return state === BROKEN ? `${why}; before: ${history.join(', ')}` : why
  }

  close(): void {
    if (this.#recovery.state === CLOSED) return
    this.#recovery.close()
    for (const posting of this.#postings) posting.release()
    this.#postings.clear()
    this.#kind.close()
    this.lingering = this.#registrations.close(() => {
      this.#device.domain.release()
      this.#device.context.close()
    })
  }
}
