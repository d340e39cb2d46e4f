/**
 * Watches for what makes "the kernel took it" doubtful: drops below the socket, a carrier or a neighbour that is lost, a queue that is
 * replaced.
 */
import { performance } from 'node:perf_hooks'
import { NativeError } from '../../../ffi/native-error.js'
import { LinkLosses } from '../../../ffi/netlink/link-losses.js'
import { LinkWatch } from '../../../ffi/netlink/link-watch.js'
import type { Gates } from '../gates.js'
import type { KernelPace } from './pace.js'

/** Asking whether the kernel has told of something costs a microsecond: how often in a busy stream. */
const DRAIN_MS = 0.2
/**
 * Asking the kernel for drops costs 10 µs an interface, 100 until V8 has compiled that: how often in a busy stream, and when nothing is
 * left to send. A packet lost after the last look shows at the next one, when it is too late to call the last batch suspect.
 */
const LOOK_MS = 20
const THOROUGH_LOOK_MS = 0.1

const interfacesOf = (gates: Gates): number[] => [...new Set(gates.paths.map((path) => path.ifindex))]

export class LossWatch {
  /** Rises when `states()` would answer differently. */
  revision = 0
  readonly #gates: Gates
  readonly #pace: KernelPace | undefined
  readonly #watch: LinkWatch
  readonly #losses: LinkLosses
  #interfaces: readonly number[]
  #gatesRevision = 0
  #suspicion = 0
  /** The kernel's counters at the last look. */
  #drops = 0
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
  constructor(gates: Gates, pace: KernelPace | undefined, destinations: readonly Uint8Array[]) {
    this.#gates = gates
    this.#pace = pace
    this.#interfaces = interfacesOf(gates)
    this.#losses = new LinkLosses()
    try {
      this.#watch = new LinkWatch(this.#interfaces, destinations)
    } catch (error) {
      this.#losses.close()
      throw error
    }
    this.#look(performance.now())
    this.#suspicion = 0
    this.#dropsSeen = 0
  }

  states(): { readonly carrier: boolean; readonly dropsBelowSocket: number } {
    return { carrier: this.#carrier, dropsBelowSocket: this.#dropsSeen }
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

  /** Packets go other ways from now on: counts from here, on the interfaces that they leave by now. */
  rebase(): void {
    this.#suspicion++
    this.#look(performance.now())
  }

  /** Takes what the kernel has told, if it was not asked a moment ago. */
  glance(): void {
    const now = performance.now()
    if (now - this.#drainedAt < DRAIN_MS || !this.#drain(now)) return
    this.#suspicion++
    this.#look(now)
  }

  get descriptors(): readonly number[] {
    return [this.#watch.fd, this.#losses.fd]
  }

  /** The kernel dropped a packet and told us so by ENOBUFS: its count of drops explains itself. */
  noteRefused(): void {
    this.#refused++
  }

  /** Something else made recent evidence doubtful. */
  suspect(): void {
    this.#suspicion++
  }

  /** As `suspicion` told it last, and what was noted since. */
  get suspected(): number {
    return this.#suspicion
  }

  /** See Backend.suspicion. */
  suspicion(thorough: boolean): number {
    const now = performance.now()
    const lost = (thorough || now - this.#drainedAt >= DRAIN_MS) && this.#drain(now)
    if (lost || now - this.#lookedAt > (thorough ? THOROUGH_LOOK_MS : LOOK_MS)) this.#look(now)
    // Without a carrier the kernel takes packets and drops them, or keeps some for a neighbour it cannot ask for.
    if (lost || !this.#carrier) this.#suspicion++
    return this.#suspicion
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
    let others = false
    if (this.#gatesRevision !== this.#gates.revision) {
      this.#gatesRevision = this.#gates.revision
      const before = this.#interfaces
      this.#interfaces = interfacesOf(this.#gates)
      others = this.#interfaces.join() !== before.join()
      this.#pace?.judge()
    }
    let drops = 0
    let queueing = 0
    let carrierLosses = 0
    let carrier = true
    try {
      for (const ifindex of this.#interfaces) {
        const losses = this.#losses
        losses.read(ifindex)
        drops += losses.txDropped + losses.queueDrops
        carrierLosses += losses.carrierDownCount
        carrier &&= losses.running
        queueing = (Math.imul(queueing, 31) + losses.queueing) | 0
      }
      if (this.#pace && !this.#interfaces.includes(this.#pace.ifindex)) {
        this.#losses.read(this.#pace.ifindex)
        queueing = (Math.imul(queueing, 31) + this.#losses.queueing) | 0
      }
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      carrier = false // an interface went away
    }
    // The drops of other interfaces are no news.
    const unexplained = others ? 0 : Math.max(0, drops - this.#drops - this.#refused)
    if (unexplained > 0) this.#suspicion++
    if (queueing !== this.#queueing) {
      // Packets that waited in a queue that was replaced are lost, and nobody counts them.
      this.#suspicion++
      this.#queueing = queueing
      this.#pace?.judge()
    }
    if (carrierLosses !== this.#carrierLosses) {
      this.#suspicion++
      this.#gates.doubt()
    }
    if (carrier && !this.#carrier) this.#gates.revive()
    if (unexplained > 0 || carrier !== this.#carrier) this.revision++
    this.#dropsSeen += unexplained
    this.#drops = drops
    this.#refused = 0
    this.#carrierLosses = carrierLosses
    this.#carrier = carrier
  }

  close(): void {
    this.#watch.close()
    this.#losses.close()
  }
}
