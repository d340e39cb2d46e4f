/** The options of connecting again when a TCP connection is lost. */
import type { TcpOptions } from '../backend/tcp/dial.js'
import { SpeadcastError } from '../errors.js'
import { DEFAULTS, type TcpStreamOptions } from './options.js'

const SETTINGS = ['reconnectDelayMs', 'reconnectDelayMaxMs', 'reconnectSeconds'] as const

/** @throws ERR_SPEADCAST_CONFIG where they contradict each other */
export function checkReconnect({ reconnect = 'fail', ...settings }: TcpStreamOptions = {}): void {
  const alone = reconnect === 'fail' && SETTINGS.find((name) => settings[name] !== undefined)
  if (alone) throw new SpeadcastError('ERR_SPEADCAST_CONFIG', `tcp.${alone} is of connecting again; give tcp.reconnect 'retry' too`)
  const { reconnectDelayMs, reconnectDelayMaxMs } = { ...DEFAULTS, ...settings }
  if (reconnectDelayMaxMs < reconnectDelayMs)
    throw new SpeadcastError(
      'ERR_SPEADCAST_CONFIG',
      `tcp.reconnectDelayMaxMs is ${reconnectDelayMaxMs}, below tcp.reconnectDelayMs (${reconnectDelayMs}), the first pause; give at least that`,
    )
}

export function retryOf(tcp: TcpStreamOptions | undefined): Pick<TcpOptions, 'retry'> {
  if (tcp?.reconnect !== 'retry') return {}
  const { reconnectDelayMs, reconnectDelayMaxMs, reconnectSeconds } = { ...DEFAULTS, ...tcp }
  return { retry: { delayMs: reconnectDelayMs, delayMaxMs: reconnectDelayMaxMs, seconds: reconnectSeconds } }
}
