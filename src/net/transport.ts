/** Tells whether endpoints ask for TCP, and refuses mixed ones. */
import { ensure } from '../errors.js'
import { isMulticast } from './address.js'
import type { EndpointSpec } from './endpoint.js'

/**
 * Returns an endpoint of TCP, where they all are; undefined where none is.
 * @param remedy where they mix
 * @throws ERR_SPEADCAST_ENDPOINT where they mix
 */
export function tcpEndpoint(specs: readonly EndpointSpec[], remedy: string): EndpointSpec | undefined {
  const tcp = specs.find(({ transport }) => transport === 'tcp')
  const other = specs.find(({ transport }) => transport !== 'tcp')
  const mixed = () => `endpoints mix TCP and UDP (${tcp!.text} and ${other!.text}); ${remedy}`
  ensure(!tcp || !other, 'ERR_SPEADCAST_ENDPOINT', mixed)
  return tcp
}

/** @throws ERR_SPEADCAST_ENDPOINT for a multicast group, to which nothing can connect */
export function ensureNoGroup(specs: readonly EndpointSpec[]): void {
  const group = specs.find(({ bytes }) => bytes && isMulticast(bytes))
  ensure(!group, 'ERR_SPEADCAST_ENDPOINT', () => `${group!.text} is a multicast group, which no TCP connection leads to`)
}
