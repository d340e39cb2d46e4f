/** Describes a descriptor that somebody else opened, for those who are to send by it. Linux only. Cold. */
import { AF_INET, AF_INET6, OPT, SOCK_DGRAM, SOCK_STREAM, SOCKADDR_IN, SOCKADDR_IN6 } from '../layout.js'
import { errno, libc } from '../libc.js'
import { Scratch } from '../memory/scratch.js'
import { ERRNO, NativeError } from '../native-error.js'

export interface SocketFacts {
  /** AF_… */
  readonly domain: number
  /** SOCK_… */
  readonly type: number
  /** IPPROTO_… */
  readonly protocol: number
  readonly kind: 'udp' | 'tcp' | 'other'
  readonly listens: boolean
  /** Undefined while it is not connected. */
  readonly peer: BoundAddress | undefined
  readonly local: BoundAddress | undefined
  /** Index of the interface that packets leave by, as far as the socket says: SO_BINDTOIFINDEX, IP_UNICAST_IF; 0 = the route decides. */
  readonly interfaceIndex: number
  /** The interface that multicast packets leave by, where the socket has one: its index, or its address (IPv4). */
  readonly multicast: number | Uint8Array | undefined
}

export interface BoundAddress {
  /** 4 or 16 bytes. */
  readonly bytes: Uint8Array
  readonly port: number
  readonly scopeId: number
}

const IPPROTO_TCP = 6
const IPPROTO_UDP = 17

/** @throws NativeError: EBADF where it is not open, ENOTSOCK where it is no socket */
export function askSocket(fd: number): SocketFacts {
  const scratch = new Scratch(256)
  const ask = ([level, name]: readonly [number, number]): number | undefined => {
    const { address, i32 } = scratch
    i32[0] = 0
    i32[16] = 4
    if (libc().getsockopt(fd, level, name, address, address + 64) >= 0) return i32[0]!
    const failed = errno()
    if (failed === ERRNO.EBADF || failed === ERRNO.ENOTSOCK) throw new NativeError('getsockopt', failed)
    return undefined
  }
  const nameBy = (call: 'getpeername' | 'getsockname'): BoundAddress | undefined => {
    const { address, i32, u8, view } = scratch
    i32[16] = SOCKADDR_IN6.size
    if (libc()[call](fd, address, address + 64) < 0) return undefined
    const v6 = view.getUint16(SOCKADDR_IN.family, true) === AF_INET6
    const at = v6 ? SOCKADDR_IN6.addr : SOCKADDR_IN.addr
    return {
      bytes: u8.slice(at, at + (v6 ? 16 : 4)),
      port: view.getUint16(SOCKADDR_IN.port),
      scopeId: v6 ? view.getUint32(SOCKADDR_IN6.scopeId, true) : 0,
    }
  }
  try {
    const type = ask(OPT.SO_TYPE) ?? 0
    const domain = ask(OPT.SO_DOMAIN) ?? 0
    const protocol = ask(OPT.SO_PROTOCOL) ?? 0
    const inet = domain === AF_INET || domain === AF_INET6
    const kind =
      inet && type === SOCK_STREAM && protocol === IPPROTO_TCP
        ? 'tcp'
        : inet && type === SOCK_DGRAM && protocol === IPPROTO_UDP
          ? 'udp'
          : 'other'
    return {
      domain,
      type,
      protocol,
      kind,
      listens: ask(OPT.SO_ACCEPTCONN) === 1,
      peer: inet ? nameBy('getpeername') : undefined,
      local: inet ? nameBy('getsockname') : undefined,
      ...interfacesOf(domain, ask, scratch),
    }
  } finally {
    scratch.region.release()
  }
}

function interfacesOf(
  domain: number,
  ask: (option: readonly [number, number]) => number | undefined,
  { u8, view }: Scratch,
): Pick<SocketFacts, 'interfaceIndex' | 'multicast'> {
  const bound = ask(OPT.SO_BINDTOIFINDEX) ?? 0
  if (domain === AF_INET6) {
    const unicast = ask(OPT.IPV6_UNICAST_IF) === undefined ? 0 : view.getUint32(0)
    return { interfaceIndex: bound || unicast, multicast: bound || ask(OPT.IPV6_MULTICAST_IF) || undefined }
  }
  const unicast = ask(OPT.IP_UNICAST_IF) === undefined ? 0 : view.getUint32(0)
  const address = ask(OPT.IP_MULTICAST_IF) ? u8.slice(0, 4) : undefined
  return { interfaceIndex: bound || unicast, multicast: bound || address }
}
