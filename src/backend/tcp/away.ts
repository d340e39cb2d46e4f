/**
 * The endpoints whose connection is lost and made again, by substream. The stream has to learn of each loss before anything more goes:
 * what it submitted before that fails, and its next receiver is told the descriptors first.
 *
 * | state  | rows                    | leaves by                                                               |
 * |--------|-------------------------|-------------------------------------------------------------------------|
 * | untold | fail                    | the stream resumes → told, or back if connected; attempts over → no more |
 * | told   | wait for the connection | it is connected → back; attempts over → no more                         |
 *
 * back: it is an endpoint like the others. No more: its rows fail for good.
 *
 * The stream is told of the loss of its only endpoint at once, so sends that follow wait. Others would wait behind them, so of one of several
 * endpoints it is told when that is connected again, and rows fail until then.
 */
import { POLLIN, POLLOUT } from '../../../ffi/layout.js'
import { errnoName, NativeError } from '../../../ffi/native-error.js'
import type { TcpSocket } from '../../../ffi/socket/tcp-socket.js'
import { TimerFd } from '../../../ffi/wait.js'
import { counted } from '../../errors.js'
import type { PathNews } from '../path-news.js'
import { Bearings } from '../udp/bearings.js'
import { Attempts } from './attempts.js'
import { dial, type RetryOptions, type TcpOptions } from './dial.js'

interface Lost {
  readonly attempts: Attempts
  readonly interest: { readonly fd: number; readonly events: number }
  readonly since: number
  state: 'untold' | 'told'
}

export class Away {
  /** How often a connection was made again. */
  reconnects = 0
  /** Ready when an attempt or a pause is over. */
  readonly timer = new TimerFd()
  readonly #lost = new Map<number, Lost>()
  readonly #givenUp = new Set<number>()
  /** Substreams that the stream has to learn of. */
  #news: number[] = []
  readonly #bearings: Bearings
  readonly #waits: boolean
  #timerAt = Number.POSITIVE_INFINITY

  constructor(
    readonly options: TcpOptions,
    readonly retry: RetryOptions,
    readonly sockets: readonly TcpSocket[],
    readonly path: PathNews,
    /** The substream's socket is connected again, and takes rows. */
    readonly back: (substream: number) => void,
  ) {
    this.#bearings = new Bearings(options)
    this.#waits = options.endpoints.length === 1
  }

  /** There are such endpoints. */
  get any(): boolean {
    return this.#lost.size > 0
  }

  lose(substream: number): void {
    const socket = this.sockets[substream]!
    const attempts = new Attempts(socket, () => this.#dial(substream), this.retry, this.options.connectTimeoutMs)
    const interest = { fd: socket.fd, events: POLLOUT }
    this.#lost.set(substream, { attempts, interest, since: performance.now(), state: 'untold' })
    if (this.#waits) this.#news.push(substream)
    this.#setTimer()
  }

  /** The interface and zones as they are now: they may be others than at the loss. @throws NativeError */
  #dial(substream: number): void {
    const bearings = this.#bearings
    bearings.take()
    if (bearings.errno !== 0) throw new NativeError('bind', bearings.errno, bearings.trouble)
    dial(this.sockets[substream]!, bearings.endpoints[substream]!, bearings.interface, this.options)
  }

  /** Goes on with the attempts as far as they go without waiting. */
  advance(): void {
    if (!this.any) return
    for (const [substream, lost] of this.#lost)
      if (lost.attempts.state !== 'connected' && lost.attempts.advance()) this.#ended(substream, lost)
    this.#setTimer()
  }

  #ended(substream: number, lost: Lost): void {
    const { text } = this.options.endpoints[substream]!
    const { count, state, errno } = lost.attempts
    const after = `after ${counted(count, 'attempt')} in ${((performance.now() - lost.since) / 1000).toFixed(1)} s`
    if (state === 'over') {
      this.#lost.delete(substream)
      this.#givenUp.add(substream)
      this.path.note(`${text}: nobody to connect to ${after}${errno === 0 ? '' : ` (${errnoName(errno)})`}; no more attempts`)
      return
    }
    this.reconnects++
    this.path.note(`${text}: connected again ${after}`)
    if (lost.state === 'told') this.#bring(substream)
    else if (!this.#waits) this.#news.push(substream)
  }

  #bring(substream: number): void {
    this.#lost.delete(substream)
    this.back(substream)
  }

  /** The stream has learnt of it. */
  resume(substream: number): void {
    const lost = this.#lost.get(substream)
    if (lost?.state !== 'untold') return
    if (lost.attempts.state === 'connected') this.#bring(substream)
    else if (this.#waits) lost.state = 'told'
  }

  /** As Backend.takeLost. */
  take(): readonly number[] {
    const news = this.#news
    this.#news = []
    return news
  }

  /** Its rows wait, instead of failing. */
  holds(substream: number): boolean {
    return this.#lost.get(substream)?.state === 'told'
  }

  /** Tells a person whether the stream still tries to connect again. */
  outlook(substream: number): string {
    return this.#givenUp.has(substream)
      ? `no attempt to connect again came through in ${this.retry.seconds} s: open another stream`
      : 'the stream connects again'
  }

  /** Adds what ends a wait. */
  addTo(set: { readonly fd: number; readonly events: number }[]): void {
    set.push({ fd: this.timer.fd, events: POLLIN })
    for (const { attempts, interest } of this.#lost.values()) if (attempts.state === 'connecting') set.push(interest)
  }

  #setTimer(): void {
    let dueAt = Number.POSITIVE_INFINITY
    for (const { attempts } of this.#lost.values()) dueAt = Math.min(dueAt, attempts.dueAt)
    // A timer that was set before, and is no longer needed, ends a wait once for nothing.
    this.timer.clear()
    if (dueAt < Number.POSITIVE_INFINITY && dueAt !== this.#timerAt) this.timer.set(Math.max(0, (dueAt - performance.now()) * 1e6))
    this.#timerAt = dueAt
  }

  close(): void {
    this.timer.close()
  }
}
