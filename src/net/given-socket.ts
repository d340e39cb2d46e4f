/** A socket that the user opened: what it is, whom it is connected to, and which interface it leaves by. Cold. */
import { fstatSync } from 'node:fs'
import { nativeCallsWork } from '../../ffi/libc.js'
import { NativeError } from '../../ffi/native-error.js'
import { askSocket, type BoundAddress, type SocketFacts } from '../../ffi/socket/given.js'
import { ensure, SpeadcastError } from '../errors.js'
import { formatAddress, isV4Mapped } from './address.js'
import type { ResolvedEndpoint } from './endpoint.js'
import { equal, interfaceName, localInterfaces } from './interface.js'

export interface GivenSocket {
  readonly fd: number
  readonly transport: 'udp' | 'tcp'
  readonly family: 4 | 6
  /** The endpoint that it is connected to, as `to` would name it; undefined where it is connected to none. */
  readonly peer: string | undefined
  readonly facts: SocketFacts
}

const FAMILIES: Readonly<Record<number, string>> = {
  1: 'a Unix domain socket',
  16: 'a netlink socket',
  17: 'a packet socket',
  40: 'a vsock socket',
}
const V6 = 10
const REMEDY = 'give a UDP socket, or a TCP socket that is connected'

/** @throws ERR_SPEADCAST_CONFIG where no stream can send by it; ERR_SPEADCAST_BACKEND off Linux */
export function givenSocket(fd: number): GivenSocket {
  ensure(
    nativeCallsWork(),
    'ERR_SPEADCAST_BACKEND',
    () => `socket needs Linux and koffi's binary, and this is ${process.platform}; leave it out`,
  )
  const facts = factsOf(fd)
  const { kind, domain, peer, listens } = facts
  const refuse = (what: string, remedy = REMEDY): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `socket.fd is ${fd}, ${what}; ${remedy}`)
  }
  if (kind === 'other')
    return refuse(FAMILIES[domain] ?? `a socket of type ${facts.type} and protocol ${facts.protocol} (socket(2))`)
  if (listens) return refuse('a TCP socket that listens', 'give one of the connections that accept(2) returns')
  if (kind === 'tcp' && !peer)
    return refuse('a TCP socket that is not connected', 'connect it first, or leave socket out and give to')
  const mapped = peer && isV4Mapped(peer.bytes)
  if (kind === 'udp' && mapped)
    return refuse('an IPv6 socket that is connected to an IPv4 address', 'give a socket of family AF_INET')
  return { fd, transport: kind, family: domain === V6 && !mapped ? 6 : 4, peer: peer && endpointOf(peer, kind), facts }
}

function factsOf(fd: number): SocketFacts {
  try {
    return askSocket(fd)
  } catch (cause) {
    if (!(cause instanceof NativeError)) throw cause
    const what = cause.errnoName === 'EBADF' ? 'which is not open' : nameOf(fd)
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `socket.fd is ${fd}, ${what} (${cause.errnoName}); ${REMEDY}`, { cause })
  }
}

function nameOf(fd: number): string {
  const stat = fstatSync(fd)
  if (stat.isFile()) return 'a file'
  if (stat.isDirectory()) return 'a directory'
  if (stat.isFIFO()) return 'a pipe'
  if (stat.isCharacterDevice()) return 'a terminal or another character device'
  if (stat.isBlockDevice()) return 'a block device'
  return 'no socket'
}

function endpointOf({ bytes, port, scopeId }: BoundAddress, kind: 'udp' | 'tcp'): string {
  const address = formatAddress(isV4Mapped(bytes) ? bytes.subarray(12) : bytes)
  const zone = scopeId === 0 ? '' : `%${interfaceName(scopeId) ?? scopeId}`
  return `${kind === 'tcp' ? 'tcp://' : ''}${address.includes(':') ? `[${address}${zone}]` : address}:${port}`
}

/**
 * Checks that a stream may send by it to these endpoints.
 * @throws ERR_SPEADCAST_CONFIG
 */
export function checkPeer({ family, peer, facts, transport }: GivenSocket, endpoints: readonly ResolvedEndpoint[]): void {
  const [first] = endpoints
  const refuse = (message: string): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message)
  }
  if (peer !== undefined) {
    const to = facts.peer!
    const bytes = isV4Mapped(to.bytes) ? to.bytes.subarray(12) : to.bytes
    const other = endpoints.find((endpoint) => !equal(endpoint.bytes, bytes) || endpoint.port !== to.port)
    if (other) refuse(`the socket is connected to ${peer}, and to says ${other.text}; leave to out`)
    if (endpoints.length > 1) refuse(`the socket is connected to ${peer}, and to names it ${endpoints.length} times; leave to out`)
  } else if (transport === 'udp' && first!.family !== family)
    refuse(
      `the socket is of IPv${family}, and ${first!.text} is IPv${first!.family}; give a socket of family ${first!.family === 6 ? 'AF_INET6' : 'AF_INET'}`,
    )
}

/** The interface that datagrams leave by, by its name or its address; undefined where the route decides. */
export function interfaceOfGiven({ facts, transport }: GivenSocket, { multicast }: ResolvedEndpoint): string | undefined {
  const { interfaceIndex, local } = facts
  if (transport === 'tcp') return undefined
  const own = multicast && facts.multicast !== undefined ? facts.multicast : interfaceIndex
  if (typeof own === 'object') return formatAddress(own)
  if (own !== 0) return interfaceName(own)
  // A socket may be bound to an address that no interface has (ip(7), IP_FREEBIND).
  const bound = local && localInterfaces().some(({ addresses }) => addresses.some(({ bytes }) => equal(bytes, local.bytes)))
  return bound ? formatAddress(local.bytes) : undefined
}
