/**
 * Watches for what makes "the kernel took it" doubtful: drops below the socket, a carrier or a neighbour that is lost, a queue that is
 * replaced, ICMP answers.
 *
 * | state | batches settle                                   | leaves by                                        |
 * |-------|--------------------------------------------------|--------------------------------------------------|
 * | wary  | behind a look that is later than their packets   | WATCH_MS without a drop → calm; at the beginning FIRST_WATCH_MS and as many looks |
 * | calm  | behind a look every LOOK_MS                      | a drop → wary                                    |
 *
 * A stream begins wary, because a queue that is too small shows with the first batches.
 */
import { performance } from 'node:perf_hooks'
import { NativeError } from '../../../ffi/native-error.js'
import { LinkLosses } from '../../../ffi/netlink/link-losses.js'
import { LinkWatch } from '../../../ffi/netlink/link-watch.js'
import { IpsecDrops } from '../../net/ipsec.js'
import { COUNTER } from '../../stats.js'
import type { Gates } from '../gates.js'
import type { States } from '../states.js'
import { DropCounts } from './drop-counts.js'
import type { KernelPace } from './pace.js'
import type { ReturnedErrors } from './returned-errors.js'

/** Asking whether the kernel has told of something costs a microsecond: how often in a busy stream. */
const DRAIN_MS = 0.2
/** Between posts news may wait longer, because each look is a system call, and every batch is settled behind another. */
const GLANCE_MS = 2
/**
 * Asking the kernel for drops costs 10 µs an interface, 100 until V8 has compiled that: how often in a busy stream, and when nothing is
 * left to send. A packet lost after the last look shows at the next one, when it is too late to call the last batch suspect.
 */
const LOOK_MS = 20
const THOROUGH_LOOK_MS = 0.1
/** How long every batch that settles pays for a look: from the first one on, for as many looks at least, and after drops. */
const FIRST_WATCH_MS = 50
const FIRST_LOOKS = 256
const WATCH_MS = 2000
/** A calm stream looks at what IPsec dropped at every sixth look: that costs as much again. */
const LOOKS_PER_IPSEC = 6
/** How often the interfaces below are looked up again while links change: a bond may have got another port. Some µs a link. */
const FOLLOW_MS = 1000

const interfacesOf = (gates: Gates): number[] => [...new Set(gates.paths.map((path) => path.ifindex))]

export class LossWatch {
  readonly #states: States
  readonly #gates: Gates
  readonly #pace: KernelPace | undefined
  readonly #watch: LinkWatch
  readonly #losses: LinkLosses
  readonly #counts: DropCounts
  #followedAt = Number.NEGATIVE_INFINITY
  #interfaces: readonly number[]
  readonly #returned: ReturnedErrors
  readonly #ipsec = new IpsecDrops()
  #state: 'wary' | 'calm' = 'wary'
  /** When a wary stream calms down; unknown before the first batch. */
  #calmAt = Number.NaN
  #looks = 0
  /** ICMP errors that told of losses, and packets that IPsec dropped, as of the last look. */
  #losingErrors = 0
  #ipsecDrops = 0
  /** The gates' moves at the last look. */
  #moves = 0
  #suspicion = 0
  /** The kernel's counters at the last look. */
  #carrierLosses = 0
  #queueing = 0
  #carrier = true
  /** Drops that nothing explains, ever. */
  #dropsSeen = 0
  /** Drops that the kernel told us of by ENOBUFS, since the last look. */
  #refused = 0
  #drainedAt = 0
  #lookedAt = 0

  /** @throws NativeError when a netlink socket cannot be opened, or an interface is gone */
  constructor(
    gates: Gates,
    pace: KernelPace | undefined,
    returned: ReturnedErrors,
    states: States,
    destinations: readonly Uint8Array[],
    /** The stream's. */
    readonly counters: Float64Array,
  ) {
    this.#states = states
    this.#gates = gates
    this.#pace = pace
    this.#returned = returned
    this.#interfaces = interfacesOf(gates)
    let losses: LinkLosses | undefined
    try {
      losses = new LinkLosses()
      this.#watch = new LinkWatch(this.#interfaces, destinations)
    } catch (error) {
      losses?.close()
      this.#ipsec.close()
      throw error
    }
    this.#losses = losses
    this.#counts = new DropCounts(losses)
    const droppedBelow = counters[COUNTER.droppedBelow]!
    this.#look(performance.now())
    counters[COUNTER.droppedBelow] = droppedBelow
    this.#suspicion = 0
    this.#dropsSeen = 0
    this.#state = 'wary'
    this.#calmAt = Number.NaN
    const before = this.#ipsec.silent
    states.add(() => ({ carrier: this.#carrier, dropsBelowSocket: this.#dropsSeen, dropsByIpsec: this.#ipsecDrops - before }))
  }

  /** For poll(2): readable when the kernel has told of something. */
  get fd(): number {
    return this.#watch.fd
  }

  /** Whether the kernel has told since the last call that paths may have changed. */
  takeDoubt(): boolean {
    const doubtful = this.#watch.pathsDoubtful
    this.#watch.pathsDoubtful = false
    return doubtful
  }

  /** Something else made recent evidence doubtful. */
  suspect(): void {
    this.#suspicion++
  }

  /** Packets go other ways from now on: counts from here, on the interfaces that they leave by now. */
  rebase(): void {
    this.#suspicion++
    this.#look(performance.now())
  }

  /** Takes what the kernel has told, if it was not asked a moment ago. */
  glance(): void {
    const now = performance.now()
    if (now - this.#drainedAt < GLANCE_MS || !this.#drain(now)) return
    this.#suspicion++
    this.#look(now)
  }

  /** As `suspicion` told it last, and what was noted since. */
  get suspected(): number {
    return this.#suspicion
  }

  get descriptors(): readonly number[] {
    return [this.#watch.fd, this.#losses.fd]
  }

  /** The kernel dropped a packet and told us so by ENOBUFS: its count of drops explains itself. */
  noteRefused(): void {
    this.#refused++
  }

  /** Whether an IPsec policy refused a packet since the last look. */
  ipsecBlocks(): boolean {
    const { blocked } = this.#ipsec
    this.#ipsec.look()
    return this.#ipsec.blocked !== blocked
  }

  /** Whether the queues of an interface and of those below it hold no packets; false where they cannot be asked. */
  queueIsEmpty(ifindex: number): boolean {
    try {
      return this.#counts.queuesAreEmpty(ifindex)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      return false
    }
  }

  /** See Backend.suspicion. */
  suspicion(thorough: boolean): number {
    const now = performance.now()
    const lost = (thorough || now - this.#drainedAt >= DRAIN_MS) && this.#drain(now)
    if (lost || this.#state === 'wary' || now - this.#lookedAt > (thorough ? THOROUGH_LOOK_MS : LOOK_MS)) this.#look(now)
    // Without a carrier the kernel takes packets and drops them, or keeps some for a neighbour it cannot ask for.
    if (lost || !this.#carrier || this.#gates.tried) this.#suspicion++
    if (this.#returned.losses !== this.#losingErrors) {
      this.#losingErrors = this.#returned.losses
      this.#suspicion++
    }
    if (this.#state === 'wary' && now > this.#calmAt && this.#looks >= FIRST_LOOKS) this.#state = 'calm'
    else if (Number.isNaN(this.#calmAt)) this.#calmAt = now + FIRST_WATCH_MS
    if (thorough) this.#returned.tell()
    return this.#suspicion
  }

  /** Packets were lost that nobody told us of. */
  #noteDrops(now: number): void {
    this.#suspicion++
    this.#states.change()
    this.#state = 'wary'
    this.#calmAt = now + WATCH_MS
  }

  /** Whether the kernel has told since the last time that a carrier was lost, or a neighbour that packets go to. */
  #drain(now: number): boolean {
    this.#drainedAt = now
    let lost = false
    for (let i = 0; i < this.#interfaces.length; i++) {
      const ifindex = this.#interfaces[i]!
      const { carrierLost, neighbourLost } = this.#changes(ifindex)
      if (carrierLost) lost = true
      if ((carrierLost || neighbourLost) && this.#gates.doubt(ifindex)) lost = true
    }
    return lost
  }

  #changes(ifindex: number): { readonly carrierLost: boolean; readonly neighbourLost: boolean } {
    try {
      return this.#watch.drain(ifindex)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      return { carrierLost: true, neighbourLost: true } // it went away before it was watched
    }
  }

  /** Compares the kernel's counters with those of the last look. LinkWatch alone may be a second late. */
  #look(now: number): void {
    this.#lookedAt = now
    const counts = this.#counts
    if (this.#moves !== this.#gates.moves) {
      this.#moves = this.#gates.moves
      this.#interfaces = interfacesOf(this.#gates)
      this.#followedAt = Number.NEGATIVE_INFINITY
      this.#watch.linksChanged = true
      this.#pace?.judge()
    }
    if (this.#watch.linksChanged && now - this.#followedAt > FOLLOW_MS) {
      this.#followedAt = now
      this.#watch.linksChanged = !counts.follow(this.#interfaces)
    }
    let carrier: boolean
    let { queueing } = counts
    try {
      counts.read()
      carrier = counts.running
      queueing = counts.queueing
      if (this.#pace && !this.#interfaces.includes(this.#pace.ifindex)) {
        this.#losses.read(this.#pace.ifindex)
        queueing = (Math.imul(queueing, 31) + this.#losses.queueing) | 0
      }
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      carrier = false // an interface went away
    }
    const unexplained = Math.max(0, counts.lost - this.#refused)
    if (unexplained > 0) this.#noteDrops(now)
    this.#returned.drain()
    if (this.#looks++ % LOOKS_PER_IPSEC === 0 || this.#state === 'wary') this.#ipsec.look()
    if (this.#ipsec.silent !== this.#ipsecDrops) {
      this.#ipsecDrops = this.#ipsec.silent
      this.#noteDrops(now)
    }
    if (queueing !== this.#queueing) {
      // Packets that waited in a queue that was replaced are lost, and nobody counts them.
      this.#suspicion++
      this.#queueing = queueing
      this.#pace?.judge()
    }
    if (counts.carrierLosses !== this.#carrierLosses) {
      this.#suspicion++
      this.#gates.doubt()
    }
    if (carrier && !this.#carrier) this.#gates.revive()
    if (carrier !== this.#carrier) this.#states.change()
    this.#dropsSeen += unexplained
    this.counters[COUNTER.droppedBelow]! += unexplained
    this.#refused = 0
    this.#carrierLosses = counts.carrierLosses
    this.#carrier = carrier
  }

  close(): void {
    this.#watch.close()
    this.#losses.close()
    this.#ipsec.close()
  }
}
