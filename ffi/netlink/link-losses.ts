/**
 * Asks for the packets that an interface lost, for callers in a loop: its own count and its queue's in one question, over an rtnetlink(7)
 * socket that stays open. The answer is read in place, because V8 never compiles code that runs 50 times a second: by way of query.ts this
 * took 200 µs. Linux only.
 *
 * | state  | legal        | leaves by |
 * |--------|--------------|-----------|
 * | open   | read, close  | close()   |
 * | closed | close        | never     |
 */
import { SOCK_NONBLOCK } from '../layout.js'
import { checkCall, errno, libc } from '../libc.js'
import { orRelease, Region } from '../memory/region.js'
import { ERRNO, NativeError } from '../native-error.js'
import { RTM_GETQDISC, RTM_NEWQDISC, TC_H_ROOT, TCA_KIND, TCA_OPTIONS, TCMSG_LEN } from './qdisc.js'
import {
  AF_NETLINK,
  attributeAt,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HDRLEN,
  SOCK_RAW_CLOEXEC,
} from './query.js'
import { IFF_LOWER_UP, IFF_UP, IFINFOMSG_LEN, IFLA_CARRIER_DOWN_COUNT, RTM_GETLINK, RTM_NEWLINK } from './route.js'

// linux/rtnetlink.h, linux/gen_stats.h, linux/if_link.h
const IFLA_STATS64 = 23
const TCA_STATS2 = 7
const TCA_STATS_QUEUE = 3
/** struct rtnl_link_stats64: rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped, … */
const TX_DROPPED = 7 * 8
/** struct gnet_stats_queue: qlen, backlog, drops, … */
const QUEUE_LENGTH = 0
const QUEUE_DROPS = 8
const QUEUE_BYTES = 20
/** 'fq' and the zero behind it, padded, as a little-endian word. */
const KIND_FQ = 0x7166
/** As query.ts. */
const BUFFER_BYTES = 64 << 10
const MAX_READS = 4096
const ATTEMPTS = 10

export class LinkLosses {
  readonly fd: number
  /** As the last read found it: up, with a signal. */
  running = false
  carrierDownCount = 0
  /** Packets that the interface dropped at transmit. */
  txDropped = 0
  /**
   * Packets dropped by its root queueing discipline, 0 if it has none; 32 bits, wraps. Children are not added: classful ones count
   * their children's drops as their own (qdisc_tree_reduce_backlog, mq_dump).
   */
  queueDrops = 0
  /** Packets that wait in it now. */
  queueLength = 0
  /** Another number when its queueing disciplines were replaced, or when the options of an fq were changed. */
  queueing = 0
  readonly #region = Region.allocate(BUFFER_BYTES, { hugePages: 'never' })
  readonly #view = new DataView(this.#region.buffer)
  readonly #sendto = libc().sendto
  readonly #recv = libc().recv
  #sequence = 0
  /**
   * A kernel without queueing disciplines (CONFIG_NET_SCHED) has no answer, and qemu-user does not pass the question on: EOPNOTSUPP. The link
   * is asked about all the same.
   */
  #asksQueues = true
  #closed = false

  /** @throws NativeError when the socket cannot be opened */
  constructor() {
    const open = () =>
      checkCall('socket', libc().socket(AF_NETLINK, SOCK_RAW_CLOEXEC | SOCK_NONBLOCK, 0), 'AF_NETLINK, NETLINK_ROUTE')
    this.fd = orRelease(this.#region, open)
  }

  /** @throws NativeError ENODEV when there is no such interface */
  read(ifindex: number): void {
    for (let attempt = 0; this.#exchange(ifindex); attempt++)
      if (attempt === ATTEMPTS)
        throw new NativeError('RTM_GETQDISC', ERRNO.EAGAIN, `the table changed during each of ${ATTEMPTS} dumps`)
  }

  /** True when it is to be asked again: the dump was interrupted, or nobody answers about queues. */
  #exchange(ifindex: number): boolean {
    // Two requests in one message. The kernel answers both before sendto and recv return (netlink_dump).
    const link = this.#request(0, RTM_GETLINK, NLM_F_REQUEST, IFINFOMSG_LEN, ifindex)
    const both = this.#request(link, RTM_GETQDISC, NLM_F_REQUEST | NLM_F_DUMP, TCMSG_LEN, ifindex)
    const alone = !this.#asksQueues
    this.queueDrops = 0
    this.queueLength = 0
    this.queueing = 0
    const sent = this.#sendto(this.fd, this.#region.address, alone ? link : both, 0, 0, 0)
    if (sent < 0 && !alone && errno() === ERRNO.EOPNOTSUPP) return this.#withoutQueues()
    checkCall('sendto', sent, 'RTM_GETLINK')
    let failed = 0
    let interrupted = false
    for (let reads = 0; reads < MAX_READS; reads++) {
      const got = this.#recv(this.fd, this.#region.address, BUFFER_BYTES, 0)
      if (got < 0 && errno() === ERRNO.EINTR) continue
      checkCall('recv', got, 'RTM_GETLINK, RTM_GETQDISC')
      for (let at = 0; at + NLMSG_HDRLEN <= got; ) {
        const view = this.#view
        const size = view.getUint32(at, true)
        if (size < NLMSG_HDRLEN || at + size > got) throw new NativeError('recv', ERRNO.EPROTO, `netlink message of ${size} bytes`)
        const type = view.getUint16(at + 4, true)
        // Pass over messages that an earlier read left behind because it failed.
        const behind = (this.#sequence - view.getUint32(at + 8, true)) | 0
        const body = at + NLMSG_HDRLEN
        if (behind === 0 && (view.getUint16(at + 6, true) & NLM_F_DUMP_INTR) !== 0) interrupted = true
        if (behind === 1 && type === NLMSG_ERROR) failed = -view.getInt32(body, true)
        if (behind === 1 && type === RTM_NEWLINK) this.#link(body, at + size)
        if (behind === 0 && type === RTM_NEWQDISC) this.#qdisc(body, at + size, ifindex)
        if (behind === 0 && type === NLMSG_ERROR) {
          const refusal = -view.getInt32(body, true)
          if (refusal === ERRNO.EOPNOTSUPP) return this.#withoutQueues()
          throw new NativeError('RTM_GETQDISC', refusal)
        }
        if (alone ? behind === 1 && (type === RTM_NEWLINK || type === NLMSG_ERROR) : behind === 0 && type === NLMSG_DONE) {
          if (failed !== 0) throw new NativeError('RTM_GETLINK', failed, `interface ${ifindex}`)
          return interrupted
        }
        at += (size + 3) & ~3
      }
    }
    throw new NativeError('RTM_GETQDISC', ERRNO.EOVERFLOW, `no end after ${MAX_READS} reads`)
  }

  #withoutQueues(): true {
    this.#asksQueues = false
    return true
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    libc().close(this.fd)
    this.#region.release()
  }

  /** struct ifinfomsg and struct tcmsg both have the index at 4. Returns where the next request begins. */
  #request(at: number, type: number, flags: number, length: number, ifindex: number): number {
    const view = this.#view
    const size = NLMSG_HDRLEN + length
    this.#sequence = (this.#sequence + 1) >>> 0
    view.setUint32(at, size, true)
    view.setUint16(at + 4, type, true)
    view.setUint16(at + 6, flags, true)
    view.setUint32(at + 8, this.#sequence, true)
    for (let i = at + 12; i < at + size; i += 4) view.setUint32(i, 0, true)
    view.setInt32(at + NLMSG_HDRLEN + 4, ifindex, true)
    return at + size
  }

  #link(body: number, end: number): void {
    const view = this.#view
    const flags = view.getUint32(body + 8, true)
    this.running = (flags & IFF_UP) !== 0 && (flags & IFF_LOWER_UP) !== 0
    const from = body + IFINFOMSG_LEN
    const count = attributeAt(view, from, end, IFLA_CARRIER_DOWN_COUNT, 4)
    this.carrierDownCount = count < 0 ? 0 : view.getUint32(count, true)
    const stats = attributeAt(view, from, end, IFLA_STATS64, TX_DROPPED + 8)
    this.txDropped =
      stats < 0 ? 0 : view.getUint32(stats + TX_DROPPED, true) + view.getUint32(stats + TX_DROPPED + 4, true) * 2 ** 32
  }

  /** The kernel does not filter the dump by interface. */
  #qdisc(body: number, end: number, ifindex: number): void {
    const view = this.#view
    if (view.getInt32(body + 4, true) !== ifindex) return
    const from = body + TCMSG_LEN
    const kind = attributeAt(view, from, end, TCA_KIND, 1)
    this.#note(body + 8, 8)
    if (kind >= 0) this.#noteAttribute(kind)
    // Others' options may have counters among them.
    const options = kind >= 0 && view.getUint32(kind, true) === KIND_FQ ? attributeAt(view, from, end, TCA_OPTIONS, 0) : -1
    if (options >= 0) this.#noteAttribute(options)
    if (view.getUint32(body + 12, true) !== TC_H_ROOT) return
    const stats = attributeAt(view, from, end, TCA_STATS2, 0)
    if (stats < 0) return
    const queue = attributeAt(view, stats, stats + view.getUint16(stats - 4, true) - 4, TCA_STATS_QUEUE, QUEUE_BYTES)
    if (queue < 0) return
    this.queueDrops = view.getUint32(queue + QUEUE_DROPS, true)
    this.queueLength = view.getUint32(queue + QUEUE_LENGTH, true)
  }

  /** Attributes are padded with zeros to whole words (nla_reserve). */
  #noteAttribute(at: number): void {
    this.#note(at, this.#view.getUint16(at - 4, true) - 4)
  }

  #note(at: number, bytes: number): void {
    let sum = this.queueing
    for (let i = 0; i < bytes; i += 4) sum = (Math.imul(sum, 31) + this.#view.getInt32(at + i, true)) | 0
    this.queueing = sum
  }
}
