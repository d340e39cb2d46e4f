/**
 * Rows that the backend refused, of substreams whose rows are to be posted again: they are put aside, other substreams go on, and the rows are
 * posted again in their order after pauses that grow. What the flights' sends are told waits for them. The engine posts them by `flight`.
 *
 * | state of a substream | its rows                                              | leaves by                                              |
 * |----------------------|-------------------------------------------------------|--------------------------------------------------------|
 * | flowing              | are posted                                            | one is refused → held                                  |
 * | held                 | are put aside; the oldest is posted again now and then | all are posted → flowing; the policy's time is over    |
 * |                      |                                                       | since the last packet that got through → lost, and all fail |
 * | lost                 | are posted once, and fail where they are refused      | a packet gets through → flowing                        |
 *
 * "Got through" is a completion, because devices refuse packets after they took them. Rows that fail so go before those put aside that were
 * submitted later. Nothing is posted again that may have left, unless the policy allows duplicates.
 */
import { ERRNO } from '../../ffi/native-error.js'
import { type Backend, CAUSE_FLUSHED, CAUSE_UNKNOWN, type PostResult } from '../backend/backend.js'
import type { Accounts } from './accounts.js'
import type { ErrorPolicy } from './contract.js'
import { Flight, type Flights } from './flights.js'
import type { Interlude } from './interlude.js'
import { Trail } from './trail.js'

const FLOWING = 0
const HELD = 1
const LOST = 2

/** Rows first … end−1 of a flight, which wait to be posted. */
interface Run {
  readonly flight: Flight
  readonly count: number
  first: number
  end: number
  /** The backend refused them. Others wait behind these. */
  tried: boolean
}

class Substream {
  state: typeof FLOWING | typeof HELD | typeof LOST = FLOWING
  /** Since when nothing has got through, in trouble; −1: there is no trouble. */
  since = -1
  pause = 0
  /** When its oldest row is posted again, while it is held. */
  at = 0
  /** The last refusal's. */
  errno = 0
  /** In the order of submission. */
  runs: Run[] = []

  constructor(readonly policy: ErrorPolicy['retry']) {}
}

export interface RetryParts {
  readonly backend: Backend
  readonly accounts: Pick<Accounts, 'add'>
  readonly flights: Flights
  readonly interlude: Interlude
  readonly policies: readonly ErrorPolicy[]
  readonly excuses: Uint8Array | undefined
}

export class Retries {
  /** The engine's clock, at this step. */
  now = 0
  /** When rows put aside are to be posted again; Infinity: there are none. */
  at = Number.POSITIVE_INFINITY
  /** Stands for the flight whose rows are posted again. */
  readonly flight = new Flight()
  readonly trail = new Trail()
  readonly #parts: RetryParts
  readonly #substreams: readonly Substream[]
  #held = 0
  /** Substreams in trouble, those held or lost included. */
  #troubled = 0
  /** Where the rows of `flight` come from. */
  #source: Substream | undefined
  /** Since when the backend has had no room; −1: it has. */
  #stuckSince = -1
  #stopped = false

  constructor(parts: RetryParts) {
    this.#parts = parts
    this.#substreams = parts.policies.map(({ retry }) => new Substream(retry))
  }

  /** Rows are put aside, or may have to be told of in another order than they were submitted in. */
  get engaged(): boolean {
    return this.trail.engaged
  }

  /** Rows wait to be posted again. */
  get holds(): boolean {
    return this.#held > 0
  }

  // The engine's calls, in the order of a post.

  /** Puts the next rows of a flight aside as far as their substreams are held. */
  skipHeld(flight: Flight, count: number): void {
    if (flight === this.flight || flight === this.#parts.interlude.flight) return
    const { substream } = flight.variant!.compiled.table
    let row = flight.rowsPosted
    for (; row < flight.rows; row++) {
      const target = this.#substreams[substream[row]!]!
      if (target.state !== HELD) break
      this.#put(target, flight, count, row, row + 1, false)
    }
    flight.rowsPosted = row
  }

  /** The first row before `end`, and behind those posted, whose substream is held; `end` if there is none. */
  nextHeld(flight: Flight, end: number): number {
    if (flight === this.flight || flight === this.#parts.interlude.flight) return end
    const { substream } = flight.variant!.compiled.table
    let row = flight.rowsPosted
    while (row < end && this.#substreams[substream[row]!]!.state !== HELD) row++
    return row
  }

  /** Makes `flight` stand for the oldest rows of the substream that is due. */
  load(): Flight {
    const { flight } = this
    const source = this.#substreams.find(({ state, at }) => state === HELD && at <= this.now)!
    const run = source.runs[0]!
    this.#source = source
    flight.variant = run.flight.variant
    flight.heaps = run.flight.heaps
    flight.rows = run.end
    flight.rowsPosted = run.first
    return flight
  }

  /** The backend took rows first … end−1 of a flight. */
  posted(flight: Flight, count: number, first: number, end: number): void {
    if (end > first) this.#stuckSince = -1
    if (flight !== this.flight) {
      if (this.engaged) this.trail.posted(flight, count, first, end)
      return
    }
    const source = this.#source!
    const run = source.runs[0]!
    this.trail.posted(run.flight, run.count, first, end)
    if (run.tried) this.#count(run.flight, first, end)
    this.#shorten(source, end)
  }

  /** Rows of the oldest run before `end` wait no more. */
  #shorten(source: Substream, end: number): void {
    const run = source.runs[0]!
    run.first = end
    if (run.first === run.end) source.runs.shift()
    if (source.runs.length === 0) this.#release(source, FLOWING)
  }

  #count(flight: Flight, first: number, end: number): void {
    const { accounts } = this.#parts
    const { table } = flight.variant!.compiled
    flight.retried ??= new Uint8Array(table.heaps)
    for (let r = first; r < end; r++) {
      const heap = table.heap[r]!
      accounts.add(table.substream[r]!, 'packetsRetried', 1)
      accounts.add(table.substream[r]!, 'heapsRetried', 1 - flight.retried[heap]!)
      flight.retried[heap] = 1
    }
  }

  /**
   * The backend refused rows of a flight (POST_SKIP), from `first` on. True: they are put aside. Otherwise they have failed.
   */
  refused(flight: Flight, count: number, first: number, { substream, skipped, errno }: PostResult): boolean {
    const { backend, excuses, interlude } = this.#parts
    const target = this.#substreams[substream]!
    const again = flight === this.flight
    const end = first + skipped
    if (flight !== interlude.flight && this.#mayHold(target, errno)) {
      this.engage()
      this.trail.refused(skipped)
      if (again) this.#noteTried(target, end)
      else this.#put(target, flight, count, first, end, true)
      return this.#hold(target, errno)
    }
    const real = again ? target.runs[0]!.flight : flight
    real.fail(first, skipped, errno, backend, excuses)
    if (this.engaged) {
      this.trail.refused(skipped)
      real.rowsCompleted += skipped
      if (again) this.#shorten(target, end)
    }
    return false
  }

  /**
   * The backend takes rows of a flight, from `first` on, at another time (POST_AGAIN). True: others may go meanwhile, or the rows were given up.
   */
  waits(flight: Flight, count: number, first: number, { substream, errno }: PostResult): boolean {
    if (flight === this.#parts.interlude.flight) return false
    const again = flight === this.flight
    const { variant, rows } = flight
    const row = variant!.compiled.table.substream
    const target = this.#substreams[row[first]!]!
    const { policy } = target
    if (substream >= 0 && this.#mayHold(target, errno)) {
      let end = first + 1
      while (end < rows && row[end] === row[first]) end++
      if (!again) this.#aside(target, flight, count, first, end)
      this.#hold(target, errno)
      return true
    }
    if (again) {
      target.at = this.now + Math.max(target.pause, policy!.firstNanoseconds)
      this.#schedule()
    }
    if (errno === 0 || !policy || this.#stopped) return false
    if (this.#stuckSince < 0) this.#stuckSince = this.now
    if (this.now - this.#stuckSince < policy.forNanoseconds) return false
    if (!again) this.#aside(target, flight, count, first, Math.min(rows, variant!.posting!.edge[first]!))
    target.errno = errno
    this.#giveUp(target)
    return true
  }

  /** Puts rows aside that were not posted. */
  #aside(target: Substream, flight: Flight, count: number, first: number, end: number): void {
    this.engage()
    this.#put(target, flight, count, first, end, false)
    flight.rowsPosted = end
  }

  /** From now on the order of posting is noted. */
  engage(): void {
    const { flights, interlude } = this.#parts
    this.trail.engage(flights, interlude)
  }

  // The calls of completions.ts.

  /** Rows first … end−1 of a flight got through. */
  passed(flight: Flight, first: number, end: number): void {
    if (this.#troubled === 0) return
    const { substream } = flight.variant!.compiled.table
    for (let r = first; r < end; r++) {
      const target = this.#substreams[substream[r]!]!
      if (target.since < 0) continue
      target.pause = 0
      if (target.state === HELD) {
        target.since = this.now
        continue
      }
      target.state = FLOWING
      target.since = -1
      this.#troubled--
    }
  }

  /** A row failed after it was posted. True: it is put aside. */
  failedLate(flight: Flight, count: number, row: number, cause: number): boolean {
    const target = this.#substreams[flight.variant!.compiled.table.substream[row]!]!
    if (flight === this.#parts.interlude.flight || !this.#mayHold(target, cause)) return false
    if (cause === CAUSE_UNKNOWN && !target.policy!.duplicates) return false
    this.#put(target, flight, count, row, row + 1, true)
    this.#hold(target, cause)
    return true
  }

  /** The order of posting is that of submission again, if all trouble is over. */
  settle(): void {
    if (this.trail.empty && this.#troubled === 0) this.trail.engaged = false
  }

  // The engine's calls at the end.

  /** The backend is broken: all that waits fails. */
  failAll(errno: number): void {
    for (const target of this.#substreams) {
      if (target.state !== HELD) continue
      target.errno = errno
      this.#fail(target)
      this.#release(target, LOST)
    }
  }

  /** Nothing is posted any more: rows that wait fail, or were never tried. */
  abort(): void {
    this.#stopped = true
    for (const target of this.#substreams) {
      if (target.state !== HELD) continue
      this.#fail(target, undefined, CAUSE_FLUSHED)
      this.#release(target, LOST)
    }
  }

  /** Nobody will tell of the rows that the backend holds. */
  lose(completions: { lose(flight: Flight, first: number, end: number): void }): void {
    for (let part = this.trail.front; part; part = this.trail.front) {
      const { flight, first, end } = part
      if (flight?.variant) completions.lose(flight, first, end)
      this.trail.pass(end - first)
    }
    this.trail.engaged = false
  }

  #mayHold({ policy, state }: Substream, errno: number): boolean {
    // Memory of a packet that is gone does not come back.
    return policy !== undefined && state !== LOST && !this.#stopped && errno !== ERRNO.EFAULT
  }

  /** Holds a substream of which rows are put aside. False: its time is over, and they have failed. */
  #hold(target: Substream, errno: number): boolean {
    const { firstNanoseconds, mostNanoseconds, forNanoseconds } = target.policy!
    const { now } = this
    target.errno = errno
    if (target.since < 0) {
      target.since = now
      target.pause = 0
      this.#troubled++
    }
    if (now - target.since >= forNanoseconds) {
      this.#giveUp(target)
      return false
    }
    if (target.state !== HELD) this.#held++
    // Many rows of one try may be refused.
    else if (now < target.at) return true
    target.state = HELD
    target.pause = Math.min(mostNanoseconds, target.pause === 0 ? firstNanoseconds : target.pause * 2)
    target.at = Math.min(now + target.pause, target.since + forNanoseconds)
    this.#schedule()
    return true
  }

  #giveUp(target: Substream): void {
    this.#fail(target, this.#parts.excuses)
    if (target.since < 0) {
      target.since = this.now
      this.#troubled++
    }
    this.#release(target, LOST)
  }

  /** All rows of a substream that wait fail. @param untried the cause for those that were never posted */
  #fail(target: Substream, excuses?: Uint8Array, untried = target.errno): void {
    const { backend } = this.#parts
    for (const { flight, first, end, tried } of target.runs) {
      flight.fail(first, end - first, tried ? target.errno : untried, backend, excuses)
      flight.rowsCompleted += end - first
    }
    target.runs = []
  }

  #release(target: Substream, state: typeof FLOWING | typeof LOST): void {
    if (target.state === HELD) this.#held--
    target.state = state
    this.#schedule()
  }

  #schedule(): void {
    this.at = Number.POSITIVE_INFINITY
    if (this.#held > 0) for (const { state, at } of this.#substreams) if (state === HELD && at < this.at) this.at = at
  }

  /** The first rows of the oldest run, those before `end`, were refused once more. */
  #noteTried(target: Substream, end: number): void {
    const run = target.runs[0]!
    if (run.tried) return
    if (end < run.end)
      target.runs.splice(1, 0, { flight: run.flight, count: run.count, first: end, end: run.end, tried: run.tried })
    run.end = end
    run.tried = true
  }

  /** Puts rows aside, in their place among those that wait. */
  #put(target: Substream, flight: Flight, count: number, first: number, end: number, tried: boolean): void {
    const { runs } = target
    let at = runs.length
    while (at > 0 && isBehind(runs[at - 1]!, count, first)) at--
    const before = runs[at - 1]
    if (before && before.count === count && before.end === first && before.tried === tried) before.end = end
    else runs.splice(at, 0, { flight, count, first, end, tried })
  }
}

function isBehind(run: Run, count: number, first: number): boolean {
  const behind = (run.count - count) | 0
  return behind > 0 || (behind === 0 && run.first > first)
}

/** 1 for each substream whose heaps may fail without failing the send; undefined where none may. */
export function excusesOf(policies: readonly ErrorPolicy[] = []): Uint8Array | undefined {
  return policies.some(({ skips }) => skips) ? Uint8Array.from(policies, ({ skips }) => Number(skips)) : undefined
}

/** Undefined where no substream's rows are posted again. */
export function retriesOf(parts: RetryParts): Retries | undefined {
  return parts.policies.some(({ retry }) => retry) ? new Retries(parts) : undefined
}
