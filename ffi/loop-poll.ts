/**
 * Waits on the event loop for a descriptor or a time, where `loopPolls` says that this is possible. A backend's descriptors sit in an epoll
 * set and libuv polls that, because a socket with a pending error queue (POLLERR) would stop libuv's watcher for good.
 */
import { isMainThread } from 'node:worker_threads'
import { koffi } from './koffi.js'
import { EPOLL_EVENT } from './layout.js'
import { checkCall, libc } from './libc.js'
import { Scratch } from './memory/scratch.js'
import type { EventFd, TimerFd } from './wait.js'

interface PollHandle {
  close(): void
  ref?(): void
  unref?(): void
}
// koffi 3.3.4's index.d.ts declares the callback as (events); it is called with (status, events).
type PollFunction = (fd: number, options: { readable: boolean }, callback: (status: number, events: number) => void) => PollHandle

/**
 * Whether the event loop of this thread can wait for a descriptor. Not in a worker, because a poll handle crashes the process at the worker's
 * end. Not under Bun, which ends the process when koffi calls uv_poll_init_socket, and not under Deno, whose handles call back once and no more.
 */
export const loopPolls = isMainThread && process.versions.bun === undefined && process.versions.deno === undefined

/**
 * Node 20 to 24 run ticks and microtasks behind a callback of koffi's. Node 26 leaves them until something else happens on the event loop, so that
 * a promise that was settled there, or a packet that node:dgram has sent, would go unnoticed for as long.
 */
const ticksFollow = Number.parseInt(process.versions.node, 10) < 25
const nothing = (): void => {}

const EPOLL_CLOEXEC = 0o2000000
const EPOLL_CTL_ADD = 1
const EPOLLONESHOT = 1 << 30

/** Those that watch, which also keeps their handles reachable: callbacks of a handle that is collected just stop coming. */
const watching = new Set<Watch>()
let state: 'unused' | 'used' | 'exiting' = 'unused'

/**
 * Calls `ready` on the event loop whenever a descriptor can be read, until stop(), and no longer once the process is about to end:
 * node polls once more while it takes itself down, and a callback into JavaScript would then end the process by SIGABRT.
 */
class Watch {
  /** Undefined once closed, because koffi crashes on a closed handle. */
  #handle: PollHandle | undefined

  constructor(fd: number, ready: () => void) {
    if (state === 'exiting') return
    if (state === 'unused') process.on('exit', Watch.stopAll)
    state = 'used'
    watching.add(this)
    // Ticks and microtasks run behind an immediate.
    const heard = ticksFollow
      ? ready
      : () => {
          ready()
          setImmediate(nothing)
        }
    this.#handle = (koffi() as unknown as { node: { poll: PollFunction } }).node.poll(fd, { readable: true }, heard)
  }

  /** Sets whether it keeps the process alive; at first it does. */
  hold(yes: boolean): void {
    if (yes) this.#handle?.ref?.()
    else this.#handle?.unref?.()
  }

  stop(): void {
    this.#handle?.close()
    this.#handle = undefined
    watching.delete(this)
  }

  static stopAll(): void {
    state = 'exiting'
    for (const watch of watching) watch.stop()
  }
}

/** Calls `ready` on the event loop whenever `source` is ready, until close(), which closes both. */
export class LoopWaker<Source extends EventFd | TimerFd> {
  readonly #watch: Watch

  constructor(
    readonly source: Source,
    readonly ready: () => void,
  ) {
    this.#watch = new Watch(source.fd, this.#fired)
    this.hold(false)
  }

  /** Reads the source, which would be ready again at once otherwise. A timer that was set anew meanwhile has nothing to read. */
  readonly #fired = (): void => {
    if (this.source.clear()) this.ready()
  }

  /** Sets whether it keeps the process alive; at first it does not. No effect after close(). */
  hold(yes: boolean): void {
    this.#watch.hold(yes)
  }

  close(): void {
    if (!this.source.open) return
    this.#watch.stop()
    this.source.close()
  }
}

/** Calls `ready` once, when any of `fds` has one of its poll(2) events; close() before the descriptors are closed. */
export class LoopPoll {
  readonly #epoll: number
  readonly #watch: Watch
  #open = true

  constructor(fds: readonly { readonly fd: number; readonly events: number }[], ready: () => void) {
    const c = libc()
    this.#epoll = checkCall('epoll_create1', c.epoll_create1(EPOLL_CLOEXEC))
    const scratch = new Scratch(64)
    for (const { fd, events } of fds) {
      scratch.view.setUint32(EPOLL_EVENT.events, (events | EPOLLONESHOT) >>> 0, true)
      checkCall('epoll_ctl', c.epoll_ctl(this.#epoll, EPOLL_CTL_ADD, fd, scratch.address))
    }
    scratch.region.release()
    this.#watch = new Watch(this.#epoll, () => {
      if (!this.#open) return
      this.close()
      ready()
    })
  }

  /** Sets whether it keeps the process alive; at first it does. */
  hold(yes: boolean): void {
    this.#watch.hold(yes)
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#watch.stop()
    libc().close(this.#epoll)
  }
}
