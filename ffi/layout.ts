/**
 * Layouts of the structs that the UDP path writes, one table each, for LP64 Linux. x86-64 and arm64 agree, because none embeds a mutex or a
 * long double. test/ffi/layout.test.ts checks them against a C compiler.
 * Sources: sys/uio.h, bits/socket.h, linux/errqueue.h, netinet/in.h.
 */
export const IOVEC = { base: 0, len: 8, size: 16 } as const
export const MSGHDR = { name: 0, namelen: 8, iov: 16, iovlen: 24, control: 32, controllen: 40, flags: 48, size: 56 } as const
export const MMSGHDR = { hdr: 0, len: 56, size: 64 } as const
export const CMSGHDR = { len: 0, level: 8, type: 12, data: 16 } as const
export const SOCKADDR_IN = { family: 0, port: 2, addr: 4, size: 16 } as const
export const SOCKADDR_IN6 = { family: 0, port: 2, flowinfo: 4, addr: 8, scopeId: 24, size: 28 } as const
export const EXTENDED_ERR = { errno: 0, origin: 4, type: 5, code: 6, info: 8, data: 12, size: 16 } as const
export const CLOCK_REALTIME = 0
export const CLOCK_TAI = 11
/** adjtimex(2). */
export const TIMEX = { modes: 0, maxerror: 24, esterror: 32, status: 40, tai: 160, size: 208 } as const
export const STA_INS = 0x10
export const STA_DEL = 0x20
export const STA_UNSYNC = 0x40
/** sched(7), linux/sched.h. */
export const SCHED_OTHER = 0
export const SCHED_FIFO = 1
export const SCHED_RR = 2
export const SCHED_BATCH = 3
export const SCHED_IDLE = 5
export const SCHED_DEADLINE = 6
export const SCHED_RESET_ON_FORK = 0x40000000
export const SCHED_PARAM = { priority: 0, size: 4 } as const
/** The numbers of these calls differ by architecture. glibc has no functions for the last three, and musl's for the first two always fail. */
const numbered = <T extends number>(x64: T, arm64: T): T => (process.arch === 'arm64' ? arm64 : x64)
export const SYS_sched_setscheduler = numbered(144, 119)
export const SYS_sched_getscheduler = numbered(145, 120)
export const SYS_sched_getparam = numbered(143, 121)
export const SYS_mbind = numbered(237, 235)
export const SYS_set_mempolicy = numbered(238, 237)
export const SYS_get_mempolicy = numbered(239, 236)
/** The number of sysconf(3)'s page size, in glibc and musl. */
export const SC_PAGESIZE = 30
/** linux/mempolicy.h. */
export const MPOL_DEFAULT = 0
export const MPOL_PREFERRED = 1
export const MPOL_MF_MOVE = 2
export const MPOL_F_NODE = 1
export const MPOL_F_ADDR = 2
export const ITIMERSPEC = { interval: 0, value: 16, size: 32 } as const
export const POLLFD = { fd: 0, events: 4, revents: 6, size: 8 } as const
/** Packed on x86-64 only (__EPOLL_PACKED in sys/epoll.h). */
export const EPOLL_EVENT =
  process.arch === 'x64' ? ({ events: 0, data: 4, size: 12 } as const) : ({ events: 0, data: 8, size: 16 } as const)

/** net/if.h; `data` is an address, an index or flags. */
export const IFREQ = { name: 0, data: 16, size: 40 } as const
export const IFCONF = { len: 0, req: 8, size: 16 } as const

export const AF_UNIX = 1
export const AF_INET = 2
export const AF_INET6 = 10
export const SOCK_STREAM = 1
export const SOCK_DGRAM = 2
export const SOCK_NONBLOCK = 0o4000
export const CLOCK_MONOTONIC = 1
export const TFD_NONBLOCK = 0o4000
export const TFD_CLOEXEC = 0o2000000
export const SOCK_CLOEXEC = 0o2000000
export const MSG_DONTWAIT = 0x40
export const MSG_ERRQUEUE = 0x2000
export const MSG_NOSIGNAL = 0x4000
/** netdevice(7), bits/ioctls.h. */
export const SIOCGIFCONF = 0x8912
export const SIOCGIFFLAGS = 0x8913
export const SIOCGIFMTU = 0x8921
export const SIOCGIFHWADDR = 0x8927
export const SIOCGIFINDEX = 0x8933
/** tcp(7), linux/sockios.h. */
export const SIOCOUTQ = 0x5411
export const POLLIN = 1
export const POLLOUT = 4
export const POLLERR = 8
/** The other side has closed its half of the connection. */
export const POLLRDHUP = 0x2000
/** linux/net_tstamp.h: the notice of an acknowledgement, in software's time, without a copy of the packet. */
export const TIMESTAMP_ACKNOWLEDGED = (1 << 9) | (1 << 4) | (1 << 11)
/** The most messages of a sendmmsg(2), and the most iovecs of one message (linux/uio.h). */
export const UIO_MAXIOV = 1024

/** Level and name of the socket options that we set (asm-generic/socket.h, linux/in.h, linux/in6.h, linux/udp.h). */
export const OPT = {
  SO_REUSEADDR: [1, 2],
  SO_TYPE: [1, 3],
  SO_ERROR: [1, 4],
  SO_LINGER: [1, 13],
  SO_BROADCAST: [1, 6],
  SO_SNDBUF: [1, 7],
  SO_KEEPALIVE: [1, 9],
  SO_REUSEPORT: [1, 15],
  SO_ATTACH_FILTER: [1, 26],
  SO_ACCEPTCONN: [1, 30],
  SO_SNDBUFFORCE: [1, 32],
  SO_TIMESTAMPING: [1, 37],
  SO_PROTOCOL: [1, 38],
  SO_DOMAIN: [1, 39],
  SO_MAX_PACING_RATE: [1, 47],
  SO_BINDTOIFINDEX: [1, 62],
  IP_TOS: [0, 1],
  IP_TTL: [0, 2],
  IP_MTU_DISCOVER: [0, 10],
  IP_RECVERR: [0, 11],
  IP_MULTICAST_IF: [0, 32],
  IP_MULTICAST_TTL: [0, 33],
  IP_MULTICAST_LOOP: [0, 34],
  IP_UNICAST_IF: [0, 50],
  IPV6_UNICAST_HOPS: [41, 16],
  IPV6_MULTICAST_IF: [41, 17],
  IPV6_MULTICAST_HOPS: [41, 18],
  IPV6_MULTICAST_LOOP: [41, 19],
  IPV6_MTU_DISCOVER: [41, 23],
  IPV6_RECVERR: [41, 25],
  IPV6_V6ONLY: [41, 26],
  IPV6_TCLASS: [41, 67],
  IPV6_UNICAST_IF: [41, 76],
  TCP_NODELAY: [6, 1],
  TCP_KEEPIDLE: [6, 4],
  TCP_KEEPINTVL: [6, 5],
  TCP_KEEPCNT: [6, 6],
  TCP_USER_TIMEOUT: [6, 18],
  UDP_SEGMENT: [17, 103],
} as const satisfies Record<string, readonly [number, number]>
/**
 * Sets DF, takes the interface's MTU as the limit, and ignores the path MTU learned from ICMP (ip(7)); the same value for both families.
 */
export const PMTUDISC_DO = 2
export const PMTUDISC_DONT = 0

/** From linux/io_uring.h, as all that follows. The two tables of ring offsets have only the fields that we use. */
export const URING_PARAMS = { sqEntries: 0, cqEntries: 4, flags: 8, features: 20, sqOff: 40, cqOff: 80, size: 120 } as const
export const URING_SQ_OFF = { head: 0, tail: 4, ringMask: 8, array: 24, size: 40 } as const
export const URING_CQ_OFF = { head: 0, tail: 4, ringMask: 8, overflow: 16, cqes: 20, size: 40 } as const
export const URING_SQE = {
  opcode: 0,
  flags: 1,
  ioprio: 2,
  fd: 4,
  off: 8,
  addr: 16,
  len: 24,
  msgFlags: 28,
  userData: 32,
  bufIndex: 40,
  size: 64,
} as const
export const URING_CQE = { userData: 0, res: 8, flags: 12, size: 16 } as const
export const URING_RSRC_REGISTER = { nr: 0, flags: 4, data: 16, size: 32 } as const
export const URING_RSRC_UPDATE2 = { offset: 0, data: 8, nr: 24, size: 32 } as const
export const SYS_io_uring_setup = 425
export const SYS_io_uring_enter = 426
export const SYS_io_uring_register = 427
export const IORING_REGISTER_BUFFERS2 = 15
export const IORING_REGISTER_BUFFERS_UPDATE = 16
export const IORING_RSRC_REGISTER_SPARSE = 1
export const IORING_SETUP_CQSIZE = 1 << 3
export const IORING_SETUP_SUBMIT_ALL = 1 << 7
export const IORING_SETUP_COOP_TASKRUN = 1 << 8
export const IORING_SETUP_SINGLE_ISSUER = 1 << 12
export const IORING_FEAT_SINGLE_MMAP = 1
export const IORING_OFF_SQ_RING = 0
export const IORING_OFF_SQES = 0x10000000
export const IORING_ENTER_GETEVENTS = 1
export const IOSQE_IO_LINK = 1 << 2
export const IORING_OP_SENDMSG = 9
export const IORING_OP_SENDMSG_ZC = 48
export const IORING_RECVSEND_FIXED_BUF = 1 << 2
export const IORING_SEND_ZC_REPORT_USAGE = 1 << 3
export const IORING_CQE_F_MORE = 1 << 1
export const IORING_CQE_F_NOTIF = 1 << 3
/** A 32-bit integer has a sign here. */
export const IORING_NOTIF_USAGE_ZC_COPIED = 1 << 31
