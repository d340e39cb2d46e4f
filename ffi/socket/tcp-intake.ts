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
const EPOLL_CTL_MOD = 3
/** Connections that wait to be accepted; the kernel clips it to net.core.somaxconn (listen(2)). */
const BACKLOG = 128
/** A host that is gone says no goodbye: after two minutes of silence its kernel has not answered, and the connection ends (tcp(7)). */
const KEEPALIVE_IDLE_SECONDS = 60
const KEEPALIVE_INTERVAL_SECONDS = 10
const KEEPALIVE_PROBES = 6
/** Descriptors that one look tells of; the others come with the next. */
const EVENTS = 64
const NAME_AT = EVENTS * 16

/** Errors of the connection that was to be accepted: it is gone, and the next may be well (accept(2), "Error handling"). */
const OF_THE_CONNECTION: ReadonlySet<number> = new Set([
  ERRNO.ECONNABORTED,
  ERRNO.EINTR,
  ERRNO.EPERM,
  ERRNO.EPROTO,
  ERRNO.ENOPROTOOPT,
  ERRNO.EOPNOTSUPP,
  ERRNO.ENETDOWN,
  ERRNO.ENETUNREACH,
  ERRNO.EHOSTUNREACH,
])
/** Results of accept() that are no descriptors: none waits, or the one that waited is gone. */
export const NONE_WAITS = -1
const CONNECTION_GONE = -2

/** A listening socket. Connections inherit its options (tcp(7)). */
export class TcpListener extends InetSocket {
  /**
   * @param ifindex the interface by which alone connections come; 0: any. Takes Linux 5.7 or CAP_NET_RAW
   * @throws NativeError naming the call: socket, setsockopt, bind, listen
   */
  constructor(address: SocketAddress, ifindex: number) {
    super(address.family, SOCK_STREAM)
    try {
      // Connections that ended a moment ago have the port still.
      this.setOption(OPT.SO_REUSEADDR, 1)
      this.setOption(OPT.SO_KEEPALIVE, 1)
      this.setOption(OPT.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
      this.setOption(OPT.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
      this.setOption(OPT.TCP_KEEPCNT, KEEPALIVE_PROBES)
      if (ifindex > 0) this.setOption(OPT.SO_BINDTOIFINDEX, ifindex)
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
    for (const fd of listeners) this.#control(EPOLL_CTL_ADD, fd, POLLIN)
  }

  #control(operation: number, fd: number, events: number): void {
    const { address, view } = this.#scratch
    view.setUint32(EPOLL_EVENT.events, events, true)
    view.setInt32(EPOLL_EVENT.data, fd, true)
    view.setInt32(EPOLL_EVENT.data + 4, 0, true)
    checkCall('epoll_ctl', libc().epoll_ctl(this.fd, operation, fd, address))
  }

  /** Looks no more whether connections wait at a listener, or does so again. They stay with the kernel. @throws NativeError */
  listen(listener: number, whether: boolean): void {
    this.#control(EPOLL_CTL_MOD, listener, whether ? POLLIN : 0)
  }

  /** Looks which descriptors have something, without waiting; returns how many of `found` are valid. */
  ready(): number {
    const { address, view } = this.#scratch
    const n = libc().epoll_wait(this.fd, address, EVENTS, 0)
    for (let i = 0; i < n; i++) this.found[i] = view.getInt32(i * EPOLL_EVENT.size + EPOLL_EVENT.data, true)
    return Math.max(0, n)
  }

  /**
   * Accepts a connection of a listener. Returns its descriptor, NONE_WAITS or CONNECTION_GONE.
   * @throws NativeError such as EMFILE: the connection still waits, so that the next look would tell of it at once
   */
  accept(listener: number): number {
    const { address, i32 } = this.#scratch
    i32[(NAME_AT + 32) >> 2] = SOCKADDR_IN6.size
    const fd = libc().accept4(listener, address + NAME_AT, address + NAME_AT + 32, SOCK_NONBLOCK | SOCK_CLOEXEC)
    if (fd < 0) {
      const failed = errno()
      if (failed === ERRNO.EAGAIN) return NONE_WAITS
      if (OF_THE_CONNECTION.has(failed)) return CONNECTION_GONE
      throw new NativeError('accept4', failed)
    }
    try {
      this.#control(EPOLL_CTL_ADD, fd, POLLIN)
    } catch (error) {
      libc().close(fd)
      throw error
    }
    this.#connections.add(fd)
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
