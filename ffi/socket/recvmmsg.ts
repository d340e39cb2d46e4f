/**
 * Receiving UDP in bulk: a bound, joined, non-blocking socket, and an arena that one recvmmsg(2) fills with up to 64 datagrams, or
 * runs of equal datagrams that the kernel coalesced (UDP_GRO). Linux only.
 *
 * The thread that opens the sockets and maps the memory (main) also gives both back, after the receiving thread has ended; the
 * receiving thread only needs their numbers: descriptors and a RegionHandle.
 */
import { AF_INET, CMSGHDR, IOVEC, MMSGHDR, MSG_DONTWAIT, MSGHDR, SOCK_CLOEXEC, SOCKADDR_IN, SOCKADDR_IN6 } from '../layout.js'
import { checkCall, errno, isMapFailed, libc } from '../libc.js'
import { addressesRefused, pagesRefused } from '../memory/budget.js'
import { ANY_NODE, bindPages } from '../memory/numa.js'
import { attachRegion, type RegionHandle } from '../memory/region.js'
import { Scratch } from '../memory/scratch.js'
import { writePointer } from '../memory/store-pointer.js'
import { ERRNO, NativeError } from '../native-error.js'
import type { SocketAddress } from './inet-socket.js'
import { SenderTable } from './sender-table.js'
import { ipMreqn, UdpSocket } from './udp-socket.js'

// asm-generic/socket.h, linux/in.h, linux/in6.h, linux/udp.h: [level, name].
const SO_REUSEADDR = [1, 2] as const
const SO_RCVBUF = [1, 8] as const
const SO_RCVBUFFORCE = [1, 33] as const
/** The index in place of SO_BINDTODEVICE's name (asm-generic/socket.h, Linux 5.1). */
const SO_BINDTOIFINDEX = [1, 62] as const
const SO_MEMINFO = [1, 55] as const
const IP_ADD_MEMBERSHIP = [0, 35] as const
const IP_DROP_MEMBERSHIP = [0, 36] as const
const IP_MULTICAST_ALL = [0, 49] as const
const IPV6_JOIN_GROUP = [41, 20] as const
const IPV6_LEAVE_GROUP = [41, 21] as const
const IPV6_MULTICAST_ALL = [41, 29] as const
const UDP_GRO = [17, 104] as const
const MSG_TRUNC = 0x20
/** linux/sock_diag.h: SO_MEMINFO fills SK_MEMINFO_VARS = 9 words, of which this one counts drops. */
const SK_MEMINFO_DROPS = 8

export interface ReceiveSocketOptions {
  /** Where to bind. A multicast address is bound itself, so that other groups on the same port stay out, and joined. */
  readonly address: SocketAddress
  readonly multicast: boolean
  /** Interface of the group membership; 0 lets the kernel choose by route (ip(7), ip_mreqn; ipv6(7), ipv6_mreq). */
  readonly interfaceIndex: number
  /** In setsockopt's units: socket(7), the kernel doubles it for its bookkeeping. */
  readonly receiveBufferBytes: number
  /** false leaves datagrams uncoalesced. */
  readonly gro: boolean
}

/**
 * | state  | legal               | leaves by |
 * |--------|---------------------|-----------|
 * | open   | all                 | close()   |
 * | closed | close() (no effect) | never     |
 */
export class ReceiveSocket {
  readonly fd: number
  readonly family: 4 | 6
  /** The size that the kernel granted, in the units of the request (half of what SO_RCVBUF reads back). */
  readonly receiveBufferBytes: number
  readonly gro: boolean
  readonly #socket: UdpSocket
  readonly #scratch = new Scratch(64)
  #options: ReceiveSocketOptions
  #open = true

  /** @throws NativeError naming the call: socket, setsockopt, bind. */
  constructor(options: ReceiveSocketOptions) {
    const { address, multicast, interfaceIndex } = options
    this.#options = options
    this.family = address.family
    this.#socket = new UdpSocket(address.family)
    this.fd = this.#socket.fd
    try {
      // Only groups may be shared. On a unicast port SO_REUSEADDR would let a second receiver silently take the first one's packets.
      if (multicast) this.#socket.setOption(SO_REUSEADDR, 1)
      this.receiveBufferBytes = this.#growBuffer(options.receiveBufferBytes)
      this.gro = options.gro && this.#socket.tryOption(UDP_GRO, 1) === 0
      // ipv6(7): binding a link-local address, group or not, needs the interface as its scope.
      const scopeId = address.scopeId || (multicast && address.family === 6 ? interfaceIndex : 0)
      if (multicast) filterGroup(this.fd, address.family, interfaceIndex)
      this.#socket.bind({ ...address, scopeId })
      if (multicast) this.#join(interfaceIndex)
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** SO_RCVBUFFORCE passes rmem_max but needs CAP_NET_ADMIN; SO_RCVBUF is clipped to rmem_max without an error (socket(7)). */
  #growBuffer(wanted: number): number {
    if (this.#socket.tryOption(SO_RCVBUFFORCE, wanted) !== 0) this.#socket.setOption(SO_RCVBUF, wanted)
    return this.#socket.getOption(SO_RCVBUF) >>> 1
  }

  #join(interfaceIndex: number): void {
    const { address: group } = this.#options
    if (group.family === 6) {
      const request = new Uint8Array(20)
      request.set(group.bytes)
      new DataView(request.buffer).setUint32(16, interfaceIndex || (group.scopeId ?? 0), true)
      this.#socket.setOption(IPV6_JOIN_GROUP, request)
    } else {
      this.#socket.setOption(IP_ADD_MEMBERSHIP, ipMreqn(interfaceIndex, group.bytes))
    }
  }

  /**
   * Joins the group unless it is joined there already; true if it did. A socket that is bound to an interface, as those of IPv6 groups are, may
   * be bound to another only with CAP_NET_RAW: another socket takes its descriptor. @throws NativeError where it cannot be joined
   */
  rejoin(interfaceIndex: number): boolean {
    const { address, interfaceIndex: before } = this.#options
    if (!this.#open) return false
    if (interfaceIndex === before) return this.#joinAgain(interfaceIndex)
    const scoped = address.scopeId ? { ...address, scopeId: interfaceIndex } : address
    const options = { ...this.#options, address: scoped, interfaceIndex }
    if (this.family === 6) {
      const fresh = new ReceiveSocket(options)
      checkCall('dup3', libc().dup3(fresh.fd, this.fd, SOCK_CLOEXEC))
      fresh.close()
      this.#options = options
      return true
    }
    const joined = this.#joinAgain(interfaceIndex)
    // Else the membership of the interface that is gone counts against net.ipv4.igmp_max_memberships.
    const [level, name] = IP_DROP_MEMBERSHIP
    libc().setsockopt(this.fd, level, name, this.#scratch.put(ipMreqn(before, address.bytes)), 12)
    this.#options = options
    return joined
  }

  /** Leaves an IPv6 group wherever it is joined, and joins it by the route. @throws NativeError where there is none */
  followRoute(): void {
    const request = new Uint8Array(20)
    request.set(this.#options.address.bytes)
    const [level, name] = IPV6_LEAVE_GROUP
    libc().setsockopt(this.fd, level, name, this.#scratch.put(request), 20)
    this.#join(0)
  }

  #joinAgain(interfaceIndex: number): boolean {
    try {
      this.#join(interfaceIndex)
      return true
    } catch (error) {
      if (error instanceof NativeError && error.errno === ERRNO.EADDRINUSE) return false
      throw error
    }
  }

  /** Datagrams (a coalesced run counts once) that found the buffer full; see droppedBySocket. */
  dropped(): number {
    return this.#open ? droppedBySocket(this.fd, this.#scratch) : 0
  }

  close(): void {
    if (!this.#open) return
    this.#open = false
    this.#socket.close()
    this.#scratch.region.release()
  }
}

let flag: Scratch | undefined

/**
 * Delivers what this socket joined and no group that another of this host joined (ip(7), IP_MULTICAST_ALL), and from the interface that it
 * joined on: for IPv4 the same option sees to that, but IPv6 looks at the group alone (inet6_mc_check of net/ipv6/mcast.c), so the socket is
 * bound to the interface. That takes Linux 5.7 or CAP_NET_RAW, and the latter where it is bound to another already.
 * @param ifindex 0: of any interface
 * @returns 0, or the errno of what binds
 */
export function filterGroup(fd: number, family: 4 | 6, ifindex: number): number {
  flag ??= new Scratch(64)
  const { address, i32 } = flag
  const set = ([level, option]: readonly [number, number], value: number): number => {
    i32[0] = value
    return libc().setsockopt(fd, level, option, address, 4) < 0 ? errno() : 0
  }
  set(family === 6 ? IPV6_MULTICAST_ALL : IP_MULTICAST_ALL, 0)
  return family === 6 && ifindex > 0 ? set(SO_BINDTOIFINDEX, ifindex) : 0
}

/**
 * Drops since the socket was made, or 0 where the kernel does not say. SO_MEMINFO reads the same counter (sk_drops) that
 * SO_RXQ_OVFL attaches to datagrams, but now instead of when the last datagram was queued, and at no cost per datagram.
 */
export function droppedBySocket(fd: number, scratch: Scratch): number {
  scratch.i32[9] = 36
  const failed = libc().getsockopt(fd, SO_MEMINFO[0], SO_MEMINFO[1], scratch.address, scratch.address + 36) < 0
  return failed || scratch.i32[9]! < 36 ? 0 : scratch.i32[SK_MEMINFO_DROPS]! >>> 0
}

/** Messages of one recvmmsg. Each has room for the largest coalesced run, which is the largest UDP datagram. */
const ARENA_MESSAGES = 64
export const ARENA_MESSAGE_BYTES = 65536
const HEADERS_AT = ARENA_MESSAGES * ARENA_MESSAGE_BYTES
const NAME_BYTES = 32
const CONTROL_BYTES = 64
const IOVECS_AT = HEADERS_AT + ARENA_MESSAGES * MMSGHDR.size
const NAMES_AT = IOVECS_AT + ARENA_MESSAGES * IOVEC.size
const CONTROL_AT = NAMES_AT + ARENA_MESSAGES * NAME_BYTES
const REPLY_AT = CONTROL_AT + ARENA_MESSAGES * CONTROL_BYTES
const REPLY_BYTES = 256
/** Where free memory behind the arena starts: a page boundary. */
export const ARENA_BYTES = (REPLY_AT + REPLY_BYTES + 4095) & ~4095

const PROT_READ_WRITE = 3
const MAP_PRIVATE_ANONYMOUS_NORESERVE = 0x4022
const MADV_DONTNEED = 4
const MADV_DONTFORK = 10

export interface ReceiveMemory extends RegionHandle {
  /** The NUMA node that its pages come from first. */
  readonly node: number
}

const idle: ReceiveMemory[] = []

/**
 * Maps the arena (recvmmsg's by default) and `heapBytes` behind it, in one mapping because then copyWithin between packets and heaps makes no
 * view object.
 * Unlike a Region it is not faulted in: the size is a bound on what may be used, the pages come with the first heap that needs them.
 * @param node the NUMA node that the pages come from first
 * @throws NativeError
 */
export function mapReceiveMemory(heapBytes: number, arenaBytes = ARENA_BYTES, node = ANY_NODE): ReceiveMemory {
  const byteLength = arenaBytes + Math.ceil(heapBytes / 4096) * 4096
  const i = idle.findIndex((handle) => handle.byteLength === byteLength)
  if (i >= 0) return onNode(idle.splice(i, 1)[0]!, node)
  const refused = pagesRefused(byteLength) ?? addressesRefused(byteLength)
  if (refused) throw refused
  const address = libc().mmap(0, byteLength, PROT_READ_WRITE, MAP_PRIVATE_ANONYMOUS_NORESERVE, -1, 0)
  if (isMapFailed(address)) throw new NativeError('mmap', errno(), `${byteLength} bytes`)
  libc().madvise(address, byteLength, MADV_DONTFORK)
  return onNode({ id: 0, address, byteLength, node: ANY_NODE }, node)
}

/** None of its pages has been touched. */
function onNode(memory: ReceiveMemory, node: number): ReceiveMemory {
  if (memory.node === node) return memory
  bindPages(memory.address, memory.byteLength, node)
  return { ...memory, node }
}

/** Drops the pages and keeps the range for the next receiver (memory/region.ts: never munmap). Only after the receiving thread has ended. */
export function recycleReceiveMemory(handle: ReceiveMemory): void {
  libc().madvise(handle.address, handle.byteLength, MADV_DONTNEED)
  idle.push(handle)
}

export class ReceiveArena {
  /** The whole mapping: message i starts at i × ARENA_MESSAGE_BYTES, free memory at ARENA_BYTES. */
  readonly buffer: ArrayBuffer
  /** Filled by receive(). Bytes of message i. */
  readonly length = new Int32Array(ARENA_MESSAGES)
  /** Bytes of each datagram in message i, the last may be shorter; equals its length when it holds one datagram. */
  readonly segmentBytes = new Int32Array(ARENA_MESSAGES)
  /** A number per sender's address and port (sender-table.ts). */
  readonly sender = new Int32Array(ARENA_MESSAGES)
  /** 1 where the datagram was longer than the message buffer. */
  readonly truncated = new Uint8Array(ARENA_MESSAGES)

  readonly #address: number
  readonly #i32: Int32Array
  readonly #u32: Uint32Array
  readonly #u8: Uint8Array
  readonly #recvmmsg = libc().recvmmsg
  readonly #senders = new SenderTable()
  #dirty = ARENA_MESSAGES

  constructor(handle: RegionHandle) {
    this.buffer = attachRegion(handle)
    this.#address = handle.address
    this.#i32 = new Int32Array(this.buffer, 0, ARENA_BYTES >> 2)
    this.#u32 = new Uint32Array(this.buffer, 0, ARENA_BYTES >> 2)
    this.#u8 = new Uint8Array(this.buffer, 0, ARENA_BYTES)
    for (let i = 0; i < ARENA_MESSAGES; i++) {
      const header = HEADERS_AT + i * MMSGHDR.size
      const iovec = IOVECS_AT + i * IOVEC.size
      writePointer(this.#u32, (header + MSGHDR.name) >> 2, handle.address + NAMES_AT + i * NAME_BYTES)
      writePointer(this.#u32, (header + MSGHDR.iov) >> 2, handle.address + iovec)
      writePointer(this.#u32, (header + MSGHDR.iovlen) >> 2, 1)
      writePointer(this.#u32, (header + MSGHDR.control) >> 2, handle.address + CONTROL_AT + i * CONTROL_BYTES)
      writePointer(this.#u32, (iovec + IOVEC.base) >> 2, handle.address + i * ARENA_MESSAGE_BYTES)
      writePointer(this.#u32, (iovec + IOVEC.len) >> 2, ARENA_MESSAGE_BYTES)
    }
  }

  /**
   * One recvmmsg that does not wait. Returns the number of messages, 0 if there are none; their bytes are valid until the next call.
   * One system call, no allocation; a few stores and loads per message (not per datagram).
   * @throws NativeError for anything but EAGAIN and EINTR.
   */
  receive(fd: number): number {
    const { length, segmentBytes, sender, truncated } = this
    const i32 = this.#i32
    // name and control lengths are value-result: only the messages that were used have to be reset.
    for (let i = 0; i < this.#dirty; i++) {
      const header = (HEADERS_AT + i * MMSGHDR.size) >> 2
      i32[header + (MSGHDR.namelen >> 2)] = SOCKADDR_IN6.size
      i32[header + (MSGHDR.controllen >> 2)] = CONTROL_BYTES
    }
    const n = this.#recvmmsg(fd, this.#address + HEADERS_AT, ARENA_MESSAGES, MSG_DONTWAIT, 0)
    if (n <= 0) {
      this.#dirty = 0
      if (n < 0) {
        const e = errno()
        if (e !== ERRNO.EAGAIN && e !== ERRNO.EINTR) throw new NativeError('recvmmsg', e)
      }
      return 0
    }
    this.#dirty = n
    for (let i = 0; i < n; i++) {
      const header = (HEADERS_AT + i * MMSGHDR.size) >> 2
      const bytes = i32[header + (MMSGHDR.len >> 2)]!
      length[i] = bytes
      truncated[i] = i32[header + (MSGHDR.flags >> 2)]! & MSG_TRUNC ? 1 : 0
      let segment = bytes
      const control = (CONTROL_AT + i * CONTROL_BYTES) >> 2
      // The cmsg of GRO is an int, and the only kind we asked for (docs/ground-rules.md, "Segmentation and zero copy").
      if (
        i32[header + (MSGHDR.controllen >> 2)]! >= CMSGHDR.data + 4 &&
        i32[control + (CMSGHDR.level >> 2)] === UDP_GRO[0] &&
        i32[control + (CMSGHDR.type >> 2)] === UDP_GRO[1]
      ) {
        segment = i32[control + (CMSGHDR.data >> 2)]!
        if (segment <= 0 || segment > bytes) segment = bytes
      }
      segmentBytes[i] = segment
      sender[i] = this.#senders.of(this.#u32, (NAMES_AT + i * NAME_BYTES) >> 2)
    }
    return n
  }

  /** The address of a sender as sockaddr bytes, undefined where it has been forgotten. Cold. */
  addressOf(sender: number): Uint8Array | undefined {
    const words = this.#senders.wordsOf(sender)
    if (!words) return undefined
    const v4 = (words[0]! & 0xffff) === AF_INET
    return new Uint8Array(words.buffer, 0, v4 ? SOCKADDR_IN.size : SOCKADDR_IN6.size)
  }

  /** The address message i came from, as sockaddr bytes to give to reply(). Cold. */
  senderAddress(i: number): Uint8Array {
    const at = NAMES_AT + i * NAME_BYTES
    const v4 = (this.#u32[at >> 2]! & 0xffff) === AF_INET
    return this.#u8.slice(at, at + (v4 ? SOCKADDR_IN.size : SOCKADDR_IN6.size))
  }

  /** Sends at most 192 bytes to an address of senderAddress(). Returns false if the kernel did not take them. */
  reply(fd: number, bytes: Uint8Array, to: Uint8Array): boolean {
    this.#u8.set(to, REPLY_AT)
    this.#u8.set(bytes.subarray(0, REPLY_BYTES - 64), REPLY_AT + 64)
    const at = this.#address + REPLY_AT
    return libc().sendto(fd, at + 64, bytes.length, MSG_DONTWAIT, at, to.length) === bytes.length
  }
}
