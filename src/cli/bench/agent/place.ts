/** Where an agent is: `HOST`, `HOST:PORT`, `[::1]`, `[::1]:PORT`, a bare IPv6 address; with `tcp://` before it for heaps over TCP. */
import { isIPv6 } from 'node:net'
import { usageError } from '../../common/exit.js'
import { DEFAULT_AGENT_PORT, type Transport } from './protocol.js'

export interface Place {
  readonly host: string
  readonly port: number
  readonly transport: Transport
}

const portOf = (option: string, text: string, digits: string | undefined): number => {
  const port = digits === undefined ? DEFAULT_AGENT_PORT : Number(digits)
  if (port >= 1 && port <= 65535) return port
  throw usageError(`${option} '${text}': the port must be from 1 to 65535`)
}

/** @throws ERR_SPEADCAST_CONFIG */
export function parsePlace(option: string, text: string): Place {
  const [, scheme, rest = ''] = /^(?:(udp|tcp):\/\/)?(.*)$/s.exec(text)!
  const transport = scheme === 'tcp' ? 'tcp' : 'udp'
  if (isIPv6(rest)) return { host: rest, port: DEFAULT_AGENT_PORT, transport }
  const [, bracketed, host = bracketed, digits] = /^(?:\[([^[\]]+)\]|([\w.-]+))(?::(\d{1,5}))?$/.exec(rest) ?? []
  if (host === undefined || (bracketed !== undefined && !isIPv6(bracketed)))
    throw usageError(
      `${option} '${text}' names no agent; write HOST or HOST:PORT, such as 10.0.0.5, [fd00::5]:${DEFAULT_AGENT_PORT} or tcp://10.0.0.5`,
    )
  return { host, port: portOf(option, text, digits), transport }
}

/** `--listen`: a port alone means all addresses. @throws ERR_SPEADCAST_CONFIG */
export function parseListen(text: string): { readonly host: string | undefined; readonly port: number } {
  if (/^\d{1,5}$/.test(text)) return { host: undefined, port: portOf('--listen', text, text) }
  const { host, port, transport } = parsePlace('--listen', text)
  if (transport === 'tcp' || text.includes('://'))
    throw usageError(`--listen '${text}': write PORT or HOST:PORT; masters say whether heaps go by UDP or TCP`)
  return { host, port }
}

/** An address of a socket of node's, in which IPv4 may be written as IPv6, as an endpoint has it. */
export const bareAddress = (address: string): string => address.replace(/^::ffff:(?=[\d.]+$)/i, '')

export const endpointOf = (address: string, port: number, transport: Transport): string =>
  `${transport === 'tcp' ? 'tcp://' : ''}${address.includes(':') ? `[${address}]` : address}:${port}`
