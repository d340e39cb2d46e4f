/**
 * The transport of rtnetlink(7) queries: one request, its answers, their attributes. Linux only. The queries are in route.ts.
 *
 * A query opens a socket, sends, reads the answers that carry its sequence number and closes: five system calls, about 20 µs, no
 * state to keep or to go stale, and it asks the network namespace of the calling thread.
 */
import { checkCall, libc } from '../libc.js'
import { Region } from '../memory/region.js'
import { ERRNO, NativeError } from '../native-error.js'

// linux/netlink.h, linux/rtnetlink.h, bits/socket.h; the same on x86-64 and arm64.
export const AF_NETLINK = 16
export const SOCK_RAW_CLOEXEC = 3 | 0x80000
const SOL_SOCKET = 1
const SO_RCVTIMEO = 20
const SOL_NETLINK = 270
const NETLINK_GET_STRICT_CHK = 12
const MSG_TRUNC = 0x20
export const NLM_F_REQUEST = 1
export const NLM_F_DUMP = 0x300
export const NLM_F_DUMP_INTR = 0x10
export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3
/** Bytes of struct nlmsghdr, which the message of the family follows. */
export const NLMSG_HDRLEN = 16

/** The kernel fills at most 32 KiB a read of a dump (netlink_recvmsg), a single answer without SR-IOV details is far smaller. */
const BUFFER_BYTES = 64 << 10
const MAX_READS = 4096

interface Scratch {
  readonly address: number
  readonly bytes: Uint8Array
  readonly view: DataView
}

let scratch: Scratch | undefined
let sequence = 0

/** Attributes of one message by type; a repeated type keeps its last. Offsets are into the scratch buffer, valid inside the callback. */
export type Attributes = ReadonlyMap<number, { readonly at: number; readonly length: number }>

export function attributesOf(view: DataView, from: number, end: number): Attributes {
  const found = new Map<number, { at: number; length: number }>()
  for (let at = from; at + 4 <= end; ) {
    const length = view.getUint16(at, true)
    if (length < 4 || at + length > end) break
    // The two top bits are NLA_F_NESTED and NLA_F_NET_BYTEORDER.
    found.set(view.getUint16(at + 2, true) & 0x3fff, { at: at + 4, length: length - 4 })
    at += (length + 3) & ~3
  }
  return found
}

/**
 * Where the data of the first attribute of a type begins, if it has `leastBytes` or more; −1 if there is none. For loops: allocates
 * nothing. The attribute's length, header included, stands 4 bytes before.
 */
export function attributeAt(view: DataView, from: number, end: number, type: number, leastBytes: number): number {
  for (let at = from; at + 4 <= end; ) {
    const length = view.getUint16(at, true)
    if (length < 4 || at + length > end) return -1
    // As attributesOf.
    if ((view.getUint16(at + 2, true) & 0x3fff) === type) return length >= 4 + leastBytes ? at + 4 : -1
    at += (length + 3) & ~3
  }
  return -1
}

export function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer)
}

export const ENOUGH = Symbol('enough')

export interface Query {
  /** Name of the request, for errors. */
  readonly what: string
  /** Default NETLINK_ROUTE. */
  readonly protocol?: number
  readonly type: number
  /** The message type of the answers. */
  readonly answer: number
  /** All objects instead of one. */
  readonly dump?: boolean
  /** The fixed header of the family of messages; answers start with one of the same length. */
  readonly header: Uint8Array
  readonly attributes?: readonly (readonly [number, Uint8Array])[]
  /** The kernel refuses what it does not filter a dump by, instead of passing over it; before Linux 4.20 it cannot. */
  readonly strict?: boolean
  /** Ends the query by returning ENOUGH. */
  readonly onMessage: (view: DataView, body: number, attributes: Attributes) => unknown
  /** Before each attempt of a dump: forget what onMessage gathered. */
  readonly restart?: () => void
}

/** Asks, and asks again when the kernel says that the table changed under a dump (NLM_F_DUMP_INTR). onMessage may not query. */
export function query(q: Query): void {
  for (let attempt = 1; ; attempt++) {
    q.restart?.()
    if (!exchange(q)) return
    if (attempt === 10) throw new NativeError(q.what, ERRNO.EAGAIN, 'the table changed during each of 10 dumps')
  }
}

/** One request and its answers. True when a dump was interrupted. */
function exchange({ what, protocol = 0, type, dump, strict, header, attributes, answer, onMessage }: Query): boolean {
  const c = libc()
  if (!scratch) {
    const region = Region.allocate(BUFFER_BYTES, { hugePages: 'never' })
    scratch = { address: region.address, bytes: new Uint8Array(region.buffer), view: new DataView(region.buffer) }
  }
  const { address, bytes, view } = scratch
  sequence = (sequence + 1) >>> 0
  const seq = sequence
  const fd = checkCall(
    'socket',
    c.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol),
    `AF_NETLINK, ${protocol === 0 ? 'NETLINK_ROUTE' : protocol}`,
  )
  try {
    // Answers are queued before sendto returns; the time limit only keeps a surprise from becoming a hang.
    view.setBigInt64(0, 1n, true)
    view.setBigInt64(8, 0n, true)
    checkCall('setsockopt', c.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, address, 16), 'SO_RCVTIMEO')
    if (strict) {
      view.setInt32(0, 1, true)
      c.setsockopt(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, address, 4)
    }

    let length = NLMSG_HDRLEN
    bytes.set(header, length)
    length += header.length
    for (const [kind, value] of attributes ?? []) {
      view.setUint16(length, value.length + 4, true)
      view.setUint16(length + 2, kind, true)
      bytes.set(value, length + 4)
      const next = length + ((value.length + 7) & ~3)
      bytes.fill(0, length + 4 + value.length, next)
      length = next
    }
    view.setUint32(0, length, true)
    view.setUint16(4, type, true)
    view.setUint16(6, NLM_F_REQUEST | (dump ? NLM_F_DUMP : 0), true)
    view.setUint32(8, seq, true)
    view.setUint32(12, 0, true)
    checkCall('sendto', c.sendto(fd, address, length, 0, 0, 0), what)

    let interrupted = false
    for (let reads = 0; reads < MAX_READS; reads++) {
      const got = checkCall('recv', c.recv(fd, address, BUFFER_BYTES, MSG_TRUNC), what)
      if (got > BUFFER_BYTES) throw new NativeError(what, ERRNO.EMSGSIZE, `netlink message of ${got} bytes, limit ${BUFFER_BYTES}`)
      for (let at = 0; at + NLMSG_HDRLEN <= got; ) {
        const size = view.getUint32(at, true)
        if (size < NLMSG_HDRLEN || at + size > got) throw new NativeError(what, ERRNO.EPROTO, `netlink message of ${size} bytes`)
        if (view.getUint32(at + 8, true) === seq) {
          const kind = view.getUint16(at + 4, true)
          if (view.getUint16(at + 6, true) & NLM_F_DUMP_INTR) interrupted = true
          if (kind === NLMSG_ERROR || kind === NLMSG_DONE) {
            const error = size >= NLMSG_HDRLEN + 4 ? view.getInt32(at + NLMSG_HDRLEN, true) : 0
            if (error < 0) throw new NativeError(what, -error)
            return interrupted
          }
          const body = at + NLMSG_HDRLEN
          if (kind === answer && onMessage(view, body, attributesOf(view, body + header.length, at + size)) === ENOUGH) return false
          if (!dump) return false
        }
        at += (size + 3) & ~3
      }
    }
    throw new NativeError(what, ERRNO.EOVERFLOW, `no end after ${MAX_READS} reads`)
  } finally {
    c.close(fd)
  }
}

export function bytesOf(attributes: Attributes, type: number): Uint8Array | undefined {
  const a = attributes.get(type)
  return a && scratch!.bytes.slice(a.at, a.at + a.length)
}

export function u32Of(view: DataView, attributes: Attributes, type: number): number | undefined {
  const a = attributes.get(type)
  return a && a.length >= 4 ? view.getUint32(a.at, true) : undefined
}

export function textOf(attributes: Attributes, type: number): string | undefined {
  const a = attributes.get(type)
  return a && new TextDecoder().decode(scratch!.bytes.subarray(a.at, a.at + a.length)).replace(/\0.*/, '')
}
