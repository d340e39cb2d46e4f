/** The Linux receiver: this thread makes sockets and memory, a worker calls recvmmsg(2). Imports koffi: load it dynamically. */
import { libc } from '../../ffi/libc.js'
import { ERRNO, NativeError } from '../../ffi/native-error.js'
import { askInterfaceIndex } from '../../ffi/socket/interfaces.js'
import { mapReceiveMemory, ReceiveSocket } from '../../ffi/socket/recvmmsg.js'
import { type ErrorCode, SpeadcastError } from '../errors.js'
import { familyRemedy } from '../net/address.js'
import { byRoute, type Membership, Memberships } from './memberships.js'
import { receiverPlace } from './numa.js'
import type { DriverEvents, DriverOptions, ReceiveDriver, ReceiveEndpoint } from './receive-driver.js'
import { startThread, type ThreadShared, threadShared } from './receiver-thread.js'

/** Throws where koffi or the C library is missing. */
export function probeNative(): void {
  libc()
}

export async function openNative(options: DriverOptions, events: DriverEvents): Promise<ReceiveDriver> {
  const sockets: ReceiveSocket[] = []
  const numa = receiverPlace(options)
  let shared: ThreadShared
  try {
    for (const endpoint of options.endpoints) {
      sockets.push(
        explainBind(endpoint, () => {
          const { family, bytes, port, scopeId, multicast, interfaceIndex } = endpoint
          return new ReceiveSocket({
            address: { family, bytes, port, scopeId },
            multicast,
            interfaceIndex,
            receiveBufferBytes: options.receiveBufferBytes,
            gro: options.gro,
          })
        }),
      )
    }
    events.onBound()
    shared = threadShared(mapReceiveMemory(options.memoryBytes, undefined, numa.node), options.endpoints.length)
  } catch (error) {
    for (const socket of sockets) socket.close()
    throw error
  }
  const receiveBufferBytes = Math.min(...sockets.map((socket) => socket.receiveBufferBytes))
  const source = {
    kind: 'udp',
    fds: sockets.map(({ fd }) => fd),
    creditBufferBytes: options.credits ? receiveBufferBytes : 0,
  } as const
  const memberships = new Memberships(
    options.endpoints.flatMap((endpoint, i) => (endpoint.multicast ? [membershipOf(endpoint, sockets[i]!)] : [])),
    options.tell,
  )
  const gro = sockets.every((socket) => socket.gro)
  return startThread({
    shared,
    source,
    options,
    events,
    driver: { backend: 'recvmmsg', gro, receiveBufferBytes, memberships, numa: numa.states },
    onGone: () => {
      memberships.close()
      for (const socket of sockets) socket.close()
    },
  })
}

function membershipOf(endpoint: ReceiveEndpoint, socket: ReceiveSocket): Membership {
  const { joinedOn, family } = endpoint
  if (family === 6 && joinedOn === undefined) return byRoute(endpoint, () => socket.followRoute())
  const rejoin = (): boolean => {
    const index = joinedOn === undefined ? 0 : askInterfaceIndex(joinedOn)
    if (joinedOn !== undefined && index === 0) throw new NativeError('SIOCGIFINDEX', ERRNO.ENODEV, joinedOn)
    return socket.rejoin(index)
  }
  return { endpoint, interfaceName: joinedOn, rejoin }
}

/** Opens a socket, and turns a failed call into an error that says what to do. */
export function explainBind<T>({ text: endpoint, family }: ReceiveEndpoint, open: () => T): T {
  try {
    return open()
  } catch (cause) {
    if (!(cause instanceof NativeError)) throw cause
    const [code, remedy] = explain(cause)
    throw new SpeadcastError(code, `cannot receive on ${endpoint}: ${cause.message}${remedy}${familyRemedy(family, cause)}`, {
      cause,
    })
  }
}

function explain({ errnoName }: NativeError): [ErrorCode, string] {
  switch (errnoName) {
    case 'EADDRINUSE':
      return [
        'ERR_SPEADCAST_ENDPOINT',
        '; another socket has this port: end that program (ss -lpn shows it) or choose another port',
      ]
    case 'EADDRNOTAVAIL':
      return [
        'ERR_SPEADCAST_ENDPOINT',
        '; no interface here has this address: receive on one of this machine, on a multicast group, or on 0.0.0.0',
      ]
    case 'EACCES':
      return ['ERR_SPEADCAST_ENDPOINT', '; ports below 1024 need CAP_NET_BIND_SERVICE']
    case 'ENODEV':
    case 'EINVAL':
      return ['ERR_SPEADCAST_INTERFACE', '; the kernel knows no interface for this group: name one (interface option, --interface)']
    default:
      return ['ERR_SPEADCAST_NATIVE', '']
  }
}
