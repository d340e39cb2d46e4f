/**
 * The loop of an I/O thread: it steps the engines of its members, and sleeps in one bounded wait when none can go on.
 *
 * | member waits for           | may step when                                                                     |
 * |----------------------------|-----------------------------------------------------------------------------------|
 * | nothing (NEXT_STEP_NOW)     | its turn comes                                                                    |
 * | a submission (NEXT_IDLE)    | there is one, a control message, or a stop, or a descriptor of its wait set is ready |
 * | its deadline                | the clock is there, or a stop                                                     |
 * | its backend                 | a descriptor of its wait set is ready, a submission if it could be taken, a stop, and 50 ms later at the latest |
 *
 * Members take turns of QUANTUM_BYTES, so that a stream at full speed does not starve a paced one beside it. A member that is alone has
 * no bound.
 *
 * Every wait ends within 50 ms, because process.exit() waits for a thread that is inside a native call, and earlier through the eventfd.
 * A thread spins for work only as long as nobody else wants its CPU (contention.ts) and never while a rate leaves it time to sleep. On a busy
 * host it glances: it looks for about as long as falling asleep and waking up would take, and does not offer its CPU.
 */
import { POLLIN } from '../../ffi/layout.js'
import type { Contention } from './contention.js'
import { NEXT_AT_DEADLINE, NEXT_IDLE, NEXT_STEP_NOW, NEXT_STOPPED, NEXT_WHEN_REAPED, NEXT_WHEN_WRITABLE } from './contract.js'
import type { Member } from './member.js'

const BOUND_NANOSECONDS = 50e6
/** While a stream is being opened, which takes turns of the event loop. */
const OPENING_BOUND_NANOSECONDS = 1e6
/** How long a lone member's thread spins for a submission. */
const SPIN_NANOSECONDS = 100_000
/** Falling asleep and waking up take this long. A nearer deadline is spun for where nobody else wants the CPU. */
const NEAR_NANOSECONDS = 50_000
/** A program that does little more than fill batches has filled the next ones by then (fills of 512 KiB were seen to take 7 to 14 µs). */
const GLANCE_NANOSECONDS = 40_000
/** After glances that found nothing, the next 1, 3, 7 … this many waits sleep without a glance. */
const MOST_BLIND = 63
/** Looks for work, of some 0.1 µs, between two offers of the CPU to others. */
const LOOKS = 16
/** Somebody else had the CPU if offering it took longer. */
const SHARED_NANOSECONDS = 10_000
/** A wait that was ended at once, with what falling asleep and waking up take. */
const SHORT_GAP_NANOSECONDS = 200_000
/**
 * On a busy host a thread that ran dry for long breaks its next sleeps up. The thread that has work for it may be waiting for another CPU, and
 * the kernel moves that one here only when this CPU goes idle anew, and not within 0.5 ms of its running there (sched_migration_cost,
 * kernel/sched/fair.c). It does not do so always, because a timer as near as this costs a virtual machine some microseconds.
 */
const DOZE_NANOSECONDS = 600_000
const DOZING_NANOSECONDS = 5_000_000
/** A wait as long as this was long; the next DOZES are broken up. */
const DRY_NANOSECONDS = 300_000
const DOZES = 64
const QUANTUM_BYTES = 1 << 19
/** Steps of a turn: what is announced to the thread is looked at in between. */
const MOST_STEPS = 64

export interface LoopTools {
  /** Nanoseconds. */
  now(): number
  /** Lets another thread that wants this CPU have it (sched_yield(2)). */
  offerCpu(): void
  /**
   * The thread goes before all others of its CPU, the one that submits to it among them. So it never looks for work that nobody could give it
   * meanwhile, and others could not tell it that they want the CPU.
   */
  readonly realTime?: boolean
  /** Something was announced to the thread itself: a stream to be opened. */
  announced(): boolean
  readonly wake: { readonly fd: number; clear(): void }
  readonly poll: LoopPollSet
}

/** As PollSet of ffi/wait.ts. */
interface LoopPollSet {
  reset(): void
  add(fd: number, events: number): void
  /** Nanoseconds. */
  wait(timeoutNanoseconds: number): number
  revents(i: number): number
}

export class IoLoop {
  readonly #members: Member[] = []

  constructor(
    readonly tools: LoopTools,
    readonly contention: Contention,
    /** A member stopped, or its engine threw `error`; it is closed and no longer the loop's. */
    readonly onEnd: (member: Member, error: unknown) => void,
  ) {}

  get size(): number {
    return this.#members.length
  }

  add(member: Member): void {
    this.#members.push(member)
  }

  /**
   * Runs until nobody is left, something is announced to the thread, or, while a stream is being opened, for a turn.
   * Allocates nothing unless a member ends.
   */
  run(opening: boolean): void {
    const { tools } = this
    const bound = opening ? OPENING_BOUND_NANOSECONDS : BOUND_NANOSECONDS
    do {
      if (tools.announced()) return
      if (!this.#turns() && this.#members.length > 0) this.#wait(bound)
    } while (this.#members.length > 0 && !opening)
  }

  /** One turn for each member that may step; false if there was none. */
  #turns(): boolean {
    const members = this.#members
    const quantum = members.length === 1 ? Number.POSITIVE_INFINITY : QUANTUM_BYTES
    let any = false
    for (let i = 0; i < members.length; i++) {
      const member = members[i]!
      const now = this.tools.now()
      if (!this.#ready(member, now)) continue
      any = true
      if (!this.#turn(member, now, quantum)) i--
    }
    return any
  }

  /** False if the member has left. */
  #turn(member: Member, start: number, quantum: number): boolean {
    const enough = member.bytes + quantum
    let now = start
    try {
      for (let steps = 0; steps < MOST_STEPS && member.bytes < enough; steps++) {
        const next = member.step(now, enough - member.bytes)
        if (next !== NEXT_STEP_NOW) {
          this.#toWait(member, next, now)
          if (next !== NEXT_STOPPED) return true
          this.#end(member, undefined)
          return false
        }
        now = this.tools.now()
      }
    } catch (error) {
      this.#end(member, error)
      return false
    }
    member.waitsFor = NEXT_STEP_NOW
    return true
  }

  #toWait(member: Member, next: number, now: number): void {
    member.tell()
    member.waitsFor = next
    member.woken = false
    member.lookedAt = now
    if (next !== NEXT_WHEN_WRITABLE && next !== NEXT_WHEN_REAPED) member.waitingSince = 0
    else if (member.waitingSince === 0) member.waitingSince = now
  }

  #end(member: Member, error: unknown): void {
    this.#members.splice(this.#members.indexOf(member), 1)
    try {
      member.close()
    } finally {
      this.onEnd(member, error)
    }
  }

  #ready(member: Member, now: number): boolean {
    switch (member.waitsFor) {
      case NEXT_STEP_NOW:
        return true
      case NEXT_IDLE:
        return member.woken || !member.quiet
      case NEXT_AT_DEADLINE:
        return now >= member.engine.deadline || member.stopping
      default:
        return (
          member.woken ||
          now - member.lookedAt >= BOUND_NANOSECONDS ||
          now >= member.engine.retryAt ||
          (now - member.waitingSince < member.backend.caps.pollNanoseconds && this.#mayPoll(member, now)) ||
          (member.waitsFor === NEXT_WHEN_REAPED ? !member.quiet : member.stopping)
        )
    }
  }

  /** A user who asks for a backend to be polled for ever has given it the CPU. */
  #mayPoll(member: Member, now: number): boolean {
    return member.backend.caps.pollNanoseconds === Number.POSITIVE_INFINITY || this.#maySpin(now)
  }

  #maySpin(now: number): boolean {
    return !this.tools.realTime && this.contention.maySpin(now)
  }

  #wait(bound: number): void {
    const [member] = this.#members
    const now = this.tools.now()
    if (this.#members.length === 1) {
      if (member!.waitsFor === NEXT_IDLE) {
        this.#awaitWork(member!, now, bound)
        return
      }
      const left = member!.engine.deadline - now
      if (member!.waitsFor === NEXT_AT_DEADLINE && left < NEAR_NANOSECONDS && this.#maySpin(now)) {
        this.#spinUntil(now + left)
        return
      }
    }
    this.#sleep(bound, now)
  }

  #awaitWork(member: Member, since: number, bound: number): void {
    const { realTime } = this.tools
    const calm = this.#maySpin(since)
    const found = calm
      ? member.worthSpinning && this.#spinForWork(member, since + SPIN_NANOSECONDS)
      : !realTime && this.#glance(member, since)
    if (!found) {
      const dozes = !calm && !realTime && member.dozes > 0 && since - member.lookedAt < DOZING_NANOSECONDS
      this.#sleep(dozes ? DOZE_NANOSECONDS : bound, this.tools.now())
    }
    const waited = this.tools.now() - since
    member.worthSpinning = waited < SHORT_GAP_NANOSECONDS
    if (waited >= DRY_NANOSECONDS) member.dozes = DOZES
    else if (member.dozes > 0) member.dozes--
  }

  /** False if there is no work at once, or the last glances were in vain. */
  #glance(member: Member, since: number): boolean {
    if (member.blind > 0) {
      member.blind--
      return false
    }
    do {
      if (!member.quiet) {
        member.nextBlind = 1
        return true
      }
    } while (this.tools.now() < since + GLANCE_NANOSECONDS)
    member.blind = member.nextBlind
    member.nextBlind = Math.min(2 * member.nextBlind + 1, MOST_BLIND)
    return false
  }

  /** False if there is no work by then, or others want the CPU. The thread that submits may be waiting for this very CPU. */
  #spinForWork(member: Member, until: number): boolean {
    const { tools, contention } = this
    let now = tools.now()
    for (let looks = 1; now < until; looks++) {
      if (!member.quiet) return true
      const before = now
      if (looks % LOOKS === 0) tools.offerCpu()
      now = tools.now()
      if (now - before < SHARED_NANOSECONDS) continue
      contention.note(before, now)
      if (!contention.maySpin(now)) return !member.quiet
      member.avoidWaitersCpu()
    }
    return false
  }

  #spinUntil(until: number): void {
    const { tools, contention } = this
    for (let before = tools.now(); before < until; ) {
      const now = tools.now()
      contention.note(before, now)
      before = now
    }
  }

  /** One poll(2) for all. */
  #sleep(bound: number, now: number): void {
    const { poll, wake } = this.tools
    const members = this.#members
    poll.reset()
    poll.add(wake.fd, POLLIN)
    let count = 1
    let timeout = bound
    /** Nobody sleeps: something completed, or was submitted, meanwhile. */
    let busy = false
    for (let i = 0; i < members.length; i++) {
      const member = members[i]!
      member.firstDescriptor = count
      member.descriptors = 0
      if (member.waitsFor === NEXT_AT_DEADLINE) {
        timeout = Math.min(timeout, member.engine.deadline - now)
        // No event would let it go on sooner, but the backend learns that its thread sleeps.
        member.backend.waitSet(false)
        continue
      }
      timeout = Math.min(timeout, member.engine.retryAt - now)
      if (member.waitsFor !== NEXT_WHEN_WRITABLE) member.asleep = true
      if (member.waitsFor !== NEXT_IDLE && member.backend.arm?.() === false) busy = true
      const waitSet = member.backend.waitSet(member.waitsFor === NEXT_WHEN_WRITABLE)
      for (let k = 0; k < waitSet.length; k++) poll.add(waitSet[k]!.fd, waitSet[k]!.events)
      count += waitSet.length
      member.descriptors = waitSet.length
    }
    // A submission from here on finds a sleeper, and writes the eventfd.
    for (let i = 0; i < members.length && !busy; i++) {
      const { waitsFor } = members[i]!
      busy = (waitsFor === NEXT_IDLE || waitsFor === NEXT_WHEN_REAPED) && !members[i]!.quiet
    }
    if (!busy) poll.wait(Math.max(0, timeout))
    for (let i = 0; i < members.length; i++) {
      const member = members[i]!
      if (member.waitsFor === NEXT_AT_DEADLINE) continue
      if (member.waitsFor !== NEXT_WHEN_WRITABLE) member.asleep = false
      member.woken = busy && member.waitsFor !== NEXT_IDLE
      for (let k = 0; k < member.descriptors; k++) if (poll.revents(member.firstDescriptor + k) !== 0) member.woken = true
      if (member.woken) member.waitingSince = 0
    }
    if (poll.revents(0) !== 0) wake.clear()
  }
}
