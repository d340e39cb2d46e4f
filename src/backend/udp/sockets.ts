/**
 * The socket that packets leave by; and beside one that is connected to the first of several endpoints, another at the same port,
 * which is connected to none. The kernel gives an ICMP answer to a socket whose peer sent it, or else to one without a peer
 * (udp(7), and __udp4_lib_err of the kernel's net/ipv4/udp.c): without the other socket nobody would hear of the other endpoints,
 * and the kernel itself would not learn the MTU of paths to them.
 */
import { OPT } from '../../../ffi/layout.js'
import { ERRNO, NativeError } from '../../../ffi/native-error.js'
import { ipMreqn, UdpSocket } from '../../../ffi/socket/udp-socket.js'
import { needsScope } from '../../net/address.js'
import type { ResolvedEndpoint } from '../../net/endpoint.js'
import type { ResolvedInterface } from '../../net/interface.js'
import type { Flow } from '../../net/route.js'
import type { Bearings } from './bearings.js'
import type { UdpOptions } from './options.js'

/** The socket is connected, to the first endpoint: 'alone' if there is no other. */
export type Connected = 'alone' | 'first' | 'no'

/** The kernel goes by these when it looks for the paths of a socket's packets. */
export const flowOf = ({ dscp = 0 }: UdpOptions, sourcePort: number): Omit<Flow, 'source'> => ({ sourcePort, tos: dscp << 2 })

export class UdpSockets {
  /** Packets leave by it. */
  readonly main: UdpSocket
  readonly connected: Connected
  /** Their error queues tell what came back. */
  readonly all: readonly UdpSocket[]
  readonly #errors: UdpSocket | undefined
  readonly #options: UdpOptions
  readonly #bearings: Bearings
  #port: number

  /** @param connected of sockets that are made here @throws NativeError */
  constructor(options: UdpOptions, bearings: Bearings, connected: Connected) {
    this.#options = options
    this.#bearings = bearings
    const { family } = options.endpoints[0]!
    this.main = new UdpSocket(family, options.socketFd)
    this.connected = options.socketFd === undefined ? connected : this.main.hasPeer ? 'alone' : 'no'
    this.all = [this.main]
    this.#port = options.sourcePort
    try {
      if (options.socketFd !== undefined) {
        this.main.reportErrors()
        bearings.flow = flowOf(options, this.main.localPort())
        return
      }
      if (connected === 'first') {
        this.#errors = new UdpSocket(family)
        this.all = [this.main, this.#errors]
      }
      this.#make()
      this.#port = this.main.localPort()
    } catch (error) {
      this.close()
      throw error
    }
  }

  /** Makes the sockets anew, by the bearings, and with the same descriptors; a socket of the user's stays. @throws NativeError */
  remake(): void {
    if (this.#options.socketFd !== undefined) return
    // The port has to be free before the main socket is bound to it again.
    this.#errors?.renew(() => {})
    this.main.renew(() => this.#make())
  }

  #make(): void {
    const { main } = this
    const options = this.#options
    const { interface: iface, endpoints } = this.#bearings
    configure(main, options, iface)
    bind(main, iface, this.#port, options.sourcePort === 0)
    if (this.#errors) this.#listen(this.#errors, iface)
    if (this.connected !== 'no') this.#connect(endpoints[0]!)
    this.#bearings.pinned = this.connected === 'no' || iface ? undefined : main.localAddress()
    this.#bearings.flow = flowOf(options, main.localPort())
  }

  /**
   * IPv6 looks for the path before it chooses the source, so that of several legs the first packets would take another than later ones. From
   * the second time on, the socket has its source (ip6_datagram_dst_update).
   */
  #connect(endpoint: ResolvedEndpoint): void {
    this.main.connect(endpoint)
    if (endpoint.family === 6) this.main.connect(endpoint)
  }

  #listen(errors: UdpSocket, iface: ResolvedInterface | undefined): void {
    errors.reportErrors()
    errors.letFragment(this.#options.allowFragmentation)
    errors.dropIncoming()
    this.main.setOption(OPT.SO_REUSEADDR, 1)
    if (this.#options.reusePort) errors.sharePort()
    else errors.setOption(OPT.SO_REUSEADDR, 1)
    errors.bind(sourceOf(errors, iface, this.main.localPort()))
    if (this.#options.reusePort) return
    // Nobody else is to share the port.
    this.main.setOption(OPT.SO_REUSEADDR, 0)
    errors.setOption(OPT.SO_REUSEADDR, 0)
  }

  close(): void {
    for (const socket of this.all) socket.close()
  }
}

function configure(socket: UdpSocket, options: UdpOptions, iface: ResolvedInterface | undefined): void {
  const v6 = socket.family === 6
  socket.reportErrors()
  socket.letFragment(options.allowFragmentation)
  socket.dropIncoming()
  if (iface) {
    const index = new Uint8Array(4)
    new DataView(index.buffer).setUint32(0, iface.index)
    socket.setOption(v6 ? OPT.IPV6_UNICAST_IF : OPT.IP_UNICAST_IF, index)
    if (v6) socket.setOption(OPT.IPV6_MULTICAST_IF, iface.index)
    else socket.setOption(OPT.IP_MULTICAST_IF, ipMreqn(iface.index))
  }
  if (options.ttl !== undefined) {
    // 0 is for multicast alone (ip(7)).
    if (options.ttl > 0) socket.setOption(v6 ? OPT.IPV6_UNICAST_HOPS : OPT.IP_TTL, options.ttl)
    socket.setOption(v6 ? OPT.IPV6_MULTICAST_HOPS : OPT.IP_MULTICAST_TTL, options.ttl)
  }
  socket.setOption(v6 ? OPT.IPV6_MULTICAST_LOOP : OPT.IP_MULTICAST_LOOP, options.multicastLoop ? 1 : 0)
  if (options.dscp !== undefined) socket.setOption(v6 ? OPT.IPV6_TCLASS : OPT.IP_TOS, options.dscp << 2)
  if (options.sendBufferBytes > 0 && socket.tryOption(OPT.SO_SNDBUFFORCE, options.sendBufferBytes) !== 0)
    socket.setOption(OPT.SO_SNDBUF, options.sendBufferBytes)
  if (options.broadcast) socket.setOption(OPT.SO_BROADCAST, 1)
  if (options.reusePort) socket.sharePort()
}

/** The address to bind to: that of the interface, if one is given. */
function sourceOf({ family }: UdpSocket, iface: ResolvedInterface | undefined, port: number) {
  const bytes = iface?.addressBytes ?? new Uint8Array(family === 6 ? 16 : 4)
  return { family, bytes, scopeId: needsScope(bytes) ? iface!.index : 0, port }
}

/** @param anyPort another port will do where this one is taken */
function bind(socket: UdpSocket, iface: ResolvedInterface | undefined, port: number, anyPort: boolean): void {
  try {
    socket.bind(sourceOf(socket, iface, port))
  } catch (error) {
    if (!(anyPort && port !== 0 && error instanceof NativeError && error.errno === ERRNO.EADDRINUSE)) throw error
    socket.bind(sourceOf(socket, iface, 0))
  }
}
