/** A TCP socket for sending, which tells how much of what it took the receiver's kernel has acknowledged. */
import {
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  OPT,
  POLLFD,
  POLLOUT,
  SIOCOUTQ,
  SOCK_CLOEXEC,
  SOCK_STREAM,
  TIMESTAMP_ACKNOWLEDGED,
} from '../layout.js'
import { checkCall, errno, libc } from '../libc.js'
import { ERRNO, NativeError } from '../native-error.js'
import { encodeSocketAddress, InetSocket, openSocket, type SocketAddress } from './inet-socket.js'

/** Past the fields that other calls use. */
const MESSAGE_AT = 256

/** A receiver that sends faster than this reads must not keep the thread from sending. */
const MOST_READS = 64

export const HAS_CLOSED = -1

export class TcpSocket extends InetSocket {
  readonly #ioctl = libc().ioctl

  /** @param given as InetSocket, connected: what it receives is its owner's to read */
  constructor(family: 4 | 6, given?: number) {
    super(family, SOCK_STREAM, given)
    this.#sendAtOnce()
  }

  /** A packet that waits for the acknowledgement of the one before it (RFC 896) would settle some 40 ms late. */
  #sendAtOnce(): void {
    this.setMeanwhile(OPT.TCP_NODELAY, 1)
  }

  /**
   * Puts a new socket that is not connected in this one's place, which keeps its descriptor's number. The old connection is reset, and what was
   * not sent by it never is (socket(7), SO_LINGER). @throws NativeError, and the old connection may stay then
   */
  renew(): void {
    const fresh = openSocket(this.family, SOCK_STREAM)
    try {
      // struct linger { on, seconds }
      this.setOption(OPT.SO_LINGER, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]))
      checkCall('dup3', libc().dup3(fresh, this.fd, SOCK_CLOEXEC))
    } finally {
      libc().close(fresh)
    }
    if (this.family === 6) this.setOption(OPT.IPV6_V6ONLY, 1)
    this.#sendAtOnce()
  }

  /** Begins to connect: the socket is ready to write when that has ended, and takeError() tells how. @throws NativeError */
  override connect(address: SocketAddress): void {
    const bytes = encodeSocketAddress(address)
    const failed = libc().connect(this.fd, this.scratch.put(bytes), bytes.length) < 0 ? errno() : 0
    if (failed !== 0 && failed !== ERRNO.EINPROGRESS) throw new NativeError('connect', failed, `port ${address.port}`)
  }

  /** Whether connect() has not ended. */
  get connecting(): boolean {
    const { address, view } = this.scratch
    view.setInt32(POLLFD.fd, this.fd, true)
    view.setUint32(POLLFD.events, POLLOUT, true)
    return libc().poll(address, 1, 0) === 0
  }

  /** From now on an acknowledgement of what a call took makes the socket ready (POLLERR), until drainNotices(). @throws NativeError */
  noticeAcknowledgements(): void {
    this.setMeanwhile(OPT.SO_TIMESTAMPING, TIMESTAMP_ACKNOWLEDGED)
  }

  /** Reads the notices away. Allocates nothing. */
  drainNotices(): void {
    const { address, u8 } = this.scratch
    u8.fill(0, MESSAGE_AT, MESSAGE_AT + 56)
    while (libc().recvmsg(this.fd, address + MESSAGE_AT, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0);
  }

  /** As InetSocket. Asking clears an error, so the owner of a given socket may have it already: without a peer it is broken all the same. */
  override takeError(): number {
    const failed = super.takeError()
    return failed === 0 && this.given && !this.hasPeer ? ERRNO.ECONNRESET : failed
  }

  /** A notice that is left would tell the owner for ever that there is an error. */
  protected override giveBack(): void {
    super.giveBack()
    if (this.given) this.drainNotices()
  }

  /** Bytes that it took, and that the receiver's kernel has not acknowledged (tcp(7)). It knows after a reset too. @throws NativeError */
  unacknowledged(): number {
    checkCall('ioctl', this.#ioctl(this.fd, SIOCOUTQ, this.scratch.address), 'SIOCOUTQ')
    return this.scratch.i32[0]!
  }

  /**
   * Reads away what the receiver sent, as far as it does not send without end. Returns 0; or HAS_CLOSED when it has closed its side, and there is no more; or the errno with which the
   * connection broke, which this call alone may tell.
   */
  readAway(): number {
    const { address, u8 } = this.scratch
    for (let reads = 0; reads < MOST_READS; reads++) {
      const read = libc().recv(this.fd, address, u8.length, MSG_DONTWAIT)
      if (read === 0) return HAS_CLOSED
      if (read > 0) continue
      const failed = errno()
      if (failed !== ERRNO.EINTR) return failed === ERRNO.EAGAIN ? 0 : failed
    }
    return 0
  }
}
