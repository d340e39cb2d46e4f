/** Fits a stream's options to a socket of the user's: it decides the backend, the endpoint where it is connected, and which options it leaves no room for. */
import { SpeadcastError } from '../errors.js'
import { type GivenSocket, givenSocket } from '../net/given-socket.js'
import type { StreamConfig } from './config.js'

/** Options that say how the stream makes its socket, with the value that says nothing. */
const OF_MAKING = [
  ['interface', undefined],
  ['sourcePort', 0],
  ['reusePort', false],
  ['broadcast', false],
  ['ttl', undefined],
  ['dscp', undefined],
  ['multicastLoop', true],
  ['sendBufferBytes', undefined],
] as const

/** @throws ERR_SPEADCAST_CONFIG where the socket cannot be sent by, or the options contradict it */
export function withSocket(config: StreamConfig): { readonly config: StreamConfig; readonly given?: GivenSocket } {
  if (!config.socket) return { config }
  const contradict = (message: string): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message)
  }
  const { backend, tcp, rateMethod, to } = config
  if (backend !== 'auto' && backend !== 'udp' && backend !== 'tcp')
    contradict(`socket is for backends 'udp' and 'tcp', not '${backend}'`)
  for (const [name, unset] of OF_MAKING)
    if (config[name] !== unset)
      contradict(`${name} is of a socket that the stream makes, and socket gives it one; set it on that socket instead`)
  const given = givenSocket(config.socket.fd)
  const { fd, transport, peer } = given
  if (backend !== 'auto' && backend !== transport)
    contradict(`socket.fd is ${fd}, a ${transport.toUpperCase()} socket, which is for backend '${transport}', not '${backend}'`)
  if (rateMethod === 'kernel') contradict("rateMethod 'kernel' sets a rate on the socket, and that is yours; use rateMethod 'sw'")
  if (tcp?.reconnect === 'retry')
    contradict("tcp.reconnect is 'retry', and a stream cannot connect a socket of yours again; leave one of the two out")
  if (tcp?.connectTimeoutMs !== undefined)
    contradict('tcp.connectTimeoutMs is of connecting, and the socket is connected; leave it out')
  if (to.length === 0 && peer === undefined)
    contradict(`option 'to' is missing; socket.fd is ${fd}, a UDP socket that is not connected: give the endpoints, 'HOST:PORT'`)
  return { config: { ...config, backend: transport, to: to.length === 0 ? [peer!] : to }, given }
}
