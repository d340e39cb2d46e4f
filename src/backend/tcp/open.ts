/** Connects to every receiver. */
import { OPT } from '../../../ffi/layout.js'
import { errnoName, NativeError } from '../../../ffi/native-error.js'
import { TcpSocket } from '../../../ffi/socket/tcp-socket.js'
import { SpeadcastError } from '../../errors.js'
import { familyRemedy, needsScope } from '../../net/address.js'
import type { ResolvedEndpoint } from '../../net/endpoint.js'
import type { ResolvedInterface } from '../../net/interface.js'
import { portTaken } from '../paths.js'
import { Connection } from './connection.js'

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
}

/** @throws ERR_SPEADCAST_UNREACHABLE where nobody answers or listens, ERR_SPEADCAST_BACKEND when a socket cannot be made as asked */
export async function connectAll(options: TcpOptions): Promise<Connection[]> {
  const sockets: TcpSocket[] = []
  try {
    for (const endpoint of options.endpoints) sockets.push(begin(endpoint, options))
    await Promise.all(sockets.map((socket, i) => connected(socket, options.endpoints[i]!, options.connectTimeoutMs)))
    return sockets.map((socket) => new Connection(socket))
  } catch (error) {
    for (const socket of sockets) socket.close()
    throw error
  }
}

function begin(endpoint: ResolvedEndpoint, options: TcpOptions): TcpSocket {
  const { interface: iface, sourcePort, sendBufferBytes, ttl, dscp } = options
  const v6 = endpoint.family === 6
  let socket: TcpSocket | undefined
  try {
    socket = new TcpSocket(endpoint.family)
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
    socket.connect({ ...endpoint, scopeId: endpoint.scopeId || (needsScope(endpoint.bytes) ? (iface?.index ?? 0) : 0) })
    return socket
  } catch (cause) {
    socket?.close()
    if (!(cause instanceof NativeError)) throw cause
    throw refused(endpoint, cause, sourcePort)
  }
}

/** @throws ERR_SPEADCAST_UNREACHABLE */
async function connected(socket: TcpSocket, endpoint: ResolvedEndpoint, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs
  for (let pauseMs = 0; socket.connecting; pauseMs = Math.min(pauseMs + 1, 10)) {
    if (performance.now() > deadline)
      throw new SpeadcastError(
        'ERR_SPEADCAST_UNREACHABLE',
        `${endpoint.text} did not answer in ${timeoutMs} ms; look whether the host is up and no firewall is in between`,
      )
    await new Promise((resolve) => setTimeout(resolve, pauseMs))
  }
  const errno = socket.takeError()
  if (errno !== 0) throw refused(endpoint, new NativeError('connect', errno), 0)
  socket.noticeAcknowledgements()
}

function refused(endpoint: ResolvedEndpoint, cause: NativeError, sourcePort: number): SpeadcastError {
  const name = errnoName(cause.errno)
  const unreachable = (why: string) =>
    new SpeadcastError('ERR_SPEADCAST_UNREACHABLE', `cannot connect to ${endpoint.text}: ${why} (${cause.message})`, { cause })
  switch (name) {
    case 'ECONNREFUSED':
      return unreachable('nobody listens at that port; start the receiver first, such as `speadcast recv tcp://HOST:PORT`')
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
    case 'ETIMEDOUT':
    case 'ENONET':
      return unreachable(`there is no way to it, or it does not answer; see \`ip route get ${endpoint.address}\``)
    case 'EADDRINUSE':
    case 'EADDRNOTAVAIL':
      if (sourcePort > 0) return new SpeadcastError('ERR_SPEADCAST_BACKEND', portTaken(sourcePort, cause.message), { cause })
  }
  return new SpeadcastError(
    'ERR_SPEADCAST_BACKEND',
    `cannot open a TCP connection to ${endpoint.text}: ${cause.message}${familyRemedy(endpoint.family, cause)}`,
    { cause },
  )
}
