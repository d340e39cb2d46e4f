/** Every offset, size and constant that ffi/ writes into kernel structures, against the system's own headers through a C compiler. */
import { expect, test } from 'vitest'
import type * as Layout from '#dist/ffi/layout.js'
import * as qdisc from '#dist/ffi/netlink/qdisc.js'
import * as netlinkQuery from '#dist/ffi/netlink/query.js'
import * as netlink from '#dist/ffi/netlink/route.js'
import { asOn, cCompilers, cValues } from '../support/c-claims.js'
import { need } from '../support/need.js'

/** C type and, where the names differ, C member of every exported struct; `size` is sizeof. */
const STRUCTS: Record<string, { type: string; members: Record<string, string> }> = {
  IOVEC: { type: 'struct iovec', members: { base: 'iov_base', len: 'iov_len' } },
  MSGHDR: {
    type: 'struct msghdr',
    members: {
      name: 'msg_name',
      namelen: 'msg_namelen',
      iov: 'msg_iov',
      iovlen: 'msg_iovlen',
      control: 'msg_control',
      controllen: 'msg_controllen',
      flags: 'msg_flags',
    },
  },
  MMSGHDR: { type: 'struct mmsghdr', members: { hdr: 'msg_hdr', len: 'msg_len' } },
  CMSGHDR: { type: 'struct cmsghdr', members: { len: 'cmsg_len', level: 'cmsg_level', type: 'cmsg_type' } },
  SOCKADDR_IN: { type: 'struct sockaddr_in', members: { family: 'sin_family', port: 'sin_port', addr: 'sin_addr' } },
  SOCKADDR_IN6: {
    type: 'struct sockaddr_in6',
    members: {
      family: 'sin6_family',
      port: 'sin6_port',
      flowinfo: 'sin6_flowinfo',
      addr: 'sin6_addr',
      scopeId: 'sin6_scope_id',
    },
  },
  EXTENDED_ERR: {
    type: 'struct sock_extended_err',
    members: {
      errno: 'ee_errno',
      origin: 'ee_origin',
      type: 'ee_type',
      code: 'ee_code',
      info: 'ee_info',
      data: 'ee_data',
    },
  },
  IFREQ: { type: 'struct ifreq', members: { name: 'ifr_name', data: 'ifr_addr' } },
  IFCONF: { type: 'struct ifconf', members: { len: 'ifc_len', req: 'ifc_buf' } },
  POLLFD: { type: 'struct pollfd', members: { fd: 'fd', events: 'events', revents: 'revents' } },
  URING_PARAMS: {
    type: 'struct io_uring_params',
    members: {
      sqEntries: 'sq_entries',
      cqEntries: 'cq_entries',
      flags: 'flags',
      features: 'features',
      sqOff: 'sq_off',
      cqOff: 'cq_off',
    },
  },
  URING_SQ_OFF: {
    type: 'struct io_sqring_offsets',
    members: { head: 'head', tail: 'tail', ringMask: 'ring_mask', array: 'array' },
  },
  URING_CQ_OFF: {
    type: 'struct io_cqring_offsets',
    members: { head: 'head', tail: 'tail', ringMask: 'ring_mask', overflow: 'overflow', cqes: 'cqes' },
  },
  URING_SQE: {
    type: 'struct io_uring_sqe',
    members: {
      opcode: 'opcode',
      flags: 'flags',
      ioprio: 'ioprio',
      fd: 'fd',
      off: 'off',
      addr: 'addr',
      len: 'len',
      msgFlags: 'msg_flags',
      userData: 'user_data',
      bufIndex: 'buf_index',
    },
  },
  URING_RSRC_REGISTER: { type: 'struct io_uring_rsrc_register', members: { nr: 'nr', flags: 'flags', data: 'data' } },
  URING_RSRC_UPDATE2: { type: 'struct io_uring_rsrc_update2', members: { offset: 'offset', data: 'data', nr: 'nr' } },
  URING_CQE: { type: 'struct io_uring_cqe', members: { userData: 'user_data', res: 'res', flags: 'flags' } },
  EPOLL_EVENT: { type: 'struct epoll_event', members: { events: 'events', data: 'data' } },
  TIMEX: {
    type: 'struct timex',
    members: { modes: 'modes', maxerror: 'maxerror', esterror: 'esterror', status: 'status', tai: 'tai' },
  },
  SCHED_PARAM: { type: 'struct sched_param', members: { priority: 'sched_priority' } },
  ITIMERSPEC: { type: 'struct itimerspec', members: { interval: 'it_interval', value: 'it_value' } },
}
/** Where the C name or expression is not the exported name. */
const EXPRESSIONS: Record<string, string> = {
  PMTUDISC_DO: 'IP_PMTUDISC_DO',
  PMTUDISC_DONT: 'IP_PMTUDISC_DONT',
  'CMSGHDR.data': 'CMSG_LEN(0)',
  TIMESTAMP_ACKNOWLEDGED: 'SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY',
  SOCK_RAW_CLOEXEC: 'SOCK_RAW | SOCK_CLOEXEC',
  IFINFOMSG_LEN: 'sizeof(struct ifinfomsg)',
  TCMSG_LEN: 'sizeof(struct tcmsg)',
  IORING_NOTIF_USAGE_ZC_COPIED: '(int32_t)IORING_NOTIF_USAGE_ZC_COPIED',
  IFF_LOWER_UP: '0x10000', // net/if.h, which the others need, leaves it out; linux/if.h: 1 << 16
}
const LEVELS: Record<string, string> = {
  SO: 'SOL_SOCKET',
  IP: 'IPPROTO_IP',
  IPV6: 'IPPROTO_IPV6',
  TCP: 'IPPROTO_TCP',
  UDP: 'SOL_UDP',
}

/** [what, C expression, our number] of everything exported. */
function claims(layout: typeof Layout): [string, string, number][] {
  const out: [string, string, number][] = []
  const constants = { ...layout, ...numbersOf(netlink), ...numbersOf(netlinkQuery), ...numbersOf(qdisc) }
  for (const [name, value] of Object.entries(constants)) {
    if (typeof value === 'number') out.push([name, EXPRESSIONS[name] ?? name, value])
    else if (name === 'OPT')
      for (const [option, [level, number]] of Object.entries(layout.OPT)) {
        out.push([`level of ${option}`, LEVELS[option.split('_')[0]!] ?? `no level for ${option}`, level], [option, option, number])
      }
    else
      for (const [field, offset] of Object.entries(value as Record<string, number>)) {
        const what = `${name}.${field}`
        const { type, members } = STRUCTS[name] ?? { type: `no C type for ${name}`, members: {} }
        const expression = field === 'size' ? `sizeof(${type})` : `offsetof(${type}, ${members[field] ?? `no member for ${what}`})`
        out.push([what, EXPRESSIONS[what] ?? expression, offset])
      }
  }
  // ffi/socket/message-vector.ts and ffi/socket/udp-socket.ts rely on these.
  out.push(['CMSG_SPACE of a UDP_SEGMENT message', 'CMSG_SPACE(sizeof(uint16_t))', 24])
  out.push(['CMSG_LEN of a UDP_SEGMENT message', 'CMSG_LEN(sizeof(uint16_t))', layout.CMSGHDR.data + 2])
  out.push(['size of a pointer', 'sizeof(void *)', 8])
  out.push(['IPV6_PMTUDISC_DO', 'IPV6_PMTUDISC_DO', layout.PMTUDISC_DO])
  out.push(['IPV6_PMTUDISC_DONT', 'IPV6_PMTUDISC_DONT', layout.PMTUDISC_DONT])
  return out
}

function numbersOf(module: object): Record<string, number> {
  return Object.fromEntries(Object.entries(module).filter(([, value]) => typeof value === 'number'))
}

const PREAMBLE = `#define _GNU_SOURCE
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/timex.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
#include <linux/errqueue.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/net_tstamp.h>
#include <linux/netlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#define SC_PAGESIZE _SC_PAGESIZE /* ours has no underscore in front */
#ifndef SOL_UDP
#define SOL_UDP IPPROTO_UDP
#endif
#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6 /* glibc < 2.41 leaves it to linux/sched.h, which cannot be included beside sched.h */
#endif
#ifndef UIO_MAXIOV
#define UIO_MAXIOV IOV_MAX /* linux/uio.h cannot be included beside sys/uio.h */
#endif`

test.for(['x64', 'arm64'] as const)('struct layouts and constants are those of the system headers, on %s', async (arch, ctx) => {
  need(ctx, process.platform === 'linux', 'the layouts are Linux’s')
  const { compilers, missing } = cCompilers()
  const compiler = compilers.find((one) => one.arch === arch)
  need(ctx, compiler, missing || `this machine has no compiler for ${arch}`)
  const ours = claims(await asOn(arch, () => import('#dist/ffi/layout.js')))
  const theirs = cValues(
    compiler,
    PREAMBLE,
    ours.map(([, expression]) => expression),
  )
  expect(theirs.length).toBe(ours.length)
  expect(Object.fromEntries(ours.map(([what, , value]) => [what, value]))).toEqual(
    Object.fromEntries(ours.map(([what], i) => [what, theirs[i]])),
  )
  console.log(`layout: ${ours.length} offsets, sizes and constants agree with the headers, by ${compiler.name}`)
  expect(ours.length).toBeGreaterThan(80)
})
