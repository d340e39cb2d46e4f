/**
 * Accepts TCP connections and reads from those that have something, by one epoll(7) set. The thread that opens the listeners closes them
 * too; the connections are this set's.
 *
 * | state  | legal               | leaves by |
 * |--------|---------------------|-----------|
 * | open   | all                 | close()   |
 * | closed | close() (no effect) | never     |
 */
import {
  AF_INET,
  EPOLL_EVENT,
  MSG_DONTWAIT,
  OPT,
  POLLIN,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOCKADDR_IN,
  SOCKADDR_IN6,
} from '../layout.js'
import { checkCall, errno, libc } from '../libc.js'
import { Scratch } from '../memory/scratch.js'
import { ERRNO, NativeError } from '../native-error.js'
import { InetSocket, type SocketAddress } from './inet-socket.js'

const EPOLL_CTL_ADD = 1
const BACKLOG = 128
/** Descriptors that one look tells of; the others come with the next. */
const EVENTS = 64
const NAME_AT = EVENTS * 16

/** A listening socket. */
export class TcpListener extends InetSocket {
  /** @throws NativeError naming the call: socket, setsockopt, bind, listen */
  constructor(address: SocketAddress, ifindex: number) {
    super(address.family, SOCK_STREAM)
    try {
      // Connections that ended a moment ago have the port still.
      this.setOption(OPT.SO_REUSEADDR, 1)
      this.bind({ ...address, scopeId: address.scopeId || ifindex })
      checkCall('listen', libc().listen(this.fd, BACKLOG))
    } catch (error) {
      this.close()
      throw error
    }
  }
}

export class TcpIntake {
  /** Readable when there is something to take. */
  readonly fd: number
  /** The descriptors that ready() found. */
  readonly found = new Int32Array(EVENTS)
  readonly #scratch = new Scratch(NAME_AT + 64)
  readonly #recv = libc().recv
  readonly #connections = new Set<number>()
  #open = true

  /** @throws NativeError */
  constructor(listeners: readonly number[]) {
    this.fd = checkCall('epoll_create1', libc().epoll_create1(SOCK_CLOEXEC))
    for (const fd of listeners) this.#watch(fd)
  }

  #watch(fd: number): void {
    const { address, view } = this.#scratch
    view.setUint32(EPOLL_EVENT.events, POLLIN, true)
    view.setInt32(EPOLL_EVENT.data, fd, true)
    view.setInt32(EPOLL_EVENT.data + 4, 0, true)
    checkCall('epoll_ctl', libc().epoll_ctl(this.fd, EPOLL_CTL_ADD, fd, address))
  }

  /** Looks which descriptors have something, without waiting; returns how many of `found` are valid. */
  ready(): number {
    const { address, view } = this.#scratch
    const n = libc().epoll_wait(this.fd, address, EVENTS, 0)
    for (let i = 0; i < n; i++) this.found[i] = view.getInt32(i * EPOLL_EVENT.size + EPOLL_EVENT.data, true)
    return Math.max(0, n)
  }

  /** Accepts a connection of a listener; −1 when none waits. @throws NativeError such as EMFILE */
  accept(listener: number): number {
    const { address, i32 } = this.#scratch
    i32[(NAME_AT + 32) >> 2] = SOCKADDR_IN6.size
    const fd = libc().accept4(listener, address + NAME_AT, address + NAME_AT + 32, SOCK_NONBLOCK | SOCK_CLOEXEC)
    if (fd < 0) {
      const failed = errno()
      // Those whose sender has gone meanwhile count as none (accept(2)).
      if (failed === ERRNO.EMFILE || failed === ERRNO.ENFILE || failed === ERRNO.ENOMEM || failed === ERRNO.ENOBUFS)
        throw new NativeError('accept4', failed)
      return -1
    }
    this.#connections.add(fd)
    this.#watch(fd)
    return fd
  }

  /** The sender of the connection that was accepted last. */
  peer(): { readonly bytes: Uint8Array; readonly port: number } {
    const { u8, view } = this.#scratch
    const v4 = view.getUint16(NAME_AT, true) === AF_INET
    const at = NAME_AT + (v4 ? SOCKADDR_IN.addr : SOCKADDR_IN6.addr)
    return { bytes: u8.slice(at, at + (v4 ? 4 : 16)), port: view.getUint16(NAME_AT + SOCKADDR_IN.port) }
  }

  /** Reads into memory; returns how many bytes, 0 at the end or where the connection broke, −1 when there is nothing now. */
  read(fd: number, address: number, byteLength: number): number {
    const read = this.#recv(fd, address, byteLength, MSG_DONTWAIT)
    if (read >= 0) return read
    const failed = errno()
    return failed === ERRNO.EAGAIN || failed === ERRNO.EINTR ? -1 : 0
  }

  /** Closes a connection. */
  drop(fd: number): void {
    if (this.#connections.delete(fd)) libc().close(fd)
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    for (const fd of this.#connections) libc().close(fd)
    libc().close(this.fd)
    this.#scratch.region.release()
  }
}
