import { ERRNO, NativeError } from '../../ffi/native-error.js'
import { SpeadcastError } from '../errors.js'
import { kickNeighbour, neighbourState, type Path } from '../net/route.js'

/** Packets go. */
const OPEN = 0
/** The next hop's MAC is being asked for: packets wait. */
const PENDING = 1
/** The next hop did not answer in time, or cannot be asked: packets are refused, so that other substreams go on. */
const SHUT = 2

const RECHECK_MS = [0, 1, 10]
/** The kernel itself asks three times, a second apart, for every packet that wants to go there. */
const KICK_MS = 1000
/** A kick makes an entry at once. */
const LOST_KICK_MS = 5
/** How long packets wait, once in KICK_MS, for a neighbour that was given up on: one that lives again answers within this. */
const GRACE_MS = 5

/** How long they wait for one that the kernel just failed to find. An entry that is being deleted looks so too (neigh_delete). */
const FAILED_MS = 100

/** While packets wait for a next hop it is looked at every millisecond. After a pause of this nobody waited: its time begins anew. */
const FORGOTTEN_MS = 100

type Known = Map<string, ReturnType<typeof neighbourState>>

export interface GateOptions {
  readonly paths: readonly Path[]
  /** How long packets wait for a next hop that has become unknown. */
  readonly timeoutMs: number
  /** The path of a substream as of now. @throws NativeError, or SpeadcastError where there is none */
  readonly find: (substream: number) => Path
}

/**
 * Holds back substreams whose next hop has no link-layer address. The kernel queues a few packets to such a neighbour, says all is well
 * and drops the rest in silence (1,000 of 1,000 sends succeed). So packets wait here, and are refused when the neighbour does not answer.
 *
 * | state   | next                                                                                  |
 * |---------|---------------------------------------------------------------------------------------|
 * | open    | pending or shut, when `doubt` finds the MAC unknown; shut by `shut`                     |
 * | pending | open when the MAC is known, shut after timeoutMs                                        |
 * | shut    | open when the MAC is known; pending for GRACE_MS every second, by the route of that time; pending for timeoutMs when there is a route again, and by `revive`; as `follow` finds |
 */
export class Gates {
  /** Some gate is not open: ask `open` before every post. */
  any = false
  /** Rises with every change. */
  revision = 0
  readonly paths: Path[]
  readonly #options: GateOptions
  readonly #state: Uint8Array
  readonly #errno: Int32Array
  readonly #deadline: Float64Array
  readonly #checkedAt: Float64Array
  readonly #kickedAt: Float64Array

  constructor(options: GateOptions) {
    const n = options.paths.length
    this.#options = options
    this.paths = [...options.paths]
    this.#state = new Uint8Array(n)
    this.#errno = new Int32Array(n)
    this.#deadline = new Float64Array(n)
    this.#checkedAt = new Float64Array(n)
    this.#kickedAt = new Float64Array(n)
  }

  shut(substream: number, errno = ERRNO.EHOSTUNREACH): void {
    this.#errno[substream] = errno
    this.#set(substream, SHUT)
  }

  /**
   * Asks the kernel about every open gate that needs a neighbour (through `ifindex`, if given), because something happened there: a few
   * 10 µs for each next hop. True when one of them is open no more: recent packets may be lost.
   */
  doubt(ifindex?: number): boolean {
    const now = performance.now()
    const known: Known = new Map()
    const before = this.revision
    for (const [i, path] of this.paths.entries())
      if (this.#state[i] === OPEN && path.needsNeighbour && (ifindex === undefined || ifindex === path.ifindex))
        this.#checkNeighbour(i, now, known)
    return this.revision !== before
  }

  /** The link is back: neighbours that were given up on get another chance to answer before packets are refused. */
  revive(): void {
    const now = performance.now()
    for (let i = 0; i < this.paths.length; i++) {
      if (this.#state[i] !== SHUT) continue
      this.#deadline[i] = now + this.#options.timeoutMs
      this.#checkedAt[i] = 0
      this.#kickedAt[i] = 0
      this.#set(i, PENDING)
    }
  }

  /** Packets take another path from now on, whose next hop gets a chance to answer before they are refused. */
  follow(substream: number, path: Path): void {
    const now = performance.now()
    this.paths[substream] = path
    this.#deadline[substream] = now + this.#options.timeoutMs
    this.#checkedAt[substream] = now
    this.#kickedAt[substream] = Number.NEGATIVE_INFINITY
    this.#errno[substream] = ERRNO.EHOSTUNREACH
    this.#set(substream, PENDING)
    this.#checkNeighbour(substream, now, new Map())
  }

  /** Substreams whose packets wait or are refused. */
  get closedCount(): number {
    return this.#state.reduce((sum, state) => sum + (state === OPEN ? 0 : 1), 0)
  }

  /** How many messages from `from` on come before one to a gate that is not open; message m starts at row firstRow[m] (or is row m). */
  open(substream: Uint16Array, firstRow: Uint32Array | undefined, from: number, count: number): number {
    this.#recheck()
    if (!this.any) return count
    for (let i = 0; i < count; i++) if (this.#state[substream[firstRow ? firstRow[from + i]! : from + i]!] !== OPEN) return i
    return count
  }

  /** Why `open` stopped at a packet: 0 = wait a little, else the errno that refuses it. */
  refusal(substream: number): number {
    return this.#state[substream] === SHUT ? this.#errno[substream]! : 0
  }

  #set(substream: number, state: 0 | 1 | 2): void {
    if (this.#state[substream] === state) return
    this.#state[substream] = state
    this.any = this.#state.some((each) => each !== OPEN)
    this.revision++
  }

  #recheck(): void {
    const now = performance.now()
    let known: Known | undefined
    for (let i = 0; i < this.paths.length; i++) {
      const state = this.#state[i]!
      if (state === OPEN || now - this.#checkedAt[i]! < RECHECK_MS[state]!) continue
      // Substreams mostly share next hops: each is asked about once.
      known ??= new Map()
      this.#checkNeighbour(i, now, known)
    }
  }

  /** Opens or closes a gate as the kernel's knowledge of its neighbour, or its refusal to answer, demands. */
  #checkNeighbour(i: number, now: number, known: Known): void {
    if (this.#state[i] === PENDING && now - this.#checkedAt[i]! > FORGOTTEN_MS) {
      this.#deadline[i] = now + this.#options.timeoutMs
      this.#kickedAt[i] = Number.NEGATIVE_INFINITY
    }
    this.#checkedAt[i] = now
    try {
      this.#followNeighbour(i, now, known)
    } catch (error) {
      const cause = error instanceof SpeadcastError ? error.cause : error
      if (!(cause instanceof NativeError)) {
        if (!(error instanceof SpeadcastError)) throw error
        this.shut(i, ERRNO.ENETUNREACH)
      } else if (cause.errno === ERRNO.EPERM || cause.errno === ERRNO.EACCES) {
        // A firewall forbids the datagram that asks. It may let our packets pass, and the first of them will make the kernel ask.
        this.#set(i, OPEN)
      } else {
        this.shut(i, cause.errno)
      }
    }
  }

  /** @throws NativeError, or SpeadcastError where there is no path */
  #followNeighbour(i: number, now: number, known: Known): void {
    const noRoute = this.#state[i] === SHUT && this.#errno[i] !== ERRNO.EHOSTUNREACH
    const kick = this.#state[i] === OPEN || noRoute || now - this.#kickedAt[i]! > KICK_MS
    if (kick && this.#state[i] !== OPEN) this.paths[i] = this.#options.find(i)
    const path = this.paths[i]!
    const key = `${path.ifindex} ${path.nextHop?.text}`
    const neighbour = known.get(key) ?? neighbourState(path)
    known.set(key, neighbour)
    if (neighbour === 'reachable' || neighbour === 'not-needed') {
      this.#set(i, OPEN)
      return
    }
    // An entry that is deleted takes the request that is under way with it.
    if (kick || (neighbour === 'unasked' && now - this.#kickedAt[i]! > LOST_KICK_MS)) {
      this.#kickedAt[i] = now
      kickNeighbour(path)
    }
    if (this.#state[i] === PENDING) {
      if (now > this.#deadline[i]!) this.shut(i)
    } else if (kick) {
      const { timeoutMs } = this.#options
      const fresh = this.#state[i] === OPEN || noRoute
      this.#deadline[i] = now + (!fresh ? GRACE_MS : neighbour === 'failed' ? Math.min(timeoutMs, FAILED_MS) : timeoutMs)
      this.#errno[i] = ERRNO.EHOSTUNREACH
      this.#set(i, PENDING)
    }
  }
}
