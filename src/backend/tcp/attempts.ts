/**
 * Attempts to connect again to a receiver whose connection was lost. Nothing here waits: advance() goes on when `dueAt` is there or the
 * socket is ready to write.
 *
 * | state      | the socket is                  | leaves by                                                              |
 * |------------|--------------------------------|------------------------------------------------------------------------|
 * | pausing    | new, once there is a descriptor | the pause is over → connecting; the time is up → over                  |
 * | connecting | connecting                     | it is connected → connected; refused or not answered → pausing, for twice as long; the time is up → over |
 * | connected  | connected                      | never                                                                  |
 * | over       | new                            | never                                                                  |
 */
import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import type { TcpSocket } from '../../../ffi/socket/tcp-socket.js'
import type { RetryOptions } from './dial.js'

export class Attempts {
  state: 'pausing' | 'connecting' | 'connected' | 'over' = 'pausing'
  /** Attempts that were begun. */
  count = 0
  /** With which the last one failed; 0 before the first. */
  errno = 0
  /** When to go on at the latest, on the clock of performance.now(). */
  dueAt: number
  readonly #socket: TcpSocket
  /** @throws NativeError */
  readonly #dial: () => void
  readonly #retry: RetryOptions
  readonly #timeoutMs: number
  readonly #endsAt: number
  #pauseMs: number
  /** The old connection is gone, and the socket new. */
  #renewed = false

  constructor(socket: TcpSocket, dial: () => void, retry: RetryOptions, timeoutMs: number) {
    const now = performance.now()
    this.#socket = socket
    this.#dial = dial
    this.#retry = retry
    this.#timeoutMs = timeoutMs
    this.#endsAt = now + retry.seconds * 1000
    this.#pauseMs = retry.delayMs
    this.dueAt = this.#pause(now)
  }

  /** True when the state has become connected or over. */
  advance(): boolean {
    const now = performance.now()
    if (this.state === 'connecting') this.#look(now)
    if ((this.state as string) === 'connected') return true
    if (now < this.dueAt || this.state === 'over') return false
    if (now < this.#endsAt) {
      this.#begin(now)
      return false
    }
    this.#renew()
    this.state = 'over'
    this.dueAt = Number.POSITIVE_INFINITY
    return true
  }

  #begin(now: number): void {
    this.count++
    this.errno = 0
    try {
      if (!this.#renewed) this.#socket.renew()
      this.#renewed = false
      this.#dial()
      this.state = 'connecting'
      this.dueAt = Math.min(now + this.#timeoutMs, this.#endsAt)
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
      this.#fail(error.errno, now)
    }
  }

  #look(now: number): void {
    if (this.#socket.connecting) {
      if (now >= this.dueAt) this.#fail(ERRNO.ETIMEDOUT, now)
      return
    }
    const errno = this.#socket.takeError()
    if (errno !== 0) {
      this.#fail(errno, now)
      return
    }
    this.state = 'connected'
    this.dueAt = Number.POSITIVE_INFINITY
  }

  #fail(errno: number, now: number): void {
    this.errno = errno
    this.state = 'pausing'
    this.#pauseMs = Math.min(2 * this.#pauseMs, this.#retry.delayMaxMs)
    this.dueAt = this.#pause(now)
  }

  /** Gives up what the socket had, and returns the end of the pause. */
  #pause(now: number): number {
    this.#renew()
    return Math.min(now + this.#pauseMs, this.#endsAt)
  }

  /** Where no descriptor is left for it, the next attempt tries again. */
  #renew(): void {
    if (this.#renewed) return
    try {
      this.#socket.renew()
      this.#renewed = true
    } catch (error) {
      if (!(error instanceof NativeError)) throw error
    }
  }
}
