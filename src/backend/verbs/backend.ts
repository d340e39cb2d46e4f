/**
 * Packets through a queue pair of libibverbs: gathered by the NIC out of registered memory, the kernel passed by. Evidence: `completed`
 * (the NIC's completion). What kind of queue pair it is, and so what stands in front of a packet and where it goes, is a `Way`'s to know:
 * raw frames in raw.ts, datagrams of the fabric in datagrams.ts.
 *
 * | state      | post answers          | leaves by                                                                    |
 * |------------|-----------------------|------------------------------------------------------------------------------|
 * | ready      | ok, again, skip       | an error completion, a dead queue or silence → recovering; close()            |
 * | recovering | again                 | all that was under way is accounted for and the queue is ready again → ready;   |
 * |            |                       | MAX_RECOVERIES in a row without a packet sent, or the device gone → broken     |
 * | broken     | fatal                 | close()                                                                      |
 * | closed     | —                     | never                                                                        |
 *
 * A slot of the send queue is free only when a signalled completion behind it was polled (ibv_post_send(3)): every SIGNALS-th part of
 * the queue is signalled, and the last packet of every post. Work requests complete in order. When one fails, the queue pair is in error
 * and all behind it are flushed: never sent, so their heaps say so; nothing is sent twice.
 * Teardown: queue pair, completion queue, channel → registrations → domain → device.
 */
import { POLLIN } from '../../../ffi/layout.js'
import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import type { MemoryRegistration } from '../../../ffi/verbs/context.js'
import { EVENT_TYPE, IBV_WC_WR_FLUSH_ERR } from '../../../ffi/verbs/layout.js'
import type { QueuePairType } from '../../../ffi/verbs/queue-pair.js'
import { POLL_BATCH, SendQueue } from '../../../ffi/verbs/send-queue.js'
import type { PacketTable, TableRegion } from '../../batch/table.js'
import { explained, type VerbsBackendName } from '../../rdma/errors.js'
import { COUNTER } from '../../stats.js'
import {
  again,
  type Backend,
  type BackendCaps,
  type BackendEnvironment,
  CAUSE_EVENT,
  CAUSE_FLUSHED,
  CAUSE_STATUS,
  CAUSE_UNKNOWN,
  type CompileHints,
  POST_FATAL,
  POST_OK,
  POST_SKIP,
  type PostResult,
  type ReapResult,
} from '../backend.js'
import { causeName, type OpenDevice, type QueueOptions } from './open.js'
import type { PostingOptions, VerbsPosting } from './posting.js'

/** How many parts of the send queue end in a signalled work request. */
const SIGNALS = 8
const MAX_RECOVERIES = 8
/** Everything flushed is polled within this, or is called lost. */
const DRAIN_MS = 200
const PAUSE_NANOSECONDS = 20_000
const NEIGHBOUR_PAUSE_NANOSECONDS = 500_000
/** How often to look for what happened to the device, the link or the neighbours. */
const LOOK_MS = 1
/** Calls of `suspicion` in a stream too busy to sleep, one a batch, between questions for the time. */
const CALLS_PER_LOOK = 8
/** Troubles remembered for `states` and for the error of a stream that is broken. */
const HISTORY = 10
/** A work request that the provider refuses this often with room in the queue is given up on, and the next at once until one is taken. */
const REPOSTS = 8
/** Postings posted in one call. */
const MAX_JOINS = 32
/** The id of a work request is the posting's number, below this, and the generation of the queue above. */
const GENERATION = 2 ** 24

/** What one kind of queue pair brings. Everything here is called once a post or more rarely; `V` is a posting made for it. */
export interface Way<V extends VerbsPosting> {
  readonly name: VerbsBackendName
  readonly headroomBytes: number
  readonly wireOverheadBytes: number
  readonly pacesItself: boolean
  /** Rises when `states` would answer differently. */
  readonly revision: number
  /** False: packets may be dropped although their work requests succeed. */
  readonly passable: boolean
  states(): Record<string, string | number | boolean>
  compile(table: PacketTable, options: PostingOptions): V
  /** From reset to the state that sends. @throws NativeError */
  ready(queue: SendQueue): void
  /** How many of n rows from `first` on may go now. */
  admit(posting: V, first: number, n: number): number
  /** Why `admit` stopped at a row: 0 = wait a little, else the errno that refuses it. */
  refusal(posting: V, row: number): number
  /** Before rows first … end−1 are posted. */
  prepare(posting: V, first: number, end: number): void
  /** Rises whenever something makes recent completions doubtful. */
  suspicion(): number
  explain(cause: number, substream: number, udpBytes: number, vendorError: number): string
  close(): void
}

export interface QueueShape {
  readonly type: QueuePairType
  readonly maxSges: number
  /** Of mlx5's work request without SGEs, 16 bytes each. */
  readonly requestBytes: number
}

interface Registered {
  readonly registration: MemoryRegistration
  users: number
}

/** Packets under way: rows first … end−1 of a posting, the first of them number `at` of all packets ever posted. */
interface Part {
  /** The posting's when it was posted. */
  id: number
  first: number
  end: number
  at: number
  /** Given up at post: accounted for when its turn comes. */
  skipped: boolean
}

interface Trouble {
  readonly since: number
  readonly cause: number
  readonly why: string
  /**
   * An error completion came. All work requests that a queue in error did not send complete with one, so the first tells where sending
   * ended: before it all was sent, behind it nothing. Without any, the queue may have sent all.
   */
  located: boolean
}

const CQ_ERR = CAUSE_EVENT + EVENT_TYPE.indexOf('IBV_EVENT_CQ_ERR')
const NOTHING: readonly { fd: number; events: number }[] = []

export class VerbsBackend<V extends VerbsPosting> implements Backend {
  readonly caps: BackendCaps
  readonly #options: QueueOptions
  readonly #device: OpenDevice
  readonly #way: Way<V>
  readonly #counters: Float64Array
  readonly #registered = new Map<string, Registered>()
  readonly #postings = new Set<V>()
  readonly #waitSet: { fd: number; events: number }[]
  #queue: SendQueue
  #nextPosting = 1
  #generation = 0
  /** Parts under way, oldest first from #head; a ring of a power of two. */
  readonly #parts: Part[]
  #head = 0
  #count = 0
  /** For the next postJoined, the first #joins of them; each ends where its chain is cut. */
  readonly #joined: (V | undefined)[] = new Array(MAX_JOINS).fill(undefined)
  #joins = 0
  #joinedRows = 0
  /** Packets ever posted, accounted for, and reported by reap. */
  #posted = 0
  /** A completion will tell of so many of them: the last of them is signalled. */
  #announced = 0
  #done = 0
  #reported = 0
  /** Failures not yet reported, oldest first. */
  readonly #failures: { at: number; cause: number }[] = []
  #vendorError = 0
  #trouble: Trouble | undefined
  #fatal = 0
  /** In a row, without a packet sent between them. */
  #recoveriesInRow = 0
  readonly #history: string[] = []
  #refusals = 0
  #armed = false
  /** Something was posted or completed since the time was last asked for, which costs as much as twenty packets. */
  #progressed = false
  #progressAt = 0
  #eventsAt = 0
  #replaceQueue = false
  #suspicion = 0
  #linkSuspicion = 0
  #lookedAt = 0
  #calls = 0
  #portDown: boolean
  #revision = 0
  #recoveries = 0
  #closed = false

  constructor(options: QueueOptions, device: OpenDevice, way: Way<V>, queue: SendQueue, environment: BackendEnvironment) {
    this.#options = options
    this.#device = device
    this.#way = way
    this.#queue = queue
    this.#counters = environment.counters
    this.#portDown = !device.portActive
    this.#parts = Array.from({ length: 2 ** Math.ceil(Math.log2(queue.depth + 1)) }, () => ({
      id: 0,
      first: 0,
      end: 0,
      at: 0,
      skipped: false,
    }))
    this.#waitSet = [
      { fd: queue.channelFd, events: POLLIN },
      { fd: device.context.asyncFd, events: POLLIN },
    ]
    this.caps = {
      name: way.name,
      evidence: 'completed',
      substreams: options.endpoints.length,
      maxPacketSizeBytes: options.packetSizeBytes,
      headroomBytes: way.headroomBytes,
      mergesEqualPackets: false,
      wireOverheadBytes: way.wireOverheadBytes,
      pollNanoseconds: options.pollNanoseconds,
      pacesItself: way.pacesItself,
    }
  }

  states(): Record<string, string | number | boolean> {
    const { rdma } = this.#device
    return {
      device: rdma.device,
      port: rdma.port,
      queueDepth: this.#queue.depth,
      ...(this.caps.pacesItself && { rateMethod: 'hw', rateMethodReason: 'asked for' }),
      portActive: !this.#portDown,
      recoveries: this.#recoveries,
      ...this.#way.states(),
      ...(this.#history.length > 0 && { trouble: this.#history.join('; ') }),
    }
  }

  revision(): number {
    return this.#revision + this.#way.revision
  }

  /** Memory is pinned for the device with the first posting that uses it, and for as long as one does. */
  register(_region: TableRegion): void {}

  #use(region: TableRegion): number {
    let registered = this.#registered.get(keyOf(region))
    if (!registered) {
      const registration = explained(this.#way.name, () => this.#device.domain.register(region.address, region.byteLength))
      registered = { registration, users: 0 }
      this.#registered.set(keyOf(region), registered)
    }
    registered.users++
    return registered.registration.lkey
  }

  #unuse(region: TableRegion): void {
    const registered = this.#registered.get(keyOf(region))!
    if (--registered.users > 0) return
    registered.registration.release()
    this.#registered.delete(keyOf(region))
  }

  /** @throws SpeadcastError ERR_SPEADCAST_BACKEND when memory cannot be pinned, as beyond RLIMIT_MEMLOCK */
  compile(table: PacketTable, _hints: CompileHints): V {
    const number = this.#nextPosting++ % GENERATION
    const used: TableRegion[] = []
    try {
      const posting = this.#way.compile(table, {
        number,
        id: this.#idOf(number),
        signalEvery: Math.max(1, Math.floor(this.#queue.depth / SIGNALS)),
        maxSges: this.#queue.options.sges,
        lkeyOf: (region) => {
          const lkey = this.#use(region)
          used.push(region)
          return lkey
        },
      })
      posting.generation = this.#generation
      this.#postings.add(posting)
      return posting
    } catch (error) {
      for (const region of used) this.#unuse(region)
      throw error
    }
  }

  #idOf(number: number): number {
    return ((this.#generation & 0xff) * GENERATION + number) >>> 0
  }

  release(posting: V): void {
    const { table, ownRegion } = posting
    for (const region of ownRegion ? [...table.regions, ownRegion] : table.regions) this.#unuse(region)
    this.#postings.delete(posting)
    posting.release()
  }

  /** One call to the provider for as many packets as the send queue has room for; allocates nothing unless something fails. */
  post(posting: V, first: number, end: number, out: PostResult): void {
    out.kind = POST_OK
    out.accepted = 0
    out.skipped = 0
    if (this.#fatal !== 0) {
      out.kind = POST_FATAL
      out.errno = this.#fatal
      out.substream = posting.table.substream[first]!
      return
    }
    if (this.#trouble) {
      again(out, PAUSE_NANOSECONDS)
      return
    }
    let n = Math.min(this.#room(end - first), end - first)
    if (n === 0) {
      this.#counters[COUNTER.waits]! += 1
      again(out, 'writable')
      return
    }
    n = this.#way.admit(posting, first, n)
    if (n === 0) {
      const errno = this.#way.refusal(posting, first)
      if (errno === 0) again(out, NEIGHBOUR_PAUSE_NANOSECONDS)
      else this.#skip(posting, first, end, errno, out)
      return
    }
    if (posting.generation !== this.#generation) this.#renumber(posting)
    this.#way.prepare(posting, first, first + n)
    out.accepted = posting.chain.post(this.#queue, first, first + n)
    this.#counters[COUNTER.posts]! += 1
    if (out.accepted > 0) {
      // The clock of a silent device starts with the first packet of which it says nothing, whatever is posted behind it.
      if (this.#posted === this.#done) this.#progressed = true
      this.#take(posting, first, first + out.accepted, false)
      this.#refusals = 0
    }
    if (out.accepted === n) {
      this.#announced = this.#posted
      return
    }
    const unannounced = posting.chain.unsignalledBefore(first + out.accepted)
    if (unannounced < out.accepted) this.#announced = this.#posted - unannounced
    // There was room by our count; the provider may know better, and is asked again. Unless the device is gone.
    this.#takeAsyncEvents()
    if (this.#fatal !== 0 || this.#refusals++ < REPOSTS) {
      again(out, PAUSE_NANOSECONDS)
      return
    }
    this.#skip(posting, first + out.accepted, first + out.accepted + 1, posting.chain.errno, out)
  }

  join(posting: V, end: number): boolean {
    const { chain } = posting
    const joins = this.#joins
    if (this.#fatal !== 0 || this.#trouble || posting.generation !== this.#generation || chain.cutAt !== 0) return false
    if (joins === MAX_JOINS || this.#queue.depth - (this.#posted - this.#done) - this.#joinedRows < end) return false
    if (this.#count + joins > this.#parts.length - 2 || this.#way.admit(posting, 0, end) !== end) return false
    this.#way.prepare(posting, 0, end)
    chain.cut(end)
    if (joins > 0) this.#joined[joins - 1]!.chain.follow(chain)
    this.#joined[joins] = posting
    this.#joins = joins + 1
    this.#joinedRows += end
    return true
  }

  postJoined(): number {
    const joins = this.#joins
    const first = this.#joined[0]!.chain
    const whole = first.postCut(this.#queue, 0, this.#joined[joins - 1]!.chain)
    const before = this.#posted
    this.#counters[COUNTER.posts]! += 1
    let refused = false
    for (let i = 0; i < joins; i++) {
      const posting = this.#joined[i]!
      const { chain } = posting
      let end = chain.cutAt
      chain.mend()
      if (refused) continue
      if (!whole) {
        const row = first.refused(chain)
        refused = row >= 0 && row < end && Number.isInteger(row)
        if (refused) end = row
      }
      if (end === 0) continue
      this.#take(posting, 0, end, false)
      if (whole) continue
      const unannounced = chain.unsignalledBefore(end)
      if (unannounced < end) this.#announced = this.#posted - unannounced
    }
    if (whole) this.#announced = this.#posted
    this.#joins = 0
    this.#joinedRows = 0
    if (this.#posted === before) return 0
    if (before === this.#done) this.#progressed = true
    this.#refusals = 0
    return this.#posted - before
  }

  /** Free slots; none rather than a few, unless they are all that is wanted, so that posts stay long. */
  #room(wanted: number): number {
    const { depth } = this.#queue
    const enough = Math.min(wanted, Math.ceil(depth / SIGNALS))
    if (depth - (this.#posted - this.#done) < enough) this.#poll()
    const room = depth - (this.#posted - this.#done)
    // A part takes a place of its own in the ring of parts, if only for a packet given up.
    return room < enough || this.#trouble || this.#fatal !== 0 || this.#count > this.#parts.length - 2 ? 0 : room
  }

  /** Rows from `row` on, as long as they go to the same substream. */
  #skip(posting: V, row: number, limit: number, errno: number, out: PostResult): void {
    const { substream } = posting.table
    let end = row + 1
    while (end < limit && substream[end] === substream[row]) end++
    out.kind = POST_SKIP
    out.errno = errno
    out.substream = substream[row]!
    out.skipped = end - row
    this.#take(posting, row, end, true)
    this.#passSkipped()
  }

  #take(posting: V, first: number, end: number, skipped: boolean): void {
    // The same few as long as all that is under way completes now and then: the ring is larger than a cache.
    if (this.#count === 0) this.#head = 0
    const part = this.#part(this.#count++)
    part.id = posting.id
    part.first = first
    part.end = end
    part.at = this.#posted
    part.skipped = skipped
    this.#posted += end - first
  }

  /** The k-th part under way. */
  #part(k: number): Part {
    if (k === this.#parts.length) throw new Error('more parts under way than the send queue has slots')
    return this.#parts[(this.#head + k) & (this.#parts.length - 1)]!
  }

  /** After a recovery; nothing of the posting is under way then. */
  #renumber(posting: V): void {
    posting.generation = this.#generation
    posting.id = this.#idOf(posting.number)
    posting.chain.renumber(posting.id)
  }

  reap(out: ReapResult): void {
    if (this.#armed) {
      this.#armed = false
      if (this.#fatal === 0) this.#queue.takeEvents()
      if (this.#fatal === 0) this.#takeAsyncEvents()
    }
    if (this.#posted !== this.#done) this.#poll()
    if (this.#trouble) this.#recover(this.#trouble)
    out.failures = 0
    const upTo = this.#failures.length === 0 ? this.#done : this.#reportFailures(out)
    out.completed = upTo - this.#reported
    this.#reported = upTo
  }

  /** As many failures as `out` has room for; returns up to which packet all is told. */
  #reportFailures(out: ReapResult): number {
    const told = Math.min(this.#failures.length, out.failedAt.length)
    for (let i = 0; i < told; i++) {
      out.failedAt[i] = this.#failures[i]!.at - this.#reported
      out.failedErrno[i] = this.#failures[i]!.cause
    }
    this.#failures.splice(0, told)
    out.failures = told
    return Math.min(this.#done, this.#failures[0]?.at ?? this.#done)
  }

  /** Takes every completion there is; returns how many. */
  #poll(): number {
    let taken = 0
    for (;;) {
      const n = this.#queue.poll()
      if (n < 0) {
        this.#replaceQueue = true
        this.#startTrouble(CQ_ERR, 'the completion queue cannot be polled')
        return taken
      }
      for (let i = 0; i < n; i++) {
        const status = this.#queue.status(i)
        if (status !== 0) this.#failed(i, status)
        else if (this.#completeThrough(this.#queue.row(i), this.#queue.chain(i))) this.#recoveriesInRow = 0
      }
      taken += n
      if (n < POLL_BATCH || this.#fatal !== 0) break
    }
    if (taken > 0) this.#progressed = true
    else this.#watch()
    return taken
  }

  /** Which part under way holds a row of a chain, or −1: a completion of an earlier generation. Nearly always the first. */
  #find(row: number, id: number): number {
    for (let k = 0; k < this.#count; k++) {
      const part = this.#part(k)
      if (part.id === id && !part.skipped && row >= part.first && row < part.end) return k
    }
    return -1
  }

  /** The row and all before it are sent. */
  #completeThrough(row: number, id: number): boolean {
    const k = this.#find(row, id)
    if (k < 0) return false
    for (let before = 0; before < k; before++) this.#passFirst(this.#part(0).end)
    this.#passFirst(row + 1)
    this.#passSkipped()
    return true
  }

  /** Rows of the oldest part up to `end` are accounted for. */
  #passFirst(end: number): void {
    const part = this.#part(0)
    const n = end - part.first
    part.first = end
    part.at += n
    this.#done = part.at
    if (part.first < part.end) return
    this.#head = (this.#head + 1) & (this.#parts.length - 1)
    this.#count--
  }

  #passSkipped(): void {
    while (this.#count > 0 && this.#part(0).skipped) this.#passFirst(this.#part(0).end)
  }

  /** An error completion. */
  #failed(i: number, status: number): void {
    const row = this.#queue.row(i)
    const id = this.#queue.chain(i)
    const vendorError = this.#queue.vendorError(i)
    const flushed = status === IBV_WC_WR_FLUSH_ERR
    // Whatever put the queue in error may have said so: that is the cause then.
    if (flushed && !this.#trouble) this.#takeAsyncEvents()
    const k = this.#find(row, id)
    if (k < 0) return
    const trouble = this.#startTrouble(CAUSE_STATUS + status)
    if (trouble.located) {
      this.#failThrough(k, row, CAUSE_FLUSHED)
      return
    }
    trouble.located = true
    for (let before = 0; before < k; before++) this.#passFirst(this.#part(0).end)
    if (row > this.#part(0).first) this.#passFirst(row)
    if (!flushed) this.#vendorError = vendorError
    this.#failThrough(0, row, flushed ? trouble.cause : CAUSE_STATUS + status)
  }

  /** All packets up to a row of the k-th part failed of one cause, those given up before left out. */
  #failThrough(k: number, row: number, cause: number): void {
    for (let i = 0; i <= k; i++) {
      const part = this.#part(0)
      const end = i === k ? row + 1 : part.end
      if (!part.skipped) for (let n = 0; n < end - part.first; n++) this.#failures.push({ at: part.at + n, cause })
      this.#passFirst(end)
    }
    this.#passSkipped()
  }

  #failAll(cause: number): void {
    if (this.#count > 0) this.#failThrough(this.#count - 1, this.#part(this.#count - 1).end - 1, cause)
  }

  #startTrouble(cause: number, why = causeName(cause)): Trouble {
    this.#trouble ??= { since: performance.now(), cause, why, located: false }
    return this.#trouble
  }

  /** Called while nothing completes: has something happened to the device, or for too long nothing at all? */
  #watch(): void {
    if (this.#posted === this.#done) return
    const now = performance.now()
    if (this.#progressed) this.#progressAt = now
    this.#progressed = false
    if (now - this.#eventsAt > LOOK_MS) {
      this.#eventsAt = now
      this.#takeAsyncEvents()
    }
    const { completionTimeoutMs } = this.#options
    // Behind what was refused nothing is signalled: nobody will tell of it unless more is posted.
    const patience = this.#done < this.#announced ? completionTimeoutMs : Math.min(DRAIN_MS, completionTimeoutMs)
    if (this.#trouble || this.#fatal !== 0 || now - this.#progressAt < patience) return
    this.#startTrouble(ERRNO.ETIMEDOUT, `no completion for ${patience} ms`)
    try {
      this.#queue.fail()
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      this.#replaceQueue = true
    }
  }

  /** The queue is made ready again once all that was under way is accounted for: only then may its memory be written. */
  #recover(trouble: Trouble): void {
    if (this.#done !== this.#posted && performance.now() - trouble.since < DRAIN_MS) return
    // Events of this trouble must not be taken for another's.
    this.#takeAsyncEvents()
    if (this.#fatal !== 0) return
    this.#note(trouble.why)
    try {
      if (++this.#recoveriesInRow > MAX_RECOVERIES) throw new NativeError('recovery', ERRNO.EIO, 'given up')
      this.#restart()
      this.#failAll(trouble.located ? CAUSE_FLUSHED : CAUSE_UNKNOWN)
      this.#recoveries++
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      this.#break(error.message)
    }
    this.#trouble = undefined
    this.#progressed = true
  }

  #restart(): void {
    this.#generation = (this.#generation + 1) & 0xff
    if (!this.#replaceQueue) {
      try {
        this.#queue.reset()
        this.#way.ready(this.#queue)
        return
      } catch (error) {
        if (!(error instanceof NativeError)) throw error
      }
    }
    this.#replaceQueue = false
    this.#queue.close()
    this.#queue = new SendQueue(this.#device.domain, this.#queue.options)
    this.#waitSet[0]!.fd = this.#queue.channelFd
    this.#way.ready(this.#queue)
  }

  #note(cause: string): void {
    this.#history.push(cause)
    if (this.#history.length > HISTORY) this.#history.shift()
    this.#revision++
  }

  #break(why: string): void {
    this.#note(why)
    this.#fatal = ERRNO.EIO
    // Destroying the queue pair stops the device: the memory is free again.
    this.#queue.close()
    this.#waitSet.splice(0)
    this.#failAll(this.#trouble?.located ? CAUSE_FLUSHED : CAUSE_UNKNOWN)
    this.#trouble = undefined
  }

  /** Not once the backend is broken. */
  #takeAsyncEvents(): void {
    for (let event = this.#device.context.event(); event; event = this.#fatal === 0 ? this.#device.context.event() : undefined) {
      switch (event.name) {
        case 'IBV_EVENT_PORT_ERR':
        case 'IBV_EVENT_PORT_ACTIVE':
          this.#portDown = event.name === 'IBV_EVENT_PORT_ERR'
          this.#suspicion++
          this.#revision++
          break
        case 'IBV_EVENT_DEVICE_FATAL':
          this.#break(event.name)
          break
        case 'IBV_EVENT_CQ_ERR':
          this.#replaceQueue = true
          this.#startTrouble(CQ_ERR)
          break
        // Should one be late, of a queue that was reset meanwhile: all under way completes, and it is reset again.
        case 'IBV_EVENT_QP_FATAL':
        case 'IBV_EVENT_QP_REQ_ERR':
        case 'IBV_EVENT_QP_ACCESS_ERR':
          this.#startTrouble(CAUSE_EVENT + EVENT_TYPE.indexOf(event.name))
      }
    }
  }

  /** Looking is a few system calls, and a batch of 64 packets takes less than one of them: so once a millisecond at most. */
  suspicion(thorough: boolean): number {
    const now = thorough || ++this.#calls % CALLS_PER_LOOK === 0 ? performance.now() : this.#lookedAt
    if (now - this.#lookedAt > LOOK_MS) {
      this.#lookedAt = now
      if (this.#fatal === 0) this.#takeAsyncEvents()
      this.#linkSuspicion = this.#way.suspicion()
    }
    if (this.#portDown || !this.#way.passable) this.#suspicion++
    return this.#suspicion + this.#linkSuspicion
  }

  arm(): boolean {
    if (this.#fatal !== 0) return this.#reported === this.#done
    this.#armed = true
    this.#queue.arm()
    return this.#poll() === 0 && this.#reported === this.#done
  }

  /** An asynchronous event stays until somebody looks for it: with nothing under way it would keep the thread from sleeping. */
  waitSet(wantWrite: boolean): readonly { fd: number; events: number }[] {
    // Who sleeps is not so busy that batches are short: the next question looks at the time.
    this.#calls = -1
    return wantWrite || this.#posted !== this.#done ? this.#waitSet : NOTHING
  }

  causeName(cause: number): string {
    return causeName(cause)
  }

  explain(cause: number, substream: number, udpBytes: number): string {
    const why = this.#way.explain(cause, substream, udpBytes, this.#vendorError)
    return this.#fatal === 0 ? why : `${why}; before: ${this.#history.join(', ')}`
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#queue.close()
    for (const posting of this.#postings) posting.release()
    this.#postings.clear()
    for (const { registration } of this.#registered.values()) registration.release()
    this.#registered.clear()
    this.#way.close()
    this.#device.domain.release()
    this.#device.context.close()
  }
}

/** Ids are unique per isolate only; addresses come again. */
function keyOf({ id, address, byteLength }: TableRegion): string {
  return `${id} ${address} ${byteLength}`
}

/**
 * With more than one SGE a work request takes two or more of the blocks of 64 bytes that mlx5 counts as max_qp_wr, and it rounds the number
 * up to a power of two (mlx5_calc_sq_size).
 */
function depthWithin(maxWorkRequests: number, requestBytes: number): number {
  const blocks = Math.ceil(requestBytes / 64)
  return 2 ** Math.floor(Math.log2(Math.max(1, maxWorkRequests / blocks)))
}

/**
 * Takes over what is open, and closes it if there can be no queue.
 * @throws ERR_SPEADCAST_BACKEND; the message has the remedy
 */
export function startQueue<V extends VerbsPosting>(
  options: QueueOptions,
  device: OpenDevice,
  way: Way<V>,
  { type, maxSges, requestBytes }: QueueShape,
  environment: BackendEnvironment,
): VerbsBackend<V> {
  const { facts, domain, context, rdma } = device
  const sges = Math.min(maxSges, facts.maxSges)
  let queue: SendQueue | undefined
  try {
    return explained(way.name, () => {
      queue = new SendQueue(domain, {
        type,
        port: rdma.port,
        depth: Math.min(options.queueDepth, depthWithin(facts.maxWorkRequests, requestBytes + 16 * sges), facts.maxCqEntries),
        sges,
        completionVector: options.completionVector,
      })
      way.ready(queue)
      return new VerbsBackend(options, device, way, queue, environment)
    })
  } catch (error) {
    queue?.close()
    way.close()
    domain.release()
    context.close()
    throw error
  }
}
