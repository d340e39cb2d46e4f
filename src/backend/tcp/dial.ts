/** Begins a connection to a receiver, at first and again, and says why there is none. */
import { OPT } from '../../../ffi/layout.js'
import { errnoName, type NativeError } from '../../../ffi/native-error.js'
import type { TcpSocket } from '../../../ffi/socket/tcp-socket.js'
import { descriptorRemedy, SpeadcastError } from '../../errors.js'
import { familyRemedy, needsScope } from '../../net/address.js'
import type { ResolvedEndpoint } from '../../net/endpoint.js'
import type { ResolvedInterface } from '../../net/interface.js'
import { portTaken } from '../paths.js'

export interface TcpOptions {
  readonly endpoints: readonly ResolvedEndpoint[]
  /** Its address is the source. */
  readonly interface?: ResolvedInterface
  /** 0: any. */
  readonly sourcePort: number
  /** 0: the kernel adapts it. */
  readonly sendBufferBytes: number
  readonly ttl?: number
  readonly dscp?: number
  readonly connectTimeoutMs: number
  /** The user's socket, which is connected to the only endpoint. */
  readonly socketFd?: number
  /** Absent: a connection that is lost stays lost. */
  readonly retry?: RetryOptions
}

/** How a connection that is lost is made again. */
export interface RetryOptions {
  /** The pause before the first attempt; each attempt that fails doubles it. */
  readonly delayMs: number
  readonly delayMaxMs: number
  /** How long it goes on; Infinity: for ever. */
  readonly seconds: number
}

/** Gives a new socket its options, and begins to connect it. @throws NativeError */
export function dial(
  socket: TcpSocket,
  endpoint: ResolvedEndpoint,
  iface: ResolvedInterface | undefined,
  { sourcePort, sendBufferBytes, ttl, dscp }: TcpOptions,
): void {
  const v6 = endpoint.family === 6
  socket.noticeAcknowledgements()
  if (ttl !== undefined) socket.setOption(v6 ? OPT.IPV6_UNICAST_HOPS : OPT.IP_TTL, ttl)
  if (dscp !== undefined) socket.setOption(v6 ? OPT.IPV6_TCLASS : OPT.IP_TOS, dscp << 2)
  if (sendBufferBytes > 0 && socket.tryOption(OPT.SO_SNDBUFFORCE, sendBufferBytes) !== 0)
    socket.setOption(OPT.SO_SNDBUF, sendBufferBytes)
  if (iface || sourcePort > 0) {
    // A connection that was closed a moment ago may have the port still.
    socket.setOption(OPT.SO_REUSEADDR, 1)
    const bytes = iface?.addressBytes ?? new Uint8Array(v6 ? 16 : 4)
    socket.bind({ family: endpoint.family, bytes, scopeId: needsScope(bytes) ? iface!.index : 0, port: sourcePort })
  }
  const { family, bytes, port } = endpoint
  const scopeId = endpoint.scopeId || (needsScope(bytes) ? (iface?.index ?? 0) : 0)
  socket.connect({ family, bytes, port, scopeId })
}

export function refused(endpoint: ResolvedEndpoint, cause: NativeError, sourcePort: number): SpeadcastError {
  const name = errnoName(cause.errno)
  const unreachable = (why: string) =>
    new SpeadcastError('ERR_SPEADCAST_UNREACHABLE', `cannot connect to ${endpoint.text}: ${why} (${cause.message})`, { cause })
  switch (name) {
    case 'ECONNREFUSED':
      return unreachable('nobody listens at that port; start the receiver first, such as `speadcast recv tcp://HOST:PORT`')
    case 'ECONNRESET':
      return unreachable(
        'it took the connection and ended it at once; it may have as many connections as it takes (`speadcast recv`: 256, and 64 from one address), or another program has that port',
      )
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
    case 'ETIMEDOUT':
    case 'ENONET':
      return unreachable(`there is no way to it, or it does not answer; see \`ip route get ${endpoint.address}\``)
    case 'EADDRINUSE':
    case 'EADDRNOTAVAIL':
      if (sourcePort > 0) return new SpeadcastError('ERR_SPEADCAST_BACKEND', portTaken(sourcePort, cause.message, ''), { cause })
  }
  return new SpeadcastError(
    'ERR_SPEADCAST_BACKEND',
    `cannot open a TCP connection to ${endpoint.text}: ${cause.message}${familyRemedy(endpoint.family, cause)}${descriptorRemedy(cause)}`,
    { cause },
  )
}
