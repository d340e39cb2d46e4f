/**
 * Tells whether an interface lost its carrier or a neighbour, and whether packets to some destinations may take another path, for callers in a
 * loop: a non-blocking rtnetlink(7) socket in the groups of link and neighbour messages, and of addresses, routes, rules and next hops.
 * `drain` is one recv(2) that nearly always says EAGAIN: no allocation, under a microsecond. Linux only.
 *
 * The kernel rate-limits these messages (linkwatch: non-urgent ones may come a second late, and a loss and a return in between become
 * one message). So the count of losses in each message is compared with the last one seen. Only `link(index).carrierDownCount` tells the
 * truth of this very moment (docs/ground-rules.md, "netlink").
 */
import { OPT, SOCK_NONBLOCK } from '../layout.js'
import { checkCall, errno, libc } from '../libc.js'
import { orRelease, Region } from '../memory/region.js'
import { ERRNO, NativeError } from '../native-error.js'
import { changeFilter } from './change-filter.js'
import { OtherLinks } from './other-links.js'
import { commonPrefix } from './prefix.js'
import { AF_NETLINK, attributeAt, NLMSG_HDRLEN, SOCK_RAW_CLOEXEC } from './query.js'
import {
  IFF_LOWER_UP,
  IFF_UP,
  IFINFOMSG_LEN,
  IFLA_CARRIER_DOWN_COUNT,
  link,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
} from './route.js'

const RTMGRP_LINK = 1
const RTMGRP_NEIGH = 4
/** Group n of linux/rtnetlink.h is bit n − 1: RTNLGRP_IPV4_IFADDR 5, _ROUTE 7, _RULE 8; RTNLGRP_IPV6_IFADDR 9, _ROUTE 11, _RULE 19. */
const PATH_GROUPS = { 4: (1 << 4) | (1 << 6) | (1 << 7), 16: (1 << 8) | (1 << 10) | (1 << 18) } as const
/** RTNLGRP_NEXTHOP, 32, is the last that fits. Kernels before 5.3 have none and ignore the bit. */
const NEXTHOP_GROUP = 1 << 31
/** The program of the filter stands behind the socket address. */
const PROGRAM_AT = 64
/** linux/neighbour.h, NUD_INCOMPLETE and NUD_FAILED: no MAC is known. */
const NUD_UNRESOLVED = 0x01 | 0x20
/** linux/if_link.h, linux/rtnetlink.h */
const IFLA_IFNAME = 3
const RTM_DELADDR = 21
const RT_SCOPE_LINK = 253
const BUFFER_BYTES = 32 << 10
/** Under a flood of messages, those beyond wait for the next drain. */
const MAX_READS = 256

export interface LinkChanges {
  /** The interface was without carrier, set down or removed at some time since the last drain. */
  carrierLost: boolean
  /** Link messages about this interface since the last drain, of any kind (carrier, MTU, flags…). */
  changes: number
  /** The kernel forgot some neighbour's MAC on this interface, or gave up on finding it. */
  neighbourLost: boolean
}

interface Slot {
  readonly ifindex: number
  /** When it was first watched. */
  readonly name: string
  downCount: number
  pending: LinkChanges
  reported: LinkChanges
}

export class LinkWatch {
  /** For poll(2): readable when there is something to drain. */
  readonly fd: number
  /**
   * Links, addresses, routes, rules or next hops have changed, so that packets to the destinations may take another path. Set by `drain`;
   * its reader looks at the paths and clears it.
   */
  pathsDoubtful = false
  /** Some link has changed, so that a bond may have got another port. Set by `drain`, true at first; its reader clears it. */
  linksChanged = true
  readonly #region: Region
  readonly #view: DataView
  readonly #slots: Slot[] = []
  /** Interfaces that were made anew under the name of a watched one. */
  readonly #heirs = new Set<number>()
  readonly #others: OtherLinks
  readonly #recv = libc().recv
  #closed = false

  /**
   * Watches from now on. Interfaces not named here are watched from their first drain.
   * @param destinations addresses of one family; without any, no group of paths is joined
   * @throws NativeError when the socket cannot be opened, ENODEV when an interface does not exist.
   */
  constructor(ifindexes: readonly number[] = [], destinations: readonly Uint8Array[] = []) {
    const c = libc()
    const [first] = destinations
    const common = commonPrefix(destinations)
    this.#others = new OtherLinks(first?.length === 16 ? 6 : 4, common)
    this.#region = Region.allocate(BUFFER_BYTES, { hugePages: 'never' })
    this.#view = new DataView(this.#region.buffer)
    const open = () => checkCall('socket', c.socket(AF_NETLINK, SOCK_RAW_CLOEXEC | SOCK_NONBLOCK, 0), 'AF_NETLINK, NETLINK_ROUTE')
    this.fd = orRelease(this.#region, open)
    try {
      this.#filter(changeFilter(common))
      const paths = first ? PATH_GROUPS[first.length as 4 | 16] | NEXTHOP_GROUP : 0
      // struct sockaddr_nl: u16 family, u16 pad, u32 pid, u32 groups
      this.#view.setUint16(0, AF_NETLINK, true)
      this.#view.setUint16(2, 0, true)
      this.#view.setUint32(4, 0, true)
      this.#view.setUint32(8, (RTMGRP_LINK | RTMGRP_NEIGH | paths) >>> 0, true)
      checkCall('bind', c.bind(this.fd, this.#region.address, 12), 'AF_NETLINK, RTMGRP_LINK | RTMGRP_NEIGH')
      // Only after bind, so that no loss can fall between the count and the watch.
      for (const ifindex of ifindexes) this.#slot(ifindex)
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Where the kernel takes no filter, more messages are read, and paths looked at more often. */
  #filter(program: Uint8Array): void {
    new Uint8Array(this.#region.buffer).set(program, PROGRAM_AT)
    // struct sock_fprog: u16 len, pad, struct sock_filter *filter
    this.#view.setBigUint64(0, BigInt(program.length / 8), true)
    this.#view.setBigUint64(8, BigInt(this.#region.address + PROGRAM_AT), true)
    libc().setsockopt(this.fd, OPT.SO_ATTACH_FILTER[0], OPT.SO_ATTACH_FILTER[1], this.#region.address, 16)
  }

  /**
   * Returns the changes of the interface since its last drain. The object is reused: valid until the next drain of the same interface.
   * Messages about other watched interfaces are kept for their own drains. @throws NativeError on anything but EAGAIN and ENOBUFS.
   */
  drain(ifindex: number): Readonly<LinkChanges> {
    let slot: Slot
    try {
      slot = this.#slot(ifindex)
    } finally {
      // Messages that nobody reads would keep the descriptor ready.
      if (!this.#closed) this.#read()
    }
    const { pending, reported } = slot
    slot.pending = reported
    slot.reported = pending
    reported.carrierLost = false
    reported.changes = 0
    reported.neighbourLost = false
    return pending
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    libc().close(this.fd)
    this.#region.release()
  }

  #slot(ifindex: number): Slot {
    for (let i = 0; i < this.#slots.length; i++) if (this.#slots[i]!.ifindex === ifindex) return this.#slots[i]!
    const { name, carrierDownCount } = link(ifindex)
    const slot: Slot = {
      ifindex,
      name,
      downCount: carrierDownCount,
      pending: { carrierLost: false, changes: 0, neighbourLost: false },
      reported: { carrierLost: false, changes: 0, neighbourLost: false },
    }
    this.#slots.push(slot)
    return slot
  }

  #read(): void {
    for (let reads = 0; reads < MAX_READS; reads++) {
      const got = this.#recv(this.fd, this.#region.address, BUFFER_BYTES, 0)
      if (got < 0) {
        const e = errno()
        if (e === ERRNO.EAGAIN) return
        if (e === ERRNO.EINTR) continue
        if (e !== ERRNO.ENOBUFS) throw new NativeError('recv', e, 'AF_NETLINK, RTMGRP_LINK')
        // Messages were lost, and we cannot know of which interface: doubt all rather than miss a loss.
        for (const slot of this.#slots) {
          slot.pending.carrierLost = true
          slot.pending.changes++
          slot.pending.neighbourLost = true
        }
        this.#doubt()
        this.linksChanged = true
        continue
      }
      this.#parse(got)
    }
  }

  #parse(got: number): void {
    const view = this.#view
    for (let at = 0; at + NLMSG_HDRLEN + IFINFOMSG_LEN <= got; ) {
      const size = view.getUint32(at, true)
      if (size < NLMSG_HDRLEN) return
      const type = view.getUint16(at + 4, true)
      const body = at + NLMSG_HDRLEN
      // struct ndmsg: u8 family, 3 pad, i32 ifindex, u16 state, u8 flags, u8 type
      if (type === RTM_DELNEIGH || (type === RTM_NEWNEIGH && (view.getUint16(body + 8, true) & NUD_UNRESOLVED) !== 0)) {
        const index = view.getInt32(body + 4, true)
        for (let i = 0; i < this.#slots.length; i++)
          if (this.#slots[i]!.ifindex === index) this.#slots[i]!.pending.neighbourLost = true
      }
      if (type === RTM_NEWLINK || type === RTM_DELLINK) this.#parseLink(type, body, Math.min(at + size, got))
      else if (type !== RTM_NEWNEIGH && type !== RTM_DELNEIGH && !this.#isElsewhere(type, body)) this.#doubt()
      at += (size + 3) & ~3
    }
  }

  /**
   * struct ifinfomsg: u8 family, pad, u16 type, i32 index, u32 flags, u32 change. Family AF_BRIDGE speaks of ports, not of links.
   */
  #parseLink(type: number, body: number, end: number): void {
    const view = this.#view
    if (view.getUint8(body) !== 0) return
    this.linksChanged = true
    const index = view.getInt32(body + 4, true)
    const flags = view.getUint32(body + 8, true)
    const slot = this.#watched(index)
    if (!slot) {
      const doubtful =
        this.#isHeir(index, body + IFINFOMSG_LEN, end) ||
        (type === RTM_DELLINK ? this.#others.removed(index) : this.#others.changed(index, flags))
      this.pathsDoubtful ||= doubtful
      return
    }
    this.pathsDoubtful = true
    slot.pending.changes++
    const count = attributeAt(view, body + IFINFOMSG_LEN, end, IFLA_CARRIER_DOWN_COUNT, 4)
    const downCount = count < 0 ? slot.downCount : view.getUint32(count, true)
    if (type === RTM_DELLINK || !(flags & IFF_UP) || !(flags & IFF_LOWER_UP) || downCount !== slot.downCount)
      slot.pending.carrierLost = true
    slot.downCount = downCount
  }

  #watched(index: number): Slot | undefined {
    for (let i = 0; i < this.#slots.length; i++) if (this.#slots[i]!.ifindex === index) return this.#slots[i]
    return undefined
  }

  /** Whether an interface has, or had, the name of a watched one: callers know theirs by name. */
  #isHeir(index: number, attributes: number, end: number): boolean {
    const at = attributeAt(this.#view, attributes, end, IFLA_IFNAME, 1)
    if (at < 0) return this.#heirs.has(index)
    const name = new TextDecoder().decode(new Uint8Array(this.#view.buffer, at, this.#view.getUint16(at - 4, true) - 5))
    if (this.#slots.some((slot) => slot.name === name)) this.#heirs.add(index)
    return this.#heirs.has(index)
  }

  /**
   * An address that is good for its own link alone, of a link that no packet leaves by: each has one of IPv6 as soon as it is up.
   */
  #isElsewhere(type: number, body: number): boolean {
    if (type !== RTM_NEWADDR && type !== RTM_DELADDR) return false
    // struct ifaddrmsg: u8 family, u8 prefixlen, u8 flags, u8 scope, u32 index
    const index = this.#view.getUint32(body + 4, true)
    return this.#view.getUint8(body + 3) === RT_SCOPE_LINK && !this.#watched(index) && !this.#heirs.has(index)
  }

  #doubt(): void {
    this.pathsDoubtful = true
    this.#others.forget()
  }
}
