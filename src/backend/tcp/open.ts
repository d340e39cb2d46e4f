/** Connects to every receiver. */
import { NativeError } from '../../../ffi/native-error.js'
import { TcpSocket } from '../../../ffi/socket/tcp-socket.js'
import { descriptorRemedy, SpeadcastError } from '../../errors.js'
import { needsScope } from '../../net/address.js'
import { needsInterface, type ResolvedEndpoint } from '../../net/endpoint.js'
import { dial, refused, type TcpOptions } from './dial.js'

/**
 * One socket for each endpoint, connected.
 * @throws ERR_SPEADCAST_UNREACHABLE where nobody answers or listens, ERR_SPEADCAST_BACKEND when a socket cannot be made as asked,
 *   ERR_SPEADCAST_INTERFACE for a link-local address without an interface
 */
export async function connectAll(options: TcpOptions): Promise<TcpSocket[]> {
  if (options.socketFd !== undefined) return [adopted(options.endpoints[0]!, options.socketFd)]
  const local = options.interface ? undefined : options.endpoints.find(({ bytes, scopeId }) => needsScope(bytes) && !scopeId)
  if (local) throw needsInterface(local)
  const sockets: TcpSocket[] = []
  try {
    for (const endpoint of options.endpoints) sockets.push(begin(endpoint, options))
    await Promise.all(sockets.map((socket, i) => connected(socket, options.endpoints[i]!, options.connectTimeoutMs)))
    return sockets
  } catch (error) {
    for (const socket of sockets) socket.close()
    throw error
  }
}

function adopted(endpoint: ResolvedEndpoint, fd: number): TcpSocket {
  let socket: TcpSocket | undefined
  try {
    socket = new TcpSocket(endpoint.family, fd)
    socket.noticeAcknowledgements()
    return socket
  } catch (cause) {
    socket?.close()
    if (!(cause instanceof NativeError)) throw cause
    const message = `socket.fd is ${fd}, and the connection to ${endpoint.text} cannot be used: ${cause.message}${descriptorRemedy(cause)}`
    throw new SpeadcastError('ERR_SPEADCAST_BACKEND', message, { cause })
  }
}

function begin(endpoint: ResolvedEndpoint, options: TcpOptions): TcpSocket {
  let socket: TcpSocket | undefined
  try {
    socket = new TcpSocket(endpoint.family)
    dial(socket, endpoint, options.interface, options)
    return socket
  } catch (cause) {
    socket?.close()
    if (!(cause instanceof NativeError)) throw cause
    throw refused(endpoint, cause, options.sourcePort)
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
}
