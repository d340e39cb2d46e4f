/**
 * Waiting on the event loop for a descriptor or a time, main thread only: in a worker a poll handle crashes the process at the worker's end.
 * A descriptor sits in an epoll set and libuv polls
 * that: a socket with a pending error queue (POLLERR) would otherwise stop libuv's watcher for good.
 */
import { koffi } from './koffi.js'
import { CLOCK_MONOTONIC, EPOLL_EVENT, ITIMERSPEC, TFD_CLOEXEC, TFD_NONBLOCK } from './layout.js'
import { check, libc } from './libc.js'
import { orRelease } from './region.js'
import { Scratch } from './scratch.js'

interface PollHandle {
  close(): void
  ref?(): void
  unref?(): void
}
// koffi 3.3.4's index.d.ts declares the callback as (events); it is called with (status, events).
type PollFunction = (fd: number, options: { readable: boolean }, callback: (status: number, events: number) => void) => PollHandle

const EPOLL_CLOEXEC = 0o2000000
const EPOLL_CTL_ADD = 1
const EPOLLONESHOT = 1 << 30

const EXPIRATIONS_AT = 64

/**
 * A timer on the event loop with the kernel's resolution, main thread only: Node's own are whole milliseconds, and a burst of 64 KiB at
 * 1 Gb/s takes half of one (timerfd_create(2)).
 */
export class LoopTimer {
  readonly #fd: number
  readonly #scratch = new Scratch(128)
  readonly #handle: PollHandle
  #open = true

  constructor(readonly ready: () => void) {
    this.#fd = orRelease(this.#scratch.region, () =>
      check('timerfd_create', libc().timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)),
    )
    this.#handle = (koffi() as unknown as { node: { poll: PollFunction } }).node.poll(this.#fd, { readable: true }, this.#fired)
  }

  /** Without reading it would be ready again at once. A timer that was set anew meanwhile has nothing to read. */
  readonly #fired = (): void => {
    if (this.#open && libc().read(this.#fd, this.#scratch.address + EXPIRATIONS_AT, 8) > 0) this.ready()
  }

  /** Calls `ready` once, in so many nanoseconds, which replaces what was set before. 1.5 µs. */
  set(nanoseconds: number): void {
    const s = this.#scratch
    s.u8.fill(0, 0, ITIMERSPEC.size)
    s.putPointer(ITIMERSPEC.value, Math.floor(nanoseconds / 1e9))
    // Zero would stop it.
    s.putPointer(ITIMERSPEC.value + 8, Math.max(1, Math.floor(nanoseconds % 1e9)))
    check('timerfd_settime', libc().timerfd_settime(this.#fd, 0, s.address, 0))
  }

  /** Whether it keeps the process alive. No effect after close(): koffi crashes on a handle that is closed. */
  hold(yes: boolean): void {
    if (!this.#open) return
    if (yes) this.#handle.ref?.()
    else this.#handle.unref?.()
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#handle.close()
    libc().close(this.#fd)
    this.#scratch.region.release()
  }
}

/** Handles must be reachable or the callbacks just stop coming. */
const held = new Set<LoopPoll>()

/** Calls `ready` once, when any of `fds` has one of its poll(2) events; close() before the descriptors are closed. */
export class LoopPoll {
  readonly #epoll: number
  readonly #handle: PollHandle
  #open = true

  constructor(fds: readonly { readonly fd: number; readonly events: number }[], ready: () => void) {
    const c = libc()
    this.#epoll = check('epoll_create1', c.epoll_create1(EPOLL_CLOEXEC))
    const scratch = new Scratch(64)
    for (const { fd, events } of fds) {
      scratch.view.setUint32(EPOLL_EVENT.events, (events | EPOLLONESHOT) >>> 0, true)
      check('epoll_ctl', c.epoll_ctl(this.#epoll, EPOLL_CTL_ADD, fd, scratch.address))
    }
    scratch.region.release()
    this.#handle = (koffi() as unknown as { node: { poll: PollFunction } }).node.poll(this.#epoll, { readable: true }, () => {
      if (!this.#open) return
      this.close()
      ready()
    })
    held.add(this)
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    held.delete(this)
    this.#handle.close()
    libc().close(this.#epoll)
  }
}
