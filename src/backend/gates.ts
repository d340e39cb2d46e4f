import { ERRNO, NativeError } from '../../ffi/native-error.js'
import { lackOf, SpeadcastError } from '../errors.js'
import { kickNeighbour, neighbourOf, neighbourState, type Path } from '../net/route.js'
import type { States } from './states.js'

/** Packets go. */
const OPEN = 0
/** The next hop's MAC is being asked for: packets wait. */
const PENDING = 1
/** Packets are refused, so that other substreams go on. */
const SHUT = 2
/** Packets go, and are doubtful: the last ones were rejected, or the kernel could not be asked about the next hop. */
const TRIAL = 3
type State = typeof OPEN | typeof PENDING | typeof SHUT | typeof TRIAL

// Reasons for being shut, by what opens the gate again.
/** The next hop did not answer in time. */
const NEIGHBOUR = 0
/** There is no route, or the next hop cannot be asked. */
const ROUTE = 1
/** The kernel has no room for another neighbour. */
const TABLE = 2
/** A router or the host rejects packets, by ICMP. Also a reason for a trial. */
const REJECTED = 3
// The other reason for a trial.
/** The kernel could not be asked about the next hop. */
const UNANSWERED = 4

const RECHECK_MS = [0, 1, 10, 10]
/** A host may answer one packet a second (icmp(7), icmp_ratelimit): after two without an answer, packets are taken to pass. */
const RETRY_MS = 1000
const TRIAL_MS = 2500
/** After this the kernel is asked again what it did not answer. */
const UNANSWERED_MS = 100
/** For so long answers that come back may be about packets that took the path before. */
const LATE_MS = 1000
/** Next hops that one look asks about, at some 30 µs each; looks take no more than a tenth of the time. */
const MOST_ASKED = 16
const LOOK_SHARE = 9
/** The kernel itself asks three times, a second apart, for every packet that wants to go there. */
const KICK_MS = 1000
/** A kick makes an entry at once. */
const LOST_KICK_MS = 5
/** How long they wait for a neighbour that the kernel just failed to find. An entry that is being deleted looks so too (neigh_delete). */
const FAILED_MS = 100
/** After a pause of this no packet waited, and the time of next hops begins anew. */
const FORGOTTEN_MS = 100
/**
 * How long packets wait for neighbours that were given up on: one that lives again answers within this. Once in KICK_MS for all
 * together, because thousands of dead ones would else hold up the others for ever.
 */
const GRACE_MS = 5

/** The next hops' states as one look has learnt them, because substreams mostly share them. */
export type Known = Map<string, ReturnType<typeof neighbourState>>

/** Whether the kernel cannot even make an entry for the next hop: there is none, and asking for the MAC makes none. */
function hasNoRoom(path: Path): boolean {
  try {
    if (neighbourOf(path)?.state !== 'none') return false
    kickNeighbour(path)
    return neighbourOf(path)?.state === 'none'
  } catch (error) {
    if (!(error instanceof NativeError)) throw error
    if (lackOf(error)) return false
    // IPv4 drops the datagram that asks in silence, IPv6 refuses it (ip6_finish_output2).
    return error.errno === ERRNO.ENOBUFS || (path.family === 6 && error.errno === ERRNO.EINVAL)
  }
}

export interface GateOptions {
  readonly paths: readonly Path[]
  /** How long packets wait for a next hop that has become unknown. */
  readonly timeoutMs: number
  /** The path of a substream as of now. @throws NativeError, or SpeadcastError where there is none */
  readonly find: (substream: number) => Path
  /** Told of each move; the owner of the gates adds the words. */
  readonly states: States
}

/**
 * Holds back substreams whose next hop has no link-layer address. The kernel queues a few packets to such a neighbour, says all is
 * well and drops the rest in silence (1,000 of 1,000 sends succeed). So packets wait here, and are refused when the neighbour does
 * not answer. Refuses too what a router, the host or a filter below the socket is known to reject.
 *
 * | state   | next                                                                                                    |
 * |---------|---------------------------------------------------------------------------------------------------------|
 * | open    | pending or shut, when `doubt` finds the MAC unknown; shut by `shut`                                     |
 * | pending | open when the MAC is known, shut after timeoutMs                                                        |
 * | shut    | open when the MAC is known; pending for GRACE_MS every second, by the route of that time; pending for   |
 * |         | timeoutMs when there is a route again, and by `revive`. Where packets were rejected: trial after        |
 * |         | RETRY_MS. As `follow` finds                                                                             |
 * | trial   | shut when a packet is rejected again; pending when `doubt` finds the MAC unknown; at its end as the     |
 * |         | kernel says, or it begins anew if that cannot be asked                                                  |
 *
 * A question that the kernel does not answer, because no descriptor or no memory is left, changes nothing but that open becomes
 * trial, and so does pending at its end. An answer within LATE_MS of a change of paths makes open trial, and does not shut.
 */
export class Gates {
  /** Some gate is not open: ask `open` before every post. */
  any = false
  /** Rises when a gate opens, shuts or begins to wait: its owner looks anew at what follows from neighbours and routes. */
  moves = 0
  readonly paths: Path[]
  readonly #options: GateOptions
  readonly #state: Uint8Array
  /** Where it is shut or on trial: why, as one of the reasons above. Where it is shut, the errno that tells so. */
  readonly #reason: Uint8Array
  readonly #errno: Int32Array
  readonly #deadline: Float64Array
  readonly #checkedAt: Float64Array
  readonly #kickedAt: Float64Array
  /** When packets began to take this path, if it is not the first. */
  readonly #followedAt: Float64Array
  /** Packets went through a gate on trial since `tried` was last asked. */
  #tried = false
  /** The substream that the next look begins with, and when it may be. */
  #next = 0
  #lookAt = 0
  #graceEnds = Number.NEGATIVE_INFINITY
  #notOpen = 0
  /** When packets last came to gates some of which are not open. */
  #waitedAt = Number.NEGATIVE_INFINITY

  constructor(options: GateOptions) {
    const n = options.paths.length
    this.#options = options
    this.paths = [...options.paths]
    this.#state = new Uint8Array(n)
    this.#reason = new Uint8Array(n)
    this.#errno = new Int32Array(n)
    this.#deadline = new Float64Array(n)
    this.#checkedAt = new Float64Array(n)
    this.#kickedAt = new Float64Array(n)
    this.#followedAt = new Float64Array(n).fill(Number.NEGATIVE_INFINITY)
  }

  /** The next hop does not answer. */
  shut(substream: number): void {
    const full = hasNoRoom(this.paths[substream]!)
    this.#shut(substream, full ? TABLE : NEIGHBOUR, full ? ERRNO.ENOBUFS : ERRNO.EHOSTUNREACH)
  }

  /** Somebody on the way answered that packets do not get there. They are refused from now on, and tried again after RETRY_MS. */
  reject(substream: number, errno: number): void {
    if (!this.#lets(substream) && !this.rejects(substream)) return
    const now = performance.now()
    if (now - this.#followedAt[substream]! < LATE_MS) this.#try(substream, now, REJECTED)
    else this.#shut(substream, REJECTED, errno)
  }

  /** This host itself answers that a next hop did not: that of the path of now, or of the one before. */
  lose(substream: number, known: Known): void {
    if (!this.paths[substream]!.needsNeighbour) this.reject(substream, ERRNO.EHOSTUNREACH)
    else if (this.#lets(substream)) this.#checkNeighbour(substream, performance.now(), known)
  }

  #lets(substream: number): boolean {
    return this.#state[substream] === OPEN || this.#state[substream] === TRIAL
  }

  #try(substream: number, now: number, reason: typeof REJECTED | typeof UNANSWERED): void {
    this.#reason[substream] = reason
    this.#checkedAt[substream] = now
    this.#deadline[substream] = now + (reason === REJECTED ? TRIAL_MS : UNANSWERED_MS)
    this.#set(substream, TRIAL)
  }

  /** The kernel refuses packets with ENOBUFS, which it also does when it cannot make an entry for the next hop. */
  noteRefused(substream: number): void {
    if (hasNoRoom(this.paths[substream]!)) this.#shut(substream, TABLE, ERRNO.ENOBUFS)
  }

  #shut(substream: number, reason: number, errno: number): void {
    this.#reason[substream] = reason
    this.#errno[substream] = errno
    this.#checkedAt[substream] = performance.now()
    this.#set(substream, SHUT)
  }

  /** There is no path for packets of a substream, as the errno tells. */
  cut(substream: number, errno: number): void {
    this.#shut(substream, ROUTE, errno)
  }

  /** Packets take another path from now on, whose next hop gets a chance to answer before they are refused. */
  follow(substream: number, path: Path, known: Known): void {
    const now = performance.now()
    this.paths[substream] = path
    this.#followedAt[substream] = now
    this.#deadline[substream] = now + this.#options.timeoutMs
    // As if it had been asked for just now, so that the path is not looked for again; one that is unasked is asked for all the same.
    this.#kickedAt[substream] = now - LOST_KICK_MS - 1
    this.#set(substream, PENDING)
    this.#checkNeighbour(substream, now, known)
  }

  /** The errno that tells why there is no path for packets of a substream; 0 if there is one. */
  cutBy(substream: number): number {
    return this.#state[substream] === SHUT && this.#reason[substream] === ROUTE ? this.#errno[substream]! : 0
  }

  /** Whether a gate is shut because packets were rejected on the way. */
  rejects(substream: number): boolean {
    return this.#state[substream] === SHUT && this.#reason[substream] === REJECTED
  }

  /** Whether a gate is shut because the kernel's table of neighbours is full. */
  lacksRoom(substream: number): boolean {
    return this.#state[substream] === SHUT && this.#reason[substream] === TABLE
  }

  /** Whether packets of a gate on trial went since the last call: what becomes of them shows later. */
  get tried(): boolean {
    if (!this.#tried) return false
    this.#tried = false
    return true
  }

  /**
   * Asks the kernel about every gate that lets packets go and needs a neighbour (through `ifindex`, if given), because something
   * happened there: a few 10 µs for each next hop. True when one of them is open no more: recent packets may be lost.
   */
  doubt(ifindex?: number): boolean {
    const now = performance.now()
    const known: Known = new Map()
    const before = this.moves
    for (const [i, path] of this.paths.entries())
      if (this.#lets(i) && path.needsNeighbour && (ifindex === undefined || ifindex === path.ifindex))
        this.#checkNeighbour(i, now, known)
    return this.moves !== before
  }

  /** The link is back: neighbours that were given up on get another chance to answer before packets are refused. */
  revive(): void {
    const now = performance.now()
    for (let i = 0; i < this.paths.length; i++) {
      if (this.#state[i] !== SHUT || this.#reason[i] === REJECTED) continue
      this.#deadline[i] = now + this.#options.timeoutMs
      this.#checkedAt[i] = 0
      this.#kickedAt[i] = 0
      this.#set(i, PENDING)
    }
  }

  /** Substreams whose packets wait for a next hop or are refused for want of one. */
  get closedCount(): number {
    return this.#state.reduce(
      (sum, state, i) => sum + (state === PENDING || (state === SHUT && this.#reason[i] !== REJECTED) ? 1 : 0),
      0,
    )
  }

  /** Substreams whose packets are rejected, or were so lately. */
  get rejectedCount(): number {
    return this.#state.reduce((sum, state, i) => sum + (state >= SHUT && this.#reason[i] === REJECTED ? 1 : 0), 0)
  }

  /** How many messages from `from` on come before one to a gate that is not open; message m starts at row firstRow[m] (or is row m). */
  open(substream: Uint16Array, firstRow: Uint32Array | undefined, from: number, count: number): number {
    this.#recheck()
    if (!this.any) return count
    for (let i = 0; i < count; i++) {
      const state = this.#state[substream[firstRow ? firstRow[from + i]! : from + i]!]!
      if (state === TRIAL) this.#tried = true
      else if (state !== OPEN) return i
    }
    return count
  }

  /** Why `open` stopped at a packet: 0 = wait a little, else the errno that refuses it. */
  refusal(substream: number): number {
    // Its turn of a look may be far away where thousands wait for theirs.
    const now = performance.now()
    if (this.#state[substream] === PENDING && now > this.#deadline[substream]!) this.#checkNeighbour(substream, now, new Map())
    return this.#state[substream] === SHUT ? this.#errno[substream]! : 0
  }

  #set(substream: number, state: State): void {
    const before = this.#state[substream]
    if (before === state) return
    this.#state[substream] = state
    this.#notOpen += Number(state !== OPEN) - Number(before !== OPEN)
    this.any = this.#notOpen > 0
    this.moves++
    this.#options.states.change()
  }

  #beginAnew(now: number): void {
    for (let i = 0; i < this.paths.length; i++) {
      if (this.#state[i] !== PENDING) continue
      this.#deadline[i] = now + this.#options.timeoutMs
      this.#kickedAt[i] = Number.NEGATIVE_INFINITY
    }
  }

  #recheck(): void {
    const now = performance.now()
    if (now - this.#waitedAt > FORGOTTEN_MS) this.#beginAnew(now)
    this.#waitedAt = now
    if (now < this.#lookAt) return
    // Substreams mostly share next hops: each is asked about once.
    let known: Known | undefined
    const n = this.paths.length
    for (let k = 0; k < n && (known === undefined || known.size < MOST_ASKED); k++) {
      const i = this.#next
      this.#next = (i + 1) % n
      const state = this.#state[i]!
      const sinceMs = now - this.#checkedAt[i]!
      if (state === OPEN || sinceMs < RECHECK_MS[state]!) continue
      if (state === TRIAL) {
        if (now < this.#deadline[i]!) continue
        known ??= new Map()
        this.#set(i, OPEN)
        this.#checkNeighbour(i, now, known)
      } else if (this.rejects(i)) {
        if (sinceMs < RETRY_MS) continue
        this.#try(i, now, REJECTED)
        known ??= new Map()
        this.#checkNeighbour(i, now, known)
      } else {
        known ??= new Map()
        this.#checkNeighbour(i, now, known)
      }
    }
    if (!known) return
    const end = performance.now()
    this.#lookAt = end + LOOK_SHARE * (end - now)
  }

  /** Opens or closes a gate as the kernel's knowledge of its neighbour, or its refusal to answer, demands. */
  #checkNeighbour(i: number, now: number, known: Known): void {
    this.#checkedAt[i] = now
    try {
      this.#followNeighbour(i, now, known)
    } catch (error) {
      const cause = error instanceof SpeadcastError ? error.cause : error
      if (lackOf(error)) {
        const over = this.#state[i] === PENDING && now > this.#deadline[i]!
        if (over || this.#state[i] === OPEN) this.#try(i, now, UNANSWERED)
      } else if (!(cause instanceof NativeError)) {
        if (!(error instanceof SpeadcastError)) throw error
        this.#shut(i, ROUTE, ERRNO.ENETUNREACH)
      } else if (cause.errno === ERRNO.EPERM || cause.errno === ERRNO.EACCES) {
        // A firewall forbids the datagram that asks. It may let our packets pass, and the first of them will make the kernel ask.
        this.#set(i, OPEN)
      } else if (hasNoRoom(this.paths[i]!)) {
        this.#shut(i, TABLE, ERRNO.ENOBUFS)
      } else {
        this.#shut(i, ROUTE, cause.errno)
      }
    }
  }

  /** @throws NativeError, or SpeadcastError where there is no path */
  #followNeighbour(i: number, now: number, known: Known): void {
    const noRoute = this.#state[i] === SHUT && this.#reason[i] === ROUTE
    const lets = this.#lets(i)
    const kick = lets || noRoute || now - this.#kickedAt[i]! > KICK_MS
    if (kick && !lets) this.paths[i] = this.#options.find(i)
    const path = this.paths[i]!
    const key = `${path.ifindex} ${path.nextHop?.text}`
    const neighbour = known.get(key) ?? neighbourState(path)
    known.set(key, neighbour)
    if (neighbour === 'reachable' || neighbour === 'not-needed') {
      if (!lets) this.#set(i, OPEN)
      return
    }
    // An entry that is deleted takes the request that is under way with it.
    const idle = neighbour === 'unasked' || (neighbour === 'failed' && this.#state[i] === PENDING)
    if (kick || (idle && now - this.#kickedAt[i]! > LOST_KICK_MS)) {
      this.#kickedAt[i] = now
      kickNeighbour(path)
      if (neighbour === 'unasked') known.set(key, 'unresolved')
    }
    if (this.#state[i] === PENDING) {
      if (now > this.#deadline[i]!) this.shut(i)
    } else if (kick && (lets || noRoute)) {
      const { timeoutMs } = this.#options
      this.#deadline[i] = now + (neighbour === 'failed' ? Math.min(timeoutMs, FAILED_MS) : timeoutMs)
      this.#set(i, PENDING)
    } else if (kick) {
      if (now > this.#graceEnds + KICK_MS - GRACE_MS) this.#graceEnds = now + GRACE_MS
      if (now < this.#graceEnds) {
        this.#deadline[i] = this.#graceEnds
        this.#set(i, PENDING)
      }
    }
  }
}
