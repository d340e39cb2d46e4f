/** What endpoints say about the transport, and which options do not go with it. */
import { SpeadcastError } from '../errors.js'
import type { EndpointSpec } from '../net/endpoint.js'
import { ensureNoGroup, tcpEndpoint } from '../net/transport.js'
import type { StreamConfig } from './config.js'
import { ignoredOption } from './foreign.js'
import { checkOnError } from './on-error.js'
import { checkReconnect } from './reconnect.js'

/**
 * The configuration with the backend that the endpoints ask for, as `tcp://HOST:PORT` does.
 * @throws ERR_SPEADCAST_CONFIG, ERR_SPEADCAST_ENDPOINT where they contradict each other or the other options
 */
export function withTransport(config: StreamConfig, specs: readonly EndpointSpec[]): StreamConfig {
  const tcp = tcpEndpoint(specs, 'open a stream for each')
  const contradict = (message: string): never => {
    throw new SpeadcastError('ERR_SPEADCAST_CONFIG', message)
  }
  if (!tcp && config.backend !== 'tcp') {
    if (config.tcp === undefined) return config
    return contradict(`tcp is only for backend 'tcp', not '${config.backend}'; write the endpoint as tcp://HOST:PORT`)
  }
  if (tcp && config.backend !== 'auto' && config.backend !== 'tcp')
    contradict(
      config.socket
        ? `${tcp.text} is for a TCP socket, and socket.fd is ${config.socket.fd}, a UDP socket; leave tcp:// out, or give a connected TCP socket`
        : `${tcp.text} is for backend 'tcp', not '${config.backend}'; leave backend out`,
    )
  ensureNoGroup(specs)
  for (const name of ['reusePort', 'broadcast', 'allowFragmentation'] as const)
    if (config[name]) contradict(`${name} is of UDP; leave it out with TCP`)
  if (config.segmentation !== 'auto') contradict('segmentation is of UDP; leave it out with TCP')
  if (!config.multicastLoop) contradict('multicastLoop is of multicast groups, which no TCP connection leads to; leave it out')
  if (config.rateBasis === 'wire')
    contradict("rateBasis 'wire' counts the headers of packets, which TCP cuts and sends again as it likes; leave it out")
  const ignored = ignoredOption(config, 'tcp')
  if (ignored) contradict(ignored)
  checkReconnect(config.tcp)
  checkOnError(config.onError, 'tcp')
  return { ...config, backend: 'tcp' }
}
