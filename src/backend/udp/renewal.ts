/**
 * Follows what changes on the host below a stream: interfaces that are made anew, addresses that are replaced, routes that lead
 * elsewhere. Between posts it finds interface, zones and paths again, and makes the socket anew where the old one holds on to what
 * is gone.
 *
 * | state    | packets             | leaves by                                                                 |
 * |----------|---------------------|---------------------------------------------------------------------------|
 * | current  | go                  | `doubt`, when the kernel tells of a change or refuses a packet → doubtful |
 * | doubtful | go, and are suspect | a look that the kernel answers → current; lost, when interface, address   |
 * |          |                     | or socket are not to be had                                               |
 * | lost     | are refused, as the | a look, after a change is told or RETRY_MS → current                      |
 * |          | gates say why       |                                                                           |
 *
 * Three things of a socket outlive what they were made of: an address that bind or connect pinned, the interface's index in
 * IP_UNICAST_IF and IP_MULTICAST_IF, and the scope of a link-local address that it is connected to. Everything else the kernel
 * looks up for each packet.
 */
import { performance } from 'node:perf_hooks'
import { ERRNO, errnoName, NativeError } from '../../../ffi/native-error.js'
import { lackOf, SpeadcastError } from '../../errors.js'
import type { Devices, Path } from '../../net/route.js'
import type { Gates, Known } from '../gates.js'
import { PathNews } from '../path-news.js'
import type { States } from '../states.js'
import type { Bearings } from './bearings.js'
import type { ReturnedErrors } from './returned-errors.js'

/** A change that no event tells is looked for this often while no packet can leave. */
const RETRY_MS = 1000
/** A question that the kernel did not answer, because no descriptor or no memory is left, is asked again after this. */
const UNANSWERED_MS = 100
/** Refused packets are no reason to look more often. */
const REFUSED_MS = 20
/**
 * Looks take no more of the time than this, but for MOST_CREDIT_MS at once, or a look that takes longer. A look costs some 100 µs, and 30 for
 * each endpoint beyond the first.
 */
const SHARE = 0.05
const MOST_CREDIT_MS = 100

export interface RenewalParts {
  readonly bearings: Bearings
  readonly gates: Gates
  readonly returned: ReturnedErrors
  /** The socket is connected to the first endpoint, which pins its address. */
  readonly connected: boolean
  /** Makes the socket anew, by the bearings. @throws NativeError */
  readonly remake: () => void
  /** The endpoints' scopes are others. */
  readonly rename: () => void
  /** The whole backend's. */
  readonly states: States
}

export class Renewal {
  state: 'current' | 'doubtful' | 'lost' = 'doubtful'
  readonly #parts: RenewalParts
  readonly #news: PathNews
  /** Told of since the last look. */
  #told = true
  /** The source address that the kernel chose for the first endpoint when the socket was connected. */
  #source: string
  /** The socket was not made by the bearings. */
  #stale = false
  #credit = MOST_CREDIT_MS
  #lookedAt = 0
  #triedAt = 0
  /** No look before. */
  #nextAt = 0

  constructor(parts: RenewalParts) {
    this.#parts = parts
    this.#source = parts.gates.paths[0]!.sourceAddress
    this.#news = new PathNews(parts.states)
  }

  /** Something has changed, or a packet was refused because of its route. */
  doubt(): void {
    this.#told = true
    if (this.state === 'current') this.state = 'doubtful'
  }

  /** A post failed because of the route or the link. True if it may be tried again at once, another way. */
  refused(): boolean {
    const now = performance.now()
    if (this.state === 'lost' || now - this.#triedAt < REFUSED_MS || this.#credit <= 0) return false
    this.doubt()
    return this.look() && (this.state as string) === 'current'
  }

  /** Looks, if there is reason to and time. True when packets go another way from now on, or can go no more. */
  look(): boolean {
    if (this.state === 'current') return false
    const now = performance.now()
    if (now < this.#nextAt) return false
    if (this.state === 'lost' && !this.#told && now - this.#triedAt < RETRY_MS) return false
    this.#credit = Math.min(MOST_CREDIT_MS, this.#credit + (now - this.#lookedAt) * SHARE)
    this.#lookedAt = now
    if (this.#credit <= 0) return false
    this.#told = false
    this.#triedAt = now
    const moved = this.#follow()
    this.#credit = Math.max(-MOST_CREDIT_MS, this.#credit - (performance.now() - now))
    return moved
  }

  #follow(): boolean {
    const { bearings, gates, returned, connected, remake, rename } = this.#parts
    const wasLost = this.state === 'lost'
    const before = [...gates.paths]
    // Answers that have come back are about the paths of before.
    returned.drain()
    const others = bearings.take()
    if (others === undefined) return this.#askAgain(wasLost)
    if (others) {
      this.#stale = true
      rename()
    }
    if (bearings.errno !== 0) return this.#lose(bearings.errno, wasLost)
    const devices: Devices = new Map()
    const first = pathOrErrno(bearings, 0, devices)
    if (first === undefined) return this.#askAgain(wasLost)
    const source = typeof first === 'object' ? first.sourceAddress : this.#source
    if (connected && !bearings.interface && source !== this.#source) this.#stale = true
    let moved = this.#stale || wasLost
    // A socket that is to be connected needs a route.
    if (moved && (typeof first === 'object' || !connected)) {
      try {
        remake()
        this.#stale = false
        this.#source = source
      } catch (error) {
        if (!(error instanceof NativeError)) throw error
        // Only without a new socket is the old one whole.
        if (lackOf(error)?.call === 'socket') return this.#askAgain(wasLost)
        bearings.errno = error.errno
        bearings.trouble = error.message
        return this.#lose(error.errno, wasLost)
      }
    }
    this.state = 'current'
    const known: Known = new Map()
    const changed: number[] = []
    for (let i = 0; i < gates.paths.length; i++) {
      const found = pathOrErrno(bearings, i, devices)
      if (found === undefined) this.#askAgain(false)
      else if (this.#followPath(i, found, known)) changed.push(i)
    }
    moved ||= changed.length > 0
    // The socket may have another address though its packets take the same path.
    if (moved) this.#news.tell(changed.length > 0 ? changed : [0], before, gates, () => bearings.trouble)
    return moved
  }

  /** The last answer holds until the kernel answers again. */
  #askAgain(wasLost: boolean): false {
    this.state = wasLost ? 'lost' : 'doubtful'
    this.#told = true
    this.#nextAt = performance.now() + UNANSWERED_MS
    return false
  }

  /** True when packets of the substream take another path, or one again, or none any more. */
  #followPath(i: number, found: Path | number, known: Known): boolean {
    const { gates } = this.#parts
    const cutBy = gates.cutBy(i)
    if (typeof found === 'number') {
      // A route that prohibits or swallows packets makes the kernel refuse each of them.
      if (cutBy === found || found === ERRNO.EACCES || found === ERRNO.EINVAL) return false
      gates.cut(i, found)
      return true
    }
    if (cutBy === 0 && !this.#differs(found, gates.paths[i]!)) {
      gates.paths[i] = found
      return false
    }
    gates.follow(i, found, known)
    this.#parts.returned.forget(i)
    return true
  }

  /** The route's own source address means nothing to a socket that is bound to one. */
  #differs(path: Path, other: Path): boolean {
    return (
      path.ifindex !== other.ifindex ||
      path.nextHop?.text !== other.nextHop?.text ||
      path.needsNeighbour !== other.needsNeighbour ||
      (!this.#parts.bearings.interface && path.sourceAddress !== other.sourceAddress)
    )
  }

  #lose(errno: number, wasLost: boolean): boolean {
    const { gates, bearings } = this.#parts
    this.state = 'lost'
    let moved = !wasLost
    for (let i = 0; i < gates.paths.length; i++) {
      if (gates.cutBy(i) === errno) continue
      gates.cut(i, errno)
      moved = true
    }
    if (moved) this.#news.note(`${bearings.trouble} (${errnoName(errno)})`)
    return moved
  }
}

/** Undefined where the kernel did not answer. */
function pathOrErrno(bearings: Bearings, i: number, devices: Devices): Path | number | undefined {
  try {
    return bearings.find(i, devices)
  } catch (error) {
    if (lackOf(error)) return undefined
    const cause = error instanceof SpeadcastError ? (error.cause ?? error) : error
    if (cause instanceof NativeError) return cause.errno
    if (error instanceof SpeadcastError) return ERRNO.ENETUNREACH!
    throw error
  }
}
