/** A UDP socket for sending, and its error queue. */
import {
  AF_INET,
  AF_INET6,
  CMSGHDR,
  EXTENDED_ERR,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
  MSGHDR,
  OPT,
  PMTUDISC_DO,
  PMTUDISC_DONT,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCKADDR_IN,
  SOCKADDR_IN6,
} from '../layout.js'
import { checkCall, libc } from '../libc.js'
import { Scratch } from '../memory/scratch.js'
import { NativeError } from '../native-error.js'
import { InetSocket, openSocket } from './inet-socket.js'

/** struct ip_mreqn { multiaddr, address, ifindex } (ip(7)). IP_MULTICAST_IF looks at the index alone, if there is one. */
export function ipMreqn(ifindex: number, group?: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12)
  if (group) bytes.set(group)
  new DataView(bytes.buffer).setInt32(8, ifindex, true)
  return bytes
}

// linux/errqueue.h, SO_EE_ORIGIN_*
export const ORIGIN_LOCAL = 1
export const ORIGIN_ICMP6 = 3

/** One entry of the error queue (ip(7), IP_RECVERR): an ICMP answer or a local failure, for a datagram sent earlier. */
export class QueuedError {
  errno = 0
  /** ORIGIN_LOCAL, 2 for ICMP, ORIGIN_ICMP6. */
  origin = 0
  /** Type and code of the ICMP message (RFC 792, RFC 4443). */
  type = 0
  code = 0
  /** The MTU for EMSGSIZE. */
  info = 0
  /** Destination of the datagram the error is about. Valid until the next read, as `offender`. */
  port = 0
  address = new Uint8Array(0)
  /** Address of the host that sent the ICMP message; empty where the kernel does not tell. */
  offender = new Uint8Array(0)
}

const NAME_AT = 64
const IOV_AT = 128
const DATA_AT = 192
const CONTROL_AT = 512
const CONTROL_BYTES = 512

const NO_ADDRESS = new Uint8Array(0)

/** Views of addresses in memory that is read again and again, where they have few places: each is made once. */
class AddressViews {
  #view = NO_ADDRESS

  constructor(readonly memory: Uint8Array<ArrayBuffer>) {}

  at(at: number, v6: boolean): Uint8Array<ArrayBuffer> {
    const bytes = v6 ? 16 : 4
    const view = this.#view
    if (view.length !== bytes || view.byteOffset !== this.memory.byteOffset + at) this.#view = this.memory.subarray(at, at + bytes)
    return this.#view
  }
}

export class UdpSocket extends InetSocket {
  readonly #addresses = new AddressViews(this.scratch.u8)
  readonly #offenders = new AddressViews(this.scratch.u8)

  /** @param given as InetSocket */
  constructor(family: 4 | 6, given?: number) {
    super(family, SOCK_DGRAM, given)
  }

  /**
   * Puts a new socket in this one's place, which keeps its descriptor's number, its buffer's size and its pacing rate; `configure` gives it
   * the rest. The old socket's port is free by then (dup2(2)), and its errors are forgotten. @throws what `configure` does, or NativeError
   */
  renew(configure: () => void): void {
    const bufferBytes = this.getOption(OPT.SO_SNDBUF) / 2
    const rate = this.#pacingRate()
    const fresh = openSocket(this.family, SOCK_DGRAM)
    try {
      checkCall('dup3', libc().dup3(fresh, this.fd, SOCK_CLOEXEC))
    } finally {
      libc().close(fresh)
    }
    try {
      if (this.family === 6) this.setOption(OPT.IPV6_V6ONLY, 1)
      configure()
    } finally {
      if (this.tryOption(OPT.SO_SNDBUFFORCE, bufferBytes) !== 0) this.tryOption(OPT.SO_SNDBUF, bufferBytes)
      if (rate) this.setOption(OPT.SO_MAX_PACING_RATE, rate)
    }
  }

  /** Eight bytes; undefined where there is none. */
  #pacingRate(): Uint8Array | undefined {
    const { address, u8, i32 } = this.scratch
    const [level, name] = OPT.SO_MAX_PACING_RATE
    i32[2] = 8
    if (libc().getsockopt(this.fd, level, name, address, address + 8) < 0 || i32[2] !== 8) return undefined
    return i32[0] === -1 && i32[1] === -1 ? undefined : u8.slice(0, 8)
  }

  /** IP_RECVERR makes the kernel report ENOBUFS instead of hiding it. */
  reportErrors(): void {
    this.setMeanwhile(this.family === 6 ? OPT.IPV6_RECVERR : OPT.IP_RECVERR, 1)
  }

  /**
   * PMTUDISC_DO sets DF so that nothing is fragmented behind our back, and refuses what a router said is too large for it
   * (docs/ground-rules.md, "Sockets and UDP").
   */
  letFragment(yes: boolean): void {
    this.setOption(this.family === 6 ? OPT.IPV6_MTU_DISCOVER : OPT.IP_MTU_DISCOVER, yes ? PMTUDISC_DONT : PMTUDISC_DO)
  }

  /**
   * Before bind: others that do the same may bind the same port. SO_REUSEPORT alone would do among sockets of one user; node:dgram of Node 20
   * knows SO_REUSEADDR only (socket(7)).
   */
  sharePort(): void {
    this.setOption(OPT.SO_REUSEADDR, 1)
    this.setOption(OPT.SO_REUSEPORT, 1)
  }

  /**
   * Datagrams that come in, which nobody reads, would take the room of the error queue (`sock_queue_err_skb` of the kernel's
   * net/core/skbuff.c). Where the kernel takes no filter, as beyond net.core.optmem_max, it does.
   */
  dropIncoming(): void {
    // struct sock_fprog: u16 length, pointer; one struct sock_filter: u16 code, of BPF_RET | BPF_K, and a value of 0
    // (linux/filter.h).
    const { address, i32, view } = this.scratch
    i32.fill(0, 0, 6)
    view.setUint16(0, 1, true)
    this.scratch.putPointer(8, address + 16)
    view.setUint16(16, 6, true)
    libc().setsockopt(this.fd, OPT.SO_ATTACH_FILTER[0], OPT.SO_ATTACH_FILTER[1], address, 16)
  }

  /** Reads one entry of the error queue into `out`; false when it is empty. Allocates nothing. */
  readError(out: QueuedError): boolean {
    const s = this.scratch
    s.putPointer(MSGHDR.name, s.address + NAME_AT)
    s.view.setUint32(MSGHDR.namelen, SOCKADDR_IN6.size, true)
    s.putPointer(MSGHDR.iov, s.address + IOV_AT)
    s.putPointer(MSGHDR.iovlen, 1)
    s.putPointer(IOV_AT, s.address + DATA_AT)
    s.putPointer(IOV_AT + 8, CONTROL_AT - DATA_AT)
    s.putPointer(MSGHDR.control, s.address + CONTROL_AT)
    s.putPointer(MSGHDR.controllen, CONTROL_BYTES)
    if (libc().recvmsg(this.fd, s.address, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return false
    const v6 = s.view.getUint16(NAME_AT, true) === AF_INET6
    out.port = s.view.getUint16(NAME_AT + SOCKADDR_IN.port)
    const addressAt = NAME_AT + (v6 ? SOCKADDR_IN6.addr : SOCKADDR_IN.addr)
    out.address = this.#addresses.at(addressAt, v6)
    out.errno = 0
    out.offender = NO_ADDRESS
    const end = CONTROL_AT + s.view.getUint32(MSGHDR.controllen, true)
    for (let at = CONTROL_AT; at + CMSGHDR.data <= end; ) {
      const length = s.view.getUint32(at + CMSGHDR.len, true)
      if (length < CMSGHDR.data) break
      const level = s.view.getInt32(at + CMSGHDR.level, true)
      const type = s.view.getInt32(at + CMSGHDR.type, true)
      if ((level === 0 && type === OPT.IP_RECVERR[1]) || (level === 41 && type === OPT.IPV6_RECVERR[1])) {
        out.errno = s.view.getUint32(at + CMSGHDR.data + EXTENDED_ERR.errno, true)
        out.origin = s.u8[at + CMSGHDR.data + EXTENDED_ERR.origin]!
        out.type = s.u8[at + CMSGHDR.data + EXTENDED_ERR.type]!
        out.code = s.u8[at + CMSGHDR.data + EXTENDED_ERR.code]!
        out.info = s.view.getUint32(at + CMSGHDR.data + EXTENDED_ERR.info, true)
        // The offender's sockaddr follows (SO_EE_OFFENDER); its family is AF_UNSPEC where there is none.
        const offenderAt = at + CMSGHDR.data + EXTENDED_ERR.size
        const family = offenderAt + SOCKADDR_IN.size <= end ? s.view.getUint16(offenderAt, true) : 0
        if (family === AF_INET) out.offender = this.#offenders.at(offenderAt + SOCKADDR_IN.addr, false)
        if (family === AF_INET6) out.offender = this.#offenders.at(offenderAt + SOCKADDR_IN6.addr, true)
      }
      at += (length + 7) & ~7
    }
    return true
  }
}

/** Connects an IPv4 socket to itself over loopback, to try out what the kernel takes. @throws NativeError where loopback is down */
export function connectToItself(socket: UdpSocket): void {
  const loopback = { family: 4, bytes: Uint8Array.of(127, 0, 0, 1) } as const
  socket.bind({ ...loopback, port: 0 })
  socket.connect({ ...loopback, port: socket.localPort() })
}

let maxSegments: number | undefined

/**
 * Segments the kernel takes in one UDP_SEGMENT message: 0 without the option (before 4.18), 64, or 128 (6.9 and its stable
 * backports, so the version number alone does not tell). Sends 128 one-byte segments from a loopback socket to itself to find out, once
 * per process; where loopback is down, 64.
 */
export function probeMaxSegments(): number {
  if (maxSegments !== undefined) return maxSegments
  let socket: UdpSocket | undefined
  try {
    socket = new UdpSocket(4)
    if (socket.tryOption(OPT.UDP_SEGMENT, 1) !== 0) {
      maxSegments = 0
    } else {
      connectToItself(socket)
      maxSegments = libc().sendto(socket.fd, new Scratch(4096).address, 128, MSG_DONTWAIT, 0, 0) === 128 ? 128 : 64
    }
  } catch (error) {
    if (!(error instanceof NativeError)) throw error
    maxSegments = 64
  } finally {
    socket?.close()
  }
  return maxSegments
}
