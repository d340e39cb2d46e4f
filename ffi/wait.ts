/** Puts threads to sleep and wakes them: eventfd, timerfd, a bounded poll(2), and a thread's timer slack. Linux only. */
import { CLOCK_MONOTONIC, ITIMERSPEC, POLLFD, POLLIN, SOCK_CLOEXEC, SOCK_NONBLOCK, TFD_CLOEXEC, TFD_NONBLOCK } from './layout.js'
import { checkCall, errno, libc } from './libc.js'
import { orRelease } from './memory/region.js'
import { Scratch } from './memory/scratch.js'
import { ERRNO, NativeError } from './native-error.js'

/** Where reads put the count, in the scratch memory. */
const COUNT_AT = 64

/** A descriptor that one thread makes ready and another waits for. Every thread of the process may use it. */
abstract class Waker {
  readonly fd: number
  protected readonly scratch = new Scratch(128)
  #open = true

  /** @param fd another thread's descriptor; default: a new one, which `make` makes */
  constructor(make: () => number, fd?: number) {
    this.fd = fd ?? orRelease(this.scratch.region, make)
  }
  get open(): boolean {
    return this.#open
  }
  /** Makes it unready; returns false if it was not ready. */
  clear(): boolean {
    return this.#open && libc().read(this.fd, this.scratch.address + COUNT_AT, 8) > 0
  }
  close(): void {
    if (!this.#open) return
    libc().close(this.fd)
    this.forget()
  }
  /** Gives up its memory and leaves the descriptor open: the close() for another thread's descriptor. */
  forget(): void {
    if (!this.#open) return
    this.#open = false
    this.scratch.region.release()
  }
}

/** Wakes waiting threads at once (eventfd(2)). */
export class EventFd extends Waker {
  constructor(fd?: number) {
    super(() => checkCall('eventfd', libc().eventfd(0, SOCK_NONBLOCK | SOCK_CLOEXEC)), fd)
    this.scratch.i32[0] = 1
  }
  /** Makes it ready. No effect after close(), because the number may be another descriptor's by then. */
  signal(): void {
    if (this.open) libc().write(this.fd, this.scratch.address, 8)
  }
}

/** Wakes waiting threads at a set time, with the kernel's resolution (timerfd_create(2)). */
export class TimerFd extends Waker {
  constructor(fd?: number) {
    super(() => checkCall('timerfd_create', libc().timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)), fd)
  }
  /** Makes it ready once, after `nanoseconds`, and forgets an earlier time. 1.5 µs. */
  set(nanoseconds: number): void {
    if (!this.open) return
    const s = this.scratch
    s.u8.fill(0, 0, ITIMERSPEC.size)
    s.putPointer(ITIMERSPEC.value, Math.floor(nanoseconds / 1e9))
    // Zero would stop it.
    s.putPointer(ITIMERSPEC.value + 8, Math.max(1, Math.floor(nanoseconds % 1e9)))
    checkCall('timerfd_settime', libc().timerfd_settime(this.fd, 0, s.address, 0))
  }
}

/**
 * A reusable pollfd array. wait() allocates nothing and never blocks longer than asked. Callers keep that ≤ 50 ms, because process.exit() waits
 * for it (docs/ground-rules.md, "Threads and workers").
 */
export class PollSet {
  #scratch: Scratch
  #timeAt: number
  #capacity: number
  #count = 0
  /** @param capacity number of descriptors that it has room for at first; it grows */
  constructor(capacity: number) {
    this.#capacity = capacity
    this.#timeAt = capacity * POLLFD.size
    this.#scratch = new Scratch(this.#timeAt + 16)
  }
  #grow(): void {
    const before = this.#scratch
    this.#capacity = 2 * this.#capacity + 1
    this.#timeAt = this.#capacity * POLLFD.size
    this.#scratch = new Scratch(this.#timeAt + 16)
    this.#scratch.u8.set(before.u8.subarray(0, this.#count * POLLFD.size))
    before.region.release()
  }
  reset(): void {
    this.#count = 0
  }
  add(fd: number, events: number = POLLIN): void {
    if (this.#count === this.#capacity) this.#grow()
    const at = this.#count++ * POLLFD.size
    this.#scratch.view.setInt32(at + POLLFD.fd, fd, true)
    this.#scratch.view.setInt16(at + POLLFD.events, events, true)
    this.#scratch.view.setInt16(at + POLLFD.revents, 0, true)
  }
  revents(i: number): number {
    return this.#scratch.view.getInt16(i * POLLFD.size + POLLFD.revents, true)
  }
  /**
   * Returns how many descriptors are ready; 0 on timeout or a signal. The timeout is in nanoseconds (ppoll(2)), because pacing sleeps for a
   * few microseconds.
   */
  wait(timeoutNanoseconds: number): number {
    const s = this.#scratch
    s.putPointer(this.#timeAt, Math.floor(timeoutNanoseconds / 1e9))
    s.putPointer(this.#timeAt + 8, Math.max(0, timeoutNanoseconds % 1e9) >>> 0)
    const r = libc().ppoll(s.address, this.#count, s.address + this.#timeAt, 0)
    if (r >= 0) return r
    const e = errno()
    if (e === ERRNO.EINTR) return 0
    throw new NativeError('ppoll', e)
  }
}

const PR_SET_TIMERSLACK = 29

/**
 * Sets how late the calling thread's sleeps may end, so that the kernel wakes it for several timers at once (prctl(2)). Linux's own 50 µs
 * is too much for pacing: a sleep of 50 µs then takes 130.
 */
export function setTimerSlack(nanoseconds: number): void {
  // Zero would mean Linux's own.
  libc().prctl(PR_SET_TIMERSLACK, Math.max(1, Math.floor(nanoseconds)), 0, 0, 0)
}

const PR_SET_NAME = 15
const NAME_BYTES = 15

/** Names the calling thread for top(1) and gdb; the kernel keeps 15 bytes (prctl(2)). */
export function nameThread(name: string): void {
  const scratch = new Scratch(NAME_BYTES + 1)
  scratch.u8.set(new TextEncoder().encode(name).subarray(0, NAME_BYTES))
  libc().prctl(PR_SET_NAME, scratch.address, 0, 0, 0)
  scratch.region.release()
}

let nothing: PollSet | undefined

/** Puts the calling thread to sleep. Its timer slack is the default one afterwards (prctl(2): 0). */
export function nap(nanoseconds: number): void {
  nothing ??= new PollSet(0)
  setTimerSlack(1)
  nothing.wait(nanoseconds)
  libc().prctl(PR_SET_TIMERSLACK, 0, 0, 0, 0)
}

/** Closes descriptors that a worker opened and did not live to close. The caller sees to it that none is closed already. */
export function closeDescriptors(fds: Iterable<number>): void {
  for (const fd of fds) libc().close(fd)
}
